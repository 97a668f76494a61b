"""Judged documents into figures: means with confidence intervals over documents, and counts.

Pure functions of values. Knows nothing of engines, prompts or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hfsynth.intervals import Ratios
from hfsynth.judging import Answered, Said, Written

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """Everything about one document with one number of shots."""

    written: Written
    answers: tuple[Answered, ...]

    @property
    def source(self) -> str:
        """The task set that the document is from."""
        return self.written.case.example.source

    def answered(self) -> list[Answered]:
        """Return the answers that there are figures of."""
        return [answer for answer in self.answers if answer.said is not None and not answer.said.failed]

    @property
    def outcomes(self) -> Sequence[Written | Answered]:
        """What became of each request, and of those that did not fit."""
        return [self.written, *self.answers]

    def said(self) -> list[Said]:
        """Return what every request cost."""
        return [outcome.said for outcome in self.outcomes if outcome.said is not None]


def joined(written: Iterable[Written], answered: Iterable[Answered]) -> list[Judged]:
    """Put the outcomes of the two tasks together, by gold set, shots and document, in this order."""
    answers: dict[tuple[str, int, int], list[Answered]] = {}
    for answer in answered:
        answers.setdefault(_key(answer), []).append(answer)
    return [Judged(one, tuple(answers.get(_key(one), ()))) for one in sorted(written, key=_key)]


def _key(item: Written | Answered) -> tuple[str, int, int]:
    return item.case.gold, item.case.shots, item.case.number


def results(judged: Sequence[Judged], seed: int) -> Figures:
    """Return the figures of each gold set and number of shots: `all`, `macro` (over sources) and `sources`."""
    found: Figures = {}
    for (gold, shots), group in groupby(judged, key=lambda one: _key(one.written)[:2]):
        documents = list(group)
        by_source: dict[str, list[Judged]] = {}
        for one in documents:
            by_source.setdefault(one.source, []).append(one)
        sources = {source: figures(ones, seed) for source, ones in sorted(by_source.items())}
        found.setdefault(gold, {})[str(shots)] = {
            "all": figures(documents, seed),
            "macro": _macro(list(sources.values())),
            "sources": sources,
        }
    return found


def figures(judged: Sequence[Judged], seed: int) -> Figures:
    """Return the figures of some documents.

    Means are over documents, a document's answers counted as their mean; scores and shares lie between 0 and 1.
    What did not fit the window, or failed in the engine, is counted and in no mean.
    """
    written = [one.written for one in judged if one.written.said is not None and not one.written.said.failed]
    answered = [answers for one in judged if (answers := one.answered())]
    said = [item for one in judged for item in one.said()]

    def mean(values: Sequence[float]) -> Mapping[str, float | None]:
        return _interval(values, seed)

    def of_answers(score: Callable[[Answered], float]) -> Mapping[str, float | None]:
        return mean([sum(map(score, answers)) / len(answers) for answers in answered])

    qualities = [one.quality for one in written if one.quality is not None]
    return {
        "documents": len(judged),
        "response_accuracy": {
            "f1": of_answers(lambda answer: answer.f1),
            "exact_match": of_answers(lambda answer: answer.exact_match),
            "answers": sum(map(len, answered)),
        },
        "pair_quality": {
            "f1": mean([quality.f1 for quality in qualities]),
            "precision": mean([quality.precision for quality in qualities]),
            "recall": mean([quality.recall for quality in qualities]),
        },
        "with_pairs": mean([float(one.pairs > 0) for one in written]),
        "pairs_per_document": mean([float(one.pairs) for one in written]),
        "gold_pairs_per_document": mean([float(len(one.case.example.pairs)) for one in written]),
        "duplicates": _share(sum(one.duplicates for one in written), sum(one.pairs for one in written)),
        "rejected": dict(sorted(Counter(str(item.reason) for one in written for item in one.rejected).items())),
        **_counts(judged, said),
    }


def _counts(judged: Sequence[Judged], said: Sequence[Said]) -> Figures:
    asked = [one.written for one in judged if one.written.said is not None]
    return {
        "too_long": sum(outcome.said is None for one in judged for outcome in one.outcomes),
        "failed": sum(item.failed for item in said),
        "cut_off": sum(one.said.cut_off for one in asked if one.said is not None),
        "fewer_shots": sum(one.said.shown < one.case.shots for one in asked if one.said is not None),
        "prompt_tokens": sum(item.prompt_tokens for item in said),
        "output_tokens": sum(item.output_tokens for item in said),
    }


def _share(duplicates: int, pairs: int) -> float | None:
    return duplicates / (pairs + duplicates) if pairs + duplicates else None


def _macro(sources: Sequence[Figures]) -> Figures:
    """Return the plain mean over sources of what the paper reports."""
    found: Figures = {"sources": len(sources)}
    for measure, score in (("response_accuracy", "f1"), ("response_accuracy", "exact_match"), ("pair_quality", "f1")):
        means = [mean for one in sources if (mean := one[measure][score]["mean"]) is not None]
        found.setdefault(measure, {})[score] = sum(means) / len(means) if means else None
    return found


def _interval(values: Sequence[float], seed: int) -> Mapping[str, float | None]:
    """Return the mean and its 95% interval over documents; a single value has no interval."""
    ratios = Ratios(["mean"], seed=seed)
    for value in values:
        ratios.add({"mean": (value, 1)})
    return ratios.interval("mean")
