"""The command line as a user meets it: examples, bad input, interruptions, exit codes; no traceback anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import needs_vllm
from datasets import load_dataset
from started import run_process, start_process
from typer.testing import CliRunner

from hfsynth.cli import app
from hfsynth.cli import rooms as rooms_of

COUNTS = ("ok", "no_pairs", "too_long", "empty", "failed", "screened")


class Run:
    """Run the command line in this process; keep its exit code and what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *args: object) -> int:
        self._monkeypatch.setattr(sys, "argv", ["hfsynth", *map(str, args)])
        self._capsys.readouterr()
        try:
            app.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        return code


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(monkeypatch, capsys)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return written(tmp_path / "texts.jsonl", [{"id": f"d{n}", "text": f"This is text number {n}."} for n in range(10)])


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scripted(source: object, out: Path, *more: object) -> tuple[object, ...]:
    """Return a command that works in its own process; other tests are about workers."""
    return ("synthesize", source, out, "--engine", "scripted", "--workers", "0", *more)


def process(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_process([sys.executable, "-m", "hfsynth", *args], env={**os.environ, **environment})


def test_a_corpus_folder_is_made_and_loads(run: Run, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    assert run(*scripted(texts, out, "--shots", 3, "--json")) == 0
    stats = json.loads(run.out)["stats"]
    assert stats["documents"] == dict.fromkeys(COUNTS, 0) | {"ok": 10}
    assert stats["pairs"] == 20
    rows = load_dataset(str(out), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"] == [f"d{n}" for n in range(10)]
    assert [s["shot"] for s in rows["synthesis"]] == [0, 1, 2] * 3 + [0]
    config = json.loads((out / "synthesizer_config.json").read_text())
    assert config["shots"] == 3
    assert config["source"]["location"] == texts.name  # it will be published: no folder of this machine
    assert run("info", out) == 0
    assert "10: 10 ok" in run.out


def test_a_finished_job_is_recognised_and_starts_no_engine(run: Run, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    assert run(*scripted(texts, out, "--quiet")) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run(*scripted(texts, out, "--engine-arg", "latency=999", "--json")) == 0
    assert json.loads(run.out)["worked"] is False
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_another_recipe_in_the_same_folder_is_refused_with_the_difference(
    run: Run, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    assert run(*scripted(texts, out, "--quiet")) == 0
    assert run(*scripted(texts, out, "--shots", 2)) == 1
    assert "synthesizer.shots is 1 there and 2 here" in run.err
    texts.write_text(texts.read_text() + '{"text": "one more"}\n')
    assert run(*scripted(texts, out)) == 1
    assert "source.revision" in run.err


def test_a_folder_with_something_else_is_left_alone(run: Run, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("do not touch")
    assert run(*scripted(texts, out)) == 1
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    assert run(*scripted(texts, out / "thesis.txt")) == 1
    assert (out / "thesis.txt").read_text() == "do not touch"


def test_every_input_row_comes_out_once_with_a_status(run: Run, tmp_path: Path) -> None:
    rows = [
        {"text": "Fine."},
        {"text": None},
        {"text": "  \n\t "},
        {"text": "x" * 1_000_000},
        {"text": "control \x00\x01\x1b characters"},
        {"text": "a lone \ud800 surrogate"},
        {"text": "<CON> </CON> <QUE> <ANS> </END> <s> </s>" * 20},
        {"note": "no text at all"},
    ]
    source, out = written(tmp_path / "odd.jsonl", rows), tmp_path / "corpus"
    assert run(*scripted(source, out, "--long-documents", "skip", "--json")) == 0
    documents = json.loads(run.out)["stats"]["documents"]
    assert documents == {"ok": 4, "no_pairs": 0, "too_long": 1, "empty": 3, "failed": 0, "screened": 0}
    loaded = load_dataset(str(out), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == len(rows)
    assert loaded[3]["text"] == "x" * 1_000_000


def test_long_documents_are_split_by_default(run: Run, tmp_path: Path) -> None:
    text = "\n\n".join(f"This is paragraph number {n}, which says very little." for n in range(400))
    source, out = (
        written(tmp_path / "long.jsonl", [{"id": "a", "text": text}, {"id": "b", "text": "Short."}]),
        tmp_path / "c",
    )
    assert run(*scripted(source, out, "--window", 3000, "--shots", 2, "--quiet")) == 0
    rows = load_dataset(str(out), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    pieces = [row for row in rows if row["source_id"] == "a"]
    assert "".join(row["text"] for row in pieces) == text
    assert [row["id"] for row in pieces] == [f"a#{row['offset']}" for row in pieces]
    assert rows[-1]["id"] == rows[-1]["source_id"] == "b"
    assert {row["synthesis"]["status"] for row in rows} == {"ok"}
    assert any(row["synthesis"]["follows"] for row in pieces)
    assert json.loads((out / "stats.json").read_text())["source_rows"] == 2


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("", [], "no documents"),
        ('{"body": "a"}\n', [], "--text-column"),
        ('{"text": 5}\n', [], "text"),
        ("not json\n", [], "line 1"),
        ('{"text": "a"}\n', ["--bad-rows", "keep"], "stop, skip"),
        ('{"text": "a"}\n', ["--shots", "0"], "shots"),
        ('{"text": "a"}\n', ["--window", "300"], "leaves no room"),
        ('{"text": "a"}\n', ["--shots", "2", "--shard-rows", "5"], "multiple"),
        ('{"text": "a"}\n', ["--engine-arg", "nonsense"], "key=value"),
        ('{"text": "a"}\n', ["--engine-arg", "no_such=1"], "no_such"),
        ('{"text": "a"}\n', ["--engine-arg", "max_model_len=5"], "--window"),
        ('{"text": "a"}\n', ["--prompt-format", "alpaca"], "instruction-pretrain"),
        ('{"text": "a"}\n', ["--model", "no.such:script"], "no.such"),
        ('{"text": "a"}\n', ["--recipe", "nowhere.yaml"], "nowhere.yaml"),
        ('{"text": "a"}\n', ["--no-such-option"], "no-such-option"),
    ],
)
def test_usage_errors_are_explained_and_leave_nothing(
    run: Run, tmp_path: Path, content: str, options: list[str], words: str
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "corpus"
    source.write_text(content)
    assert run(*scripted(source, out, *options)) == 2
    assert words in run.err
    assert not list(out.rglob("*.parquet"))


@pytest.mark.parametrize("source", ["nowhere.jsonl", "./nowhere", "nowhere/*.parquet"])
def test_a_source_that_is_not_there(run: Run, tmp_path: Path, source: str) -> None:
    assert run(*scripted(source, tmp_path / "corpus")) == 2
    assert "nowhere" in run.err


def test_a_model_that_does_not_exist(run: Run, texts: Path, tmp_path: Path) -> None:
    assert run("synthesize", texts, tmp_path / "corpus", "--model", "nobody/no-model") == 1
    assert "nobody/no-model" in run.err


def test_a_recipe_file_gives_the_fields_and_options_override_them(run: Run, texts: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: scripted\nshots: 2\nsampling:\n  max_tokens: 300\n")
    out = tmp_path / "corpus"
    assert run(*scripted(texts, out, "--recipe", recipe, "--seed", 7, "--quiet")) == 0
    config = json.loads((out / "synthesizer_config.json").read_text())
    assert (config["shots"], config["seed"], config["sampling"]["max_tokens"]) == (2, 7, 300)
    again = tmp_path / "again"
    assert run(*scripted(texts, again, "--recipe", out / "synthesizer_config.json", "--quiet")) == 0
    names = [path.name for path in (out / "pairs").iterdir()]
    assert [(again / "pairs" / name).read_bytes() for name in names] == [
        (out / "pairs" / name).read_bytes() for name in names
    ]


def test_a_dry_run_writes_nothing(run: Run, texts: Path, tmp_path: Path) -> None:
    assert run(*scripted(texts, tmp_path / "corpus", "--dry-run")) == 0
    plan = json.loads(run.out)
    assert (plan["state"], plan["rows"]) == ("new", 10)
    assert not (tmp_path / "corpus").exists()


def test_info_of_a_folder_that_holds_nothing(run: Run, tmp_path: Path) -> None:
    assert run("info", tmp_path) == 1
    assert "hfsynth synthesize" in run.err


def test_shards_give_the_same_rows(run: Run, texts: Path, tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    assert run(*scripted(texts, one, "--shots", 2, "--quiet")) == 0
    assert run(*scripted(texts, many, "--shots", 2, "--shard-rows", 4, "--quiet")) == 0
    assert len(list((many / "pairs").iterdir())) == 3
    cache = str(tmp_path / "cache")
    assert list(load_dataset(str(one), "pairs", split="train", cache_dir=cache)) == list(
        load_dataset(str(many), "pairs", split="train", cache_dir=cache)
    )


def test_ctrl_c_stops_and_the_same_command_goes_on(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    command = [sys.executable, "-m", "hfsynth", *map(str, scripted(texts, out, "--shard-rows", 2))]
    slow = start_process([*command, "--engine-arg", "latency=0.5", "--engine-arg", "max_in_flight=1"], stderr=-1)
    deadline = time.monotonic() + 600
    while not list(out.glob(".hfsynth/parts/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    slow.send_signal(signal.SIGINT)
    _, errors = slow.communicate(timeout=600)
    assert slow.returncode == 130
    assert "Traceback" not in errors
    assert not (out / "pairs").exists()
    finished = run_process(command, check=True)
    assert "10: 10 ok" in finished.stdout


def test_a_full_disk_is_one_clear_sentence(texts: Path, tmp_path: Path) -> None:
    """The system refuses to write more than a few bytes to any file."""
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        "from hfsynth.cli import main; sys.argv = ['hfsynth', *sys.argv[1:]]; main()"
    )
    rows = [{"text": os.urandom(3000).hex()} for _ in range(30)]
    source, out = written(tmp_path / "big.jsonl", rows), tmp_path / "corpus"
    arguments = map(str, scripted(source, out, "--quiet"))
    ended = run_process([sys.executable, "-c", program, *arguments])
    assert ended.returncode == 1
    assert "cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (out / "pairs").exists()
    assert process(*scripted(source, out, "--quiet")).returncode == 0


def test_two_jobs_at_once_do_not_damage_each_other(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    command = [sys.executable, "-m", "hfsynth", *map(str, scripted(texts, out, "--quiet"))]
    command += ["--engine-arg", "latency=0.2", "--engine-arg", "max_in_flight=1"]
    jobs = [start_process(command, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [job.communicate(timeout=600)[1] for job in jobs]
    assert sorted(job.returncode for job in jobs) in ([0, 0], [0, 1])
    assert all("Traceback" not in error for error in errors)
    rows = load_dataset(str(out), "pairs", split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"] == [f"d{n}" for n in range(10)]


def test_help_and_import_load_no_heavy_library() -> None:
    heavy = ("torch", "vllm", "transformers", "datasets", "pyarrow")
    program = (
        "import sys, hfsynth; sys.argv = ['hfsynth', 'synthesize', '--help']\n"
        "from hfsynth.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == "[]"
    assert "Example: hfsynth synthesize" in ended.stdout


def test_a_server_is_named_by_its_address(run: Run, texts: Path, tmp_path: Path, tiny_llama: Path) -> None:
    out = tmp_path / "corpus"
    assert run("synthesize", texts, out, "--base-url", "http://127.0.0.1:9/v1") == 2
    assert "--model" in run.err
    assert run("synthesize", texts, out, "--base-url", "http://127.0.0.1:9/v1", "--model", tiny_llama, "--quiet") == 1
    assert "127.0.0.1:9" in run.err


def test_without_a_model_the_choice_is_said(run: Run, texts: Path, tmp_path: Path) -> None:
    assert run("synthesize", texts, tmp_path / "corpus", "--dry-run") in (0, 1)
    assert "No --model given: using" in run.err


@needs_vllm
def test_a_real_model_end_to_end(run: Run, texts: Path, tmp_path: Path, tiny_llama: Path) -> None:
    out = tmp_path / "corpus"
    options = ["--model", tiny_llama, "--shots", 2, "--max-tokens", 8, "--json"]
    assert run("synthesize", texts, out, *options) == 0
    stats = json.loads(run.out)["stats"]
    assert sum(stats["documents"].values()) == stats["total_documents"] == 10
    assert stats["output_tokens"] > 0


@pytest.mark.parametrize("command", ["synthesize", "work", "tune", "evaluate", "verify", "push", "train"])
def test_a_long_help_has_rooms_for_every_option(command: str) -> None:
    rooms: rooms_of.Rooms = getattr(rooms_of, command.upper())
    made = typer.main.get_command(app.app).commands[command]
    options = {param.name for param in made.params if param.param_type_name == "option"}
    placed = [name for names in rooms.values() for name in names]
    assert sorted(placed) == sorted(options)
    assert len(rooms["Used most"]) <= 10
    shown = CliRunner().invoke(app.app, [command, "--help"]).stdout
    headings = [line.rstrip(":") for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Arguments", *rooms, "Help"]
