"""Write a folder's card, or say that it is stale. Knows the folder; knows nothing of the Hub.

Check a folder before it is published: finished, undamaged, described, free of secrets. Asks no network.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from huggingface_hub import get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from hfsynth.core.addresses import public_values
from hfsynth.core.errors import OutputError, UsageError
from hfsynth.core.files import read_json, write_text
from hfsynth.core.remote_calls import invalid_name
from hfsynth.core.store_paths import AnyPath
from hfsynth.core.stores import any_path
from hfsynth.corpus.files import CorpusFiles
from hfsynth.corpus.folder import CorpusAt, incomplete
from hfsynth.corpus.readme import Card
from hfsynth.publishing import plots
from hfsynth.publishing.belongings import belongings, manifest_records
from hfsynth.publishing.card import CorpusFacts, ModelFacts, card_of
from hfsynth.publishing.croissant import FILE, croissant, croissant_text
from hfsynth.publishing.facts import CardSettings, corpus_facts, model_facts, read_card, stated
from hfsynth.publishing.leaks import refuse_leaks, refuse_secrets
from hfsynth.publishing.plan import README, LocalFile, Publication, rebuilt_card
from hfsynth.publishing.plots import FOLDER


@dataclass(frozen=True, slots=True)
class CardResult:
    """A card that was written: where, whether it changed, and what it leaves out."""

    path: AnyPath
    changed: bool
    notes: tuple[str, ...]


def write_card(
    folder: str | AnyPath, settings: CardSettings | None = None, *, kind: str = "dataset", template: str | None = None
) -> CardResult:
    """Write the README and the plots of a corpus folder (`kind` "dataset") or a synthesizer's ("model").

    What the user wrote outside of hfsynth's block stays, as do metadata keys of the user's own. What was stated
    earlier (licence, language, title) is kept where `settings` leave it open. Raise ConfigError for a missing licence
    or a failing template, OutputError where the folder holds nothing to describe.
    """
    root = any_path(folder)
    facts = _drawn(root, facts_of(CorpusFiles(root), settings or CardSettings(), kind))
    changed = _written(root, facts, folder_card(root, facts, template))
    return CardResult(root / README, changed, tuple(stated(facts)) if isinstance(facts, CorpusFacts) else ())


def check_folder_card(
    folder: str | AnyPath, settings: CardSettings | None = None, *, kind: str = "dataset", template: str | None = None
) -> None:
    """Raise OutputError where the folder's card is not what `write_card` would write now, or a fact is missing."""
    root = any_path(folder)
    again = f"Write it again: hfsynth card {root}"
    if not (root / "README.md").exists():
        raise OutputError(f"{root} has no card.", hint=again)
    try:
        facts = facts_of(CorpusFiles(root), settings or CardSettings(), kind)
    except UsageError as error:
        raise OutputError(error.message, hint=error.hint) from error
    if isinstance(facts, CorpusFacts) and (old := plots.stale(root, read_json(root / "stats.json") or {})):
        raise OutputError(f"{', '.join(old)} shows other numbers than stats.json.", hint=again)
    if isinstance(facts, CorpusFacts) and _read(root / FILE) != _described(root, facts):
        raise OutputError(f"The {FILE} of {root} is stale: it does not say what is in the folder now.", hint=again)
    if (root / "README.md").read_text("utf-8") != folder_card(root, facts, template).text():
        raise OutputError(f"The card of {root} is stale: it does not say what is in the folder now.", hint=again)


def facts_of(files: CorpusFiles, settings: CardSettings, kind: str) -> CorpusFacts | ModelFacts:
    """Return what the card of a folder says."""
    return corpus_facts(files.root, settings, files) if kind == "dataset" else model_facts(files.root, settings)


def folder_card(root: AnyPath, facts: CorpusFacts | ModelFacts, template: str | None) -> Card:
    """Return the folder's card as it should be."""
    return rebuilt_card(read_card(root), card_of(facts, template))


def _drawn(root: AnyPath, facts: CorpusFacts | ModelFacts) -> CorpusFacts | ModelFacts:
    """Draw a corpus's pictures where they are not there yet, and return its facts with them."""
    stats = read_json(root / "stats.json")
    if stats is None or not isinstance(facts, CorpusFacts) or not plots.available():
        return facts
    plots.draw(root, stats)
    return replace(facts, plots=plots.current(root, stats))


def _written(root: AnyPath, facts: CorpusFacts | ModelFacts, card: Card) -> bool:
    """Write a folder's card, and a corpus's `croissant.json` beside it; say whether another card was there."""
    if isinstance(facts, CorpusFacts) and _read(root / FILE) != (described := _described(root, facts)):
        write_text(root / FILE, described)
    path, text = root / README, card.text()
    if path.exists() and path.read_text("utf-8") == text:
        return False
    write_text(path, text)
    return True


