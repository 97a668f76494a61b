"""How Parquet is written: as the Hub wants it, in row groups that fit in memory, the same from the same rows."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Value
from loopback_hub.server import Hub

from hfsynth.core.records import Counts
from hfsynth.corpus import parquet
from hfsynth.corpus.parquet import RowGroupWriter, write_split
from hfsynth.job.part_writer import ShardWriter
from hfsynth.job.shards import part_path
from hfsynth.texts.export.formats import Parquet

TEXTS = [random.Random(number).randbytes(400).hex() for number in range(6000)]
SCHEMA = pa.schema({"text": pa.string()})


def as_part(folder: Path) -> Path:
    writer = ShardWriter(part_path(folder, 0), SCHEMA)
    for number, text in enumerate(TEXTS):
        writer.add(number, [{"text": text}], Counts())
    writer.finish(1.0)
    return part_path(folder, 0)


def as_texts(folder: Path) -> Path:
    return write_split(
        [{"text": text} for text in TEXTS], folder, split="train", features=Features({"text": Value("string")})
    )[0]


def as_export(folder: Path) -> Path:
    form = Parquet()
    writer = form.open([folder / "out.parquet"])
    writer.append([], form.prepare(TEXTS))
    writer.close()
    return folder / "out.parquet"


@pytest.mark.parametrize("write", [as_part, as_texts, as_export])
def test_files_are_as_the_hub_wants_them(write: Callable[[Path], Path], tmp_path: Path) -> None:
    found = pq.read_metadata(write(tmp_path))
    assert (found.num_row_groups, found.num_rows) == (1, len(TEXTS))
    column = found.row_group(0).column(0)
    assert column.has_column_index and column.has_offset_index and column.compression == "ZSTD"


@pytest.mark.parametrize("write", [as_part, as_texts])
def test_a_row_group_ends_before_it_fills_the_memory(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 2**20)
    path = write(tmp_path)
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 3
        assert [row["text"] for batch in file.iter_batches(1000) for row in batch.to_pylist()] == TEXTS


def test_no_more_than_a_row_group_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 2**20)
    with RowGroupWriter(tmp_path / "a.parquet", SCHEMA) as writer:
        for at in range(0, len(TEXTS), 100):
            writer.write(pa.table({"text": TEXTS[at : at + 100]}))
            assert writer._size < 2**20 and sum(map(len, writer._made._pieces)) < 100


SEND = """
import os, sys
from hashlib import sha256
from pathlib import Path
from huggingface_hub import HfApi
for path in sys.argv[1:]:
    HfApi().upload_file(path_or_fileobj=path, path_in_repo=Path(path).name, repo_id="user/data", repo_type="dataset")
"""


def test_a_few_changed_rows_are_few_bytes_to_send(tmp_path: Path) -> None:
    gone = {40, 41, 300, 301, 302}
    tables = [TEXTS, [text for number, text in enumerate(TEXTS) if number not in gone]]
    with Hub(xet=True) as hub:
        hub.store.create("dataset", "user/data")
        env, sent = hub.env(tmp_path), [0]
        for name, texts in zip(("old.parquet", "new.parquet"), tables, strict=True):
            with RowGroupWriter(tmp_path / name, SCHEMA) as writer:
                for at in range(0, len(texts), 1000):
                    writer.write(pa.table({"text": texts[at : at + 1000]}))
            hub.run([sys.executable, "-c", SEND, str(tmp_path / name)], env)
            sent.append(sum(len(hub.api.xet.xorbs[xorb]) for xorb in hub.sent))
    size = (tmp_path / "new.parquet").stat().st_size
    assert sent[1] >= 0.9 * size and sent[2] - sent[1] < 0.5 * size


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    first, again = as_part(tmp_path / "a").read_bytes(), as_part(tmp_path / "b").read_bytes()
    assert sha256(first).digest() == sha256(again).digest()


FULL = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from hfsynth.corpus import parquet as parquet_files
from hfsynth.corpus.parquet import RowGroupWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with RowGroupWriter(Path(sys.argv[1]), pa.schema({"text": pa.string()})) as writer:
        import random
        writer.write(pa.table({"text": [random.Random(n).randbytes(500).hex() for n in range(4000)]}))
except OSError as error:
    print("full", error.errno)
"""


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    """Arrow aborts where a page cannot be written to a file."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "a.parquet")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("full")
