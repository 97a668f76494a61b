"""Try engine settings on a sample of the user's own documents; say which is the fastest and what the corpus will cost.

Every setting gets a fresh engine in a fresh process and the same documents. No setting changes the pairs; a precision
does, so those that are tried last are other recipes, and none of them is ever the best.
Knows nothing of corpus folders and of how to show what it found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from hfsynth.core.config import PRECISIONS, EngineConfig, SynthesizerConfig
from hfsynth.core.devices import visible_devices
from hfsynth.core.draws import Draws
from hfsynth.core.errors import ConfigError, SourceError
from hfsynth.core.records import Document, Row
from hfsynth.documents.source import OpenSource, Source, open_source
from hfsynth.engine.speculation import ARGUMENT, require_greedy, usual_engine
from hfsynth.job.tuning.settings import MARGIN, Setting, search
from hfsynth.job.tuning.trial import Group, Order, Outcome, Prediction, predict
from hfsynth.job.tuning.trial_process import TrialFailed, run_trial
from hfsynth.models.precision import engine_has_gpu
from hfsynth.quality.agreement import agreement
from hfsynth.synthesis.chains import grouped
from hfsynth.synthesis.exemplars import settle

LOOK_AT = 20_000
"""The sample is drawn from so many rows at the source's beginning: a source may be a stream without an end in sight."""

_SAMPLE_ON_GPU, _SAMPLE_ON_CPU = 512, 24
_FIRST_TRIALS_SHARE = 1 / 8
_SLOWER = 1.1
_PRECISIONS_ON_GPU = ("fp8", "fp8-kv")
_NO_TIME = "not tried: the time was up, more minutes give more"

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

    @property
    def grounding(self) -> float | None:
        """The mean grounding of a pair; None where there is none."""
        return self.outcome.fingerprint.grounding if self.outcome is not None and self.outcome.complete else None


Told = Trial | Setting | str | None
"""A setting that is to be tried (None for the engine as asked for), a precision that is, or a trial that has ended."""


@dataclass(frozen=True, slots=True)
class OtherRecipe:
    """The recipe in another precision, with the best setting. The trial has no outcome if it failed or was not run."""

    precision: str
    trial: Trial


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `tune` found. The first trial is the engine as it was asked for; `best` is one of the trials.

    `documents` is the size of the sample, `ran_out` is true where the time limit ended the search. `precision` is that
    of all trials, `others` are the recipes in other precisions that were to be tried.
    """

    trials: tuple[Trial, ...]
    best: Trial
    prediction: Prediction
    documents: int
    ran_out: bool
    precision: str
    others: tuple[OtherRecipe, ...] = ()

    @property
    def flags(self) -> list[str]:
        """The command line's options for what differs from the engine as it was asked for."""
        return self.best.setting.flags(self.trials[0].setting)

    @property
    def own_agreement(self) -> float | None:
        """How far the recipe agrees with itself from one setting to another; None where only the best one ended.

        A precision that agrees as much turns no more pairs than another batch does.
        """
        ended = (trial for trial in self.trials if trial is not self.best and trial.speed is not None)
        again = next(ended, None)
        return None if again is None else self.agreement(again)

    def agreement(self, trial: Trial) -> float | None:
        """Return the share of the best trial's pairs that `trial` has too; None where there is nothing to compare."""
        if self.best.outcome is None or trial.outcome is None:
            return None
        return agreement(self.best.outcome.fingerprint, trial.outcome.fingerprint)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "precision": self.precision,
            "sample_documents": self.documents,
            "trials": [_trial_values(trial) for trial in self.trials],
            "flags": self.flags,
            "engine_arguments": self.best.setting.arguments(),
            "prediction": asdict(self.prediction),
            "ran_out_of_time": self.ran_out,
            "own_agreement": self.own_agreement,
            "precisions": [self._precision_values(other) for other in self.others],
        }

    def _precision_values(self, other: OtherRecipe) -> dict[str, Any]:
        speed, best = other.trial.speed, self.best.speed
        return {
            "precision": other.precision,
            "note": other.trial.note,
            "documents_per_second": speed,
            "of_the_best": speed / best if speed is not None and best else None,
            "agreement": self.agreement(other.trial),
            "grounding": other.trial.grounding,
            "grounding_of_the_best": self.best.grounding,
        }


