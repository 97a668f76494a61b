"""Mine pairs: choose among what a document lends itself to, and put it into words. No model has a part in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from hfsynth.core.draws import Draws
from hfsynth.core.records import Pair
from hfsynth.mining.miners import Mined, candidates
from hfsynth.mining.passages import passage_of
from hfsynth.mining.rules import Rules, rules_language, rules_of
from hfsynth.prompting.pair_layout import OPTIONS_HEADING

MOST_OF_A_KIND = 2
MOST = 8
WORDS_A_PAIR = 50

_PLACE = re.compile(r"\{([ab])\}")


def mine(text: str, *, seed: int, name: str) -> tuple[Pair, ...]:
    """Return pairs about a document by the rules of its language; none where there are no rules for it.

    Every answer is text of the document, white space made plain, or made of it: its key terms, an order of sentences.
    At most `MOST`, one for every `WORDS_A_PAIR` words, `MOST_OF_A_KIND` of a kind. `seed` and the document's `name`
    decide which, and how they are worded; nothing else does, not the run, not its other documents.
    """
    language = rules_language(text)
    if language is None:
        return ()
    rules, draws = rules_of(language), Draws(f"{seed}/mined/{name}")
    most = min(MOST, max(1, len(text.split()) // WORDS_A_PAIR))
    found = [one for one in candidates(passage_of(text), rules, draws) if one.kind in rules.wordings]
    pairs: dict[str, Pair] = {}
    for one in _mixed(found, draws):
        if len(pairs) == most:
            break
        pair = _worded(one, rules, draws)
        pairs.setdefault(pair.instruction.casefold(), pair)
    return tuple(pairs.values())


def _mixed(found: list[Mined], draws: Draws) -> Iterator[Mined]:
    """Yield candidates in a drawn order: one of every kind that there is, then another of every kind."""
    drawn = [found[at] for at in draws.order(len(found))] if found else []
    taken: Counter[str] = Counter()
    rounds: list[list[Mined]] = [[] for _ in range(MOST_OF_A_KIND)]
    answers: set[str] = set()
    for one in drawn:
        if taken[one.kind] < MOST_OF_A_KIND and one.response not in answers:
            rounds[taken[one.kind]].append(one)
            taken[one.kind] += 1
            answers.add(one.response)
    for some in rounds:
        yield from some


def _worded(one: Mined, rules: Rules, draws: Draws) -> Pair:
    """Put a pair into words; what stands in the document is never taken for a place to fill."""
    values: Mapping[str, str] = {"a": one.a, "b": one.b}
    question = _PLACE.sub(lambda place: values[place[1]], draws.pick(rules.wordings[one.kind]))
    if one.options:
        order = draws.order(len(one.options))
        question += OPTIONS_HEADING + "".join(f"\n- {one.options[at]}" for at in order)
    return Pair(question, one.response)
