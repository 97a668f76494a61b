"""Prompt formats: earlier shots and a document into token ids, to the token.

Knows tokenizers through `PromptTokenizer` alone, and nothing of engines, chains or files.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.resources import files
from itertools import chain
from typing import Any, Protocol, cast, runtime_checkable

from jinja2 import Environment, StrictUndefined

from hfsynth.config import FORMAT_VERSION, ChatOptions, SynthesizerConfig
from hfsynth.delimiters import CONTEXT, END_CONTEXT, END_PAIR, FORMAT_DELIMITERS, QUESTION, Escape, encodable
from hfsynth.errors import ModelError
from hfsynth.parsing import (
    CONCLUSION,
    OPTIONS_HEADING,
    STEP_BY_STEP,
    Parsed,
    pair_of,
    parse_answer,
    parse_json_pairs,
    parse_pairs,
    render_question,
)
from hfsynth.parsing import render_pairs as render_published
from hfsynth.records import Pair
from hfsynth.token_cuts import Cut, Known


class PromptTokenizer(Protocol):
    """What a prompt format needs of a tokenizer."""

    @property
    def bos(self) -> str | None:
        """Return the beginning-of-sequence token."""

    @property
    def eos(self) -> str | None:
        """Return the end-of-sequence token."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Return the strings that become control ids."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, control strings as control ids, nothing added."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation that the assistant is to go on with; ModelError without a template."""


@runtime_checkable
class CutsTexts(Protocol):
    """A tokenizer that says where a text may be cut, so that what stays the same is encoded once."""

    def encode(self, text: str) -> list[int]: ...

    def cut(self, left: str, between: str, right: str) -> Cut | None:
        """Return where texts that end in `left` and `between` may be cut from `right`, None for nowhere."""

    def encode_behind(self, cut: Cut, text: str) -> list[int]:
        """Return the ids of `text` as they are behind a cut."""


_BREAK = "\n\n"


class Shown(Protocol):
    """An earlier shot: a document and its pairs."""

    @property
    def document(self) -> str: ...
    @property
    def pairs(self) -> tuple[Pair, ...]: ...


def prompt_format(config: SynthesizerConfig, tokenizer: PromptTokenizer) -> InstructionPretrain | Chat:
    """Return the format that `config` names, for `tokenizer`."""
    if config.prompt_format == "chat":
        return Chat(tokenizer, config.chat)
    return InstructionPretrain(tokenizer, config.format_version)


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

    def prompt(self, history: Sequence[Shown], document: str, known: Known | None = None) -> list[int]:
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

    def ask(self, history: Sequence[Shown], document: str, instruction: str) -> list[int]:
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

    def prompt(self, history: Sequence[Shown], document: str, known: Known) -> list[int]:
        """Return the ids of the whole prompt."""
        closed = (self._closed(shot, known) for shot in history)
        return [*chain.from_iterable(closed), *self.head(document, known), *self._open]

    def head(self, document: str, known: Known) -> array[int]:
        """Return the ids of a shot up to the cut."""
        if document not in known:
            opening = self.format.opening(document)
            known[document] = array("I", self.tokenizer.encode(opening[: len(opening) - len(_BREAK) + self.cut.at]))
        return known[document]

    def _closed(self, shot: Shown, known: Known) -> array[int]:
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


_WORDING = (files("hfsynth") / "data" / "prompts" / "chat.jinja").read_text("utf-8")


