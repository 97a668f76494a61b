"""Turn synthesized rows into training texts: one for each maximal run of `follows` in a chain.

A stream in constant memory. Knows nothing of wordings, of `datasets`, files, models or the Hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import islice
from operator import add, attrgetter
from typing import Any, NamedTuple

from hfsynth.core.errors import ColumnError
from hfsynth.core.records import Status, content_id
from hfsynth.texts.languages import AUTO, require_wordings, wordings_language
from hfsynth.texts.pair_spans import PAIR_SPANS, spans_column
from hfsynth.texts.styles import RAW, Styles, compose

Count = Callable[[Sequence[str]], Sequence[int]]
"""Count the tokens of several texts."""

REWRITTEN = "rewritten"
"""The style of a text that the model wrote anew: it stands for its document."""

LANGUAGE_COLUMNS = ("language", "lang")
"""The columns in which a row may say the language of its document."""

_COUNT_TOGETHER = 512  # texts whose tokens are counted in one call, so that the tokenizer can use all cores


@dataclass(frozen=True, slots=True)
class RenderCounts:
    """What rendering took and gave. Counts of parts add up with `+`.

    `empty_documents` have no text and give none; `broken_chains` are documents whose prompt showed one that is no
    longer right before them, and that give none for that; `screened_documents` were taken out, and give none;
    `empty_questions` and `empty_answers` are pairs that were left out for want of one side; `pairs_without_text` belong
    to empty documents; `raw_texts` are the `texts` without pairs.
    """

    documents: int = 0
    empty_documents: int = 0
    pairs: int = 0
    empty_questions: int = 0
    empty_answers: int = 0
    pairs_without_text: int = 0
    texts: int = 0
    raw_texts: int = 0
    broken_chains: int = 0
    screened_documents: int = 0

    def __add__(self, other: RenderCounts) -> RenderCounts:
        return RenderCounts(*map(add, _numbers(self), _numbers(other)))

    @property
    def left_out(self) -> dict[str, int]:
        """What gave no text, by reason, where there is any."""
        names = (
            "empty_documents",
            "screened_documents",
            "broken_chains",
            "empty_questions",
            "empty_answers",
            "pairs_without_text",
        )
        return {name: getattr(self, name) for name in names if getattr(self, name)}


_numbers = attrgetter(*(field.name for field in fields(RenderCounts)))


class PairedDocument(NamedTuple):
    """A synthesized row, read. A blank text is empty here, and pairs have both sides, without space around.

    Of a document that was written anew `text` is what the model wrote. `language` is what its row says, if anything.
    """

    text: str
    pairs: list[tuple[str, str]]
    source: str
    chain: str
    shot: int
    follows: bool
    empty_questions: int
    empty_answers: int
    rewritten: bool = False
    language: str = ""
    screened: bool = False


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What decides the texts of given rows, and whether it is said where their pairs lie."""

    seed: int
    styles: Styles
    pair_spans: bool
    wordings: str

    def language(self, row: PairedDocument) -> str:
        """Return the language that a document's pairs are worded in."""
        return wordings_language(row.text, row.language) if self.wordings == AUTO else self.wordings


def render_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    seed: int,
    styles: Mapping[str, float] | Styles | None = None,
    count: Count | None = None,
    keep: Callable[[str], bool] | None = None,
    on_counts: Callable[[RenderCounts], None] | None = None,
    pair_spans: bool = False,
    wordings: str = AUTO,
) -> Iterator[dict[str, Any]]:
    """Yield one training text for each run of synthesized rows, in order and in constant memory.

    The texts do not depend on how rows are cut into batches or shards. Rows of a chain must be contiguous and in
    order: what follows a document that is no longer before it gives no text and counts among `broken_chains`. `count`
    adds `tokens`. `keep` takes a chain and tells whether its texts are wanted. `on_counts` is called with the counts
    of every run, to be added up. `pair_spans` adds where the pairs lie in each text. `wordings` is the language of what
    stands around documents and pairs, `auto` for each document's own (see `hfsynth.render`). Raises ColumnError naming
    the column and the row, ConfigError for a language without wordings.
    """
    drawn = _Drawn(seed, Styles.of(styles), pair_spans, require_wordings(wordings))
    texts = _texts(rows, drawn, keep, on_counts)
    return texts if count is None else _with_tokens(texts, count)


def in_validation(chain: str, share: float) -> bool:
    """Tell whether a chain belongs to the validation split: by its name alone, in this share of all cases."""
    digest = blake2b(chain.encode("utf-8", "surrogatepass"), digest_size=8, person=b"validation").digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _texts(
    rows: Iterable[Mapping[str, Any]],
    drawn: _Drawn,
    keep: Callable[[str], bool] | None,
    on_counts: Callable[[RenderCounts], None] | None,
) -> Iterator[dict[str, Any]]:
    for run in runs(rows):
        if keep is not None and not keep(run[0].chain):
            continue
        text = _text(run, drawn)
        if on_counts is not None:
            on_counts(_counts(run, text))
        if text is not None:
            yield text


def runs(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[PairedDocument]]:
    """Yield the documents that follow one another, a run at a time; the first of one `follows` where rows are missing.

    Raises ColumnError naming the column and the row.
    """
    run: list[PairedDocument] = []
    for number, values in enumerate(rows):
        row = paired_document(values, number)
        if run and not _follows(row, run[-1]):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _follows(row: PairedDocument, last: PairedDocument) -> bool:
    """Tell whether `last` is the document that the prompt about `row` showed right before it."""
    return row.follows and row.chain == last.chain and row.shot == last.shot + 1


