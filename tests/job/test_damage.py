"""Folders that lack files, or hold damaged ones: every command says so, and the same job makes them anew."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import _save_tokenizer
from jobs import command, documents, journaled, parts, scripted, start, stats, until
from typer.testing import CliRunner

from hfsynth.cli.app import app
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import HfsynthError, OutputError
from hfsynth.core.files import read_json
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.source import Source
from hfsynth.job.check import check
from hfsynth.job.run import JobResult, synthesize
from hfsynth.texts.corpus_folder import render_folder

DAMAGES = int(os.environ.get("HFSYNTH_TEST_DAMAGES", "1"))
"""How many places of every file are damaged in each way; from 2 on every command is tried on each."""
SHARDS = 4


def job(source: Path, out: Path) -> JobResult:
    engine = EngineConfig("scripted")
    return synthesize(Source(str(source)), out, SynthesizerConfig("scripted"), engine=engine, shard_rows=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source, a finished and rendered corpus, and a tokenizer."""
    folder = tmp_path_factory.mktemp("made")
    job(documents(folder / "texts.jsonl", 5 * SHARDS), folder / "out")
    render_folder(folder / "out")
    _save_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def flip(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def cut(path: Path, at: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(at * path.stat().st_size)])


def first(out: Path, folder: str) -> Path:
    return min((out / folder).glob("*.parquet"))


COMMANDS: dict[str, tuple[str, ...]] = {
    "synthesize": (
        "synthesize",
        "{made}/texts.jsonl",
        "{out}",
        "--engine",
        "scripted",
        "--shard-rows",
        "5",
        "--shots",
        "1",
        "--long-documents",
        "skip",
        "--workers",
        "0",
        "--quiet",
    ),
    "info": ("info", "{out}"),
    "check": ("check", "{out}"),
    "render": ("render", "{out}", "--quiet"),
    "mix": ("mix", "{out}.mixed", "--augmented", "{out}", "--tokenizer", "{made}/tokenizer", "--quiet"),
    "export": ("export", "{out}", "{out}.text", "--to", "text", "--tokenizer", "{made}/tokenizer", "--quiet"),
    "evaluate": ("evaluate", "{out}", "--quiet"),
    "card": ("card", "{out}", "--license", "mit"),
    "card --check": ("card", "{out}", "--license", "mit", "--check"),
    "push": ("push", "{out}", "me/it", "--license", "mit", "--dry-run"),
}
READERS = {"render": "pairs", "evaluate": "pairs", "mix": "data", "export": "data", "card": "pairs"}


def call(name: str, made: Path, out: Path) -> tuple[int, str]:
    """Give a command; return its exit code and what it says. Whatever is no error of ours is raised."""
    return invoke([argument.format(made=made, out=out) for argument in COMMANDS[name]])


def invoke(arguments: Sequence[str]) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    error = result.exception
    if error is not None and not isinstance(error, HfsynthError | SystemExit):
        raise error
    return result.exit_code, f"{result.output}\n{error or ''}"


# --- what is lost is named ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
@pytest.mark.parametrize("command", READERS)
def test_no_reader_goes_on_without_a_part(made: Path, out: Path, command: str, damage: Callable[[Path], None]) -> None:
    if command == "card" and damage is flip:
        pytest.skip("a card reads footers alone")
    path = first(out, READERS[command])
    damage(path)
    code, told = call(command, made, out)
    assert code == 1 and path.name in told
    assert ("hfsynth synthesize" if READERS[command] == "pairs" else "hfsynth render") in told


@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_info_and_check_name_what_is_lost(made: Path, out: Path, damage: Callable[[Path], None]) -> None:
    assert check(out).damaged == ()
    lost = [first(out, "pairs"), first(out, "data")]
    for path in lost:
        damage(path)
    for reader, expected in (("info", 0), ("check", 1)):
        code, told = call(reader, made, out)
        assert code == expected and all(path.name in told for path in lost)
        assert "damaged" in told and "finished" not in told


def test_check_sees_a_bit_and_a_wrong_number(out: Path) -> None:
    flip(first(out, "pairs"))
    (out / "stats.json").write_text(json.dumps({**stats(out), "pairs": 7}))
    (part, numbers) = check(out).damaged
    assert part == f"pairs/{first(out, 'pairs').name} is damaged" and "stats.json" in numbers


def test_without_a_manifest_gaps_in_the_numbers_are_seen(made: Path, out: Path) -> None:
    shutil.rmtree(out / ".hfsynth")
    first(out, "pairs").unlink()
    code, told = call("card", made, out)
    assert code == 1 and f"{SHARDS - 1} of {SHARDS} files" in told


