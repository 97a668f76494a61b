"""How far a job is, and what is in its folder: read by its own supervisor, or by anybody in another terminal.

Starts nothing and writes nothing, and loads no engine and no `datasets`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from hfsynth.core.decontamination import sentences
from hfsynth.core.errors import OutputError
from hfsynth.core.files import read_json, reading_values
from hfsynth.core.records import Counts
from hfsynth.core.screening import screening_sentences
from hfsynth.core.stores import any_path, is_store
from hfsynth.corpus.folder import Corpus, loading_call, split_order
from hfsynth.corpus.manifest import recorded
from hfsynth.job.folder_site import FolderSite
from hfsynth.job.journal import JournalPaths
from hfsynth.job.opening import open_site
from hfsynth.job.sessions import OpenShard, Session, working_seconds
from hfsynth.job.shards import read_extent, read_record, record_paths
from hfsynth.job.site import Site


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `total` counts the source's rows where that is known; seconds are the working time.

    `workers` is how many are running, `speed` the documents a second that these have finished. Of chains that have not
    ended: `in_flight` are the tokens, `early_documents` and `early_pairs` what is done of them. `phase` is what workers
    do before they have anything to count, and for how long.
    """

    counts: Counts
    rows: int
    total: int | None
    seconds: float
    workers: int = 0
    speed: float = 0.0
    in_flight: int = 0
    early_documents: int = 0
    early_pairs: int = 0
    phase: str = ""
    phase_seconds: float = 0.0

    @property
    def documents(self) -> int:
        """Documents that are done."""
        return self.counts.total_documents

    @property
    def pairs(self) -> int:
        """Pairs written about them."""
        return self.counts.pairs

    @property
    def output_tokens(self) -> int:
        """Tokens the model has written for these."""
        return self.counts.output_tokens

    @property
    def documents_seen(self) -> int:
        """Documents that are done, in chains that have not ended too."""
        return self.documents + self.early_documents

    @property
    def pairs_seen(self) -> int:
        """Pairs written about these."""
        return self.pairs + self.early_pairs

    @property
    def tokens_written(self) -> int:
        """Tokens the model has written, for documents that are not done too."""
        return self.counts.output_tokens + self.in_flight

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest takes at this speed; None where that cannot be told."""
        if self.total is None or not (self.rows and self.speed):
            return None
        documents_left = max(0, self.total - self.rows) * self.documents / self.rows
        return documents_left / self.speed


class JournalView:
    """Look at a job again and again; finished shards are read once. `site` is given where it is open already."""

    def __init__(self, corpus: Corpus, site: Site | None = None) -> None:
        self._corpus = corpus
        self._site = site or FolderSite(corpus.root)
        self._sessions = self._site.sessions()
        self._finished: set[int] = set()
        self._counts = Counts()
        self._rows = 0
        self._since = time.time()

    def progress(self, own: Session | None = None) -> Progress:
        """Add up finished shards and what is done of the others; `own` is newer than that session's file."""
        self._site.look(calmly=True)
        self._site.fetch_records()
        sessions = self._sessions.all()
        if own is not None:
            sessions = [*(session for session in sessions if session.worker != own.worker), own]
        self._add_finished()
        under_way = _furthest(sessions, self._finished).values()
        counts = sum((found.counts for found in under_way), self._counts)
        rows = sum((found.rows for found in under_way), self._rows)
        sessions = [_until_now(session) for session in sessions]
        running = [s for s in sessions if s.ended is None and time.time() - s.updated < self._site.fresh]
        phase, seconds = _phase(running) if sessions else ("starting", time.time() - self._since)
        expectation = read_json(JournalPaths(self._corpus.journal).expectation)
        extent = read_extent(self._corpus) or expectation
        total = None if extent is None else extent["rows"]
        return Progress(
            counts,
            rows,
            total,
            working_seconds(sessions),
            workers=len(running),
            speed=_speed(running),
            in_flight=sum(session.in_flight for session in running),
            early_documents=sum(session.early_documents for session in running),
            early_pairs=sum(session.early_pairs for session in running),
            phase=phase,
            phase_seconds=seconds,
        )

    def _add_finished(self) -> None:
        for shard, path in record_paths(self._corpus.parts).items():
            if shard not in self._finished:
                record = read_record(path)
                self._finished.add(shard)
                self._counts += record.counts
                self._rows += record.source_rows


def _furthest(sessions: Iterable[Session], finished: Collection[int]) -> dict[int, OpenShard]:
    """Return the unfinished shards, each as the worker that is furthest with it has it."""
    found: dict[int, OpenShard] = {}
    for session in sessions:
        for shard, state in session.open.items():
            if shard not in finished and (shard not in found or found[shard].rows < state.rows):
                found[shard] = state
    return found


