"""Benchmark questions in texts: planted ones are found in every form that n-grams can see, and nothing else is."""

from __future__ import annotations

import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.benchmarks import Benchmark, BenchmarkRow
from hfsynth.core.errors import SourceError
from hfsynth.quality.contamination import CLEAN, ContaminationIndex
from hfsynth.quality.ngrams import CHARACTER_WEIGHT, WORD_WEIGHT, Runs, Table

QUESTION = (
    "A baker sells 1,200 loaves on Monday and half as many on Tuesday; how many loaves does she sell on both days "
    "together, if none is returned?"
)
SOLUTION = (
    "On Tuesday she sells half of twelve hundred loaves, which is six hundred, so together it is eighteen hundred."
)
PASSAGE = (
    "The lighthouse of Westerhever was built in nineteen hundred and six on a bank of earth, and its two houses beside "
    "the tower were lived in by the keepers until the lamp was run from afar."
)
CHINESE = "请问下列哪一项最能说明为什么这座城市在十九世纪末期的人口增长速度明显超过了周边的所有其他城镇?"
THAI = "เหตุใดจำนวนประชากรของเมืองนี้จึงเพิ่มขึ้นอย่างรวดเร็วในช่วงปลายศตวรรษที่สิบเก้า"
HINDI = "इस नगर की जनसंख्या उन्नीसवीं शताब्दी के अंत में आसपास के सभी नगरों से अधिक तेज़ी से क्यों बढ़ी थी"
ARABIC = "لماذا نما عدد سكان هذه المدينة في أواخر القرن التاسع عشر بسرعة أكبر من جميع المدن الأخرى المحيطة بها"
SHORT = "Who built the lighthouse that stands at Westerhever?"  # 8 words
SHORTER = "Who kept Westerhever's light?"  # 5 words, one behind an apostrophe
SHORTEST = "Who are you?"


def built(*rows: BenchmarkRow, name: str = "made-up") -> ContaminationIndex:
    return ContaminationIndex.build([Benchmark(name, rows, revision="1" * 40)])


@pytest.fixture(scope="module")
def index() -> ContaminationIndex:
    questions = [QUESTION, SHORT, SHORTER, SHORTEST, CHINESE, THAI, HINDI, ARABIC]
    rows = [BenchmarkRow(question, number=number) for number, question in enumerate(questions)]
    return built(BenchmarkRow(QUESTION, (SOLUTION, "1,800"), PASSAGE), *rows[1:])


def _filler(words: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(5000)}" for _ in range(words))


