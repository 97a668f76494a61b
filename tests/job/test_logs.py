"""What a job's log says, and what it never says."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from completions_server import FOREVER, CompletionsServer, Fault
from typer.main import get_command

import hfsynth
from hfsynth.cli.app import app
from hfsynth.core.errors import ConfigError, EngineError
from hfsynth.core.logs import logging_into, without_quotes
from hfsynth.core.remote_calls import retrying
from hfsynth.engine import loading
from hfsynth.job.leases import Holder, Leases

TOKEN = "hf_" + "a" * 34
FIRST, SECOND = "The old mast creaks in the wind.", "The old lantern was never lit again."
_deaths: list[int] = []


@pytest.fixture
def server(tiny_llama: Path) -> Iterator[CompletionsServer]:
    with CompletionsServer(tiny_llama) as running:
        yield running
    for key in [key for key in loading._engines if key[1].config.kind == "server"]:
        loading._engines.pop(key).close()


def dies_once(prompt: str) -> str:
    """Kill the engine the first time; name a document and a secret while at it."""
    if not _deaths:
        _deaths.append(1)
        raise EngineError(f"It died of {prompt} with {TOKEN}.")
    return "<QUE> What is it? <ANS> A text. </END>"


def done(folder: Path) -> list[str]:
    _deaths.clear()
    source = folder / "in.jsonl"
    source.write_text('{"text": "A harbour at night."}\n')
    config, engine = hfsynth.SynthesizerConfig(f"{__name__}:dies_once"), hfsynth.EngineConfig("scripted")
    hfsynth.synthesize(hfsynth.Source(str(source)), folder / "out", config, engine=engine)
    (log,) = (folder / "out" / ".hfsynth" / "log").glob("*.log")
    return log.read_text("utf-8").splitlines()


def test_a_job_whose_engine_dies_says_so_in_its_log_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = done(tmp_path)
    events = ("engine loaded", "engine died (EngineError) with shard 0 chain 0 in flight", "engine restarted")
    for event in events:
        assert any(event in line for line in lines), event
    assert "harbour" not in "".join(lines)
    assert capfd.readouterr() == ("", "")
    assert not hfsynth.check(tmp_path / "out").damaged


def test_a_refused_request_is_logged_with_its_place_and_why_but_no_text(
    tmp_path: Path, server: CompletionsServer, tiny_llama: Path
) -> None:
    server.faults["mast"] = [Fault(400, "too long", times=FOREVER)]
    server.faults["lantern"] = [Fault(422, f"not about {SECOND}", times=FOREVER)]
    server.faults["third"] = [Fault(503, "busy")]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("A harbour.", FIRST, SECOND, "A third.")))
    engine = hfsynth.EngineConfig("server", {"base_url": server.url})
    config = hfsynth.SynthesizerConfig(str(tiny_llama), shots=2)
    hfsynth.synthesize(hfsynth.Source(str(source)), tmp_path / "out", config, engine=engine)
    (log,) = (tmp_path / "out" / ".hfsynth" / "log").glob("*.log")
    told = log.read_text("utf-8")
    assert (
        "WARNING hfsynth.job.driver: request refused, shard 0 chain 0 shot 1: the server answered 400: too long" in told
    )
    assert "request refused, shard 0 chain 1 shot 0: the server answered 422 (what it says quotes a document" in told
    assert "INFO hfsynth.engine.server_calls: request put off: the server answered 503; sent again in" in told
    assert "harbour" not in told and "lantern" not in told


@pytest.mark.parametrize(
    ("reason", "texts", "told"),
    [
        ("400: it is too long", ["A text."], "400: it is too long"),
        ("400:\n it is\ttoo long", [None, ""], "400: it is too long"),
        ("400: no 'A text.' here", ["A  text.\n"], "400 (what it says"),
        ("400: no 'long enough to be seen'", ["It is long\nenough to be seen."], "400 (what it says"),
        ("400", ["long enough to be seen"], "400"),
    ],
)
def test_a_reason_is_told_without_what_it_quotes(reason: str, texts: list[str | None], told: str) -> None:
    assert without_quotes(reason, texts).startswith(told)
    assert ("quotes" in without_quotes(reason, texts)) == ("(" in told)


def test_a_lease_that_is_taken_over_is_logged_with_its_shard_and_from_whom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost, here = (
        Holder("lost", "far away", 1, "then"),
        Leases(tmp_path, Holder.this_process(), is_gone=lambda name: True),
    )
    with caplog.at_level(logging.INFO, logger="hfsynth"):
        assert Leases(tmp_path, lost).claim("00003") and caplog.messages == []
        assert here.claim("00003")
        here.release("00003")
        assert here.claim("00003")
    assert caplog.messages == [
        "lease of shard 3 taken over: worker lost has died",
        "lease of shard 3 taken over: it was given up, or is damaged",
    ]


def test_the_terminal_shows_the_log_where_that_is_asked_for(tmp_path: Path) -> None:
    source, run = tmp_path / "in.jsonl", [sys.executable, "-m", "hfsynth", "synthesize"]
    source.write_text('{"text": "A harbour at night."}\n')
    for flags, shown in (([], False), (["-v"], True), (["-vv"], True)):
        out = str(tmp_path / f"out{len(flags)}{''.join(flags)}")
        command = [*run, str(source), out, "--engine", "scripted", "--quiet", "--workers", "1", *flags]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stderr
        assert ("INFO hfsynth.job.worker: engine loaded" in told) is shown  # by a process that this one starts
        assert shown or told == ""
        assert "harbour" not in told or flags == ["-vv"]


def test_every_command_can_show_its_log() -> None:
    for name, command in get_command(app).commands.items():
        (option,) = [one for one in command.params if one.name == "verbose"]
        assert option.opts == ["--verbose", "-v"], name


def test_a_secret_is_in_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFSYNTH_LOG", "debug")
    told = "".join(done(tmp_path))
    assert "harbour" in told and "[secret]" in told
    assert TOKEN not in told


def test_a_log_that_cannot_be_written_holds_nothing_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    with logging_into(tmp_path / "log" / "w.log"):
        logging.getLogger("hfsynth.job").warning("something")
    assert capfd.readouterr() == ("", "")


def test_a_level_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFSYNTH_LOG", "loud")
    with pytest.raises(ConfigError, match="loud"), logging_into(tmp_path / "w.log"):
        pass


def test_a_retry_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([ConnectionError("the line broke"), None])

    def call() -> None:
        if (answer := next(answers)) is not None:
            raise answer

    with caplog.at_level(logging.INFO, logger="hfsynth"):
        retrying(60.0)(call)
    assert "trying again in" in caplog.text
