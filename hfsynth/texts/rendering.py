"""Render a dataset: `render_rows` on top of `datasets`, with its cache and its streams.

Knows nothing of wordings, files of a corpus, models or the Hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from datasets import Dataset, Features, IterableDataset, List, NamedSplit, Value
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher

from hfsynth.core.errors import ConfigError, HfsynthError
from hfsynth.core.private_names import fingerprint_of
from hfsynth.documents.dataset_splits import AnyDataset, dict_of, split_name, splits_of
from hfsynth.models.tokenizers import TextTokenizer, load_tokenizer
from hfsynth.texts.languages import AUTO, require_wordings
from hfsynth.texts.pair_spans import with_spans
from hfsynth.texts.styles import RENDERING_VERSION, Styles
from hfsynth.texts.training_texts import (
    LANGUAGE_COLUMNS,
    Count,
    RenderCounts,
    in_validation,
    missing_column,
    render_rows,
)
from hfsynth.texts.wordings import wordings_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


__all__ = ["RenderCounts", "Styles", "in_validation", "render_dataset", "render_rows"]

_COLUMNS = ("text", "id", "pairs", "synthesis", *LANGUAGE_COLUMNS)

_log = logging.getLogger(__name__)


def render_dataset(
    ds: AnyDataset,
    *,
    seed: int,
    tokenizer: str | PreTrainedTokenizerBase | TextTokenizer | Callable[[str], int] | None = None,
    styles: Mapping[str, float] | Styles | None = None,
    validation: float = 0.0,
    text_column: str = "text",
    id_column: str = "id",
    pair_spans: bool = False,
    wordings: str = AUTO,
) -> Any:  # noqa: ANN401 - a dataset for a dataset, a dict for a dict, a stream for a stream
    """Turn a synthesized dataset into training texts, one for each run of documents that follow one another.

    `ds` is a dataset, a stream, or a dict of splits of either; the result is the same, split by split. Columns in:
    `text`, `pairs`, and where there are `id` and `synthesis`. Without `synthesis` every document is a chain of its
    own. Columns out: `text`, `source_ids`, `shots`, `num_pairs`, `style`, `chain`, `wordings`, and `tokens` (without
    BOS and EOS) when a tokenizer is given: a Hub id, a fast tokenizer, or a function that counts. `text_column` and
    `id_column` name columns that are called otherwise, as they do for `Synthesizer`. With `pair_spans` there is a
    column `pair_spans`: where each pair begins and ends in the text, in characters, which `hfsynth.export` needs to cut
    long texts and for loss masks. `wordings` is the language of what stands around documents and pairs: see
    `hfsynth.render`.

    A document without pairs stands alone, once; one without text gives none. A document whose earlier shots were
    taken away, by a filter or a shuffle, gives none either: the log says how many. The same seed gives the same texts,
    and a second call reads them from the cache of `datasets`. `styles` are weights by name (see `Styles`). With
    `validation`, that share of the chains of `train` goes to a split of its own, by a hash of the chain, whatever the
    seed.

    Raises ColumnError where a column is missing or of the wrong type, ConfigError for styles or shares that cannot
    work, for a language without wordings, and for a `validation` of splits that have one.
    """
    splits = splits_of(ds, what="what is rendered")
    for rows in splits.values():
        _require_columns(rows, text_column)
    if not 0 <= validation < 1:
        raise ConfigError(f"validation must be a share from 0 to below 1, not {validation!r}.")
    language = require_wordings(wordings)
    asked = RenderSettings(seed, Styles.of(styles), float(validation), _name(tokenizer), language, pair_spans)
    settings = _Settings(asked, _counter(tokenizer), _identity(tokenizer), (text_column, id_column))
    if not isinstance(ds, Mapping):
        if not validation:
            return _rendered(ds, settings, split_name(ds))
        splits = {"train": ds}
    return dict_of({name: _rendered(splits[of], settings, name) for name, of in cut_splits(splits, validation).items()})


def cut_splits(splits: Collection[str], validation: float) -> dict[str, str]:
    """Return the splits of the texts, each with the split of the pairs that it is made of.

    Raise ConfigError where a share for validation is asked for and the pairs have that split, or nothing to cut it off.
    """
    if not validation:
        return {name: name for name in splits}
    if "validation" in splits or "train" not in splits:
        found = "There is a split 'validation' already" if "validation" in splits else "There is no split 'train'"
        raise ConfigError(f"{found}; the splits are: {', '.join(splits)}.", hint="Leave out validation (--validation).")
    return {"train": "train", "validation": "train", **{name: name for name in splits if name != "train"}}


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """What was asked of a rendering, as far as it can be told to others: `tokenizer` is None where it has no name."""

    seed: int
    styles: Styles
    validation: float
    tokenizer: str | None
    wordings: str = AUTO
    pair_spans: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rendering:
    """How texts came about: from which dataset, with which settings, for which split."""

    source: Dataset | IterableDataset
    settings: RenderSettings
    rows: Callable[[Iterable[Mapping[str, Any]]], Iterator[dict[str, Any]]]


_renderings: WeakKeyDictionary[Dataset | IterableDataset, Rendering] = WeakKeyDictionary()


def rendering_of(texts: Dataset | IterableDataset) -> Rendering | None:
    """Return how `render_dataset` made these texts in this process; None for others, and for what was made of them."""
    return _renderings.get(texts)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What decides the texts of a dataset. `count` itself cannot be compared: `tokenizer` identifies it.

    `columns` are those that hold the texts and the ids.
    """

    asked: RenderSettings
    count: Count | None
    tokenizer: str
    columns: tuple[str, str] = ("text", "id")

    def fingerprint(self, source: str, split: str) -> str:
        wordings = (RENDERING_VERSION, wordings_digest(), self.asked.wordings)
        drawn = (self.asked.seed, astuple(self.asked.styles), self.tokenizer, self.asked.validation)
        renamed = () if self.columns == ("text", "id") else (self.columns,)
        spans = ("pair spans",) if self.asked.pair_spans else ()
        return str(Hasher.hash((source, split, *wordings, *drawn, *renamed, *spans)))

    def wants(self, chain: str, split: str) -> bool:
        if not self.asked.validation or split not in ("train", "validation"):
            return True
        return in_validation(chain, self.asked.validation) is (split == "validation")


