"""What chains begin with: the set of exemplars of each, its token ids, and an order in which one prefix serves many.

Knows nothing of engines, files or where exemplars come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.core.exemplars import Exemplar, Exemplars, ExemplarSets
from hfsynth.core.records import Document, Turn, chain_id
from hfsynth.models.mined import MINED
from hfsynth.models.resolve import pinned
from hfsynth.models.token_cuts import Known
from hfsynth.prompting.chat import Chat
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.quality.decontamination import open_index, settled_decontamination
from hfsynth.quality.exemplars import Flagged, settled_exemplars
from hfsynth.quality.token_classifier import settled_model
from hfsynth.quality.words import UNKNOWN, language_of
from hfsynth.synthesis.identified import marking_of

T = TypeVar("T")

_FIRST_WINDOW, _WINDOW = 64, 1024
_WINDOW_CHARACTERS = 32_000_000


@dataclass(frozen=True, slots=True)
class Beginning:
    """What one chain begins with: exemplars, the turns that show them, and what ids of these are known."""

    exemplars: tuple[Exemplar, ...] = ()
    turns: tuple[Turn, ...] = ()
    known: Known | None = None


_NOTHING = Beginning()


@dataclass(frozen=True, slots=True)
class Beginnings:
    """The beginnings that a recipe's chains are drawn among; `tokens` are those of the longest of them."""

    sets: ExemplarSets
    each: tuple[Beginning, ...] = ()
    seed: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, config: SynthesizerConfig, prompts: InstructionPretrain | Chat, room: int) -> Beginnings:
        """Encode the exemplars of a pinned recipe; raise ConfigError where none fits `room` tokens of a prompt."""
        if config.exemplars is None:
            return NONE
        sets = ExemplarSets.of(config.exemplars)
        each = [_encoded(exemplars, prompts) for exemplars in sets.sets]
        first, whole = (
            [len(prompts.prompt(one.turns[:shown], "", dict(one.known or {}))) for one in each] for shown in (1, None)
        )
        if min(first) >= room:
            raise ConfigError(
                f"The shortest of the exemplars takes {min(first):,} tokens, and prompts have room for {room:,}.",
                hint="Use shorter exemplars, a larger --window or a smaller --max-tokens.",
            )
        return cls(sets, tuple(each), config.seed, max(whole))

    def number(self, documents: Sequence[Document]) -> int:
        """Return which of the sets the chain of `documents` begins with: drawn from its name, in its language."""
        if not self.each:
            return 0
        name = chain_id(document.id for document in documents)
        return self.sets.drawn(name, seed=self.seed, language=self._language(documents))

    def beginning(self, documents: Sequence[Document]) -> Beginning:
        """Return what the chain of `documents` begins with, without an exemplar that is one of them."""
        if not self.each:
            return _NOTHING
        found = self.each[self.number(documents)]
        texts = {document.text for document in documents}
        if not any(one.context in texts for one in found.exemplars):
            return found
        others = tuple(one for one in found.exemplars if one.context not in texts)
        return Beginning(others, tuple(map(_turn, others)), found.known)

    def _language(self, documents: Sequence[Document]) -> str:
        """Return the language of a chain's first document, where exemplars are of several."""
        if len(self.sets.languages) < 2:
            return ""
        text = next((document.text for document in documents if document.text and document.text.strip()), "")
        language = language_of(text)
        return "" if language == UNKNOWN else language


NONE = Beginnings(ExemplarSets(()))


def _turn(one: Exemplar) -> Turn:
    return Turn(one.context, one.pairs)


def _encoded(exemplars: tuple[Exemplar, ...], prompts: InstructionPretrain | Chat) -> Beginning:
    """Note the ids of exemplars once for all chains that begin with them."""
    turns = tuple(map(_turn, exemplars))
    known = prompts.foresee(turn.document for turn in turns)
    before = set(known)
    prompts.prompt(turns, "", known)
    ours = {turn.document for turn in turns} | {(turn.document, turn.pairs) for turn in turns} | before
    return Beginning(exemplars, turns, {key: ids for key, ids in known.items() if key in ours})


def neighbours(items: Iterable[T], key: Callable[[T], int], size: Callable[[T], int]) -> Iterator[T]:
    """Yield items so that those of one key are next to each other, as far as windows of them allow.

    A window holds a thousand items, or fewer of a large size, and the first ones less, so that work begins soon. Every
    other window goes backwards through the keys: it begins with the one that the last has ended with.
    """
    window: list[T] = []
    most, held, backwards = _FIRST_WINDOW, 0, False
    for item in items:
        window.append(item)
        held += size(item)
        if len(window) >= most or held >= _WINDOW_CHARACTERS:
            yield from sorted(window, key=key, reverse=backwards)
            window, held, backwards, most = [], 0, not backwards, min(2 * most, _WINDOW)
    yield from sorted(window, key=key, reverse=backwards)


def settle(config: SynthesizerConfig, engine: EngineConfig, *, gpu: bool | None = None) -> SynthesizerConfig:
    """Return `config` with everything pinned that decides the result: model, precision, benchmarks, exemplars, …

    Exemplars that the benchmarks hold are not chosen, nor those with identifiers where these are marked or dropped.
    Raise ConfigError for exemplars where there is no prompt to begin with them, and what `pinned`, `open_index` and
    `settled_exemplars` raise.
    """
    config = pinned(config, engine, gpu=gpu)
    if config.decontaminate is not None:
        config = replace(config, decontaminate=settled_decontamination(config.decontaminate))
    if config.pii_model is not None:
        config = replace(config, pii_model=settled_model(config.pii_model))
    if config.exemplars is None:
        return config
    if config.model == MINED:
        raise ConfigError("Rules ask no model: there is no prompt to show exemplars in.", hint="Leave --exemplars out.")
    return replace(config, exemplars=settled_exemplars(config.exemplars, _flagged(config)))


def _flagged(config: SynthesizerConfig) -> Flagged | None:
    """Return what says of a text that no prompt may show it: a benchmark holds it, or it holds an identifier."""
    index = None if config.decontaminate is None else open_index(config.decontaminate).is_flagged
    marking = marking_of(config)
    if marking is None or marking.mode == "report":
        return index
    find = marking.find
    return lambda text: bool(find(text)) or (index is not None and index(text))


def with_exemplars(config: SynthesizerConfig, exemplars: str | Exemplars | None) -> SynthesizerConfig:
    """Return `config` with exemplars in the place of its own, if they were given."""
    return config if exemplars is None else replace(config, exemplars=Exemplars.read(exemplars))
