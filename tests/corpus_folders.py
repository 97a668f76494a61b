"""Finished corpus folders for tests, written by hand in the layout that a job leaves, of any configs and sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hfsynth.core.store_paths import StorePath
from hfsynth.core.stores import any_path, open_store
from hfsynth.corpus.readme import configured_readme
from hfsynth.publishing import plots

CONFIG = {
    "model": "scripted",
    "model_revision": None,
    "prompt_format": "instruction-pretrain",
    "shots": 2,
    "seed": 0,
    "long_documents": "split",
    "sampling": {"max_tokens": 400, "temperature": 0.0},
    "source": {"location": "docs.jsonl", "split": "train", "revision": "0123", "text_column": "text"},
    "hfsynth_version": "0.1.0",
}
STATS: dict[str, Any] = {
    "total_documents": 4,
    "documents": {"ok": 3, "no_pairs": 1, "too_long": 0, "empty": 0, "failed": 0},
    "rejected": {"no_answer": 2},
    "pairs_per_document": {"0": 1, "2": 3},
    "pairs": 6,
    "prompt_tokens": 255,
    "cached_tokens": 55,
    "output_tokens": 518,
    "seconds": 7200.0,
    "output_tokens_per_second": 0.07,
}

Shape = Mapping[str, Mapping[str, int]]


def rows_of(config: str, split: str, number: int, mark: str) -> list[dict[str, Any]]:
    """Return the rows of one shard; each says where it is from."""
    texts = [f"{mark} {config} {split} {number} {row}" for row in range(2)]
    if config == "pairs":
        return [{"text": text, "pairs": [{"instruction": "What?", "response": text}]} for text in texts]
    return [{"text": text} for text in texts]


def corpus_folder(
    root: Path,
    shape: Shape,
    *,
    mark: str = "one",
    stats: Mapping[str, Any] | None = None,
    recipe: bool = True,
    drawn: bool = True,
) -> Path:
    """Write a finished folder of `shape` (config -> split -> number of shards); `mark` tells two versions apart.

    With the usual `stats` it has their pictures, as after a first card, unless it is not to be `drawn`.
    """
    files = {}
    for config, splits in shape.items():
        for split, shards in splits.items():
            for number in range(shards):
                name = f"{folder_of(config)}/{split}-{number:05d}-of-{shards:05d}.parquet"
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                rows = rows_of(config, split, number, mark)
                pq.write_table(pa.Table.from_pylist(rows), path)
                content = path.read_bytes()
                files[name] = {"rows": len(rows), "size": len(content), "sha256": sha256(content).hexdigest()}
    journal = root / ".hfsynth"
    journal.mkdir(exist_ok=True)
    (journal / "job.json").write_text("{}")
    (journal / "manifest.json").write_text(json.dumps({"hfsynth": "0.1.0", "files": files}))
    if recipe:
        (root / "synthesizer_config.json").write_text(json.dumps({**CONFIG, "seed": len(mark)}))
        (root / "stats.json").write_text(json.dumps(stats or STATS))
        for path, picture in _pictures().items() if drawn and stats is None else ():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_bytes(picture)
    pairs = {"pairs": {"train": "pairs/train-*.parquet"}} if "train" in shape.get("pairs", {}) else {}
    (root / "README.md").write_text(configured_readme("", pairs))
    return root


@cache
def _pictures() -> dict[str, bytes]:
    """Return the pictures of `STATS`, which take half a second to draw; none where matplotlib is not installed."""
    if not plots.available():
        return {}
    with TemporaryDirectory() as folder:
        plots.draw(Path(folder), STATS)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*.png")}


def record(root: Path) -> None:
    """Let the manifest say what lies in `data/` and `pairs/` now."""
    files = {}
    for path in sorted([*root.glob("data/*.parquet"), *root.glob("pairs/*.parquet")]):
        content = path.read_bytes()
        files[path.relative_to(root).as_posix()] = {"size": len(content), "sha256": sha256(content).hexdigest()}
    (root / ".hfsynth" / "manifest.json").write_text(json.dumps({"hfsynth": "0.1.0", "files": files}))


def folder_of(config: str) -> str:
    return "data" if config == "default" else config


def texts_of(shape: Shape, config: str, split: str = "train", mark: str = "one") -> list[str]:
    """Return the texts that a folder of `shape` holds in one split."""
    shards = shape[config][split]
    return [row["text"] for number in range(shards) for row in rows_of(config, split, number, mark)]


def upload(root: Path, url: str) -> StorePath:
    """Put a whole folder on a store, its journal too, and return where it is there."""
    place = any_path(url)
    assert isinstance(place, StorePath)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        (place / path.relative_to(root).as_posix()).put(path)
    return place


def stored(url: str) -> dict[str, bytes]:
    """Return every published file of a folder on a store."""
    store = open_store(url)
    return {entry.key: store.get(entry.key) for entry in store.list() if not entry.key.startswith(".")}


def contents(root: Path) -> dict[str, bytes]:
    """Return every published file of a folder."""
    found = (path for path in root.rglob("*") if path.is_file())
    names = {path.relative_to(root).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}
