"""Check a folder before it is published: finished, undamaged, described, free of secrets. Asks no network."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from huggingface_hub import get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from hfsynth.addresses import public_values
from hfsynth.belongings import belongings, manifest_records
from hfsynth.card_facts import CardSettings, footer
from hfsynth.card_text import Card
from hfsynth.cards import CorpusFacts
from hfsynth.corpus import Corpus
from hfsynth.corpus_card import facts_of, folder_card, write_card
from hfsynth.corpus_files import incomplete
from hfsynth.errors import OutputError
from hfsynth.hub_errors import invalid_name
from hfsynth.leaks import refuse_leaks, refuse_secrets
from hfsynth.plots import FOLDER
from hfsynth.push_plan import README, LocalFile, Publication

_OWN = ("synthesizer_config.json", "stats.json", "evaluation.json")
_TELLING = (*_OWN, "training.json", "adapter_config.json", "config.json", "tokenizer_config.json")


def check_name(repo: str) -> None:
    """Raise HubError for what cannot be the name of a repo of somebody's."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise invalid_name(repo) from error
    if repo.count("/") != 1:
        raise invalid_name(repo)


def prepare(
    root: Path,
    repo: str,
    kind: str,
    settings: CardSettings,
    *,
    template: str | None = None,
    allowed: Collection[str] = (),
    write: bool = True,
) -> Publication:
    """Return what publishing `root` would send; with `write`, bring the folder's card up to date first.

    `allowed` are the kinds or ids of what looks like a secret and may pass.

    Raise OutputError for a folder that is not finished, is damaged or holds secrets, ConfigError for a card that cannot
    be made (no licence), HubError for an impossible name.
    """
    check_name(repo)
    if kind == "dataset":
        _refuse_unfinished(root)
    if write:
        write_card(root, settings, kind=kind, template=template)
    facts = facts_of(root, settings, kind)
    card = folder_card(root, facts, template)
    found = belongings(root, kind, settings.include)
    paths = [path for path in found.files if path != README]
    _refuse_secrets(root, found.files, card, allowed)
    _refuse_script(paths, repo)
    files = {path: LocalFile.of(_content(root, path)) for path in paths}
    if kind == "dataset":
        _refuse_damaged(root, files)
    own = frozenset(path for path in paths if path in _OWN or path.startswith(f"{FOLDER}/"))
    return Publication(repo, kind, facts, card, template, files, own, found.left)


def summary(publication: Publication) -> str:
    """Return in a few words what is published."""
    facts = publication.facts
    if not isinstance(facts, CorpusFacts):
        return f"a synthesizer ({facts.weights})"
    return ", ".join(f"{config.name} ({sum(s.rows for s in config.splits):,} rows)" for config in facts.configs)


def _refuse_unfinished(root: Path) -> None:
    corpus = Corpus(root)
    if corpus.plan.exists() and not corpus.manifest.exists():
        raise OutputError(
            f"{root} is not finished: its job was interrupted or is still running.",
            hint="Give the same `hfsynth synthesize` command again, then push.",
        )


def _refuse_damaged(root: Path, files: dict[str, LocalFile]) -> None:
    """Compare every file with the manifest; look at the numbers in the names of those that are not in one."""
    records = manifest_records(root)
    again = "Remove the folder and make it again; nothing was published."
    for path, record in records.items():
        file = files.get(path)
        if file is None:
            gone = "is a link" if (root / path).is_symlink() else "is missing: the job wrote it and it is gone"
            raise OutputError(f"{root / path} {gone}.", hint=again)
        if file.sha256 != record["sha256"]:
            raise OutputError(f"{root / path} is damaged: it is not what the job wrote.", hint=again)
        if "rows" in record and footer(root / path).num_rows != record["rows"]:
            raise OutputError(f"{root / path} does not have the {record['rows']} rows of the manifest.", hint=again)
    if gaps := incomplete(files):
        raise OutputError(f"{root} is not whole: {'; '.join(gaps)}.", hint=again)


def _refuse_secrets(root: Path, paths: Sequence[str], card: Card, allowed: Collection[str]) -> None:
    """Search everything that would be sent, the new card included, which others' words come into."""
    token = get_token()
    refuse_leaks(root, paths, token=token, allowed=allowed)
    refuse_secrets(card.text().encode("utf-8", "replace"), f"the new {README}", token=token, allowed=allowed)


def _content(root: Path, path: str) -> Path | bytes:
    """Return a file as it is published: in the small JSON files no path of this machine, no address's credentials."""
    if path not in _TELLING:
        return root / path
    content = (root / path).read_bytes()
    values = json.loads(content)
    told = public_values(values, root)
    return content if told == values else (json.dumps(told, ensure_ascii=False, indent=2) + "\n").encode()


def _refuse_script(paths: list[str], repo: str) -> None:
    """A script of the repo's name keeps `datasets` from loading it at all."""
    script = f"{repo.rpartition('/')[2]}.py"
    if script in paths:
        raise OutputError(f"{script} would be taken for a loading script of {repo}.", hint="Rename or remove it.")