FORMS: dict[str, Callable[[str], str]] = {
    "whole": lambda text: text,
    "upper": str.upper,
    "title": str.title,
    "unpunctuated": lambda text: "".join(c for c in text if unicodedata.category(c)[0] != "P"),
    "broken": lambda text: text.replace(" ", "\n\t- "),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "soft hyphens": lambda text: text.replace("a", "a\u00ad"),
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("question", [QUESTION, CHINESE, THAI, HINDI, ARABIC])
def test_a_question_is_found_in_every_form_and_script(index: ContaminationIndex, question: str, form: str) -> None:
    if form == "full width" and not question.isascii():
        pytest.skip("the form of Latin letters")
    hidden = FORMS[form](question)
    told = index.document(f"{_filler(300)}\n{hidden}\n{_filler(300, 1)}")
    assert told.flagged and told.matches[0].share > 0.7, told
    told = index.pair(hidden, "It was so.")
    assert told.flagged and told.matches[0].share > 0.7, told
    assert index.pair(hidden[: len(hidden) // 2], "It was so.").flagged


def test_a_cut_question_is_told_by_its_share(index: ContaminationIndex) -> None:
    words = QUESTION.split()
    told = index.document(f"{_filler(50)} {' '.join(words[:15])} {_filler(50)}")
    assert told.flagged and 0 < told.share < 0.5
    assert [(match.benchmark, match.row, match.part) for match in told.matches] == [("made-up", 0, "question")]
    assert not index.document(f"{_filler(50)} {' '.join(words[:12])} {_filler(50)}").flagged
    assert index.document(QUESTION).share == 1.0 == index.document(QUESTION).covered


def test_short_questions_count_only_as_a_whole(index: ContaminationIndex) -> None:
    assert index.left_out == {"short": 1, "common": 0}
    assert index.document(f"{_filler(50)} {SHORT.upper()} {_filler(50)}").matches[0].row == 1
    assert not index.document(SHORT.replace("stands", "stood")).flagged
    assert not index.document(f"{_filler(50)} {SHORTER} {_filler(50)}").flagged
    assert index.pair(SHORTER.lower(), "Nobody did.").flagged
    assert not index.pair(f"So: {SHORTER}", "Nobody did.").flagged
    assert index.pair(SHORTEST, SHORTEST) == index.document(SHORTEST) == CLEAN


def test_a_short_question_of_unspaced_script_in_a_text_of_both() -> None:
    index = built(BenchmarkRow("长江在哪里流入大海里面去的呢谁知道"))
    assert index.document(f"{_filler(50)} 长江在哪里流入大海里面去的呢,谁知道 {_filler(9)}").flagged
    assert not index.document(f"{_filler(50)} 长江在哪里流入大海里面去的呢 {_filler(9)}").flagged


def test_passages_flag_documents_and_not_the_pairs_about_them(index: ContaminationIndex) -> None:
    told = index.document(f"{_filler(60)} {PASSAGE} {_filler(60)}")
    assert told.flagged and told.matches[0].part == "passage" and told.share == 1.0
    assert not index.document(f"{_filler(60)} {' '.join(PASSAGE.split()[:16])} {_filler(60)}").flagged
    assert not index.pair("Where do the keepers live?", PASSAGE).flagged


def test_answers_count_in_pairs_alone(index: ContaminationIndex) -> None:
    assert index.pair("How many is that?", SOLUTION).flagged
    assert not index.pair("How many is that?", f"{SOLUTION} {_filler(60)}").flagged
    assert not index.document(f"{_filler(60)} {SOLUTION}").flagged


def test_phrases_of_many_rows_are_not_looked_for() -> None:
    phrase = "Read the passage above with care and then say which of the following statements is true of it"
    asked = [BenchmarkRow(f"{phrase} as far as {name}?") for name in map(str, range(100, 112))]
    index = built(*asked, BenchmarkRow(QUESTION))
    assert not index.document(f"{_filler(9)} {phrase} {_filler(9)}").flagged
    assert index.document(f"{phrase} as far as 105?").matches[0].row == 0
    same = [BenchmarkRow(phrase, passage=f"{_filler(20, number)}") for number in range(12)]
    index = built(*same, BenchmarkRow(QUESTION))
    assert index.left_out == {"short": 0, "common": 1}
    assert not index.document(phrase).flagged and not index.pair(phrase, "Yes.").flagged
    with pytest.raises(SourceError, match="No question can be looked for"):
        built(*same)


def test_what_is_asked_about_any_passage_is_not_looked_for() -> None:
    title = "Which of these titles fits the passage above best of all?"
    rows = [BenchmarkRow(title, passage=_filler(20, number)) for number in range(2)]
    index = built(*rows, BenchmarkRow("When was she born in Prussia?", passage=_filler(20)), BenchmarkRow(QUESTION))
    assert index.left_out == {"short": 1, "common": 1}
    assert not index.pair(title, "The first.").flagged and not index.document(title).flagged
    assert not index.pair("When was she born in Prussia?", "In May.").flagged
    assert index.document(_filler(20, 1)).flagged
    assert built(rows[0]).pair(title, "The first.").flagged


def test_a_text_that_two_benchmarks_hold_belongs_to_the_first() -> None:
    index = ContaminationIndex.build([Benchmark(name, (BenchmarkRow(QUESTION),)) for name in ("one", "two")])
    assert [match.benchmark for match in index.document(QUESTION).matches] == ["one"]
    assert [one["name"] for one in index.record()["benchmarks"]] == ["one", "two"]


@pytest.mark.parametrize("text", ["", " \n", "?!", "\ud800", "\ud800\udfff \udc00", "\x00", "́", "а́" * 50, "字" * 5])
def test_texts_without_much_in_them_are_clean(index: ContaminationIndex, text: str) -> None:
    assert index.document(text) == index.pair(text, text) == index.pair(text, "") == CLEAN
    assert not index.is_flagged(text)


def test_lone_surrogates_hide_nothing(index: ContaminationIndex) -> None:
    assert index.document(f"\ud83d {QUESTION} \udc00").flagged


def test_one_run_over_and_over(index: ContaminationIndex) -> None:
    run = " ".join(QUESTION.split()[:13])
    told = index.document(f"{run} " * 20_000)
    assert told.flagged and told.share <= 0.2
    assert index.document("again " * 200_000) == CLEAN
    assert built(BenchmarkRow("again " * 500)).document("again " * 14).share == 1.0


def test_a_long_text_is_one_text(index: ContaminationIndex) -> None:
    filler = _filler(250_000)
    assert len(filler) > 2**21
    for place in (2**20 - 40, 2**20, 2**21):
        start = filler.index(" ", place)
        told = index.document(f"{filler[:start]} {QUESTION} {filler[start:]}")
        assert told.matches and told.matches[0].share == 1.0
    assert index.document(f"{'字' * (2**20 + 7)}{CHINESE}").flagged


def test_the_file_is_the_index(index: ContaminationIndex, tmp_path: Path) -> None:
    path = tmp_path / "core.npz"
    index.save(path)
    again = ContaminationIndex.load(path)
    assert again.record() == index.record() and len(again.sha256) == 64
    assert again.document(QUESTION) == index.document(QUESTION)
    assert again.pair(SHORTER, "") == index.pair(SHORTER, "")
    assert b"loaves" not in path.read_bytes()
    (tmp_path / "again").mkdir()
    again.save(tmp_path / "again" / "core.npz")
    assert (tmp_path / "again" / "core.npz").read_bytes() == path.read_bytes()


def test_the_identity_is_that_of_the_texts(index: ContaminationIndex) -> None:
    assert built(BenchmarkRow(QUESTION)).sha256 == built(BenchmarkRow(QUESTION)).sha256
    assert built(BenchmarkRow(QUESTION)).sha256 != built(BenchmarkRow(f"{QUESTION} Really?")).sha256
    assert built(BenchmarkRow(QUESTION)).sha256 != built(BenchmarkRow(QUESTION), name="other").sha256
    program = (
        "from hfsynth.core.benchmarks import *; from hfsynth.quality.contamination import *;"
        f"rows = (BenchmarkRow({QUESTION!r}),);"
        "print(ContaminationIndex.build([Benchmark('made-up', rows, revision='1' * 40)]).sha256)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == built(BenchmarkRow(QUESTION)).sha256


def test_what_is_no_index_is_refused(index: ContaminationIndex, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no index at"):
        ContaminationIndex.load(tmp_path / "none.npz")
    path = tmp_path / "bad.npz"
    for content in (b"", b"PK", b"text"):
        path.write_bytes(content)
        with pytest.raises(SourceError, match="is no index of benchmarks"):
            ContaminationIndex.load(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(SourceError, match="is no index of benchmarks"):
        ContaminationIndex.load(path)
    index.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["pair_owners"][0] += 1
    np.savez(path, **arrays)
    with pytest.raises(SourceError, match="not what was written"):
        ContaminationIndex.load(path)


def test_planted_questions_are_found_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import decontamination

    rows, figures = decontamination.measured(_filler(3000).split(), 2_000)
    by_text = {str(row["texts"]): row for row in rows}
    for name in ("documents", "pairs"):
        assert figures[f"{name}: recall where a run of words is left"] >= 0.99
        assert figures[f"{name}: precision"] == 1.0
        for way in ("whole", "cased", "punctuated", "unicoded"):
            found, number = by_text[f"{name}, {way}"]["of those with a run left"].split(" of ")
            assert found == number
    assert figures["documents: recall"] >= 0.75 and figures["pairs: recall"] >= 0.9


LETTERS = st.text(st.sampled_from("ab Z\u0301,.字ไป้य\u0947é\ud800 12"), max_size=60)


@given(LETTERS, LETTERS, LETTERS)
@settings(max_examples=200, deadline=None)
def test_a_run_has_the_same_number_wherever_it_stands(before: str, text: str, after: str) -> None:
    alone, within = Runs(f" {text} "), Runs(f"{before} \n{text} \n{after}")
    heaviest = max(alone.weight, WORD_WEIGHT)
    for least in (CHARACTER_WEIGHT, 3 * WORD_WEIGHT, heaviest):
        runs = alone.of_weight(least)
        assert set(runs.tolist()) <= set(within.of_weight(least).tolist())
    if len(alone):
        assert alone.whole() in within.of_length(len(alone)).tolist()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 5)), max_size=50, unique=True))
def test_a_table_has_what_was_put_in(entries: list[tuple[int, int]]) -> None:
    entries.sort()
    numbers = np.array([number for number, _ in entries], np.uint64)
    owners = np.array([owner for _, owner in entries], np.uint32)
    table = Table.of(numbers, owners, 6)
    assert list(table.places(numbers)) == list(range(len(numbers)))
    other = np.array([number for number in range(1000, 1100) if number not in {n for n, _ in entries}], np.uint64)
    assert len(table.places(other)) == 0
    for number in {number for number, _ in entries}:
        found = table.owners_of(np.array([number, number], np.uint64))
        assert sorted(found) == sorted(owner for one, owner in entries if one == number)
