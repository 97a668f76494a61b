"""Benchmarks read: the columns of many, AI2 decon's records, and clear words where nothing can be read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hfsynth.core.benchmarks import BenchmarkColumns, BenchmarkRow
from hfsynth.core.errors import ColumnError, SourceError
from hfsynth.documents.benchmarks import read_benchmark
from hfsynth.documents.examples import read_examples
from hfsynth.documents.hf_datasets import open_texts
from hfsynth.documents.source import Source, open_source

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(*rows: dict[str, Any], name: str = "suite.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return str(path)

    return to_file


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "Why?", "answer": "So."}, BenchmarkRow("Why?", ("So.",))),
        ({"query": "Why?", "choices": ["So.", "Not."], "gold": 1}, BenchmarkRow("Why?", ("So.", "Not."))),
        ({"problem": "Why?", "solution": "So."}, BenchmarkRow("Why?", ("So.",))),
        ({"input": "Why?", "target": "So."}, BenchmarkRow("Why?", ("So.",))),
        ({"ctx": "He went", "endings": ["up", "down"]}, BenchmarkRow("He went", ("up", "down"))),
        (
            {"question": "Why?", "context": "A text.", "answers": {"text": ["So."], "answer_start": [0]}},
            BenchmarkRow("Why?", ("So.",), "A text."),
        ),
        (
            {"question_stem": "Why", "choices": {"text": ["so", "not"], "label": ["A", "B"]}, "answerKey": "A"},
            BenchmarkRow("Why", ("so", "not")),
        ),
        ({"goal": "Go up", "sol1": "Climb", "sol2": "Dig", "label": 0}, BenchmarkRow("Go up", ("Climb", "Dig"))),
        ({"Question": "Why?", "passage": "A text.", "answer": True}, BenchmarkRow("Why?", (), "A text.")),
        ({"question": "Why?", "answer": {"value": "So", "aliases": ["Thus"]}}, BenchmarkRow("Why?", ("So",))),
    ],
)
def test_columns_are_known_by_their_names(write: Write, row: dict[str, Any], expected: BenchmarkRow) -> None:
    read = read_benchmark(write(row))
    assert read.rows == (expected,)
    assert (read.name, read.split, len(read.revision or "")) == ("suite.jsonl", None, 32)


def test_columns_may_be_named(write: Write) -> None:
    row = {"text": "Write it.", "code": "x = 1", "about": {"story": {"body": "A text."}}, "question": "Not this."}
    columns = BenchmarkColumns("text", ("code",), "about.story.body")
    assert read_benchmark(write(row), columns=columns).rows == (BenchmarkRow("Write it.", ("x = 1",), "A text."),)
    with pytest.raises(ColumnError, match="has no column 'body'; the columns are: text, code, about, question"):
        read_benchmark(write(row), columns=BenchmarkColumns("text", passage="body"))


def test_the_records_of_decon_are_one_row_a_question(write: Write) -> None:
    about = {"eval_key": "mmlu", "split": "test", "fingerprint": "f"}
    rows = [
        {**about, "eval_instance_index": 0, "question": "Why?", "answer": "So.", "is_correct": True},
        {**about, "eval_instance_index": 0, "question": "Why?", "answer": "Not.", "is_correct": False},
        {**about, "eval_instance_index": 1, "question": "Where?", "answer": "Here.", "passage": "A text."},
    ]
    read = read_benchmark(write(*rows))
    assert read.rows == (BenchmarkRow("Why?", ("So.", "Not.")), BenchmarkRow("Where?", ("Here.",), "A text.", 2))
    packed = Path(write()).with_name("packed.jsonl.gz")
    packed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert read_benchmark(str(packed)).rows == read.rows


def test_rows_without_a_question_are_counted(write: Write) -> None:
    read = read_benchmark(write({"question": "Why?"}, {"question": None}, {"question": " "}, {"question": "How?"}))
    assert [row.number for row in read.rows] == [0, 3]
    assert read.without_question == 2
    assert read.record().to_dict() == {
        "name": "suite.jsonl",
        "revision": read.revision,
        "rows": 2,
        "without_question": 2,
    }
    with pytest.raises(SourceError, match="none of its 1 rows holds a question"):
        read_benchmark(write({"question": ""}))


def test_other_columns_are_told_with_those_that_are_wanted(write: Write) -> None:
    with pytest.raises(ColumnError, match="has the columns id, text; a benchmark needs one of questions: question, qu"):
        read_benchmark(write({"id": "1", "text": "A text."}))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["empty.jsonl", "empty.jsonl.gz", "empty.csv"])
def test_an_empty_file_says_so(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    for opened in (read_benchmark, lambda text: open_source(Source(text))):
        with pytest.raises((SourceError, ColumnError), match=r"holds no|has the columns none|is empty"):
            opened(str(path))
    for opened in (open_texts, read_examples):
        with pytest.raises(SourceError, match=r"holds no rows|cannot be read"):
            opened(str(path))


def test_what_is_not_there_says_so(tmp_path: Path, write: Write) -> None:
    with pytest.raises(SourceError, match="No such file or folder"):
        read_benchmark(str(tmp_path / "none.jsonl"))
    with pytest.raises(SourceError, match="line 2 is no JSON"):
        path = Path(write({"question": "Why?"}))
        path.write_text(path.read_text() + "{", "utf-8")
        read_benchmark(str(path))
    with pytest.raises(SourceError, match="should be at revision abc"):
        read_benchmark(write({"question": "Why?"}), revision="abc")
