"""Try engine settings on a sample of the user's own documents; say which is the fastest and what the corpus will cost.

Every setting gets a fresh engine in a fresh process and the same documents. Nothing that is tried changes the pairs.
Knows nothing of corpus folders and of how to show what it found.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from hfsynth.chains import grouped
from hfsynth.config import EngineConfig, SynthesizerConfig
from hfsynth.devices import visible_devices
from hfsynth.engine_settings import MARGIN, Setting, search
from hfsynth.errors import ConfigError, SourceError
from hfsynth.locating import locate
from hfsynth.models import pinned
from hfsynth.prediction import Prediction, predict
from hfsynth.records import Document
from hfsynth.shards import Row
from hfsynth.sources import OpenSource, Source, open_source
from hfsynth.speculation import ARGUMENT, require_greedy
from hfsynth.trial_process import TrialFailed, run_trial
from hfsynth.trials import Group, Order, Outcome

LOOK_AT = 20_000
"""The sample is drawn from so many rows at the source's beginning: a source may be a stream without an end in sight."""

_SAMPLE_ON_GPU, _SAMPLE_ON_CPU = 512, 24
_FIRST_TRIALS_SHARE = 1 / 8
_SLOWER = 1.1

RunTrial = Callable[[Order, float], Outcome]


@dataclass(frozen=True, slots=True)
class Trial:
    """A setting and what became of it: an outcome, or why there is none."""

    setting: Setting
    outcome: Outcome | None
    note: str = ""

    @property
    def speed(self) -> float | None:
        """Documents a second; None where the setting failed or was given up."""
        return self.outcome.documents_per_second if self.outcome is not None and self.outcome.complete else None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `tune` found. The first trial is the engine as it was asked for; `best` is one of the trials.

    `documents` is the size of the sample, `ran_out` is true where the time limit ended the search.
    """

    trials: tuple[Trial, ...]
    best: Trial
    prediction: Prediction
    documents: int
    ran_out: bool

    @property
    def flags(self) -> list[str]:
        """The command line's options for what differs from the engine as it was asked for."""
        return self.best.setting.flags(self.trials[0].setting)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "sample_documents": self.documents,
            "trials": [_trial_values(trial) for trial in self.trials],
            "flags": self.flags,
            "engine_arguments": self.best.setting.arguments(),
            "prediction": asdict(self.prediction),
            "ran_out_of_time": self.ran_out,
        }


def tune(
    source: Source,
    config: SynthesizerConfig,
    *,
    engine: EngineConfig | None = None,
    documents: int | None = None,
    minutes: float = 5.0,
    seed: int = 0,
    on_trial: Callable[[Trial | Setting | None], None] = lambda trial: None,
    run: RunTrial = run_trial,
) -> Tuning:
    """Measure engine settings on a sample of `source` and predict what the whole of it will take.

    The sample are chains of neighbouring documents, drawn by `seed` from the first 20,000 rows: `documents` of them,
    512 where there is a GPU and 24 where there is none, fewer where the first trial would take too much of the time.
    `minutes` bounds the search; a trial that cannot be expected to end within them is not begun. `on_trial` is told
    every setting before it is tried (None for the engine as asked for) and every trial after. The prediction is for one
    engine, and counts the filling and draining of the engine, which weigh less in a whole corpus.

    Raise ConfigError for an engine that is not vLLM, SourceError and ColumnError for an unusable source, and
    TrialFailed, an EngineError, where the first trial already fails.
    """
    engine = engine or EngineConfig()
    _require_usable(engine, minutes, documents)
    opened = open_source(source)
    settled = pinned(config, engine)
    require_greedy(engine, settled.sampling)
    wanted = documents or (_SAMPLE_ON_GPU if visible_devices() else _SAMPLE_ON_CPU)
    groups = sample(opened.rows(0, LOOK_AT), settled.shots, wanted, seed)
    if not any(document.text and document.text.strip() for group in groups for document in group):
        raise SourceError("The sample holds no text.", hint="Check --text-column, or use more --documents.")
    order = Order(settled, engine, groups)
    sweep = _Sweep(order, 60 * minutes, on_trial, run)
    best, outcome = sweep.search()
    prediction = predict(outcome.costs, _rows(opened, source), seed=seed)
    return Tuning(tuple(sweep.trials), best, prediction, sum(map(len, sweep.groups)), sweep.ran_out)


