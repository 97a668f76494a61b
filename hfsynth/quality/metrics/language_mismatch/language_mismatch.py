"""Pairs in another language than their documents, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import datasets
import evaluate

from hfsynth.quality.words import UNKNOWN, differ, language_of

_DESCRIPTION = """
How many pairs are in another language than the document that they are about.

Languages are told by py3langid, offline; a short or an unclear text has none. Pairs are only compared where both
languages are known: a share of few known ones says little. Languages that are hard to tell apart in writing count as
one (see hfsynth.quality.words).
"""

_INPUTS = """
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

_CITATION = """
@software{hfsynth, title = {hfsynth: instruction-augmented pre-training corpora}}
"""

Pairs = Sequence[Mapping[str, str]]


class LanguageMismatch(evaluate.Metric):
    """Compute the share of pairs in another language than their documents."""

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
        told: list[tuple[str, str]] = []
        for pairs, document in zip(predictions, references, strict=True):
            own = language_of(document)
            told.extend((own, language_of(f"{pair['instruction']}\n{pair['response']}")) for pair in pairs)
        known = [both for both in told if UNKNOWN not in both]
        return {
            "language_mismatch": sum(differ(*both) for both in known) / len(known) if known else None,
            "language_known": len(known) / len(told) if told else None,
        }