def _until_now(session: Session) -> Session:
    """Return a session whose engine is at work now, though no document has ended since."""
    return replace(session, working_to=session.updated) if session.ended is None and session.in_flight else session


def _phase(running: Iterable[Session]) -> tuple[str, float]:
    """Return what all who run are about before they have anything to count, as the one that began last has it."""
    found = [session.phase for session in running]
    return min(found, key=itemgetter(1)) if found and all(name for name, _ in found) else ("", 0.0)


def _speed(running: Iterable[Session]) -> float:
    return sum(s.counts.total_documents / max(s.working_to - s.working_from, 1e-3) for s in running if s.working_from)


def inspect(folder: str | Path) -> dict[str, Any]:
    """Return a folder's state, recipe, statistics and files; raise OutputError where no job has been at work."""
    with open_site(folder) as site:
        site.fetch_state()
        return _inspected(site)


def _inspected(site: Site) -> dict[str, Any]:
    corpus = site.corpus
    plan, published = read_json(corpus.plan), read_json(corpus.config)
    if plan is None and published is None:
        raise OutputError(
            f"{site.url} holds no corpus of hfsynth.", hint=f"Make one with: hfsynth synthesize SOURCE {site.url}"
        )
    damaged = [str(damage) for damage in site.damages(digests=False)] if corpus.manifest.exists() else []
    site.look()
    finished = not damaged and published is not None and (plan is None or corpus.manifest.exists())
    return {
        "folder": site.url,
        "finished": finished,
        "damaged": damaged,
        "shards_finished": len(site.finished()),
        "recipe": published or {**plan["synthesizer"], "source": plan["source"]},
        "stats": read_json(corpus.stats),
        "progress": None if finished else _progress(JournalView(corpus, site).progress()),
        "files": site.files("data", "pairs"),
        "splits": _splits(corpus),
    }


