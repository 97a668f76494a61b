"""What one push changes in a repo: files that are new or different, files that no longer belong, the next card. Pure.

A plan is made against one state of the repo and leaves alone what belongs to other configs and splits. Of the card,
what the folder is about is replaced; blocks about other configs and everybody's own words stay. Knows nothing of how
files get to the Hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Self

from hfsynth.core.errors import HubError, OutputError
from hfsynth.core.files import file_digest
from hfsynth.core.store_paths import AnyPath
from hfsynth.corpus.folder import declared, matching, split_order, usual_pattern
from hfsynth.corpus.readme import Block, Card, united
from hfsynth.publishing.card import CorpusFacts, ModelFacts, card_of, size_category

_UNITED = ("language", "task_categories", "annotations_creators", "source_datasets", "tags")
_ROOT_FILES = ("synthesizer_config.json", "stats.json")


def home_of(parts: Iterable[str], theirs: Card, paths: Iterable[str]) -> str:
    """Return the folder of the repo for the own files of a corpus of these parts: empty (the root), or `…/`.

    The root belongs to the corpus that came first; the files of the next ones lie under `corpora/`.
    """
    mine = set(parts)
    for block in theirs.blocks:
        if block.parts & mine:
            return block.home
    others = other_parts(theirs, mine)
    if not others or not ({*_ROOT_FILES} & {*paths} or any(not block.home for block in theirs.blocks)):
        return ""
    return f"corpora/{sorted(mine)[0].replace('/', '-')}/"


def other_parts(theirs: Card, mine: Iterable[str]) -> set[str]:
    """Return the `config/split` names of a card that are not among `mine`."""
    return {split.name for split in declared(theirs.metadata, ())} - set(mine)


def merged(folder: Card, mine: Block, theirs: Card, sizes: Mapping[str, int]) -> Card:
    """Return the repo's next card: `folder` is the folder's whole card, `mine` its block as the repo should show it.

    `sizes` are the bytes of the files of every `config/split` that stays.
    """
    joined = Card(_metadata(folder.metadata, theirs.metadata, mine.parts, sizes), theirs.content).with_block(mine)
    return Card(joined.metadata, _words(folder, joined))


def rebuilt_card(card: Card, built: Card) -> Card:
    """Return a folder's card with fresh metadata and block; words, and keys that are not ours, stay."""
    return Card({**built.metadata, **_foreign(card.metadata, built.metadata)}, card.content).with_block(built.blocks[0])


def _words(folder: Card, joined: Card) -> tuple[str | Block, ...]:
    """Add the paragraphs of the folder that the repo's card has not: before its first block or after its last."""
    there = {paragraph for text in joined.words for paragraph in _paragraphs(text)}
    first = next((n for n, part in enumerate(folder.content) if isinstance(part, Block)), len(folder.content))
    before = [part for part in folder.content[:first] if isinstance(part, str)]
    after = [part for part in folder.content[first:] if isinstance(part, str)]
    return (*_missing(before, there), *joined.content, *_missing(after, there))


def _missing(texts: list[str], there: set[str]) -> list[str]:
    """Return the paragraphs that are not there, as one text; all of it as it is where nothing is there."""
    if not there:
        return texts
    missing = [paragraph for text in texts for paragraph in _paragraphs(text) if paragraph not in there]
    return ["\n\n".join(missing)] if missing else []


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip("\n") for paragraph in text.split("\n\n") if paragraph.strip()]


def _metadata(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], mine: frozenset[str], sizes: Mapping[str, int]
) -> dict[str, Any]:
    result = {**ours, **_foreign(theirs, ours)}
    if not other_parts(Card(theirs), mine):
        return result
    for key in _UNITED:
        if key in theirs or key in ours:
            result[key] = united(_listed(theirs.get(key)), _listed(ours.get(key)))
    result |= _licences(ours, theirs)
    if "pretty_name" in theirs:
        result["pretty_name"] = theirs["pretty_name"]
    result["configs"] = _configs(ours, theirs, mine)
    result["dataset_info"] = _infos(ours, theirs, mine, sizes)
    rows = sum(int(s.get("num_examples", 0)) for info in result["dataset_info"] for s in info.get("splits", ()))
    result["size_categories"] = [size_category(rows)]
    return result


