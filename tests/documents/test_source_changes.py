"""Sources that change while a job reads them: nothing of the change gets in, and nothing is published."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from jobs import command, ended, parts, scripted, start, until
from scripts import quoting, shown_documents

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import SourceError
from hfsynth.core.files import write_json
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.source import Source, open_source
from hfsynth.job.claims import Claims
from hfsynth.job.folder_site import FolderSite
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leases import Holder, Leases
from hfsynth.job.run import synthesize
from hfsynth.job.shards import part_path, read_extent, write_extent

NUMBER = int(os.environ.get("HFSYNTH_TEST_DOCUMENTS", "160"))
PAD = "word " * 400  # more than what is read of a file at once lies between two documents that are far apart
Rows = list[dict[str, Any]]


def rows(number: int = NUMBER, word: str = "first") -> Rows:
    return [{"id": f"d{n}", "text": f"Text {n:04} of the {word} kind. {PAD}"} for n in range(number)]


def lines(found: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in found)


def write_jsonl(folder: Path, found: Rows) -> str:
    (folder / "rows.jsonl").write_bytes(lines(found))
    return str(folder / "rows.jsonl")


def write_glob(folder: Path, found: Rows) -> str:
    for number in range(3):
        (folder / f"rows-{number}.jsonl").write_bytes(lines(found[number::3]))
    return str(folder / "rows-*.jsonl")


def write_gz(folder: Path, found: Rows) -> str:
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines(found), compresslevel=0))
    return str(folder / "rows.jsonl.gz")


def write_csv(folder: Path, found: Rows) -> str:
    with (folder / "rows.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "text"])
        writer.writeheader()
        writer.writerows(found)
    return str(folder / "rows.csv")


def write_parquet(folder: Path, found: Rows) -> str:
    table = pa.Table.from_pylist(found)
    pq.write_table(table, folder / "rows.parquet", row_group_size=20, compression="none", use_dictionary=False)
    return str(folder / "rows.parquet")


def write_texts(folder: Path, found: Rows) -> str:
    for number, row in enumerate(found):
        (folder / f"{number:04}.txt").write_text(row["text"])
    return str(folder)


def write_saved(folder: Path, found: Rows) -> str:
    Dataset.from_list(found).save_to_disk(folder / "saved")
    return str(folder / "saved")


WRITERS = [write_jsonl, write_glob, write_gz, write_csv, write_parquet, write_texts, write_saved]
Write = Callable[[Path, Rows], str]


def files(folder: Path) -> list[Path]:
    """Return the files that hold a source's rows; a saved dataset's others only describe it."""
    kept = {".json"}
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in kept)


def edit_in_place(folder: Path) -> None:
    """Write other letters into every file, as long as the old ones, and set its time back."""
    for path in files(folder):
        before = path.stat()
        with path.open("rb+") as stream:
            content = stream.read().replace(b"first kind", b"other kind")
            stream.seek(0)
            stream.write(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def move_shorter_over(folder: Path) -> None:
    for path in files(folder):
        shorter = path.with_name(".shorter")
        shorter.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        shorter.replace(path)


def remove(folder: Path) -> None:
    for path in files(folder):
        path.unlink()


def append(folder: Path) -> None:
    last = files(folder)[-1]
    with last.open("ab") as stream:
        stream.write(last.read_bytes()[-2500:])


CHANGES = [edit_in_place, move_shorter_over, remove, append]


class AtDocument:
    """A script that does something once, when it is asked about a document."""

    def __init__(self) -> None:
        self.then: Callable[[], None] | None = None

    def __call__(self, prompt: str) -> str:
        if self.then is not None and "Text 0010" in shown_documents(prompt)[-1]:
            then, self.then = self.then, None
            then()
        return quoting(prompt)


at_document = AtDocument()


@pytest.fixture(autouse=True)
def nothing_happens() -> Iterator[None]:
    yield
    at_document.then = None


def work(location: str, out: Path, **settings: Any) -> None:  # noqa: ANN401
    script = SynthesizerConfig("test_source_changes:at_document", shots=2, window=65_536)
    engine = EngineConfig("scripted", {"max_in_flight": 4})
    synthesize(Source(location), out, script, engine=engine, shard_rows=50, **settings)


def copy_of(folder: Path) -> Path:
    """Keep a folder as it is, times and all."""
    return Path(shutil.copytree(folder, folder.with_name("kept")))


def bring_back(folder: Path, kept: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("write", WRITERS)
def test_a_source_that_changes_stops_the_job_and_nothing_is_published(
    write: Write, change: Callable[[Path], None], tmp_path: Path
) -> None:
    folder, out, undisturbed = tmp_path / "source", tmp_path / "out", tmp_path / "undisturbed"
    folder.mkdir()
    location = write(folder, rows())
    kept = copy_of(folder)
    at_document.then = lambda: change(folder)
    with pytest.raises(SourceError, match="has changed since") as caught:
        work(location, out)
    assert "Nothing is published" in caught.value.hint
    assert not (out / "pairs").exists() and not (out / "stats.json").exists()
    bring_back(folder, kept)
    work(location, out)
    work(location, undisturbed)
    assert parts(out) == parts(undisturbed)


@pytest.mark.parametrize("write", WRITERS)
def test_a_source_that_is_touched_or_copied_over_with_the_same_content_has_not_changed(
    write: Write, tmp_path: Path
) -> None:
    folder, out = tmp_path / "source", tmp_path / "out"
    folder.mkdir()
    location = write(folder, rows(80))

    def renew() -> None:
        for path in files(folder):
            copy = path.with_name(".copy")
            shutil.copyfile(path, copy)
            copy.replace(path)

    at_document.then = renew
    work(location, out)
    assert at_document.then is None
    assert sum(pq.read_metadata(path).num_rows for path in (out / "pairs").iterdir()) == 80


@pytest.mark.parametrize("write", [write_glob, write_texts])
def test_a_new_file_in_the_source_is_seen_before_publishing(write: Write, tmp_path: Path) -> None:
    folder, out = tmp_path / "source", tmp_path / "out"
    folder.mkdir()
    location = write(folder, rows(80))
    new = folder / f"rows-9{files(folder)[0].suffix}"
    at_document.then = lambda: shutil.copyfile(files(folder)[0], new) and None
    with pytest.raises(SourceError, match=r"rows-9.* is new"):
        work(location, out)
    assert not (out / "pairs").exists()
    new.unlink()
    work(location, out)
    assert (out / "pairs").exists()


@pytest.mark.parametrize("write", WRITERS)
def test_no_row_of_a_changed_file_is_ever_seen(write: Write, tmp_path: Path) -> None:
    location = write(tmp_path, rows(1200))
    source = open_source(Source(location))
    seen: list[str] = []

    def read() -> None:
        for number, row in enumerate(source.rows()):
            seen.append(row["text"])
            if number == 5:
                edit_in_place(tmp_path)

    if write is write_parquet:  # of which Arrow may have read ahead to the end
        with suppress(SourceError):
            read()
    else:
        with pytest.raises(SourceError, match="has changed since"):
            read()
    assert all("of the first kind" in text for text in seen)
    with pytest.raises(SourceError, match="has changed since"):
        source.require_unchanged()


def test_a_file_behind_a_url_that_changes_is_seen_after_each_shard(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/rows.jsonl"

    def write(found: Rows) -> None:
        with fsspec.open(url, "wb") as stream:
            stream.write(lines(found))

    write(rows(80))
    source = open_source(Source(url))
    assert len(list(source.rows(0, 20))) == 20
    write(rows(80, "other"))
    with pytest.raises(SourceError, match="has changed since"):
        list(source.rows(20, 40))
    with pytest.raises(SourceError, match="has changed since"):
        source.require_unchanged()


def test_a_shorter_file_moved_over_the_source_of_two_workers(tmp_path: Path) -> None:
    folder, out = tmp_path / "source", tmp_path / "out"
    folder.mkdir()
    location = write_jsonl(folder, rows())
    options = (*scripted(latency=0.02), "--shots", 2, "--shard-rows", 20, "--workers", 2)
    process = start(command(location, out, *options))
    assert until(lambda: list((out / ".hfsynth" / "parts").glob("*.json")), process)
    move_shorter_over(folder)
    code, _, errors = ended(process)
    assert code == 2 and "rows.jsonl" in errors and "has changed since" in errors  # who opens it anew says it otherwise
    assert not (out / "pairs").exists()


def claims(corpus: Corpus) -> Claims:
    return Claims(FolderSite(corpus.root), Leases(corpus.journal / "leases", Holder.this_process()), 10)


def test_a_length_that_was_counted_never_changes(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    write_extent(corpus, 35, 10, exact=True)
    with pytest.raises(SourceError, match="had 35 rows, and has 24"):
        claims(corpus).has_read(2, 4)
    with pytest.raises(SourceError, match="had 35 rows, and has 36"):
        write_extent(corpus, 36, 10, exact=True)
    claims(corpus).has_read(3, 5)
    found = read_extent(corpus)
    assert found is not None and found["rows"] == 35


def test_a_stream_does_not_end_before_what_was_read_of_it(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.parts.mkdir(parents=True)
    part_path(corpus.parts, 4).with_suffix(".json").write_text("{}")
    with pytest.raises(SourceError, match="shard 4 was read, and now it ends in shard 2"):
        claims(corpus).has_read(2, 7)


def test_a_stream_that_ends_early_is_read_on_by_the_next_call(tmp_path: Path) -> None:
    """The source stays a file here; its length is taken for a stream's, which is declared and not counted."""
    folder, out = tmp_path / "source", tmp_path / "out"
    folder.mkdir()
    location = write_jsonl(folder, rows(80))
    url = f"memory://{tmp_path.name}/rows.jsonl"
    fsspec.filesystem("memory").put_file(location, url)
    journal = JournalPaths(Corpus(out).journal)
    at_document.then = lambda: write_json(journal.expectation, {"rows": 90})
    with pytest.raises(SourceError, match="ended after 80 rows, and declares 90"):
        work(url, out)
    assert not (out / "pairs").exists()
    journal.expectation.unlink()
    work(url, out)
    work(url, tmp_path / "undisturbed")
    assert parts(out) == parts(tmp_path / "undisturbed")