def _counter(tokenizer: Any) -> Count | None:  # noqa: ANN401 - the four forms that `render_dataset` takes
    if tokenizer is None:
        return None
    if not callable(tokenizer) or hasattr(tokenizer, "encode"):
        return load_tokenizer(tokenizer).count
    return lambda texts: [int(tokenizer(text)) for text in texts]


def _identity(tokenizer: Any) -> str:  # noqa: ANN401
    if tokenizer is None:
        return ""
    counting = callable(tokenizer) and not hasattr(tokenizer, "encode")
    return str(Hasher.hash(tokenizer)) if counting else load_tokenizer(tokenizer).identity


def _name(tokenizer: Any) -> str | None:  # noqa: ANN401
    """Return what a tokenizer is known by, without the folders of this machine in it."""
    name = tokenizer if isinstance(tokenizer, str) else getattr(tokenizer, "name_or_path", None)
    return (Path(name).resolve().name if Path(name).is_dir() else name) if isinstance(name, str) and name else None


def _require_columns(ds: Dataset | IterableDataset, text_column: str) -> None:
    names = ds.column_names
    if names is None:
        return  # a stream that knows its columns only when it is read: every row is checked then
    for column in (text_column, "pairs"):
        if column not in names:
            raise missing_column(column, names)


def _rendered(ds: Dataset | IterableDataset, settings: _Settings, split: str) -> Dataset | IterableDataset:
    texts = _made(ds, settings, split)
    _renderings[texts] = Rendering(ds, settings.asked, partial(_texts, settings=settings, split=split))
    return texts


def _made(ds: Dataset | IterableDataset, settings: _Settings, split: str) -> Dataset | IterableDataset:
    features = text_features(tokens=settings.count is not None, pair_spans=settings.asked.pair_spans)
    values = {"ds": ds, "settings": settings, "split": split}
    if isinstance(ds, IterableDataset):
        return IterableDataset.from_generator(_generate, features=features, gen_kwargs=values, split=NamedSplit(split))
    if not any(_generate(ds, replace(settings, count=None), split)):
        return Dataset.from_dict({name: [] for name in features}, features=features, split=NamedSplit(split))
    try:
        return Dataset.from_generator(
            _generate,
            features=features,
            gen_kwargs=values,
            fingerprint=settings.fingerprint(fingerprint_of(ds), split),
            split=NamedSplit(split),
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, HfsynthError):
            raise error.__cause__ from None
        raise


def text_features(*, tokens: bool, pair_spans: bool = False) -> Features:
    """Return the columns of training texts; `tokens` says whether those were counted, and so with spans of pairs."""
    columns: dict[str, Any] = {"text": Value("string"), "source_ids": List(Value("string"))}
    columns |= {"shots": Value("int64"), "num_pairs": Value("int64")}
    columns |= {"style": Value("string"), "chain": Value("string"), "wordings": List(Value("string"))}
    features = Features(columns | ({"tokens": Value("int64")} if tokens else {}))
    return with_spans(features) if pair_spans else features


def _generate(ds: Dataset | IterableDataset, settings: _Settings, split: str) -> Iterator[dict[str, Any]]:
    return _texts(_read(ds, settings.columns), settings=settings, split=split)


def _texts(rows: Iterable[Mapping[str, Any]], *, settings: _Settings, split: str) -> Iterator[dict[str, Any]]:
    total = RenderCounts()

    def add(counts: RenderCounts) -> None:
        nonlocal total
        total += counts

    yield from render_rows(
        rows,
        seed=settings.asked.seed,
        styles=settings.asked.styles,
        count=settings.count,
        keep=partial(settings.wants, split=split),
        on_counts=add,
        pair_spans=settings.asked.pair_spans,
        wordings=settings.asked.wordings,
    )
    if total.left_out:
        _log.warning("Rendering left out %s.", ", ".join(f"{name}: {n}" for name, n in total.left_out.items()))


def _read(ds: Dataset | IterableDataset, columns: tuple[str, str]) -> Iterator[Mapping[str, Any]]:
    names, (text, name) = ds.column_names, columns
    plain = ds.with_format(None)
    wanted = (*_COLUMNS, text, name)
    chosen = plain if names is None else plain.select_columns([own for own in names if own in wanted])
    if columns == ("text", "id"):
        return iter(chosen)
    return ({**row, "text": row.get(text), "id": row.get(name)} for row in chosen)