def _foreign(there: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that somebody else wrote; the licence's own keys go with the licence."""
    licence = ("license_name", "license_link")
    return {key: value for key, value in there.items() if key not in ours and key not in licence}


def _licences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    both = united(_listed(theirs.get("license")), _listed(ours.get("license")))
    named = {key: ours.get(key) or theirs.get(key) for key in ("license_name", "license_link")}
    return {"license": both[0] if len(both) == 1 else both, **{key: value for key, value in named.items() if value}}


def _configs(ours: Mapping[str, Any], theirs: Mapping[str, Any], mine: frozenset[str]) -> list[dict[str, Any]]:
    kept = [split for split in declared(theirs, ()) if split.name not in mine]
    entries: dict[str, dict[str, Any]] = {}
    for split in sorted([*kept, *declared(ours, ())], key=lambda split: split_order(split.split)):
        entry = entries.setdefault(split.config, {**_entry(theirs, split.config), "data_files": []})
        path = split.patterns[0] if len(split.patterns) == 1 else list(split.patterns)
        entry["data_files"].append({"split": split.split, "path": path})
    return [entries[config] for config in sorted(entries, key=lambda config: (config != "default", config))]


def _entry(metadata: Mapping[str, Any], config: str) -> dict[str, Any]:
    """Return a config's entry, with whatever else it says."""
    found = (entry for entry in metadata.get("configs") or [] if entry.get("config_name", "default") == config)
    return dict(next(found, {"config_name": config}))


def _infos(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], mine: frozenset[str], sizes: Mapping[str, int]
) -> list[dict[str, Any]]:
    old, new = _by_config(theirs), _by_config(ours)
    infos = {**old, **new}
    for config in new.keys() & old.keys():
        kept = [split for split in old[config].get("splits", ()) if f"{config}/{split['name']}" not in mine]
        if kept:
            kept_size = sum(sizes.get(f"{config}/{split['name']}", 0) for split in kept)
            infos[config] = _joined_info(config, new[config], old[config], kept, kept_size)
    return [infos[config] for config in sorted(infos, key=lambda config: (config != "default", config))]


def _joined_info(
    config: str, own: Mapping[str, Any], old: Mapping[str, Any], kept: list[Any], kept_size: int
) -> dict[str, Any]:
    if old.get("features") != own["features"]:
        names = ", ".join(str(split["name"]) for split in kept)
        raise HubError(
            f"Config {config!r} has other columns on the Hub (split {names}) than in this folder.",
            hint="Push it under another config name, or remove those splits from the repo first.",
        )
    splits = sorted([*kept, *own["splits"]], key=lambda split: split_order(str(split["name"])))
    return {
        **own,
        "splits": splits,
        "download_size": kept_size + int(own["download_size"]),
        "dataset_size": sum(int(split.get("num_bytes", 0)) for split in splits),
    }


def _by_config(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = metadata.get("dataset_info") or []
    infos = [found] if isinstance(found, dict) else found
    return {str(info.get("config_name", "default")): dict(info) for info in infos}


def _listed(value: object) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


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


@dataclass(frozen=True)
class LocalFile:
    """A file to publish, by its path or by its content."""

    source: AnyPath | bytes
    size: int
    sha256: str

    @classmethod
    def of(cls, source: AnyPath | bytes) -> Self:
        """Read and digest a file; on a store it stays there."""
        if isinstance(source, bytes):
            return cls(source, len(source), hashlib.sha256(source).hexdigest())
        sha256, size = file_digest(source)
        return cls(source, size, sha256)

    @cached_property
    def oid(self) -> str:
        """The git blob id of the content: asked for small files alone, since the Hub has the large ones' SHA-256."""
        found = hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)
        found.update(self.source if isinstance(self.source, bytes) else self.source.read_bytes())
        return found.hexdigest()

    def is_at(self, entry: Entry | None) -> bool:
        """Say whether an entry of a repo has this content."""
        if entry is None:
            return False
        return entry.sha256 == self.sha256 if entry.sha256 else entry.oid == self.oid


@dataclass(frozen=True, slots=True)
class Publication:
    """A folder that has passed every check: its facts, its card, its files by path.

    `own` are the files about the corpus as a whole: in a repo of several corpora each has its own folder for them.
    `left` are the files of the folder that are not published, `rows` how many each Parquet file of a corpus has.
    """

    repo: str
    kind: str
    facts: CorpusFacts | ModelFacts
    card: Card
    template: str | None
    files: Mapping[str, LocalFile]
    own: frozenset[str] = frozenset()
    left: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)

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


def push_plan(publication: Publication, now: Snapshot) -> Plan:
    """Return what publishing changes in the repo as it is `now`.

    Raise HubError where the repo's card is damaged, or a file would take the place of another config's.
    """
    theirs = their_card(publication.repo, now)
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


def their_card(repo: str, now: Snapshot) -> Card:
    """Return the repo's card taken apart; raise HubError where it is damaged."""
    try:
        return Card.parse(now.readme or "")
    except OutputError as error:
        raise HubError(f"The card of {repo} on the Hub is damaged: {error.message}", hint="Repair it there.") from error
