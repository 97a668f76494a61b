"""Cut documents that are too long: into pieces that fit, or down to a beginning that fits.

Knows nothing of models, prompts or files: a token is whatever the given function counts. Cutting text is pure, and
looks at a document through few and short samples, so that a megabyte costs a handful of passes of the tokenizer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from hfsynth.boundaries import paragraph_cuts, sentence_cuts, sentence_ends, space_cuts, splits_character
from hfsynth.errors import ColumnError, ConfigError
from hfsynth.identity import content_id

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset

SplittableDataset = TypeVar("SplittableDataset", "Dataset", "IterableDataset")

_CHARACTERS_A_TOKEN = 4.0  # a first guess, corrected by the first count
_CONTEXT = 64  # characters after an end that decide whether it is one
_BATCH = 64  # documents held at once: they may be a megabyte each
_SAMPLE = 100  # rows that tell the columns of a stream that does not say


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document, and the character at which it begins."""

    offset: int
    text: str


def split_text(text: str, max_tokens: int, count: Callable[[str], int]) -> list[Piece]:
    """Cut a text into pieces of at most `max_tokens` tokens; put together they are the text again.

    Each piece is as long as fits and ends after a paragraph, unless that would leave less than half of what fits; else
    after a sentence; else at white space; else between characters. White space stays with a neighbour wherever it
    fits, so a piece of nothing else is rare. An empty text has no pieces. Raise ConfigError if one character is too
    long.
    """
    _require_room(max_tokens)
    pieces: list[Piece] = []
    start, ratio = 0, _CHARACTERS_A_TOKEN
    breaks: _Breaks | None = None
    while start < len(text):
        search = _Search(text, start, max_tokens, count)
        search.bracket(ratio)
        if search.fits_to < len(text):
            breaks = breaks or _Breaks.of(text)
            end = _end_of_piece(search, breaks)
        else:
            end = len(text)
        pieces.append(Piece(start, text[start:end]))
        start, ratio = end, search.ratio
    return pieces


def truncate_text(text: str, max_tokens: int, count: Callable[[str], int]) -> str:
    """Return the longest beginning of a text that ends with a sentence and has at most `max_tokens` tokens.

    Where no sentence fits it ends at white space, else between characters; it is empty only if no character fits.
    """
    search = _Search(text, 0, max_tokens, count)
    search.bracket(_CHARACTERS_A_TOKEN)
    if search.fits_to == len(text):
        return text
    after = search.first_black()
    seen = text[: search.fails_at + _CONTEXT]
    end = search.largest(sentence_ends(seen), after)
    if end is None:
        end = search.largest(space_cuts(text, after, search.fails_at)[::2], after)
    if end is None:
        end = _between_characters(search, after, len(text))
    return text[:end]


def piece_id(source_id: str, piece: Piece, text: str) -> str:
    """Return the id of a piece of `text`: the document's own where it was not cut, else with the offset behind it."""
    return source_id if piece.text == text else f"{source_id}#{piece.offset}"


def split_documents(
    ds: SplittableDataset,
    *,
    max_tokens: int,
    tokenizer: Any,  # noqa: ANN401
    text_column: str = "text",
    id_column: str | None = None,
) -> SplittableDataset:
    """Cut every document of a dataset into pieces of at most `max_tokens` tokens, one row a piece, in order.

    `tokenizer` is the name of a tokenizer or model, a transformers tokenizer, or a function that counts the tokens of a
    text. In: the string column `text_column`, and ids in `id_column`, else `id`, else made from the content. Out: the
    same columns with the piece as the text, plus `source_id`, `offset` (characters) and `id`, which is the source's
    id, followed by `#` and the offset where the document was cut. Rows without text pass as they are. Raise
    ColumnError for missing, mistyped or taken columns, ConfigError where one character is longer than a piece may be.
    """
    _require_room(max_tokens)
    _counter(tokenizer)
    features = _features(ds)
    _check_columns(features, text_column, id_column)
    cutter = _Cutter(max_tokens, tokenizer, text_column, id_column or ("id" if "id" in features else None))
    return ds.map(
        cutter,
        batched=True,
        batch_size=_BATCH,
        remove_columns=list(features),
        features=_with_piece_columns(features),
    )


