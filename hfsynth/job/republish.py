"""Put a corpus with new pairs in the place of the one it was made of: every file new or linked, and one rename.

Whoever looks sees the old corpus or the new one, whatever is killed. Knows nothing of what was done to the pairs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfsynth.core.files import read_json, write_json, writing
from hfsynth.core.records import Counts
from hfsynth.corpus.exchange import replaced_folder
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.readme import describe_configs
from hfsynth.corpus.rewritten import write_rewritten
from hfsynth.job.finish import counted
from hfsynth.version import __version__

_OF_PAIRS = ("render", "mix", "evaluation")
"""What a corpus's statistics say of things that were made of its pairs."""


@dataclass(frozen=True, slots=True)
class NewPairs:
    """What takes the place of a corpus's pairs: files by their names, what the manifest says of them, the rows' counts.

    Where what is trained on has `changed`, what was made of the old pairs goes: texts and figures.
    """

    files: Mapping[str, Path]
    records: Mapping[str, Mapping[str, Any]]
    counts: Counts
    changed: bool


def republish(
    corpus: Corpus,
    pairs: NewPairs,
    *,
    without: Path,
    stats: Callable[[Corpus], Mapping[str, Any]],
    recipe: Mapping[str, Any],
) -> None:
    """Replace the folder by one with other pairs, in one step. `without` is left out: where they were made.

    `stats` are added to the statistics, given the new folder, and `recipe` to `synthesizer_config.json`.
    """
    # The records of the old parts go too: a part that is lost later must not be made anew beside others that are not.
    stale = [corpus.data, corpus.rewritten, corpus.parts] if pairs.changed else []
    with writing(corpus.root), replaced_folder(corpus.root) as staged:
        new = Corpus(staged)
        _link_others(corpus.root, staged, without={corpus.pairs, without, *stale})
        new.pairs.mkdir()
        for name, path in pairs.files.items():
            _link(path, new.pairs / name)
        rewritten = write_rewritten(new) if pairs.changed else {}
        _describe(new, read_json(corpus.stats) or {}, pairs, rewritten, recipe)
        write_json(new.stats, {**(read_json(new.stats) or {}), **stats(new)})


def _describe(
    new: Corpus,
    before: Mapping[str, Any],
    pairs: NewPairs,
    rewritten: Mapping[str, Any],
    recipe: Mapping[str, Any],
) -> None:
    """Write what the new folder says of itself, its manifest too."""
    dropped = _OF_PAIRS if pairs.changed else ()
    kept = {name: value for name, value in before.items() if name not in dropped}
    sums = counted(pairs.counts, before.get("source_rows"))
    of_passes = ("verdicts", "screened")
    write_json(new.stats, {**kept, **{name: value for name, value in sums.items() if name not in of_passes}})
    config: dict[str, Any] = read_json(new.config) or {}
    write_json(new.config, {**{name: value for name, value in config.items() if name not in dropped}, **recipe})
    describe_configs(new)
    manifest: dict[str, Any] = read_json(new.manifest) or {"files": {}}
    replaced = ("pairs/", "rewritten/", "data/") if pairs.changed else ("pairs/",)
    others = {path: record for path, record in manifest["files"].items() if not path.startswith(replaced)}
    files = {f"pairs/{name}": record for name, record in pairs.records.items()}
    write_json(new.manifest, {"hfsynth": __version__, "files": {**others, **rewritten, **files}})


def _link_others(root: Path, staged: Path, *, without: set[Path]) -> None:
    for path in _files(root, without):
        target = staged / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(path, target)


def _files(folder: Path, without: set[Path]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path in without:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path, without)
        else:
            yield path


def _link(path: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, target, follow_symlinks=False)
