"""Shards and files: whole or not there, the same bytes in whatever order chains end, no row lost or read twice."""

from __future__ import annotations

import errno
import os
import random
import sys
import textwrap
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import quoting
from started import run_process

import hfsynth.job.part_writer
from hfsynth.core.errors import OutputError
from hfsynth.core.files import read_json, replaced, write_json, write_text, writing
from hfsynth.core.records import Counts, Reason, Rejected, Row, Status, Synthesis, Synthesized
from hfsynth.corpus.folder import Corpus, part_name
from hfsynth.corpus.readme import configured_readme
from hfsynth.engine.protocol import Generation
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine
from hfsynth.job.feeding import ChainRun, Prepared, ShardReader, watched_chain
from hfsynth.job.journal import CERTAIN, POSSIBLE, Strikes
from hfsynth.job.part_writer import ShardWriter
from hfsynth.job.shards import ShardRecord, finished_shards, part_path
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.synthesis.chains import Chainer, Splitter

SCHEMA = pa.schema({"id": pa.string(), "text": pa.string()})
ONE = Counts.of([Synthesized((), Synthesis(Status.OK, "c", 0))])


def chains_of(lengths: list[int]) -> list[list[Row]]:
    """Return chains of numbered rows."""
    numbers = iter(range(sum(lengths)))
    return [[{"id": str(next(numbers)), "text": "ab" * 50} for _ in range(length)] for length in lengths]


def write_shard(folder: Path, chains: list[list[Row]], order: list[int], *, shard: int = 0) -> ShardRecord:
    writer = ShardWriter(part_path(folder, shard), SCHEMA)
    for number in order:
        writer.add(number, chains[number], sum((ONE for _ in chains[number]), Counts()))
    return writer.finish(1.5)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --- one shard ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=1, max_size=20), st.integers(1, 9), st.randoms(use_true_random=False))
def test_a_part_has_the_same_bytes_in_whatever_order_chains_end(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], row_group: int, order: random.Random
) -> None:
    chains, shuffled = chains_of(lengths), list(range(len(lengths)))
    order.shuffle(shuffled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hfsynth.job.part_writer, "ROWS_AT_A_TIME", row_group)
        folder = tmp_path_factory.mktemp("parts")
        straight = write_shard(folder, chains, list(range(len(lengths))), shard=0)
        mixed = write_shard(folder, chains, shuffled, shard=1)
    assert part_path(folder, 0).read_bytes() == part_path(folder, 1).read_bytes()
    assert straight == mixed
    table = pq.read_table(part_path(folder, 1))
    assert table.to_pylist() == [row for chain in chains for row in chain]


def test_the_record_describes_the_part(tmp_path: Path) -> None:
    record = write_shard(tmp_path, chains_of([2, 1]), [1, 0], shard=7)
    content = part_path(tmp_path, 7).read_bytes()
    assert (record.rows, record.size, record.sha256) == (3, len(content), sha256(content).hexdigest())
    assert record.counts.total_documents == 3
    assert finished_shards(tmp_path) == {7: record}
    assert files_in(tmp_path) == ["00007.json", "00007.parquet"]


