"""The entry of an export in LLaMA-Factory's dataset_info.json. Knows nothing of shards or tokenizers.

`file_name` is a folder beside dataset_info.json, of which LLaMA-Factory reads every file; `columns.prompt` names the
column that `stage: pt` trains on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import write_text
from hfsynth.core.store_paths import AnyPath

FILE = "dataset_info.json"


Entry = Mapping[str, object]


def check_dataset_info(folder: AnyPath, name: str, described: Entry) -> None:
    """Raise OutputError where dataset_info.json cannot take the entry `name`, ConfigError where no folder can."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise ConfigError(f"The name {name!r} cannot be that of a folder.", hint="Use letters, digits, - and _.")
    there = _read(folder / FILE).get(name)
    if there is not None and there != described:
        raise OutputError(
            f"{folder / FILE} already has an entry {name!r} that is not this export.",
            hint="Give the export another name (--name), or delete that entry.",
        )


def register_dataset(folder: AnyPath, name: str, described: Entry) -> None:
    """Add the entry `name` to dataset_info.json, and keep the others."""
    path = folder / FILE
    write_text(path, json.dumps({**_read(path), name: described}, indent=2, ensure_ascii=False) + "\n")


def texts_entry(name: str) -> dict[str, object]:
    """Return what dataset_info.json says of texts in the folder `name`."""
    return {"file_name": name, "columns": {"prompt": "text"}}


def _read(path: AnyPath) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{path} is not JSON: {error}", hint="Correct it, or choose another folder.") from error
    if not isinstance(entries, dict):
        raise OutputError(f"{path} must hold an object; it holds a {type(entries).__name__}.", hint="Correct it.")
    return entries
