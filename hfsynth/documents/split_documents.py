"""Cut the long documents of a dataset, before it is mapped. Knows columns; `splitting` knows how to cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from hfsynth.core.errors import ColumnError, ConfigError
from hfsynth.core.records import content_id
from hfsynth.documents.splitting import _SAMPLE, Piece, _require_room, piece_id, split_text

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset


SplittableDataset = TypeVar("SplittableDataset", "Dataset", "IterableDataset")


_BATCH = 64  # documents held at once: they may be a megabyte each


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
    from hfsynth.models.tokenizers import load_tokenizer

    loaded = load_tokenizer(name)
    return lambda text: loaded.count([text])[0]


def _features(ds: Dataset | IterableDataset) -> Features:
    """Return the dataset's columns; a stream that does not know its own is asked for its first rows."""
    import pyarrow as pa
    from datasets import Dataset, IterableDataset

    from hfsynth.documents.column_types import features_of

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
            raise ColumnError.missing(name, features)
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
