"""Render a dataset: `render_rows` on top of `datasets`, with its cache and its streams.

Knows nothing of wordings, files of a corpus, models or the Hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, List, Value
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher

from hfsynth.errors import ConfigError, HfsynthError
from hfsynth.patterns import catalogue
from hfsynth.styles import RENDERING_VERSION, Styles
from hfsynth.token_counting import TextTokenizer, load_tokenizer
from hfsynth.training_texts import Count, RenderCounts, in_validation, missing_column, render_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["RenderCounts", "Styles", "in_validation", "render", "render_rows"]

_COLUMNS = ("text", "id", "pairs", "synthesis")

_log = logging.getLogger(__name__)


def render(
    ds: Dataset | IterableDataset,
    *,
    seed: int,
    tokenizer: str | PreTrainedTokenizerBase | TextTokenizer | Callable[[str], int] | None = None,
    styles: Mapping[str, float] | Styles | None = None,
    validation: float = 0.0,
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """Turn a synthesized dataset into training texts, one for each run of documents that follow one another.

    Columns in: `text`, `pairs`, and where there are `id` and `synthesis`. Without `synthesis` every document is a chain
    of its own. Columns out: `text`, `source_ids`, `shots`, `num_pairs`, `style`, `chain`, and `tokens` (without
    BOS and EOS) when a tokenizer is given: a Hub id, a fast tokenizer, or a function that counts.

    A document without pairs stands alone, once; one without text gives none. The same seed gives the same texts, and a
    second call reads them from the cache of `datasets`. `styles` are weights by name (see `Styles`). With `validation`,
    that share of the chains goes to a split of its own, by a hash of the chain, whatever the seed.

    Raises ColumnError where a column is missing or of the wrong type, ConfigError for styles or shares that cannot
    work.
    """
    _require_columns(ds)
    if not 0 <= validation < 1:
        raise ConfigError(f"validation must be a share from 0 to below 1, not {validation!r}.")
    settings = _Settings(seed, Styles.of(styles), _counter(tokenizer), _identity(tokenizer), float(validation))
    if not validation:
        return _rendered(ds, settings, "train")
    splits = {split: _rendered(ds, settings, split) for split in ("train", "validation")}
    return IterableDatasetDict(splits) if isinstance(ds, IterableDataset) else DatasetDict(splits)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What decides the texts of a dataset. `count` itself cannot be compared: `tokenizer` names it."""

    seed: int
    styles: Styles
    count: Count | None
    tokenizer: str
    validation: float

    def fingerprint(self, source: str, split: str) -> str:
        wordings = (RENDERING_VERSION, catalogue().digest)
        drawn = (self.seed, astuple(self.styles), self.tokenizer, self.validation)
        return str(Hasher.hash((source, split, *wordings, *drawn)))


def _counter(tokenizer: Any) -> Count | None:  # noqa: ANN401 - the four forms that `render` takes
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


def _require_columns(ds: Dataset | IterableDataset) -> None:
    names = ds.column_names
    if names is None:
        return  # a stream that knows its columns only when it is read: every row is checked then
    for column in ("text", "pairs"):
        if column not in names:
            raise missing_column(column, names)


def _rendered(ds: Dataset | IterableDataset, settings: _Settings, split: str) -> Dataset | IterableDataset:
    values = {"ds": ds, "settings": settings, "split": split}
    if isinstance(ds, Dataset) and not any(_generate(ds, replace(settings, count=None), split)):
        return Dataset.from_dict(
            {name: [] for name in text_features(tokens=settings.count is not None)},
            features=text_features(tokens=settings.count is not None),
        )
    if isinstance(ds, IterableDataset):
        return IterableDataset.from_generator(
            _generate, features=text_features(tokens=settings.count is not None), gen_kwargs=values
        )
    fingerprint = settings.fingerprint(ds._fingerprint, split)
    try:
        return Dataset.from_generator(
            _generate,
            features=text_features(tokens=settings.count is not None),
            gen_kwargs=values,
            fingerprint=fingerprint,
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, HfsynthError):
            raise error.__cause__ from None
        raise


def text_features(*, tokens: bool) -> Features:
    """Return the columns of training texts; `tokens` says whether those were counted."""
    columns: dict[str, Any] = {"text": Value("string"), "source_ids": List(Value("string"))}
    columns |= {"shots": Value("int64"), "num_pairs": Value("int64")}
    columns |= {"style": Value("string"), "chain": Value("string")}
    return Features(columns | ({"tokens": Value("int64")} if tokens else {}))


def _generate(ds: Dataset | IterableDataset, settings: _Settings, split: str) -> Iterator[dict[str, Any]]:
    total = RenderCounts()

    def add(counts: RenderCounts) -> None:
        nonlocal total
        total += counts

    def wanted(chain: str) -> bool:
        return in_validation(chain, settings.validation) is (split == "validation")

    yield from render_rows(
        _read(ds), seed=settings.seed, styles=settings.styles, count=settings.count, keep=wanted, on_counts=add
    )
    if total.left_out:
        _log.warning("Rendering left out %s.", ", ".join(f"{name}: {n}" for name, n in total.left_out.items()))


def _read(ds: Dataset | IterableDataset) -> Iterator[Mapping[str, Any]]:
    names = ds.column_names
    plain = ds.with_format(None)
    return iter(plain if names is None else plain.select_columns([name for name in _COLUMNS if name in names]))
