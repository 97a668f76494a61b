"""Which exemplars are chosen: a few of each stratum, short and rich in pairs, none that a benchmark holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hfsynth
from hfsynth.core.errors import ColumnError, ConfigError, SourceError
from hfsynth.core.exemplars import Exemplars
from hfsynth.quality.exemplars import settled_exemplars


def row(name: str, *, kind: str = "who", language: str = "en", pairs: int = 1, long: int = 0) -> dict[str, Any]:
    asked = [{"instruction": f"Question {n} of {name}?", "response": f"Answer {n}"} for n in range(pairs)]
    labels = {"task": kind, "domain": "towns", "lang": language, "license": "CC-BY-4.0"}
    return {"id": name, "context": f"Text {name}." + " And more." * long, "pairs": asked, **labels}


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)


def chosen(path: str, **settings: Any) -> list[str]:  # noqa: ANN401
    return [one.id for one in settled_exemplars(Exemplars(path, **settings)).chosen]


def test_sets_are_of_one_stratum_and_of_as_many_kinds_as_there_are(tmp_path: Path) -> None:
    rows = [row(f"{kind}{n}", kind=kind) for kind in ("who", "why", "how") for n in range(5)]
    path = written(tmp_path, rows)
    found = chosen(path, per_prompt=2, sets=3)
    assert len(found) == len({*found}) == 6
    kinds = [name[:3] for name in found]
    assert kinds[::2] == kinds[1::2]
    assert {*kinds} == {"who", "why", "how"}
    assert chosen(path, per_prompt=2, sets=3) == found


def test_sets_are_counted_in_each_language(tmp_path: Path) -> None:
    rows = [row(f"{code}{n}", language=code) for code in ("en", "de") for n in range(20)]
    found = chosen(written(tmp_path, rows), sets=3)
    assert sorted(name[:2] for name in found) == ["de"] * 3 + ["en"] * 3


def test_short_contexts_with_many_pairs_are_taken_first(tmp_path: Path) -> None:
    rows = [row(f"long{n}", pairs=5, long=50) for n in range(30)] + [row(f"short{n}") for n in range(9)]
    rows.append(row("rich", pairs=4))
    assert chosen(written(tmp_path, rows), sets=1) == ["rich"]


def test_what_is_pinned_is_found_again_whatever_its_file_is_called(tmp_path: Path) -> None:
    path = written(tmp_path, [row(str(n)) for n in range(4)])
    made = settled_exemplars(Exemplars(path))
    assert (made.source, made.revision) == ("tasks.jsonl", None)
    assert settled_exemplars(made) == made
    assert {one.license for one in made.chosen} == {"CC-BY-4.0"}
    written(tmp_path, [row(str(n), pairs=2) for n in range(4)])
    with pytest.raises(ConfigError, match="other ones are chosen there"):
        settled_exemplars(Exemplars(path, digest=made.digest))


def test_kind_and_language_are_told_by_rules_where_no_column_does(tmp_path: Path) -> None:
    pairs = [{"instruction": "Why did the people of the old town build a bridge?", "response": "To cross the river."}]
    text = "The people of the old town built a bridge over the river because they wanted to cross it in winter."
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({"context": text, "pairs": pairs}) + "\n")
    (one,) = settled_exemplars(Exemplars(str(path))).chosen
    assert (one.kind, one.domain, one.language, len(one.id)) == ("why", "tasks", "en", 16)


def test_what_a_benchmark_holds_is_left_out_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [row(str(n)) for n in range(4)])
    everything = settled_exemplars(Exemplars(path))
    known = ("Text 1.", "Question 0 of 2?\nAnswer 0")
    made = hfsynth.choose_exemplars(path, flagged=lambda text: text in known)
    assert {one.id for one in made.chosen} == {"0", "3"}
    with pytest.raises(ConfigError, match="no stratum of 1 exemplars.*4 of them in a benchmark"):
        settled_exemplars(Exemplars(path), lambda text: True)
    with pytest.raises(ConfigError, match="1 of the recipe's 4 exemplars must not be shown, .*: 3"):
        hfsynth.choose_exemplars(everything, flagged=lambda text: text == "Text 3.")


def test_strata_that_are_too_small_say_how_large_they_are(tmp_path: Path) -> None:
    path = written(tmp_path, [row("a"), row("b", kind="why"), row("c", kind="why")])
    assert chosen(path, per_prompt=2) == chosen(path, per_prompt=2)
    assert {*chosen(path, per_prompt=2)} == {"b", "c"}
    with pytest.raises(ConfigError, match=r"tasks.jsonl has no stratum of 3 exemplars: the largest of 2 \(why, towns"):
        chosen(path, per_prompt=3)


def test_files_without_the_columns_or_without_a_pair_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="task data needs `context` and `pairs`"):
        chosen(written(tmp_path, [{"text": "A text."}]))
    with pytest.raises(
        SourceError, match="no row with a context and at least one whole pair: 1 half_a_pair, 1 no_pairs"
    ):
        chosen(written(tmp_path, [{"context": "A", "pairs": [{"instruction": "Who?", "response": " "}]}]))
    with pytest.raises(SourceError, match="No such file"):
        chosen(str(tmp_path / "none.parquet"))


def test_exemplars_that_no_recipe_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a recipe holds 500,000 at most"):
        chosen(written(tmp_path, [row(str(n), long=20_000) for n in range(4)]))
