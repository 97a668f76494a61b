"""`datasets.map` over a whole dataset, a stream or a dict of splits, with shards that no chain crosses.

What a running `map` has made so far is told by its processes through small files, and shown with its rates. Knows
nothing of engines, and of the transform only that it takes whole chains.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, Features, IterableDataset, concatenate_datasets
from datasets.utils import are_progress_bars_disabled
from datasets.utils import tqdm as hf_tqdm

from hfsynth.core.errors import ConfigError
from hfsynth.documents.dataset_splits import AnyDataset, Rows, dict_of, splits_of

_NUMBERS = struct.Struct("3q")
_EVERY = 0.5
_counted: dict[tuple[int, str], list[int]] = {}
"""What this process has counted for each tally; the process id, for a forked child finds its parent's numbers here."""


@dataclass(frozen=True, slots=True)
class Tally:
    """A folder in which every process keeps a file with its documents, pairs and tokens so far."""

    folder: str

    def add(self, documents: int, pairs: int, tokens: int) -> None:
        """Add to this process's numbers."""
        numbers = _counted.setdefault((os.getpid(), self.folder), [0, 0, 0])
        for place, number in enumerate((documents, pairs, tokens)):
            numbers[place] += number
        file = os.open(Path(self.folder) / str(os.getpid()), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, _NUMBERS.pack(*numbers), 0)
        finally:
            os.close(file)

    def total(self) -> tuple[int, int, int]:
        """Return documents, pairs and tokens of all processes."""
        parts = [path.read_bytes() for path in Path(self.folder).iterdir()]
        found = [_NUMBERS.unpack(part) for part in parts if len(part) == _NUMBERS.size]
        documents, pairs, tokens = (sum(numbers) for numbers in zip(*found, strict=True)) if found else (0, 0, 0)
        return documents, pairs, tokens


@contextmanager
def shown_progress(rows: int | None) -> Iterator[Tally | None]:
    """Lend a tally and show it as a bar of `rows` documents; none where the bars of `datasets` are switched off.

    The bar comes with the first document: what `datasets` finds in its cache shows none.
    """
    if are_progress_bars_disabled():
        yield None
        return
    with TemporaryDirectory(prefix="hfsynth-") as folder:
        tally, ended = Tally(folder), threading.Event()
        thread = threading.Thread(target=_show, args=(tally, rows, ended), name="hfsynth-bar", daemon=True)
        thread.start()
        try:
            yield tally
        finally:
            ended.set()
            thread.join()
            _counted.pop((os.getpid(), folder), None)


def _show(tally: Tally, rows: int | None, ended: threading.Event) -> None:
    started, bar = time.monotonic(), None
    last = False
    while not last:
        last = ended.wait(_EVERY)
        documents, pairs, tokens = tally.total()
        if documents and bar is None:
            bar = hf_tqdm(total=rows, unit=" documents", desc="Synthesize")
        if bar is not None:
            _update(bar, documents, rates(pairs, tokens, time.monotonic() - started))
    if bar is not None:
        bar.close()


def _update(bar: Any, documents: int, said: str) -> None:  # noqa: ANN401
    bar.set_postfix_str(said, refresh=False)
    bar.update(documents - bar.n)


def rates(pairs: int, tokens: int, seconds: float) -> str:
    """Return how many pairs there are, and pairs and tokens a second."""
    over = max(seconds, 1e-3)
    return f"{pairs:,} pairs, {pairs / over:,.1f} pairs/s, {tokens / over:,.0f} tokens/s"


BATCH_ROWS = 2048


@dataclass(frozen=True, slots=True)
class MapSettings:
    """How a dataset is mapped: rows a batch (a multiple of the shots), processes, and what `Dataset.map` is given."""

    shots: int
    batch_size: int
    num_proc: int | None
    options: Mapping[str, Any]

    @classmethod
    def of(cls, shots: int, batch_size: int | None, num_proc: int | None, options: Mapping[str, Any]) -> MapSettings:
        """Check what was asked; raise ConfigError for what cannot work."""
        size = -(-BATCH_ROWS // shots) * shots if batch_size is None else batch_size
        if size < 1 or size % shots:
            raise ConfigError(
                f"A batch of {size} rows is no multiple of {shots} shots.", hint=f"Use batch_size={1024 * shots}."
            )
        if num_proc is not None and num_proc < 1:
            raise ConfigError(f"num_proc must be 1 or more, not {num_proc}.", hint="Leave it out for this process.")
        return cls(shots, size, num_proc, {name: value for name, value in options.items() if value is not None})

    def head(self, rows: int) -> int:
        """Return how many rows the processes share out: as many whole chains each, as nearly all as that allows."""
        together = self.shots * (self.num_proc or 1)
        return rows - rows % together


def map_splits(
    ds: AnyDataset, transform: Callable[..., Any], features: Callable[[Features | None], Features], asked: MapSettings
) -> Any:  # noqa: ANN401 - a dataset for a dataset, a dict for a dict, a stream for a stream
    """Map every split on its own: a chain never crosses one."""
    splits = splits_of(ds, what="what is mapped")
    made = {name: _mapped(rows, transform, features, asked) for name, rows in splits.items()}
    return dict_of(made) if isinstance(ds, Mapping) else next(iter(made.values()))


def _mapped(
    rows: Rows, transform: Callable[..., Any], features: Callable[[Features | None], Features], asked: MapSettings
) -> Rows:
    options = {"batched": True, "batch_size": asked.batch_size, **asked.options}
    if isinstance(rows, IterableDataset):
        if asked.num_proc is not None:
            raise ConfigError("A stream is mapped in the process that reads it.", hint="Leave num_proc out.")
        known = {} if rows.features is None else {"features": _kept(features(rows.features), asked)}
        return rows.map(transform, **_of_streams(options), **known)
    if not len(rows):
        return _empty(_kept(features(rows.features), asked), rows)
    head = asked.head(len(rows))
    if asked.num_proc is None or not head:
        return rows.map(transform, **options)
    together = rows.select(range(head)).map(transform, num_proc=asked.num_proc, **options)
    if head == len(rows):
        return together
    # A process of its own for the rest: an engine in this one would hold the memory that the next map's need.
    rest = rows.select(range(head, len(rows))).map(transform, num_proc=1, **options)
    return concatenate_datasets([together, rest], split=rows.split)


def _kept(features: Features, asked: MapSettings) -> Features:
    removed = asked.options.get("remove_columns") or ()
    gone = {removed} if isinstance(removed, str) else set(removed)
    return Features({name: kind for name, kind in features.items() if name not in gone})


def _of_streams(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `IterableDataset.map` takes too: it has no cache."""
    return {name: value for name, value in options.items() if name not in ("load_from_cache_file", "desc")}


def _empty(features: Features, rows: Dataset) -> Dataset:
    """Return no rows with the columns of the result: `Dataset.map` would leave the input's."""
    return Dataset.from_dict({name: [] for name in features}, features=features, split=rows.split)
