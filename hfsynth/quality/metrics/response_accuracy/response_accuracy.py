"""Response accuracy of an instruction synthesizer, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets

from hfsynth.quality.gold_scoring import best, exact_match, token_f1
from hfsynth.quality.metrics import base


class ResponseAccuracy(base.Metric):
    """Compute mean token F1 and exact match."""

    COLUMNS = (
        {"predictions": base.TEXT, "references": base.TEXT},
        {"predictions": base.TEXT, "references": datasets.List(base.TEXT)},
    )
    DESCRIPTION = """
How well answers match gold answers: token F1 and exact match as SQuAD 1.1 defines them, both between 0 and 1.

Answers are compared in lower case, without ASCII punctuation and English articles. Characters of scripts without
spaces between words (Chinese, Japanese, Thai and others) are a token each. Where nothing is left of both answers,
they agree. In the paper on Instruction Pre-Training this F1 is a synthesizer's response accuracy: the answer it gives
to a gold instruction about a context.
"""
    INPUTS = """
Args:
    predictions (list of str): the answers.
    references (list of str, or list of list of str): the gold answers; of several the one that fits best counts.
Returns:
    f1 (float): the mean token F1, 0 to 1, higher is better.
    exact_match (float): the share of answers that are the same as a gold one once normalised, 0 to 1.
    Both are None where there is no answer.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("response_accuracy"))
    >>> metric.compute(predictions=["in Paris, France"], references=["Paris"])
    {'f1': 0.5, 'exact_match': 0.0}
"""
    CITATION = """
@inproceedings{rajpurkar2016squad,
  title     = {{SQuAD}: 100,000+ Questions for Machine Comprehension of Text},
  author    = {Rajpurkar, Pranav and Zhang, Jian and Lopyrev, Konstantin and Liang, Percy},
  booktitle = {Proceedings of the 2016 Conference on Empirical Methods in Natural Language Processing},
  year      = {2016}
}
"""

    def _compute(self, predictions: Sequence[str], references: Sequence[Any]) -> dict[str, float | None]:
        gold = [[one] if isinstance(one, str) else one for one in references]
        answers = list(zip(predictions, gold, strict=True))
        scores = {"f1": token_f1, "exact_match": exact_match}
        return {name: base.mean(best(score, *one) for one in answers) for name, score in scores.items()}
