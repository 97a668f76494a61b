"""A corpus folder on disk: where things are in it, and how they get there whole.

Everything is written to a temporary name, synced and renamed. Knows nothing of models, sources or the Hub.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hfsynth.errors import OutputError

JOURNAL = ".hfsynth"


@dataclass(frozen=True, slots=True)
class Corpus:
    """The paths of a corpus folder. `journal` holds the job's own files and is never published."""

    root: Path

    @property
    def journal(self) -> Path:
        return self.root / JOURNAL

    @property
    def parts(self) -> Path:
        """Finished shards, until the job is done."""
        return self.journal / "parts"

    @property
    def pairs(self) -> Path:
        return self.root / "pairs"

    @property
    def plan(self) -> Path:
        """Written first: what the job is."""
        return self.journal / "job.json"

    @property
    def manifest(self) -> Path:
        """Written last: its existence says that the pairs are complete."""
        return self.journal / "manifest.json"

    @property
    def stats(self) -> Path:
        return self.root / "stats.json"

    @property
    def config(self) -> Path:
        return self.root / "synthesizer_config.json"

    @property
    def readme(self) -> Path:
        return self.root / "README.md"


def part_name(number: int, total: int, split: str = "train") -> str:
    """Return the Hub's name for one of `total` Parquet files of a split."""
    return f"{split}-{number:05d}-of-{total:05d}.parquet"


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Return the values in a JSON file; None where there is no such file; OutputError where it is damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OutputError(f"{path} is damaged: {error}.", hint="Remove the folder, or give another one.") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, whatever happens in between."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file as `write_json` does."""
    with replaced(path) as temporary:
        temporary.write_text(text, "utf-8")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Lend a temporary path beside `path`; sync and rename it over `path` when the block ends without an error."""
    temporary = temporary_name(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            replace_with(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusals to write into OutputError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputError(
            f"The disk is full: {path} cannot be written."
            if full
            else f"{path} cannot be written: {error.strerror or error}.",
            hint="Make room and give the same command again: it goes on where it was." if full else "",
        ) from error


def temporary_name(path: Path) -> Path:
    """Return the name under which this process writes `path` until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def replace_with(temporary: Path, path: Path) -> None:
    """Sync `temporary` and rename it over `path`."""
    _sync(temporary)
    os.replace(temporary, path)
    sync_folder(path.parent)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make renames within a folder outlast a power failure, where the system can."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def readme_with_configs(configs: Mapping[str, str]) -> str:
    """Return a README whose front matter tells `load_dataset` where each config's train split lies."""
    entries = [
        {"config_name": name, "data_files": [{"split": "train", "path": pattern}]} for name, pattern in configs.items()
    ]
    front = yaml.safe_dump({"configs": entries, "tags": ["synthetic", "hfsynth"]}, sort_keys=False)
    return f"---\n{front}---\n"
