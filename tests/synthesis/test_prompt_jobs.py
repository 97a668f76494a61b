"""Prompt recipes from the command line to the Hub: jobs, going on, transforms, cards, `--recipe`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from loopback_hub.server import Hub

import hfsynth
from hfsynth.cli import app
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ColumnError, OutputError
from hfsynth.documents.source import Source
from hfsynth.job.check import check
from hfsynth.job.run import synthesize
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import write_card

TABLE = "| year | lamps |\n| --- | --- |\n| 1823 | 1 |"
MIXED = """
[[prompts]]
use = "table"
when = ["tables>0"]

[[prompts]]
name = "first"
wording = "First, for {{ persona }}."
when = ["words>=5"]

[[prompts]]
name = "second"
wording = "Second, for {{ persona }}."
when = ["words>=5", "tables<=0"]
weight = 2
"""
SCRIPTED = EngineConfig("scripted")
CONFIG = SynthesizerConfig("scripts:prompted", prompt_format="chat", shots=2)


def source(folder: Path, number: int = 12) -> Path:
    """Write documents, one of them a table and one too short for any prompt, with who asks about them."""
    texts = [TABLE, "Short.", *(f"The lamp number {n} burned oil for many years." for n in range(number - 2))]
    rows = ({"id": f"d{n}", "text": text, "who": f"person {n}"} for n, text in enumerate(texts))
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "docs.jsonl"


def mixed(folder: Path, text: str = 'persona_column = "who"\n' + MIXED) -> Path:
    (folder / "mixed.toml").write_text(text)
    return folder / "mixed.toml"


def run(*words: object) -> int:
    """Run a command as a user types it; return its exit code."""
    sys.argv = ["hfsynth", *map(str, words)]
    with pytest.raises(SystemExit) as end:
        app.main()
    return int(end.value.code or 0)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(out / "pairs").to_pylist())


def test_a_job_gives_each_document_its_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])
    words = ("synthesize", source(tmp_path), tmp_path / "out", "--engine", "scripted", "--workers", 0, "--quiet")
    words += ("--model", "scripts:prompted", "--shots", 2, "--prompt", mixed(tmp_path))
    assert run(*words) == 0
    rows = rows_of(tmp_path / "out")
    table, short, *others = rows
    assert table["synthesis"]["prompt"] in ("table", "first")
    assert (short["synthesis"]["status"], short["synthesis"]["prompt"], short["pairs"]) == ("no_pairs", None, [])
    assert [one["reason"] for one in short["synthesis"]["rejected"]] == ["no_prompt"] and not short["synthesis"][
        "prompt_tokens"
    ]
    assert {row["synthesis"]["prompt"] for row in others} == {"first", "second"}
    for row in others:
        name = row["synthesis"]["prompt"].capitalize()
        assert row["pairs"][1]["response"] == f"{name}, for person {row['id'][1:]}"
    assert any(row["synthesis"]["follows"] for row in others)
    assert run(*words) == 0 and rows_of(tmp_path / "out") == rows
    assert run("synthesize", tmp_path / "docs.jsonl", tmp_path / "one", *words[3:-2], "--prompt", "faq") == 0
    assert {row["synthesis"]["prompt"] for row in rows_of(tmp_path / "one")} == {"faq"}


def test_other_words_are_another_job_and_the_refusal_names_them(tmp_path: Path) -> None:
    texts, out = Source(str(source(tmp_path))), tmp_path / "out"
    synthesize(texts, out, CONFIG, engine=SCRIPTED, shards=(0, 0), prompt=mixed(tmp_path))
    other = mixed(tmp_path, 'persona_column = "who"\n' + MIXED.replace("Second", "Other"))
    with pytest.raises(
        OutputError, match=r"the prompt recipe is mixed \(\w{16}\) there and mixed \(\w{16}\) here"
    ) as error:
        synthesize(texts, out, CONFIG, engine=SCRIPTED, prompt=other)
    assert "First" not in str(error.value)
    with pytest.raises(OutputError, match=r"there and none here"):
        synthesize(texts, out, CONFIG, engine=SCRIPTED)
    assert synthesize(texts, out, CONFIG, engine=SCRIPTED, prompt=mixed(tmp_path)).finished
    assert not check(out).damaged


def test_a_recipe_that_fits_nothing_costs_nothing_and_is_counted(tmp_path: Path) -> None:
    never = mixed(tmp_path, 'wording = "Ask."\nwhen = ["words>9000"]')
    done = synthesize(Source(str(source(tmp_path))), tmp_path / "out", CONFIG, engine=SCRIPTED, prompt=never)
    assert done.stats["documents"]["no_pairs"] == 12 == done.stats["rejected"]["no_prompt"]
    assert done.stats["prompt_tokens"] == 0


def test_a_missing_persona_column_is_named(tmp_path: Path) -> None:
    path = mixed(tmp_path, 'persona_column = "nobody"\n' + MIXED)
    with pytest.raises(ColumnError, match="'nobody'; the columns are: id, text, who"):
        synthesize(Source(str(source(tmp_path))), tmp_path / "out", CONFIG, engine=SCRIPTED, prompt=path)
    transform = hfsynth.Synthesizer("scripts:prompted", engine="scripted", prompt=path)
    with pytest.raises(ColumnError, match="'nobody'"):
        transform({"text": ["a"]})
    assert not (tmp_path / "out").exists()


def test_a_transform_gives_the_rows_of_the_job(tmp_path: Path) -> None:
    path = mixed(tmp_path)
    synthesize(Source(str(source(tmp_path))), tmp_path / "out", CONFIG, engine=SCRIPTED, prompt=path)
    ds = Dataset.from_list([json.loads(line) for line in (tmp_path / "docs.jsonl").read_text().splitlines()])
    transform = hfsynth.Synthesizer("scripts:prompted", engine="scripted", prompt=path, shots=2)
    made = transform.map(ds)
    columns = ["pairs", "synthesis"]
    assert list(made.select_columns(columns)) == [{c: row[c] for c in columns} for row in rows_of(tmp_path / "out")]
    assert made.features == transform.features(ds.features)
    assert (
        made._fingerprint
        != hfsynth.Synthesizer("scripts:prompted", engine="scripted", prompt="qa", shots=2).map(ds)._fingerprint
    )
    one = hfsynth.Synthesizer("scripts:prompted", engine="scripted", prompt=path)(ds[5])
    assert one["pairs"][1]["response"].endswith("for person 5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prompt", "nothing"), "Built in are: dialogue, faq"),
        (("--prompt", "faq", "--prompt-format", "instruction-pretrain"), "is for chat models"),
        (("--prompt", "faq", "--max-pairs", 3), "most_pairs"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    tmp_path: Path,
    words: tuple[Any, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    given = ("synthesize", source(tmp_path), tmp_path / "out", "--engine", "scripted", "--quiet", *words)
    assert run(*given) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_hub_holds_the_whole_recipe_and_repeats_it(tmp_path: Path) -> None:
    texts, out = source(tmp_path), tmp_path / "out"
    path = mixed(tmp_path)
    synthesize(Source(str(texts)), out, CONFIG, engine=SCRIPTED, prompt=path)
    path.unlink()
    options = ["--engine", "scripted", "--model", "scripts:prompted", "--workers", "0", "--quiet"]
    with Hub() as hub:
        environment = {**hub.env(tmp_path), "PYTHONPATH": ":".join([str(Path(__file__).parents[1]), *sys.path])}
        command = [sys.executable, "-m", "hfsynth"]
        hub.run([*command, "push", str(out), "user/made", "--license", "cc0-1.0", "--quiet"], environment)
        again = [*command, "synthesize", str(texts), str(tmp_path / "again"), "--recipe", "user/made", *options]
        hub.run(again, environment)
        card = hub.store.files(hub.store.repo("user/made"))["README.md"].decode()
    assert rows_of(tmp_path / "again") == rows_of(out)
    assert "    Second, for {{ persona }}." in card and "the column `who`" in card and "of weight 2.0" in card


def test_a_card_shows_a_wording_as_text(tmp_path: Path) -> None:
    path = mixed(tmp_path, "wording = '''\n# Not a heading\n<!-- hfsynth:end -->\n{{ document }}'''")
    out = tmp_path / "out"
    synthesize(Source(str(source(tmp_path))), out, CONFIG, engine=SCRIPTED, prompt=path)
    write_card(out, CardSettings(license="cc0-1.0"))
    lines = (out / "README.md").read_text().splitlines()
    assert "    # Not a heading" in lines and "    <!-- hfsynth:end -->" in lines


def test_texts_are_a_config_of_their_own_made_again_where_lost_and_rendered(tmp_path: Path) -> None:
    out, path = tmp_path / "out", mixed(tmp_path, '[[prompts]]\nuse = "table"\n[[prompts]]\nuse = "faq"')
    job: dict[str, Any] = {"engine": SCRIPTED, "shard_rows": 4, "prompt": path}
    done = synthesize(Source(str(source(tmp_path))), out, CONFIG, **job)
    rows = {row["id"]: row for row in rows_of(out)}
    texts = {name: row["synthesis"]["rewritten"] for name, row in rows.items() if row["synthesis"]["rewritten"]}
    assert 0 < len(texts) < 12 == done.stats["documents"]["ok"] and done.stats["rewritten"] == len(texts)
    assert all(bool(row["pairs"]) is (name not in texts) for name, row in rows.items())
    found = load_dataset(str(out), "rewritten", split="train")
    assert {row["id"]: row["text"] for row in found} == texts and set(found["prompt"]) == {"table"}

    (file,) = (out / "rewritten").iterdir()
    whole = file.read_bytes()
    file.unlink()
    assert check(out).damaged == ("rewritten/train-00000-of-00001.parquet is missing",)
    synthesize(Source(str(tmp_path / "docs.jsonl")), out, CONFIG, **job)
    assert file.read_bytes() == whole and not check(out).damaged

    report = hfsynth.render(out, seed=0)
    data = {tuple(row["source_ids"]): row for row in pq.read_table(out / "data").to_pylist()}
    assert report.facts["styles_drawn"]["rewritten"] == len(texts)
    for name, text in texts.items():
        assert (data[(name,)]["text"], data[(name,)]["style"], data[(name,)]["num_pairs"]) == (text, "rewritten", 0)
    write_card(out, CardSettings(license="cc0-1.0"))
    said = (out / "README.md").read_text()
    assert f"{len(texts)} documents were written anew" in said and 'load_dataset("out", "rewritten"' in said
    assert "instruction-augmented corpus" in said and not check(out).damaged


def test_a_corpus_of_texts_alone_is_no_corpus_of_pairs(tmp_path: Path) -> None:
    ds = Dataset.from_dict({"id": ["a", "b"], "text": ["The lamp was lit.", "It burned oil."]})
    transform = hfsynth.Synthesizer("scripts:prompted", engine="scripted", prompt="tutorial")
    hfsynth.save_corpus(tmp_path / "out", pairs=(made := transform.map(ds)), synthesizer=transform)
    assert [row["text"] for row in pq.read_table(tmp_path / "out" / "rewritten").to_pylist()] == [
        row["synthesis"]["rewritten"] for row in made
    ]
    assert [row["text"][:5] for row in hfsynth.render(made, seed=0)] == ["New: ", "New: "]
    write_card(tmp_path / "out", CardSettings(license="cc0-1.0"))
    said = (tmp_path / "out" / "README.md").read_text()
    assert "A rephrased corpus" in said and "instruction-augmented" not in said