def _splits(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Return the rows of each split of `pairs` and `data`, as the manifest has them."""
    found: dict[str, Counter[str]] = {}
    for path, record in recorded(corpus).items() if corpus.manifest.exists() else ():
        folder, _, name = path.partition("/")
        if isinstance(rows := record.get("rows"), int):
            found.setdefault(folder, Counter())[name.partition("-")[0]] += rows
    return {
        folder: {name: found[folder][name] for name in sorted(found[folder], key=split_order)}
        for folder in ("pairs", "data")
        if folder in found
    }


def _progress(progress: Progress) -> dict[str, Any]:
    left = progress.seconds_left
    return {
        "rows": progress.rows,
        "total_rows": progress.total,
        "documents": progress.documents,
        "pairs": progress.pairs,
        "workers": progress.workers,
        "seconds_left": None if left is None else round(left),
    }


def follow(folder: str | Path, on_progress: Callable[[Progress], None], *, every: float = 1.0) -> None:
    """Report the progress of the job in a folder until it is finished; from any process that can read the folder."""
    inspect(folder)
    with open_site(folder) as site:
        view, manifest = JournalView(site.corpus, site), site.corpus.manifest
        site.fetch_state()
        while not manifest.exists():
            on_progress(view.progress())
            time.sleep(every)
            if len(site.finished()) >= (read_extent(site.corpus) or {}).get("shards", math.inf):
                site.fetch(manifest)


def describe(facts: Mapping[str, Any]) -> str:
    """Return the facts as lines for people."""
    root = Path(facts["folder"])
    with reading_values(root / "stats.json", root / "synthesizer_config.json"):
        return "\n".join(_lines(facts))


def _thought(stats: Mapping[str, Any]) -> str:
    return f" ({stats['reasoning_tokens']:,} of them thought)" if stats.get("reasoning_tokens") else ""


def _exemplars(recipe: Mapping[str, Any], stats: Mapping[str, Any]) -> Iterator[str]:
    if exemplars := recipe.get("exemplars"):
        fewer = stats.get("fewer_exemplars")
        told = f"; fewer before {fewer:,} documents, beside which not all fit" if fewer else ""
        yield f"Exemplars  {exemplars['per_prompt']} a chain, from {exemplars['source']}{told}"


def _benchmarks(recipe: Mapping[str, Any], stats: Mapping[str, Any]) -> Iterator[str]:
    if told := stats.get("decontamination"):
        yield from (f"Benchmarks {sentence}" for sentence in sentences(told))
    elif found := recipe.get("decontaminate"):
        yield f"Benchmarks {', '.join(found['sources'])}, index sha256 {found['sha256'][:12]}"


def _identifiers(recipe: Mapping[str, Any], stats: Mapping[str, Any] | None) -> Iterator[str]:
    """Say what becomes of identifiers, until the statistics say what became of them."""
    if stats is None and recipe.get("pii"):
        yield f"Identifiers {recipe['pii']}, in documents before pairs are written"


def _state(facts: Mapping[str, Any]) -> str:
    return "damaged" if facts["damaged"] else "finished" if facts["finished"] else "unfinished"


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    recipe, stats = facts["recipe"], facts["stats"]
    yield f"Corpus     {facts['folder']} ({_state(facts)})"
    yield from (f"Damaged    {damage}" for damage in facts["damaged"])
    if facts["damaged"]:
        yield f"Check it   hfsynth check {facts['folder']}"
    if "source" not in recipe:
        yield from _mixed(facts)
        return
    source = recipe["source"]
    yield f"Source     {source['location'] or 'not stated'}, revision {source['revision'] or 'not stated'}"
    if isinstance(source.get("split"), list):
        yield f"Splits     {', '.join(source['split'])}"
    revision = f", revision {recipe['model_revision']}" if recipe["model_revision"] else ""
    asked = f" ({recipe['prompt']['name']})" if recipe.get("prompt") else ""
    yield f"Model      {recipe['model']}{revision}, {recipe['prompt_format']}{asked}, {recipe['shots']} shot(s)"
    if recipe.get("keep"):
        yield f"Kept only  {', '.join(recipe['keep'])}"
    yield from _exemplars(recipe, stats or {})
    yield from _benchmarks(recipe, stats or {})
    yield from _identifiers(recipe, stats)
    if stats is None:
        yield from _unfinished(facts)
        return
    yield f"Documents  {stats['total_documents']:,}: {_counted(stats['documents'])}"
    if stats.get("rewritten"):
        yield f"Texts      {stats['rewritten']:,} written anew"
    if stats.get("unreadable"):
        first = stats["unreadable_rows"][0]["reason"]
        yield f"Unreadable {stats['unreadable']:,} rows of the source; the first: {first}"
    yield f"Pairs      {stats['pairs']:,}; rejected: {_counted(stats['rejected']) or 'none'}"
    yield (
        f"Tokens     {stats['prompt_tokens']:,} prompt ({stats['cached_tokens']:,} cached), "
        f"{stats['output_tokens']:,} written{_thought(stats)}"
    )
    yield from _spent(stats)
    yield from (f"Screening  {told}" for told in screening_sentences(stats))
    yield from _held(facts)
    yield f"Load it    {loading_call(any_path(facts['folder']), 'pairs', facts['splits'].get('pairs', {}))}"


def _spent(stats: Mapping[str, Any]) -> Iterator[str]:
    """Say how fast it was, and what it cost."""
    if stats.get("seconds"):
        yield f"Speed      {stats['documents_per_second']} documents/s over {stats['seconds']:,.0f} s"
    if stats.get("engine_seconds"):
        yield (
            f"Cost       {stats['engine_seconds']:,.0f} s of engine time by {len(stats['workers'])} worker(s), "
            f"{stats['engine_restarts']} restart(s)"
        )


def _mixed(facts: Mapping[str, Any]) -> Iterator[str]:
    """Describe a folder of texts that were mixed from elsewhere: it has no pairs and no source of its own."""
    mixed = facts["stats"]["mix"]
    yield f"Mixture    {mixed['documents']:,} documents, {mixed['tokens']:,} tokens of {mixed['tokenizer']}"
    for part in mixed["parts"]:
        yield f"Part       {part['name']} ({part['kind']}): {part['documents']:,} documents, {part['tokens']:,} tokens"
    yield from _held(facts)
    yield f"Load it    {loading_call(any_path(facts['folder']), 'default', facts['splits'].get('data', {}))}"


def _held(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, folder in (("Pairs of", "pairs"), ("Texts of", "data")):
        splits = facts["splits"].get(folder, {})
        if splits:
            yield f"{name:10} {', '.join(f'{split} {rows:,}' for split, rows in splits.items())}"
    size = sum(facts["files"].values())
    yield f"Files      {len(facts['files'])} Parquet files, {size / 2**20:,.1f} MiB"


def _unfinished(facts: Mapping[str, Any]) -> Iterator[str]:
    progress = facts["progress"]
    of = "" if progress["total_rows"] is None else f" of {progress['total_rows']:,}"
    yield f"Shards     {facts['shards_finished']} finished"
    yield f"Rows       {progress['rows']:,}{of}; {progress['documents']:,} documents, {progress['pairs']:,} pairs"
    if is_store(facts["folder"]):
        yield "A kill     loses what a worker had in flight, and what it noted in the last half minute"
    if progress["workers"]:
        yield f"Workers    {progress['workers']} running; hfsynth info --watch {facts['folder']} follows them"
    else:
        yield f"           Give its hfsynth synthesize command again to go on, or hfsynth work {facts['folder']}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