class _Search:
    """What is known of the longest piece from `start`: it fits up to `fits_to` and not up to `fails_at`.

    Both are narrowed by counting; that a longer text has more tokens is a guide, and never taken for granted.
    """

    def __init__(self, text: str, start: int, limit: int, count: Callable[[str], int]) -> None:
        self.text, self.start = text, start
        self._limit, self._count = limit, count
        self.fits_to, self._fits_tokens = start, 0
        self.fails_at, self._fails_tokens = len(text) + 1, limit + 1

    @property
    def ratio(self) -> float:
        """Characters a token, as far as counted."""
        return max(1, self.fits_to - self.start) / max(1, self._fits_tokens)

    def fits(self, end: int) -> bool:
        """Count one candidate, and remember what it says about the others."""
        if end == self.fits_to:
            return True
        tokens = self._count(self.text[self.start : end])
        if tokens <= self._limit and end > self.fits_to:
            self.fits_to, self._fits_tokens = end, tokens
        elif tokens > self._limit and end < self.fails_at:
            self.fails_at, self._fails_tokens = end, tokens
        return tokens <= self._limit

    def bracket(self, ratio: float) -> None:
        """Find an end that is too far, or that the whole rest fits, without counting much beyond what fits."""
        end, reach = len(self.text), self._limit * ratio
        while self.fits_to < end < self.fails_at:
            self.fits(min(end, self.start + int(reach * 1.05) + 1))
            reach = max(self._limit * self.ratio, (self.fits_to - self.start) * 1.1)

    def first_black(self) -> int:
        """Return where the first character that is no white space stands, or where it no longer matters."""
        rest = self.text[self.start : self.fails_at]
        return self.start + len(rest) - len(rest.lstrip())

    def largest(self, cuts: Sequence[int], after: int) -> int | None:
        """Return the last of the ordered `cuts` behind `after` that fits: first those not known, then those known."""
        fits_to = self.fits_to
        unknown = self._largest(cuts, bisect_right(cuts, max(after, fits_to)), bisect_left(cuts, self.fails_at))
        return unknown or self._largest(cuts, bisect_right(cuts, after), bisect_right(cuts, fits_to))

    def _largest(self, cuts: Sequence[int], first: int, last: int) -> int | None:
        found, turn = None, 0
        while first < last:
            index = (first + last) // 2 if turn % 3 == 2 else bisect_right(cuts, self._estimate(), first, last) - 1
            index = max(first, index)
            if self.fits(cuts[index]):
                found, first = cuts[index], index + 1
            else:
                last = index
            turn += 1
        return found

    def _estimate(self) -> float:
        share = (self._limit + 0.5 - self._fits_tokens) / (self._fails_tokens - self._fits_tokens)
        return self.fits_to + (self.fails_at - self.fits_to) * share


@dataclass(frozen=True, slots=True)
class _Breaks:
    """A text's paragraph ends, its sentence ends (paragraphs are among them), and where its last word ends.

    Cuts in the white space at the very end are left out: they would make a piece of it.
    """

    paragraphs: list[int]
    sentences: list[int]
    end: int

    @classmethod
    def of(cls, text: str) -> _Breaks:
        end = len(text.rstrip())
        paragraphs = [cut for cut in paragraph_cuts(text) if cut < end]
        sentences = {cut for cut in sentence_cuts(text) if cut < end}
        return cls(paragraphs, sorted(sentences.union(paragraphs)), end)


def _end_of_piece(search: _Search, breaks: _Breaks) -> int:
    start, after = search.start, search.first_black()
    end = search.largest(breaks.sentences, after)
    if end is not None:
        index = bisect_right(breaks.paragraphs, end) - 1
        paragraph = breaks.paragraphs[index] if index >= 0 else 0
        far_enough = paragraph > after and (paragraph - start) * 2 >= end - start
        return paragraph if far_enough and search.fits(paragraph) else end
    spaces = space_cuts(search.text, after, min(search.fails_at, breaks.end))
    end = search.largest([cut for cut in spaces if cut < breaks.end], after)
    end = end or _between_characters(search, after, breaks.end)
    if not end:
        raise ConfigError(
            f"A piece cannot hold the character {search.text[start]!r} at offset {start}: it has too many tokens.",
            hint="Allow more tokens for a piece.",
        )
    return end


