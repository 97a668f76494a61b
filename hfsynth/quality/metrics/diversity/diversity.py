"""How varied texts are in words and length, as a metric of the `evaluate` library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hfsynth.quality.aggregates import distinct, quantiles
from hfsynth.quality.metrics import base
from hfsynth.quality.words import words


class Diversity(base.TextMetric):
    """Compute distinct-1 to distinct-3 and quantiles of lengths."""

    DESCRIPTION = """
How varied instructions, responses or any texts are: the shares of different n-grams (distinct-1, 2 and 3 of Li et al.,
2016) and the distribution of lengths in words.

Words are compared without case and punctuation; characters of scripts without spaces between words (Chinese, Japanese,
Thai and others) are a word each. The shares fall with the number and length of texts: compare them between equal
numbers.
"""
    INPUTS = """
Args:
    predictions (list of str): the texts.
Returns:
    distinct_1, distinct_2, distinct_3 (float): the share of n-grams of so many words that are different ones, over 0
        up to 1, higher is more varied; None where no text has so many words.
    words (float): the mean length in words, from 0.
    words_min, words_p5, words_p25, words_p50, words_p75, words_p95, words_max (int): the shortest length, the lengths
        that so many percent of the texts do not exceed, and the longest length.
    Of no texts the shares and the mean are None, and there are no quantiles.
Examples:
    >>> metric = evaluate.load(hfsynth.metric_path("diversity"))
    >>> found = metric.compute(predictions=["Who was it?", "Who was there then?", "When?"])
    >>> found["distinct_1"], found["distinct_2"], found["distinct_3"]
    (0.75, 0.8, 1.0)
    >>> found["words_min"], found["words_p50"], found["words_max"]
    (1, 3, 4)
"""
    CITATION = """
@inproceedings{li2016diversity,
  title     = {A Diversity-Promoting Objective Function for Neural Conversation Models},
  author    = {Li, Jiwei and Galley, Michel and Brockett, Chris and Gao, Jianfeng and Dolan, Bill},
  booktitle = {Proceedings of the 2016 Conference of the North American Chapter of the ACL},
  year      = {2016}
}
"""

    def _compute(self, predictions: Sequence[str]) -> dict[str, float | None]:
        said = [words(text) for text in predictions]
        lengths = Counter(map(len, said))
        return {
            **{f"distinct_{length}": distinct(said, length) for length in (1, 2, 3)},
            "words": base.mean(map(len, said)),
            **{f"words_{_without_sign(name)}": value for name, value in quantiles(lengths).items()},
        }


def _without_sign(name: str) -> str:
    return f"p{name[:-1]}" if name.endswith("%") else name
