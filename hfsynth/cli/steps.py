"""What `synthesize --recipe` does after the pairs are written: the later steps that the recipe records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hfsynth.cli import console, launchers

if TYPE_CHECKING:
    from hfsynth.core.config import EngineConfig
    from hfsynth.core.steps import Step
    from hfsynth.job.run import JobResult


def later_steps(recipe: str | None, engine: str, judge: str | None, out: Path) -> tuple[Step, ...]:
    """Return the steps that a recipe records after the synthesis; raise ConfigError where one cannot be taken here."""
    from hfsynth.core.recipes import recipe_steps

    found = recipe_steps(recipe) if recipe else ()
    if found:
        from hfsynth.publishing.repeatable import require_place, require_repeatable

        require_repeatable(found, engine, judge)
        require_place(found, out)
    return found


def take(
    steps: Sequence[Step],
    result: JobResult,
    wanted: launchers.Wanted,
    *,
    engine: EngineConfig,
    judge: str | None,
    grace: float,
    quiet: bool,
) -> JobResult:
    """Take the steps on a finished corpus, and return what the call has left then."""
    from hfsynth.core.files import read_json
    from hfsynth.core.stores import any_path
    from hfsynth.publishing.repeating import repeat_steps

    with launchers.interruptible(), console.job_progress(quiet=quiet) as display:
        taken = repeat_steps(
            result.root,
            steps,
            engine=engine,
            judge=judge,
            launcher=launchers.launcher_for(wanted),
            grace=grace,
            on_step=(lambda step: None) if quiet else lambda step: console.say(f"The recipe goes on: {step.name}."),
            on_progress=display,
        )
    stats = read_json(any_path(result.root) / "stats.json") or result.stats
    return replace(result, stats=stats, worked=result.worked or bool(taken))
