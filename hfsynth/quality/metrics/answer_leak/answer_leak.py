"""Answers that stand in their questions, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Sequence

from hfsynth.quality.measures import answer_leak
from hfsynth.quality.metrics import base


class AnswerLeak(base.AnswerMetric):
    """Compute the mean leak, and the share of answers that leak whole."""

    DESCRIPTION = """
How much of their answers instructions give away: a pair whose question holds its answer teaches nothing.

The measure is that of `hfsynth synthesize --keep` (see hfsynth.quality.measures): answers that choose one of the
options that the instruction names, and yes or no, give nothing away.
"""
    INPUTS = """
Args:
    predictions (list of str): the instructions.
    references (list of str): their responses.
Returns:
    answer_leak (float): the mean share of a response's content words that stand in the instruction, 0 to 1, lower is
        better.
    leaked (float): the share of responses of which all content words stand in the instruction, 0 to 1.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("answer_leak"))
    >>> questions = ["In which year did the 1648 treaty end the war?", "Who wrote the opera?"]
    >>> metric.compute(predictions=questions, references=["1648", "Mozart"])
    {'answer_leak': 0.5, 'leaked': 0.5}
"""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float | None]:
        leaks = list(map(answer_leak, predictions, references))
        return {"answer_leak": base.mean(leaks), "leaked": base.mean(leak == 1 for leak in leaks)}
