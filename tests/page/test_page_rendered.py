"""The training texts of a corpus found by its rows: their styles, and the text that a row is in, of any files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from loopback_hub.server import Hub
from page_corpora import large_corpus

from hfsynth.core.config import SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.page.filters import Filters, find
from hfsynth.page.looking import CorpusLook
from hfsynth.page.opening import open_corpus
from hfsynth.texts.calls import render

EVEN = {name: 1.0 for name in ("classic", "dialogue", "numbered", "inline_few_shot", "next_turn")}


def rendered(root: Path, *, group: int | None = None, **options: Any) -> Path:  # noqa: ANN401
    """Make a corpus of 120 documents, some of them empty, and its texts, in row groups of so many rows."""
    source = root.parent / f"{root.name}.jsonl"
    texts = ["" if n % 17 == 0 else f"Document {n} is about the tides. They rise twice a day." for n in range(120)]
    source.write_text("".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    recipe = SynthesizerConfig(model="scripted", shots=3)
    synthesize(Source(str(source)), root, recipe, engine=ScriptedEngine(), shard_rows=45)
    render(root, seed=1, **options)
    if group:
        for path in (*root.glob("pairs/*.parquet"), *root.glob("data/*.parquet")):
            pq.write_table(pq.read_table(path), path, row_group_size=group)
    return root


def styles_of(root: Path) -> dict[tuple[str, str], str]:
    texts = [row for path in root.glob("data/*.parquet") for row in pq.read_table(path).to_pylist()]
    return {(text["chain"], one): text["style"] for text in texts for one in text["source_ids"]}


@pytest.mark.parametrize("group", [None, 1, 4, 7])
def test_rows_are_found_by_the_style_of_their_text(tmp_path: Path, group: int | None) -> None:
    root = rendered(tmp_path / "corpus", group=group, styles=EVEN, validation=0.3)
    opened, styles = open_corpus(root), styles_of(root)
    rows = opened.rows.read(0, len(opened.rows))
    seen: list[int] = []
    for style in {*(style.partition("+")[0] for style in styles.values()), "raw"}:
        expected = [row.number for row in rows if f"{styles.get((row.chain, row.id))}+".startswith(f"{style}+")]
        found = find(opened.rows, Filters(style=style), texts=opened.texts, limit=500, seconds=60)
        assert list(found.numbers) == expected and found.ended, style
        seen += expected
    assert len(seen) == len(styles) and len({*styles.values()}) >= 4
    assert find(opened.rows, Filters(style="dialogue+inverted"), texts=opened.texts, limit=500).numbers
    assert find(opened.rows, Filters(style="classic")).numbers == ()  # without the texts no row has a style


def test_a_search_by_style_can_begin_anywhere(tmp_path: Path) -> None:
    root = rendered(tmp_path / "corpus", group=5, styles=EVEN)
    whole, late = open_corpus(root), open_corpus(root)
    for style in EVEN:
        numbers = find(whole.rows, Filters(style=style), texts=whole.texts, limit=500).numbers
        some = find(late.rows, Filters(style=style), texts=late.texts, start=60, limit=500).numbers
        assert some == tuple(number for number in numbers if number >= 60)


@pytest.mark.parametrize("group", [None, 4])
def test_the_text_that_a_row_is_in(tmp_path: Path, group: int | None) -> None:
    root = rendered(tmp_path / "corpus", group=group, styles=EVEN, validation=0.3, pair_spans=True)
    opened, styles = open_corpus(root), styles_of(root)
    assert opened.texts is not None and opened.texts.are_there
    for row in opened.rows.read(0, len(opened.rows)):
        text = opened.texts.text_of(row)
        if text is None:
            assert (row.chain, row.id) not in styles
            continue
        assert text.style == styles[row.chain, row.id] and row.text in text.text
        assert text.split in ("train", "validation") and len(text.spans) == text.pairs


def test_the_view_says_the_style_and_shows_the_text(tmp_path: Path) -> None:
    root = rendered(tmp_path / "corpus", styles={"dialogue": 1.0, "inverted": 0.0}, pair_spans=True)
    look = CorpusLook(str(root))
    assert ("dialogue (", "dialogue") in [(label[:10], name) for label, name in look.choices()["style"]]
    shown = look.shown(1)
    assert "of the style dialogue" in shown.chain
    assert "The training text of the corpus" in shown.texts and "<mark>" in shown.texts
    scope: dict[str, Any] = {}
    exec(look.ways(Filters(style="dialogue"), "train").python.rpartition("print")[0], scope)
    assert scope["rows"]["id"] == [f"d{number}" for number in range(120) if number % 17]


def test_without_texts_there_is_no_such_filter(tmp_path: Path) -> None:
    look = CorpusLook(str(large_corpus(tmp_path / "corpus", 1_000, files=1)))
    assert look.choices()["style"] == [] and "of the style" not in look.shown(0).chain


def test_texts_of_a_repo_on_the_hub(tmp_path: Path) -> None:
    root = rendered(tmp_path / "corpus", styles={"numbered": 1.0, "inverted": 0.0})
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.parquet")}
    program = (
        "from hfsynth.page.looking import *; look = CorpusLook('user/corpus'); "
        "print(len(look.listed(Filters(style='numbered')).rows),"
        " 'of the style numbered' in look.shown(1).chain)"
    )
    with Hub() as hub:
        hub.commit("user/corpus", files)
        done = hub.run([sys.executable, "-c", program], hub.env(tmp_path))
    assert done.stdout.split("\n")[0] == "20 True"
