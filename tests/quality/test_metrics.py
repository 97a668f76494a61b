"""The metrics as users load them with `evaluate`: without a network, in a process of their own, batch by batch."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import hfsynth
from hfsynth.core.errors import ConfigError
from hfsynth.quality.metrics import METRICS

MISSING = [name for name in ("evaluate", "rensa", "py3langid") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} is not installed")

WHO, WHEN = ({"instruction": q, "response": a} for q, a in (("Who wrote it?", "Ada"), ("When?", "In 1843")))


def load(name: str, folder: Path) -> Any:  # noqa: ANN401
    """Load a metric that keeps its batches in a folder of its own."""
    import evaluate

    return evaluate.load(hfsynth.metric_path(name), cache_dir=str(folder))


def batched(metric: Any, predictions: list[Any], references: list[Any]) -> dict[str, float]:  # noqa: ANN401
    """Compute a metric from two batches and a single example."""
    metric.add_batch(predictions=predictions[:1], references=references[:1])
    metric.add_batch(predictions=predictions[1:-1], references=references[1:-1])
    metric.add(prediction=predictions[-1], reference=references[-1])
    return dict(metric.compute())


def test_response_accuracy(tmp_path: Path) -> None:
    predictions, references = ["in Paris, France", "Rome", "the sun"], ["Paris", "Lima", "The Sun!"]
    expected = pytest.approx({"f1": (0.5 + 0 + 1) / 3, "exact_match": 1 / 3})
    metric = load("response_accuracy", tmp_path)
    assert metric.compute(predictions=predictions, references=references) == expected
    assert batched(metric, predictions, references) == expected


def test_of_several_gold_answers_the_best_counts(tmp_path: Path) -> None:
    metric = load("response_accuracy", tmp_path)
    found = metric.compute(predictions=["Paris", "Rome"], references=[["Lima", "in Paris"], ["Rome"]])
    assert found == pytest.approx({"f1": (2 / 3 + 1) / 2, "exact_match": 0.5})


def test_pair_quality(tmp_path: Path) -> None:
    predictions, references = [[WHEN], [WHO, WHEN], []], [[WHO, WHEN], [WHEN, WHO], [WHO]]
    expected = pytest.approx({"f1": (2 / 3 + 1 + 0) / 3, "precision": 2 / 3, "recall": (1 / 2 + 1) / 3})
    metric = load("pair_quality", tmp_path)
    assert metric.compute(predictions=predictions, references=references) == expected
    assert batched(metric, predictions, references) == expected


@pytest.mark.parametrize("name", ["answer_leak", "pair_quality", "response_accuracy"])
def test_of_nothing_there_is_no_figure(name: str, tmp_path: Path) -> None:
    assert set(load(name, tmp_path)._compute([], []).values()) == {None}


def test_grounding(tmp_path: Path) -> None:
    """Content words: of "It was Ada in 1843" Ada and 1843, of "a machine" machine, of "Bob Ray in 1900" all three."""
    pairs = [
        [{"instruction": "?", "response": "It was Ada in 1843."}, {"instruction": "?", "response": "a machine"}],
        [],
        [{"instruction": "?", "response": "That was Bob Ray in 1900."}],
    ]
    documents = ["Ada wrote it in 1843.", "Nothing is said.", "Nothing is said."]
    expected = pytest.approx({"grounding": (1 + 0 + 0) / 3, "foreign_numbers": 1 / 3, "foreign_names": 1 / 3})
    metric = load("grounding", tmp_path)
    assert metric.compute(predictions=pairs, references=documents) == expected
    assert batched(metric, pairs, documents) == expected
    nothing = metric.compute(predictions=[[]], references=["Nothing is said."])
    assert set(nothing.values()) == {None}


def test_answer_leak(tmp_path: Path) -> None:
    questions = ["Did Ada write it in 1843?", "Is the sky red or blue?", "Where does the river Po rise?"]
    answers = ["Ada, in 1843", "blue", "The Po rises in Piedmont"]  # 2 of 2 words, an option, 1 of 3
    expected = pytest.approx({"answer_leak": (1 + 0 + 1 / 3) / 3, "leaked": 1 / 3})
    metric = load("answer_leak", tmp_path)
    assert metric.compute(predictions=questions, references=answers) == expected
    assert batched(metric, questions, answers) == expected


def test_foreign_details(tmp_path: Path) -> None:
    """Of the four responses the second has a number and a name too many, the third a number, the fourth a name."""
    answers = [["It was Ada in 1843.", "That was Bob Ray in 1900."], [], ["In 12 rooms.", "It was there, said Eve."]]
    pairs = [[{"instruction": "?", "response": answer} for answer in those] for those in answers]
    documents = ["Ada wrote it in 1843.", "Nothing is said.", "It has 3 rooms."]
    expected = pytest.approx({"foreign_numbers": 2 / 4, "foreign_names": 2 / 4, "foreign_details": 3 / 4})
    metric = load("foreign_details", tmp_path)
    assert metric.compute(predictions=pairs, references=documents) == expected
    assert batched(metric, pairs, documents) == expected
    nothing = metric.compute(predictions=[[]], references=["Nothing is said."])
    assert set(nothing.values()) == {None}


def test_instruction_duplicates(tmp_path: Path) -> None:
    """The fourth is the first again; of the 26 different words and pairs of words of the second the third has 24."""
    long = "Which of the rivers that rise in the Alps is the longest one"
    instructions = ["Who wrote it?", f"{long} of all?", f"{long} of?", "WHO wrote it", "Who wrote that?"]
    expected = pytest.approx({"duplicates": 1 / 5, "near_duplicates": 2 / 5})
    metric = load("instruction_duplicates", tmp_path)
    assert metric.compute(predictions=instructions) == expected
    metric.add_batch(predictions=instructions[:3])
    metric.add_batch(predictions=instructions[3:])
    assert metric.compute() == expected
    assert metric.compute(predictions=[]) == {"duplicates": None, "near_duplicates": None}


def test_diversity(tmp_path: Path) -> None:
    """Nine words of which five differ, six pairs of words of which five do, three different triples."""
    metric = load("diversity", tmp_path)
    found = metric.compute(predictions=["Who was it there?", "who was there", "Where, it?"])
    assert found == pytest.approx(
        {"distinct_1": 5 / 9, "distinct_2": 5 / 6, "distinct_3": 1.0, "words": 3.0}
        | {"words_min": 2, "words_p5": 2, "words_p25": 2, "words_p50": 3, "words_p75": 4, "words_p95": 4}
        | {"words_max": 4}
    )
    few = metric.compute(predictions=["One", ""])
    assert (few["distinct_1"], few["distinct_2"], few["words"], few["words_min"]) == (1.0, None, 0.5, 0)
    assert set(metric.compute(predictions=[]).values()) == {None}


def test_task_categories(tmp_path: Path) -> None:
    questions = ["Who wrote it?", "When was it?", "Who is she?", "Is it big?", "Translate it."]
    answers = ["Ada", "In 1843", "A poet", "No.", "Hallo"]
    expected = {"who": 0.4, "translation": 0.2, "when": 0.2, "yes_no": 0.2}
    metric = load("task_categories", tmp_path)
    found = metric.compute(predictions=questions, references=answers)
    assert list(found.items()) == list(expected.items())
    assert batched(metric, questions, answers) == expected


def test_language_mismatch(tmp_path: Path) -> None:
    """Of four pairs three have a known language and a document with one; one of these differs."""
    english = {"instruction": "What was the old bridge over the river built of?", "response": "It was built of stone."}
    german = {"instruction": "Woraus wurde die alte Brücke über den Fluss gebaut?", "response": "Sie ist aus Stein."}
    short = {"instruction": "1889?", "response": "1889"}
    documents = ["The old bridge over the river was built of stone, and people still walk over it every day."] * 2
    pairs = [[english, short], [german, english], []]
    expected = pytest.approx({"language_mismatch": 1 / 3, "language_known": 3 / 4})
    metric = load("language_mismatch", tmp_path)
    assert metric.compute(predictions=pairs, references=[*documents, "?"]) == expected
    assert batched(metric, pairs, [*documents, "?"]) == expected
    assert metric.compute(predictions=[[short]], references=documents[:1]) == {
        "language_mismatch": None,
        "language_known": 0.0,
    }
    assert set(metric.compute(predictions=[[]], references=["?"]).values()) == {None}


@pytest.mark.parametrize("name", METRICS)
def test_the_examples_in_the_documentation_are_true(name: str, tmp_path: Path) -> None:
    metric = load(name, tmp_path)
    import evaluate

    names = {"evaluate": evaluate, "hfsynth": hfsynth}
    examples = doctest.DocTestParser().get_doctest(metric.inputs_description, names, name, None, None)
    assert len(examples.examples) >= 2
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert not report
    assert metric.description.strip() and metric.citation.strip()


_PROGRAM = """
import json, socket, sys
def refuse(*args): raise OSError("no network")
socket.socket.connect = refuse
import evaluate, hfsynth
names = json.loads(sys.argv[1])
print(json.dumps([type(evaluate.load(hfsynth.metric_path(name))).__name__ for name in names]))
"""


def test_every_metric_loads_in_a_fresh_process_without_a_network(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-W", "error", "-c", _PROGRAM, json.dumps(METRICS)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    expected = ["".join(word.title() for word in name.split("_")) for name in METRICS]
    assert json.loads(ran.stdout) == expected


def test_an_unknown_metric_is_a_clear_error() -> None:
    with pytest.raises(ConfigError) as caught:
        hfsynth.metric_path("bleu")
    assert "pair_quality, response_accuracy" in caught.value.hint
