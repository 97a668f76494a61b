"""A corpus folder on disk: where things are in it, and which Parquet files belong to which config and split.

What the card's metadata says goes first; a file that it does not mention belongs to the config of its folder (`data` is
`default`) and to the split that its name begins with. Knows nothing of models, sources or the Hub.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, TypeVar

from hfsynth.core.errors import OutputError
from hfsynth.core.files import publish, sync_folder, writing
from hfsynth.core.store_paths import AnyPath, Located, sorted_glob
from hfsynth.core.stores import is_store, store_url

_PART = re.compile(r"(?P<split>\w+(?:\.\w+)*)-(?P<number>\d{5})-of-(?P<total>\d{5})\.parquet")
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files of one split, and the patterns that find them."""

    config: str
    split: str
    patterns: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.config}/{self.split}"


def assigned(paths: Iterable[str], metadata: Mapping[str, Any]) -> list[SplitFiles]:
    """Return the splits that `paths` make up, `default` first; raise OutputError for a file that belongs to none."""
    parquet = sorted(path for path in paths if path.endswith(".parquet"))
    found = [split for split in declared(metadata, parquet) if split.files]
    covered = {path for split in found for path in split.files}
    found += _by_convention([path for path in parquet if path not in covered], found)
    for split in found:
        if not (_NAME.fullmatch(split.config) and _NAME.fullmatch(split.split)):
            raise OutputError(
                f"{split.name!r} cannot be a config and a split.",
                hint="Use letters, digits, dots, dashes, underscores.",
            )
    return sorted(found, key=lambda split: (split.config != "default", split.config, split_order(split.split)))


def declared(metadata: Mapping[str, Any], paths: Iterable[str]) -> list[SplitFiles]:
    """Return the splits that a card's metadata names, each with those of `paths` that are in it."""
    known = list(paths)
    entries = [entry for entry in metadata.get("configs") or [] if isinstance(entry, dict)]
    return [
        SplitFiles(str(entry.get("config_name", "default")), split, patterns, matching(known, patterns))
        for entry in entries
        for split, patterns in _data_files(entry)
    ]