def _between_characters(search: _Search, after: int, end: int) -> int:
    """Return the last cut that fits, between whole characters where possible, or 0 if not even one fits."""
    cut = search.largest(range(end), after)
    if cut is None:
        after = search.start
        cut = search.largest(range(len(search.text) + 1), after)
    if cut is None:
        return 0
    whole = cut
    while whole > after + 1 and whole < len(search.text) and splits_character(search.text, whole):
        whole -= 1
    apart = whole < cut and not splits_character(search.text, whole)
    return whole if apart and search.fits(whole) else cut


def _require_room(max_tokens: int) -> None:
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise ConfigError(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}.")


@dataclass(frozen=True, slots=True)
class _Cutter:
    """The transform of `split_documents`. Plain values, so that `datasets` recognises it in another process.

    `version` is raised whenever the same text would be cut otherwise: the code itself is not in the fingerprint.
    """

    max_tokens: int
    tokenizer: Any
    text_column: str
    id_column: str | None
    version: int = 1

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        columns = {name: batch[name] for name in batch}
        columns |= {name: [] for name in ("id", "source_id", "offset") if name not in columns}
        rows: dict[str, list[Any]] = {name: [] for name in columns}
        for number, text in enumerate(columns[self.text_column]):
            given = columns[self.id_column][number] if self.id_column else None
            source_id = content_id(text or "") if given is None else str(given)
            carried = {name: values[number] for name, values in columns.items() if values}
            for piece in self._pieces(text):
                named = {"source_id": source_id, "offset": piece.offset, "id": piece_id(source_id, piece, text or "")}
                row = {**carried, self.text_column: piece.text if text is not None else None, **named}
                for name, values in rows.items():
                    values.append(row[name])
        return rows

    def _pieces(self, text: str | None) -> list[Piece]:
        if not text or text.isspace():
            return [Piece(0, text or "")]
        return split_text(text, self.max_tokens, _counter(self.tokenizer))


def _counter(tokenizer: Any) -> Callable[[str], int]:  # noqa: ANN401
    """Return the function that counts a text's tokens."""
    if isinstance(tokenizer, str):
        return _named_counter(tokenizer)
    if hasattr(tokenizer, "encode"):
        return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
    if callable(tokenizer):
        count: Callable[[str], int] = tokenizer
        return count
    raise ConfigError(
        f"A tokenizer is a name, has an encode method, or counts the tokens of a text; got {type(tokenizer).__name__}."
    )


@lru_cache(maxsize=4)
def _named_counter(name: str) -> Callable[[str], int]:
    from hfsynth.token_counting import load_tokenizer

    loaded = load_tokenizer(name)
    return lambda text: loaded.count([text])[0]


def _features(ds: Dataset | IterableDataset) -> Features:
    """Return the dataset's columns; a stream that does not know its own is asked for its first rows."""
    import pyarrow as pa
    from datasets import Dataset, IterableDataset

    from hfsynth.schemas import features_of

    if not isinstance(ds, Dataset | IterableDataset):
        raise ConfigError(
            f"Only a Dataset or an IterableDataset can be split, not a {type(ds).__name__}.",
            hint='Give one of its splits, such as ds["train"].',
        )
    if ds.features is not None:
        return ds.features
    return features_of(pa.Table.from_pylist(list(ds.take(_SAMPLE))).schema)


def _check_columns(features: Features, text_column: str, id_column: str | None) -> None:
    available = ", ".join(features) or "none"
    for name in (text_column, id_column):
        if name is not None and name not in features:
            raise ColumnError(f"There is no column {name!r}; the columns are: {available}.")
    kind = getattr(features[text_column], "dtype", "list or struct")
    if kind not in ("string", "large_string"):
        raise ColumnError(
            f"The column {text_column!r} must hold strings; it holds {kind}. The columns are: {available}."
        )
    taken = [name for name in ("source_id", "offset") if name in features]
    if taken:
        raise ColumnError(
            f"The columns {' and '.join(taken)} would be overwritten.", hint="Rename them first: ds.rename_column(...)."
        )


def _with_piece_columns(features: Features) -> Features:
    from datasets import Features, Value

    named = {"id": Value("string"), "source_id": Value("string"), "offset": Value("int64")}
    return Features({**features, **named})
