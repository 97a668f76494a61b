"""Take the later steps of a recipe again on a corpus that was just made: screen, verify, render, mix, as recorded.

Whether all of them can be taken is found out before the first. Each step recognises its own result, so the same call
goes on after an interruption. Several processes may call it for one folder: one of them works at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from hfsynth.core.config import EngineConfig
from hfsynth.core.files import read_json
from hfsynth.core.steps import ITSELF, Step
from hfsynth.core.store_paths import AnyPath, StorePath
from hfsynth.core.stores import any_path
from hfsynth.corpus.folder import Corpus, CorpusAt
from hfsynth.corpus.manifest import recorded
from hfsynth.documents.hf_datasets import open_texts
from hfsynth.job.launcher import Launcher
from hfsynth.job.leases import Holder, Leases
from hfsynth.job.progress import Progress
from hfsynth.job.screen import screen
from hfsynth.job.verify import verify
from hfsynth.publishing.repeatable import require_place, require_repeatable, screenings
from hfsynth.texts.corpus_folder import mix_folder, render_folder
from hfsynth.texts.layouts import Kind
from hfsynth.texts.mixture_parts import Part


@dataclass(frozen=True, slots=True)
class Means:
    """What steps are taken with: the engine and the launcher of the judge, and a judge in the place of the recipe's."""

    engine: EngineConfig
    judge: str | None = None
    launcher: Launcher | None = None
    grace: float = 30.0
    on_progress: Callable[[Progress], None] = lambda progress: None


def repeat_steps(
    folder: str | AnyPath,
    steps: Sequence[Step],
    *,
    engine: EngineConfig | None = None,
    judge: str | None = None,
    launcher: Launcher | None = None,
    grace: float = 30.0,
    on_step: Callable[[Step], None] = lambda step: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[str, ...]:
    """Take `steps` (as `hfsynth.recipe_steps` returns them) on the finished corpus `folder`; return those that were.

    A step whose result is there is left out. `engine` runs the judge, which is the recipe's or `judge`; `launcher` and
    `grace` are those of `hfsynth.verify`. `on_step` is told each step before it is taken. Raise ConfigError, before
    anything is done, for a step that cannot be taken here: of a mixture with parts that lie on another machine, with a
    tokenizer or a judge from there, one that this version does not know, or one that needs a folder where the corpus is
    on a store. There nobody waits for another process: texts that two of them make are the same.
    """
    means = Means(engine or EngineConfig(), judge, launcher, grace, on_progress)
    require_repeatable(steps, means.engine.kind, judge)
    require_place(steps, folder)
    corpus, taken = CorpusAt(any_path(folder)), []
    with _alone(corpus):
        for step in steps:
            if _is_taken(corpus, step):
                continue
            on_step(step)
            if _TAKE[step.name](corpus, step.settings, means):
                taken.append(step.name)
    return tuple(taken)


def _alone(corpus: CorpusAt[AnyPath]) -> AbstractContextManager[object]:
    """Wait until no other process takes steps in a folder."""
    if isinstance(corpus.root, StorePath):
        return nullcontext()
    return Leases(Corpus(corpus.root).journal / "steps", Holder.this_process()).waiting_for("steps")


def _is_taken(corpus: CorpusAt[Any], step: Step) -> bool:
    """Say whether the training texts are the result of this step. A verification knows its own result."""
    if step.name not in ("render", "mix") or not any(path.startswith("data/") for path in recorded(corpus)):
        return False
    told = (read_json(corpus.config) or {}).get(step.name)
    return bool(told == step.settings and told is not None)


def _screen(corpus: CorpusAt[Any], settings: Mapping[str, Any], means: Means) -> bool:
    made = [
        screen(
            corpus.root,
            pii=one.pii,
            pii_model=one.pii_model,
            decontaminate=one.benchmarks or (),
            duplicates=one.duplicates,
            language=one.languages,
            grace=means.grace,
            on_progress=means.on_progress,
        )
        for one in screenings(settings)
    ]
    return any(one.worked for one in made)


def _verify(corpus: CorpusAt[Any], settings: Mapping[str, Any], means: Means) -> bool:
    judge = settings["judge"]
    own = means.judge is None
    found = verify(
        corpus.root,
        str(judge["model"]) if own else str(means.judge),
        judge_revision=judge.get("model_revision") if own else None,
        keep=settings.get("keep") or (),
        sample=settings.get("sample"),
        seed=settings.get("seed", 0),
        window=judge.get("window"),
        engine=means.engine,
        launcher=means.launcher,
        grace=means.grace,
        on_progress=means.on_progress,
    )
    return found.worked


def _render(corpus: CorpusAt[Any], settings: Mapping[str, Any], means: Means) -> bool:
    render_folder(corpus.root, **settings)
    return True


def _mix(corpus: CorpusAt[Any], settings: Mapping[str, Any], means: Means) -> bool:
    parts = [_part(corpus, name, told) for name, told in settings["sources"].items()]
    asked = {name: value for name, value in settings.items() if name != "sources"}
    mix_folder(parts, corpus.root, **asked)
    return True


def _part(corpus: CorpusAt[Any], name: str, told: Mapping[str, Any]) -> Part:
    """Open a part of a mixture again: the corpus's own texts, or a dataset on the Hub as it was then."""
    splits, source = told.get("splits"), str(told["source"])
    place, revision = (str(corpus.root), None) if source == ITSELF else (source, told["revision"])
    data = (
        {split: open_texts(place, split=split, revision=revision) for split in splits}
        if splits
        else open_texts(place, revision=revision)
    )
    return Part(name, data, Kind(told["kind"]), told.get("weight"), bool(told.get("repeat")), origin=place)


_TAKE: Mapping[str, Callable[[CorpusAt[Any], Mapping[str, Any], Means], bool]] = {
    "screen": _screen,
    "verify": _verify,
    "render": _render,
    "mix": _mix,
}
