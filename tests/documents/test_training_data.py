"""Task data: three layouts, what is left out and counted, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfsynth.core.errors import ColumnError, SourceError
from hfsynth.core.records import Pair
from hfsynth.documents.examples import Example, read_examples

Write = Callable[[list[dict[str, Any]]], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(rows: list[dict[str, Any]]) -> str:
        path = tmp_path / "tasks.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        return str(path)

    return to_file


def test_the_schema_of_contexts_and_pairs(write: Write) -> None:
    pairs = [{"instruction": " Who? ", "response": "Ada", "task": "qa"}, {"instruction": "Why?", "response": "Rain"}]
    read = read_examples(write([{"context": "A text.", "pairs": pairs, "source": "one"}]))
    assert read.rows == [Example("one", "A text.", (Pair("Who?", "Ada"), Pair("Why?", "Rain")))]


def test_the_published_collection(write: Write) -> None:
    rows = [
        {"context": "A text.", "QA_list": [{"Q": "Who?", "A": "Ada"}], "QA_type": "qa", "rc_name": "squad"},
        {"context": "B text.", "QA_list": [{"Q": "Where?", "A": "There"}], "QA_type": "qa", "rc_name": "race"},
    ]
    read = read_examples(write(rows))
    assert [(example.source, example.pairs) for example in read.rows] == [
        ("squad", (Pair("Who?", "Ada"),)),
        ("race", (Pair("Where?", "There"),)),
    ]


def test_rows_of_one_context_become_one_example(write: Write) -> None:
    rows = [
        {"context": "A text.", "question": "Who?", "answers": {"text": ["Ada", "she"], "answer_start": [0, 4]}},
        {"context": "B text.", "question": "Where?", "answers": {"text": ["There"], "answer_start": [0]}},
        {"context": "A text.", "question": "Why?", "answers": {"text": ["Rain"], "answer_start": [2]}},
    ]
    read = read_examples(write(rows))
    assert read.rows == [
        Example("tasks", "A text.", (Pair("Who?", "Ada"), Pair("Why?", "Rain"))),
        Example("tasks", "B text.", (Pair("Where?", "There"),)),
    ]


def test_unanswerable_questions_are_counted(write: Write) -> None:
    rows = [
        {"context": "A text.", "question": "Who?", "answers": {"text": ["Ada"]}},
        {"context": "A text.", "question": "When?", "answers": {"text": []}},
    ]
    read = read_examples(write(rows))
    assert read.rows[0].pairs == (Pair("Who?", "Ada"),)
    assert read.left_out["half_a_pair"] == 1


def test_what_cannot_be_used_is_left_out_and_counted(write: Write) -> None:
    whole = [{"instruction": "Who?", "response": "Ada"}]
    rows = [
        {"context": "A text.", "pairs": whole},
        {"context": None, "pairs": whole},
        {"context": "  ", "pairs": whole},
        {"context": "B text.", "pairs": []},
        {"context": "C text.", "pairs": None},
        {"context": "D text.", "pairs": [{"instruction": "Who?", "response": None}]},
    ]
    read = read_examples(write(rows))
    assert [example.context for example in read.rows] == ["A text."]
    assert read.left_out == {"no_context": 2, "no_pairs": 3, "half_a_pair": 1}


def test_data_without_one_usable_row_is_refused_with_the_counts(write: Write) -> None:
    location = write([{"context": "A", "pairs": [{"instruction": "", "response": "x"}]}])
    with pytest.raises(SourceError, match="1 no_pairs"):
        read_examples(location)


def test_other_columns_are_refused_with_what_is_needed(write: Write) -> None:
    with pytest.raises(ColumnError, match="`context` and `pairs`"):
        read_examples(write([{"text": "A", "pairs": []}]))


def test_pairs_of_another_type_are_refused(write: Write) -> None:
    with pytest.raises(ColumnError, match="Row 0: `pairs` must be a list"):
        read_examples(write([{"context": "A", "pairs": "Who?"}]))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        read_examples(str(tmp_path / "none.parquet"))
