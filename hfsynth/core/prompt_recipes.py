"""What a prompt recipe is: wordings that ask a chat model for pairs or for a text, and which documents they are for.

A recipe is data from somebody else: its wordings are templates without loops, calls or attributes, so that none of them
can run for long, grow or reach anything. Knows nothing of files, models or how a document is measured.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Self

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hfsynth.core.errors import ConfigError

PAIRS, TEXT = "pairs", "text"
RETURNS = (PAIRS, TEXT)
"""What comes back: instruction-response pairs, or the document written anew."""
PAIR_KINDS = ("free_form", "multiple_choice", "chain_of_thought")
VARIABLES = ("document", "pairs", "kinds", "language", "persona")
"""What a wording may name: the document's text, the number of pairs to ask for, their kinds, the language to write in
("the language of the text", "German"), and the persona ("" where a document has none)."""
TRAITS = ("words", "digits", "code", "tables", "dialogue", "lists")
"""What `when` may ask of a document: its words, and the shares of its characters that are digits, and of its lines
that are code, of tables, spoken, of lists."""
DOCUMENT = "document"
"""The language that is the document's own."""

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
)
_FIT = re.compile(r"\s*(\w+)\s*([<>]=?)\s*(\d+(?:\.\d*)?|\.\d+)\s*", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_NAME = re.compile(r"[\w.-]{1,80}", re.ASCII)
_MOST_LETTERS, _MOST_PROMPTS, _MOST_PERSONAS, _MOST_PAIRS = 20_000, 100, 1_000, 50
_MOST_WORDS = 100_000

_FILTERS = frozenset(
    {"capitalize", "length", "lower", "title", "trim", "upper"}
)  # `join` makes megabytes of a document
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.CondExpr),
    *(nodes.Compare, nodes.Operand, nodes.Not, nodes.And, nodes.Or, nodes.Filter),
)
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a document must be like for a prompt: a trait, one of >=, <=, > and <, and a limit."""

    trait: str
    comparison: str
    limit: float

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a condition like `digits>=0.05`; raise ConfigError for another form or an unknown trait."""
        found = _FIT.fullmatch(text) if isinstance(text, str) else None
        if found is None or found[1] not in TRAITS:
            raise ConfigError(
                f"A condition of `when` is a trait of documents, one of >=, <=, >, < and a number, not {text!r:.100}.",
                hint=f'Write it like "words>=200" or "tables>0". Traits: {", ".join(TRAITS)}.',
            )
        return cls(found[1], found[2], float(found[3]))

    def __str__(self) -> str:
        """Return the canonical text."""
        return f"{self.trait}{self.comparison}{repr(self.limit).removesuffix('.0')}"

    def is_met_by(self, value: float) -> bool:
        """Return whether a document's value meets the condition."""
        return _COMPARISONS[self.comparison](value, self.limit)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One wording: what it asks for and about which documents.

    `wording` is a Jinja template over `VARIABLES`; the document follows it where it does not name it. `returns` is
    `pairs` or `text`. A document gets one pair for every `words_a_pair` words, at least one and at most `most_pairs`,
    of some of `kinds`. `when` are conditions that a document must meet, all of them; among the prompts that fit it, one
    is drawn by `weight`. `language` is `document` or a code.
    """

    name: str
    wording: str
    returns: str = PAIRS
    kinds: tuple[str, ...] = ("free_form",)
    words_a_pair: int = 50
    most_pairs: int = 8
    when: tuple[str, ...] = ()
    weight: float = 1.0
    language: str = DOCUMENT

    def __post_init__(self) -> None:
        where = f"of the prompt {self.name!r:.100}"
        _require(isinstance(self.name, str) and bool(_NAME.fullmatch(self.name)), "name", "a short word", self.name)
        worded = isinstance(self.wording, str) and 0 < len(self.wording.strip()) <= _MOST_LETTERS
        _require(worded, f"The wording {where}", f"a text of at most {_MOST_LETTERS:,} letters", self.wording)
        _require(self.returns in RETURNS, f"returns {where}", " or ".join(RETURNS), self.returns)
        kinds = isinstance(self.kinds, (tuple, list)) and bool(self.kinds) and all(k in PAIR_KINDS for k in self.kinds)
        _require(kinds, f"kinds {where}", f"some of {', '.join(PAIR_KINDS)}", self.kinds)
        for name, most in (("words_a_pair", _MOST_WORDS), ("most_pairs", _MOST_PAIRS)):
            number = getattr(self, name)
            whole = isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= most
            _require(whole, f"{name} {where}", f"a whole number from 1 to {most:,}", number)
        weighed = isinstance(self.weight, (int, float)) and not isinstance(self.weight, bool)
        _require(weighed and 0 < self.weight < math.inf, f"weight {where}", "a number above 0", self.weight)
        spoken = self.language == DOCUMENT or bool(
            isinstance(self.language, str) and _LANGUAGE.fullmatch(self.language)
        )
        _require(spoken, f"language {where}", f"{DOCUMENT} or a code like de", self.language)
        _require(isinstance(self.when, (tuple, list)), f"when {where}", "a list of conditions", self.when)
        object.__setattr__(self, "when", tuple(sorted({str(Fit.parse(text)) for text in self.when})))
        object.__setattr__(self, "kinds", tuple(self.kinds))
        object.__setattr__(self, "weight", float(self.weight))
        variables_of(self)

    @property
    def fits(self) -> tuple[Fit, ...]:
        """The conditions of `when`, read."""
        return tuple(map(Fit.parse, self.when))

    def pairs_for(self, words: int) -> int:
        """Return how many pairs a document of so many words is asked for."""
        return min(max(1, words // self.words_a_pair), self.most_pairs)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read plain values; raise ConfigError for a field that is unknown, missing or cannot be."""
        known = [own.name for own in fields(cls)]
        _known(values, known, "prompt")
        if "name" not in values or "wording" not in values:
            raise ConfigError(
                f"A prompt needs a name and a wording; this one has {', '.join(map(repr, values)) or 'nothing'}.",
                hint="Write `wording`, or `use` with the name of a built-in one.",
            )
        return cls(**values)


