"""What is in a corpus folder, as plain facts and as text for people. Loads no engine and no `datasets`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hfsynth.corpus import Corpus, read_json, reading_values
from hfsynth.corpus_files import split_order
from hfsynth.errors import OutputError
from hfsynth.holdings import damages, recorded
from hfsynth.progress import JournalView, Progress


def inspect(folder: Path) -> dict[str, Any]:
    """Return a folder's state, recipe, statistics and files; raise OutputError where no job has been at work."""
    corpus = Corpus(folder)
    plan, published = read_json(corpus.plan), read_json(corpus.config)
    if plan is None and published is None:
        raise OutputError(
            f"{folder} holds no corpus of hfsynth.", hint="Make one with: hfsynth synthesize SOURCE " + str(folder)
        )
    damaged = [str(damage) for damage in damages(folder)] if corpus.manifest.exists() else []
    finished = not damaged and published is not None and (plan is None or corpus.manifest.exists())
    files = sorted(path for name in ("data", "pairs") for path in (folder / name).glob("*.parquet"))
    return {
        "folder": str(folder),
        "finished": finished,
        "damaged": damaged,
        "shards_finished": len(list(corpus.parts.glob("[0-9]*.json"))),
        "recipe": published or {**plan["synthesizer"], "source": plan["source"]},
        "stats": read_json(corpus.stats),
        "progress": None if finished else _progress(JournalView(corpus).progress()),
        "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
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


def follow(folder: Path, on_progress: Callable[[Progress], None], *, every: float = 1.0) -> None:
    """Report the progress of the job in a folder until it is finished; from any process that can read the folder."""
    inspect(folder)
    corpus = Corpus(folder)
    view = JournalView(corpus)
    while not corpus.manifest.exists():
        on_progress(view.progress())
        time.sleep(every)


def describe(facts: Mapping[str, Any]) -> str:
    """Return the facts as lines for people."""
    root = Path(facts["folder"])
    with reading_values(Corpus(root).stats, Corpus(root).config):
        return "\n".join(_lines(facts))


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
    yield f"Model      {recipe['model']}{revision}, {recipe['prompt_format']}, {recipe['shots']} shot(s)"
    if recipe.get("keep"):
        yield f"Kept only  {', '.join(recipe['keep'])}"
    if stats is None:
        yield from _unfinished(facts)
        return
    yield f"Documents  {stats['total_documents']:,}: {_counted(stats['documents'])}"
    if stats.get("unreadable"):
        first = stats["unreadable_rows"][0]["reason"]
        yield f"Unreadable {stats['unreadable']:,} rows of the source; the first: {first}"
    yield f"Pairs      {stats['pairs']:,}; rejected: {_counted(stats['rejected']) or 'none'}"
    yield (
        f"Tokens     {stats['prompt_tokens']:,} prompt ({stats['cached_tokens']:,} cached), "
        f"{stats['output_tokens']:,} written"
    )
    if stats.get("seconds"):
        yield f"Speed      {stats['documents_per_second']} documents/s over {stats['seconds']:,.0f} s"
    if stats.get("engine_seconds"):
        yield (
            f"Cost       {stats['engine_seconds']:,.0f} s of engine time by {len(stats['workers'])} worker(s), "
            f"{stats['engine_restarts']} restart(s)"
        )
    yield from _held(facts)
    yield f'Load it    load_dataset("{facts["folder"]}", "pairs")'


def _mixed(facts: Mapping[str, Any]) -> Iterator[str]:
    """Describe a folder of texts that were mixed from elsewhere: it has no pairs and no source of its own."""
    mixed = facts["stats"]["mix"]
    yield f"Mixture    {mixed['documents']:,} documents, {mixed['tokens']:,} tokens of {mixed['tokenizer']}"
    for part in mixed["parts"]:
        yield f"Part       {part['name']} ({part['kind']}): {part['documents']:,} documents, {part['tokens']:,} tokens"
    yield from _held(facts)
    yield f'Load it    load_dataset("{facts["folder"]}")'


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
    if progress["workers"]:
        yield f"Workers    {progress['workers']} running; hfsynth info --watch {facts['folder']} follows them"
    else:
        yield "           Give the same hfsynth synthesize command again to go on."


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
