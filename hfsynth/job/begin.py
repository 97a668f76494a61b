"""What a job is: opened, compared with what its folder holds, and written down before any work begins.

The plan says what decides the result; a folder holds one of them at one revision. Knows nothing of workers, and of how
a job's end is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hfsynth.core.addresses import without_credentials
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.files import read_json, write_json, writing
from hfsynth.core.recipes import as_begun
from hfsynth.core.stores import is_store
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.readers import BadRow
from hfsynth.documents.source import OpenSource, Source
from hfsynth.documents.splits import SplitLayout, SplitSource, open_source_splits
from hfsynth.engine.loading import config_of
from hfsynth.engine.protocol import Engine
from hfsynth.job import changed_source
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leases import STALE_AFTER, Holder, Leases
from hfsynth.job.opening import open_site
from hfsynth.job.passes import index_file
from hfsynth.job.shards import read_extent, write_extent, write_layout
from hfsynth.job.site import Site
from hfsynth.job.spec import part_schema
from hfsynth.quality.decontamination import as_begun as benchmarks_as_begun
from hfsynth.quality.decontamination import open_index
from hfsynth.synthesis.exemplars import settle, with_exemplars
from hfsynth.synthesis.prompts import named_in_short, require_personas

SHARD_ROWS = 4096

_GO_ON = (
    "The source has changed: --continue-with-changed-source keeps the finished shards whose rows are the same. Or give "
    "another output folder."
)
_ELSEWHERE = "Give another output folder, or remove this one."


@dataclass(frozen=True, slots=True)
class Job:
    """A job whose folder says what it is: `identity` is the plan, `config` is pinned. A finished one has no leases."""

    site: Site
    source: Source
    opened: OpenSource
    config: SynthesizerConfig
    engine: EngineConfig
    identity: Mapping[str, Any]
    leases: Leases | None

    @property
    def corpus(self) -> Corpus:
        """The folder in which this process finds the job."""
        return self.site.corpus

    @property
    def shard_rows(self) -> int:
        """How many rows of the source a shard has."""
        return int(self.identity["shard_rows"])


def open_job(
    source: Source,
    site: Site,
    config: SynthesizerConfig,
    engine: EngineConfig,
    *,
    shard_rows: int | None,
    gpu: bool | None,
    go_on: bool = False,
) -> Job:
    """Open the source, pin what is not pinned and write the job down, or find that the folder's job is the same.

    With `go_on` a job whose source alone has changed goes on with it as it is now. Raise OutputError for a folder that
    holds another job or cannot be written, and what opening the source and pinning the recipe raise.
    """
    rows_a_shard = _shard_rows(shard_rows, config.shots)
    corpus = site.corpus
    site.require_own()
    site.fetch_state()
    source, opened = open_source_splits(source)
    require_personas(config, opened.features)
    if config.decontaminate is not None:
        site.fetch(index_file(corpus))
    config = _pinned(config, engine, corpus, gpu=gpu)
    identity = _identity(source, opened, config, rows_a_shard)
    if go_on and isinstance(opened, SplitSource):
        raise ConfigError(
            "A job of several splits cannot go on with a changed source.", hint="Give a new folder, or one split a job."
        )
    _settle_source(site, identity, opened, config, go_on=go_on)
    _refuse_other(site, read_json(corpus.plan), identity)
    if corpus.manifest.exists() and site.is_whole():
        site.sweep(finished=True)  # whoever published may have been killed before it did so
        return Job(site, source, opened, config, engine, identity, None)
    site.sweep()
    leases = _begin(site, identity, opened)
    if config.decontaminate is not None:
        open_index(config.decontaminate, near=index_file(corpus)).keep(index_file(corpus))  # for other machines
        site.share(index_file(corpus))
    site.mend(leases)
    return Job(site, source, opened, config, engine, identity, leases)


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
    with open_site(out) as site:
        site.require_own()
        site.fetch_state()
        site.look()
        found, go_on = read_json(site.corpus.plan), continue_with_changed_source
        return _planned(site, found, source, with_exemplars(config, exemplars), engine, shard_rows, go_on=go_on)


def _planned(
    site: Site,
    found: Mapping[str, Any] | None,
    source: Source,
    config: SynthesizerConfig,
    engine: EngineConfig | Engine | None,
    shard_rows: int | None,
    *,
    go_on: bool,
) -> dict[str, Any]:
    corpus = site.corpus
    source, opened = open_source_splits(source)
    require_personas(config, opened.features)
    config = _pinned(config, config_of(engine), corpus)
    identity = _identity(source, opened, config, _shard_rows(shard_rows, config.shots))
    if not (go_on and _only_source_changed(found, identity)):
        _refuse_other(site, found, identity)
    state = "finished" if corpus.manifest.exists() else "started" if corpus.plan.exists() else "new"
    first = next((row for row in opened.read() if not isinstance(row, BadRow)), None)
    return {
        "out": site.url,
        "state": state,
        "shards_finished": len(site.finished()),
        "rows": exact if (exact := opened.exact_rows()) is not None else opened.expected_rows,
        "first_document": None if first is None else {"id": first["id"], "text": (first["text"] or "")[:200]},
        **identity,
    }


def _settle_source(
    site: Site, identity: Mapping[str, Any], opened: OpenSource, config: SynthesizerConfig, *, go_on: bool
) -> None:
    """Bring the folder's job to the source as it is now, where that alone is new and the caller wants to go on."""
    corpus = site.corpus
    if is_store(site.url):
        if go_on:
            raise ConfigError(
                f"A job in an object store cannot go on with a changed source: {site.url}.",
                hint="Give another path there, or do this job in a folder.",
            )
        return
    if not corpus.plan.exists():
        return
    leases = _leases(site)
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
    if begun is not None and config.decontaminate is not None:
        config = replace(config, decontaminate=benchmarks_as_begun(config.decontaminate, begun.get("decontaminate")))
        if config.decontaminate is not None and config.decontaminate.sha256 is not None:
            open_index(config.decontaminate, near=index_file(corpus))  # what they were read from may lie elsewhere
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


