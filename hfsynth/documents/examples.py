"""Read task data, to train or to judge a synthesizer with: contexts and the pairs people wrote about them.

Three layouts are told apart by their columns. Knows nothing of tokens, models or training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from hfsynth.core.errors import ColumnError, SourceError
from hfsynth.core.records import Pair
from hfsynth.documents.hf_datasets import open_texts

Row = Mapping[str, Any]

_SOURCES = ("source", "rc_name", "dataset")
_QUESTIONS = ("instruction", "question", "Q")
_ANSWERS = ("response", "answer", "A")


@dataclass(frozen=True, slots=True)
class Labels:
    """What a data set says of a context: its id, the kind of its tasks, domain, language, licence; empty if nothing."""

    id: str = ""
    kind: str = ""
    domain: str = ""
    language: str = ""
    license: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A context and its pairs. `source` names the task set it is from: shots of one sequence share it."""

    source: str
    context: str
    pairs: tuple[Pair, ...]
    about: Labels = field(default=Labels(), compare=False)


@dataclass
class Examples:
    """The usable examples of a data set, and how many rows or pairs were left out, by reason.

    Reasons: `no_context`, `no_pairs` (rows), `half_a_pair` (pairs that lack a question or an answer).
    """

    rows: list[Example] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_examples(location: str, *, split: str = "train", revision: str | None = None) -> Examples:
    """Read every example of a file, a folder, a saved dataset or a dataset on the Hub; all of them are in memory.

    Layouts, by their columns: `context, pairs` (a list of `instruction, response`); `context, QA_list` (the published
    instruction-synthesizer collection: `Q, A` or `question, answer`, source in `rc_name`); `context, question` with
    `answers` or `answer` (SQuAD-like; the rows of one context become one example). The source is the column `source`,
    `rc_name` or `dataset`, else the name of the location. With a `revision` the location is a data set on the Hub.
    Labels are those of the columns `id`, `task` (of the row, else of its pairs), `domain`, `lang` or `language`, and
    `license`.

    Raise SourceError where nothing can be read or no row is usable, ColumnError for other columns or types.
    """
    rows = open_texts(location, split=split, revision=revision)
    read = _layout(location, rows)
    examples = Examples()
    for example in read(rows, Path(location).stem, examples.left_out):
        examples.rows.append(example)
    if not examples.rows:
        raise SourceError(
            f"{location} has no row with a context and at least one whole pair: {_told(examples.left_out)}.",
            hint="Every row needs text in `context` and at least one pair with text in both halves.",
        )
    return examples


Layout = Callable[[Dataset, str, Counter[str]], Iterator[Example]]


def _layout(location: str, rows: Dataset) -> Layout:
    columns = set(rows.column_names)
    if {"context", "pairs"} <= columns:
        return _listed("pairs")
    if {"context", "QA_list"} <= columns:
        return _listed("QA_list")
    if {"context", "question"} <= columns and columns & {"answers", "answer"}:
        return _by_context
    raise ColumnError(
        f"{location} has the columns {', '.join(rows.column_names)}; task data needs `context` and `pairs`, `context` "
        "and `QA_list`, or `context`, `question` and `answers`.",
        hint="Rename the columns, for example with `ds.rename_column`, and save the data as parquet.",
    )


def _listed(column: str) -> Layout:
    def read(rows: Dataset, name: str, left_out: Counter[str]) -> Iterator[Example]:
        for number, row in enumerate(rows):
            items = row[column]
            if items is not None and not isinstance(items, list):
                raise ColumnError(f"Row {number}: `{column}` must be a list of pairs, not {type(items).__name__}.")
            pairs = _whole(((_first(item, _QUESTIONS), _first(item, _ANSWERS)) for item in items or ()), left_out)
            yield from _usable(_source(row, name), row["context"], pairs, left_out, _labels(row, items or ()))

    return read


def _by_context(rows: Dataset, name: str, left_out: Counter[str]) -> Iterator[Example]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    labels: dict[tuple[str, str], Labels] = {}
    for row in rows:
        context = _text(row["context"])
        if not context:
            left_out["no_context"] += 1
            continue
        asked = (_text(row["question"]), _answer(row["answers"] if "answers" in row else row["answer"]))
        found.setdefault((_source(row, name), context), []).append(asked)
        labels.setdefault((_source(row, name), context), _labels(row))
    for (source, context), asked_all in found.items():
        yield from _usable(source, context, _whole(asked_all, left_out), left_out, labels[source, context])


def _labels(row: Row, pairs: Iterable[object] = ()) -> Labels:
    tasks = sorted({_text(pair["task"]) for pair in pairs if isinstance(pair, Mapping) and pair.get("task")} - {""})
    return Labels(
        id=str(row["id"]) if isinstance(row.get("id"), (str, int)) else "",
        kind=_text(row.get("task")) or "|".join(tasks),
        domain=_text(row.get("domain")),
        language=_text(row.get("lang")) or _text(row.get("language")),
        license=_text(row.get("license")),
    )


def _usable(
    source: str, context: object, pairs: tuple[Pair, ...], left_out: Counter[str], labels: Labels
) -> Iterator[Example]:
    if not (text := _text(context)):
        left_out["no_context"] += 1
    elif not pairs:
        left_out["no_pairs"] += 1
    else:
        yield Example(source, text, pairs, labels)


def _whole(halves: Iterable[tuple[str, str]], left_out: Counter[str]) -> tuple[Pair, ...]:
    """Keep what has both halves."""
    found = list(halves)
    pairs = tuple(Pair(question, answer) for question, answer in found if question and answer)
    left_out["half_a_pair"] += len(found) - len(pairs)
    return pairs


def _first(item: object, names: Iterable[str]) -> str:
    """Return the text under the first of `names` that an item has."""
    if not isinstance(item, Mapping):
        return ""
    return next((_answer(item[name]) for name in names if item.get(name) is not None), "")


def _answer(value: object) -> str:
    """Return an answer: a text, the first of several, or SQuAD's `{"text": [...]}`."""
    if isinstance(value, Mapping):
        value = value.get("text")
    if isinstance(value, list):
        value = value[0] if value else None
    return _text(value)


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _source(row: Row, name: str) -> str:
    return next((str(row[column]) for column in _SOURCES if row.get(column)), name)


def _told(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "it is empty"
