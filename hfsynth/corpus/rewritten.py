"""The config `rewritten`: the texts that a prompt recipe had the model write anew, a row each, beside the pairs.

It is made of the pairs, whose `synthesis.rewritten` holds the texts, and can be made of them again at any time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
from datasets import Features, Value

from hfsynth.core.files import sync_folder, writing
from hfsynth.core.records import Status
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.parquet import ROWS_AT_A_TIME, file_record, write_split

FEATURES = Features({"id": Value("string"), "text": Value("string"), "prompt": Value("string")})
_FOLDER = "rewritten"


Opened = Callable[[Path], Path | BinaryIO]


def write_rewritten(corpus: Corpus, *, opened: Opened = lambda path: path) -> dict[str, dict[str, Any]]:
    """Write the texts that are in the pairs into `rewritten/`, in constant memory; return their manifest records.

    What was there is replaced as a whole. Where there are no such texts there is no such folder. `opened` returns what
    is read for a file of pairs, where that lies elsewhere.
    """
    staged = corpus.journal / f"{_FOLDER}.new"
    shutil.rmtree(staged, ignore_errors=True)
    for split in sorted({path.name.partition("-")[0] for path in corpus.pairs.glob("*.parquet")}):
        if any(_texts(corpus, split, opened)):
            write_split(_texts(corpus, split, opened), staged, split=split, features=FEATURES)
    with writing(corpus.rewritten):
        shutil.rmtree(corpus.rewritten, ignore_errors=True)
        if staged.exists():
            os.replace(staged, corpus.rewritten)
            sync_folder(corpus.root)
    return {f"{_FOLDER}/{path.name}": file_record(path) for path in sorted(corpus.rewritten.glob("*.parquet"))}


def _texts(corpus: Corpus, split: str, opened: Opened) -> Iterator[dict[str, Any]]:
    for path in sorted(corpus.pairs.glob(f"{split}-*.parquet")):
        yield from _texts_of(opened(path))


def _texts_of(path: Path | BinaryIO) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        synthesis = file.schema_arrow.field("synthesis").type
        if synthesis.get_field_index("rewritten") < 0:
            return
        columns = [name for name in ("id", "synthesis") if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=columns):
            for row in batch.to_pylist():
                own = row["synthesis"]
                if own["rewritten"] is not None and own["status"] != Status.SCREENED:
                    name = row.get("id")
                    yield {"id": name if name is None else str(name), "text": own["rewritten"], "prompt": own["prompt"]}
