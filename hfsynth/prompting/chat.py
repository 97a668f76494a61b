"""The format of any chat model: a conversation in its own template, its answer held to a JSON schema.

Knows tokenizers through `PromptTokenizer` alone, and nothing of engines, chains or files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from hfsynth.core.config import ChatOptions
from hfsynth.core.records import Pair, Parsed, Reason, Rejected, Turn
from hfsynth.core.text import Escape, encodable
from hfsynth.core.thinking import OFF, TEMPLATE, Marks, switch_of
from hfsynth.models.token_cuts import Known
from hfsynth.models.tokenizers import PromptTokenizer
from hfsynth.prompting.pair_layout import published_parts
from hfsynth.prompting.parsing import pair_of, parse_json_pairs

_WORDING = (files("hfsynth.prompting") / "chat.jinja").read_text("utf-8")


@dataclass(frozen=True)
class Chat:
    """Any chat model through its own template, its answer held to a JSON schema; earlier shots are earlier turns.

    `thinking` is a recipe's, with `keep_reasoning`: what a model thinks before it answers is no pair, and no earlier
    turn shows it.
    """

    tokenizer: PromptTokenizer
    options: ChatOptions = field(default_factory=ChatOptions)
    thinking: str = OFF
    keep_reasoning: bool = False
    answer_ends: tuple[str, ...] = field(default=(), init=False)

    @cached_property
    def json_schema(self) -> str:
        """The schema of an answer."""
        return pairs_schema(self.options.kinds, self.options.max_pairs)

    @cached_property
    def _escape(self) -> Escape:
        return Escape.of(self.tokenizer.special_tokens)

    def conversation(self, turns: Iterable[tuple[str, str]], asked: str) -> list[int]:
        """Return the ids of a conversation without a system's message: what was asked and answered, what is asked."""
        messages = []
        for question, answer in turns:
            messages.append({"role": "user", "content": self._escape.escape(question)})
            messages.append({"role": "assistant", "content": self._escape.escape(answer)})
        return self._chat([*messages, {"role": "user", "content": self._escape.escape(asked)}])

    def prompt(self, history: Sequence[Turn], document: str, known: Known | None = None) -> list[int]:
        """Return the ids of a conversation in which earlier documents have been answered.

        A template may do anything with them, so that each prompt is encoded as a whole.
        """
        messages = [{"role": "system", "content": self._wording}]
        for shot in history:
            messages.append({"role": "user", "content": self._escape.escape(shot.document)})
            messages.append({"role": "assistant", "content": self._escape.escape(json_answer(shot.pairs))})
        messages.append({"role": "user", "content": self._escape.escape(document)})
        return self._chat(messages)

    def foresee(self, documents: Iterable[str]) -> Known:
        """Return nothing: see `prompt`."""
        return {}

    def parse(self, text: str, *, cut_off: bool) -> Parsed:
        """Read the pairs out of a completion, special tokens inside them restored, and take off what was thought.

        A thought that was cut off is `unfinished`.
        """
        return self.read(text, partial(parse_json_pairs, cut_off=cut_off))

    def read(self, text: str, reader: Callable[[str], Parsed]) -> Parsed:
        """Read a completion with `reader`, special tokens inside it restored, and take off what was thought."""
        thought, answer = self._split(text)
        parsed = reader(self._escape.unescape(answer))
        if not thought:
            return parsed
        if not answer.strip():
            parsed = replace(parsed, rejected=(Rejected(Reason.UNFINISHED, encodable(thought.strip())),))
        kept = encodable(self._marks.bare(thought)) if self.keep_reasoning else None
        return replace(parsed, reasoning_tokens=len(self.tokenizer.encode(thought)), reasoning=kept)

    def ask(self, history: Sequence[Turn], document: str, instruction: str) -> list[int]:
        """Return the ids of a conversation about `document` that waits for the answer to `instruction`.

        Earlier shots are conversations before it: a document and its first instruction, then its other pairs.
        """
        messages = []
        for shot in history:
            for number, pair in enumerate(shot.pairs):
                messages += self._turn(pair.instruction, "" if number else shot.document)
                messages.append({"role": "assistant", "content": self._escape.escape(pair.response)})
        return self._chat([*messages, *self._turn(instruction, document)])

    def parse_answer(self, text: str) -> str:
        """Read the answer out of a completion of `ask`."""
        return encodable(self._escape.unescape(self._split(text)[1].strip()))

    def _chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        return self.tokenizer.chat(messages, switch_of(self.thinking))

    @cached_property
    def _marks(self) -> Marks:
        return self.tokenizer.marks(switch_of(self.thinking))

    def _split(self, text: str) -> tuple[str, str]:
        return ("", text) if self.thinking == TEMPLATE else self._marks.split(text)

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
    question, options, reasoning, answer = published_parts(pair)
    parts = {"instruction": question, "options": options, "reasoning": reasoning, "response": answer}
    return {name: part for name, part in parts.items() if part or name in ("instruction", "response")}


@lru_cache(maxsize=512)
def pairs_schema(kinds: tuple[str, ...], most: int) -> str:
    """Return the schema of an answer: `pairs`, from one to `most`, each with the fields of its kind."""
    items = {"anyOf": [_item_schema(kind) for kind in kinds]}
    return json.dumps(_object_schema({"pairs": {"type": "array", "minItems": 1, "maxItems": most, "items": items}}))


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
