"""Screen a finished corpus: its files looked at by workers, and the folder replaced as one change.

The same workers' leases as those of a synthesis, in a folder within the corpus's own; whatever is killed, the same call
goes on. Until the last rename the corpus is as it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.decontamination import Decontamination
from hfsynth.core.devices import usable_cores
from hfsynth.core.errors import OutputError
from hfsynth.core.files import file_digest, read_json, write_json
from hfsynth.core.identifier_models import IdentifierModel
from hfsynth.core.records import Counts
from hfsynth.core.screening import Screening, joined, settings_of, steps_of
from hfsynth.corpus.exchange import mend_folder
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.manifest import recorded
from hfsynth.documents.source import Source
from hfsynth.job.concurrency import Stop, stopping
from hfsynth.job.duplicates import decide, is_decided
from hfsynth.job.finish import file_record, reopened
from hfsynth.job.journal import JournalPaths
from hfsynth.job.launcher import Launcher
from hfsynth.job.leases import Holder, Leases, clear
from hfsynth.job.progress import Progress
from hfsynth.job.republish import NewPairs, republish
from hfsynth.job.screened_parts import pairs_files, texts_at
from hfsynth.job.screening_worker import ScreeningFolders
from hfsynth.job.second_pass import begin_pass, pairs_digest, require_pairs
from hfsynth.job.shards import ShardRecord, finished_shards, part_path
from hfsynth.job.spec import JobSpec, ScreeningSpec
from hfsynth.job.working import patience, work
from hfsynth.models.mined import MINED
from hfsynth.quality.decontamination import open_index, settled_decontamination
from hfsynth.quality.marking import marked
from hfsynth.quality.token_classifier import settled_model
from hfsynth.quality.words import language_codes

_FOLDER = "screen"


@dataclass(frozen=True, slots=True)
class ScreenResult:
    """What came of a screening: a step for each measure, with its settings and counts, and the corpus's statistics.

    `worked` says whether anything was left to do, `texts_removed` that training texts went with the pairs that they
    were made of. Of a dry run the statistics are those of before.
    """

    root: Path
    steps: Sequence[Mapping[str, Any]]
    stats: Mapping[str, Any]
    worked: bool = True
    texts_removed: bool = False


def screen(
    folder: str | Path,
    *,
    pii: str | None = None,
    pii_model: str | IdentifierModel | None = None,
    duplicates: bool = False,
    language: Iterable[str] = (),
    decontaminate: str | Sequence[str] | Decontamination = (),
    dry_run: bool = False,
    launcher: Launcher | None = None,
    grace: float = 30.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> ScreenResult:
    """Screen the finished corpus `folder`; the same call goes on after a kill.

    `pii` says what becomes of identifiers (`hfsynth.quality.identifiers`): `mark` puts a mark such as `<EMAIL>` in the
    place of each, `drop` takes out documents and pairs with any, `report` counts them. `pii_model` names a token
    classifier, a folder or one on the Hub, that tells persons beside them; an `hfsynth.IdentifierModel` says which
    kinds and revision (needs `hfsynth[pii]`). `duplicates` takes out documents
    that are the same as an earlier one or nearly so (Jaccard similarity of 5-word shingles, 0.8), and repeated pairs.
    `language` are codes of ISO 639, or `unknown`: documents in others go. `decontaminate` names benchmarks as
    `hfsynth.open_index` takes them: documents and pairs that hold a question by half or more are taken out.
    Columns in: `text`, `pairs` and `synthesis`, and `verdicts` where there is one; the others are not looked at.

    Every row stays. A document that is taken out has the status `screened` and gives no training text; its pairs and
    others that are taken out are in `synthesis.rejected`, with the reason `language`, `contaminated`, `identifier` or
    `duplicate`.
    Where anything is changed, training texts and figures that were made of the pairs go too: render again.
    `dry_run` counts and changes nothing.

    A worker does one file of `pairs/` at a time: this process, or those that `launcher` starts. A folder that is
    screened so already is recognised. Raise ConfigError for settings that cannot be, or a library that is missing,
    SourceError for benchmarks that cannot be read, OutputError for a folder without finished pairs, or
    one of which another screening is unfinished.
    """
    root = Corpus(Path(folder)).root
    benchmarks = Decontamination.read(decontaminate or None)
    settled = None if benchmarks is None else settled_decontamination(benchmarks)
    asked = IdentifierModel(pii_model) if isinstance(pii_model, str) else pii_model
    languages = language_codes(language) if language else ()
    settings = Screening(pii, duplicates, languages, settled, None if asked is None else settled_model(asked))
    mend_folder(root)
    corpus = Corpus(root)
    pairs = require_pairs(corpus)
    stats: dict[str, Any] = read_json(corpus.stats) or {}
    if (done := _steps_done(stats, settings, pairs)) is not None and not dry_run:
        return ScreenResult(root, done, stats, worked=False)
    with _workplace(corpus, dry_run=dry_run) as place:
        job = _Job(corpus, settings, ScreeningFolders(place), pairs)
        with stopping(grace if launcher is None else patience(grace)) as stop:
            job.begin()
            job.work(launcher, grace, stop, on_progress)
        if dry_run:
            return ScreenResult(root, steps_of(settings, job.counts().screened), stats)
        texts = corpus.data.exists()
        job.publish()
    clear(JournalPaths(corpus.journal).leases)
    stats = read_json(corpus.stats) or {}
    steps = _steps_done(stats, settings, pairs_digest(corpus)) or []
    return ScreenResult(root, steps, stats, texts_removed=texts and not corpus.data.exists())


def default_workers(folder: str | Path) -> int:
    """Return how many processes have something to do: one a file, one a core; 0 where this one alone can do it."""
    wanted = min(len(usable_cores()), len(pairs_files(Corpus(Path(folder)))))
    return wanted if wanted > 1 else 0


def _workplace(corpus: Corpus, *, dry_run: bool) -> AbstractContextManager[Path]:
    """Return where the work is kept: beside the pairs, or, where nothing may be changed, where it goes at the end."""
    if not dry_run:
        return nullcontext(corpus.journal / _FOLDER)

    class Elsewhere(tempfile.TemporaryDirectory[str]):
        def __enter__(self) -> Path:  # type: ignore[override]
            return Path(super().__enter__())

    return Elsewhere(prefix="hfsynth-screen-")


def _steps_done(stats: Mapping[str, Any], settings: Screening, pairs: str) -> list[Mapping[str, Any]] | None:
    """Return what earlier passes have found for these very settings; None where one of them was never taken.

    A report is one of the pairs that are there; what was taken out or marked stays so, whatever came after.
    """
    told = stats.get("screen") or {}
    if pairs not in (told.get("result"), (stats.get("verify") or {}).get("result")):
        return None
    found = []
    for measure in settings.measures:
        same = [step for step in told["steps"] if settings_of(step) == measure] if told else []
        if not same or (measure.get("mode") == "report" and same[-1]["result"] != pairs):
            return None
        found.append(same[-1])
    return found


@dataclass(frozen=True, slots=True)
class _Job:
    """A screening of a corpus whose pairs have the digest `pairs`."""

    corpus: Corpus
    settings: Screening
    folders: ScreeningFolders
    pairs: str

    @property
    def leases(self) -> Leases:
        return Leases(JournalPaths(self._plan.journal).leases, Holder.this_process())

    @property
    def _plan(self) -> Corpus:
        return Corpus(self.folders.root)

    def begin(self) -> None:
        """Write down what is done, or find that it was begun."""
        leases = Leases(JournalPaths(self.corpus.journal).leases, Holder.this_process())
        with leases.waiting_for("plan") if self._is_inside else nullcontext():
            begin_pass(self._plan, {"screen": self.settings.to_dict(), "pairs": self.pairs}, "screened", self._lay_out)

    @property
    def _is_inside(self) -> bool:
        return self.folders.root.parent == self.corpus.journal

    def _lay_out(self) -> None:
        if self.settings.benchmarks is not None:
            open_index(self.settings.benchmarks).keep(self.folders.index)
        files = pairs_files(self.corpus)
        rows = sum(pq.read_metadata(path).num_rows for path in files)
        for round_ in (self.folders.looked, self.folders.made):
            write_json(JournalPaths(round_.journal).extent, {"shards": len(files), "rows": rows, "exact": True})

    def work(
        self, launcher: Launcher | None, grace: float, stop: Stop, on_progress: Callable[[Progress], None]
    ) -> None:
        """Have all files screened, in two rounds where duplicates are looked for."""
        if self.settings.duplicates:
            work(self._spec(grace, looks=True), None, launcher, stop, on_progress)
            if stop.requested:
                stop.leave()
            with self.leases.waiting_for("decide"):
                if not is_decided(self.folders.duplicates):
                    self._decide()
        work(self._spec(grace, looks=False), None, launcher, stop, on_progress)
        if stop.requested:
            stop.leave()

    def _decide(self) -> None:
        files, marks = pairs_files(self.corpus), self.settings.pii in ("mark", "drop")

        def texts(file: int, rows: NDArray[np.int32]) -> Iterable[str]:
            found = texts_at(files[file], rows)
            return map(marked, found) if marks else found

        decide(self.folders.looked.parts, [path.name for path in files], self.folders.duplicates, texts)

    def _spec(self, grace: float, *, looks: bool) -> JobSpec:
        out = self.folders.looked if looks else self.folders.made
        return JobSpec(
            source=Source(str(self.corpus.pairs)),
            revision=self.pairs,
            out=str(out.root.absolute()),
            config=SynthesizerConfig(MINED),
            engine=EngineConfig("scripted"),
            shard_rows=1,
            grace=grace,
            screening=ScreeningSpec(str(self.corpus.root.absolute()), self.settings, looks),
        )

    def counts(self) -> Counts:
        """Return the counts of all rows."""
        return sum((record.counts for record in finished_shards(self.folders.made.parts).values()), Counts())

    def publish(self) -> None:
        """Put the screened rows in the place of the old ones, unless another call has done so."""
        leases = Leases(JournalPaths(self.corpus.journal).leases, Holder.this_process())
        with leases.waiting_for("publish"):
            if self._plan.plan.exists():
                self._publish()

    def _publish(self) -> None:
        old, made = pairs_files(self.corpus), self.folders.made
        records = finished_shards(made.parts)
        if len(records) != len(old):
            raise OutputError(f"{made.root} has files that are not done.", hint="Give the same command again.")
        known = recorded(self.corpus)
        files = {}
        for shard, path in enumerate(old):
            same = known[f"pairs/{path.name}"]["sha256"] == records[shard].sha256
            files[path.name] = path if same else _whole(part_path(made.parts, shard), records[shard])
        stats: dict[str, Any] = read_json(self.corpus.stats) or {}
        new = steps_of(self.settings, self.counts().screened)
        before = (stats.get("screen") or {}).get("steps", [])

        def told(folder: Corpus) -> dict[str, Any]:
            result = pairs_digest(folder)
            steps = joined(before, [{**step, "result": result} for step in new])
            return {"screen": {"steps": steps, "result": result}}

        republish(
            self.corpus,
            NewPairs(
                files,
                {path.name: file_record(records[shard]) for shard, path in enumerate(old)},
                self.counts(),
                changed=list(files.values()) != old,
            ),
            without=self.folders.root,
            stats=told,
            recipe={"screen": [settings_of(step) for step in joined(before, new)]},
        )


def _whole(part: Path, record: ShardRecord) -> Path:
    """Return a part; raise OutputError, and have it made again, where it was lost or damaged."""
    if not part.exists():
        raise reopened(part, part, "is missing")
    if file_digest(part) != (record.sha256, record.size):
        raise reopened(part, part, "is damaged: it is not what was written")
    return part
