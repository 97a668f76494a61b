"""What a pair is worth, measured in its text alone, and which pairs meet conditions on that.

Pure functions of text for every language with words or characters; no model is asked. They compare words as they are
written: an answer in other words than the document's, or in other forms of them, counts as not found, and a false
answer in the document's words as found. Knows nothing of files or models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol, Self

from hfsynth.core.conditions import INDEXED, Condition
from hfsynth.core.errors import ConfigError
from hfsynth.core.records import Pair, Parsed, Rejected
from hfsynth.documents.boundaries import sentence_ends
from hfsynth.prompting.pair_layout import CONCLUSION, OPTIONS_HEADING
from hfsynth.quality.identifiers import identifiers
from hfsynth.quality.words import STOP_WORDS, YES_NO, compatible, content, folded, forms, numbers, tokens, words

__all__ = [
    "MEASURES",
    "Evidence",
    "answer_leak",
    "foreign_names",
    "foreign_numbers",
    "grounding",
    "is_option",
    "is_yes_or_no",
    "words",
]

_ENUMERATOR = re.compile(r"^[^\S\n]*\(?\d{1,3}[.)](?=\s)", re.MULTILINE)  # the number of a list's item
_OPENERS = frozenset('\n:"“„«»”「『¿¡')
_STOPS = frozenset(".!?…。！？।")
_YES_NO_ANSWER = re.compile(r"[\s\"“'(]*([^\s.,;:!?。，、！？)\"”'—–-]+)[\"”')]*\s*(?:$|[.,;:!。，、！—–-])")
_OR = r"\b(?:or|oder|ou|или|ή|veya|yoksa|hoặc|أو|أم|या)\b|或者?|还是|หรือ|または|또는"
# What means "or" in one language and something else in others, and by what a question in that language is known.
_OR_IN = {
    "of": re.compile(
        r"\b(?:een|het|niet|wie|wat|welke?|wanneer|waarom|hoe|wordt|worden|werd|werden|zijn|heeft|hebben|deze"
        r"|(?:is|was|kan|van|in|op) d(?:e|it|at|ie))\b"
    ),
    "o": re.compile(r"[¿ñèìù]|\b(?:el|los|las|es|un|una|del|il|gli|della?|dei|di|che|chi|per|sono|era|son|está)\b"),
    "hay": re.compile(r"[ăđơưạ-ỹ]"),
    "sau": re.compile(r"[ășțşţ]|\b(?:este|sunt|care|erau|fost|unui|unei)\b"),
}
_APART = r"[,;:/()\[\]\"“”\n、，；：]"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The words and numbers of a document, taken once for all pairs about it."""

    forms: frozenset[str]

    @classmethod
    def of(cls, document: str) -> Self:
        """Take the words, numbers (in every reading) and pairs of neighbouring characters of a document."""
        return cls(forms(document))

    def grounding(self, response: str) -> float:
        """Return the share of the response's content that is in the document; see `grounding`."""
        return _share_in(self.forms, response, otherwise=1.0)

    def foreign_numbers(self, response: str) -> tuple[str, ...]:
        """Return the numbers that the document does not have; see `foreign_numbers`."""
        text = _ENUMERATOR.sub("", compatible(response))
        found = (token.group() for token in tokens(text) if token.lastgroup == "number")
        return tuple(dict.fromkeys(number for number in found if not self._has_number(number)))

    def foreign_names(self, response: str) -> tuple[str, ...]:
        """Return the names that the document does not have; see `foreign_names`."""
        found = (" ".join(name) for name in _names(compatible(response)) if not self._has_name(name))
        return tuple(dict.fromkeys(found))

    def _has_number(self, written: str) -> bool:
        return all(not self.forms.isdisjoint(readings) for readings in numbers(written))

    def _has_name(self, name: list[str]) -> bool:
        return all(folded(word) in self.forms for word in name)


