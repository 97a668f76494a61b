"""What decides the result (`SynthesizerConfig`) and what only decides the speed (`EngineConfig`).

Knows nothing of models, engines or files.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from hashlib import blake2b
from typing import Any, Self

from hfsynth.core.conditions import INDEXED, Condition, canonical
from hfsynth.core.decontamination import DEFAULT_CONDITION, Decontamination
from hfsynth.core.engine_arguments import engine_arguments, require_speed
from hfsynth.core.errors import ConfigError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.identifier_models import IdentifierModel
from hfsynth.core.prompt_recipes import PAIR_KINDS as CHAT_KINDS
from hfsynth.core.prompt_recipes import PromptRecipe, require_usable
from hfsynth.core.screening import PII_MODES
from hfsynth.core.thinking import OFF, TEMPLATE, settled_thinking, thinks

FORMAT_VERSION = 2
"""Raised whenever the same recipe would give other bytes: prompts, parsing, measures, chaining, truncation.

1 ended an open prompt as its text alone is encoded. 2 ends it as it is encoded where a question follows.
"""

PROMPT_FORMATS = ("instruction-pretrain", "chat")
LONG_DOCUMENTS = ("skip", "truncate", "split")
ENGINES = ("vllm", "server", "scripted")
OWN_ENGINE = "own"
"""An engine that is an object of this process; no command knows it. See `hfsynth.engine.loading.config_of`."""
FILLS = ("mined",)
CHOOSERS = ("measures", "agreement", "judge")
PRECISIONS = ("auto", "bf16", "fp16", "fp32", "fp8", "fp8-kv")

_MOST = 10**9
_MOST_SHOTS = 10_000
_MOST_CANDIDATES = 100
_IN_SHORT = reprlib.Repr()
_IN_SHORT.maxstring = _IN_SHORT.maxother = 200
_IN_SHORT.maxlevel = 2


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn. The defaults are those the published corpora were made with: greedy, 400 tokens.

    `repetition_penalty` divides the score of every token that stands in the prompt or the completion;
    `frequency_penalty` is taken from a token's score once for each time that it stands in the completion.
    """

    max_tokens: int = 400
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        _require(_whole(self.max_tokens, 1, _MOST), "max_tokens", _from_one(_MOST), self.max_tokens)
        _require(_within(self.temperature, 0, 5), "temperature", "a number from 0 to 5", self.temperature)
        _require(_within(self.top_p, 0, 1) and self.top_p > 0, "top_p", "a number over 0, at most 1", self.top_p)
        _require(
            _within(self.repetition_penalty, 0, 5) and self.repetition_penalty > 0,
            "repetition_penalty",
            "a number over 0, at most 5",
            self.repetition_penalty,
        )
        _require(
            _within(self.frequency_penalty, -2, 2), "frequency_penalty", "a number from -2 to 2", self.frequency_penalty
        )
        for name in ("temperature", "top_p", "repetition_penalty", "frequency_penalty"):  # 0 and 0.0 are one recipe
            object.__setattr__(self, name, float(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What the `chat` format asks for: how many pairs about a document at most, and of which kinds."""

    max_pairs: int = 5
    kinds: tuple[str, ...] = CHAT_KINDS

    def __post_init__(self) -> None:
        _require(_whole(self.max_pairs, 1, _MOST), "max_pairs", _from_one(_MOST), self.max_pairs)
        known = isinstance(self.kinds, (tuple, list)) and all(kind in CHAT_KINDS for kind in self.kinds)
        _require(known and bool(self.kinds), "kinds", f"some of {', '.join(CHAT_KINDS)}", self.kinds)
        object.__setattr__(self, "kinds", tuple(self.kinds))


@dataclass(frozen=True)
class SynthesizerConfig:
    """Everything about the synthesizer that decides the pairs. `window` is None for the model's own.

    `precision` are the numbers that the model computes in (`fp8`: weights, `fp8-kv`: the KV cache too); `auto` is
    settled when work begins, and pinned like the model's revision: see `hfsynth.models.precision`.
    `keep` are the conditions that a pair must meet, all of them, such as `grounding>=0.5`; their order, spaces and
    ways to write a number make no other recipe. Measures: see `hfsynth.quality.measures`.
    `thinking` is for models that can think before they answer, in the `chat` format: `off`, `on`, `budget N`;
    `keep_reasoning` keeps what they thought. A recipe that hfsynth wrote before there was the setting leaves it to the
    template, which no recipe need say.
    `fill` says what documents get about which the model wrote no pair: `mined`, pairs by rules.
    `candidates` are the completions about each document; `choose_by` says who chooses the best of their pairs,
    `measures` of their text, their `agreement` or the model itself as `judge`: see `hfsynth.synthesis.candidates`.
    `exemplars` are human-made contexts with pairs that every chain begins with: see `hfsynth.core.exemplars`.
    `prompt` is what a chat model is asked about each document, instead of the `chat` format's own questions.
    `decontaminate` names benchmarks whose questions are kept out (`hfsynth.core.decontamination`): `core`, files,
    datasets. Without a condition on `contamination` in `keep`, `contamination<0.5` is added.
    `pii` says what becomes of identifiers in documents before pairs are written: see `hfsynth.quality.marking`;
    `pii_model` tells names and the like beside those that rules find.
    `format_version` is never chosen: recipes and jobs of an earlier version of hfsynth keep theirs.
    """

    model: str
    model_revision: str | None = None
    prompt_format: str = "instruction-pretrain"
    shots: int = 1
    seed: int = 0
    window: int | None = None
    long_documents: str = "skip"
    sampling: Sampling = field(default_factory=Sampling)
    chat: ChatOptions = field(default_factory=ChatOptions)
    keep: tuple[str, ...] = ()
    precision: str = "auto"
    format_version: int = FORMAT_VERSION
    thinking: str = OFF
    keep_reasoning: bool = False
    fill: str | None = None
    candidates: int = 1
    choose_by: str = CHOOSERS[0]
    exemplars: Exemplars | None = None
    prompt: PromptRecipe | None = None
    decontaminate: Decontamination | None = None
    pii: str | None = None
    pii_model: IdentifierModel | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.model, str) and bool(self.model.strip()), "model", "a name or a folder", self.model)
        _require(
            self.model_revision is None or (isinstance(self.model_revision, str) and bool(self.model_revision)),
            "model_revision",
            "a branch, a tag or a commit (in quotes where it is all digits)",
            self.model_revision,
        )
        _require(_whole(self.shots, 1, _MOST_SHOTS), "shots", _from_one(_MOST_SHOTS), self.shots)
        _require(_whole(self.seed, -(2**63), 2**63), "seed", "a whole number of 64 bits", self.seed)
        window = self.window is None or _whole(self.window, 2, _MOST)
        _require(window, "window", f"a whole number of tokens, at most {_MOST:,}", self.window)
        _require(isinstance(self.sampling, Sampling), "sampling", "a Sampling", self.sampling)
        _require(isinstance(self.chat, ChatOptions), "chat", "a ChatOptions", self.chat)
        _choice("prompt_format", self.prompt_format, PROMPT_FORMATS)
        _choice("precision", self.precision, PRECISIONS)
        _require(_whole(self.candidates, 1, _MOST_CANDIDATES), "candidates", "from 1 to 100", self.candidates)
        _choice("choose_by", self.choose_by, CHOOSERS)
        self._require_different()
        _require(self.fill in (None, *FILLS), "fill", f"one of {', '.join(FILLS)}", self.fill)
        object.__setattr__(self, "pii_model", IdentifierModel.read(self.pii_model))
        _require(self.pii_model is None or self.pii is not None, "pii", "set where a pii_model is", self.pii)
        _require(self.pii in (None, *PII_MODES), "pii", f"one of {', '.join(PII_MODES)}", self.pii)
        object.__setattr__(self, "exemplars", Exemplars.read(self.exemplars))
        _require(isinstance(self.keep_reasoning, bool), "keep_reasoning", "true or false", self.keep_reasoning)
        require_usable(
            self.prompt,
            chat=self.prompt_format == "chat",
            own_questions=self.chat != ChatOptions(),
            candidates=self.candidates,
        )
        most, kept = self.sampling.max_tokens, self.keep_reasoning
        object.__setattr__(self, "thinking", settled_thinking(self.thinking, self.prompt_format, most, keep=kept))
        self._settle_conditions()
        _choice("long_documents", self.long_documents, LONG_DOCUMENTS)
        _require(
            _whole(self.format_version, 1, FORMAT_VERSION),
            "format_version",
            f"a whole number from 1 to {FORMAT_VERSION}, the newest that this version of hfsynth knows",
            self.format_version,
        )
        if self.window is not None and self.window <= self.sampling.max_tokens:
            raise ConfigError(
                f"A window of {self.window} tokens leaves no room for a prompt: max_tokens is "
                f"{self.sampling.max_tokens}.",
                hint="Use a larger --window or a smaller --max-tokens.",
            )

    def _settle_conditions(self) -> None:
        decontaminate = Decontamination.read(self.decontaminate)
        object.__setattr__(self, "decontaminate", decontaminate)
        keep = canonical(self.keep, indexed=decontaminate is not None)
        if decontaminate is not None and not any(Condition.parse(one).measure in INDEXED for one in keep):
            keep = canonical((*keep, DEFAULT_CONDITION), indexed=True)
        object.__setattr__(self, "keep", keep)

    def _require_different(self) -> None:
        if self.candidates > 1 and (self.sampling.temperature == 0 or self.keep_reasoning):
            wrong = "several thoughts cannot be kept" if self.keep_reasoning else "greedy completions are all the same"
            raise ConfigError(
                f"{self.candidates} candidates a document were asked for; {wrong}.",
                hint="Leave --keep-reasoning out." if self.keep_reasoning else "Draw them: --temperature 0.7",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, field by field; `from_dict` reads them back.

        What was not there in earlier versions is named only where it differs from how their recipes are read.
        """
        values = asdict(self)
        values["chat"]["kinds"] = list(self.chat.kinds)
        values["keep"] = list(self.keep)
        if self.prompt_format != "chat" or self.thinking == TEMPLATE:
            del values["thinking"]
        if self.candidates == 1:
            del values["candidates"], values["choose_by"]
        for name in ("keep_reasoning", "fill", "exemplars", "prompt", "decontaminate", "pii", "pii_model"):
            if not values[name]:
                del values[name]
        if self.exemplars is not None:
            values["exemplars"] = self.exemplars.to_dict()
        if self.prompt is not None:
            values["prompt"] = self.prompt.to_dict()
        if self.pii_model is not None:
            values["pii_model"] = self.pii_model.to_dict()
        if self.decontaminate is not None:
            values["decontaminate"] = self.decontaminate.to_dict()
        return values

    @cached_property
    def extra_columns(self) -> tuple[str, ...]:
        """The fields of `synthesis` of some recipes' rows alone: thoughts, what is filled, exemplars, prompts, …"""
        thought = ("reasoning_tokens",) if thinks(self.thinking) else ()
        kept = ("reasoning",) if self.keep_reasoning else ()
        shown = ("exemplars", "exemplars_left_out") if self.exemplars else ()
        asked = ("prompt",) if self.prompt else ()
        rewritten = ("rewritten",) if self.prompt and self.prompt.writes_texts else ()
        found = ("identifiers",) if self.pii else ()
        return (*thought, *kept, *(("mined",) if self.fill else ()), *shown, *asked, *rewritten, *found)

    @cached_property
    def fingerprint(self) -> str:
        """Name the recipe in every row that it makes; `synthesis.recipe` holds it. Made once: recipes may be long.

        A precision that was not settled has no part in it: rows from before there were precisions name no other.
        """
        values = self.to_dict()
        if self.exemplars is not None:
            values["exemplars"].pop("chosen")  # their digest stands for them, also where they are left on the Hub
        if self.decontaminate is not None:
            values["decontaminate"] = self.decontaminate.sha256
        if self.pii_model is not None:
            values["pii_model"] = self.pii_model.told
        return digest({name: value for name, value in values.items() if (name, value) != ("precision", "auto")})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a config from plain values; raise ConfigError for a field that is unknown or cannot work."""
        given = as_written(values)
        chat = _mapping("chat", given.pop("chat", {}))
        sampling = _mapping("sampling", given.pop("sampling", {}))
        if given.get("prompt") is not None and not isinstance(given["prompt"], PromptRecipe):
            given["prompt"] = PromptRecipe.from_dict(given["prompt"])
        _known(cls, given, "recipe")
        _known(Sampling, sampling, "sampling")
        _known(ChatOptions, chat, "chat")
        if "model" not in given:
            raise ConfigError("The recipe names no model.", hint="Add a `model:` line, or use --model.")
        return cls(**given, sampling=Sampling(**sampling), chat=ChatOptions(**chat))


def as_written(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's fields with those filled in that earlier versions of hfsynth, which wrote it, did not have.

    Only what hfsynth writes names a format version: what a user writes has the defaults of today.
    """
    given = dict(values)
    if "format_version" in given:
        given.setdefault("thinking", TEMPLATE if given.get("prompt_format") == "chat" else OFF)
    return given


def require_room(window: int, max_tokens: int) -> None:
    """Raise ConfigError where a model's window leaves no room for a prompt beside a completion's tokens."""
    if window <= max_tokens:
        raise ConfigError(
            f"The model's window of {window} tokens leaves no room for a prompt: max_tokens is {max_tokens}.",
            hint="Use a smaller --max-tokens.",
        )


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the model is run: which engine, its own arguments, and whether code from a model repo may run.

    `arguments` are plain values (text, numbers, lists, mappings), copied; two configs with the same ones are equal and
    hash alike. Raise ConfigError for an argument of vLLM's that changes the result, or that it does not have.
    """

    kind: str = "vllm"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        _choice("engine", self.kind, (*ENGINES, OWN_ENGINE))
        plain = {name: json.loads(_json_of(name, value)) for name, value in sorted((self.arguments or {}).items())}
        object.__setattr__(self, "arguments", plain)
        for name, value in plain.items():
            if self.kind == "vllm" or name in engine_arguments():
                require_speed(name, value)

    def __hash__(self) -> int:
        return hash((self.kind, json.dumps(self.arguments, sort_keys=True), self.trust_remote_code))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(**values)


def digest(values: Mapping[str, Any]) -> str:
    """Return a short, stable digest of plain JSON values, whatever the order of their keys."""
    canonical = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _json_of(name: str, value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"The engine argument {name} must be a plain value (text, number, list or mapping), not {value!r}."
        ) from error


def _require(fine: bool, name: str, expected: str, got: object) -> None:
    if not fine:
        raise ConfigError(f"{name} must be {expected}, not {shown(got)}.")


def _from_one(most: int) -> str:
    return f"a whole number from 1 to {most:,}"


def shown(value: object) -> str:
    """Return a value as a message shows it: in short, however much it holds."""
    return _IN_SHORT.repr(value)


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _within(value: object, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _choice(name: str, value: object, known: tuple[str, ...]) -> None:
    _require(value in known, name, f"one of {', '.join(known)}", value)


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    _require(isinstance(value, Mapping), name, "a mapping of settings", value)
    return value if isinstance(value, Mapping) else {}


def _known(cls: type, given: Mapping[str, Any], where: str) -> None:
    names = [f.name for f in fields(cls)]
    for name in given:
        if name not in names:
            raise ConfigError(f"{name!r} is no setting of a {where}.", hint=f"Known are: {', '.join(names)}.")
