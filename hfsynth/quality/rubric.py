"""Score pairs by a rubric, each figure by one token: how much more likely a judge's answer is yes than no.

The rubric is `verdict.jinja`. The document comes first and the question last, so that all that is asked about one
document has its beginning in common, which an engine with a prefix cache computes once. Knows nothing of files, of
engines, or of which pairs are judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from hfsynth.core.conditions import JUDGED as QUESTIONS
from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.core.records import Pair
from hfsynth.core.text import Escape, encodable
from hfsynth.core.verdicts import Scored, Scores
from hfsynth.documents.splitting import truncate_text
from hfsynth.engine.protocol import Chain, Completion, Request
from hfsynth.models.tokenizers import PromptTokenizer
from hfsynth.quality.pair_judge import Unjudged

_WORDING = (files("hfsynth.quality") / "verdict.jinja").read_text("utf-8")
_RUBRIC = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True).from_string(_WORDING)
RUBRIC = blake2b(_WORDING.encode(), digest_size=8).hexdigest()
"""Names the wording: scores by another are not to be compared."""

_YES = ("yes", "Yes", "YES", " yes", " Yes")
_NO = ("no", "No", "NO", " no", " No")
_HEARD = 0.01
"""The least probability of yes and no together: a model that would say anything else has not answered."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The token ids with which an answer may begin: those of yes, then those of no."""

    yes: tuple[int, ...]
    no: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PromptTokenizer) -> Answers:
        """Find them in a tokenizer, each way to write a word; raise ModelError where the two begin alike."""
        yes, no = (dict.fromkeys(tokenizer.encode(word)[0] for word in ways) for ways in (_YES, _NO))
        apart = tuple(one for one in yes if one not in no), tuple(one for one in no if one not in yes)
        if not all(apart):
            raise ModelError("This model's tokenizer does not tell yes from no by the first token.")
        return cls(*apart)

    @property
    def ids(self) -> tuple[int, ...]:
        return self.yes + self.no

    def share(self, logprobs: Sequence[float | None]) -> float | None:
        """Return the share of yes in the probability of `ids`; None where both together are hardly likely."""
        likely = [0.0 if one is None else math.exp(one) for one in logprobs]
        yes, whole = sum(likely[: len(self.yes)]), sum(likely)
        return yes / whole if whole >= _HEARD else None


@dataclass(frozen=True)
class RubricJudge:
    """A chat model's tokenizer and window: what is needed to ask it, and to read what it says.

    A document that does not fit is shown as far as it does beside the longest of its pairs.
    """

    tokenizer: PromptTokenizer
    window: int
    answers: Answers = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", Answers.of(self.tokenizer))
        if len(self._prompt("", Pair("", ""), QUESTIONS[0])) >= self.window:
            raise ConfigError(
                f"The judge's window of {self.window} tokens has no room for the rubric.",
                hint="Use a model with a larger window.",
            )

    def chain(self, document: str, pairs: Sequence[Pair], *, shot: int = 0) -> Chain[Scored]:
        """Ask about each pair in turn and return the scores; `shot` is the place of the first request in a chain."""
        text = encodable(document)
        fitting = [self._longest("", pair) < self.window for pair in pairs]
        shown = self._shown(text, [pair for pair, fits in zip(pairs, fitting, strict=True) if fits])
        found: list[Scores] = []
        asked = prompt_tokens = cached = output = 0
        for pair, fits in zip(pairs, fitting, strict=True):
            if not fits or (text.strip() and not shown.strip()):
                found.append(Scores(unjudged=Unjudged.TOO_LONG))
                continue
            said: list[Completion] = []
            for question in QUESTIONS:
                token_ids = self._prompt(shown, pair, question)
                said.append((yield Request(token_ids, shot + asked, 0, self.answers.ids)))
                prompt_tokens += len(token_ids)
                asked += 1
            found.append(self._read(said))
            cached += sum(one.cached_tokens for one in said)
            output += sum(one.output_tokens for one in said)
        return Scored(tuple(found), prompt_tokens, cached, output)

    def _read(self, said: Sequence[Completion]) -> Scores:
        if any(one.error is not None or one.finish_reason == "error" for one in said):
            return Scores(unjudged=Unjudged.FAILED)
        relevance, accuracy = (self.answers.share(one.logprobs) for one in said)
        if relevance is None or accuracy is None:
            return Scores(unjudged=Unjudged.UNREADABLE)
        return Scores(relevance, accuracy)

    def _shown(self, document: str, pairs: Sequence[Pair]) -> str:
        """Return as much of the document as fits beside each of the pairs."""
        room = self.window - 1
        longest = max(pairs, key=lambda pair: self._longest("", pair), default=None)
        if longest is None or self._longest(document, longest) <= room:
            return document
        return truncate_text(document, room, lambda part: self._longest(part, longest))

    def _longest(self, document: str, pair: Pair) -> int:
        return max(len(self._prompt(document, pair, question)) for question in QUESTIONS)

    def _prompt(self, document: str, pair: Pair, question: str) -> list[int]:
        told = {"document": document, "instruction": encodable(pair.instruction), "response": encodable(pair.response)}
        escaped = {name: self._escape.escape(text) for name, text in told.items()}
        rubric = _RUBRIC.render(escaped | {"question": question})
        return self.tokenizer.chat([{"role": "user", "content": rubric.strip()}], thinking=False)

    @cached_property
    def _escape(self) -> Escape:
        return Escape.of(self.tokenizer.special_tokens)