def tune(
    source: Source,
    config: SynthesizerConfig,
    *,
    engine: EngineConfig | None = None,
    documents: int | None = None,
    minutes: float = 5.0,
    seed: int = 0,
    precisions: Sequence[str] | None = None,
    on_trial: Callable[[Told], None] = lambda trial: None,
    run: RunTrial = run_trial,
) -> Tuning:
    """Measure engine settings on a sample of `source` and predict what the whole of it will take.

    The sample are chains of neighbouring documents, drawn by `seed` from the first 20,000 rows: `documents` of them,
    512 where there is a GPU and 24 where there is none, fewer where the first trial would take too much of the time.
    `minutes` bounds the search; a trial that cannot be expected to end within them is not begun. `on_trial` is told
    every setting before it is tried (None for the engine as asked for) and every trial after. The prediction is for one
    engine, and counts the filling and draining of the engine, which weigh less in a whole corpus.

    In the time that the search leaves, the best setting runs in other `precisions`: fp8 and fp8-kv where there is a GPU
    and none where there is not, unless they are named. They are other recipes with other pairs, and are only compared:
    see `Tuning.others` and `hfsynth.quality.agreement`; `on_trial` is told each one's name and its trial, too.

    Raise ConfigError for an engine that is not vLLM and for a precision that does not exist, SourceError and
    ColumnError for an unusable source, and TrialFailed, an EngineError, where the first trial already fails.
    """
    engine = engine or EngineConfig()
    _require_usable(engine, minutes, documents)
    opened = open_source(source)
    settled = settle(config, engine)
    require_greedy(engine, settled.sampling)
    engine = usual_engine(settled, engine)
    named = _other_precisions(settled.precision, precisions)
    wanted = documents or (_SAMPLE_ON_GPU if visible_devices() else _SAMPLE_ON_CPU)
    groups = sample(opened.rows(0, LOOK_AT), settled.shots, wanted, seed)
    if not any(document.text and document.text.strip() for group in groups for document in group):
        raise SourceError("The sample holds no text.", hint="Check --text-column, or use more --documents.")
    order = Order(settled, engine, groups)
    sweep = _Sweep(order, 60 * minutes, on_trial, run)
    best, outcome = sweep.search()
    others = tuple(OtherRecipe(name, sweep.in_precision(name, best.setting)) for name in named)
    prediction = predict(outcome.costs, _rows(opened), seed=seed)
    sampled = sum(map(len, sweep.groups))
    return Tuning(tuple(sweep.trials), best, prediction, sampled, sweep.ran_out, settled.precision, others)


def sample(rows: Iterable[Row], shots: int, documents: int, seed: int) -> tuple[Group, ...]:
    """Draw groups of `shots` neighbours, at least `documents` rows in all where there are as many, in random order.

    Each group is one that a job would make a chain of. Reads all of `rows` and keeps only what is drawn.
    """
    draws = Draws(f"tune/{seed}")
    wanted = -(-documents // shots)
    kept: list[list[Row]] = []
    for number, group in enumerate(grouped(rows, shots)):
        if len(kept) < wanted:
            kept.append(group)
        elif (place := draws.below(number + 1)) < wanted:
            kept[place] = group
    drawn = (kept[place] for place in draws.order(len(kept)))
    return tuple(tuple(Document(row["id"], row["text"]) for row in group) for group in drawn)


class _Sweep:
    """The trials of one call, against the clock."""

    def __init__(self, order: Order, seconds: float, on_trial: Callable[[Told], None], run: RunTrial) -> None:
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

    def in_precision(self, precision: str, setting: Setting) -> Trial:
        """Run another recipe with a setting, to its end so that all pairs can be compared, where there is time."""
        if self._is_late():
            return Trial(setting, None, _NO_TIME)
        self._on_trial(precision)
        trial = self._tried(setting, replace(self._order, config=replace(self._order.config, precision=precision)))
        self._on_trial(trial)
        return trial

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
        return self._note(self._tried(setting, replace(self._order, give_up_seconds=_SLOWER * fastest.seconds)))

    def _tried(self, setting: Setting, order: Order) -> Trial:
        """Run an order with a setting on the sample."""
        engine = _counting(order.engine, setting.arguments())
        try:
            outcome = self._timed(replace(order, engine=engine, groups=self.groups))
        except TrialFailed as failure:
            return Trial(setting, None, f"failed: {failure.message}")
        return Trial(setting, outcome, "" if outcome.complete else "slower, given up")

    def _timed(self, order: Order) -> Outcome:
        started = time.monotonic()
        left = max(self._ends - started, 0.0) + self._seconds / 2  # a trial that was expected to end may be late
        try:
            return self._run(order, left)
        finally:
            self._longest = max(self._longest, time.monotonic() - started)

    def _time_is_up(self) -> bool:
        self.ran_out = self._is_late()
        return self.ran_out

    def _is_late(self) -> bool:
        return time.monotonic() + self._longest > self._ends

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


def _other_precisions(own: str, named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the precisions to try beside the recipe's own; raise ConfigError for one that does not exist."""
    if named is None:
        named = _PRECISIONS_ON_GPU if engine_has_gpu() else ()
    known = [name for name in PRECISIONS if name != "auto"]  # which is one of the others
    for name in named:
        if name not in known:
            raise ConfigError(f"precisions must be of {', '.join(known)}, not {name!r}.")
    return tuple(name for name in dict.fromkeys(named) if name != own)


def _counting(engine: EngineConfig, arguments: dict[str, Any]) -> EngineConfig:
    """Return `engine` with these arguments, and with its statistics on: every trial pays for them alike."""
    merged = {**engine.arguments, **arguments, "disable_log_stats": False}
    return EngineConfig(engine.kind, merged, engine.trust_remote_code)


def _rows(opened: OpenSource) -> int | None:
    """Return how many documents the source has: files at hand are counted, of a stream the Hub's figure is taken."""
    return opened.count() if opened.is_local else opened.expected_rows


def _trial_values(trial: Trial) -> dict[str, Any]:
    return {
        "setting": asdict(trial.setting),
        "note": trial.note,
        "documents_per_second": trial.speed,
        "grounding": trial.grounding,
        "outcome": None if trial.outcome is None else _outcome_values(trial.outcome),
    }


def _outcome_values(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome without what is measured for each group and pair."""
    values = {**asdict(outcome), "costs": len(outcome.costs)}
    del values["fingerprint"]
    return values
