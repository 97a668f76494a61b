"""What is in a corpus folder, as plain facts and as text for people. Loads no engine and no `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hfsynth.corpus import Corpus, read_json
from hfsynth.errors import OutputError


def inspect(folder: Path) -> dict[str, Any]:
    """Return a folder's state, recipe, statistics and files; raise OutputError where no job has been at work."""
    corpus = Corpus(folder)
    plan, published = read_json(corpus.plan), read_json(corpus.config)
    if plan is None and published is None:
        raise OutputError(
            f"{folder} holds no corpus of hfsynth.", hint="Make one with: hfsynth synthesize SOURCE " + str(folder)
        )
    files = sorted(path for name in ("data", "pairs") for path in (folder / name).glob("*.parquet"))
    return {
        "folder": str(folder),
        "finished": published is not None and (plan is None or corpus.manifest.exists()),
        "shards_finished": len(list(corpus.parts.glob("[0-9]*.json"))),
        "recipe": published or {**plan["synthesizer"], "source": plan["source"]},
        "stats": read_json(corpus.stats),
        "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
    }


def describe(facts: Mapping[str, Any]) -> str:
    """Return the facts as lines for people."""
    return "\n".join(_lines(facts))


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    recipe, stats = facts["recipe"], facts["stats"]
    yield f"Corpus     {facts['folder']} ({'finished' if facts['finished'] else 'unfinished'})"
    yield f"Source     {recipe['source']['location']}, revision {recipe['source']['revision']}"
    revision = f", revision {recipe['model_revision']}" if recipe["model_revision"] else ""
    yield f"Model      {recipe['model']}{revision}, {recipe['prompt_format']}, {recipe['shots']} shot(s)"
    if stats is None:
        yield f"Shards     {facts['shards_finished']} finished"
        yield "           Give the same hfsynth synthesize command again to go on."
        return
    yield f"Documents  {stats['total_documents']:,}: {_counted(stats['documents'])}"
    yield f"Pairs      {stats['pairs']:,}; rejected: {_counted(stats['rejected']) or 'none'}"
    yield (
        f"Tokens     {stats['prompt_tokens']:,} prompt ({stats['cached_tokens']:,} cached), "
        f"{stats['output_tokens']:,} written"
    )
    if stats["seconds"]:
        yield f"Speed      {stats['documents_per_second']} documents/s over {stats['seconds']:,.0f} s"
    size = sum(facts["files"].values())
    yield f"Files      {len(facts['files'])} Parquet files, {size / 2**20:,.1f} MiB"
    yield f'Load it    load_dataset("{facts["folder"]}", "pairs", split="train")'


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