def _leases(site: Site) -> Leases:
    holder = Holder.this_process()
    return Leases(site.lease_files(holder.worker, STALE_AFTER), holder)


def _begin(site: Site, identity: Mapping[str, Any], opened: OpenSource) -> Leases:
    """Write down what the job is and how long its source, or check that the folder's job is the same."""
    corpus, paths = site.corpus, JournalPaths(site.corpus.journal)
    with writing(corpus.journal):
        corpus.journal.mkdir(parents=True, exist_ok=True)
    leases = _leases(site)
    site.look()
    with leases.waiting_for("plan"):
        site.fetch(corpus.plan, paths.extent)
        found = read_json(corpus.plan)
        _refuse_other(site, found, identity)
        if found is None:
            write_json(corpus.plan, identity)
        if isinstance(opened, SplitSource):
            known = read_extent(corpus)  # counting may mean to read everything: once is enough
            sizes = known["splits"] if known else opened.sizes(at_hand=opened.is_local)
            write_layout(corpus, SplitLayout(sizes, identity["shard_rows"]))
        elif (rows := opened.exact_rows()) is not None:
            write_extent(corpus, rows, identity["shard_rows"], exact=True)
        elif opened.expected_rows is not None:
            write_json(paths.expectation, {"rows": opened.expected_rows})
        site.share(corpus.plan, paths.extent, paths.expectation)
    return leases


def _refuse_other(site: Site, found: Mapping[str, Any] | None, identity: Mapping[str, Any]) -> None:
    differences = [] if found is None else list(_differences(found, identity))
    if differences:
        raise OutputError(
            f"{site.url} holds the result of another recipe: {'; '.join(differences)}.",
            hint=_GO_ON if _only_source_changed(found, identity) else _ELSEWHERE,
        )


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    silent = {"location", "chosen"}  # a revision pins the content, wherever it lies; so does the exemplars' digest
    silent |= {"sources", "benchmarks"}  # of an index, which has its own identity
    if "precision" not in there:
        silent.add("precision")  # a job that was begun before there were any
    for name in sorted({*there, *here} - silent):
        old, new = there.get(name), here.get(name)
        if f"{prefix}{name}" == "synthesizer.prompt":
            if old != new:
                yield f"the prompt recipe is {named_in_short(old)} there and {named_in_short(new)} here"
        elif f"{prefix}{name}" == "synthesizer.pii_model.name":
            continue  # its revision pins it, wherever it lies
        elif name == "decontaminate" and bool(old) != bool(new):
            yield f"benchmarks are looked for {'there' if old else 'here'} alone"
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name} is {old!r} there and {new!r} here"