def test_rows_are_written_while_the_shard_is_under_way(tmp_path: Path) -> None:
    writer = ShardWriter(part_path(tmp_path, 0), SCHEMA)
    for number in range(3 * hfsynth.job.part_writer.ROWS_AT_A_TIME // 100):
        writer.add(number, chains_of([100])[0], Counts())
    assert len(writer._ready) < hfsynth.job.part_writer.ROWS_AT_A_TIME
    assert writer.chains == 30
    writer.abandon()
    assert files_in(tmp_path) == []


def test_a_part_under_way_is_not_seen_as_finished(tmp_path: Path) -> None:
    writer = ShardWriter(part_path(tmp_path, 0), SCHEMA)
    writer.add(0, chains_of([5])[0], Counts())
    assert finished_shards(tmp_path) == {}
    assert list(tmp_path.glob("*.parquet")) == []
    writer.abandon()


def test_a_row_that_does_not_fit_the_columns_is_a_clear_error(tmp_path: Path) -> None:
    for wrong in ({"id": 3.5, "text": []}, {"id": "a", "text": "\ud800"}):
        writer = ShardWriter(part_path(tmp_path, 0), SCHEMA)
        writer.add(0, [wrong], Counts())
        with pytest.raises(OutputError, match="row"):
            writer.finish(0)
        writer.abandon()
        assert files_in(tmp_path) == []


class Killed(BaseException):
    """Stands for the end of the process at some step."""


def kill_at(step: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Die right before the `step`-th rename or sync; return how many there were."""
    count = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:  # noqa: ANN401
            nonlocal count
            count += 1
            if count == step:
                raise Killed
            return real(*arguments)

        return call

    patch.setattr(os, "replace", dying(os.replace))
    patch.setattr(os, "fsync", dying(os.fsync))
    return lambda: count


def test_a_shard_killed_at_any_step_is_finished_or_not_there(tmp_path: Path) -> None:
    chains = chains_of([2, 3])
    expected = write_shard(tmp_path / "expected", chains, [0, 1])
    for step in range(1, 20):
        folder = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as patch:
            steps = kill_at(step, patch)
            try:
                write_shard(folder, chains, [0, 1])
            except Killed:
                pass
            else:
                assert steps() < step
                break
        found = finished_shards(folder)
        assert found in ({}, {0: expected})
        if found:
            assert part_path(folder, 0).read_bytes() == part_path(tmp_path / "expected", 0).read_bytes()
        assert write_shard(folder, chains, [1, 0]) == expected
        assert finished_shards(folder) == {0: expected}
    else:
        pytest.fail("it never got through")
    assert step >= 6  # two files, each synced, renamed, and its folder synced


# --- single files ---------------------------------------------------------------------------------------------------


def test_a_json_file_is_the_old_one_or_the_new_one_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    write_json(path, {"state": "old"})
    for step in range(1, 10):
        before = read_json(path)
        child = os.fork()
        if child == 0:
            _write_and_die(path, step)
        _, status = os.waitpid(child, 0)
        assert read_json(path) in (before, {"state": f"new {step}"})
        if os.waitstatus_to_exitcode(status) == 0:
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert read_json(path) == {"state": f"new {step}"}
    assert step == 4  # it died before the sync, before the rename and before the folder's sync


def _write_and_die(path: Path, step: int) -> None:
    """Write in this process, a child, and leave it without any cleaning up at the given step."""
    left = iter(range(step - 1))

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: real(*arguments) if next(left, None) is not None else os._exit(9)

    os.replace, os.fsync = dying(os.replace), dying(os.fsync)
    try:
        write_json(path, {"state": f"new {step}"})
    finally:
        os._exit(0)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.lists(st.booleans()), max_size=4))
def test_json_is_read_back(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("json") / "sub" / "file.json"
    write_json(path, values)
    assert read_json(path) == values
    assert files_in(path.parent) == ["file.json"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    write_text(path, "old")
    with pytest.raises(KeyError), replaced(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert files_in(tmp_path) == ["README.md"]


def test_a_missing_file_is_none_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None
    for content in (b'{"a": ', b"\xff\xfe"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(OutputError, match="damaged"):
            read_json(tmp_path / "bad.json")


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    for content in ("[]", "{}", '{"rows": 3}', "null"):
        (tmp_path / "00000.json").write_text(content)
        with pytest.raises(OutputError, match="damaged"):
            finished_shards(tmp_path)


def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OutputError, match="disk is full") as caught, writing(tmp_path / "x"):
        Path("/dev/full").write_text("x")
    assert "same command again" in caught.value.hint


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_other_refusals_are_said_as_they_are(tmp_path: Path, number: int) -> None:
    with pytest.raises(OutputError, match=os.strerror(number)), writing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))


def test_an_error_without_a_number_is_said_too(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="something odd"), writing(tmp_path / "x"):
        raise OSError("something odd")


def test_a_folder_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_json(tmp_path / "file" / "stats.json", {})
    with pytest.raises(OutputError, match="file"):
        ShardWriter(tmp_path / "file" / "00000.parquet", SCHEMA)


LIMITED = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    import pyarrow as pa
    from hfsynth.core.files import write_json
    from hfsynth.core.errors import OutputError
    from hfsynth.corpus import parquet as parquet_files
    from hfsynth.job.part_writer import ROWS_AT_A_TIME, ShardWriter
    from hfsynth.core.records import Counts
    import random

    parquet_files.GROUP_BYTES = 2**16

    folder, groups, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    writer = ShardWriter(folder / "00000.parquet", pa.schema({"text": pa.string()}))
    noise = random.Random(0)
    try:
        for number in range(groups):
            rows = [{"text": noise.randbytes(50).hex()} for _ in range(ROWS_AT_A_TIME)]
            writer.add(number, rows, Counts())
        writer.finish(0)
    except OutputError as error:
        print("shard:", error.message)
        if "add" in sys.argv:
            writer.abandon()
    given_up = ShardWriter(folder / "00001.parquet", pa.schema({"text": pa.string()}))
    given_up.add(0, [{"text": "a"}], Counts())
    given_up.abandon()
    try:
        write_json(folder / "stats.json", {"text": "x" * (limit + 1)})
    except OutputError as error:
        print("json:", error.message)
    """
)


@pytest.mark.parametrize(
    ("groups", "limit", "failing"), [(20, 200_000, "add"), (1, 40_000, "add"), (1, 4, "add"), (0, 4, "finish")]
)
def test_a_file_that_cannot_grow_is_a_clear_error_and_leaves_nothing(
    tmp_path: Path, groups: int, limit: int, failing: str
) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(groups), str(limit), failing]
    done = run_process(command)
    assert (done.returncode, done.stderr) == (0, "")
    shard, json = done.stdout.splitlines()
    assert shard.startswith("shard: ") and "00000.parquet cannot be written" in shard and "None" not in shard
    assert json.startswith("json: ") and "stats.json cannot be written" in json
    assert files_in(tmp_path) == []


