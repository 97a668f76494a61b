"""Identifiers in documents before pairs are written: marked, dropped or counted; no pair quotes what is marked."""

from __future__ import annotations

import json
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from identifier_makers import MAKERS
from jobs import command, documents, ended, parts, run, scripted, start, stats, until
from scripts import shown_documents
from seeds import SEED

import hfsynth
from hfsynth.cli import app
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.records import Document, Pair
from hfsynth.documents.source import Source
from hfsynth.job.run import JobResult, synthesize
from hfsynth.prompting.parsing import render_pairs
from hfsynth.quality.identifiers import identifiers
from hfsynth.quality.marking import Marking, mark_of, marked
from hfsynth.synthesis.synthesizer import Synthesizer

ASKED: list[str] = []
NUMBER = 240
WORDS = [f"word{number}" for number in range(300)]


def echoing(prompt: str) -> str:
    """Quote the document, whole and in halves."""
    ASKED.append(prompt)
    text = shown_documents(prompt)[-1]
    middle = len(text) // 2
    return render_pairs([Pair(text, text), Pair(f"What is {text[:middle]}?", text[middle:])])


@pytest.fixture(autouse=True)
def fresh() -> None:
    ASKED.clear()


def planted() -> tuple[dict[int, str], list[str]]:
    """Return texts, most of them with identifiers in many surroundings, some long; and what was planted."""
    draw, hidden = random.Random(SEED), list[str]()
    made = {number: _text(draw, hidden, number) for number in range(NUMBER)}
    return made | {7: "  "}, hidden


def _text(draw: random.Random, hidden: list[str], number: int) -> str:
    words = draw.choices(WORDS, k=900 if number % 60 == 11 else 30)
    for _ in range(number % 4):
        own = MAKERS[draw.choice(list(MAKERS))](draw)
        hidden.append(own)
        words.insert(draw.randrange(len(words)), draw.choice(["{}", "({}),", "at:{};", '"{}"', "{}\n\n"]).format(own))
    return " ".join(words)


def job(folder: Path, mode: str | None, **settings: Any) -> JobResult:  # noqa: ANN401
    source = documents(folder / "texts.jsonl", NUMBER, special=planted()[0])
    config = SynthesizerConfig(
        **{
            "model": "test_marking:echoing",
            "shots": 3,
            "pii": mode,
            "long_documents": "split",
            "window": 4096,
            **settings,
        }
    )
    engine = EngineConfig("scripted")
    return synthesize(Source(str(source)), folder / "out", config, engine=engine, shard_rows=60)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]


def counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the rows say was found."""
    holding = [row["synthesis"]["identifiers"] for row in rows if row["synthesis"]["identifiers"]]
    out = [row for row in rows if any(one["reason"] == "identifier" for one in row["synthesis"]["rejected"])]
    kinds = dict(sorted(Counter(kind for own in holding for kind in own).items()))
    return {"documents": len(holding), "documents_out": len(out), "kinds": kinds}


def in_texts() -> dict[str, int]:
    return dict(sorted(Counter(str(one.kind) for text in planted()[0].values() for one in identifiers(text)).items()))


# --- texts ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(sorted(MAKERS))), max_size=8), st.integers(0, 2**32))
def test_a_marked_text_has_no_identifier_and_says_where_each_was(pieces: list[str], seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(MAKERS[piece](draw) if piece in MAKERS else piece for piece in pieces)
    found = Marking("mark").cleared(text)
    assert not identifiers(found.text)
    for kind, place in zip(found.kinds, found.places, strict=True):
        assert found.text[place:].startswith(f"<{kind.upper()}>")
    assert found.kinds == tuple(str(one.kind) for one in identifiers(text)) == found.within(0, len(found.text))
    assert Marking("drop").cleared(text) == found
    assert Marking("report").cleared(text).text == text and Marking("report").cleared(text).kinds == found.kinds


def test_what_touches_an_identifier_is_found_too() -> None:
    assert marked("Ask a.b@lamp.org+49 30 201 1021 or hf_" + "aB3" * 12 + "+49 30 201 1021.") == (
        "Ask <EMAIL><PHONE> or <KEY><PHONE>."
    )


def test_a_document_is_looked_through_once_and_its_persona_marked() -> None:
    document = Document("d", "Ask a.b@lamp.org.", persona="keeper@lamp.org")
    clean = Marking("mark").document(document)
    assert (clean.text, clean.persona, clean.identifiers) == ("Ask <EMAIL>.", "<EMAIL>", ("email",))
    assert Marking("mark").document(clean) is clean
    assert Marking("report").document(document).text == document.text
    assert Marking("drop").document(Document("d", None)) == Document("d", None, identifiers=())


def test_a_recipe_says_what_becomes_of_identifiers() -> None:
    recipe = SynthesizerConfig("m", pii="mark")
    assert SynthesizerConfig.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert "pii" not in SynthesizerConfig("m").to_dict()
    assert recipe.fingerprint != SynthesizerConfig("m").fingerprint
    with pytest.raises(ConfigError, match="pii must be one of mark, drop, report"):
        SynthesizerConfig("m", pii="hide")


# --- jobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"model": "mined", "shots": 1}, {"fill": "mined", "long_documents": "truncate"}])
def test_no_prompt_pair_or_text_quotes_what_is_marked(tmp_path: Path, more: dict[str, Any]) -> None:
    result = job(tmp_path, "mark", **more)
    texts, hidden = planted()
    assert len(hidden) > 300 and (ASKED or more.get("model") == "mined")
    rows = rows_of(tmp_path / "out")
    hfsynth.render(tmp_path / "out")
    seen = [json.dumps(rows, ensure_ascii=False), *ASKED]
    seen += [text for path in (tmp_path / "out" / "data").iterdir() for text in pq.read_table(path)["text"].to_pylist()]
    assert not [one for one in hidden if any(one in text for text in seen)]
    assert not any(identifiers(pair[name]) for row in rows for pair in row["pairs"] for name in pair)
    assert not any(map(identifiers, ASKED))
    told = result.stats["pii"]
    assert told == {"mode": "mark", **counted(rows)} and told["kinds"] == in_texts()
    whole: dict[str, str] = {}
    for row in rows:
        name = row.get("source_id") or row["id"]
        assert len(whole.get(name, "")) == row.get("offset", 0)
        whole[name] = whole.get(name, "") + row["text"]
        marks = Counter(kind for kind in MAKERS for _ in range(row["text"].count(mark_of(kind))))
        assert marks == Counter(row["synthesis"]["identifiers"])
    assert list(whole.values()) == [marked(text) for text in texts.values()]
    assert more or len(rows) > NUMBER
    assert all(row["synthesis"]["truncated"] < len(row["text"]) for row in rows if row["text"].strip())


def test_dropped_documents_are_screened_and_no_model_is_asked(tmp_path: Path) -> None:
    result = job(tmp_path, "drop")
    texts, hidden = planted()
    rows = rows_of(tmp_path / "out")
    expected = [f"d{number}" for number, text in texts.items() if identifiers(text)]
    out = [row for row in rows if row["synthesis"]["status"] == "screened"]
    assert [row["id"] for row in out] == expected
    assert all(not row["pairs"] and row["offset"] == 0 for row in out)
    assert [row["text"] for row in out] == [marked(texts[int(row["id"][1:])]) for row in out]
    first = out[0]["synthesis"]
    assert first["rejected"] == [{"reason": "identifier", "text": ", ".join(sorted(set(first["identifiers"])))}]
    assert not any("<EMAIL>" in prompt for prompt in ASKED) and not [one for one in hidden if one in str(rows)]
    told = result.stats["pii"]
    assert told == {"mode": "drop", **counted(rows)}
    assert told["documents_out"] == told["documents"] == result.stats["documents"]["screened"] == len(expected)
    assert result.stats["rejected"]["identifier"] == len(expected)


def test_a_report_counts_and_changes_nothing_else(tmp_path: Path) -> None:
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    result = job(tmp_path / "with", "report")
    without = job(tmp_path / "without", None)
    rows, others = rows_of(tmp_path / "with" / "out"), rows_of(tmp_path / "without" / "out")
    assert [(row["text"], row["pairs"]) for row in rows] == [(row["text"], row["pairs"]) for row in others]
    assert result.stats["pii"] == {"mode": "report", **counted(rows)} and counted(rows)["kinds"] == in_texts()
    assert "pii" not in without.stats and "identifiers" not in others[0]["synthesis"]


def test_benchmarks_and_identifiers_are_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFSYNTH_CACHE", str(tmp_path / "cache"))
    question = "Why did the keeper of the northern lamp row across the bay in the winter of the great storm?"
    (tmp_path / "suite.jsonl").write_text(json.dumps({"question": question}) + "\n")
    source = documents(tmp_path / "texts.jsonl", 6, special={1: question, 4: "Ask a.b@lamp.org about it."})
    config = SynthesizerConfig("scripted", decontaminate=str(tmp_path / "suite.jsonl"), pii="drop")  # type: ignore[arg-type]
    result = synthesize(Source(str(source)), tmp_path / "out", config, engine=EngineConfig("scripted"))
    assert result.stats["documents"]["screened"] == 2
    assert result.stats["decontamination"]["documents_out"] == result.stats["pii"]["documents_out"] == 1


# --- the command line -------------------------------------------------------------------------------------------------


def called(*words: object) -> int:
    argv, sys.argv = sys.argv, ["hfsynth", *map(str, words)]
    try:
        app.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
    return 0


def test_a_walk_from_a_job_to_a_card_and_again_by_its_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = documents(tmp_path / "texts.jsonl", NUMBER, special=planted()[0]), tmp_path / "out"
    asked = ["synthesize", source, out, "--engine", "scripted", "--workers", 0, "--quiet"]
    assert called(*asked, "--pii", "mark") == 0
    told, rows = stats(out)["pii"], rows_of(out)
    sentence = (
        f"Before pairs were written, identifiers in {counted(rows)['documents']:,} documents were replaced by marks"
    )
    assert sentence in capsys.readouterr().out.replace("\n", " ")
    assert called("card", out, "--license", "cc0-1.0") == 0
    card = (out / "README.md").read_text()
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in counted(rows)["kinds"].items())
    assert f"{sentence} ({kinds})." in card and "replaced by marks before pairs were written" in card
    assert "Not screened for benchmark questions, duplicates or languages." in card
    assert json.loads((out / "synthesizer_config.json").read_text())["pii"] == "mark"
    assert called(*asked, "--pii", "drop") == 1
    assert "synthesizer.pii is 'mark' there and 'drop' here" in capsys.readouterr().err
    assert called(*asked) == 1
    again = ["synthesize", source, tmp_path / "again", *asked[3:], "--recipe", out / "synthesizer_config.json"]
    assert called(*again) == 0
    assert parts(tmp_path / "again") == parts(out) and stats(tmp_path / "again")["pii"] == told
    assert called("screen", out, "--pii", "mark", "--workers", 0, "--quiet") == 0
    assert stats(out)["pii"] == told and rows_of(out) == rows
    [step] = stats(out)["screen"]["steps"]
    assert step["documents"] == step["pairs"] == 0 and step["kinds"] == {}
    assert called(*asked[:2], tmp_path / "bad", *asked[3:], "--pii", "hide") == 2
    assert "pii must be one of mark, drop, report" in capsys.readouterr().err


def test_a_job_that_marks_is_killed_again_and_again(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", NUMBER, special=planted()[0])
    options = (*scripted(latency=0.02), "--shots", 2, "--shard-rows", 40, "--pii", "mark")
    quick = (*scripted(), *options[-6:])
    run(command(source, tmp_path / "whole", *quick, "--workers", 0))
    out, log, kills = tmp_path / "out", tmp_path / "calls", 3
    process = start(command(source, out, *options), log)
    for kill in range(kills):
        noted = 30 * (kill + 1)
        assert until(lambda noted=noted: log.exists() and len(log.read_text().splitlines()) > noted, process)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = start(command(source, out, *options), log)
    assert ended(process)[0] == 0
    assert parts(out) == parts(tmp_path / "whole")
    assert stats(out)["pii"] == stats(tmp_path / "whole")["pii"] == {"mode": "mark", **counted(rows_of(out))}
    assert not [one for one in planted()[1] if one in log.read_text()]


# --- datasets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mark", "drop", "report"])
def test_map_marks_the_text_column(tmp_path: Path, mode: str) -> None:
    texts = list(planted()[0].values())
    ds = Dataset.from_dict({"title": [f"t{n}" for n in range(NUMBER)], "body": texts})
    made = Synthesizer("test_marking:echoing", pii=mode, engine="scripted", text_column="body", shots=2)
    mapped = made.map(ds)
    assert mapped.features == made.features(ds.features)
    assert mapped["body"] == (texts if mode == "report" else list(map(marked, texts)))
    rows = [dict(row) for row in mapped]
    saved = hfsynth.save_corpus(tmp_path / "saved", pairs=mapped, synthesizer=made, source="texts.jsonl")
    assert saved.stats["pii"] == {"mode": mode, **counted(rows)} and counted(rows)["kinds"] == in_texts()
    assert (counted(rows)["documents_out"] > 0) == (mode == "drop")
    stream = list(made.map(ds.to_iterable_dataset()))
    assert [row["body"] for row in stream] == mapped["body"]
    assert [row["pairs"] for row in stream] == mapped["pairs"]


def test_one_row_at_a_time(tmp_path: Path) -> None:
    ds = Dataset.from_dict({"text": ["Ask a.b@lamp.org.", "A lamp."]})
    made = Synthesizer("scripted", pii="mark", engine="scripted")
    mapped = ds.map(made, features=made.features(ds.features))
    assert mapped["text"] == ["Ask <EMAIL>.", "A lamp."]
    assert mapped["synthesis"][0]["identifiers"] == ["email"]


def test_exemplars_with_identifiers_are_not_shown(tmp_path: Path) -> None:
    texts = ["A lamp, number 0.", "Ask a.b@lamp.org.", "A lamp, number 2."]
    rows = [{"context": text, "pairs": [{"instruction": "What is it?", "response": "So."}]} for text in texts]
    path = tmp_path / "exemplars.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    exemplars = Exemplars(str(path), sets=8)
    chosen = Synthesizer("scripted", exemplars=exemplars, pii="mark", engine="scripted").config.exemplars
    assert chosen and sorted(one.context for one in chosen.chosen) == [texts[0], texts[2]]
    pinned = Synthesizer("scripted", exemplars=exemplars, pii="report", engine="scripted").config.exemplars
    assert pinned and len(pinned.chosen) == 3
    with pytest.raises(ConfigError, match="they hold personal identifiers"):
        Synthesizer("scripted", exemplars=pinned, pii="drop", engine="scripted")


def test_a_folder_holds_one_way(tmp_path: Path) -> None:
    job(tmp_path, "report")
    with pytest.raises(OutputError, match="pii is 'report' there and None here"):
        job(tmp_path, None)
