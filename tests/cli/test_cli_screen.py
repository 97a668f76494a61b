"""`hfsynth screen` as a user types it, with good and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jobs import documents
from typer.testing import CliRunner, Result

from hfsynth.cli import app
from hfsynth.core.errors import HfsynthError


def hfsynth(*arguments: object) -> Result:
    return CliRunner().invoke(app.app, [*map(str, arguments)])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    special = {3: "Write to jane@acme.io about text number three.", 5: "Text number 0001 says little."}
    source = documents(tmp_path / "texts.jsonl", 8, special=special)
    made = hfsynth("synthesize", source, tmp_path / "out", "--engine", "scripted", "--workers", 0, "--quiet")
    assert made.exit_code == 0, made.output
    return tmp_path / "out"


def test_a_walk_from_a_report_to_a_card(corpus: Path) -> None:
    told = json.loads(hfsynth("screen", corpus, "--pii", "report", "--json").stdout)
    assert told["worked"] and told["screen"][0]["kinds"]["email"]["documents"] == 1
    dry = hfsynth("screen", corpus, "--pii", "drop", "--duplicates", "--dry-run", "--quiet").stdout
    assert "1 documents" in dry and "Nothing was changed" in dry
    assert hfsynth("render", corpus).exit_code == 0
    marked = hfsynth("screen", corpus, "--pii", "mark", "--quiet").stdout
    assert "1 documents" in marked and f"Make them again: hfsynth render {corpus}" in marked
    assert "was screened so before" in hfsynth("screen", corpus, "--pii", "mark", "--quiet").stdout
    out = hfsynth("screen", corpus, "--duplicates", "--language", "en, unknown", "--quiet").stdout
    assert "1 documents (1 the same as an earlier one" in out
    assert "Screening  Screened for personal identifiers" in hfsynth("info", corpus).stdout
    checked = hfsynth("check", corpus)
    assert checked.exit_code == 0 and "Screened for duplicates" in checked.stdout
    assert "not screened for benchmark" in hfsynth("check", corpus).stdout.lower()


def test_benchmark_questions_are_taken_out_and_the_card_names_the_index(corpus: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    question = "Write to jane@acme.io about text number three and nothing but text number three please."
    suite.write_text(json.dumps({"question": question, "answer": "three"}) + "\n")
    source = documents(tmp_path / "more.jsonl", 4, special={2: f"Copied: {question}"})
    made = hfsynth("synthesize", source, tmp_path / "more", "--engine", "scripted", "--workers", 0, "--quiet")
    assert made.exit_code == 0, made.output
    found = hfsynth("screen", tmp_path / "more", "--decontaminate", suite, "--json", "--workers", 1)
    [step] = json.loads(found.stdout)["screen"]
    assert step["documents_out"] == 1 and len(step["sha256"]) == 64 and str(tmp_path) not in json.dumps(step)
    assert "was screened so before" in hfsynth("screen", tmp_path / "more", "--decontaminate", suite, "--quiet").stdout
    said = hfsynth("check", tmp_path / "more").stdout
    assert "Screened for benchmark questions: 1 questions of suite.jsonl" in said and step["sha256"][:12] in said
    unknown = hfsynth("screen", corpus, "--decontaminate", tmp_path / "nowhere.jsonl")
    assert isinstance(unknown.exception, HfsynthError) and "nowhere.jsonl" in unknown.exception.message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Nothing was asked for"),
        (("--pii", "hide"), "pii must be one of mark, drop, report"),
        (("--language", "klingon"), "'klingon' is no language that can be told"),
    ],
)
def test_bad_settings_are_refused(corpus: Path, arguments: tuple[str, ...], said: str) -> None:
    found = hfsynth("screen", corpus, *arguments)
    assert isinstance(found.exception, HfsynthError) and said in found.exception.message


def test_what_is_no_finished_corpus_is_refused(tmp_path: Path) -> None:
    found = hfsynth("screen", tmp_path, "--duplicates")
    assert isinstance(found.exception, HfsynthError) and "holds no finished pairs" in found.exception.message