def sample(rows: Iterable[Row], shots: int, documents: int, seed: int) -> tuple[Group, ...]:
    """Draw groups of `shots` neighbours, at least `documents` rows in all where there are as many, in random order.

    Each group is one that a job would make a chain of. Reads all of `rows` and keeps only what is drawn.
    """
    draw = random.Random(seed)
    wanted = -(-documents // shots)
    kept: list[list[Row]] = []
    for number, group in enumerate(grouped(rows, shots)):
        if len(kept) < wanted:
            kept.append(group)
        elif (place := draw.randrange(number + 1)) < wanted:
            kept[place] = group
    draw.shuffle(kept)
    return tuple(tuple(Document(row["id"], row["text"]) for row in group) for group in kept)


class _Sweep:
    """The trials of one call, against the clock."""

    def __init__(
        self, order: Order, seconds: float, on_trial: Callable[[Trial | Setting | None], None], run: RunTrial
    ) -> None:
        self.trials: list[Trial] = []
        self.groups: tuple[Group, ...] = order.groups
        self.ran_out = False
        self._order = order
        self._on_trial = on_trial
        self._run = run
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._longest = 0.0

    def search(self) -> tuple[Trial, Outcome]:
        """Try settings until none is promising or the time is up; return the fastest trial and its outcome."""
        best, fastest = self._first()
        steps = search(
            best.setting,
            fastest.documents_per_second,
            most_sequences=max(1, len(self.groups) // 2),
            greedy=self._order.config.sampling.temperature == 0 and ARGUMENT not in self._order.engine.arguments,
        )
        with suppress(StopIteration):
            setting = next(steps)
            while not self._time_is_up():
                trial = self._try(setting, fastest)
                if trial.outcome and (trial.speed or 0.0) >= fastest.documents_per_second * (1 + MARGIN):
                    best, fastest = trial, trial.outcome
                setting = steps.send(trial.speed)
        return best, fastest

    def _first(self) -> tuple[Trial, Outcome]:
        """Measure the engine as it was asked for, on as much of the sample as takes a small share of the time."""
        self._on_trial(None)
        feed = self._seconds * _FIRST_TRIALS_SHARE
        outcome = self._timed(replace(self._order, engine=_counting(self._order.engine, {}), feed_seconds=feed))
        self.groups = self.groups[: len(outcome.costs)]
        setting = Setting(
            outcome.settings["max_num_seqs"],
            outcome.settings["max_num_batched_tokens"],
            bool(self._order.engine.arguments.get("enable_prefix_caching", True)),
        )
        return self._note(Trial(setting, outcome)), outcome

    def _try(self, setting: Setting, fastest: Outcome) -> Trial:
        self._on_trial(setting)
        order = replace(
            self._order,
            engine=_counting(self._order.engine, setting.arguments()),
            groups=self.groups,
            give_up_seconds=_SLOWER * fastest.seconds,
        )
        try:
            outcome = self._timed(order)
        except TrialFailed as failure:
            return self._note(Trial(setting, None, f"failed: {failure.message}"))
        return self._note(Trial(setting, outcome, "" if outcome.complete else "slower, given up"))

    def _timed(self, order: Order) -> Outcome:
        started = time.monotonic()
        left = max(self._ends - started, 0.0) + self._seconds / 2  # a trial that was expected to end may be late
        try:
            return self._run(order, left)
        finally:
            self._longest = max(self._longest, time.monotonic() - started)

    def _time_is_up(self) -> bool:
        self.ran_out = time.monotonic() + self._longest > self._ends
        return self.ran_out

    def _note(self, trial: Trial) -> Trial:
        self.trials.append(trial)
        self._on_trial(trial)
        return trial


def _require_usable(engine: EngineConfig, minutes: float, documents: int | None) -> None:
    if engine.kind != "vllm":
        raise ConfigError(f"Only the vllm engine is tuned here, not {engine.kind}.", hint="Leave --engine out.")
    if not minutes > 0:
        raise ConfigError(f"minutes must be more than 0, not {minutes!r}.")
    if documents is not None and documents < 1:
        raise ConfigError(f"documents must be at least 1, not {documents!r}.")


def _counting(engine: EngineConfig, arguments: dict[str, Any]) -> EngineConfig:
    """Return `engine` with these arguments, and with its statistics on: every trial pays for them alike."""
    merged = {**engine.arguments, **arguments, "disable_log_stats": False}
    return EngineConfig.create(engine.kind, merged, engine.trust_remote_code)


def _rows(opened: OpenSource, source: Source) -> int | None:
    """Return how many documents the source has: files at hand are counted, of a stream the Hub's figure is taken."""
    at_hand = "://" not in source.location and locate(source.location) is not None
    return opened.count() if at_hand else opened.expected_rows


def _trial_values(trial: Trial) -> dict[str, Any]:
    measured = trial.outcome
    return {
        "setting": asdict(trial.setting),
        "note": trial.note,
        "documents_per_second": trial.speed,
        "outcome": None if measured is None else {**asdict(measured), "costs": len(measured.costs)},
    }