def grounding(document: str, response: str) -> float:
    """Return the share of the response's content words that occur in the document, from 0 to 1.

    Content words are all but function words, yes and no, and single letters; numbers are compared by value, and `three`
    is found where the document has `3`. Of Chinese, Japanese, Thai and other unspaced scripts, pairs of neighbouring
    characters are looked for. A response without content words ("Yes.") gives 1: nothing in it is invented.
    """
    return _evidence(document).grounding(response)


def foreign_numbers(document: str, response: str) -> tuple[str, ...]:
    """Return the numbers of the response that the document does not have, as written, each once.

    Only digits count, by value and in any script; a number word of the document up to twelve (English) is a number too.
    The numbers of a list's items ("1. ...") are none. What may be read in two ways (`1.200`) is found either way.
    """
    return _evidence(document).foreign_numbers(response)


def foreign_names(document: str, response: str) -> tuple[str, ...]:
    """Return the capitalised names of the response of which the document lacks a word, as written, each once.

    A name is one or more neighbouring capitalised words that begin no sentence, line, quotation or part behind a colon;
    function words and single letters are no names. Languages without capitals give none; German nouns and the words of
    a title count as names.
    """
    return _evidence(document).foreign_names(response)


def answer_leak(instruction: str, response: str) -> float:
    """Return the share of the response's content words that stand in the instruction already, from 0 to 1.

    0 for an answer without content words, one of the options that the instruction lists or names ("Is it red or
    blue?"), and yes or no. Of an answer with its chain of thought only the answer counts.
    """
    answer = response.rpartition(CONCLUSION)[2]
    if is_yes_or_no(answer) or is_option(answer, instruction):
        return 0.0
    return _share_in(Evidence.of(instruction).forms, answer, otherwise=0.0)


def _foreign_number_count(document: str, pair: Pair) -> float:
    return float(len(foreign_numbers(document, pair.response)))


def _foreign_name_count(document: str, pair: Pair) -> float:
    return float(len(foreign_names(document, pair.response)))


MEASURES: Mapping[str, Callable[[str, Pair], float]] = MappingProxyType(
    {
        "grounding": lambda document, pair: grounding(document, pair.response),
        "answer_leak": lambda document, pair: answer_leak(pair.instruction, pair.response),
        "foreign_numbers": _foreign_number_count,
        "foreign_names": _foreign_name_count,
        "instruction_words": lambda document, pair: float(len(words(pair.instruction))),
        "response_words": lambda document, pair: float(len(words(pair.response))),
        "pii": lambda document, pair: float(len(identifiers(f"{pair.instruction}\n{pair.response}"))),
    }
)
"""What a filter can ask of a document and a pair about it: shares from 0 to 1 (`grounding`, `answer_leak`), whole
numbers from 0 (`foreign_numbers` and `foreign_names` in the response, `instruction_words`, `response_words`, `pii`)."""


@lru_cache(maxsize=8)
def _evidence(text: str) -> Evidence:
    """Take a text's words once: the pairs about one document are measured one after another."""
    return Evidence.of(text)


def _share_in(known: frozenset[str], text: str, *, otherwise: float) -> float:
    items = content(text)
    if not items:
        return otherwise
    return sum(not known.isdisjoint(item) for item in items) / len(items)


def _names(text: str) -> Iterator[list[str]]:
    """Yield runs of capitalised words, only a space or a hyphen between them, without the beginnings of sentences."""
    ends = frozenset(sentence_ends(text))
    name: list[str] = []
    last = 0
    begins = True
    for token in tokens(text):
        gap = text[last : token.start()]
        begins = begins and not last or _begins(gap, last, ends)
        if name and gap not in (" ", "-"):
            yield name
            name = []
        if not begins and _is_capitalised(token.group()):
            name.append(token.group())
        elif name:
            yield name
            name = []
        last = token.end()
    if name:
        yield name


def _begins(gap: str, last: int, ends: frozenset[int]) -> bool:
    """Tell whether something begins behind a gap between words: a sentence, a line, a quotation."""
    if not _OPENERS.isdisjoint(gap):
        return True
    return not _STOPS.isdisjoint(gap) and any(last + offset in ends for offset in range(len(gap) + 1))


