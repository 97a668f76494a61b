"""Lines without end, and web servers that give files only whole."""

from __future__ import annotations

import csv
import gzip
import json
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import SourceError
from hfsynth.documents import readers
from hfsynth.documents.readers import UNREAD, BadRow
from hfsynth.documents.source import Source, open_source
from hfsynth.job.run import synthesize

LIMIT = 2**20


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LONGEST", LIMIT)


def line(name: str, length: int) -> bytes:
    return json.dumps({"id": name, "text": "word " * (length // 5)}).encode() + b"\n"


def write_jsonl(folder: Path, length: int) -> Path:
    path = folder / "a.jsonl"
    path.write_bytes(line("one", 100) + line("long", length) + line("three", 100))
    return path


def write_gz(folder: Path, length: int) -> Path:
    path = folder / "a.jsonl.gz"
    path.write_bytes(gzip.compress(write_jsonl(folder, length).read_bytes()))
    return path


def write_texts(folder: Path, length: int) -> Path:
    for name, size in (("one", 100), ("two", length), ("zzz", 100)):
        (folder / f"{name}.txt").write_text("word " * (size // 5))
    return folder


def write_parquet(folder: Path, length: int) -> Path:
    rows = [{"id": f"d{n}", "text": "word " * (size // 5)} for n, size in enumerate((100, length, 100))]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    return folder / "a.parquet"


def write_saved(folder: Path, length: int) -> Path:
    Dataset.from_parquet(str(write_parquet(folder, length))).save_to_disk(folder / "saved")
    return folder / "saved"


def work(source: Path | str, out: Path) -> dict[str, Any]:
    script = SynthesizerConfig("scripted", shots=2, long_documents="split")
    engine = EngineConfig("scripted", {})
    return dict(synthesize(Source(str(source)), out, script, engine=engine, shard_rows=2).stats)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("write", [write_jsonl, write_gz, write_texts, write_parquet, write_saved])
def test_a_text_beyond_the_limit_is_too_long_and_all_others_are_done(
    write: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    found = work(write(tmp_path / "source", LIMIT + 100), tmp_path / "out")
    assert (found["total_documents"], found["documents"]["too_long"], found["documents"]["ok"]) == (3, 1, 2)
    rows = [row for part in sorted((tmp_path / "out" / "pairs").iterdir()) for row in pq.read_table(part).to_pylist()]
    long = rows[1]
    assert long["text"] is None and long["synthesis"]["status"] == "too_long"
    assert "longer than 1,048,576 bytes" in long["synthesis"]["rejected"][0]["text"]
    assert len({row["id"] for row in rows}) == 3


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("write", [write_jsonl, write_gz, write_texts])
def test_what_is_beyond_the_limit_takes_no_memory(write: Callable[[Path, int], Path], tmp_path: Path) -> None:
    source = open_source(Source(str(write(tmp_path, 16 * LIMIT))))
    tracemalloc.start()
    try:
        found = list(source.read())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [UNREAD in row for row in found if not isinstance(row, BadRow)] == [False, True, False]
    assert peak < 3 * LIMIT


CELLS = st.text(st.sampled_from('a",\n '), max_size=12)


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), quoting=st.sampled_from([0, 1]))
def test_rows_of_csv_beyond_the_limit_are_passed_over_and_all_others_read(
    rows: list[tuple[str, str]], quoting: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, sizes = tmp_path_factory.mktemp("csv") / "a.csv", []
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=quoting)
        writer.writerow(["text", "b"])
        for row in rows:
            before = file.tell()
            writer.writerow(row)
            sizes.append(file.tell() - before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "LONGEST", 12)
        patch.setattr("hfsynth.documents.csv_rows._PIECE", 3)
        source = open_source(Source(str(path)))
        found = list(source.read())
        assert source.count() == len(found) == len(rows)
    for row, size, read in zip(rows, sizes, found, strict=True):
        assert not isinstance(read, BadRow)
        assert (UNREAD in read) == (size > 12)
        assert UNREAD in read or (read["text"], read["b"]) == row


@pytest.mark.usefixtures("small_limit")
def test_a_row_of_csv_that_is_too_long_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long = '"' + 'a ""word"", and\n' * (LIMIT // 8) + '"'
    path.write_text("id,text\n1,a\n2," + "word " * (LIMIT // 4) + f"\n3,c\n4,{long}\n5,e\n")
    found = work(path, tmp_path / "out")
    assert (found["documents"]["ok"], found["documents"]["too_long"], found["unreadable"]) == (3, 2, 0)
    path.write_text("id,text\n1,a\n2," + '"word ' * (LIMIT // 4) + "\n3,c\n")
    rows = list(open_source(Source(str(path))).read())
    assert len(rows) == 2 and isinstance(rows[1], BadRow)
    assert "a.csv, line 3 and what follows are no CSV" in rows[1].error.message


# --- web servers


class WholeOnly(SimpleHTTPRequestHandler):
    """Give files as `python -m http.server` does: whole, whatever part was asked for."""

    breaks = False

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def copyfile(self, source: Any, outputfile: Any) -> None:  # noqa: ANN401
        if type(self).breaks:
            outputfile.write(source.read(2**20))
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            super().copyfile(source, outputfile)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(WholeOnly, directory=str(tmp_path / "web")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
    WholeOnly.breaks = False


def test_a_server_that_gives_files_only_whole_is_a_source(web: str, tmp_path: Path) -> None:
    rows = [{"id": f"d{n}", "text": f"Text {n}. " + "word " * 2000} for n in range(700)]
    (tmp_path / "web" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(Source(f"{web}/a.jsonl"))
    assert [row["id"] for row in source.rows(600, 700)] == [f"d{n}" for n in range(600, 700)]
    assert [row["id"] for row in source.rows(0, 700)] == [f"d{n}" for n in range(700)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "web" / "a.parquet", row_group_size=100, compression="none")
    parquet = open_source(Source(f"{web}/a.parquet"))
    assert [row["id"] for row in parquet.rows(650, 652)] == ["d650", "d651"]
    (tmp_path / "web" / "b.jsonl").write_text("".join(json.dumps({"text": f"Text {n}."}) + "\n" for n in range(70)))
    assert work(f"{web}/b.jsonl", tmp_path / "out")["total_documents"] == 70


def test_a_file_that_breaks_off_on_the_way_is_named(web: str, tmp_path: Path) -> None:
    (tmp_path / "web" / "a.jsonl").write_text('{"text": "word"}\n' * 400_000)
    WholeOnly.breaks = True
    with pytest.raises(SourceError, match=r"a.jsonl cannot be read"):
        open_source(Source(f"{web}/a.jsonl"))
