"""Pair quality of an instruction synthesizer, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Sequence

from hfsynth.quality.gold_scoring import pair_quality
from hfsynth.quality.metrics import base


class PairQuality(base.Metric):
    """Compute the mean F1, precision and recall of the best matching."""

    COLUMNS = ({"predictions": base.PAIRS, "references": base.PAIRS},)
    DESCRIPTION = """
How well the instruction-response pairs that a synthesizer wrote about a document match those that people wrote.

Two pairs are as similar as the token F1 (as in SQuAD) of their instruction and response, read as one text. Generated
and gold pairs are matched one to one so that the sum of similarities is largest; precision is that sum over the number
of generated pairs, recall over the number of gold ones, F1 twice the sum over both numbers. A document without pairs
on one side scores 0, without any 1. The figures are means over documents. The paper on Instruction Pre-Training judges
synthesizers by an F1 of generated against gold pairs; the matching is hfsynth's.
"""
    INPUTS = """
Args:
    predictions (list of list of dict): for each document the generated pairs, each with `instruction` and `response`.
    references (list of list of dict): for each document the gold pairs.
Returns:
    f1 (float): the mean F1, 0 to 1, higher is better.
    precision (float): the mean precision, 0 to 1.
    recall (float): the mean recall, 0 to 1.
    All three are None where there is no document.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("pair_quality"))
    >>> gold = [{"instruction": "Who?", "response": "Ada"}, {"instruction": "When?", "response": "1843"}]
    >>> metric.compute(predictions=[gold[:1]], references=[gold])
    {'f1': 0.6666666666666666, 'precision': 1.0, 'recall': 0.5}
"""
    CITATION = """
@inproceedings{cheng2024instruction,
  title     = {Instruction Pre-Training: Language Models are Supervised Multitask Learners},
  author    = {Cheng, Daixuan and Gu, Yuxian and Huang, Shaohan and Bi, Junyu and Huang, Minlie and Wei, Furu},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  year      = {2024}
}
"""

    def _compute(self, predictions: Sequence[base.Pairs], references: Sequence[base.Pairs]) -> dict[str, float | None]:
        sides = zip(predictions, references, strict=True)
        found = [pair_quality(list(map(base.pair_of, ours)), list(map(base.pair_of, gold))) for ours, gold in sides]
        return {name: base.mean(getattr(quality, name) for quality in found) for name in ("f1", "precision", "recall")}