def _is_capitalised(word: str) -> bool:
    return len(word) > 1 and word[0] != word[0].lower() and folded(word) not in STOP_WORDS


def is_yes_or_no(answer: str) -> bool:
    """Tell whether an answer is yes, no, true or false (in some big languages), or begins so: "No, it was not"."""
    found = _YES_NO_ANSWER.match(answer)
    return found is not None and folded(compatible(found.group(1))) in YES_NO


def is_option(answer: str, instruction: str) -> bool:
    """Tell whether an answer is an option that the instruction lists, or one of those that it joins by "or"."""
    said = words(answer)
    stem, _, listed = instruction.partition(OPTIONS_HEADING)
    if any(words(line) == said for line in listed.splitlines()):
        return True
    asked = folded(compatible(stem))
    either = _either(asked)
    if not said or not re.search(either, asked):
        return False
    return any(_stands_at_an_edge(said, words(piece)) for piece in re.split(f"{either}|{_APART}", asked))


def _either(asked: str) -> str:
    """Return the pattern of the words for "or" that a question may use, its language considered."""
    return "|".join([_OR, *(rf"\b{word}\b(?!['’.])" for word, known in _OR_IN.items() if known.search(asked))])


def _stands_at_an_edge(said: list[str], piece: list[str]) -> bool:
    return piece[: len(said)] == said or piece[-len(said) :] == said


class HasShare(Protocol):
    """What an index of benchmarks tells of a text."""

    @property
    def share(self) -> float:
        """How much of the text, or of a question in it, is a benchmark's, from 0 to 1."""

    @property
    def told(self) -> str:
        """What is said of it in a line."""


class LooksForBenchmarks(Protocol):
    """What knows the questions of benchmarks: `hfsynth.quality.contamination.ContaminationIndex`."""

    def document(self, text: str) -> HasShare:
        """Look through a document."""

    def pair(self, instruction: str, response: str) -> HasShare:
        """Look through a pair."""


def keep_pairs(
    parsed: Parsed, text: str, conditions: Sequence[Condition], index: LooksForBenchmarks | None = None
) -> Parsed:
    """Keep the pairs about `text` that meet all conditions; reject the others by the first one that they do not meet.

    Conditions on `contamination` need an `index`.

    `text` is the document as the model saw it, so that a shortened document is no evidence for what was cut off. A
    rejected pair's text is JSON with the fields `instruction` and `response`.
    """
    if not conditions:
        return parsed
    failed = [(pair, _unmet(text, pair, conditions, index)) for pair in parsed.pairs]
    return replace(
        parsed,
        pairs=tuple(pair for pair, unmet in failed if unmet is None),
        rejected=parsed.rejected + tuple(_rejected(pair, unmet) for pair, unmet in failed if unmet is not None),
    )


def contaminated(text: str, conditions: Sequence[Condition], index: LooksForBenchmarks | None) -> Rejected | None:
    """Return why a document may not be learnt from: what benchmarks hold of it does not meet a condition on that."""
    if index is None or not any(condition.measure in INDEXED for condition in conditions):
        return None
    found = index.document(text)
    unmet = next((c for c in conditions if c.measure in INDEXED and not c.is_met_by(found.share)), None)
    return None if unmet is None else Rejected(unmet.reason, found.told)


def _unmet(
    text: str, pair: Pair, conditions: Sequence[Condition], index: LooksForBenchmarks | None
) -> Condition | None:
    """Return the first condition that a pair does not meet; measures after it are not taken."""
    return next((c for c in conditions if not c.is_met_by(_value(text, pair, c.measure, index))), None)


def _value(text: str, pair: Pair, measure: str, index: LooksForBenchmarks | None) -> float:
    if measure not in INDEXED:
        return MEASURES[measure](text, pair)
    if index is None:
        raise ConfigError(f"A condition asks for {measure}, and there is no index.", hint="Name benchmarks: core.")
    return index.pair(pair.instruction, pair.response).share


def _rejected(pair: Pair, unmet: Condition) -> Rejected:
    return Rejected(unmet.reason, json.dumps(asdict(pair), ensure_ascii=False))
