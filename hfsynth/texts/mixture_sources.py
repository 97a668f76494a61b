"""What a mixture records of where its parts come from: enough to mix again, and to know their licences.

Reads the files of a part that lies on this machine; of the Hub it asks at most for a commit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hfsynth.core.addresses import public_location
from hfsynth.core.config import digest
from hfsynth.core.errors import OutputError, SourceError
from hfsynth.core.files import file_digest, read_json
from hfsynth.core.steps import ITSELF
from hfsynth.core.store_paths import AnyPath
from hfsynth.core.stores import any_path
from hfsynth.corpus.folder import CorpusAt
from hfsynth.corpus.manifest import recorded
from hfsynth.corpus.readme import Card
from hfsynth.documents.hf_datasets import commit_of
from hfsynth.texts.mixture_parts import Part


def told_sources(parts: Sequence[Part], out: AnyPath) -> dict[str, dict[str, Any]]:
    """Return by part its kind, where its data are from (`source`), their `revision`, splits, weight and `license`.

    `source` is None for data that were handed over in memory, `ITSELF` for the folder `out`. Of a corpus folder the
    license is that of its card, and `model` and `model_license` those of its pairs. What is not known is left out.
    """
    return {part.name: _told(part, out) for part in parts}


def _told(part: Part, out: AnyPath) -> dict[str, Any]:
    asked = {"repeat": part.repeat or None, "weight": part.weight, "splits": sorted(part.splits) or None}
    values = {"kind": part.kind.value, **asked, **_origin(part.origin)}
    if part.origin is not None and _at(part.origin).resolve() == out.resolve():
        values |= {"source": ITSELF, "revision": None}
    return {"source": None} | {name: value for name, value in values.items() if value is not None}


def _origin(origin: str | None) -> dict[str, Any]:
    if origin is None:
        return {}
    place = _at(origin)
    if not place.exists():
        return {"source": public_location(origin), "revision": _commit(origin)}
    if place.is_file():
        return {"source": public_location(origin), "revision": file_digest(place)[0]}
    return {"source": public_location(origin), **_of_folder(place)}


def _at(origin: str) -> AnyPath:
    return any_path(os.path.expanduser(origin))


def _commit(name: str) -> str | None:
    """Return the commit of a dataset on the Hub; None for what is no such dataset."""
    try:
        return commit_of(name)
    except SourceError:
        return None


def _of_folder(folder: AnyPath) -> dict[str, Any]:
    corpus, card = CorpusAt(folder), _card(folder)
    texts = {path: one["sha256"] for path, one in recorded(corpus).items() if path.startswith("data/")}
    license = card.metadata.get("license_name") or card.metadata.get("license")
    config = read_json(corpus.config)
    known: dict[str, Any] = next((dict(block.known) for block in card.blocks), {})
    return {
        "revision": digest(texts) if texts else None,
        "license": license if isinstance(license, str) else " AND ".join(map(str, license)) if license else None,
        "model": config.get("model") if isinstance(config, dict) else None,
        "model_license": known.get("model_license"),
    }


def _card(folder: AnyPath) -> Card:
    """Return a folder's card; an empty one where there is none that can be read."""
    try:
        return Card.parse((folder / "README.md").read_text("utf-8"))
    except (OSError, UnicodeDecodeError, OutputError):
        return Card()