def test_places_in_a_corpus_folder(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    assert part_name(3, 12) == "train-00003-of-00012.parquet"
    for path in (corpus.parts, corpus.plan, corpus.manifest):
        assert path.is_relative_to(corpus.journal)
    for path in (corpus.pairs, corpus.stats, corpus.config, corpus.readme):
        assert path.parent == tmp_path
    assert "configs:\n- config_name: pairs\n" in configured_readme("", {"pairs": {"train": "pairs/*.parquet"}})


# --- feeding --------------------------------------------------------------------------------------------------------


def reader_of(texts: list[str | None], *, shots: int, shard_rows: int, splitter: Splitter | None = None) -> ShardReader:
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    return ShardReader(
        lambda start, stop: iter(rows[start:stop]), shots=shots, shard_rows=shard_rows, splitter=splitter
    )


def runs_of(reader: ShardReader, shards: int) -> list[ChainRun]:
    return [ChainRun(shard, n, rows) for shard in range(shards) for n, rows in enumerate(reader.chains(shard))]


texts_of_a_source = st.lists(st.sampled_from(["A text. " * 2, "Another one.", "", None]), max_size=25)


@given(texts_of_a_source, st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(0, 12), max_size=20))
def test_any_shard_is_read_as_it_is_whatever_was_read_before(
    texts: list[str | None], shots: int, chains: int, order: list[int]
) -> None:
    shard_rows = shots * chains
    reader = reader_of(texts, shots=shots, shard_rows=shard_rows)
    for shard in order:
        groups = list(reader.chains(shard))
        expected = [f"d{n}" for n in range(len(texts))][shard * shard_rows : (shard + 1) * shard_rows]
        assert [row["id"] for group in groups for row in group] == expected
        assert all(len(group) == shots for group in groups[:-1])
        assert reader.rows_read == len(expected)


@given(texts_of_a_source, st.integers(1, 3), st.integers(1, 9))
def test_every_chain_comes_back_with_its_place_and_rows(texts: list[str | None], shots: int, in_flight: int) -> None:
    reader = reader_of(texts, shots=shots, shard_rows=2 * shots)
    runs = {run.key: run for run in runs_of(reader, -(-len(texts) // (2 * shots)))}
    chainer = Chainer(InstructionPretrain(CharacterTokenizer()), 65_536, 40, shots)
    chains = (Prepared.of(run, chainer).chain for run in runs.values())
    seen = {}
    for outcome in ScriptedEngine(quoting, max_in_flight=in_flight).run(chains, Generation()):
        assert seen.setdefault((outcome.shard, outcome.number), outcome) is outcome
        assert outcome.rows == runs[outcome.shard, outcome.number].rows
        assert len(outcome.results) == len(outcome.rows)
    assert seen.keys() == runs.keys()


@given(st.lists(st.text("ab. \n\ud800", max_size=120) | st.none(), max_size=6), st.integers(1, 3), st.integers(1, 3))
def test_pieces_put_together_are_the_document_and_fit_the_window(
    texts: list[str | None], shots: int, shard_rows: int
) -> None:
    chainer = Chainer(InstructionPretrain(CharacterTokenizer()), 110, 40, shots)
    reader = reader_of(texts, shots=shots, shard_rows=shard_rows, splitter=Splitter.of(chainer))
    runs = runs_of(reader, -(-len(texts) // shard_rows))
    chains = (run.outcome(chainer) for run in runs)
    outcomes = sorted(
        ScriptedEngine(quoting, window=110).run(chains, Generation()), key=lambda found: (found.shard, found.number)
    )
    pieces: dict[str, list[Row]] = {}
    for outcome in outcomes:
        for row, result in zip(outcome.rows, outcome.results, strict=True):
            assert result.synthesis.status in (Status.OK, Status.EMPTY)
            pieces.setdefault(row["source_id"], []).append(row)
    assert list(pieces) == [f"d{number}" for number in range(len(texts))]
    for text, rows in zip(texts, pieces.values(), strict=True):
        whole = "".join(row["text"] or "" for row in rows)
        assert whole == (text or "").replace("\ud800", "\ufffd")
        assert [row["offset"] for row in rows] == [
            sum(len(r["text"]) for r in rows[:number]) if number else 0 for number in range(len(rows))
        ]
        assert len({row["id"] for row in rows}) == len(rows)


def test_shots_that_kill_engines_are_failed_without_one_and_the_others_are_asked() -> None:
    rows = [{"id": f"d{number}", "text": f"Text {number}."} for number in range(4)]
    strikes = Strikes(2, {1: (CERTAIN, "it died of this"), 2: (POSSIBLE, "perhaps")})
    chainer = Chainer(InstructionPretrain(CharacterTokenizer()), 65_536, 40, 4)
    asked: list[int] = []
    chain = watched_chain(ChainRun(0, 0, rows, strikes).outcome(chainer), asked.append)
    (outcome,) = ScriptedEngine(quoting).run([chain], Generation())
    assert asked == [0, 2, 3]
    assert [result.synthesis.status for result in outcome.results] == ["ok", "failed", "ok", "ok"]
    assert outcome.results[1].synthesis.rejected == (Rejected(Reason.ENGINE, "it died of this"),)
    assert [result.synthesis.follows for result in outcome.results] == [False, True, False, True]
