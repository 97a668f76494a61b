"""A synthesis job: a source in, a corpus folder out, by any number of workers, whatever is killed in the meantime.

The folder's plan says what the job is, workers finish its shards one by one, and only the last step makes the pairs
visible. Knows nothing of cards or the Hub, and of engines only that they drive chains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hfsynth.core.addresses import without_credentials
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, OutputError, SourceError, UnreadableRowsError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.files import read_json, write_json, writing
from hfsynth.core.recipes import as_begun
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.manifest import require_whole
from hfsynth.documents.readers import BadRow
from hfsynth.documents.source import OpenSource, Source
from hfsynth.documents.splits import SplitLayout, SplitSource, open_source_splits
from hfsynth.engine.loading import config_of
from hfsynth.engine.protocol import Engine
from hfsynth.job import changed_source
from hfsynth.job.concurrency import stopping
from hfsynth.job.finish import finish, stats_so_far, unreadable_rows
from hfsynth.job.journal import JournalPaths
from hfsynth.job.launcher import Launcher
from hfsynth.job.leases import Holder, Leases, clear
from hfsynth.job.leftovers import sweep, sweep_finished
from hfsynth.job.progress import Progress
from hfsynth.job.reopen import has_all_files, reopen
from hfsynth.job.shards import finished_shards, read_extent, record_paths, write_extent, write_layout
from hfsynth.job.spec import JobSpec, ShardRange, part_schema
from hfsynth.job.working import patience, work
from hfsynth.synthesis.exemplars import settle, with_exemplars
from hfsynth.synthesis.prompts import Named, named_in_short, require_personas, with_prompt

SHARD_ROWS = 4096
BAD_ROWS = ("stop", "skip")

_TOLD = 20
_GO_ON = (
    "The source has changed: --continue-with-changed-source keeps the finished shards whose rows are the same. Or give "
    "another output folder."
)
_ELSEWHERE = "Give another output folder, or remove this one."
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # as a path has it: of two slashes one is left


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a call left: where it lies, what was counted, and whether this call had anything left to do.

    `finished` is False where a range of shards was asked for and others are still missing.
    """

    root: Path
    stats: Mapping[str, Any]
    worked: bool
    finished: bool = True


