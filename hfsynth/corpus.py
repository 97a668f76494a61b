"""A corpus folder on disk: where things are in it, and how they get there whole.

Everything is written to a temporary name, synced and renamed. Knows nothing of models, sources or the Hub.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from hfsynth.corpus_files import split_order
from hfsynth.durable import sync_folder, write_text, writing
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
    def data(self) -> Path:
        """Training texts: config `default`."""
        return self.root / "data"

    @property
    def replaced_data(self) -> Path:
        """The old training texts, while new ones take their place."""
        return self.journal / "data.old"

    @property
    def manifest(self) -> Path:
        """Written last: its existence says that the pairs are complete."""
        return self.journal / "manifest.json"

    @property
    def former(self) -> Path:
        """The manifest of a corpus that was found damaged, until it is whole again."""
        return self.journal / "former.json"

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
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(values, dict):
        raise damaged(path, f"it holds a {type(values).__name__} where names and values belong")
    return values


def damaged(path: Path, what: str) -> OutputError:
    """Return the error for a JSON file that cannot be what was written, with the way to repair it."""
    anew = "Remove it and give the same `hfsynth synthesize` command again: it is written anew."
    hint = "Bring it back from a copy, or give another folder." if path.name == "job.json" else anew
    return OutputError(f"{path} is damaged: {what}.", hint=hint)


@contextmanager
def reading_values(*paths: Path) -> Iterator[None]:
    """Turn what values of the wrong shape lead to into OutputError, naming the files that they were read from."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        where = " or ".join(path.name for path in paths)
        told = f"a value is missing or of the wrong kind ({type(error).__name__}: {error})"
        raise damaged(paths[0].with_name(where), told) from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, whatever happens in between."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def configured_readme(readme: str, configs: Mapping[str, Mapping[str, str]]) -> str:
    """Return `readme` with `configs` (config, split, pattern) in its front matter, everything else as it was.

    What the front matter says about other files (`dataset_info`) no longer holds and is dropped.
    """
    front, body = _front_matter(readme)
    entries: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        for name, splits in configs.items()
    ]
    if len(entries) > 1:
        entries[0]["default"] = True
    kept = {name: value for name, value in front.items() if name != "dataset_info"}
    values = {"tags": ["synthetic", "hfsynth"], **kept, "configs": entries}
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n{body}"


def _front_matter(readme: str) -> tuple[dict[str, Any], str]:
    """Return the values of a README's front matter, and what comes after it."""
    if not readme.startswith("---\n") or (end := readme.find("\n---\n", 3)) < 0:
        return {}, readme
    try:
        values = yaml.safe_load(readme[4 : end + 1])
    except yaml.YAMLError as error:
        raise OutputError(f"The front matter of README.md is not YAML: {error}", hint="Mend or remove it.") from error
    return (values if isinstance(values, dict) else {}), readme[end + 5 :]


def describe_configs(corpus: Corpus) -> None:
    """Tell `load_dataset` where the configs lie, and leave the rest of the README as it is."""
    configs: dict[str, dict[str, str]] = {}
    for config, folder in (("default", corpus.data), ("pairs", corpus.pairs)):
        splits = sorted({path.name.partition("-")[0] for path in folder.glob("*.parquet")}, key=split_order)
        if splits:
            configs[config] = {split: f"{folder.name}/{split}-*.parquet" for split in splits}
    readme = corpus.readme.read_text("utf-8", "replace") if corpus.readme.exists() else ""
    write_text(corpus.readme, configured_readme(readme, configs))


def file_record(path: Path) -> dict[str, Any]:
    """Return what the manifest says of a Parquet file: rows, size and sha256."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return {"rows": pq.read_metadata(path).num_rows, "size": path.stat().st_size, "sha256": digest.hexdigest()}


def exchange(corpus: Corpus, staged: Path) -> None:
    """Put the folder `staged` in place of `data/`. `mend_exchange` undoes one that was cut off half-way."""
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
