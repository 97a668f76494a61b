"""The published prompt format: earlier shots and a document into token ids, to the token.

Knows tokenizers through `PromptTokenizer` alone, and nothing of engines, chains or files.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import cast

from hfsynth.core.config import FORMAT_VERSION
from hfsynth.core.errors import ModelError
from hfsynth.core.records import Pair, Parsed, Turn
from hfsynth.core.text import CONTEXT, END_CONTEXT, END_PAIR, FORMAT_DELIMITERS, QUESTION, Escape
from hfsynth.models.token_cuts import Cut, Known
from hfsynth.models.tokenizers import CutsTexts, PromptTokenizer
from hfsynth.prompting.parsing import parse_answer, parse_pairs, render_question
from hfsynth.prompting.parsing import render_pairs as render_published

_BREAK = "\n\n"


@dataclass(frozen=True)
class InstructionPretrain:
    """The published format of the instruction-synthesizer family (Instruction Pre-Training, EMNLP 2024, model page).

    A shot is `<s> <CON> document </CON>\\n\\n` and its pairs, closed by `</s>`; BOS and EOS are those of the tokenizer.
    The whole prompt is encoded at once, so that its ids are those of the published string where its first question
    follows: what a model was trained on, and what the next prompt of the chain begins with.
    """

    tokenizer: PromptTokenizer
    format_version: int = FORMAT_VERSION
    json_schema: str | None = field(default=None, init=False)
    answer_ends: tuple[str, ...] = field(default=(END_PAIR, QUESTION), init=False)

    def __post_init__(self) -> None:
        missing = [name for name in ("bos", "eos") if not getattr(self.tokenizer, name)]
        if missing:
            raise ModelError(
                f"The instruction-pretrain format needs a BOS and an EOS token; this tokenizer has no "
                f"{' and no '.join(name.upper() for name in missing)}.",
                hint="Use --prompt-format chat with this model.",
            )

    @cached_property
    def _escape(self) -> Escape:
        return Escape.of((*FORMAT_DELIMITERS, *self.tokenizer.special_tokens))

    @cached_property
    def _question(self) -> list[int]:
        return self.going_on(QUESTION)

    @cached_property
    def _escape_specials(self) -> Escape:
        return Escape.of(token for token in self.tokenizer.special_tokens if token not in FORMAT_DELIMITERS)

    def prompt(self, history: Sequence[Turn], document: str, known: Known | None = None) -> list[int]:
        """Return the ids of the earlier shots and an open one about `document`.

        What is `known` of other prompts of the chain is not encoded again, and what this one adds is noted there. The
        ids are the same.
        """
        if known is not None and self._pieces is not None:
            return self._pieces.prompt(history, document, known)
        closed = "".join(f"{self.opening(shot.document)}{self.answer(shot.pairs)}" for shot in history)
        return self.before_question(self.tokenizer.encode, closed + self.opening(document))

    def before_question(self, encode: Callable[[str], list[int]], text: str) -> list[int]:
        """Return the ids of a text as they are where a question follows it.

        A tokenizer like GPT-2's makes one token of two line breaks that end a text, and two of them before a question.
        """
        if self.format_version > 1:
            question, followed = self._question, encode(text + QUESTION)
            if followed[-len(question) :] == question:
                return followed[: -len(question)]
        return encode(text)

    def foresee(self, documents: Iterable[str]) -> Known:
        """Return what a chain's prompts about `documents` have in common, as far as it is known before the first."""
        known: Known = {}
        if self._pieces is not None:
            for document in documents:
                self._pieces.head(document, known)
        return known

    @cached_property
    def _pieces(self) -> _Pieces | None:
        tokenizer = self.tokenizer
        cut = tokenizer.cut(END_CONTEXT, _BREAK, QUESTION) if isinstance(tokenizer, CutsTexts) else None
        return None if cut is None else _Pieces(self, cast("CutsTexts", tokenizer), cut)

    def parse(self, text: str, *, cut_off: bool) -> Parsed:
        """Read the pairs out of a completion, special tokens inside them restored."""
        return parse_pairs(self._escape_specials.unescape(text), cut_off=cut_off)

    def ask(self, history: Sequence[Turn], document: str, instruction: str) -> list[int]:
        """Return the ids of `prompt` and of a first pair that is left open where its answer begins.

        The completion ends at one of `answer_ends`.
        """
        question = self._escape_specials.escape(render_question(instruction))
        return [*self.prompt(history, document), *self.going_on(question)]

    def parse_answer(self, text: str) -> str:
        """Read the answer out of a completion of `ask`."""
        return parse_answer(self._escape_specials.unescape(text))

    def going_on(self, text: str) -> list[int]:
        """Return the ids of `text` as a model writes them after a line break: without a tokenizer's leading space."""
        line_break, whole = self.tokenizer.encode("\n"), self.tokenizer.encode(f"\n{text}")
        joined = whole[: len(line_break)] != line_break
        return self.tokenizer.encode(text) if joined else whole[len(line_break) :]

    def opening(self, document: str) -> str:
        """Return the text of a shot up to where its pairs begin."""
        return f"{self.tokenizer.bos} {CONTEXT} {self._escape.escape(document)} {END_CONTEXT}{_BREAK}"

    def answer(self, pairs: Sequence[Pair]) -> str:
        """Return the text of a shot's pairs, closed by EOS."""
        return f"{self._escape_specials.escape(render_published(pairs))}{self.tokenizer.eos}"


@dataclass(frozen=True)
class _Pieces:
    """The ids of `InstructionPretrain` piece by piece: each document is encoded once a chain, and each answer."""

    format: InstructionPretrain
    tokenizer: CutsTexts
    cut: Cut

    def prompt(self, history: Sequence[Turn], document: str, known: Known) -> list[int]:
        """Return the ids of the whole prompt."""
        closed = (self._closed(shot, known) for shot in history)
        return [*chain.from_iterable(closed), *self.head(document, known), *self._open]

    def head(self, document: str, known: Known) -> array[int]:
        """Return the ids of a shot up to the cut."""
        if document not in known:
            opening = self.format.opening(document)
            known[document] = array("I", self.tokenizer.encode(opening[: len(opening) - len(_BREAK) + self.cut.at]))
        return known[document]

    def _closed(self, shot: Turn, known: Known) -> array[int]:
        """Return the ids of a whole shot."""
        key = shot.document, shot.pairs
        if key not in known:
            known[key] = self.head(shot.document, known) + self._behind(self.format.answer(shot.pairs))
        return known[key]

    @cached_property
    def _open(self) -> array[int]:
        behind = partial(self.tokenizer.encode_behind, self.cut)
        return array("I", self.format.before_question(behind, _BREAK[self.cut.at :]))

    def _behind(self, answer: str) -> array[int]:
        """Return the ids of what follows the cut in a shot."""
        return array("I", self.tokenizer.encode_behind(self.cut, _BREAK[self.cut.at :] + answer))
