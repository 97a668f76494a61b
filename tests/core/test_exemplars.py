"""Exemplars as a part of the recipe: read, pinned by content, drawn by seed and chain."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.core.exemplars import Exemplar, Exemplars, ExemplarSets, digest_of, public_recipe
from hfsynth.core.records import Pair


def exemplar(name: str, kind: str = "who", language: str = "en") -> Exemplar:
    return Exemplar(name, f"Text {name}.", (Pair(f"Question {name}?", f"Answer {name}"),), kind, "", language)


def pinned(*chosen: Exemplar, per_prompt: int = 1, **settings: Any) -> Exemplars:  # noqa: ANN401
    made = Exemplars("tasks.jsonl", per_prompt=per_prompt, chosen=chosen, **settings)
    return replace(made, digest=digest_of(made.chosen))


def test_a_name_is_a_file_or_a_data_set_with_its_revision() -> None:
    assert Exemplars.named("user/tasks@v2") == Exemplars("user/tasks", "v2")
    assert Exemplars.named("user/tasks") == Exemplars("user/tasks")
    assert Exemplars.named("/data/a@b/tasks.parquet") == Exemplars("/data/a@b/tasks.parquet")


def test_a_recipe_reads_back_what_it_wrote_and_its_content_is_a_part_of_what_it_is() -> None:
    bare = SynthesizerConfig("scripted")
    assert "exemplars" not in bare.to_dict()
    assert bare.fingerprint == SynthesizerConfig.from_dict(bare.to_dict()).fingerprint
    one = SynthesizerConfig("scripted", exemplars=pinned(exemplar("a"), exemplar("b")))
    assert SynthesizerConfig.from_dict(one.to_dict()) == one
    other = SynthesizerConfig("scripted", exemplars=pinned(exemplar("a"), exemplar("c")))
    assert len({bare.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert bare.extra_columns == ()
    assert one.extra_columns == ("exemplars", "exemplars_left_out")


def test_a_published_recipe_holds_exemplars_of_a_file_and_names_those_on_the_hub() -> None:
    file = SynthesizerConfig("scripted", exemplars=pinned(exemplar("a")))
    assert public_recipe(file.to_dict()) == file.to_dict()
    hub = SynthesizerConfig(
        "scripted", exemplars=replace(pinned(exemplar("a")), source="user/tasks", revision="c" * 40)
    )
    told = public_recipe(hub.to_dict())
    assert told["exemplars"]["chosen"] == []
    assert told["exemplars"]["digest"] == digest_of([exemplar("a")])
    assert SynthesizerConfig.from_dict(told).fingerprint == hub.fingerprint
    assert public_recipe(SynthesizerConfig("scripted").to_dict()) == SynthesizerConfig("scripted").to_dict()


def test_exemplars_that_were_changed_in_a_recipe_are_refused() -> None:
    changed = replace(pinned(exemplar("a")), chosen=(exemplar("b"),))
    with pytest.raises(ConfigError, match="not those that it was made with"):
        changed.require_whole()
    pinned(exemplar("a")).require_whole()


def test_every_stratum_is_equally_likely_and_the_draw_hangs_on_seed_and_chain_alone() -> None:
    sets = ExemplarSets.of(pinned(*(exemplar(str(n), "who" if n < 3 else "why") for n in range(4))))
    drawn = [sets.drawn(f"chain {n}", seed=0) for n in range(400)]
    assert drawn == [sets.drawn(f"chain {n}", seed=0) for n in range(400)]
    assert drawn != [sets.drawn(f"chain {n}", seed=1) for n in range(400)]
    counts = Counter(drawn)
    assert {*counts} == {0, 1, 2, 3}
    assert 150 < counts[3] < 250  # the only one of its stratum


def test_a_chain_begins_with_exemplars_in_its_language_where_there_are_any() -> None:
    sets = ExemplarSets.of(pinned(exemplar("a"), exemplar("b", language="de"), exemplar("c", language="de")))
    assert {sets.drawn(f"{n}", seed=0, language="de") for n in range(50)} == {1, 2}
    assert {sets.drawn(f"{n}", seed=0, language="en") for n in range(50)} == {0}
    assert {sets.drawn(f"{n}", seed=0, language="th") for n in range(50)} == {0, 1, 2}


def test_sets_hold_the_exemplars_of_one_prompt() -> None:
    sets = ExemplarSets.of(pinned(*map(exemplar, "abcd"), per_prompt=2))
    assert [[one.id for one in found] for found in sets.sets] == [["a", "b"], ["c", "d"]]


WHOLE = {"id": "a", "context": "A text.", "pairs": [{"instruction": "Who?", "response": "Ada"}]}


@pytest.mark.parametrize(
    "value",
    [
        7,
        {},
        {"source": ""},
        {"source": "tasks", "per_prompt": 0},
        {"source": "tasks", "per_prompt": True},
        {"source": "tasks", "sets": 10**6},
        {"source": "tasks", "revision": ""},
        {"source": "tasks", "weights": 1},
        {"source": "tasks", "chosen": "all"},
        {"source": "tasks", "chosen": [WHOLE], "per_prompt": 2},
        {"source": "tasks", "chosen": [{**WHOLE, "pairs": []}]},
        {"source": "tasks", "chosen": [{**WHOLE, "pairs": [{"instruction": " ", "response": "Ada"}]}]},
        {"source": "tasks", "chosen": [{**WHOLE, "code": "import os"}]},
        {"source": "tasks", "chosen": [{"id": "a"}]},
    ],
)
def test_what_cannot_be_exemplars_is_refused_in_plain_words(value: object) -> None:
    with pytest.raises(ConfigError, match="exemplars"):
        SynthesizerConfig.from_dict({"model": "scripted", "exemplars": value})
