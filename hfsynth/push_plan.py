"""What one push changes in a repo: files that are new or different, files that no longer belong, the next card. Pure.

A plan is made against one state of the repo and leaves alone what belongs to other configs and splits. Knows nothing
of how files get to the Hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from hfsynth.card_merge import home_of, merged, other_parts
from hfsynth.card_text import Card
from hfsynth.cards import CorpusFacts, ModelFacts, card_of
from hfsynth.corpus_files import declared, matching, usual_pattern
from hfsynth.errors import ConfigError, HubError

README = "README.md"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.gguf")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a repo: its size, its git blob id, and the SHA-256 of its content where it is in LFS."""

    size: int
    oid: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of a repo: its commit, every file, and the text of its card."""

    commit: str
    tree: Mapping[str, Entry]
    readme: str | None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to publish, by its path or by its content; `oid` is the git blob id of the content."""

    source: Path | bytes
    size: int
    sha256: str
    oid: str

    @classmethod
    def of(cls, source: Path | bytes) -> Self:
        """Read and digest a file."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        sha256, oid = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        for block in _blocks(source):
            sha256.update(block)
            oid.update(block)
        return cls(source, size, sha256.hexdigest(), oid.hexdigest())

    def is_at(self, entry: Entry | None) -> bool:
        """Say whether an entry of a repo has this content."""
        if entry is None:
            return False
        return entry.sha256 == self.sha256 if entry.sha256 else entry.oid == self.oid


@dataclass(frozen=True, slots=True)
class Publication:
    """A folder that has passed every check: its facts, its card, its files by path.

    `own` are the files about the corpus as a whole: in a repo of several corpora each has its own folder for them.
    `left` are the files of the folder that are not published.
    """

    repo: str
    kind: str
    facts: CorpusFacts | ModelFacts
    card: Card
    template: str | None
    files: Mapping[str, LocalFile]
    own: frozenset[str] = frozenset()
    left: tuple[str, ...] = ()

    @property
    def parts(self) -> list[str]:
        """What is published, as `config/split`."""
        return self.facts.parts if isinstance(self.facts, CorpusFacts) else []

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """The change from one state of the repo to the next. `region` are the paths that belong to the publication.

    `parts` are the files that the repo has of each `config/split` of the publication, `home` is where the publication's
    own files lie there.
    """

    base: Snapshot
    desired: Mapping[str, LocalFile]
    region: frozenset[str]
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    home: str = ""

    @property
    def adds(self) -> dict[str, LocalFile]:
        return {path: file for path, file in self.desired.items() if not file.is_at(self.base.tree.get(path))}

    @property
    def deletes(self) -> list[str]:
        return sorted(path for path in self.region if path in self.base.tree and path not in self.desired)

    @property
    def changes(self) -> int:
        return len(self.adds) + len(self.deletes)

    @property
    def replaced(self) -> dict[str, list[str]]:
        """The files of each `config/split` that are in the repo and go, or become others."""
        found = {name: [path for path in paths if not self.keeps(path)] for name, paths in self.parts.items()}
        return {name: paths for name, paths in found.items() if paths}

    def keeps(self, path: str) -> bool:
        """Say whether a path is afterwards as it is in the repo now."""
        wanted, there = self.desired.get(path), self.base.tree.get(path)
        return there is None if wanted is None else wanted.is_at(there)

    @property
    def digest(self) -> str:
        """Name the change: the same base and the same content give the same name."""
        lines = [f"{path} {file.sha256}" for path, file in sorted(self.desired.items())]
        return hashlib.sha256("\n".join([self.base.commit, *lines]).encode()).hexdigest()[:12]


def plan(publication: Publication, now: Snapshot) -> Plan:
    """Return what publishing changes in the repo as it is `now`.

    Raise HubError where the repo's card is damaged, or a file would take the place of another config's.
    """
    theirs = _their_card(publication.repo, now)
    home = home_of(publication.parts, theirs, now.tree) if publication.kind == "dataset" else ""
    parts = {name: tuple(matching(now.tree, _patterns(theirs, name))) for name in publication.parts}
    desired, region = _desired(publication, theirs, now, home)
    region |= {path for paths in parts.values() for path in paths}
    _refuse_taken(publication, theirs, now, {*desired, *region} - {README})
    return Plan(now, desired, region, parts, home)


def refuse_conflicts(first: Snapshot, plan: Plan) -> None:
    """Raise HubError where somebody else has changed what is being published since it was looked at first."""
    before, now = first.tree, plan.base.tree
    paths = sorted(plan.region | {path for path in before if path in plan.region})
    changed = [path for path in paths if before.get(path) != now.get(path) and not plan.keeps(path)]
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise HubError(
            f"Somebody else has changed the same files during this push: {shown}. Nothing was published.",
            hint="Look at the repo; to put this folder in their place, give the same command again, with --replace.",
        )


def _desired(
    publication: Publication, theirs: Card, now: Snapshot, home: str
) -> tuple[dict[str, LocalFile], frozenset[str]]:
    if publication.kind == "model":
        readme = _readme(publication, theirs, "", {})
        weights = {path for path in now.tree if any(fnmatchcase(path, pattern) for pattern in _WEIGHTS)}
        return {**publication.files, README: readme}, frozenset(weights | {*publication.files})
    moved = {path: f"{home}{path}" if path in publication.own else path for path in publication.files}
    files = {moved[path]: file for path, file in publication.files.items()}
    pictures = {path for path in now.tree if path.startswith(f"{home}plots/") and path.endswith((".png", ".svg"))}
    region = pictures | {path for path in files if path.endswith(".parquet")}
    region |= {f"{home}{path}" for path in publication.own}
    return {**files, README: _readme(publication, theirs, home, _sizes(theirs, now))}, frozenset(region)


def _readme(publication: Publication, theirs: Card, home: str, sizes: Mapping[str, int]) -> LocalFile:
    block = card_of(replace(publication.facts, home=home), publication.template).blocks[0]
    return LocalFile.of(merged(publication.card, block, theirs, sizes).text().encode())


def _sizes(theirs: Card, now: Snapshot) -> dict[str, int]:
    """Return the bytes of every split that the repo's card names."""
    splits = declared(theirs.metadata, now.tree)
    return {split.name: sum(now.tree[path].size for path in split.files) for split in splits}


def _patterns(theirs: Card, name: str) -> list[str]:
    config, _, split = name.partition("/")
    known = [pattern for found in declared(theirs.metadata, ()) if found.name == name for pattern in found.patterns]
    return [*known, usual_pattern(config, split)]


def _refuse_taken(publication: Publication, theirs: Card, now: Snapshot, paths: Iterable[str]) -> None:
    others = other_parts(theirs, publication.parts)
    taken = {
        path: split.name
        for split in declared(theirs.metadata, now.tree)
        if split.name in others
        for path in split.files
    }
    for path in paths:
        if path in taken:
            raise HubError(
                f"{path} belongs to {taken[path]} in {publication.repo}, which this folder does not have.",
                hint="Publish to another repo, or give the config a folder and a name of its own.",
            )


def _their_card(repo: str, now: Snapshot) -> Card:
    try:
        return Card.parse(now.readme or "")
    except ConfigError as error:
        raise HubError(f"The card of {repo} on the Hub is damaged: {error.message}", hint="Repair it there.") from error


def _blocks(source: Path | bytes) -> Iterable[Any]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while block := file.read(2**20):
            yield block
