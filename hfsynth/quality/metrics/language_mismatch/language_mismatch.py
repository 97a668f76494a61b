"""Pairs in another language than their documents, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Sequence

from hfsynth.quality.metrics import base
from hfsynth.quality.words import UNKNOWN, differ, language_of


class LanguageMismatch(base.PairMetric):
    """Compute the share of pairs in another language than their documents."""

    DESCRIPTION = """
How many pairs are in another language than the document that they are about.

Languages are told by py3langid, offline; a short or an unclear text has none. Pairs are only compared where both
languages are known: a share of few known ones says little. Languages that are hard to tell apart in writing count as
one (see hfsynth.quality.words).
"""
    INPUTS = """
Args:
    predictions (list of list of dict): for each document its pairs, each with `instruction` and `response`.
    references (list of str): the documents.
Returns:
    language_mismatch (float): of the pairs with both languages known, the share in another language than the document,
        0 to 1, lower is better; None where there is no such pair.
    language_known (float): the share of pairs with both languages known, 0 to 1; None where there is no pair.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("language_mismatch"))
    >>> document = "The old bridge over the river was built of stone, and people still walk over it every day."
    >>> english = {"instruction": "What was the old bridge over the river built of?", "response": "It was of stone."}
    >>> german = {"instruction": "Woraus wurde die alte Brücke über den Fluss gebaut?", "response": "Aus Stein."}
    >>> metric.compute(predictions=[[english, german]], references=[document])
    {'language_mismatch': 0.5, 'language_known': 1.0}
"""

    def _compute(self, predictions: Sequence[base.Pairs], references: Sequence[str]) -> dict[str, float | None]:
        told: list[tuple[str, str]] = []
        for pairs, document in zip(predictions, references, strict=True):
            own = language_of(document)
            told.extend((own, language_of(f"{pair['instruction']}\n{pair['response']}")) for pair in pairs)
        known = [both for both in told if UNKNOWN not in both]
        return {
            "language_mismatch": base.mean(differ(*both) for both in known),
            "language_known": len(known) / len(told) if told else None,
        }
