"""The recipe of the embedded synthesizer: which rows it takes, how it puts them together, and what a kill costs it."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import needs

SCRIPT = Path(__file__).parent.parent.parent / "dataset_scripts" / "train_embedded.py"
ANIMALS = "wolf hare moth crab swan toad lark mole seal newt wren goat".split()  # noqa: SIM905


def row(number: int, source: str = "fairytaleqa", license: str = "Apache-2.0", **changed: Any) -> dict[str, Any]:  # noqa: ANN401
    animal = ANIMALS[number % len(ANIMALS)]
    facts = [f"The {animal} of farm {number} ate bread on day {day} and slept in room {day}." for day in range(1, 5)]
    pairs = [
        {
            "instruction": f"What did the {animal} of farm {number} eat on day {day}?",
            "response": "bread",
            "task": "action",
        }
        for day in (3, 1)
    ]
    where = {"instruction": f"Where did the {animal} of farm {number} sleep?", "response": "room 2", "task": "setting"}
    found = {"context": " ".join(facts), "pairs": [*pairs, where], "source": source, "license": license}
    return {"id": f"{source}/{license}/{number}", **found, **changed}


@pytest.fixture(scope="module")
def recipe() -> Mapping[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_only_rows_whose_licence_lets_weights_be_shipped_are_taken(recipe: Mapping[str, Any]) -> None:
    closed = ("CC-BY-SA-4.0", "upstream MIT (not in repo)", "none in repo")
    rows = [row(number) for number in range(8)]
    shut = [row(number + 10 * at, license=name) for at, name in enumerate(closed, start=1) for number in range(3)]
    chosen = recipe["choose"]([*rows, *shut], 0)
    text = "\n".join(found["context"] for found in chosen)
    assert all(f"farm {number} " in text for number in range(8))
    assert not any(f"farm {number + 10 * at} " in text for at in (1, 2, 3) for number in range(3))


def test_the_choice_depends_on_the_seed_alone(recipe: Mapping[str, Any]) -> None:
    rows = [row(number) for number in range(30)]
    assert recipe["choose"](rows, 0) == recipe["choose"](rows, 0)
    assert recipe["choose"](rows, 0) != recipe["choose"](rows, 1)


def test_pairs_come_in_the_order_in_which_the_text_answers_them(recipe: Mapping[str, Any]) -> None:
    asked = [("Who came last?", "The toad."), ("Who came first?", "The hare."), ("Who was second?", "The crab.")]
    text = "At dawn the hare. was there. Then the crab. was seen, and at noon the toad. arrived to a great welcome."
    pairs = [{"instruction": question, "response": answer, "task": "t"} for question, answer in asked]
    ordered = recipe["in_order"](text, pairs)
    assert [pair["response"] for pair in ordered] == ["The hare.", "The crab.", "The toad."]


def test_shots_of_a_sequence_agree_in_how_many_and_which_pairs_they_have(recipe: Mapping[str, Any]) -> None:
    chosen = recipe["choose"]([row(number) for number in range(200)], 0)
    kinds = Counter(found["source"].split("/")[1] for found in chosen)
    assert set(kinds) == {"one", "same", "few", "many"}
    for found in chosen:
        kind, count = found["source"].split("/")[1], len(found["pairs"])
        if kind == "same":
            assert count >= 2
            assert len({pair["instruction"].split()[0] for pair in found["pairs"]}) == 1
        else:
            assert {"one": count == 1, "few": 2 <= count <= 3, "many": count > 3}[kind]


def test_a_title_that_asks_is_answered_by_the_summary(recipe: Mapping[str, Any]) -> None:
    summary = {"instruction": "Summarize.", "response": "Bread makes hares slow.", "task": "scientific_tldr"}
    title = {"instruction": "Give a title.", "response": "Does bread slow hares?", "task": "scientific_title"}
    (pair,) = recipe["asked_by_title"]([title, summary])
    assert (pair["instruction"], pair["response"]) == ("Does bread slow hares?", "Bread makes hares slow.")
    assert not list(recipe["asked_by_title"]([{**title, "response": "Of hares"}, summary]))
    assert not list(recipe["asked_by_title"]([title]))


def test_texts_made_by_code_are_not_joined_and_keep_their_pairs(recipe: Mapping[str, Any]) -> None:
    rows = [row(number, source="made_articles") for number in range(40)]
    chosen = recipe["choose"](rows, 0)
    assert sorted(found["context"] for found in chosen) == sorted(made["context"] for made in rows)
    assert not any("/one/" in found["source"] for found in chosen)


def test_a_collection_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text("context,pairs")
    for name in ("none.parquet", "tasks.csv"):
        command = [sys.executable, str(SCRIPT), str(tmp_path / name), str(tmp_path / "out"), "--choose-only"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert f"{name} cannot be read" in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "out.parquet").exists()


@needs("torch", "peft")
def test_a_killed_run_makes_the_bytes_of_one_that_was_not(tiny_llama: Path, tmp_path: Path) -> None:
    collection, made = tmp_path / "tasks.parquet", tmp_path / "made.parquet"
    pq.write_table(pa.Table.from_pylist([row(number) for number in range(24)]), collection)
    pq.write_table(pa.Table.from_pylist([row(number, source="made_articles") for number in range(6)]), made)

    def command(out: str) -> list[str]:
        options = ("--also", made, "--base", tiny_llama, "--lora-rank", 4, "--save-every", 2, "--shots", 2)
        sizes = ("--batch-tokens", 900, "--device-tokens", 900, "--epochs", 2)
        return [str(word) for word in (sys.executable, SCRIPT, collection, tmp_path / out, *options, *sizes)]

    killed = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    assert any(line.startswith("step 5 of") for line in killed.stderr), "it never came to step 5"
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "adapter_model.safetensors").exists()
    again = subprocess.run(command("killed"), check=True, capture_output=True, text=True)
    assert "step 5 of" in again.stderr and "step 2 of" not in again.stderr
    subprocess.run(command("whole"), check=True, capture_output=True)
    files = [(tmp_path / out / "adapter_model.safetensors").read_bytes() for out in ("killed", "whole")]
    assert files[0] == files[1]
