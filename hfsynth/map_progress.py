"""What a running `map` has made so far, told by its processes through small files, and shown with its rates.

Knows nothing of engines or documents.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets.utils import are_progress_bars_disabled
from datasets.utils import tqdm as hf_tqdm

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
def shown(rows: int | None) -> Iterator[Tally | None]:
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
