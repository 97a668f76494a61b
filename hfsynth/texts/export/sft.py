"""Examples to fine-tune on: a row for each pair, or for each chain. Knows nothing of shards or of how rows are stored.

The document goes into the question, as the pairs are about it: `{document}\\n\\n{instruction}`. A chain is one
conversation; a document is shown where its first question is asked, and one without pairs is left out. Nothing is
shortened. A chain whose earlier documents were taken away is left out, as `render` does.

messages
    `{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}, …]}`: TRL, axolotl's
    `chat_template`, LLaMA-Factory's `sharegpt`.
prompt-completion
    `{"prompt": …, "completion": …}`: TRL, LLaMA-Factory's `alpaca`. Both are put one right behind the other, so the
    prompt ends with the line break between question and response. Of a chain all but the last response is prompt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from hfsynth.core.text import Escape, encodable
from hfsynth.texts.export.formats import Reading
from hfsynth.texts.export.source import ExportSource
from hfsynth.texts.layouts import Row, Skip
from hfsynth.texts.training_texts import PairedDocument, paired_document, runs

Turn = tuple[str, str]
"""A question and its response."""


class SftRow(StrEnum):
    """What a row of examples holds."""

    PAIR = "pair"
    CHAIN = "chain"


class SftColumns(StrEnum):
    """The columns of examples."""

    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt-completion"


@dataclass(frozen=True, slots=True)
class SftExamples:
    """A source of examples out of one of synthesized rows; what gives none is a row too, and says why."""

    pairs: ExportSource
    row: SftRow
    rows: None = None

    @property
    def identity(self) -> str:
        return f"{self.pairs.identity} by {self.row}"

    def read(self, start: int) -> Iterator[Row]:
        make = examples_of_pairs if self.row is SftRow.PAIR else examples_of_chains
        return islice(make(self.pairs.read(0)), start, None)


def examples_of_pairs(rows: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield an example for each pair, or a reason for each row without any."""
    for number, values in enumerate(rows):
        document = paired_document(values, number)
        if not (document.text and document.pairs):
            yield {"skip": Skip.NO_PAIRS if document.text else Skip.EMPTY_TEXT}
        for instruction, response in document.pairs if document.text else ():
            yield {"turns": [(f"{document.text}\n\n{instruction}", response)], "source_ids": [document.source]}


def examples_of_chains(rows: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield an example for each run of a chain, or a reason for each that gives none."""
    for run in runs(rows):
        shown = [document for document in run if document.text and document.pairs]
        if run[0].follows or not shown:
            yield {"skip": Skip.BROKEN_CHAIN if run[0].follows else Skip.NO_PAIRS}
        else:
            turns = [turn for document in shown for turn in _turns(document)]
            yield {"turns": turns, "source_ids": [document.source for document in shown]}


def _turns(document: PairedDocument) -> list[Turn]:
    (first, response), *others = document.pairs
    return [(f"{document.text}\n\n{first}", response), *others]


@dataclass(frozen=True, slots=True)
class ExampleReader:
    """Write an example as a line of JSON, with control strings broken up in what it holds."""

    escape: Escape
    columns: SftColumns

    def __call__(self, row: Row, number: int) -> Reading | Skip:
        turns = row.get("turns")
        if not isinstance(turns, list):
            return Skip(str(row["skip"]))
        clean = [(self.escape.escape(question), self.escape.escape(response)) for question, response in turns]
        line = json.dumps(_WRITTEN[self.columns](clean), ensure_ascii=False)
        return Reading(line, clean != turns) if encodable(line) == line else Skip.INVALID_UNICODE


def _as_messages(turns: Sequence[Turn]) -> dict[str, object]:
    sides = ((("user", question), ("assistant", response)) for question, response in turns)
    return {"messages": [{"role": role, "content": content} for turn in sides for role, content in turn]}


def _as_prompt(turns: Sequence[Turn]) -> dict[str, object]:
    shown = "".join(f"{question}\n{response}\n\n" for question, response in turns[:-1])
    question, response = turns[-1]
    return {"prompt": f"{shown}{question}\n", "completion": response}


_WRITTEN: Mapping[SftColumns, Callable[[Sequence[Turn]], dict[str, object]]] = {
    SftColumns.MESSAGES: _as_messages,
    SftColumns.PROMPT_COMPLETION: _as_prompt,
}


def llama_factory_entry(name: str, columns: SftColumns) -> dict[str, object]:
    """Return what LLaMA-Factory's dataset_info.json says of the examples in the folder `name`."""
    if columns is SftColumns.PROMPT_COMPLETION:
        return {"file_name": name, "columns": {"prompt": "prompt", "response": "completion"}}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    return {"file_name": name, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
