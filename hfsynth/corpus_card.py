"""Write a folder's card, or say that it is stale. Knows the folder; knows nothing of the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hfsynth import plots
from hfsynth.card_facts import CardSettings, corpus_facts, model_facts, read_card, stated
from hfsynth.card_merge import replaced
from hfsynth.card_text import Card
from hfsynth.cards import CorpusFacts, ModelFacts, card_of
from hfsynth.corpus import read_json
from hfsynth.durable import write_text
from hfsynth.errors import OutputError, UsageError


@dataclass(frozen=True, slots=True)
class CardResult:
    """A card that was written: where, whether it changed, and what it leaves out."""

    path: Path
    changed: bool
    notes: tuple[str, ...]


def write_card(
    folder: str | Path, settings: CardSettings | None = None, *, kind: str = "dataset", template: str | None = None
) -> CardResult:
    """Write the README and the plots of a corpus folder (`kind` "dataset") or a synthesizer's ("model").

    What the user wrote outside of hfsynth's block stays, as do metadata keys of the user's own. What was stated
    earlier (licence, language, title) is kept where `settings` leave it open. Raise ConfigError for a missing licence
    or a failing template, OutputError where the folder holds nothing to describe.
    """
    root, settings = Path(folder), settings or CardSettings()
    if kind == "dataset":
        corpus_facts(root, settings)  # says what is wrong before anything is written
        _draw(root)
    facts = facts_of(root, settings, kind)
    path, text = root / "README.md", folder_card(root, facts, template).text()
    changed = not path.exists() or path.read_text("utf-8") != text
    if changed:
        write_text(path, text)
    return CardResult(path, changed, tuple(stated(facts)) if isinstance(facts, CorpusFacts) else ())


def check_card(
    folder: str | Path, settings: CardSettings | None = None, *, kind: str = "dataset", template: str | None = None
) -> None:
    """Raise OutputError where the folder's card is not what `write_card` would write now, or a fact is missing."""
    root = Path(folder)
    again = f"Write it again: hfsynth card {folder}"
    if not (root / "README.md").exists():
        raise OutputError(f"{folder} has no card.", hint=again)
    try:
        facts = facts_of(root, settings or CardSettings(), kind)
    except UsageError as error:
        raise OutputError(error.message, hint=error.hint) from error
    if isinstance(facts, CorpusFacts) and (old := plots.stale(root, read_json(root / "stats.json") or {})):
        raise OutputError(f"{', '.join(old)} shows other numbers than stats.json.", hint=again)
    if (root / "README.md").read_text("utf-8") != folder_card(root, facts, template).text():
        raise OutputError(f"The card of {folder} is stale: it does not say what is in the folder now.", hint=again)


def facts_of(root: Path, settings: CardSettings, kind: str) -> CorpusFacts | ModelFacts:
    """Return what the card of a folder says."""
    return corpus_facts(root, settings) if kind == "dataset" else model_facts(root, settings)


def folder_card(root: Path, facts: CorpusFacts | ModelFacts, template: str | None) -> Card:
    """Return the folder's card as it should be."""
    return replaced(read_card(root), card_of(facts, template))


def _draw(root: Path) -> None:
    stats = read_json(root / "stats.json")
    if stats is not None and plots.available():
        plots.draw(root, stats)
