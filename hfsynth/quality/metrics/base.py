"""What all metrics of this package have in common. A metric is a subclass of one of these that says what it computes.

`evaluate` loads a copy of a metric's file and takes the first class in it: name these through this module, as
`base.PairMetric`, never by an import of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import datasets
import evaluate

from hfsynth.core.records import Pair

OURS = "@software{hfsynth, title = {hfsynth: instruction-augmented pre-training corpora}}"
TEXT = datasets.Value("string")
PAIRS = datasets.List({"instruction": TEXT, "response": TEXT})

Pairs = Sequence[Mapping[str, str]]


class Metric(evaluate.Metric):
    """A metric by what it says of itself: its description, its inputs and figures, their types, and its source."""

    DESCRIPTION: ClassVar[str]
    INPUTS: ClassVar[str]
    CITATION: ClassVar[str] = OURS
    COLUMNS: ClassVar[Sequence[Mapping[str, Any]]]

    def _info(self) -> evaluate.MetricInfo:
        taken = [datasets.Features(dict(columns)) for columns in self.COLUMNS]
        return evaluate.MetricInfo(
            description=self.DESCRIPTION,
            citation=self.CITATION,
            inputs_description=self.INPUTS,
            features=taken[0] if len(taken) == 1 else taken,
        )


class TextMetric(Metric):
    """A metric of texts alone."""

    COLUMNS = ({"predictions": TEXT},)


class AnswerMetric(Metric):
    """A metric of instructions and their responses."""

    COLUMNS = ({"predictions": TEXT, "references": TEXT},)


class PairMetric(Metric):
    """A metric of each document's pairs beside the document."""

    COLUMNS = ({"predictions": PAIRS, "references": TEXT},)


def beside_documents(predictions: Sequence[Pairs], references: Sequence[str]) -> list[tuple[str, Pair]]:
    """Return every pair beside its document."""
    return [
        (document, pair_of(item)) for pairs, document in zip(predictions, references, strict=True) for item in pairs
    ]


def pair_of(item: Mapping[str, str]) -> Pair:
    """Read a pair as `evaluate` hands it over."""
    return Pair(item["instruction"], item["response"])


def mean(values: Iterable[float]) -> float | None:
    """Return the mean, None where there is nothing; of flags it is the share that are set."""
    counted = list(values)
    return sum(counted) / len(counted) if counted else None
