"""Whatever writes the pairs, rules or a chat model: `--recipe user/name` makes them again from the Hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from loopback_hub.server import Hub

TESTS = Path(__file__).parents[1]
PARAGRAPHS = [
    "A tide is the rise and fall of the sea. It is caused by the Moon. However, the Sun has a part in it as well. "
    "Therefore, the highest tides come when both stand in one line. The word is old, and sailors knew its times.",
    "Ein Deich ist ein Damm gegen das Meer. Er wird aus Sand und Klei gebaut. Deshalb hält er auch hohe Fluten auf. "
    "Dennoch bricht manchmal einer, weil das Wasser ihn unterspült. Die Leute an der Küste kennen die Gefahr gut.",
    "潮汐是海水的涨落。",
]
WORK = ("--workers", "0", "--quiet")
MINED = ("--model", "mined", "--seed", "7")
CHAT = ("--prompt-format", "chat", "--max-pairs", "3", "--shots", "2", "--thinking", "on", "--keep-reasoning")
SCRIPT = ("--engine", "scripted", "--model", "scripts:thinking")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(sorted((folder / "pairs").glob("*.parquet"))).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("asked", "engine", "said"),
    [
        (MINED, (), "| model | none: the pairs were mined by rules, no model wrote them |"),
        (CHAT, SCRIPT, "| thinking before it answers | `on` |"),
        (
            ("--fill", "mined", "--seed", "3"),
            ("--engine", "scripted", "--model", "scripts:moody"),
            "pairs mined by rules",
        ),
    ],
    ids=["mined", "chat", "filled"],
)
def test_a_published_recipe_makes_the_same_pairs_again(
    asked: tuple[str, ...], engine: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    source = tmp_path / "documents.jsonl"
    texts = [f"{number}. {text}" for number in range(4) for text in PARAGRAPHS]
    source.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    with Hub() as hub:
        env = {**hub.env(tmp_path), "PYTHONPATH": f"{TESTS}:{':'.join(sys.path)}"}

        def call(*arguments: object) -> None:
            hub.run([sys.executable, "-m", "hfsynth", *map(str, arguments)], env)

        call("synthesize", source, tmp_path / "one", *engine, *asked, *WORK)
        call("push", tmp_path / "one", "user/corpus", "--license", "cc-by-4.0", "--language", "en")
        env |= hub.env(tmp_path)  # somebody else's machine, with nothing in its caches
        call("synthesize", source, tmp_path / "two", "--recipe", "user/corpus", *engine, *WORK)
        card = hub.files("user/corpus")["README.md"].decode()
    rows = rows_of(tmp_path / "one")
    assert rows == rows_of(tmp_path / "two") and sum(len(row["pairs"]) for row in rows) >= 8
    made, again = (json.loads((tmp_path / name / "synthesizer_config.json").read_text()) for name in ("one", "two"))
    assert {**made, "source": None} == {**again, "source": None}
    assert said in card and "--recipe user/corpus" in card
