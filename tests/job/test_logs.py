"""What a job's log says, and what it never says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import hfsynth
from hfsynth.core.errors import ConfigError, EngineError
from hfsynth.core.logs import logging_into
from hfsynth.core.remote_calls import retrying

TOKEN = "hf_" + "a" * 34
_deaths: list[int] = []


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
