"""Which files of a folder belong to the corpus or the synthesizer in it, and are published; the others are left.

A corpus owns what its manifests name, its card, its own JSON files and its plots; where there is no manifest, every
Parquet file. A synthesizer owns what loads it and what tells of it. Links are never followed, and hidden files, as the
journal is, are never published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import read_json
from hfsynth.core.store_paths import AnyPath, sorted_glob
from hfsynth.corpus.folder import CorpusAt, matching

README = "README.md"
PLOTS = ("plots/*.png", "plots/*.svg")
_CORPUS = (README, "croissant.json", "synthesizer_config.json", "stats.json", "evaluation.json", *PLOTS)
_MODEL = (
    README,
    *("config.json", "generation_config.json", "adapter_config.json", "chat_template.jinja", "chat_template.json"),
    *("adapter_model*.safetensors", "model*.safetensors", "*.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "processor_config.json"),
    *("synthesizer_config.json", "training.json", "evaluation.json", *PLOTS),
)


@dataclass(frozen=True, slots=True)
class Belongings:
    """The paths of a folder that are published, and those that are left in it: links, and what belongs to nothing."""

    files: tuple[str, ...]
    left: tuple[str, ...]


def belongings(root: AnyPath, kind: str, include: Sequence[str] = ()) -> Belongings:
    """Return what of a folder is published; `include` are patterns of more that is.

    Raise OutputError where there is no folder, ConfigError for a pattern that matches nothing.
    """
    if not root.is_dir():
        raise OutputError(f"{root} is no folder.", hint="Make one with: hfsynth synthesize SOURCE " + str(root))
    regular, links = _listed(root)
    wanted = {*matching(regular, include)}
    for pattern in include:
        if not matching(regular, [pattern]):
            raise ConfigError(
                f"Nothing in {root} matches --include {pattern}.",
                hint="`*` stops at a slash, `**` does not; links and hidden files are never published.",
            )
    files = sorted(wanted | _owned(root, kind, regular))
    return Belongings(tuple(files), tuple(sorted({*regular, *links} - {*files})))


def manifest_records(root: AnyPath) -> dict[str, dict[str, Any]]:
    """Return what the folder's manifests say of its files, as path -> rows, size, sha256."""
    records: dict[str, dict[str, Any]] = {}
    for path in sorted_glob(CorpusAt(root).journal, "*manifest*.json"):
        found = read_json(path)
        files = found.get("files") if isinstance(found, dict) else None
        if not isinstance(files, dict) or not all(isinstance(record, dict) for record in files.values()):
            raise OutputError(f"{path} is damaged: {json.dumps(found)[:80]}", hint="Make the folder again.")
        records |= files
    return records


def _owned(root: AnyPath, kind: str, regular: Sequence[str]) -> set[str]:
    if kind == "model":
        return {*matching(regular, _MODEL)}
    written = manifest_records(root)
    data = [path for path in regular if path in written] if written else matching(regular, ["**.parquet"])
    return {*data, *matching(regular, _CORPUS)}


def _listed(root: AnyPath) -> tuple[list[str], list[str]]:
    """Return the regular files of a folder, and the links and other special files that stand among them."""
    regular: list[str] = []
    others: list[str] = []
    for path in _walked(root):
        own = path.is_file() and not path.is_symlink()
        (regular if own else others).append(path.relative_to(root).as_posix())
    return sorted(regular), sorted(others)


def _walked(folder: AnyPath) -> Iterator[AnyPath]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walked(path)
        else:
            yield path
