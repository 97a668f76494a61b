"""The spans of pairs hold each pair as a whole and nothing else, in every style, through mixing and escaping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from test_mixing import word_tokenizer

from hfsynth.core.errors import ColumnError
from hfsynth.core.text import Escape
from hfsynth.texts.mixing import mix_datasets
from hfsynth.texts.mixture_parts import Part
from hfsynth.texts.pair_spans import moved, read_spans
from hfsynth.texts.rendering import render_dataset
from hfsynth.texts.training_texts import render_rows
from hfsynth.texts.wordings import STYLE_NAMES

Row = dict[str, Any]


def chain(name: str, documents: list[int]) -> list[Row]:
    """A chain of documents with so many pairs each; no two contents are alike."""
    return [
        {
            "id": f"{name}.{shot}",
            "text": f"document {name}.{shot}.",
            "pairs": [
                {"instruction": f"Query-{name}.{shot}.{n}?", "response": f"Reply-{name}.{shot}.{n}!"}
                for n in range(pairs)
            ],
            "synthesis": {"chain": name, "shot": shot, "follows": shot > 0},
        }
        for shot, pairs in enumerate(documents)
    ]


def held(row: Row) -> list[str]:
    return [row["text"][span["start"] : span["end"]] for span in row["pair_spans"]]


@pytest.mark.parametrize("style", STYLE_NAMES)
@pytest.mark.parametrize("inverted", [0.0, 1.0])
def test_spans_hold_a_pair_each_and_nothing_of_a_document(style: str, inverted: float) -> None:
    rows = [row for n in range(30) for row in chain(f"c{n}", [2, 0, 3])]
    styles = {style: 1.0, "inverted": inverted}
    plain = list(render_rows(rows, seed=1, styles=styles))
    spanned = list(render_rows(rows, seed=1, styles=styles, pair_spans=True))
    assert [{key: value for key, value in row.items() if key != "pair_spans"} for row in spanned] == plain
    for n, row in enumerate(spanned):
        pairs = [f"c{n}.{shot}.{place}" for shot, count in ((0, 2), (2, 3)) for place in range(count)]
        found = held(row)
        assert len(found) == row["num_pairs"] == len(pairs)
        assert all(f"Query-{pair}?" in one and f"Reply-{pair}!" in one for pair, one in zip(pairs, found, strict=True))
        assert all(one.count("Query-") == 1 and "document " not in one for one in found)
        rest = row["text"]
        for one in found:
            rest = rest.replace(one, "")
        assert "Query-" not in rest and "Reply-" not in rest


def test_a_dataset_and_a_mixture_of_it_say_where_their_pairs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    pairs = Dataset.from_list([row for n in range(6) for row in chain(f"c{n}", [1, 2])])
    assert "pair_spans" not in render_dataset(pairs, seed=1).column_names
    texts = render_dataset(pairs, seed=1, pair_spans=True)
    assert all(len(held(row)) == 3 for row in texts)
    asked = Dataset.from_list([{"question": f"q{n}", "response": f"r{n}"} for n in range(4)])
    raw = Dataset.from_list([{"text": f"raw {n}"} for n in range(4)])
    parts = [Part("ours", texts, "augmented"), Part("asked", asked, "general"), Part("raw", raw, "raw")]
    mixed = mix_datasets(parts, tokenizer=word_tokenizer())
    rows = {name: [row for row in mixed.dataset if row["source"] == name] for name in ("ours", "asked", "raw")}
    assert sorted(map(held, rows["ours"])) == sorted(map(held, texts))
    assert all(held(row) == [row["text"]] for row in rows["asked"])
    assert all(held(row) == [] for row in rows["raw"])
    assert "pair_spans" not in mix_datasets(parts[1:], tokenizer=word_tokenizer()).dataset.column_names


@given(before=st.text("<a> "), pair=st.text("<a> ", min_size=1), after=st.text("<a> "))
def test_spans_move_with_what_escaping_puts_in(before: str, pair: str, after: str) -> None:
    escape = Escape.of(["<a>", "a>"])
    text = before + pair + after
    clean = escape.escape(text)
    ((start, end),) = moved([(len(before), len(before) + len(pair))], text, clean)
    kept = (clean[:start], clean[start:end], clean[end:])
    assert [part.replace(" ", "") for part in kept] == [part.replace(" ", "") for part in (before, pair, after)]


@pytest.mark.parametrize("spans", [[(0, 9)], [(2, 1)], [(2, 3), (0, 1)], [(-1, 2)]])
def test_spans_that_are_not_of_the_text_are_named(spans: list[tuple[int, int]]) -> None:
    row = {"pair_spans": [{"start": start, "end": end} for start, end in spans]}
    with pytest.raises(ColumnError, match="must hold spans in order within the text; row 7") as error:
        read_spans(row, "text", 7)
    assert "--pair-spans" in error.value.hint
