"""The loop between journal and engine: deaths, suspects, and an engine that is told to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scripts import quoting, shown_documents

from hfsynth.core.errors import EngineError, EngineStopped
from hfsynth.core.records import Status
from hfsynth.engine.protocol import Completion, Generation
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.concurrency import Channel, Stop
from hfsynth.job.driver import Driver
from hfsynth.job.feeding import ChainOutcome, ChainRun, Prepared
from hfsynth.job.journal import NO_STRIKES, Death, Segments, Strikes, read_journal
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.synthesis.chains import Chainer
from hfsynth.synthesis.loading import Loaded

Script = Callable[[str], str | Completion]


class Loader:
    """Load scripted engines, and count them."""

    def __init__(self, script: Script, in_flight: int = 1024) -> None:
        self.loads = self.drops = 0
        self._script, self._in_flight = script, in_flight

    def __call__(self) -> Loaded:
        self.loads += 1
        engine = ScriptedEngine(self._script, max_in_flight=self._in_flight)
        engine.close = self._close  # type: ignore[method-assign]
        chainer = Chainer(InstructionPretrain(engine.tokenizer), engine.window, max_tokens=400)
        return Loaded(engine, chainer, Generation())

    def _close(self) -> None:
        self.drops += 1


def driver(loader: Loader, folder: Path, stop: Stop, *, max_restarts: int = 3) -> Driver:
    return Driver(loader, Segments(folder, "w"), stop, max_restarts=max_restarts)


def driven(driving: Driver, number: int, strikes: Strikes = NO_STRIKES) -> list[ChainOutcome]:
    """Drive chains of one document each to their ends, in the order of their numbers."""
    ahead: Channel[Prepared] = Channel(number)
    for chain in range(number):
        run = ChainRun(0, chain, [{"id": f"d{chain}", "text": f"Text number {chain:04}."}], strikes)
        ahead.put(Prepared.of(run, driving.chainer))
    ahead.close()
    return sorted(driving.outcomes(ahead), key=lambda outcome: outcome.number)


def statuses(outcomes: list[ChainOutcome]) -> list[Status]:
    return [outcome.results[0].synthesis.status for outcome in outcomes]


def deadly(*numbers: int, error: EngineError | None = None) -> Script:
    def script(prompt: str) -> str:
        if any(f"number {number:04}" in shown_documents(prompt)[-1] for number in numbers):
            raise error or EngineError("The engine died: it choked.")
        return quoting(prompt)

    return script


def test_suspects_that_a_journal_brings_back_are_halved_too(tmp_path: Path) -> None:
    loader = Loader(deadly(700))
    driving = driver(loader, tmp_path, Stop())
    outcomes = driven(driving, 1024, Strikes(2, among=1024))
    assert [n for n, status in enumerate(statuses(outcomes)) if status != Status.OK] == [700]
    assert driving.restarts == loader.loads - 1 <= 10


def test_several_that_kill_do_not_hide_each_other(tmp_path: Path) -> None:
    driving = driver(Loader(deadly(3, 4, 90)), tmp_path, Stop())
    assert [n for n, s in enumerate(statuses(driven(driving, 100))) if s == Status.FAILED] == [3, 4, 90]


def test_an_engine_that_dies_of_everything_is_given_up_soon(tmp_path: Path) -> None:
    loader = Loader(deadly(*range(64)))
    driving = driver(loader, tmp_path, Stop(), max_restarts=3)
    with pytest.raises(EngineError, match="without an answer"):
        driven(driving, 64)
    assert loader.loads <= 16


def test_an_engine_that_dies_after_a_stop_is_not_loaded_again(tmp_path: Path) -> None:
    stop = Stop()

    def script(prompt: str) -> str:
        if "number 0013" in prompt:
            stop.request()
            raise EngineError("The engine died: its process was ended.")
        return quoting(prompt)

    loader = Loader(script, in_flight=16)
    driving = driver(loader, tmp_path, stop)
    assert driven(driving, 40) == []
    assert (loader.loads, loader.drops, driving.restarts) == (1, 1, 0)
    assert not read_journal(tmp_path, 0, lambda worker: None).strikes


def test_an_engine_that_was_told_to_end_is_loaded_again_and_no_document_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hfsynth.job.driver._AFTERMATH", 0)
    left = iter(range(2))

    def script(prompt: str) -> str:
        if "number 0013" in prompt and next(left, None) is not None:
            raise EngineStopped("The engine's process was told to end.")
        return quoting(prompt)

    driving = driver(Loader(script), tmp_path, Stop())
    assert set(statuses(driven(driving, 40))) == {Status.OK}
    assert driving.restarts == 2
    assert not read_journal(tmp_path, 0, lambda worker: Death("it died")).strikes
