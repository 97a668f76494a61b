"""A job that is looked at while it runs: rows from its journal with their documents, figures, and rows that move."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_corpora import slow_job

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.records import Counts
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.progress import Progress
from hfsynth.job.run import synthesize
from hfsynth.page.answering import CorpusAnswers
from hfsynth.page.filters import Filters, fits
from hfsynth.page.looking import LIVE, CorpusLook, told_progress
from hfsynth.page.rows import UNDER_WAY, row_of

NO_FILTERS = ("", "", "", "", "", 0, 0, "", LIVE)


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:  # noqa: ANN401
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def looked(look: CorpusLook, filters: Filters = Filters()) -> tuple[tuple[str, int], ...]:  # noqa: B008 - frozen
    look.again()
    return look.listed(filters, LIVE).rows


def test_rows_of_unfinished_shards_are_shown_with_their_documents(tmp_path: Path) -> None:
    with slow_job(tmp_path / "corpus", documents=40, shard_rows=20) as root:
        look = CorpusLook(str(root))
        label, number = until(lambda: looked(look))[0]
        assert number >= UNDER_WAY and "tides" in label
        shown = look.shown(number)
        assert "about the tides" in shown.document and "<mark>" in shown.document
        assert shown.chain.count("<summary>Shot ") == 2 and "in every style" not in shown.texts
        assert until(lambda: look.figures().total) and look.figures().state == "running"
        assert looked(look, Filters(text="ABOUT THE")) and not looked(look, Filters(status="failed"))
        assert look.documents(number, 3, 1000)[0].startswith("Document")
        assert [name for _, name in look.choices()["split"]] == [LIVE, ""]
        scope: dict[str, Any] = {}
        exec(look.ways(Filters(text="tides"), LIVE).python, scope)
        assert scope["rows"] and scope["rows"][0].pairs
        until(lambda: (look.again(), len(look.corpus.rows))[1])
        exec(look.ways(Filters(status="ok")).python, scope)
        assert len(scope["rows"]) >= 20
    look.again()
    assert not look.corpus.running and len(look.corpus.rows) == 40


def test_a_row_that_is_looked_at_stays_when_its_shard_and_the_job_end(tmp_path: Path) -> None:
    with slow_job(tmp_path / "corpus", documents=24, shard_rows=4) as root:
        look = CorpusLook(str(root))
        answers = CorpusAnswers(look)
        number = until(lambda: looked(look))[0][1]
        name = look.shown(number).document
        until(lambda: (look.again(), look.moved(number))[1] != number)
        assert answers.again(False, number, [None], *NO_FILTERS)[4:] == [{"__type__": "update"}] * 9
        rows, *_, document, _, _, _, _ = until(
            lambda: (found := answers.again(True, number, [None], *NO_FILTERS)[4:])[0].get("choices") and found
        )
        assert rows["value"] == rows["choices"][0][1] != number and document != name
        assert look.shown(number).document == look.shown(look.moved(number) or 0).document == name
        until(lambda: (look.again(), not look.corpus.running)[1])
    now = look.moved(number)
    summary, _, timer, splits, rows, *others = answers.again(False, number, [None], *NO_FILTERS)
    assert "finished" in summary and timer["active"] is False and splits["value"] == "train"
    assert others[-5:] == [{"__type__": "update"}] * 5
    assert rows["value"] == now and look.shown(now or 0).document == name


def test_the_job_is_the_same_whether_it_was_looked_at_or_not(tmp_path: Path) -> None:
    with slow_job(tmp_path / "one", documents=30, shard_rows=10) as root:
        before = {path.name for path in (root / ".hfsynth").iterdir()}
        look = CorpusLook(str(root))
        while look.corpus.running:
            for _, number in looked(look):
                look.shown(number)
    with slow_job(tmp_path / "other", documents=30, shard_rows=10) as other:
        pass
    assert (root / "pairs").is_dir() and "job.json" in before
    parts = [sorted((folder / "pairs").glob("*.parquet")) for folder in (root, other)]
    assert [one.read_bytes() for one in parts[0]] == [one.read_bytes() for one in parts[1]]


def test_a_source_that_is_gone_leaves_the_pairs(tmp_path: Path) -> None:
    with slow_job(tmp_path / "corpus", documents=30, shard_rows=30) as root:
        until(lambda: CorpusLook(str(root)).listed(Filters(), LIVE).rows)
        moved = root.parent / "corpus.jsonl"
        content = moved.read_bytes()
        moved.rename(root.parent / "elsewhere.jsonl")
        look = CorpusLook(str(root))
        label, number = until(lambda: looked(look))[0]
        shown = look.shown(number)
        (root.parent / "corpus.jsonl").write_bytes(content)
    assert "How does the text begin?" in label and "How does the text begin?" in shown.pairs
    assert "is not here yet" in shown.document and "not in the document" not in shown.pairs
    assert look.documents(number, 1, 100) in ([""], [content.decode()[:0]])


def test_a_stopped_job_shows_what_was_under_way(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps({"text": f"Document {n} is about the tides."}) + "\n" for n in range(40)))
    program = (
        "from hfsynth import *; import os, threading; threading.Timer(2, os._exit, [9]).start(); "
        f"synthesize(Source({str(source)!r}), {str(tmp_path / 'corpus')!r}, SynthesizerConfig(model='scripted'), "
        "engine=ScriptedEngine(latency=0.2, max_in_flight=2), shard_rows=40)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    look = CorpusLook(str(tmp_path / "corpus"))
    assert look.first_split() == LIVE and look.listed(Filters(), LIVE).rows
    recipe = SynthesizerConfig(model="scripted")
    synthesize(Source(str(source)), tmp_path / "corpus", recipe, engine=ScriptedEngine(), shard_rows=40)
    look.again()
    assert len(look.listed(Filters(), LIVE).rows) == 20 and look.first_split() == "train"


@pytest.mark.parametrize(
    ("asked", "fit"),
    [
        ({}, True),
        ({"status": "ok"}, True),
        ({"status": "failed"}, False),
        ({"reason": "no_answer"}, True),
        ({"reason": "repetition"}, False),
        ({"text": "CORDOUAN"}, True),
        ({"text": "in 1824"}, True),
        ({"text": "andes"}, False),
        ({"grounding": 0.5}, True),
        ({"grounding": 0.0}, False),
        ({"kind": "definition"}, False),
        ({"prompt": "qa"}, False),
        ({"style": "classic"}, False),
        ({"accuracy": 0.5}, False),
    ],
)
def test_a_row_in_memory_fits_as_one_in_a_file_does(asked: dict[str, Any], fit: bool) -> None:
    synthesis = {"status": "ok", "rejected": [{"reason": "no_answer", "text": "What?"}]}
    pairs = [{"instruction": "When?", "response": "In 1824, by Napoleon."}]
    values = {"text": "The lamp was lit at Cordouan.", "pairs": pairs, "synthesis": synthesis}
    assert fits(row_of(values, 0), Filters(**asked)) == fit


def test_a_job_without_workers_is_told_to_go_on_unless_it_is_being_put_together() -> None:
    unfinished, over = (told_progress(Progress(Counts(), rows, 8, 1.0)) for rows in (5, 8))
    assert "Nobody works on it" in unfinished and "again" in unfinished
    assert "Nobody" not in over and "put together now" in over
    assert "Nobody" not in told_progress(Progress(Counts(), 5, 8, 1.0, workers=1))
