"""Documents into prompts, completions into pairs: one generator a chain.

A chain is M neighbouring documents. Its generator yields a request, is sent the completion, and yields the next
request, whose prompt extends the last one by that completion's pairs. Knows nothing of engines, files or `datasets`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Protocol, cast

from hfsynth.core.conditions import Condition
from hfsynth.core.config import SynthesizerConfig, require_room
from hfsynth.core.records import Document, Parsed, Reason, Rejected, Row, Status, Synthesis, Synthesized, Turn, chain_id
from hfsynth.core.text import encodable
from hfsynth.documents.readers import IDENTIFIED, UNREAD
from hfsynth.documents.splitting import piece_id, split_text, truncate_text
from hfsynth.engine.protocol import Chain, Completion, Engine, Generation, Request, T
from hfsynth.models.token_cuts import Known
from hfsynth.prompting.chat import Chat
from hfsynth.prompting.formats import prompt_format
from hfsynth.prompting.recipe_chat import Drawn, PromptDraw
from hfsynth.quality.decontamination import open_index
from hfsynth.quality.marking import Marking
from hfsynth.quality.measures import LooksForBenchmarks, contaminated, keep_pairs
from hfsynth.quality.rubric import RubricJudge
from hfsynth.synthesis.candidates import Answered, Candidates
from hfsynth.synthesis.exemplars import NONE, Beginning, Beginnings
from hfsynth.synthesis.identified import marking_of


class PromptFormat(Protocol):
    """How documents and earlier shots become token ids, and completions pairs."""

    @property
    def json_schema(self) -> str | None:
        """Return the schema completions are held to, None for free text."""

    def foresee(self, documents: Iterable[str]) -> Known:
        """Return what the prompts of one chain about `documents` have in common."""

    def prompt(self, history: Sequence[Turn], document: str, known: Known | None = None) -> list[int]:
        """Return the token ids of a prompt that shows `history` and asks about `document`.

        They are the same with what is `known` of the chain's other prompts, to which this one's is added.
        """

    def parse(self, text: str, *, cut_off: bool) -> Parsed:
        """Read the pairs out of a completion."""


class DrawsPrompts(Protocol):
    """What gives each document a prompt of its own."""

    @property
    def persona_column(self) -> str | None:
        """Return the column of the source that holds each document's persona."""

    def about(self, document: Document, text: str) -> Drawn | None:
        """Return what a document gets, None where no prompt is for documents like it."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the shots of one chain share: its name, what it begins with, and ids that are known of its prompts."""

    name: str
    beginning: Beginning
    known: Known


