"""Grounding of instruction-response pairs in their documents, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import datasets
import evaluate

from hfsynth.core.records import Pair
from hfsynth.quality.measures import MEASURES

_MEASURES = ("grounding", "foreign_numbers", "foreign_names")

_DESCRIPTION = """
How much of what responses say is found in the documents that they are about, and how much is not.

The measures are those of `hfsynth synthesize --keep` (see hfsynth.quality.measures); the figures are means over pairs.
They compare words as they are written: a false response in the document's words is grounded, a true one in other words
is not.
"""

_INPUTS = """
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

_CITATION = """
@software{hfsynth, title = {hfsynth: instruction-augmented pre-training corpora}}
"""

Pairs = Sequence[Mapping[str, str]]


class Grounding(evaluate.Metric):
    """Compute the mean grounding, and the mean numbers of foreign numbers and names."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        pairs = datasets.List({"instruction": text, "response": text})
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": pairs, "references": text}),
        )

    def _compute(self, predictions: Sequence[Pairs], references: Sequence[str]) -> dict[str, float | None]:
        told = [
            (document, Pair(pair["instruction"], pair["response"]))
            for pairs, document in zip(predictions, references, strict=True)
            for pair in pairs
        ]
        return {
            name: sum(MEASURES[name](document, pair) for document, pair in told) / len(told) if told else None
            for name in _MEASURES
        }