# --- and made anew --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
def test_the_same_job_makes_lost_parts_anew_and_these_alone(
    made: Path, out: Path, damage: Callable[[Path], None]
) -> None:
    damage(first(out, "pairs"))
    result = job(made / "texts.jsonl", out)
    assert result.worked and parts(out) == parts(made / "out")
    found = stats(out)
    assert found["total_documents"] == 5 * SHARDS
    assert sorted(worker["documents"] for worker in found["workers"]) == [5, 5 * SHARDS]
    assert found["render"] == stats(made / "out")["render"]
    assert read_json(Corpus(out).manifest) == read_json(Corpus(made / "out").manifest)
    assert (out / "README.md").read_text() == (made / "out" / "README.md").read_text()
    assert check(out).damaged == () and not Corpus(out).former.exists()
    assert not job(made / "texts.jsonl", out).worked


def test_a_job_without_its_pairs_manifest_or_figures_makes_them_anew(made: Path, out: Path) -> None:
    corpus = Corpus(out)
    shutil.rmtree(corpus.pairs)
    assert job(made / "texts.jsonl", out).worked
    for path in (corpus.manifest, corpus.stats, corpus.config):
        path.write_text("[")
        assert job(made / "texts.jsonl", out).worked
        path.unlink()
        assert job(made / "texts.jsonl", out).worked
        assert check(out).damaged == ()
    assert parts(out) == parts(made / "out")


def test_a_part_that_was_lost_while_the_manifest_was_not_there_is_not_published(made: Path, out: Path) -> None:
    Corpus(out).manifest.unlink()
    first(out, "pairs").unlink()
    assert job(made / "texts.jsonl", out).worked
    assert parts(out) == parts(made / "out")


# --- every file, every command --------------------------------------------------------------------------------------


WAYS: tuple[Callable[[Path, float], object], ...] = (
    flip,
    cut,
    lambda path, at: path.write_text("[]"),
    lambda path, at: path.unlink(),
)


def test_the_walk_asks_for_the_job_that_was_done(made: Path, out: Path) -> None:
    code, told = call("synthesize", made, out)
    assert code == 0 and "nothing was left to do" in told


@pytest.mark.timeout(900 * DAMAGES**2)
def test_whatever_is_damaged_no_command_ends_in_a_traceback(made: Path, tmp_path: Path) -> None:
    """A damage is said or made good: never is there less and no word of it."""
    chance, whole = random.Random(3), parts(made / "out")
    for name in files(made / "out"):
        for damage in WAYS:
            for _ in range(DAMAGES):
                out = tmp_path / "out"
                shutil.copytree(made / "out", out)
                damage(out / name, chance.random())
                for one in chance.sample(list(COMMANDS), 1 if DAMAGES == 1 else len(COMMANDS)):
                    call(one, made, out)
                code, told = call("synthesize", made, out)
                assert is_said_or_made_good(name, code, told), (name, told)
                assert code or parts(out) == whole, name
                for folder in tmp_path.iterdir():
                    shutil.rmtree(folder)


def test_whatever_is_damaged_of_an_interrupted_job_is_said_or_made_good(made: Path, tmp_path: Path) -> None:
    chance, out = random.Random(4), tmp_path / "out"
    arguments = command(made / "texts.jsonl", tmp_path / "half", *scripted(latency=0.1))
    arguments += ["--shard-rows", "5", "--workers", "0", "--long-documents", "skip"]
    process = start(arguments)
    assert until(lambda: list(tmp_path.glob("half/.hfsynth/parts/*.json")) and journaled(tmp_path / "half"), process)
    process.kill()
    process.communicate()
    again = [argument.replace("/half", "/out").replace("=0.1", "=0") for argument in arguments[3:]]
    shutil.copytree(tmp_path / "half", out)
    assert invoke(again)[0] == 0
    whole = parts(out)
    for name in files(tmp_path / "half"):
        for damage in WAYS if DAMAGES > 1 else [chance.choice(WAYS)]:
            shutil.rmtree(out)
            shutil.copytree(tmp_path / "half", out)
            damage(out / name, chance.random())
            code, told = invoke(again)
            assert is_said_or_made_good(name, code, told), (name, told)
            assert (out / "pairs").exists() == (code == 0)
            assert code or parts(out) == whole, name


def files(out: Path) -> list[Path]:
    """Return the files that can be damaged: a log in which nothing stands yet cannot."""
    return sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.stat().st_size)


def is_said_or_made_good(name: Path, code: int, told: str) -> bool:
    another = "recipe" in told and name.name == "job.json"
    return code == 0 or "damaged" in told or "is missing" in told or another


def test_a_damaged_plan_is_a_clear_error(made: Path, out: Path) -> None:
    Corpus(out).plan.write_text("{}")
    with pytest.raises(OutputError):
        job(made / "texts.jsonl", out)
