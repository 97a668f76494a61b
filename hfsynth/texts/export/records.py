"""What an export has finished, so that it can go on where it stopped. Knows nothing of formats or tokenizers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile

from hfsynth.core.errors import OutputError
from hfsynth.core.files import write_text
from hfsynth.core.store_paths import AnyPath


@dataclass(frozen=True, slots=True)
class SequenceCounts:
    """What a length of sequences means for texts; all lengths are in tokens, BOS and EOS included.

    `longer` texts do not fit into a sequence, `overflow` tokens of them are beyond it: what a trainer that truncates
    throws away. `cut` texts were cut into pieces. `lost` tokens are beyond what the trainer takes of a text under the
    configuration that is written.
    """

    longer: int = 0
    overflow: int = 0
    cut: int = 0
    lost: int = 0

    def __add__(self, other: SequenceCounts) -> SequenceCounts:
        return SequenceCounts(
            self.longer + other.longer, self.overflow + other.overflow, self.cut + other.cut, self.lost + other.lost
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard: its files and their sizes, the rows it took from the source, and what became of them.

    `neutralized` counts documents in which a control string was broken up; `tokens` include BOS and EOS, and are None
    where nothing was tokenized; `sequences` are SequenceCounts, where a length of sequences was given.
    """

    files: Mapping[str, int]
    rows: int
    documents: int
    tokens: int | None
    neutralized: int
    skipped: Mapping[str, int]
    sequences: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An export, finished or not. Two exports of one identity have the same files."""

    identity: str
    about: Mapping[str, object]
    shards: tuple[Shard, ...] = ()
    complete: bool = False

    def with_shard(self, shard: Shard) -> Manifest:
        """Return the manifest with one more shard."""
        return replace(self, shards=(*self.shards, shard))

    @property
    def rows(self) -> int:
        """Count the rows of the source that are done."""
        return sum(shard.rows for shard in self.shards)

    @property
    def documents(self) -> int:
        """Count the documents written."""
        return sum(shard.documents for shard in self.shards)

    @property
    def tokens(self) -> int | None:
        """Count the tokens written, BOS and EOS included, or None where nothing was tokenized."""
        counts = [shard.tokens for shard in self.shards if shard.tokens is not None]
        return sum(counts) if counts else None

    @property
    def files(self) -> list[str]:
        """Name the files of all shards, in order."""
        return [name for shard in self.shards for name in shard.files]

    @property
    def sequences(self) -> SequenceCounts:
        """Add up what the length of sequences means for the texts."""
        return sum((SequenceCounts(**shard.sequences) for shard in self.shards), SequenceCounts())

    @property
    def neutralized(self) -> int:
        """Count the documents in which a control string was broken up."""
        return sum(shard.neutralized for shard in self.shards)

    @property
    def skipped(self) -> dict[str, int]:
        """Count the rows left out, by reason."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.skipped)
        return dict(total)


def resume(path: AnyPath, fresh: Manifest, *, files_in: AnyPath) -> Manifest:
    """Return the manifest at `path` with the shards whose files are whole, or `fresh` where there is none.

    Raises OutputError where `path` belongs to another export, or cannot be read.
    """
    if not path.exists():
        return fresh
    found = _read(path)
    if found.identity != fresh.identity:
        raise OutputError(
            f"{path} belongs to another export ({_named(found)}; this one is {_named(fresh)}).",
            hint="Choose another folder, or delete that export. Another input, tokenizer or option is another export.",
        )
    whole = tuple(takewhile(lambda shard: _is_whole(shard, files_in), found.shards))
    return replace(found, shards=whole, complete=found.complete and len(whole) == len(found.shards))


def save(path: AnyPath, manifest: Manifest) -> None:
    """Replace the manifest at `path`."""
    write_text(path, json.dumps(asdict(manifest), indent=1) + "\n")


def _read(path: AnyPath) -> Manifest:
    try:
        fields = json.loads(path.read_text("utf-8"))
        shards = tuple(Shard(**shard) for shard in fields.pop("shards"))
        return Manifest(**fields, shards=shards)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(
            f"{path} is not the manifest of an export: {error}", hint="Delete it to export again, or choose a folder."
        ) from error


def _is_whole(shard: Shard, folder: AnyPath) -> bool:
    paths = {folder / name: size for name, size in shard.files.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def _named(manifest: Manifest) -> str:
    return ", ".join(f"{name} {value}" for name, value in manifest.about.items() if isinstance(value, str))
