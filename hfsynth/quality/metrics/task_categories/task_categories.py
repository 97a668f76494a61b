"""The kinds of tasks that pairs are, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hfsynth.core.records import Pair
from hfsynth.quality.metrics import base
from hfsynth.quality.task_categories import category_of


class TaskCategories(base.AnswerMetric):
    """Compute the share of each task category."""

    DESCRIPTION = """
What kinds of tasks pairs are, told by rules: a summary, a definition, multiple choice, a yes-or-no question, a question
of who or when, and so on.

Every pair has exactly one category. The rules know English best, and the question words of some big languages; what
they do not know is `other`. The categories and the order of the rules are in hfsynth.quality.task_categories.
"""
    INPUTS = """
Args:
    predictions (list of str): the instructions.
    references (list of str): their responses.
Returns:
    For each category that occurs, by its name, the share of pairs that are of it (float), over 0 up to 1, the largest
    first; the shares add up to 1.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("task_categories"))
    >>> questions = ["Who wrote it?", "Summarize the text.", "Who was he?", "Was it late?"]
    >>> metric.compute(predictions=questions, references=["Ada", "It is about tides.", "A poet", "Yes"])
    {'who': 0.5, 'summarization': 0.25, 'yes_no': 0.25}
"""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        pairs = [Pair(asked, said) for asked, said in zip(predictions, references, strict=True)]
        counted = Counter(category_of(pair).value for pair in pairs)
        largest_first = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        return {name: count / len(pairs) for name, count in largest_first}