@dataclass(frozen=True, slots=True)
class PromptRecipe:
    """What a chat model is asked about each document: prompts, of which every document gets one.

    `personas` are descriptions of people, one drawn for each document; with `persona_column` they come from a column of
    the source instead.
    """

    name: str
    prompts: tuple[Prompt, ...]
    personas: tuple[str, ...] = ()
    persona_column: str | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str) and bool(_NAME.fullmatch(self.name)), "name", "a short word", self.name)
        names = [prompt.name for prompt in self.prompts]
        _require(0 < len(names) <= _MOST_PROMPTS, "prompts", f"1 to {_MOST_PROMPTS} prompts", names)
        _require(len(set(names)) == len(names), "The names of prompts", "different from each other", names)
        people = isinstance(self.personas, (tuple, list)) and all(isinstance(one, str) and one for one in self.personas)
        people = people and len(self.personas) <= _MOST_PERSONAS
        _require(people, "personas", f"a list of at most {_MOST_PERSONAS:,} texts", self.personas)
        column = self.persona_column is None or (isinstance(self.persona_column, str) and bool(self.persona_column))
        _require(column, "persona_column", "the name of a column", self.persona_column)
        object.__setattr__(self, "personas", tuple(self.personas))
        given = bool(self.personas) + (self.persona_column is not None)
        named = [prompt.name for prompt in self.prompts if "persona" in variables_of(prompt)]
        if given > 1 or (given and not named):
            what = "given twice" if given > 1 else "given, and no wording names `persona`"
            raise ConfigError(
                f"Personas are {what}.", hint="Write `personas` or `persona_column`, and {{ persona }} in a wording."
            )

    @property
    def digest(self) -> str:
        """16 hex digits that stand for all that the recipe says."""
        plain = json.dumps(self._plain(), sort_keys=True, ensure_ascii=False)
        return blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def writes_texts(self) -> bool:
        """Whether some prompt asks for a text."""
        return any(prompt.returns == TEXT for prompt in self.prompts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the digest among them; `from_dict` reads them back."""
        return {"name": self.name, "digest": self.digest, **{k: v for k, v in self._plain().items() if k != "name"}}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Read plain values; raise ConfigError for what is unknown or cannot be. The digest is made anew."""
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"prompt must be a whole prompt recipe, not {values!r:.100}.",
                hint="Name a built-in one or a file with --prompt (prompt=… in Python).",
            )
        known = [own.name for own in fields(cls)]
        _known(values, [*known, "digest"], "prompt recipe")
        prompts = values.get("prompts")
        if not isinstance(prompts, (list, tuple)) or not all(isinstance(one, Mapping) for one in prompts):
            raise ConfigError(f"prompts must be a list of prompts, not {prompts!r:.100}.")
        others = {name: values[name] for name in known if name in values and name != "prompts"}
        return cls(**{"name": "prompts", **others}, prompts=tuple(map(Prompt.from_dict, prompts)))

    def _plain(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {name: value for name, value in values.items() if value not in (None, [])}


def require_usable(prompt: object, *, chat: bool, own_questions: bool, candidates: int = 1) -> None:
    """Raise ConfigError for what is no prompt recipe, and where the rest of a recipe rules it out."""
    if prompt is None:
        return
    _require(isinstance(prompt, PromptRecipe), "prompt", "a PromptRecipe", prompt)
    if not chat or own_questions:
        raise ConfigError(
            "A prompt recipe is for chat models, and says kinds and numbers of pairs itself.",
            hint="Use --prompt-format chat, and leave out --max-pairs (chat=…): see most_pairs of the recipe.",
        )
    if candidates > 1 and isinstance(prompt, PromptRecipe) and prompt.writes_texts:
        raise ConfigError(
            "Candidates are chosen among pairs, and the prompt recipe asks for texts.", hint="Leave --candidates out."
        )


def variables_of(prompt: Prompt) -> frozenset[str]:
    """Return the variables that a wording names; raise ConfigError where it is no template, or more than one may be."""
    return _variables(prompt.name, prompt.wording)


def worded(wording: str, values: Mapping[str, object]) -> str:
    """Return a wording with the values of its variables in it."""
    return _template(wording)(values)


def worded_around(wording: str, values: Mapping[str, object]) -> tuple[str, ...] | None:
    """Return the texts of a wording between which the document stands, one where it does not name it.

    None where it does more with the document than show it: what it says may then depend on it.
    """
    if not _only_shows_document(wording):
        return None
    mark = "\0"
    while any(mark in text for text in (wording, *map(str, values.values()))):
        mark += "\1"
    return tuple(worded(wording, {**values, "document": mark}).split(mark))


@lru_cache(maxsize=512)
def _template(wording: str) -> Callable[[Mapping[str, object]], str]:
    return _ENVIRONMENT.from_string(wording).render


@lru_cache(maxsize=512)
def _only_shows_document(wording: str) -> bool:
    tree = _ENVIRONMENT.parse(wording)
    named = [node for node in tree.find_all(nodes.Name) if node.name == "document"]
    shown = [node for output in tree.find_all(nodes.Output) for node in output.nodes if isinstance(node, nodes.Name)]
    return len(named) == sum(node.name == "document" for node in shown)


@lru_cache(maxsize=512)
def _variables(name: str, wording: str) -> frozenset[str]:
    try:
        tree = _ENVIRONMENT.parse(wording)
        _ENVIRONMENT.from_string(wording)
    except TemplateError as error:
        line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
        raise ConfigError(f"The wording of the prompt {name!r} is no Jinja template{line}: {error}.") from error
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _ALLOWED) or (isinstance(node, nodes.Filter) and node.name not in _FILTERS):
            what = f"the filter {node.name!r}" if isinstance(node, nodes.Filter) else type(node).__name__.lower()
            raise ConfigError(
                f"The wording of the prompt {name!r} uses {what} in line {node.lineno}, which wordings may not.",
                hint=f"Variables, if, comparisons and these filters may be used: {', '.join(sorted(_FILTERS))}.",
            )
    found = frozenset(meta.find_undeclared_variables(tree))
    unknown = sorted(found.difference(VARIABLES))
    if unknown:
        raise ConfigError(
            f"The wording of the prompt {name!r} names {', '.join(unknown)}, which is no variable of a wording.",
            hint=f"Variables: {', '.join(VARIABLES)}.",
        )
    return found


def _require(fine: bool, name: str, expected: str, got: object) -> None:
    if not fine:
        raise ConfigError(f"{name} must be {expected}, not {got!r:.100}.")


def _known(values: Mapping[str, Any], known: list[str], where: str) -> None:
    for name in values:
        if name not in known:
            raise ConfigError(f"{name!r:.100} is no setting of a {where}.", hint=f"Known are: {', '.join(known)}.")
