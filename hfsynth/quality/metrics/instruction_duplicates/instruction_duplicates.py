"""Instructions that repeat others, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections.abc import Sequence

from hfsynth.quality.aggregates import Repeats, nearly_repeated
from hfsynth.quality.metrics import base
from hfsynth.quality.words import words


class InstructionDuplicates(base.TextMetric):
    """Compute the shares of repeated and of nearly repeated instructions."""

    DESCRIPTION = """
How many instructions occurred before, word for word or nearly so: pairs that ask the same again teach little.

Case and punctuation play no role. Two instructions are nearly the same where they share at least 0.8 of their words and
pairs of neighbouring words (Jaccard similarity); candidates are found by MinHash, with rensa, and then compared
exactly. What is the same is nearly the same too. The first of several counts as none.
"""
    INPUTS = """
Args:
    predictions (list of str): the instructions, in any order; compare corpora by equal numbers of them.
Returns:
    duplicates (float): the share of instructions of which an earlier one has the same words, 0 to 1, lower is better.
    near_duplicates (float): the share of instructions to which an earlier one is the same or nearly so, 0 to 1, lower
        is better.
    Both are None where there is no instruction.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("instruction_duplicates"))
    >>> metric.compute(predictions=["Who wrote it?", "who wrote it", "When was it written?", "Where?"])
    {'duplicates': 0.25, 'near_duplicates': 0.25}
"""

    def _compute(self, predictions: Sequence[str]) -> dict[str, float | None]:
        said = [words(instruction) for instruction in predictions]
        repeats = Repeats(len(said), watched=max(1, len(said)))
        return {
            "duplicates": base.mean(bool(repeats.is_repeat(instruction)) for instruction in said),
            "near_duplicates": base.mean(nearly_repeated(said)),
        }