def synthesize(
    source: Source,
    out: str | Path,
    config: SynthesizerConfig,
    *,
    exemplars: str | Exemplars | None = None,
    prompt: Named | None = None,
    engine: EngineConfig | Engine | None = None,
    shard_rows: int | None = None,
    shards: ShardRange = (0, None),
    launcher: Launcher | None = None,
    max_engine_restarts: int = 3,
    grace: float = 30.0,
    bad_rows: str = "stop",
    continue_with_changed_source: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> JobResult:
    """Synthesize a whole source into the corpus folder `out`; the same call goes on where a killed one stopped.

    A source of several splits (named, or `all`) is one job: its shards are done together, no chain crosses a split, and
    each split has its own files. Writes `pairs/`, `synthesizer_config.json`, `stats.json` and a README that
    `load_dataset(out, "pairs")` reads. A finished job is recognised and starts no engine; where parts of it were lost,
    only these are made anew. Calls at the same time share the work. `shard_rows` is the number of source rows a shard,
    a multiple of the shots; `shards` limits this call to a range of them. Without a `launcher` the work is done in
    this process, with one (`LocalLauncher`, `RayLauncher`) in processes of its own.

    `exemplars` take the place of the recipe's: a file, `user/dataset[@revision]`, or `hfsynth.Exemplars`. So does
    `prompt`: a built-in prompt recipe's name, a TOML file, or a `PromptRecipe`.

    An engine that dies is loaded again, at most `max_engine_restarts` times in a row (for each worker)
    without a finished document in between; a document with which it keeps dying gets the status `failed`. SIGINT and
    SIGTERM let what is in flight end within `grace` seconds, then raise KeyboardInterrupt or SystemExit; a second one
    does so at once.

    A row of the source that cannot be read holds nothing up: everything else is done first. With `bad_rows` "stop"
    UnreadableRowsError then names such rows and nothing is published; with "skip" the corpus is published without
    them, and they are counted as `unreadable`. With `continue_with_changed_source` a folder whose source has changed
    since, mended or grown or otherwise, keeps the finished shards whose rows are the same, and the others are done.

    Raise OutputError when the folder holds another job's result or cannot be written, SourceError and ColumnError for
    an unusable source, ModelError for an unusable model, EngineError for one that keeps dying.
    """
    if bad_rows not in BAD_ROWS:
        raise ConfigError(f"bad_rows is one of {', '.join(BAD_ROWS)}, not {bad_rows!r}.")
    engine_config = config_of(engine)
    rows_a_shard = _shard_rows(shard_rows, config.shots)
    corpus = Corpus(Path(out))
    _refuse_url(corpus.root)
    _refuse_foreign(corpus)
    source, opened = open_source_splits(source)
    config = with_prompt(with_exemplars(config, exemplars), prompt)
    require_personas(config, opened.features)
    config = _pinned(config, engine_config, corpus, gpu=None if launcher is None else launcher.on_gpu)
    identity = _identity(source, opened, config, rows_a_shard)
    if continue_with_changed_source and isinstance(opened, SplitSource):
        raise ConfigError(
            "A job of several splits cannot go on with a changed source.", hint="Give a new folder, or one split a job."
        )
    _settle_source(corpus, identity, opened, config, go_on=continue_with_changed_source)
    _refuse_other(corpus, read_json(corpus.plan), identity)
    if corpus.manifest.exists() and _is_whole(corpus):
        sweep_finished(corpus)  # whoever published may have been killed before it did so
        return JobResult(corpus.root, read_json(corpus.stats), worked=False)
    sweep(corpus)
    leases = _begin(corpus, identity, opened)
    if any(path.exists() for path in (corpus.pairs, corpus.manifest, corpus.former)):
        with leases.waiting_for("publish"):
            reopen(corpus)
    spec = JobSpec(
        source=source,
        revision=opened.revision,
        out=str(corpus.root.absolute()),
        config=config,
        engine=engine_config,
        shard_rows=rows_a_shard,
        shards=shards,
        max_engine_restarts=max_engine_restarts,
        grace=grace,
    )
    with stopping(grace if launcher is None else patience(grace)) as stop:
        work(spec, opened, launcher, stop, on_progress)
        if stop.requested:
            stop.leave()
    whole = continue_with_changed_source  # whatever a stream's dataset declares
    return _result(corpus, identity, opened, leases, shards, skip=bad_rows == "skip", whole=whole)


def _result(
    corpus: Corpus,
    identity: Mapping[str, Any],
    opened: OpenSource,
    leases: Leases,
    shards: ShardRange,
    *,
    skip: bool,
    whole: bool,
) -> JobResult:
    """Publish the corpus if it is complete and nobody else has."""
    extent = read_extent(corpus)
    if shards != (0, None) and (extent is None or len(record_paths(corpus.parts)) < extent["shards"]):
        return JobResult(corpus.root, stats_so_far(corpus), worked=True, finished=False)
    opened.require_unchanged()
    with leases.waiting_for("publish"):
        if not whole:
            _require_expected(corpus)
        if not skip and not corpus.manifest.exists():
            _require_readable(corpus)
        stats = read_json(corpus.stats) if corpus.manifest.exists() else finish(corpus, identity)
    clear(JournalPaths(corpus.journal).leases)
    return JobResult(corpus.root, stats, worked=True)


def _settle_source(
    corpus: Corpus, identity: Mapping[str, Any], opened: OpenSource, config: SynthesizerConfig, *, go_on: bool
) -> None:
    """Bring the folder's job to the source as it is now, where that alone is new and the caller wants to go on."""
    if not corpus.plan.exists():
        return
    leases = Leases(JournalPaths(corpus.journal).leases, Holder.this_process())
    with leases.waiting_for("plan"):
        changed_source.complete(corpus)
        if go_on and _only_source_changed(read_json(corpus.plan), identity):
            schema = part_schema(opened.features, config)
            changed_source.begin(corpus, identity, opened.read, schema, leases)
            changed_source.complete(corpus)


def _only_source_changed(there: Mapping[str, Any] | None, here: Mapping[str, Any]) -> bool:
    begun = there.get("source") if there is not None else None
    if there is None or not isinstance(begun, Mapping):
        return False
    same_source = {**here, "source": {**here["source"], "revision": begun.get("revision")}}
    return begun.get("revision") != here["source"]["revision"] and not list(_differences(there, same_source))


def _require_readable(corpus: Corpus) -> None:
    """Raise UnreadableRowsError where rows of the source could not be read."""
    found = unreadable_rows(finished_shards(corpus.parts))
    if found:
        listed = [row.reason for row in found[:_TOLD]]
        more = [f"and {len(found) - _TOLD:,} more"] if len(found) > _TOLD else []
        raise UnreadableRowsError(
            "\n".join([f"{len(found):,} rows of the source cannot be read; all others are done:", *listed, *more]),
            hint="Mend them and add --continue-with-changed-source, or leave them out with --bad-rows skip.",
        )


def _require_expected(corpus: Corpus) -> None:
    """Raise SourceError where a stream ended before the number of rows that its dataset declares.

    Its last shard is then done again: the same command reads on from there.
    """
    extent, expectation = read_extent(corpus), read_json(JournalPaths(corpus.journal).expectation)
    if extent is None or expectation is None or extent.get("exact") or extent["rows"] >= expectation["rows"]:
        return
    with writing(corpus.parts):
        JournalPaths(corpus.journal).extent.unlink()
        _, record = max(record_paths(corpus.parts).items())
        record.unlink()
    raise SourceError(
        f"The source ended after {extent['rows']:,} rows, and declares {expectation['rows']:,}.",
        hint="Give the same command again: it reads on from there. If that is all there is, add "
        "--continue-with-changed-source.",
    )


def job_plan(
    source: Source,
    out: str | Path,
    config: SynthesizerConfig,
    *,
    exemplars: str | Exemplars | None = None,
    engine: EngineConfig | Engine | None = None,
    shard_rows: int | None = None,
    continue_with_changed_source: bool = False,
) -> dict[str, Any]:
    """Return what `synthesize` would do, as plain values: nothing is written and no engine is started.

    Raise what `synthesize` would raise for the source, the model's name and the folder.
    """
    corpus = Corpus(Path(out))
    _refuse_url(corpus.root)
    _refuse_foreign(corpus)
    source, opened = open_source_splits(source)
    require_personas(config, opened.features)
    config = _pinned(with_exemplars(config, exemplars), config_of(engine), corpus)
    identity = _identity(source, opened, config, _shard_rows(shard_rows, config.shots))
    found = read_json(corpus.plan)
    if not (continue_with_changed_source and _only_source_changed(found, identity)):
        _refuse_other(corpus, found, identity)
    finished = record_paths(corpus.parts)
    state = "finished" if corpus.manifest.exists() else "started" if corpus.plan.exists() else "new"
    first = next((row for row in opened.read() if not isinstance(row, BadRow)), None)
    return {
        "out": str(corpus.root),
        "state": state,
        "shards_finished": len(finished),
        "rows": exact if (exact := opened.exact_rows()) is not None else opened.expected_rows,
        "first_document": None if first is None else {"id": first["id"], "text": (first["text"] or "")[:200]},
        **identity,
    }


def _shard_rows(asked: int | None, shots: int) -> int:
    if asked is None:
        return -(-SHARD_ROWS // shots) * shots
    if asked < 1 or asked % shots:
        raise ConfigError(f"A shard of {asked} rows is no multiple of {shots} shots.", hint="Use another --shard-rows.")
    return asked


def _pinned(
    config: SynthesizerConfig, engine: EngineConfig, corpus: Corpus, *, gpu: bool | None = None
) -> SynthesizerConfig:
    """Pin what is not pinned, and go on as the folder's job was begun."""
    begun = (read_json(corpus.plan) or {}).get("synthesizer")
    found = settle(config, engine, gpu=gpu)
    return found if begun is None else as_begun(found, begun, precision_asked=config.precision != "auto")


def _identity(source: Source, opened: OpenSource, config: SynthesizerConfig, shard_rows: int) -> dict[str, Any]:
    """Return what decides the result, as plain values."""
    split = list(source.split) if isinstance(source.split, tuple) else source.split  # as JSON gives it back
    return {
        "source": {
            **asdict(source),
            "location": without_credentials(source.location),
            "split": split,
            "revision": opened.revision,
        },
        "synthesizer": config.to_dict(),
        "shard_rows": shard_rows,
    }


def _is_whole(corpus: Corpus) -> bool:
    """Return whether nothing of a finished corpus is lost; raise OutputError where no job can make it anew."""
    if corpus.plan.exists():
        return has_all_files(corpus)
    require_whole(corpus.root, digests=True)
    return True


def _refuse_url(root: Path) -> None:
    scheme = _URL.match(str(root))
    if scheme is not None:
        raise OutputError(
            f"A job works in a folder, not at {scheme[1]}://: it must append to files, link and rename them.",
            hint="Give a folder, on a shared file system where several machines work, and copy the finished corpus "
            "from there; `hfsynth push` sends it to the Hub.",
        )


def _refuse_foreign(corpus: Corpus) -> None:
    in_the_way = next((path for path in (corpus.root, *corpus.root.absolute().parents) if path.is_file()), None)
    if in_the_way is not None:
        raise OutputError(f"{in_the_way} is a file, not a folder.", hint="Give another output folder.")
    if corpus.root.is_dir() and any(corpus.root.iterdir()) and not corpus.journal.is_dir():
        raise OutputError(
            f"{corpus.root} is not empty and holds no job of hfsynth.", hint="Give a new or an empty folder."
        )


def _begin(corpus: Corpus, identity: Mapping[str, Any], opened: OpenSource) -> Leases:
    """Write down what the job is and how long its source, or check that the folder's job is the same."""
    with writing(corpus.journal):
        corpus.journal.mkdir(parents=True, exist_ok=True)
    leases = Leases(JournalPaths(corpus.journal).leases, Holder.this_process())
    with leases.waiting_for("plan"):
        found = read_json(corpus.plan)
        _refuse_other(corpus, found, identity)
        if found is None:
            write_json(corpus.plan, identity)
        if isinstance(opened, SplitSource):
            known = read_extent(corpus)  # counting may mean to read everything: once is enough
            sizes = known["splits"] if known else opened.sizes(at_hand=opened.is_local)
            write_layout(corpus, SplitLayout(sizes, identity["shard_rows"]))
        elif (rows := opened.exact_rows()) is not None:
            write_extent(corpus, rows, identity["shard_rows"], exact=True)
        elif opened.expected_rows is not None:
            write_json(JournalPaths(corpus.journal).expectation, {"rows": opened.expected_rows})
    return leases


def _refuse_other(corpus: Corpus, found: Mapping[str, Any] | None, identity: Mapping[str, Any]) -> None:
    differences = [] if found is None else list(_differences(found, identity))
    if differences:
        raise OutputError(
            f"{corpus.root} holds the result of another recipe: {'; '.join(differences)}.",
            hint=_GO_ON if _only_source_changed(found, identity) else _ELSEWHERE,
        )


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    silent = {"location", "chosen"}  # a revision pins the content, wherever it lies; so does the exemplars' digest
    if "precision" not in there:
        silent.add("precision")  # a job that was begun before there were any
    for name in sorted({*there, *here} - silent):
        old, new = there.get(name), here.get(name)
        if f"{prefix}{name}" == "synthesizer.prompt":
            if old != new:
                yield f"the prompt recipe is {named_in_short(old)} there and {named_in_short(new)} here"
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name} is {old!r} there and {new!r} here"
