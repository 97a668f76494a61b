"""Join the card of a folder with the one that is in its repo. Pure.

What the folder is about is replaced; other configs and splits, the blocks about them and everybody's own words stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hfsynth.card_text import Block, Card, united
from hfsynth.cards import size_category
from hfsynth.corpus_files import declared, split_order
from hfsynth.errors import HubError

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


def replaced(card: Card, built: Card) -> Card:
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
