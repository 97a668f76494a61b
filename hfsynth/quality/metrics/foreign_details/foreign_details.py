"""Numbers and names that documents do not have, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Sequence

from hfsynth.quality.measures import Evidence
from hfsynth.quality.metrics import base


class ForeignDetails(base.PairMetric):
    """Compute the shares of pairs with foreign numbers, with foreign names, and with either."""

    DESCRIPTION = """
How many responses hold a number or a name that the document they are about does not have: details that a model made up,
worked out, or knew from elsewhere.

Numbers are compared by value. A name is one or more capitalised words that begin no sentence; languages without
capitals give none, and German nouns count as names. The measures are those of `hfsynth synthesize --keep` (see
hfsynth.quality.measures); how many such numbers and names a response has on average is in the metric `grounding`.
"""
    INPUTS = """
Args:
    predictions (list of list of dict): for each document its pairs, each with `instruction` and `response`.
    references (list of str): the documents.
Returns:
    foreign_numbers (float): the share of pairs whose response has a number that the document does not, 0 to 1, lower
        is better.
    foreign_names (float): the share of pairs whose response has a name that the document does not, 0 to 1, lower is
        better.
    foreign_details (float): the share of pairs with either, 0 to 1, lower is better.
    All three are None where there is no pair.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("foreign_details"))
    >>> answers = ["In 1922.", "It was given by Frederick Banting in 1921."]
    >>> pairs = [{"instruction": "When was it first given?", "response": answer} for answer in answers]
    >>> metric.compute(predictions=[pairs], references=["Insulin was first given to a patient in 1922."])
    {'foreign_numbers': 0.5, 'foreign_names': 0.5, 'foreign_details': 0.5}
"""

    def _compute(self, predictions: Sequence[base.Pairs], references: Sequence[str]) -> dict[str, float | None]:
        found: list[tuple[bool, bool]] = []
        for pairs, document in zip(predictions, references, strict=True):
            evidence = Evidence.of(document)
            for response in (pair["response"] for pair in pairs):
                found.append((bool(evidence.foreign_numbers(response)), bool(evidence.foreign_names(response))))
        return {
            "foreign_numbers": base.mean(numbers for numbers, _ in found),
            "foreign_names": base.mean(names for _, names in found),
            "foreign_details": base.mean(numbers or names for numbers, names in found),
        }