@dataclass(frozen=True, slots=True)
class Chainer:
    """Everything a chain needs to know besides its documents. `window` and `max_tokens` are in tokens.

    Pairs that do not meet the conditions of `keep` are rejected before the next shot could show them. Before its first
    document a chain shows the exemplars of its beginning, if there are any. `draw` gives each document a prompt of a
    recipe; `prompts` are then the longest of them. `heard` is told what is read out of each completion. Documents that
    do not meet the conditions of `keep` on what the `index` of benchmarks tells are screened: no model is asked about
    them, and no later shot shows them; so are those with identifiers that `marking` drops. Prompts show documents as
    `cleared` returns them.
    """

    prompts: PromptFormat
    window: int
    max_tokens: int
    shots: int = 1
    seed: int = 0
    truncate: bool = False
    keep: tuple[Condition, ...] = ()
    candidates: Candidates = Candidates()
    beginnings: Beginnings = NONE
    draw: DrawsPrompts | None = None
    heard: Callable[[Parsed], None] | None = None
    index: LooksForBenchmarks | None = None
    marking: Marking | None = None

    def chains(self, documents: Iterable[Document]) -> Iterator[Chain[list[Synthesized]]]:
        """Yield one chain for every `shots` neighbouring documents; the last one may be short."""
        for group in grouped(documents, self.shots):
            yield self.chain(group)

    def of_rows(self, rows: Sequence[Row]) -> Chain[list[Synthesized]]:
        """Return the chain of some rows' documents."""
        return self.chain(documents_of(rows, self.persona_column))

    def chain(self, documents: Sequence[Document]) -> Chain[list[Synthesized]]:
        """Synthesize the pairs of one chain's documents, one result a document, in order."""
        history: list[Turn] = []
        results: list[Synthesized] = []
        documents = self.cleared(documents)
        shared = self._shared(documents)
        for shot, document in enumerate(documents):
            result, turn = yield from self._shot(document, history, shared, shot)
            if document.identifiers:
                result = replace(result, synthesis=replace(result.synthesis, identifiers=document.identifiers))
            if not result.synthesis.follows:
                history = []
            history = [*history, turn] if result.pairs else []
            results.append(result)
        return results

    def _shot(
        self, document: Document, history: Sequence[Turn], shared: Shared, shot: int
    ) -> Generator[Request, Completion, tuple[Synthesized, Turn]]:
        """Return the document's result, and how the next prompts show it."""
        name = shared.name
        if document.unread is not None:
            unread = Rejected(Reason.TOO_LONG, document.unread)
            return Synthesized((), Synthesis(Status.TOO_LONG, name, shot, rejected=(unread,))), _NOTHING
        if document.text is None or not document.text.strip():
            return Synthesized((), Synthesis(Status.EMPTY, name, shot)), _NOTHING
        text = encodable(document.text)
        if (held := self.held(document, text)) is not None:
            return Synthesized((), Synthesis(Status.SCREENED, name, shot, rejected=(held,))), _NOTHING
        drawn = None if self.draw is None else self.draw.about(document, text)
        if drawn is None and self.draw is not None:
            unfit = Rejected(Reason.NO_PROMPT, "no prompt of the recipe is for documents like this one")
            return Synthesized((), Synthesis(Status.NO_PAIRS, name, shot, rejected=(unfit,))), _NOTHING
        prompts = self.prompts if drawn is None else drawn.prompts
        if drawn is not None and drawn.alone:
            history, shared = (), replace(shared, beginning=Beginning())
        fitted = self._fit(prompts, text, history, shared)
        if fitted is None:
            too_long = Rejected(Reason.TOO_LONG, f"does not fit {self.window - self.max_tokens} tokens of prompt")
            return Synthesized((), Synthesis(Status.TOO_LONG, name, shot, rejected=(too_long,))), _NOTHING
        shown, token_ids, follows, begun = fitted
        request = Request(token_ids, shot, 0, json_schema=None if drawn is None else drawn.prompts.json_schema)
        answered = yield from self._answered(prompts, request, shown, name)
        completion, parsed = answered.completion, answered.parsed
        synthesis = Synthesis(
            status=_status(completion, parsed),
            chain=name,
            shot=shot,
            follows=follows,
            prompt_tokens=answered.prompt_tokens,
            output_tokens=completion.output_tokens,
            cached_tokens=completion.cached_tokens,
            truncated=len(text) - len(shown),
            finish_reason=completion.finish_reason,
            rejected=parsed.rejected,
            reasoning_tokens=parsed.reasoning_tokens,
            reasoning=parsed.reasoning,
            exemplars=tuple(one.id for one in shared.beginning.exemplars[:begun]),
            exemplars_left_out=len(shared.beginning.exemplars) - begun,
            prompt=None if drawn is None else drawn.name,
            rewritten=parsed.rewritten,
        )
        asked = None if drawn is None or self.shots == 1 else drawn.prompts.message(shown)
        return Synthesized(parsed.pairs, synthesis), Turn(shown, parsed.pairs, asked)

    def cleared(self, documents: Sequence[Document]) -> list[Document]:
        """Return documents with their identifiers told, and marked where they must be."""
        return list(documents if self.marking is None else map(self.marking.document, documents))

    def held(self, document: Document, text: str) -> Rejected | None:
        """Return why no pairs may be written about a document whose text is `text`, if so."""
        held = None if self.marking is None else self.marking.dropped(document.identifiers)
        return held or contaminated(text, self.keep, self.index)

    def _answered(
        self, prompts: PromptFormat, request: Request, shown: str, name: str
    ) -> Generator[Request, Completion, Answered]:
        """Ask for each candidate in turn, the later ones when the prompt is in the engine's cache; choose the best."""
        completions: list[Completion] = []
        for number in range(self.candidates.number):
            completions.append((yield replace(request, seed=_shot_seed(self.seed, name, request.shot, number))))
        parsed = [keep_pairs(self._parse(prompts, one), shown, self.keep, self.index) for one in completions]
        tokens = len(request.token_ids)
        return (yield from self.candidates.best(completions, parsed, shown, prompt_tokens=tokens, shot=request.shot))

    def _fit(
        self, prompts: PromptFormat, text: str, history: Sequence[Turn], shared: Shared
    ) -> tuple[str, list[int], bool, int] | None:
        """Return the text to show, its prompt, whether the history and how many exemplars are in it; None if none fits.

        The history is given up before an exemplar is, and the exemplars, the last first, before any of the document.
        """
        room, turns = self.window - self.max_tokens, shared.beginning.turns
        if history and len(token_ids := prompts.prompt((*turns, *history), text, shared.known)) <= room:
            return text, token_ids, True, len(turns)
        for begun in range(len(turns), -1, -1):
            token_ids = prompts.prompt(turns[:begun], text, shared.known)
            if len(token_ids) <= room:
                return text, token_ids, False, begun
        if not self.truncate or len(prompts.prompt((), "")) >= room:
            return None
        shown = truncate_text(text, room, lambda part: len(prompts.prompt((), part)))
        return (shown, prompts.prompt((), shown), False, 0) if shown.strip() else None

    def _shared(self, documents: Sequence[Document]) -> Shared:
        beginning, known = self.beginnings.beginning(documents), self.prompts.foresee(_texts(documents))
        if beginning.known:
            known = {**beginning.known, **known}
        return Shared(chain_id(document.id for document in documents), beginning, known)

    @property
    def persona_column(self) -> str | None:
        """The column of the source that holds each document's persona."""
        return None if self.draw is None else self.draw.persona_column

    @property
    def overhead(self) -> int:
        """Tokens of a prompt about nothing."""
        return len(self.prompts.prompt((), ""))

    def _parse(self, prompts: PromptFormat, completion: Completion) -> Parsed:
        if (error := _error(completion)) is not None:
            return Parsed((), (Rejected(Reason.ENGINE, encodable(error)),))
        parsed = prompts.parse(completion.text, cut_off=completion.finish_reason == "length")
        if self.heard is not None:
            self.heard(parsed)
        return parsed


