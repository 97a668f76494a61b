"""Measures of a pair: by hand in several languages, and what holds for any text."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.conditions import FILTERED, INDEXED, JUDGED
from hfsynth.core.records import Pair
from hfsynth.quality.measures import MEASURES, Evidence, answer_leak, foreign_names, foreign_numbers, grounding
from hfsynth.quality.words import content, numbers, words

CURIE = (
    "Marie Curie was born in Warsaw in 1867. She won 2 Nobel Prizes, worth 1,200.50 francs, as Dr. Smith told in B12."
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP!", ["don", "t", "stop"]),
        ("Straße ＡＢＣ ﬁn", ["strasse", "abc", "fin"]),
        ("1,200 and 1.200,50, 007", ["1200", "and", "1200.5", "7"]),
        ("12.05.2020", ["12", "5", "2020"]),
        ("12\u202f500 km 10kg B12", ["12500", "km", "10", "kg", "b12"]),
        ("東京タワー 2台", ["東", "京", "タ", "ワ", "ー", "2", "台"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("٣٫٥", ["3.5"]),
        ("", []),
        ("\ud800 \x00 _ !", []),
    ],
)
def test_words_of_any_language(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("1,200", [("1200", "1.2")]),
        ("1.200", [("1.2", "1200")]),
        ("1'200'000", [("1200000",)]),
        ("1.200.000,5", [("1200000.5",)]),
        ("3.50", [("3.5",)]),
        ("0,500", [("0.5",)]),
        ("1,2,3", [("1",), ("2",), ("3",)]),
        ("1234,567", [("1234.567",)]),
    ],
)
def test_numbers_are_read_by_value(written: str, values: list[tuple[str, ...]]) -> None:
    assert numbers(written) == values


def test_content_leaves_out_function_words_and_pairs_neighbouring_characters() -> None:
    assert content("The tower of Paris and 3 of them") == [("tower",), ("paris",), ("3",)]
    assert content("東京の大きい塔") == [("東京",), ("大",), ("塔",)]
    assert content("北京。上海是城市") == [("北京",), ("上海",), ("城市",)]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("She was born in Warsaw.", 1.0),
        ("two prizes", 1.0),
        ("1200.5 francs", 1.0),
        ("Warsaw, not Paris or Rome", 1 / 3),
        ("Yes.", 1.0),
        ("", 1.0),
        ("B", 1.0),
        ("nobody", 0.0),
    ],
)
def test_grounding_is_the_share_of_content_words(response: str, expected: float) -> None:
    assert grounding(CURIE, response) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("document", "response", "expected"),
    [
        ("Die Straße ist 3,5 km lang.", "Sie ist 3.5 km lang", 1.0),
        ("東京は日本の首都です。", "日本の首都", 1.0),
        ("東京は日本の首都です。", "京都", 0.0),
        ("北京是中国的首都。", "中国", 1.0),
        ("Москва — столица России.", "столица", 1.0),
        ("القاهرة عاصمة مصر", "عاصمة فرنسا", 0.5),
        ("दिल्ली भारत की राजधानी है", "दिल्ली", 1.0),
    ],
)
def test_grounding_in_several_languages(document: str, response: str, expected: float) -> None:
    assert grounding(document, response) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("In 1867, 1,200.5 francs and two", ()),
        ("1. In 1868\n2. In 1868 and 5.0\n (3) none", ("1868", "5.0")),
        ("B12 and B13", ()),
        ("+9 and -9", ("9",)),
        ("٢ and ٧", ("٧",)),
    ],
)
def test_foreign_numbers_are_compared_by_value(response: str, expected: tuple[str, ...]) -> None:
    assert foreign_numbers(CURIE, response) == expected


def test_a_number_word_of_the_document_is_a_number() -> None:
    assert foreign_numbers("There were three of them.", "3 or 4") == ("4",)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Marie met Albert Einstein in Warsaw.", ("Albert Einstein",)),
        ("Paris was nice. Rome as well.\nBerlin: Vienna", ()),
        ("She met Dr. Jones and J. Smith.", ("Jones",)),
        ("It was Hans Smith, then Hans Smith", ("Hans Smith",)),
        ("Austria-Hungary, then Austria-Hungary", ("Hungary", "Austria Hungary")),
        ("The prizes were won by The I of NASA", ("NASA",)),
        ("她出生在华沙 القاهرة", ()),
    ],
)
def test_foreign_names_begin_no_sentence(response: str, expected: tuple[str, ...]) -> None:
    assert foreign_names(CURIE, response) == expected


@pytest.mark.parametrize(
    ("instruction", "response", "expected"),
    [
        ("What is the capital of France?", "The capital of France is Paris.", 2 / 3),
        ("What is the capital of France?", "Paris", 0.0),
        ("Which city is Paris?", "Paris", 1.0),
        ("Is Paris big?", "Yes, Paris is big", 0.0),
        ("Is it red or dark blue?", "Dark blue.", 0.0),
        ("Is the tone positive, negative or neutral?", "negative", 0.0),
        ("Ist es rot oder blau?", "blau", 0.0),
        ("这是红色还是蓝色？", "蓝色", 0.0),
        ("Is het rood of blauw?", "blauw", 0.0),
        ("Is de kat zwart of wit?", "wit", 0.0),
        ("¿Es rojo o azul?", "azul", 0.0),
        ("Il cielo è rosso o blu?", "blu", 0.0),
        ("Este roșu sau albastru?", "albastru", 0.0),
        ("Nó màu đỏ hay xanh?", "xanh", 0.0),
        # "or" in one language, in another "of", "the", "there is", "after"
        ("When was the treaty of 1648 signed?", "1648", 1.0),
        ("Who ruled the island of Saint Helena?", "Saint Helena", 1.0),
        ("Quem escreveu o Hamlet?", "Hamlet", 1.0),
        ("¿Cuántas torres hay en Lima?", "en Lima", 1.0),
        ("Điều gì xảy ra sau 1648?", "1648", 1.0),
        ("When did O'Neill die?", "O'Neill", 1.0),
        ("Which animal is a dog?\nOptions:\n- a big dog\n- cat", "A big dog", 0.0),
        ("Which animal is a dog?\nOptions:\n- a big dog\n- cat", "big", 1.0),
        ("Why is the sky blue?", "The sky is blue.\nTherefore, the answer is scattering", 0.0),
        ("", "Paris", 0.0),
        ("Paris", "", 0.0),
    ],
)
def test_answer_leak(instruction: str, response: str, expected: float) -> None:
    assert answer_leak(instruction, response) == pytest.approx(expected)


def test_measures_have_the_names_that_conditions_know() -> None:
    assert {*MEASURES, *JUDGED, *INDEXED} == set(FILTERED)


def test_counts_are_numbers() -> None:
    pair = Pair("What is it, Anna?", "It is 5 or 6, said Anna Karenina in Moscow.")
    values = {name: measure(CURIE, pair) for name, measure in MEASURES.items()}
    assert values == {
        "grounding": 0.0,
        "answer_leak": pytest.approx(1 / 6),
        "foreign_numbers": 2.0,
        "foreign_names": 2.0,
        "instruction_words": 4.0,
        "response_words": 10.0,
        "pii": 0.0,
    }


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_every_measure_has_a_value_within_its_range(document: str, instruction: str, response: str) -> None:
    pair = Pair(instruction, response)
    values = {name: measure(document, pair) for name, measure in MEASURES.items()}
    assert all(math.isfinite(value) and value >= 0 for value in values.values())
    assert values["grounding"] <= 1 and values["answer_leak"] <= 1
    assert {name: measure(document, pair) for name, measure in MEASURES.items()} == values


@settings(deadline=None)
@given(st.text())
def test_a_document_grounds_itself(text: str) -> None:
    evidence = Evidence.of(text)
    assert evidence.grounding(text) == 1.0
    assert evidence.foreign_numbers(text) == () == evidence.foreign_names(text)


SAID = st.lists(st.sampled_from(["paris", "rome", "the", "3", "東京", "big", "Москва"]))


@settings(deadline=None)
@given(SAID, SAID)
def test_the_order_of_words_does_not_matter(document: list[str], response: list[str]) -> None:
    assert grounding(" ".join(document), " ".join(response)) == pytest.approx(
        grounding(" ".join(sorted(document)), " ".join(sorted(response)))
    )


@settings(deadline=None)
@given(SAID, SAID, SAID)
def test_more_document_grounds_no_less(document: list[str], more: list[str], response: list[str]) -> None:
    said = " ".join(response)
    assert grounding(" ".join(document + more), said) >= grounding(" ".join(document), said)


XQUAD = Path(__file__).parents[3] / "shared" / "data" / "collection" / "dev_multilingual_xquad.parquet"


@pytest.mark.skipif(not XQUAD.exists(), reason="the multilingual sample is not beside this repository")
def test_answers_that_people_copied_are_grounded_in_every_language() -> None:
    """XQuAD's answers are spans of their paragraphs; a span may begin or end within a word."""
    found: dict[str, list[tuple[float, int, int]]] = {}
    for row in pq.read_table(XQUAD, columns=["context", "pairs", "lang"]).to_pylist():
        evidence = Evidence.of(row["context"])
        found.setdefault(row["lang"], []).extend(
            (evidence.grounding(said), len(evidence.foreign_numbers(said)), len(evidence.foreign_names(said)))
            for said in (pair["response"] for pair in row["pairs"])
        )
    assert len(found) == 11
    for values in found.values():
        assert sum(grounded for grounded, _, _ in values) / len(values) > 0.99
        assert sum(numbers + names for _, numbers, names in values) / len(values) < 0.01
