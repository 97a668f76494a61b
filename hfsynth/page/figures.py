"""The figures of a corpus: what became of its documents, what was lost and why, tokens, and how far a running job is.

Of a finished corpus they are those of its statistics, of a running one those of its journal, added up as they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hfsynth.core.records import Counts, Reason, Status
from hfsynth.corpus.folder import Corpus
from hfsynth.job.progress import JournalView, Progress
from hfsynth.page.opening import OpenCorpus

Bars = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is to say of a corpus, in numbers; `state` and `recipe` in words.

    `more` are figures that only some corpora have, by their titles: verdicts of a judge, styles of texts, a mixture.
    `progress` is None for a corpus whose job has ended.
    """

    state: str
    documents: Bars = field(default_factory=dict)
    rejected: Bars = field(default_factory=dict)
    pairs_per_document: Bars = field(default_factory=dict)
    tokens: Bars = field(default_factory=dict)
    more: Mapping[str, Bars] = field(default_factory=dict)
    pairs: int = 0
    recipe: Mapping[str, str] = field(default_factory=dict)
    progress: Progress | None = None

    @property
    def total(self) -> int:
        """Documents of every status."""
        return sum(self.documents.values())


def figures_of(corpus: OpenCorpus, view: JournalView | None = None) -> Figures:
    """Return the figures; `view` is kept by who looks at a running job again and again."""
    if corpus.running and corpus.folder is not None:
        progress = (view or JournalView(Corpus(corpus.folder))).progress()
        state = "running" if progress.workers else "unfinished"
        return _of(state, progress.counts.to_dict(), corpus.recipe, progress)
    return _of("finished", corpus.stats, corpus.recipe, None)


def reasons_of(figures: Figures) -> list[tuple[str, int]]:
    """Return every reason that something was lost for, those that occur first, with how often."""
    known = {reason.value: figures.rejected.get(reason.value, 0) for reason in Reason}
    return sorted(known.items(), key=lambda item: -item[1])


def statuses_of(figures: Figures) -> list[tuple[str, int]]:
    """Return every status with how many documents have it."""
    return [(status.value, figures.documents.get(status.value, 0)) for status in Status]


def _of(state: str, stats: Mapping[str, Any], recipe: Mapping[str, Any], progress: Progress | None) -> Figures:
    known = {**Counts().to_dict(), **stats}
    per_document = known["pairs_per_document"]
    cached = int(known["cached_tokens"])
    return Figures(
        state,
        {name: number for name, number in known["documents"].items() if number},
        {name: number for name, number in known["rejected"].items() if number},
        {number: per_document[number] for number in sorted(per_document, key=int)},
        {
            "prompt, computed": int(known["prompt_tokens"]) - cached,
            "prompt, from the prefix cache": cached,
            "written by the model": int(known["output_tokens"]),
        },
        dict(_more(stats)),
        int(known["pairs"]),
        _told(recipe),
        progress,
    )


def _more(stats: Mapping[str, Any]) -> Iterator[tuple[str, Bars]]:
    for name, tenths in ((stats.get("verify") or {}).get("scores") or {}).items():
        told = {f"{tenth / 10:.1f} to {(tenth + 1) / 10:.1f}": int(number) for tenth, number in enumerate(tenths)}
        yield f"Pairs by what the judge said of their {name}", told
    if drawn := (stats.get("render") or {}).get("styles_drawn"):
        yield "Training texts by style", {name.replace("_", " "): int(number) for name, number in drawn.items()}
    if parts := (stats.get("mix") or {}).get("parts"):
        yield "Tokens of the mixture by part", {str(part["name"]): int(part["tokens"]) for part in parts}


def _told(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return a recipe's main fields as a person reads them."""
    source = recipe.get("source") or {}
    named = {
        "model": recipe.get("model"),
        "revision": recipe.get("model_revision"),
        "prompt format": recipe.get("prompt_format"),
        "prompt": (recipe.get("prompt") or {}).get("name"),
        "shots": recipe.get("shots"),
        "kept only": ", ".join(recipe.get("keep") or ()),
        "source": source.get("location"),
    }
    return {name: str(value) for name, value in named.items() if value}
