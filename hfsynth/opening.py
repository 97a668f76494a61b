"""Open the parts of a mixture: corpus folders, files and datasets on the Hub, as memory-mapped datasets.

Knows nothing of shares, tokens or what the texts are for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from datasets import Dataset, DatasetDict, get_dataset_split_names, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError

from hfsynth.corpus_files import split_order
from hfsynth.errors import SourceError
from hfsynth.holdings import require_whole
from hfsynth.locating import find_files, locate

_BUILDERS = {"parquet": "parquet", "jsonl": "json", "csv": "csv", "txt": "text", "md": "text"}


def open_texts(location: str, *, split: str = "train") -> Dataset:
    """Open a corpus folder's training texts, files, a `save_to_disk` folder, or a split of a dataset on the Hub.

    Text files are one document each. Raise SourceError where nothing can be read.
    """
    folder = Path(location)
    rendered = sorted(folder.glob(f"data/{split}-*.parquet"))
    require_whole(folder, "data/", digests=True)
    try:
        if rendered:
            return _files("parquet", [str(path) for path in rendered])
        if (folder / ".hfsynth").is_dir():
            raise SourceError(
                f"{location} has no training texts in split {split!r}.", hint=f"Make them: hfsynth render {location}"
            )
        return _elsewhere(location, split)
    except (OSError, ValueError, DatasetsError) as error:
        raise SourceError(
            f"{location} cannot be read: {error}", hint="Check the name, the path and --split."
        ) from error


def open_splits(location: str, splits: Collection[str] | None = None) -> Dataset | dict[str, Dataset]:
    """Open every split of what `open_texts` opens, or those of `splits` that are there; files, which have none, as one.

    Raise SourceError where nothing can be read, or none of the splits is there.
    """
    there = _splits_there(location)
    if there is None:
        return open_texts(location)
    chosen = [name for name in there if splits is None or name in splits]
    if there and not chosen:
        raise SourceError(
            f"{location} has no split {' or '.join(map(repr, splits or ()))}; it has {', '.join(there)}.",
            hint="Check --split; without it every split is mixed.",
        )
    return {name: open_texts(location, split=name) for name in chosen or ["train"]}


def _splits_there(location: str) -> list[str] | None:
    """Return the splits of a corpus folder, a saved dict or a dataset on the Hub; None where there are none to tell."""
    folder = Path(location)
    rendered = {path.name.partition("-")[0] for path in folder.glob("data/*-*.parquet")}
    if rendered or (folder / ".hfsynth").is_dir():
        return sorted(rendered, key=split_order)
    try:
        place = locate(location)
        if place is None:
            return list(get_dataset_split_names(location))
        saved = load_from_disk(location) if place.is_saved else None
        return list(saved) if isinstance(saved, DatasetDict) else None
    except (OSError, ValueError, DatasetsError) as error:
        raise SourceError(f"{location} cannot be read: {error}", hint="Check the name and the path.") from error


def _elsewhere(location: str, split: str) -> Dataset:
    place = locate(location)
    if place is None:
        return load_dataset(location, split=split)
    if place.is_saved:
        saved = load_from_disk(location)
        return saved if isinstance(saved, Dataset) else saved[split]
    kind, files = find_files(place)
    return _files(_BUILDERS[kind], [file.path for file in files])


def _files(builder: str, paths: Sequence[str]) -> Dataset:
    whole = {"sample_by": "document"} if builder == "text" else {}
    return load_dataset(builder, data_files=list(paths), split="train", **whole)
