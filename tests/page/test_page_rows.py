"""Opening a corpus to look at it, finding rows, the words of answers, chains and figures: all without a page."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub.server import Hub
from page_corpora import everything, large_corpus, row, small_corpus

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.errors import OutputError
from hfsynth.documents.source import Source
from hfsynth.job.run import synthesize
from hfsynth.page.figures import figures_of, reasons_of, statuses_of
from hfsynth.page.filters import Filters, find
from hfsynth.page.marks import answer_spans, foreign_spans
from hfsynth.page.opening import open_corpus
from hfsynth.quality.measures import grounding


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return everything(tmp_path / "corpus")


def found(root: Path, **asked: object) -> list[int]:
    return list(find(open_corpus(root).rows, Filters(**asked)).numbers)  # type: ignore[arg-type]


def test_a_folder_is_opened_without_reading_its_rows(corpus: Path) -> None:
    opened = open_corpus(corpus)
    assert len(opened.rows) == 13 and opened.shots == 2 and not opened.running
    assert opened.rows.splits == {"train": 13}
    assert opened.rows.row(4).text == "灯台は海を照らす。"
    assert opened.rows.row(1).rejected == [("no_answer", "What is <b>that</b>?")]
    assert opened.rows.row(0).others == {"domain": "tests"}


def test_rows_go_on_from_file_to_file(tmp_path: Path) -> None:
    rows = [row(number, f"text {number}") for number in range(10)]
    opened = open_corpus(small_corpus(tmp_path / "corpus", rows, files=3))
    assert [one.text for one in opened.rows.read(2, 6)] == [f"text {number}" for number in range(2, 8)]
    assert [one.number for one in opened.rows.read(8, 6)] == [8, 9]
    with pytest.raises(OutputError, match="no row 11; there are 10"):
        opened.rows.row(10)


def test_what_is_no_corpus_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is no folder") as missing:
        open_corpus(tmp_path / "nothing")
    assert "hfsynth synthesize" in missing.value.hint
    with pytest.raises(OutputError, match="no corpus"):
        open_corpus(tmp_path)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "train-00000-of-00001.parquet").write_bytes(b"not Parquet")
    with pytest.raises(OutputError, match="damaged"):
        open_corpus(tmp_path)


def test_other_columns_than_a_corpus_has_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    for columns in ({"body": ["a"]}, {"text": ["a"], "pairs": ["b"]}, {"text": [1], "pairs": [[]]}):
        pq.write_table(pa.table(columns), tmp_path / "pairs" / "train-00000-of-00001.parquet")
        with pytest.raises(OutputError, match="has the columns"):
            open_corpus(tmp_path)


def test_rows_are_found_by_what_is_asked(corpus: Path) -> None:
    assert found(corpus, status="no_pairs") == [2]
    assert found(corpus, status="failed") == []
    assert found(corpus, reason="no_answer") == [1, 2]
    assert found(corpus, reason="no_answer", status="ok") == [1]
    assert found(corpus, text="ANDES") == [1]
    assert found(corpus, text="napoleon") == [0]  # in a pair alone
    assert found(corpus, text="照らす") == [4]
    assert found(corpus, text="<script>") == [6]
    assert found(corpus, text="zyx") == []
    assert found(corpus, grounding=0.5) == [0]
    assert found(corpus, kind="definition") == []
    assert found(corpus, accuracy=0.5) == []  # no judge was asked
    assert found(corpus, prompt="qa") == []


def test_a_page_goes_on_where_the_last_one_ended(corpus: Path) -> None:
    rows = open_corpus(corpus).rows
    first = find(rows, Filters(status="ok"), limit=4)
    assert first.numbers == (0, 1, 4, 5) and not first.ended
    second = find(rows, Filters(status="ok"), start=first.seen, limit=40)
    assert second.numbers == tuple(range(6, 13)) and second.ended
    assert find(rows, Filters(), start=10, limit=2).numbers == (10, 11)
    assert find(rows, Filters(status="ok"), end=5).numbers == (0, 1, 4)


def test_a_search_gives_up_in_time_and_says_how_far_it_came(tmp_path: Path) -> None:
    rows = open_corpus(large_corpus(tmp_path / "corpus", 20_000, files=2, group=2_000)).rows
    ticks = iter(range(1_000))
    part = find(rows, Filters(text="nowhere"), seconds=2, clock=lambda: float(next(ticks)))
    assert part.numbers == () and not part.ended and 0 < part.seen < 20_000
    whole = find(rows, Filters(text="nowhere"), seconds=60)
    assert whole.ended and whole.seen == 20_000
    slow = find(rows, Filters(grounding=0.1), seconds=1, clock=lambda: float(next(ticks)))
    assert 0 < slow.seen < 2_000


def test_one_row_in_a_thousand_is_found_without_holding_the_others(tmp_path: Path) -> None:
    root = large_corpus(tmp_path / "corpus", 100_000, files=4, group=5_000)
    tracemalloc.start()
    rows = open_corpus(root).rows
    seen = find(rows, Filters(status="no_pairs"), limit=1_000, seconds=60)
    assert seen.numbers == tuple(range(999, 100_000, 1_000)) and seen.ended
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


def test_a_judges_verdicts_can_be_asked_for(tmp_path: Path) -> None:
    judged = [
        {**row(number, "text", [("a", "b")]), "verdicts": [{"relevance": 0.9, "accuracy": score, "unjudged": None}]}
        for number, score in enumerate((0.9, 0.2, None))
    ]
    root = small_corpus(tmp_path / "corpus", judged)
    assert found(root, accuracy=0.5) == [1]
    assert open_corpus(root).rows.row(1).verdicts[0]["accuracy"] == 0.2


def test_the_chain_around_a_row(corpus: Path) -> None:
    rows = open_corpus(corpus).rows
    assert [one.number for one in rows.chain(1)] == [0, 1]
    assert [one.number for one in rows.chain(0)] == [0, 1]
    assert [one.number for one in rows.chain(6)] == [6]


def test_the_words_of_an_answer_are_marked_where_the_document_has_them() -> None:
    text = "The first Fresnel lens was installed in 1823 at Cordouan. The lens is large."
    marked = [text[start:end] for start, end in answer_spans(text, "A lens, installed in 1,823 by three men")]
    assert marked == ["lens", "installed in 1823", "lens"]
    assert [text[a:b] for a, b in answer_spans(text, "installed in 1823 at Cordouan.")] == [
        "installed in 1823 at Cordouan."
    ]
    said = "Napoleon lit the lens in 1824"
    assert [said[a:b] for a, b in foreign_spans(text, said)] == ["Napoleon", "lit", "1824"]
    assert answer_spans("灯台は海を照らす。", "海を照らす") and answer_spans(text, "") == []


@given(st.text(max_size=200), st.text(max_size=60))
def test_marks_are_in_order_and_within_the_text(document: str, answer: str) -> None:
    spans = answer_spans(document, answer)
    assert all(0 <= start < end <= len(document) for start, end in spans)
    assert all(one[1] < other[0] or one[1] <= other[0] for one, other in zip(spans, spans[1:], strict=False))
    if document.isascii() and answer.isascii() and grounding(document, answer) == 1:
        assert foreign_spans(document, answer) == []


def test_figures_of_a_finished_corpus(corpus: Path) -> None:
    figures = figures_of(open_corpus(corpus))
    assert figures.state == "finished" and figures.total == 13
    assert dict(statuses_of(figures))["empty"] == 1 and dict(statuses_of(figures))["failed"] == 0
    assert reasons_of(figures)[0] == ("no_answer", 2)
    assert figures.tokens["prompt, computed"] == 104 and figures.recipe["model"] == "scripted"


def test_figures_that_only_some_corpora_have(corpus: Path) -> None:
    stats = json.loads((corpus / "stats.json").read_text())
    more = {
        "verify": {"scores": {"accuracy": [1, 0, 0, 0, 0, 0, 0, 0, 0, 4]}},
        "render": {"styles_drawn": {"classic": 3, "next_turn": 1}},
        "mix": {"parts": [{"name": "raw", "tokens": 70}]},
    }
    (corpus / "stats.json").write_text(json.dumps({**stats, **more}))
    figures = figures_of(open_corpus(corpus))
    assert figures.more["Pairs by what the judge said of their accuracy"]["0.9 to 1.0"] == 4
    assert figures.more["Training texts by style"] == {"classic": 3, "next turn": 1}
    assert figures.more["Tokens of the mixture by part"] == {"raw": 70}


def test_a_job_that_is_not_finished_shows_what_is_done(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps({"text": f"Document {n} is about tides."}) + "\n" for n in range(6)))
    root = tmp_path / "corpus"
    recipe = SynthesizerConfig(model="mined")
    synthesize(Source(str(source)), root, recipe, shard_rows=2, shards=(0, 1))
    opened = open_corpus(root)
    assert opened.running and len(opened.rows) == 2
    assert opened.rows.row(1).text == "Document 1 is about tides."
    figures = figures_of(opened)
    assert figures.state == "unfinished" and figures.total == 2 and figures.progress is not None
    synthesize(Source(str(source)), root, recipe, shard_rows=2)
    assert len(open_corpus(root).rows) == 6 and figures_of(open_corpus(root)).state == "finished"


def test_a_repo_on_the_hub_is_read_where_it_is(corpus: Path, tmp_path: Path) -> None:
    files = {path.relative_to(corpus).as_posix(): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    program = (
        "from hfsynth.page.opening import open_corpus; from hfsynth.page.filters import *; "
        "c = open_corpus('user/corpus'); print(len(c.rows), find(c.rows, Filters(status='no_pairs')).numbers, c.shots)"
    )
    with Hub() as hub:
        hub.commit("user/corpus", files)
        done = hub.run([sys.executable, "-c", program], hub.env(tmp_path))
    assert done.stdout.split("\n")[0] == "13 (2,) 2"
