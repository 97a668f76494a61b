"""Rows that cannot be read hold nothing up, and a source that was mended or has grown is gone on with."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from jobs import command, ended, parts, scripted, start, stats
from scripts import quoting, shown_documents

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import OutputError, UnreadableRowsError
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.readers import SAMPLE_ROWS, BadRow
from hfsynth.documents.source import Source, open_source
from hfsynth.job import changed_source
from hfsynth.job.leases import Holder, Leases
from hfsynth.job.run import JobResult, synthesize

asked: list[str] = []


def noted(prompt: str) -> str:
    """Quote, and remember what was asked about."""
    asked.append(shown_documents(prompt)[-1])
    return quoting(prompt)


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    asked.clear()


def lines(number: int, *, first: int = 0) -> list[str]:
    return [json.dumps({"id": f"d{n}", "text": f"Text {n:04} says little."}) for n in range(first, number)]


def write(path: Path, found: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in found))
    return path


def broken(path: Path, number: int = 60, *, at: int = 30) -> Path:
    found = lines(number)
    found[at] = '{"id": "d30", "text": "Text 0030 sa'
    return write(path, found)


def work(source: Path, out: Path, **settings: Any) -> JobResult:  # noqa: ANN401
    script = SynthesizerConfig("test_bad_rows:noted", shots=3)
    engine = EngineConfig("scripted", {"max_in_flight": 4})
    return synthesize(Source(str(source)), out, script, engine=engine, shard_rows=12, **settings)


def pairs(out: Path) -> Any:  # noqa: ANN401
    return load_dataset(str(out), "pairs", split="train", cache_dir=str(out.with_name("cache")))


# --- rows that cannot be read


def test_a_broken_row_stops_the_job_when_everything_else_is_done(tmp_path: Path) -> None:
    source, out = broken(tmp_path / "texts.jsonl"), tmp_path / "out"
    for _ in range(2):
        with pytest.raises(UnreadableRowsError, match=r"1 rows of the source.*\n.*texts.jsonl, line 31 is no") as told:
            work(source, out)
        assert "--bad-rows skip" in told.value.hint and told.value.exit_code == 1
        assert sorted(asked) == [f"Text {n:04} says little." for n in range(60) if n != 30]
        assert not (out / "pairs").exists()


def test_skipped_rows_are_counted_with_file_line_and_reason(tmp_path: Path) -> None:
    source, out = broken(tmp_path / "texts.jsonl"), tmp_path / "out"
    work(source, out, bad_rows="skip")
    found = stats(out)
    assert (found["source_rows"], found["total_documents"], found["unreadable"]) == (60, 59, 1)
    ((row, reason),) = [(entry["row"], entry["reason"]) for entry in found["unreadable_rows"]]
    assert row == 31 and reason.startswith("texts.jsonl, line 31 is no JSON: ")
    assert [row["id"] for row in pairs(out)] == [f"d{n}" for n in range(60) if n != 30]


def test_what_was_stopped_is_published_without_the_rows_by_a_call_that_skips(tmp_path: Path) -> None:
    source, out = broken(tmp_path / "texts.jsonl"), tmp_path / "out"
    with pytest.raises(UnreadableRowsError):
        work(source, out)
    before = len(asked)
    work(source, out, bad_rows="skip")
    work(source, tmp_path / "at once", bad_rows="skip")
    assert len(asked) == 2 * before
    assert parts(out) == parts(tmp_path / "at once")


def test_a_shard_of_broken_rows_alone_is_a_shard(tmp_path: Path) -> None:
    source = write(tmp_path / "texts.jsonl", [*lines(12), *["nonsense"] * 12, *lines(30, first=24)])
    work(source, tmp_path / "out", bad_rows="skip")
    assert (stats(tmp_path / "out")["unreadable"], stats(tmp_path / "out")["total_documents"]) == (12, 18)
    assert pairs(tmp_path / "out").num_rows == 18


def test_the_command_lists_the_rows_and_leaves_with_1(tmp_path: Path) -> None:
    source = broken(tmp_path / "texts.jsonl")
    code, _, errors = ended(start(command(source, tmp_path / "out", *scripted(), "--workers", 1)))
    assert code == 1 and "texts.jsonl, line 31 is no JSON" in errors and "--bad-rows skip" in errors


def make_wrong_type(folder: Path) -> Path:
    rows = [json.dumps({"text": f"t{n}", "n": n}) for n in range(SAMPLE_ROWS + 3)]
    rows[SAMPLE_ROWS + 1] = json.dumps({"text": "t", "n": "many"})
    return write(folder / "a.jsonl", rows)


def make_extra_column(folder: Path) -> Path:
    rows = [json.dumps({"text": f"t{n}"}) for n in range(SAMPLE_ROWS + 3)]
    rows[SAMPLE_ROWS + 1] = json.dumps({"text": "t", "more": 1})
    return write(folder / "a.jsonl", rows)


def make_text_of_another_type(folder: Path) -> Path:
    return write(folder / "a.jsonl", [json.dumps({"text": text}) for text in ("a", "b", 3, "d", "e")])


def make_ragged_csv(folder: Path) -> Path:
    return write(folder / "a.csv", ["id,text", "1,a", "2,b", "3,c,c", "4,d"])


def make_csv_of_another_type(folder: Path) -> Path:
    rows = [f"{n},t{n}" for n in range(SAMPLE_ROWS + 3)]
    rows[SAMPLE_ROWS + 1] = "many,t"
    return write(folder / "a.csv", ["n,text", *rows])


def make_broken_first_line(folder: Path) -> Path:
    return write(folder / "a.jsonl", ["{", *lines(4)])


@pytest.mark.parametrize(
    ("make", "place", "rows"),
    [
        (make_wrong_type, "a.jsonl, line 1002: the column 'n' holds int64", SAMPLE_ROWS + 3),
        (make_extra_column, "a.jsonl, line 1002: the column 'more'", SAMPLE_ROWS + 3),
        (make_text_of_another_type, "row 3 holds a int", 5),
        (make_ragged_csv, "a.csv, line 4: 3 fields", 4),
        (make_csv_of_another_type, "a.csv, line 1003: the column 'n'", SAMPLE_ROWS + 3),
        (make_broken_first_line, "a.jsonl, line 1 is no JSON", 5),
    ],
)
def test_a_row_that_does_not_fit_is_one_bad_row(
    make: Callable[[Path], Path], place: str, rows: int, tmp_path: Path
) -> None:
    source = open_source(Source(str(make(tmp_path))))
    found = list(source.read())
    (bad,) = [row for row in found if isinstance(row, BadRow)]
    assert place in bad.error.message
    assert len(found) == rows == source.count()


def make_cut_gz(folder: Path) -> Path:
    path = folder / "a.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines(2000)).encode())[:-400])
    return path


def make_unclosed_csv(folder: Path) -> Path:
    return write(folder / "a.csv", ["id,text", *[f"{n},t{n}" for n in range(30)], '31,"never closed', "32,x"])


def make_csv_with_a_quote_within(folder: Path) -> Path:
    """Write a cell of two lines, of which the second would pass for a row."""
    return write(folder / "a.csv", ["id,text", "1,a", '2,"he said "hi" there', 'next line,more"', "3,c"])


@pytest.mark.parametrize("make", [make_cut_gz, make_unclosed_csv, make_csv_with_a_quote_within])
def test_where_a_file_breaks_off_the_rest_is_one_bad_row_and_nothing_is_invented(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    source = open_source(Source(str(make(tmp_path))))
    found = list(source.read())
    assert isinstance(found[-1], BadRow) and not any(isinstance(row, BadRow) for row in found[:-1])
    assert len(found) == source.count() > 1
    assert list(source.read(len(found) - 2))[0] == found[-2]


def test_a_damaged_row_group_is_so_many_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"text": f"Text {n} of some length, none like another: {n**9}."} for n in range(300)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100, compression="snappy", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    content[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(content)
    found = list(open_source(Source(str(path))).read())
    assert len(found) == 300
    bad = [number for number, row in enumerate(found) if isinstance(row, BadRow)]
    assert bad == list(range(100, 200))


# --- a source that was mended, or has grown


def test_a_mended_row_costs_its_shard_and_the_result_is_that_of_the_mended_source(tmp_path: Path) -> None:
    source, out = broken(tmp_path / "texts.jsonl"), tmp_path / "out"
    with pytest.raises(UnreadableRowsError):
        work(source, out)
    asked.clear()
    write(source, lines(60))
    with pytest.raises(OutputError, match=r"another recipe: source.revision") as told:
        work(source, out)
    assert "--continue-with-changed-source" in told.value.hint
    work(source, out, continue_with_changed_source=True)
    assert sorted(asked) == [f"Text {n:04} says little." for n in range(24, 36)]
    work(source, tmp_path / "undisturbed")
    assert parts(out) == parts(tmp_path / "undisturbed")


def test_a_source_that_has_grown_keeps_what_is_finished_and_says_so(tmp_path: Path) -> None:
    source, out = write(tmp_path / "texts.jsonl", lines(40)), tmp_path / "out"
    work(source, out)
    old = json.loads((out / "synthesizer_config.json").read_text())["source"]["revision"]
    hfsynth_render(out)
    asked.clear()
    write(source, lines(55))
    result = work(source, out, continue_with_changed_source=True)
    assert sorted(asked) == [f"Text {n:04} says little." for n in range(36, 55)]
    assert result.stats["total_documents"] == result.stats["source_rows"] == 55
    (change,) = result.stats["source_changes"]
    assert (change["from"], change["shards_kept"], change["shards_done_again"]) == (old, 3, 1)
    recipe = json.loads((out / "synthesizer_config.json").read_text())["source"]
    assert recipe["earlier_revisions"] == [old] and recipe["revision"] == change["to"] != old
    assert not (out / "data").exists()  # which was made of the old pairs
    work(source, tmp_path / "undisturbed")
    assert parts(out) == parts(tmp_path / "undisturbed")
    asked.clear()
    assert not work(source, out).worked and not asked


def hfsynth_render(out: Path) -> None:
    from hfsynth.texts.corpus_folder import render_folder

    render_folder(out)


def test_a_source_with_other_columns_keeps_nothing(tmp_path: Path) -> None:
    source, out = write(tmp_path / "texts.jsonl", lines(24)), tmp_path / "out"
    work(source, out)
    write(source, [json.dumps({**json.loads(line), "n": None}) for line in lines(24)])
    result = work(source, out, continue_with_changed_source=True)
    assert result.stats["source_changes"][0]["shards_kept"] == 0
    assert "n" in pairs(out).column_names


def test_another_recipe_is_refused_all_the_same(tmp_path: Path) -> None:
    source, out = write(tmp_path / "texts.jsonl", lines(24)), tmp_path / "out"
    work(source, out)
    write(source, lines(30))
    other = SynthesizerConfig("test_bad_rows:noted", shots=3, seed=1)
    with pytest.raises(OutputError, match="synthesizer.seed"):
        synthesize(
            Source(str(source)),
            out,
            other,
            engine=EngineConfig("scripted", {}),
            shard_rows=12,
            continue_with_changed_source=True,
        )


def test_nobody_else_may_be_at_work_on_the_old_source(tmp_path: Path) -> None:
    source, out = broken(tmp_path / "texts.jsonl"), tmp_path / "out"
    with pytest.raises(UnreadableRowsError):
        work(source, out)
    write(source, lines(60))
    leases = Leases(Corpus(out).journal / "leases", Holder.this_process("another"))
    assert leases.claim("00002")
    with pytest.raises(OutputError, match="Another call is at work on shard 2"):
        work(source, out, continue_with_changed_source=True)
    leases.release("00002")
    work(source, out, continue_with_changed_source=True)


class Interrupted(BaseException):
    """What an interruption raises."""


class Interruption:
    """Raises at the n-th change of the file system, until it is disarmed."""

    EVENTS = ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.link", "os.mkdir")

    def __init__(self) -> None:
        self.left = -1

    def __call__(self, event: str, _: object) -> None:
        if self.left >= 0 and event in self.EVENTS:
            self.left -= 1
            if self.left < 0:
                raise Interrupted


@pytest.fixture(scope="module")
def interruption() -> Iterator[Interruption]:
    made = Interruption()
    sys.addaudithook(made)
    yield made
    made.left = -1


def test_going_on_may_be_interrupted_anywhere(
    tmp_path: Path, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, finished, event = write(tmp_path / "texts.jsonl", lines(40)), tmp_path / "finished", 0
    work(source, finished)
    write(source, lines(55))
    work(source, tmp_path / "undisturbed")
    complete = changed_source.complete

    def interrupted(corpus: Corpus) -> None:
        interruption.left = event
        try:
            complete(corpus)
        finally:
            interruption.left = -1

    while True:
        out = tmp_path / f"out-{event}"
        shutil.copytree(finished, out)
        with monkeypatch.context() as patched:
            patched.setattr(changed_source, "complete", interrupted)
            try:
                work(source, out, continue_with_changed_source=True)
                break
            except Interrupted:
                event += 1
        work(source, out, continue_with_changed_source=True)
        assert parts(out) == parts(tmp_path / "undisturbed")
        assert json.loads((out / "stats.json").read_text())["source_changes"][0]["shards_kept"] == 3
    assert event > 10