def matching(paths: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the paths that one of the patterns finds. `*` stops at a slash, `**` does not."""
    wanted = [pattern.removeprefix("./") for pattern in patterns]
    return tuple(path for path in paths if any(_matches(path, pattern) for pattern in wanted))


def usual_pattern(config: str, split: str) -> str:
    """Return where hfsynth and datasets put a split's files."""
    return f"{'data' if config == 'default' else config}/{split}-*.parquet"


def incomplete(paths: Iterable[str]) -> list[str]:
    """Say what is missing from the numbered files among `paths`."""
    totals: dict[str, set[int]] = {}
    numbers: dict[str, set[int]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if part := _PART.fullmatch(name):
            stem = f"{folder}/{part['split']}"
            totals.setdefault(stem, set()).add(int(part["total"]))
            numbers.setdefault(stem, set()).add(int(part["number"]))
    return [_said(stem, totals[stem], numbers[stem]) for stem in totals if not _whole(totals[stem], numbers[stem])]


def _whole(totals: set[int], numbers: set[int]) -> bool:
    return len(totals) == 1 and numbers == set(range(next(iter(totals))))


def _said(stem: str, totals: set[int], numbers: set[int]) -> str:
    if len(totals) > 1:
        return f"{stem}-* mixes files of several runs"
    return f"{stem}-* has {len(numbers)} of {next(iter(totals))} files"


def _matches(path: str, pattern: str) -> bool:
    if "**" in pattern:
        return fnmatchcase(path, pattern.replace("**/", "*").replace("**", "*"))
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)


def _data_files(entry: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    files = entry.get("data_files")
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
    elif not isinstance(files, list) or not all(isinstance(item, dict) for item in files):
        files = [{"split": "train", "path": files}] if files else []
    for item in files:
        paths = item.get("path") or []
        yield str(item.get("split", "train")), (paths,) if isinstance(paths, str) else tuple(map(str, paths))


def _by_convention(paths: Iterable[str], found: Iterable[SplitFiles]) -> list[SplitFiles]:
    taken = {split.name for split in found}
    groups: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        part = _PART.fullmatch(name)
        config = "default" if folder == "data" else folder
        if part is None or not folder or "/" in folder or f"{config}/{part['split']}" in taken:
            raise OutputError(
                f"{path} belongs to no config.",
                hint="Move it away, or name it in the `configs` of README.md's front matter.",
            )
        groups.setdefault((config, part["split"]), []).append(path)
    return [SplitFiles(c, s, (usual_pattern(c, s),), tuple(files)) for (c, s), files in groups.items()]


def split_order(split: str) -> tuple[int, str]:
    """Return the key that puts splits in their usual order."""
    order = ("train", "validation", "test")
    return (order.index(split) if split in order else len(order)), split


def main_split(splits: Iterable[str]) -> str:
    """Return the split to train on: `train`, or the first in the usual order."""
    return min(splits, key=split_order)


JOURNAL = ".hfsynth"
P = TypeVar("P", bound=Located)


@dataclass(frozen=True, slots=True)
class CorpusAt(Generic[P]):
    """The paths of a corpus in a folder, or on a store. `journal` holds the job's own files and is never published."""

    root: P

    @property
    def journal(self) -> P:
        return self.root / JOURNAL

    @property
    def parts(self) -> P:
        """Finished shards, until the job is done."""
        return self.journal / "parts"

    @property
    def pairs(self) -> P:
        return self.root / "pairs"

    @property
    def plan(self) -> P:
        """Written first: what the job is."""
        return self.journal / "job.json"

    @property
    def data(self) -> P:
        """Training texts: config `default`."""
        return self.root / "data"

    @property
    def rewritten(self) -> P:
        """Texts that a prompt recipe had the model write: config `rewritten`."""
        return self.root / "rewritten"

    @property
    def replaced_data(self) -> P:
        """The old training texts, while new ones take their place."""
        return self.journal / "data.old"

    @property
    def manifest(self) -> P:
        """Written last: its existence says that the pairs are complete."""
        return self.journal / "manifest.json"

    @property
    def former(self) -> P:
        """The manifest of a corpus that was found damaged, until it is whole again."""
        return self.journal / "former.json"

    @property
    def stats(self) -> P:
        return self.root / "stats.json"

    @property
    def config(self) -> P:
        return self.root / "synthesizer_config.json"

    @property
    def readme(self) -> P:
        return self.root / "README.md"


@dataclass(frozen=True, slots=True)
class Corpus(CorpusAt[Path]):
    """The paths of a corpus folder on this machine. Raise OutputError for an address, where there are no paths."""

    def __post_init__(self) -> None:
        if is_store(self.root):
            url = store_url(self.root)
            raise OutputError(
                f"{url} lies in an object store, and this needs a folder.",
                hint="Copy it into a folder first, with the store's own tool (such as `aws s3 cp --recursive`).",
            )


def part_name(number: int, total: int, split: str = "train") -> str:
    """Return the Hub's name for one of `total` Parquet files of a split."""
    return f"{split}-{number:05d}-of-{total:05d}.parquet"


def loading_call(root: AnyPath, config: str, splits: Iterable[str]) -> str:
    """Return the call of `datasets` that loads a config (`default`, `pairs`); of a store it must be told the files."""
    if isinstance(root, Path):
        return f'load_dataset("{root}")' if config == "default" else f'load_dataset("{root}", "{config}")'
    files = ", ".join(f'"{split}": "{root}/{usual_pattern(config, split)}"' for split in splits)
    return f'load_dataset("parquet", data_files={{{files}}})'


def exchange(corpus: CorpusAt[AnyPath], staged: AnyPath) -> None:
    """Put the folder `staged` in place of `data/`. `mend_exchange` undoes one that was cut off half-way.

    On a store it is done file by file: the manifest must not vouch for `data/` meanwhile.
    """
    if isinstance(corpus.root, Path):
        _exchange_here(Corpus(corpus.root), Path(staged))
        return
    names = {path.name for path in staged.iterdir()}
    for path in sorted_glob(staged, "*"):
        publish(path, as_=corpus.data / path.name)
    for path in sorted_glob(corpus.data, "*"):
        if path.name not in names:
            path.unlink()


def _exchange_here(corpus: Corpus, staged: Path) -> None:
    with writing(corpus.data):
        if corpus.data.exists():
            os.replace(corpus.data, corpus.replaced_data)
        os.replace(staged, corpus.data)
        sync_folder(corpus.root)
        shutil.rmtree(corpus.replaced_data, ignore_errors=True)


def mend_exchange(corpus: Corpus) -> None:
    """Bring the old `data/` back where an exchange was cut off between its two renames."""
    if corpus.replaced_data.exists():
        if corpus.data.exists():
            shutil.rmtree(corpus.replaced_data)
        else:
            os.replace(corpus.replaced_data, corpus.data)
