"""The chat format of a prompt recipe: which prompt a document gets, how it is worded, and what of the answer is kept.

Everything about a document is asked in one message, so that documents of a chain may get different prompts and each
conversation goes on from the last. Knows nothing of files, engines or chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from hfsynth.core.draws import Draws
from hfsynth.core.prompt_recipes import (
    DOCUMENT,
    TEXT,
    TRAITS,
    Fit,
    Prompt,
    PromptRecipe,
    variables_of,
    worded,
    worded_around,
)
from hfsynth.core.records import Document, Parsed, Reason, Rejected, Turn
from hfsynth.core.text import encodable
from hfsynth.models.token_cuts import Known
from hfsynth.prompting.chat import Chat, json_answer, pairs_schema
from hfsynth.prompting.document_traits import MEASURES
from hfsynth.prompting.parsing import parse_json_pairs

_FORM = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False).from_string(
    (files("hfsynth.prompting") / "form.jinja").read_text("utf-8")
)
_LANGUAGES: Mapping[str, str] = {
    **{"ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "cs": "Czech", "da": "Danish", "de": "German"},
    **{"el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish"},
    **{"fr": "French", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian"},
    **{"it": "Italian", "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "ms": "Malay"},
    **{"nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian"},
    **{"sk": "Slovak", "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil"},
    **{"th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese"},
}


@dataclass(frozen=True)
class Asked:
    """One prompt of a recipe as it is put about one document: how many pairs, for which persona."""

    chat: Chat
    own: Prompt
    number: int
    persona: str = ""

    @cached_property
    def json_schema(self) -> str | None:
        """The schema of an answer in pairs; a text has none."""
        return None if self.own.returns == TEXT else pairs_schema(self.own.kinds, self.number)

    def message(self, document: str) -> str:
        """Return all that is asked about a document, in words."""
        if self._around is not None:
            return document.join(self._around)
        wording = worded(self.own.wording, {**self._values, "document": document}).strip()
        return f"{wording}\n\n{self._form}"

    @cached_property
    def _around(self) -> tuple[str, ...] | None:
        """What is asked before, between and behind the document; None where its words depend on the document.

        So they do where it stands at an edge of the wording, whose spaces are taken off.
        """
        texts = worded_around(self.own.wording, self._values)
        if texts is None or len(texts) > 1 and not (texts[0].strip() and texts[-1].strip()):
            return None
        if len(texts) == 1:
            return (f"{texts[0].strip()}\n\n{self._form}\n\nThe text:\n\n", "")
        return (texts[0].lstrip(), *texts[1:-1], f"{texts[-1].rstrip()}\n\n{self._form}")

    @cached_property
    def _values(self) -> Mapping[str, object]:
        language = language_name(self.own.language)
        return {"pairs": self.number, "kinds": self.own.kinds, "language": language, "persona": self.persona}

    @cached_property
    def _form(self) -> str:
        named = "language" in variables_of(self.own)
        return _form(self.own.returns, self.own.kinds, self.number, language_name(self.own.language), named)

    def prompt(self, history: Sequence[Turn], document: str, known: Known | None = None) -> list[int]:
        """Return the ids of a conversation in which earlier documents have been asked about and answered."""
        turns = ((shot.asked or self.message(shot.document), json_answer(shot.pairs)) for shot in history)
        return self.chat.conversation(turns, self.message(document))

    def foresee(self, documents: Iterable[str]) -> Known:
        """Return nothing: a template may do anything with a conversation."""
        return {}

    def parse(self, text: str, *, cut_off: bool) -> Parsed:
        """Read the pairs, or the text, out of a completion, and take off what was thought."""
        reader = parse_text if self.own.returns == TEXT else parse_json_pairs
        return self.chat.read(text, partial(reader, cut_off=cut_off))


def parse_text(text: str, *, cut_off: bool = False) -> Parsed:
    """Take a completion as one text; one that was cut off is `unfinished`."""
    whole = encodable(text.strip())
    if cut_off:
        return Parsed((), (Rejected(Reason.UNFINISHED, whole),))
    return Parsed((), (), rewritten=whole or None)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The format that a document's prompt is in, and the prompt's name. One that is `alone` shows no earlier shot."""

    prompts: Asked
    name: str
    alone: bool


@dataclass(frozen=True)
class PromptDraw:
    """Draw a prompt of a recipe for each document, by the seed and the document's name."""

    recipe: PromptRecipe
    chat: Chat
    seed: int

    def about(self, document: Document, text: str) -> Drawn | None:
        """Return what a document gets, None where no prompt is for documents like it."""
        seen: dict[str, float] = {}
        prompts = [own for own, fits in self._fits if all(fit.is_met_by(_seen(seen, fit.trait, text)) for fit in fits)]
        if not prompts:
            return None
        own = prompts[0] if len(prompts) == 1 else self._drawn(prompts, document.id)
        counted = own.returns != TEXT and own.most_pairs > 1
        number = own.pairs_for(int(_seen(seen, "words", text))) if counted else 1
        return self._asked(own.name, number, self._persona(document))

    @property
    def persona_column(self) -> str | None:
        """The column of the source that holds each document's persona."""
        return self.recipe.persona_column

    @cached_property
    def longest(self) -> Asked:
        """The format whose prompts are longest: what fits into one of these fits into any."""
        persona = max(self.recipe.personas, key=len, default="")
        asked = [Asked(self.chat, own, own.most_pairs, persona) for own in self.recipe.prompts]
        return max(asked, key=lambda one: len(one.prompt((), "")))

    @cached_property
    def _fits(self) -> list[tuple[Prompt, Sequence[Fit]]]:
        """Each prompt with its conditions, the cheapest first: a document that fails one is not measured further."""
        return [(own, sorted(own.fits, key=lambda fit: TRAITS.index(fit.trait))) for own in self.recipe.prompts]

    @cached_property
    def _asked(self) -> Callable[[str, int, str], Drawn]:
        """What a prompt, a number and a persona make, kept: most documents get what another got."""
        named = {own.name: own for own in self.recipe.prompts}

        @lru_cache(maxsize=4096)
        def asked(name: str, number: int, persona: str) -> Drawn:
            own = named[name]
            return Drawn(Asked(self.chat, own, number, persona), name, own.returns == TEXT)

        return asked

    def _drawn(self, prompts: Sequence[Prompt], name: str) -> Prompt:
        left = Draws(f"prompt/{self.seed}/{name}").share() * sum(own.weight for own in prompts)
        for own in prompts:
            left -= own.weight
            if left < 0:
                return own
        return prompts[-1]

    def _persona(self, document: Document) -> str:
        if self.recipe.personas:
            return Draws(f"persona/{self.seed}/{document.id}").pick(self.recipe.personas)
        return (document.persona or "").strip()


def _seen(seen: dict[str, float], trait: str, text: str) -> float:
    if trait not in seen:
        seen[trait] = MEASURES[trait](text)
    return seen[trait]


def language_name(language: str) -> str:
    """Return what a wording calls a language."""
    if language == DOCUMENT:
        return "the language of the text"
    name = _LANGUAGES.get(language.partition("-")[0])
    said = f"{name} ({language})" if name and "-" in language else name
    return said or f"the language with the code {language}"


@lru_cache(maxsize=1024)
def _form(returns: str, kinds: tuple[str, ...], pairs: int, language: str, in_wording: bool) -> str:
    values = {"returns": returns, "kinds": kinds, "pairs": pairs, "language": language, "in_wording": in_wording}
    return _FORM.render(values).strip()
