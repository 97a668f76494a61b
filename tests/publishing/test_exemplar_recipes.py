"""A recipe with exemplars on its way over the Hub: those of a file travel along, those of the Hub are found there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from loopback_hub.server import Hub

from hfsynth.core.errors import ConfigError
from hfsynth.core.recipes import read_recipe


def tasks(about: str = "rivers", count: int = 6) -> bytes:
    rows = [
        {
            "id": f"e{number}",
            "context": f"Exemplar {number} tells of {about}.",
            "pairs": [{"instruction": f"Why {number}?", "response": "/usr/bin"}],
            "task": "why",
            "lang": "en",
            "license": "CC-BY-4.0",
        }
        for number in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": f"Lighthouse {number} is tall."}) + "\n" for number in range(8)))
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(sorted((folder / "pairs").glob("*.parquet"))).to_pylist()
    return rows


def test_a_published_corpus_takes_the_exemplars_of_a_file_along(documents: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_bytes(tasks())
    with Hub() as hub:
        env = hub.env(tmp_path)

        def call(*arguments: object) -> str:
            return str(hub.run([sys.executable, "-m", "hfsynth", *map(str, arguments)], env).stdout)

        scripted = ("--engine", "scripted", "--workers", "0", "--quiet")
        call("synthesize", documents, tmp_path / "one", "--exemplars", tmp_path / "tasks.jsonl", *scripted)
        call("push", tmp_path / "one", "user/corpus", "--license", "cc-by-4.0", "--language", "en")
        (tmp_path / "tasks.jsonl").unlink()
        call("synthesize", documents, tmp_path / "two", "--recipe", "user/corpus", *scripted)
        card = (tmp_path / "one" / "README.md").read_text("utf-8")
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two")
    assert all(len(row["synthesis"]["exemplars"]) == 1 for row in rows_of(tmp_path / "two"))
    recipe = json.loads((tmp_path / "two" / "synthesizer_config.json").read_text())["exemplars"]
    assert (recipe["source"], len(recipe["chosen"])) == ("tasks.jsonl", 6)
    assert "| chains begin with | 1 of the exemplars from `tasks.jsonl`, human-made" in card
    assert f"| their content | `{recipe['digest']}`, licence `CC-BY-4.0` |" in card


def test_exemplars_on_the_hub_are_named_by_their_commit_and_found_there_again(documents: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        env = hub.env(tmp_path)
        commit = hub.commit("user/tasks", {"tasks.jsonl": tasks()}).id

        def call(*arguments: object) -> str:
            return str(hub.run([sys.executable, "-m", "hfsynth", *map(str, arguments)], env).stdout)

        scripted = ("--engine", "scripted", "--workers", "0", "--quiet")
        call("synthesize", documents, tmp_path / "one", "--exemplars", "user/tasks@main", *scripted)
        hub.commit("user/tasks", {"tasks.jsonl": tasks("hills")})
        call("push", tmp_path / "one", "user/corpus", "--license", "cc-by-4.0", "--language", "en")
        env = hub.env(tmp_path)  # somebody else's machine, with nothing in its caches
        call("synthesize", documents, tmp_path / "two", "--recipe", "user/corpus", *scripted)
        call("synthesize", documents, tmp_path / "three", "--exemplars", "user/tasks", *scripted)
    told = json.loads((tmp_path / "one" / "synthesizer_config.json").read_text())["exemplars"]
    assert (told["source"], told["revision"], told["chosen"]) == ("user/tasks", commit, [])
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two")
    newer = json.loads((tmp_path / "three" / "synthesizer_config.json").read_text())["exemplars"]
    assert newer["revision"] != commit and newer["digest"] != told["digest"]
    assert f"from `user/tasks` at `{commit}`" in (tmp_path / "one" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("source", ["tasks.parquet", "/etc/passwd", "../up/tasks", "~/tasks.jsonl", "user/tasks"])
def test_a_published_recipe_reads_no_exemplars_from_this_machine(source: str, tmp_path: Path) -> None:
    path = tmp_path / "synthesizer_config.json"
    path.write_text(json.dumps({"model": "scripted", "exemplars": {"source": source}}))
    with pytest.raises(ConfigError, match="a file of somebody's machine for its exemplars"):
        read_recipe(path, published=True)
    assert read_recipe(path)["exemplars"]["source"] == source