def _described(root: AnyPath, facts: CorpusFacts) -> str:
    """Return what `croissant.json` should hold. The day that it was written first stays."""
    found = read_json(root / FILE)
    day = found.get("datePublished") if isinstance(found, dict) else None
    return croissant_text(croissant(facts, published=str(day or datetime.now(UTC).date())))


def _read(path: AnyPath) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


_OWN = (FILE, "synthesizer_config.json", "stats.json", "evaluation.json")
_TELLING = (*_OWN[1:], "training.json", "adapter_config.json", "config.json", "tokenizer_config.json")


def check_name(repo: str) -> None:
    """Raise HubError for what cannot be the name of a repo of somebody's."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise invalid_name(repo) from error
    if repo.count("/") != 1:
        raise invalid_name(repo)


def prepare(
    root: AnyPath,
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
    corpus = CorpusFiles(root)
    facts = facts_of(corpus, settings, kind)
    if write:
        facts = _drawn(root, facts)
        _written(root, facts, folder_card(root, facts, template))
    card = folder_card(root, facts, template)
    found = belongings(root, kind, settings.include)
    paths = [path for path in found.files if path != README]
    _refuse_secrets(corpus, found.files, card, allowed)
    _refuse_script(paths, repo)
    files = {path: LocalFile.of(_content(root, path)) for path in paths}
    if isinstance(facts, CorpusFacts):
        files[FILE] = LocalFile.of(_described(root, facts).encode("utf-8", "replace"))
    if kind == "dataset":
        _refuse_damaged(corpus, files)
    rows = {path: corpus.footer(path).num_rows for path in paths if kind == "dataset" and path.endswith(".parquet")}
    own = frozenset(path for path in files if path in _OWN or path.startswith(f"{FOLDER}/"))
    return Publication(repo, kind, facts, card, template, files, own, found.left, rows)


def publication_summary(publication: Publication) -> str:
    """Return in a few words what is published."""
    facts = publication.facts
    if not isinstance(facts, CorpusFacts):
        return f"a synthesizer ({facts.weights})"
    return ", ".join(f"{config.name} ({sum(s.rows for s in config.splits):,} rows)" for config in facts.configs)


def _refuse_unfinished(root: AnyPath) -> None:
    corpus = CorpusAt(root)
    if corpus.plan.exists() and not corpus.manifest.exists():
        raise OutputError(
            f"{root} is not finished: its job was interrupted or is still running.",
            hint="Give the same `hfsynth synthesize` command again, then push.",
        )


def _refuse_damaged(corpus: CorpusFiles, files: dict[str, LocalFile]) -> None:
    """Compare every file with the manifest; look at the numbers in the names of those that are not in one."""
    root = corpus.root
    records = manifest_records(root)
    again = "Remove the folder and make it again; nothing was published."
    for path, record in records.items():
        file = files.get(path)
        if file is None:
            gone = "is a link" if (root / path).is_symlink() else "is missing: the job wrote it and it is gone"
            raise OutputError(f"{root / path} {gone}.", hint=again)
        if file.sha256 != record["sha256"]:
            raise OutputError(f"{root / path} is damaged: it is not what the job wrote.", hint=again)
        if "rows" in record and corpus.footer(path).num_rows != record["rows"]:
            raise OutputError(f"{root / path} does not have the {record['rows']} rows of the manifest.", hint=again)
    if gaps := incomplete(files):
        raise OutputError(f"{root} is not whole: {'; '.join(gaps)}.", hint=again)


def _refuse_secrets(corpus: CorpusFiles, paths: Sequence[str], card: Card, allowed: Collection[str]) -> None:
    """Search everything that would be sent, the new card included, which others' words come into."""
    token = get_token()
    refuse_leaks(corpus, paths, token=token, allowed=allowed)
    refuse_secrets(card.text().encode("utf-8", "replace"), f"the new {README}", token=token, allowed=allowed)


def _content(root: AnyPath, path: str) -> AnyPath | bytes:
    """Return a file as it is published: in the small JSON files no path of this machine, no address's credentials."""
    if path not in _TELLING:
        return root / path
    content = (root / path).read_bytes()
    values = json.loads(content)
    told = public_values(values, root)
    if isinstance(values, dict) and isinstance(exemplars := values.get("exemplars"), dict):
        told["exemplars"]["chosen"] = exemplars.get("chosen", [])  # texts to show as they are: a digest stands for them
    return content if told == values else (json.dumps(told, ensure_ascii=False, indent=2) + "\n").encode()


def _refuse_script(paths: list[str], repo: str) -> None:
    """A script of the repo's name keeps `datasets` from loading it at all."""
    script = f"{repo.rpartition('/')[2]}.py"
    if script in paths:
        raise OutputError(f"{script} would be taken for a loading script of {repo}.", hint="Rename or remove it.")