_NOTHING = Turn("", ())


def _texts(documents: Iterable[Document]) -> Iterator[str]:
    """Yield the texts about which there will be prompts."""
    for document in documents:
        if document.unread is None and document.text is not None and document.text.strip():
            yield encodable(document.text)


def documents_of(rows: Iterable[Row], persona_column: str | None = None) -> list[Document]:
    """Return the documents of a source's rows, with their personas where a column holds them."""
    return [
        Document(row["id"], row["text"], row.get(UNREAD), _persona(row, persona_column), row.get(IDENTIFIED))
        for row in rows
    ]


def _persona(row: Row, column: str | None) -> str | None:
    persona = row.get(column) if column else None
    return None if persona is None else str(persona)


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield neighbours in groups of `size`; the last group may be short."""
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _error(completion: Completion) -> str | None:
    """Return what went wrong, also where an engine does not say it."""
    unsaid = "the engine did not say why" if completion.finish_reason == "error" else None
    return completion.error if completion.error is not None else unsaid


def _status(completion: Completion, parsed: Parsed) -> Status:
    if _error(completion) is not None:
        return Status.FAILED
    return Status.OK if parsed.pairs or parsed.rewritten else Status.NO_PAIRS


def _shot_seed(seed: int, name: str, shot: int, candidate: int) -> int:
    """Return a seed of 31 bits that depends on chain, shot and candidate alone, not on the batch they run in."""
    named = f"{seed}/{name}/{shot}" + (f"/{candidate}" if candidate else "")
    return int.from_bytes(blake2b(named.encode(), digest_size=4).digest(), "big") >> 1


# To read a row and drop it costs about ten times as much as to pass over it on the way from the beginning.
_NEAR = 1.1


@dataclass(frozen=True, slots=True)
class Splitter:
    """Cut rows whose document does not fit the window.

    A document that fits, beside exemplars where there are any, is left whole. Pieces of one that does not are made
    small enough (`piece_tokens`) for a whole chain of them, pairs included, to share one window. Token counts are those
    of a prompt about the text alone.
    """

    count: Callable[[str], int]
    room: int
    piece_tokens: int

    @classmethod
    def of(cls, chainer: Chainer) -> Splitter:
        """Make the splitter for the prompts of `chainer`."""
        room = chainer.window - chainer.max_tokens
        if room - chainer.beginnings.tokens >= 2 * chainer.overhead + 64:
            room -= chainer.beginnings.tokens
        share = (room - (chainer.shots - 1) * chainer.max_tokens) // chainer.shots
        smallest = chainer.overhead + 64
        return cls(lambda text: len(chainer.prompts.prompt((), text)), room, min(room, max(share, smallest)))

    def pieces(self, row: Row) -> Iterator[Row]:
        """Yield the row, or its pieces, with `source_id` and `offset` (in characters) added."""
        text, name = row["text"], row["id"]
        if text is None or not text.strip() or self.count(text) <= self.room:
            yield {**row, "source_id": name, "offset": 0}
            return
        for piece in split_text(text, self.piece_tokens, self.count):
            own = {"id": piece_id(name, piece, text), "text": piece.text, "source_id": name, "offset": piece.offset}
            yield {**row, **own}


def chainer_for(config: SynthesizerConfig, engine: Engine, kind: type[Chainer] = Chainer) -> Chainer:
    """Return what turns documents into chains for `engine`; raise ConfigError where a prompt has no room."""
    require_room(engine.window, config.sampling.max_tokens)
    prompts = prompt_format(config, engine.tokenizer)
    draw = None if config.prompt is None else PromptDraw(config.prompt, cast("Chat", prompts), config.seed)
    return kind(
        prompts=prompts if draw is None else draw.longest,
        window=engine.window,
        max_tokens=config.sampling.max_tokens,
        shots=config.shots,
        seed=config.seed,
        truncate=config.long_documents == "truncate",
        keep=tuple(map(Condition.parse, config.keep)),
        candidates=_candidates(config, engine),
        beginnings=Beginnings.of(config, prompts, engine.window - config.sampling.max_tokens),
        draw=draw,
        index=None if config.decontaminate is None else open_index(config.decontaminate),
        marking=marking_of(config),
    )


def _candidates(config: SynthesizerConfig, engine: Engine) -> Candidates:
    judges = config.candidates > 1 and config.choose_by == "judge"
    judge = RubricJudge(engine.tokenizer, engine.window) if judges else None
    return Candidates(config.candidates, judge, agreement=config.choose_by == "agreement")


def generation_for(config: SynthesizerConfig, chainer: Chainer) -> Generation:
    """Return how every request of a run is answered."""
    schema = chainer.prompts.json_schema if chainer.draw is None else None  # then every request has its own
    return Generation(config.sampling, schema, shots=config.shots, thinking=config.thinking)
