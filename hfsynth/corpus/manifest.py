"""What a finished folder should hold, by its manifest, and whether it does. Changes nothing.

Names and sizes are cheap to compare; digests are asked for where the files are read anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hfsynth.core.errors import OutputError
from hfsynth.core.files import file_digest, read_json
from hfsynth.core.store_paths import AnyPath
from hfsynth.corpus.folder import CorpusAt, incomplete

FOLDERS = ("pairs/", "rewritten/", "data/")


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not as the manifest says, and what is wrong with it."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def damages(root: AnyPath, *, folders: tuple[str, ...] = FOLDERS, digests: bool = False) -> Iterator[Damage]:
    """Yield what of a folder's files is missing or different; where there is no manifest, gaps in their numbers.

    Raise OutputError where the manifest itself is damaged.
    """
    corpus = CorpusAt(root)
    if not corpus.manifest.exists():
        names = (path.relative_to(root).as_posix() for folder in folders for path in root.glob(f"{folder}*.parquet"))
        yield from (Damage(gap.partition(" ")[0], gap.partition(" ")[2]) for gap in incomplete(sorted(names)))
        return
    for path, record in recorded(corpus).items():
        if path.startswith(folders) and (what := _wrong(root / path, record, digests=digests)):
            yield Damage(path, what)


def require_whole(root: AnyPath, *folders: str, digests: bool = False) -> None:
    """Raise OutputError, with the way to repair it, where a file in one of the folders is missing or different."""
    found = list(damages(root, folders=folders or FOLDERS, digests=digests))
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise OutputError(f"{root} is not whole: {found[0]}{more}.", hint=repair(root, found))


def repair(root: AnyPath, found: list[Damage]) -> str:
    """Return how what was found is made anew."""
    texts_alone = all(damage.path.startswith("data/") for damage in found)
    if texts_alone and any((root / "pairs").glob("*.parquet")):
        return f"Make the texts again: hfsynth render {root}"
    if CorpusAt(root).plan.exists():
        return (
            f"Give the `hfsynth synthesize SOURCE {root}` command again: it makes lost parts anew. "
            f"`hfsynth check {root}` names all of them."
        )
    return "Make or fetch the folder again."


def damaged_parquet(path: AnyPath) -> OutputError:
    """Return the error for a file of a corpus that is no whole Parquet file, with the way to repair it."""
    root = path.parent.parent
    found = Damage(path.relative_to(root).as_posix(), "is damaged")
    return OutputError(f"{path} is damaged: it is no whole Parquet file.", hint=repair(root, [found]))


def recorded(corpus: CorpusAt[Any]) -> dict[str, Mapping[str, Any]]:
    """Return what the manifest says of each file; raise OutputError where it is damaged."""
    found = read_json(corpus.manifest) or {}
    files = found.get("files")
    if not isinstance(files, dict) or not all(map(_is_record, files.values())):
        raise OutputError(
            f"{corpus.manifest} is damaged: it is no list of files.",
            hint="Remove it and give the same `hfsynth synthesize` command again: it is written anew.",
        )
    return files


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and isinstance(record.get("size"), int) and isinstance(record.get("sha256"), str)


def _wrong(path: AnyPath, record: Mapping[str, Any], *, digests: bool) -> str:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != record["size"]:
        return f"has {size:,} bytes instead of {record['size']:,}"
    return "is damaged" if digests and file_digest(path)[0] != record["sha256"] else ""
