"""The figures of a corpus: documents with their pairs in, one after another; means and shares with intervals out.

Memory does not grow with the documents. Knows nothing of files, models or cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hfsynth.intervals import Ratios
from hfsynth.languages import UNKNOWN, differ, language_of
from hfsynth.measures import Evidence, answer_leak, words
from hfsynth.records import Pair
from hfsynth.repetition import Repeats, Sample, distinct, nearly_repeated
from hfsynth.task_categories import Category, category_of

COMPARED = 10_000
"""Pairs that are drawn to look for nearly repeated instructions and distinct n-grams."""

FIGURES = (
    "with_pairs",
    "pairs_per_document",
    "grounding",
    "fully_grounded",
    "with_foreign_numbers",
    "with_foreign_names",
    "answer_leak",
    "answer_in_instruction",
    "instruction_words",
    "response_words",
    "repeated_instructions",
    "language_known",
    "language_mismatch",
)
"""The names of the figures: shares and means, of documents (the first two) and of pairs."""

_UNBOUNDED = ("pairs_per_document", "instruction_words", "response_words")
_CATEGORIES = {category: f"category {category}" for category in Category}
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NEARLY = "nearly_repeated_instructions"


@dataclass(frozen=True, slots=True)
class _Compared:
    """A pair that was drawn to be compared with others: its document's number, its texts as words."""

    number: int
    instruction: list[str]
    response: list[str]


class _Sums:
    """What one document gives to each figure: a sum, and what it is a sum of."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[float, float]] = {}

    def add(self, name: str, value: float, count: float = 1) -> None:
        above, below = self.of.get(name, (0.0, 0.0))
        self.of[name] = above + value, below + count


class CorpusFigures:
    """Measure one document after another. `expected_pairs` is about how many pairs there will be."""

    def __init__(self, *, expected_pairs: int, seed: int = 0) -> None:
        self._seed = seed
        self._ratios = Ratios([*FIGURES, *_CATEGORIES.values()], seed=seed)
        self._repeats = Repeats(expected_pairs)
        self._compared: Sample[_Compared] = Sample(COMPARED, seed=seed, name="compared")
        self._instruction_lengths: Counter[int] = Counter()
        self._response_lengths: Counter[int] = Counter()
        self._languages: Counter[str] = Counter()
        self.documents = 0
        self.pairs = 0

    def add(self, text: str, pairs: Sequence[Pair]) -> None:
        """Measure a document and its pairs; of one without pairs only that it has none."""
        sums = _Sums()
        sums.add("with_pairs", bool(pairs))
        sums.add("pairs_per_document", len(pairs))
        if pairs:
            self._grounded(sums, text, pairs)
            self._said(sums, pairs)
            self._in_languages(sums, text, pairs)
            categories = Counter(map(category_of, pairs))
            for category, name in _CATEGORIES.items():
                sums.add(name, categories[category], len(pairs))
        self._ratios.add(sums.of)
        self.documents += 1
        self.pairs += len(pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values; shares and measures lie between 0 and 1, each with its 95% interval.

        `figures` has those in FIGURES and that of nearly repeated instructions, `categories` the share of each task
        category that occurs, the largest first; `words` the distribution of lengths; `distinct` the shares of
        different n-grams among `compared_pairs` drawn pairs; `languages` counts documents with pairs.
        """
        compared, ratios = self._compared.items(), self._ratios
        figures = {name: (ratios.interval if name in _UNBOUNDED else ratios.share)(name) for name in FIGURES}
        shares = {category.value: ratios.share(name) for category, name in _CATEGORIES.items()}
        found = {name: share for name, share in shares.items() if share["mean"]}
        return {
            "documents": self.documents,
            "pairs": self.pairs,
            "figures": figures | {_NEARLY: self._nearly_repeated(compared)},
            "categories": dict(sorted(found.items(), key=lambda item: (-(item[1]["mean"] or 0), item[0]))),
            "words": {
                "instructions": quantiles(self._instruction_lengths),
                "responses": quantiles(self._response_lengths),
            },
            "distinct": {
                "instructions": _distinct([one.instruction for one in compared]),
                "responses": _distinct([one.response for one in compared]),
            },
            "compared_pairs": len(compared),
            "languages": dict(self._languages.most_common()),
        }

    def _grounded(self, sums: _Sums, text: str, pairs: Sequence[Pair]) -> None:
        evidence = Evidence.of(text)
        for pair in pairs:
            grounding = evidence.grounding(pair.response)
            leak = answer_leak(pair.instruction, pair.response)
            sums.add("grounding", grounding)
            sums.add("fully_grounded", grounding == 1)
            sums.add("with_foreign_numbers", bool(evidence.foreign_numbers(pair.response)))
            sums.add("with_foreign_names", bool(evidence.foreign_names(pair.response)))
            sums.add("answer_leak", leak)
            sums.add("answer_in_instruction", leak == 1)

    def _said(self, sums: _Sums, pairs: Sequence[Pair]) -> None:
        for pair in pairs:
            instruction, response = words(pair.instruction), words(pair.response)
            self._instruction_lengths[len(instruction)] += 1
            self._response_lengths[len(response)] += 1
            sums.add("instruction_words", len(instruction))
            sums.add("response_words", len(response))
            repeat = self._repeats.is_repeat(instruction)
            if repeat is not None:
                sums.add("repeated_instructions", repeat)
            self._compared.offer(_Compared(self.documents, instruction, response))

    def _in_languages(self, sums: _Sums, text: str, pairs: Sequence[Pair]) -> None:
        own = language_of(text)
        self._languages[own] += 1
        for pair in pairs:
            language = language_of(f"{pair.instruction}\n{pair.response}")
            known = UNKNOWN not in (own, language)
            sums.add("language_known", known)
            if known:
                sums.add("language_mismatch", differ(own, language))

    def _nearly_repeated(self, compared: Sequence[_Compared]) -> Mapping[str, float | None]:
        ratios = Ratios([_NEARLY], seed=self._seed)
        repeated = nearly_repeated([one.instruction for one in compared])
        told = zip(compared, repeated, strict=True)
        for _, group in groupby(told, key=lambda item: item[0].number):
            flags = [flag for _, flag in group]
            ratios.add({_NEARLY: (sum(flags), len(flags))})
        return ratios.share(_NEARLY)


def quantiles(counted: Mapping[int, int]) -> dict[str, int]:
    """Return the least, the largest and some quantiles of whole numbers (value -> how often); nothing of nothing.

    A quantile is the smallest value that at least so great a share does not exceed.
    """
    total = sum(counted.values())
    if not total:
        return {}
    values = sorted(counted)
    found = {"min": values[0]}
    for share in _QUANTILES:
        so_far = 0
        for value in values:
            so_far += counted[value]
            if so_far >= share * total:
                found[f"{share:.0%}"] = value
                break
    return {**found, "max": values[-1]}


def _distinct(texts: Sequence[list[str]]) -> dict[str, float | None]:
    return {str(length): distinct(texts, length) for length in (1, 2, 3)}
