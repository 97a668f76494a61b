"""Tasks made by code: what is asked is answered rightly, and the same texts come out everywhere."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

SCRIPT = Path(__file__).parent.parent / "dataset_scripts" / "made_tasks.py"
CALCULATED = re.compile(r"^(.+?) = (-?[\d,.]+)( million| thousand|%)$")

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    out = tmp_path_factory.mktemp("made") / "made.parquet"
    done = subprocess.run(
        [sys.executable, SCRIPT, out, "--accounts", "60", "--tables", "60", "--articles", "60"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("180 texts, ")
    found: Rows = pq.read_table(out).to_pylist()
    return found


def of(rows: Rows, source: str) -> Iterator[tuple[str, str, str]]:
    """Yield context, question and answer of every pair of a source."""
    for row in rows:
        if row["source"] == source:
            yield from ((row["context"], pair["instruction"], pair["response"]) for pair in row["pairs"])


def cells(context: str) -> list[list[str]]:
    """Return the rows of the table in a text."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in context.splitlines() if line.startswith("|")]


def number(text: str) -> float:
    return float(text.replace(",", "").replace("$", "").rstrip("%"))


def test_every_text_has_different_questions_and_a_free_licence(rows: Rows) -> None:
    assert len({row["id"] for row in rows}) == len({row["context"] for row in rows}) == 180
    for row in rows:
        questions = [pair["instruction"] for pair in row["pairs"]]
        assert len(set(questions)) == len(questions) > 0
        assert row["license"] == "Apache-2.0"
        assert "{" not in row["context"] + " ".join(questions)


def test_an_answer_about_an_article_stands_in_it(rows: Rows) -> None:
    for context, question, answer in of(rows, "made_articles"):
        bare = answer.removeprefix("because ").removeprefix("in ").removeprefix("to ").removeprefix("a ")
        bare = bare.removeprefix("about ").removeprefix("it ").removeprefix("the ")
        assert bare in context, question


def test_every_number_in_an_answer_about_a_table_stands_in_it(rows: Rows) -> None:
    for context, question, answer in of(rows, "made_tables"):
        if question.startswith("By what margin"):
            won, lost, more = map(number, re.findall(r"\d[\d,]*", answer))
            assert won - lost == more and f"{won:,.0f}" in context and f"{lost:,.0f}" in context
        else:
            assert all(found in context for found in re.findall(r"\d[\d,.–]*\d", answer)), question


def asked_of(names: list[str], question: str) -> str:
    """Return the longest of a table's names that a question holds."""
    return max((name for name in names if name and name.lower() in question), key=len)


def test_amounts_are_those_of_the_year_and_item_asked_about(rows: Rows) -> None:
    checked = 0
    for context, question, answer in of(rows, "made_accounts"):
        header, _, *items = cells(context) or [[], []]
        match = re.fullmatch(r"(?:What was the|What was the amount of|How much was) (.+) in (\d{4})\?", question)
        if match is None or question.startswith("What was the main reason"):
            continue
        item = asked_of([name for name, *_ in items], question)
        (amounts,) = (values for name, *values in items if name == item)
        (year,) = (at for at, title in enumerate(header[1:]) if title.endswith(match[2]))
        assert answer.rpartition(" ")[0] == amounts[year]
        checked += 1
    assert checked > 30


def test_calculations_come_out(rows: Rows) -> None:
    checked = 0
    for context, _, answer in of(rows, "made_accounts"):
        if match := CALCULATED.match(answer):
            terms = [number(term) for term in re.findall(r"[\d,]*\d", match[1])]
            assert all(f"{term:,.0f}" in context for term in terms if term != 2)
            worth = eval(match[1].replace(",", ""), {"__builtins__": {}})
            assert number(match[2]) == pytest.approx(worth * (100 if match[3] == "%" else 1), abs=0.051)
            checked += 1
    assert checked > 10


def test_the_highest_year_and_the_largest_item_are_found(rows: Rows) -> None:
    checked = 0
    for context, question, answer in of(rows, "made_accounts"):
        header, _, *items = cells(context) or [[], []]
        amounts = {name: [number(value) for value in values] for name, *values in items}
        if question.startswith("Which item had the largest"):
            assert amounts[answer][0] == max(values[0] for values in amounts.values())
        elif question.endswith("the highest?"):
            values = amounts[asked_of(list(amounts), question)]
            assert header[1 + values.index(max(values))].endswith(answer)
        else:
            continue
        checked += 1
    assert checked > 10


def test_a_text_depends_on_the_seed_and_its_number_alone(rows: Rows) -> None:
    made = runpy.run_path(str(SCRIPT))
    for found in (rows[0], rows[75], rows[150]):
        kind = found["source"]
        maker = made[{"made_accounts": "accounts", "made_tables": "table", "made_articles": "article"}[kind]]
        one = int(found["id"].rpartition("/")[2])
        assert made["row"](kind, maker, one, 0) == found
        assert made["row"](kind, maker, one, 1) != found