@dataclass(frozen=True)
class Chat:
    """Any chat model through its own template, its answer held to a JSON schema; earlier shots are earlier turns."""

    tokenizer: PromptTokenizer
    options: ChatOptions = field(default_factory=ChatOptions)
    answer_ends: tuple[str, ...] = field(default=(), init=False)

    @cached_property
    def json_schema(self) -> str:
        """The schema of an answer: `pairs`, at least one, each with the fields of its kind."""
        kinds = [_item_schema(kind) for kind in self.options.kinds]
        pairs = {"type": "array", "minItems": 1, "maxItems": self.options.max_pairs, "items": {"anyOf": kinds}}
        return json.dumps(_object_schema({"pairs": pairs}))

    @cached_property
    def _escape(self) -> Escape:
        return Escape.of(self.tokenizer.special_tokens)

    def prompt(self, history: Sequence[Shown], document: str, known: Known | None = None) -> list[int]:
        """Return the ids of a conversation in which earlier documents have been answered.

        A template may do anything with them, so that each prompt is encoded as a whole.
        """
        messages = [{"role": "system", "content": self._wording}]
        for shot in history:
            messages.append({"role": "user", "content": self._escape.escape(shot.document)})
            messages.append({"role": "assistant", "content": self._escape.escape(json_answer(shot.pairs))})
        messages.append({"role": "user", "content": self._escape.escape(document)})
        return self.tokenizer.chat(messages)

    def foresee(self, documents: Iterable[str]) -> Known:
        """Return nothing: see `prompt`."""
        return {}

    def parse(self, text: str, *, cut_off: bool) -> Parsed:
        """Read the pairs out of a completion, special tokens inside them restored."""
        return parse_json_pairs(self._escape.unescape(text), cut_off=cut_off)

    def ask(self, history: Sequence[Shown], document: str, instruction: str) -> list[int]:
        """Return the ids of a conversation about `document` that waits for the answer to `instruction`.

        Earlier shots are conversations before it: a document and its first instruction, then its other pairs.
        """
        messages = []
        for shot in history:
            for number, pair in enumerate(shot.pairs):
                messages += self._turn(pair.instruction, "" if number else shot.document)
                messages.append({"role": "assistant", "content": self._escape.escape(pair.response)})
        return self.tokenizer.chat([*messages, *self._turn(instruction, document)])

    def parse_answer(self, text: str) -> str:
        """Read the answer out of a completion of `ask`."""
        return encodable(self._escape.unescape(text.strip()))

    def _turn(self, instruction: str, document: str) -> list[dict[str, str]]:
        asked = f"{document}\n\n{instruction}" if document else instruction
        return [{"role": "user", "content": self._escape.escape(asked)}]

    @cached_property
    def _wording(self) -> str:
        template = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False).from_string(_WORDING)
        return template.render(max_pairs=self.options.max_pairs, kinds=self.options.kinds).strip()


def json_answer(pairs: Sequence[Pair]) -> str:
    """Write pairs as the `chat` format has the model write them; `parse_json_pairs` reads them back."""
    return json.dumps({"pairs": [_json_item(pair) for pair in pairs]}, ensure_ascii=False)


def _json_item(pair: Pair) -> dict[str, Any]:
    """Take a pair's layout apart into fields, unless it would be put together differently."""
    item = _fields(pair)
    return item if pair_of(item) == pair else {"instruction": pair.instruction, "response": pair.response}


def _fields(pair: Pair) -> dict[str, Any]:
    question, stepwise, after = pair.instruction.rpartition(STEP_BY_STEP)
    reasoning, concluded, answer = pair.response.rpartition(CONCLUSION)
    if not (stepwise and concluded and not after and reasoning.strip()):
        question, reasoning, answer = pair.instruction, "", pair.response
    stem, listed, options = question.partition(f"{OPTIONS_HEADING}\n- ")
    item: dict[str, Any] = {"instruction": stem if listed else question}
    if listed:
        item["options"] = options.split("\n- ")
    if reasoning:
        item["reasoning"] = reasoning
    return {**item, "response": answer}


def _item_schema(kind: str) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    extra: dict[str, Any] = {
        "free_form": {},
        "multiple_choice": {"options": {"type": "array", "minItems": 2, "maxItems": 6, "items": text}},
        "chain_of_thought": {"reasoning": text},
    }[kind]
    return _object_schema({"instruction": text, **extra, "response": text})


def _object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
