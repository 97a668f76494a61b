"""`hfsynth evaluate` as a user gives it: of a corpus from its source to its card, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from hfsynth.cli import app
from hfsynth.cli.evaluate import show_corpus, show_synthesizer
from hfsynth.core.records import Pair
from hfsynth.engine.protocol import Completion
from hfsynth.prompting.parsing import render_pairs

pytest.importorskip("rensa")
pytest.importorskip("py3langid")

MADE = ["test_cli_evaluate:writing", "--engine", "scripted"]
RIVERS = {"Danube": 2850, "Rhine": 1233, "Elbe": 1094, "Seine": 777}


def run(*args: object) -> int:
    """Run the command line in this process and return its exit code."""
    argv, sys.argv = sys.argv, ["hfsynth", *map(str, args)]
    try:
        app.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = argv
    return 0


def text_of(river: str) -> str:
    return f"The {river} is a river of Europe that is {RIVERS[river]} kilometres long."


def writing(prompt: str) -> str:
    """Write two pairs about a river: one true to the document, one that is not and gives its answer away."""
    river = next(river for river in RIVERS if river in prompt.rpartition("<CON>")[2])
    return render_pairs(
        [
            Pair(f"How long is the {river}?", f"The {river} is {RIVERS[river]} kilometres long."),
            Pair(f"Where does the river {river} rise?", f"{river} in 1900"),
        ]
    )


def judging(prompt: str) -> str | Completion:
    """Find right what is not about where a river rises; say nothing readable of the Seine."""
    asked = prompt.rpartition("<instruction>")[2]
    if "Seine" in asked:
        return "I do not know."
    return json.dumps({"why": "", "relevant": True, "accurate": "rise" not in asked})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    rows = [{"id": river, "text": text_of(river)} for river in RIVERS]
    (folder / "rivers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("synthesize", folder / "rivers.jsonl", folder / "corpus", "--model", *MADE, "--quiet") == 0
    return folder / "corpus"


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "corpus"))


def test_from_a_source_to_a_card_with_figures(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 4 and 2 content words of the two responses, 4 and 1 are in the document; one response of two has a number."""
    card = ["card", corpus, "--license", "mit", "--language", "en"]
    assert run(*card) == 0
    assert "## Quality" not in (corpus / "README.md").read_text()
    capsys.readouterr()
    assert run("evaluate", corpus) == 0
    shown = capsys.readouterr().out
    assert "8 pairs of 4 documents" in shown
    assert "75.0 (75.0–75.0)" in shown
    assert shown.endswith(f"For its card: hfsynth card {corpus}\n")
    assert run("card", corpus, "--check") == 1  # the old card is stale
    assert run("card", corpus) == 0
    readme = (corpus / "README.md").read_text()
    assert "on 8 pairs of 4 documents" in readme
    assert "| words of a response that are in the document, % | 75.0 (75.0–75.0) |" in readme
    assert "| with a number that the document does not have | 50.0 (50.0–50.0) |" in readme
    assert "| with the whole answer in the instruction | 0.0 (0.0–60.2) |" in readme  # four documents
    assert "| quantity | 50.0 (50.0–50.0) |" in readme
    assert run("card", corpus, "--check") == 0


def test_new_training_texts_do_not_cost_the_figures(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", corpus, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert run("render", corpus, "--seed", 1) == 0
    assert json.loads((corpus / "stats.json").read_text())["evaluation"] == values


def test_a_judge_is_asked_and_a_sample_drawn(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = ["--judge", "test_cli_evaluate:judging", "--engine", "scripted"]
    assert run("evaluate", corpus, *judge, "--json") == 0
    told = json.loads(capsys.readouterr().out)["judge"]
    assert (told["pairs"], told["response_accuracy"]["mean"]) == (6, 0.5)
    assert told["unjudged"] == {"too_long": 0, "failed": 0, "unreadable": 2}
    assert run("evaluate", corpus, *judge) == 0
    shown = capsys.readouterr().out
    assert "6 pairs judged by test_cli_evaluate:judging" in shown
    assert "with a right response" in shown
    assert "pairs without a verdict" in shown
    assert "unreadable" in shown
    sampled = ["--sample", 2, "--judge-pairs", 1, "--judge", "scripted", "--engine", "scripted", "--seed", 5]
    assert run("evaluate", corpus, *sampled, "--quiet", "--json") == 0
    captured = capsys.readouterr()
    values = json.loads(captured.out)
    assert (values["documents"], values["sampled"], values["seed"]) == (2, True, 5)
    assert values["judge"]["pairs"] + sum(values["judge"]["unjudged"].values()) == 1
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["Neither", "hfsynth evaluate corpus/", "--model MODEL"]),
        (["{corpus}", "--model", "embedded"], ["one of them", "hfsynth evaluate corpus/", "--model MODEL"]),
        (["{corpus}", "--seen", "a.jsonl", "--limit", "3"], ["--seen, --limit", "--model"]),
        (["{corpus}", "--max-tokens", "400"], ["--max-tokens", "--model"]),
        (["--model", "embedded", "--judge", "x", "--sample", "1"], ["--sample, --judge", "CORPUS"]),
        (["{corpus}", "--judge-pairs", "5"], ["--judge-pairs", "--judge MODEL"]),
        (["{corpus}", "--engine", "server", "--window", "9"], ["--window, --engine", "--judge MODEL"]),
        (["{corpus}", "--judge", "x", "--engine-arg", "y"], ["key=value"]),
        (["{corpus}/data", "--judge", "no/such-model"], ["no finished pairs", "hfsynth synthesize"]),
    ],
)
def test_what_cannot_be_asked_together_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert run("evaluate", *(argument.format(corpus=made) for argument in arguments)) in (1, 2)
    captured = capsys.readouterr()
    assert all(word in captured.err for word in words), captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("library", ["rensa", "py3langid"])
def test_a_missing_library_is_named_before_anything_is_read(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert run("evaluate", made) == 2
    told = capsys.readouterr().err
    assert f"not installed: {library}." in told
    assert 'pip install "hfsynth[evaluate]"' in told


def test_a_corpus_without_pairs_has_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    from hfsynth.quality.corpus_evaluation import CorpusFigures

    figures = CorpusFigures(expected_pairs=0)
    figures.add("A text.", [])
    show_corpus({"sampled": True, **figures.to_dict()})
    shown = capsys.readouterr().out
    assert "0 pairs of 1 documents, drawn from the corpus" in shown
    assert "–" in shown


def test_names_in_tables_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    interval = {"mean": 0.5, "low": None, "high": None}
    found: dict[str, Any] = {
        "documents": 1,
        "response_accuracy": {"f1": interval},
        "pair_quality": {"f1": interval},
        "fully_grounded": interval,
        "with_pairs": interval,
        "pairs_per_document": interval,
        "duplicates": None,
        "language_mismatch": interval,
        "tasks": {"[i]other": 1.0},
    }
    show_synthesizer({"results": {"[red]gold": {"0": {"all": found, "sources": {"[/b] :smile:": found}}}}})
    shown = capsys.readouterr().out
    assert "[red]gold: all documents" in shown
    assert "[/b] :smile:" in shown and "[i]other" in shown
