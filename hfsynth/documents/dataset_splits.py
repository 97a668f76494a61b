"""What people hand over as a dataset: one, a stream, or a dict of either; here always splits by name.

Knows nothing of what is in the rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from hfsynth.core.errors import ColumnError, SourceError

Rows: TypeAlias = Dataset | IterableDataset
AnyDataset: TypeAlias = Dataset | DatasetDict | IterableDataset | IterableDatasetDict | Mapping[str, Rows]

_SPLIT = re.compile(r"\w+(?:\.\w+)*")


def splits_of(data: AnyDataset, *, what: str) -> dict[str, Rows]:
    """Return the splits of `data` by name, in order; `what` names them in errors.

    A single dataset is the split that it says it is, `train` where it does not. Raise SourceError for anything else
    than datasets, and for a name that no split can have.
    """
    if isinstance(data, Dataset | IterableDataset):
        return {split_name(data): data}
    if not isinstance(data, Mapping) or not data:
        raise SourceError(
            f"{what} must be a Dataset, an IterableDataset or a dict of them; got {_named(data)}.",
            hint="Give what load_dataset or ds.map returned.",
        )
    for name, rows in data.items():
        if not isinstance(rows, Dataset | IterableDataset):
            raise SourceError(
                f"{what}[{name!r}] must be a dataset; got {_named(rows)}.", hint="Give one for each split."
            )
        if not _SPLIT.fullmatch(str(name)):
            raise SourceError(f"{name!r} cannot be the name of a split.", hint="Use letters, digits, underscores.")
    return {str(name): rows for name, rows in data.items()}


def dict_of(splits: Mapping[str, Rows]) -> DatasetDict | IterableDatasetDict:
    """Return splits as the dict of `datasets`."""
    streams = any(isinstance(rows, IterableDataset) for rows in splits.values())
    return IterableDatasetDict(splits) if streams else DatasetDict(splits)


def split_name(rows: Rows) -> str:
    """Return the name of the split that a dataset is; `train` for a part of one, and for one without a name."""
    name = str(rows.split) if rows.split is not None else "train"
    return name if _SPLIT.fullmatch(name) else "train"


def is_streamed(data: AnyDataset) -> bool:
    """Tell whether one of the datasets is a stream."""
    return any(isinstance(rows, IterableDataset) for rows in splits_of(data, what="the data").values())


def known_rows(data: AnyDataset) -> int | None:
    """Return how many rows all splits have; None where one is a stream."""
    splits = splits_of(data, what="the data").values()
    counted = [len(rows) for rows in splits if isinstance(rows, Dataset)]
    return sum(counted) if len(counted) == len(splits) else None


def require_same_columns(splits: Mapping[str, Rows], *, what: str) -> None:
    """Raise ColumnError where two splits have other columns or types; streams that name none are checked when read."""
    known = [(name, rows.features) for name, rows in splits.items() if rows.features is not None]
    for name, features in known[1:]:
        first, expected = known[0]
        differing = sorted(column for column in {*expected, *features} if expected.get(column) != features.get(column))
        if differing:
            raise ColumnError(
                f"The splits {first!r} and {name!r} of {what} differ in the columns {', '.join(differing)}.",
                hint="Give every split the same columns and types, with remove_columns and cast.",
            )


def _named(data: object) -> str:
    return "an empty dict" if isinstance(data, Mapping) and not data else type(data).__name__
