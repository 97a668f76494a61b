"""The Parquet files of one folder while it is described and published: each footer is read once, however many ask.

Good for as long as nobody writes into the folder, which is one card or one push.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hfsynth.core.store_paths import AnyPath
from hfsynth.corpus.manifest import damaged_parquet
from hfsynth.corpus.parquet import footer, parquet_file


class CorpusFiles:
    """Files of the folder `root`, by their paths in it."""

    def __init__(self, root: AnyPath) -> None:
        self.root = root
        self._footers: dict[str, Any] = {}

    def footer(self, path: str) -> Any:  # noqa: ANN401 (pyarrow's FileMetaData has no annotations)
        """Return a Parquet file's footer; raise OutputError where it is damaged."""
        if path not in self._footers:
            self._footers[path] = footer(self.root / path)
        return self._footers[path]

    @contextmanager
    def opened(self, path: str) -> Iterator[pq.ParquetFile]:
        """Lend a Parquet file to read rows from; raise OutputError where it is damaged."""
        try:
            with parquet_file(self.root / path, self.footer(path)) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise damaged_parquet(self.root / path) from error