def _text(run: Sequence[PairedDocument], drawn: _Drawn) -> dict[str, Any] | None:
    """Render a run. Its place in the chain is that of its first shot, which no other run of the chain has."""
    there = [row for row in run if row.text]
    if not there or run[0].follows:
        return None
    documents = [(row.text, row.pairs) for row in there]
    languages = [drawn.language(row) if row.pairs else "" for row in there]
    rendered = compose(documents, f"{drawn.seed}\0{run[0].chain}\0{run[0].shot}", drawn.styles, languages)
    text = {
        "text": rendered.text,
        "source_ids": [row.source for row in there],
        "shots": len(there),
        "num_pairs": sum([len(row.pairs) for row in there]),
        "style": REWRITTEN if run[0].rewritten else rendered.style,
        "chain": run[0].chain,
        "wordings": languages,
    }
    return {**text, PAIR_SPANS: spans_column(rendered.pairs)} if drawn.pair_spans else text


def _counts(run: Sequence[PairedDocument], text: Mapping[str, Any] | None) -> RenderCounts:
    return RenderCounts(
        documents=len(run),
        empty_documents=sum(not (row.text or row.screened) for row in run),
        broken_chains=sum(bool(row.text) for row in run) if run[0].follows else 0,
        pairs=text["num_pairs"] if text else 0,
        empty_questions=sum(row.empty_questions for row in run),
        empty_answers=sum(row.empty_answers for row in run),
        pairs_without_text=sum(len(row.pairs) for row in run if not row.text),
        texts=int(text is not None),
        raw_texts=int(text is not None and text["style"] == RAW),
        screened_documents=sum(row.screened for row in run),
    )


def paired_document(values: Mapping[str, Any], number: int) -> PairedDocument:
    """Read a synthesized row; raise ColumnError naming the column and the row."""
    for column in ("text", "pairs"):
        if column not in values:
            raise missing_column(column, sorted(values))
    text = _string(values["text"], "text", number)
    source = content_id(text) if values.get("id") is None else str(values["id"])
    synthesis = values.get("synthesis") or {}
    rewritten = _string(synthesis.get("rewritten"), "synthesis.rewritten", number)
    pairs, unasked, unanswered = _pairs(values["pairs"], number)
    chain, shot = synthesis.get("chain") or source, synthesis.get("shot") or 0
    follows = bool(synthesis.get("follows") and synthesis.get("chain"))
    screened = synthesis.get("status") == Status.SCREENED
    shown = "" if screened else rewritten or (text if text.strip() else "")
    counted, language = (unasked, unanswered), _language(values)
    return PairedDocument(shown, pairs, source, chain, shot, follows, *counted, bool(rewritten), language, screened)


def _language(values: Mapping[str, Any]) -> str:
    """Return what a row says of its language; what is no text says nothing."""
    said = values.get("language") or values.get("lang")
    return said if isinstance(said, str) else ""


def _pairs(values: Any, number: int) -> tuple[list[tuple[str, str]], int, int]:  # noqa: ANN401 - whatever a row holds
    """Read the pairs of a row, and count those without an instruction and those without a response."""
    pairs: list[tuple[str, str]] = []
    unasked = unanswered = 0
    for pair in _listed(values, number):
        try:
            instruction, response = pair["instruction"], pair["response"]
        except (LookupError, TypeError):
            raise _unreadable("pairs", number, "instruction and response", pair) from None
        if not (isinstance(instruction, str) and isinstance(response, str)):
            instruction = _string(instruction, "pairs.instruction", number)
            response = _string(response, "pairs.response", number)
        instruction, response = instruction.strip(), response.strip()
        if instruction and response:
            pairs.append((instruction, response))
        elif instruction:
            unanswered += 1
        else:
            unasked += 1
    return pairs, unasked, unanswered


def _listed(values: Any, number: int) -> Sequence[Any]:  # noqa: ANN401
    """Return pairs as a list of mappings, also where they are the mapping of lists that older datasets give."""
    if values is None:
        return []
    if isinstance(values, list):
        return values
    if isinstance(values, Mapping) and {"instruction", "response"} <= set(values):
        sides = zip(values["instruction"] or [], values["response"] or [], strict=True)
        return [{"instruction": instruction, "response": response} for instruction, response in sides]
    if isinstance(values, Sequence) and not isinstance(values, str):
        return values
    raise _unreadable("pairs", number, "a list of instruction and response", values)


def _string(value: Any, column: str, number: int) -> str:  # noqa: ANN401
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise _unreadable(column, number, "text", value)


def missing_column(column: str, found: Sequence[str]) -> ColumnError:
    """Return the error for rows that lack a column."""
    if column == "pairs":
        hint = "Run `hfsynth synthesize` first; it writes `pairs` and `synthesis`."
    else:
        hint = f"Name the column that holds the documents: text_column=…, or rename it to {column!r}."
    return ColumnError.missing(column, found, hint=hint)


def _unreadable(column: str, number: int, expected: str, got: object) -> ColumnError:
    return ColumnError(
        f"Column {column!r} must hold {expected}; row {number} (from 0) holds {type(got).__name__}.",
        hint="`hfsynth synthesize` writes the columns that rendering reads.",
    )


def _with_tokens(texts: Iterator[dict[str, Any]], count: Count) -> Iterator[dict[str, Any]]:
    while together := list(islice(texts, _COUNT_TOGETHER)):
        counts = count([text["text"] for text in together])
        for text, tokens in zip(together, counts, strict=True):
            yield {**text, "tokens": tokens}
