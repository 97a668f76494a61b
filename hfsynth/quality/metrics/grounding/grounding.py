"""Grounding of instruction-response pairs in their documents, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Sequence

from hfsynth.quality.measures import MEASURES
from hfsynth.quality.metrics import base

_MEASURES = ("grounding", "foreign_numbers", "foreign_names")


class Grounding(base.PairMetric):
    """Compute the mean grounding, and the mean numbers of foreign numbers and names."""

    DESCRIPTION = """
How much of what responses say is found in the documents that they are about, and how much is not.

The measures are those of `hfsynth synthesize --keep` (see hfsynth.quality.measures); the figures are means over pairs.
They compare words as they are written: a false response in the document's words is grounded, a true one in other words
is not.
"""
    INPUTS = """
Args:
    predictions (list of list of dict): for each document its pairs, each with `instruction` and `response`.
    references (list of str): the documents.
Returns:
    grounding (float): the mean share of a response's content words that occur in the document, 0 to 1, higher is
        better.
    foreign_numbers (float): how many numbers a response has that the document does not, from 0, lower is better.
    foreign_names (float): how many names a response has that the document does not, from 0, lower is better.
    All three are None where there is no pair.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("grounding"))
    >>> pairs = [{"instruction": "When was it first given?", "response": "In 1922."}]
    >>> metric.compute(predictions=[pairs], references=["Insulin was first given to a patient in 1922."])
    {'grounding': 1.0, 'foreign_numbers': 0.0, 'foreign_names': 0.0}
"""

    def _compute(self, predictions: Sequence[base.Pairs], references: Sequence[str]) -> dict[str, float | None]:
        told = base.beside_documents(predictions, references)
        return {name: base.mean(MEASURES[name](*one) for one in told) for name in _MEASURES}
