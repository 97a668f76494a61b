"""Wordings in six languages: each has every form that English has, and a document's pairs are worded in its own."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rendering import RUNS, holds_everything
from wording_rules import CONTENTS, line_problems, normalised, pattern_problems, speaker_problems

from hfsynth.cli import app
from hfsynth.core.draws import Draws
from hfsynth.core.errors import ConfigError
from hfsynth.core.records import Pair
from hfsynth.prompting.pair_layout import TaskKind, recognise
from hfsynth.texts.languages import LANGUAGES, wordings_language
from hfsynth.texts.options import COUNTERS, OptionLook, draw_options, list_options
from hfsynth.texts.rendering import render_dataset
from hfsynth.texts.styles import Styles, compose
from hfsynth.texts.training_texts import render_rows
from hfsynth.texts.wordings import STYLE_NAMES, Catalogue, catalogue

Row = dict[str, Any]
OTHERS = [language for language in LANGUAGES if language != "en"]
GOLDEN = Path(__file__).with_name("wordings_golden.json")
TEXTS = {
    "en": "The tower was built by an engineer for the exhibition, and it still stands at the end of the park today.",
    "de": "Der Turm wurde von einem Ingenieur für die Ausstellung gebaut und steht noch heute am Rand des Parks.",
    "fr": "La tour a été construite par un ingénieur pour l'exposition et elle est encore au bout du parc aujourd'hui.",
    "es": "La torre fue construida por un ingeniero para la exposición y todavía está en el borde del parque hoy.",
    "zh": "这座塔是一位工程师为博览会建造的，至今仍然矗立在公园的尽头。",
    "hi": "यह मीनार एक इंजीनियर ने प्रदर्शनी के लिए बनाई थी और यह आज भी उद्यान के किनारे खड़ी है।",
}
FOREIGN = {
    "pt": "A cidade fica na margem do rio e tem uma ponte que foi construída no século passado, mas não é muito usada.",
    "it": "La città si trova sulla riva del fiume e ha un ponte che è stato costruito nel secolo scorso con la pietra.",
    "ca": "La ciutat es troba a la vora del riu i té un pont que va ser construït el segle passat amb pedra del país.",
    "gl": "A cidade está na beira do río e ten unha ponte que foi construída no século pasado coa pedra da terra.",
    "ro": "Orașul se află pe malul râului și are un pod care a fost construit în secolul trecut cu piatră din munte.",
    "nl": "De stad ligt aan de oever van de rivier en heeft een brug die in de vorige eeuw met steen werd gebouwd.",
    "da": "Byen ligger ved floden og har en bro, som blev bygget i det forrige århundrede med sten fra bjergene.",
    "sv": "Staden ligger vid floden och har en bro som byggdes under förra seklet med sten från bergen i norr.",
    "mr": "हे शहर नदीच्या काठावर आहे आणि तेथे एक पूल आहे जो गेल्या शतकात बांधला गेला, पण तो आता वापरात नाही.",
    "ne": "यो सहर नदीको किनारमा छ र यहाँ एउटा पुल छ जुन गत शताब्दीमा बनाइएको थियो तर अहिले प्रयोग हुँदैन।",
    "ja": "この町は川の岸にあり、前世紀に建てられた橋がある。住民は漁業と商業で暮らしている。",
    "ru": "Город стоит на берегу реки, и в нём есть мост, который был построен в прошлом веке из камня.",
    "ar": "تقع المدينة على ضفة النهر وفيها جسر بني في القرن الماضي من الحجر.",
}
CHOICE = Pair("?\nOptions:\n- α\n- β\n- γ\n- δ", "β")


def patterns(own: Catalogue) -> list[tuple[str, str, TaskKind, str]]:
    return [(style, family.name, kind, pattern) for style, family, kind, pattern in own.patterns()]


def wordings_of(own: Catalogue) -> list[str]:
    """Return every text of a language's wordings, placeholders gone."""
    lines = [line for wordings in own.styles.values() for line in wordings.lines()]
    says = [family.says for wordings in own.styles.values() for family in wordings.families]
    speakers = [name for wordings in own.styles.values() for pair in wordings.speakers for name in pair]
    words = [word for noun in own.nouns for word in (*noun.one.values(), *noun.many.values())]
    every = [*lines, *says, *speakers, *words, *(pattern for *_, pattern in patterns(own))]
    return [re.sub(r"\{\w+\}", "", text) for text in every]


# --- the data


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_every_form_that_english_has(language: str) -> None:
    english, own = catalogue(), catalogue(language)
    assert [one[:3] for one in patterns(own)] == [one[:3] for one in patterns(english)]
    assert len(own.nouns) >= 5 and own.document_separators == english.document_separators
    for style, wordings in english.styles.items():
        other = own.styles[style]
        for place in ("opening", "bridge", "inverted_opening", "inverted_bridge", "last", "numbers", "speakers"):
            assert bool(getattr(other, place)) == bool(getattr(wordings, place)), f"{style} {place}"
        for place in ("opening", "bridge", "inverted_opening", "inverted_bridge", "last"):
            assert len(getattr(other, place)) >= len(getattr(wordings, place)) - 1, f"{style} {place}"
        assert [family.separators for family in other.families] == [family.separators for family in wordings.families]


@pytest.mark.parametrize("language", OTHERS)
def test_every_pattern_of_a_language_keeps_to_the_rules(language: str) -> None:
    own = catalogue(language)
    contents = {"question": "¤q¤", "options": "¤o¤", "reasoning": "¤r¤", "answer": "¤a¤", "answer_sentence": "¤a¤"}
    signs = {"asker": "Ann", "answerer": "Bob", "number": "7"}
    for style, name, kind, pattern in patterns(own):
        assert pattern_problems(style, kind, pattern) == [], f"{style}/{name}"
        assert pattern == pattern.strip()
        text = pattern.format_map({**contents, **signs})
        assert all(text.count(contents[content]) == 1 for content in CONTENTS[kind])
        assert not re.search(r"[?!.。？！][?.,;:!，。：；]", text), f"{style}/{name}: {text}"
        english = next(one for *head, one in patterns(catalogue()) if head == [style, name, kind])
        assert re.findall(r"\{\w+\}|\n", pattern) == re.findall(r"\{\w+\}|\n", english), f"{style}/{name}"
    seen = Counter(normalised(pattern) for *_, pattern in patterns(own))
    assert [pattern for pattern, times in seen.items() if times > 1] == []


@pytest.mark.parametrize("language", OTHERS)
def test_every_line_of_a_language_can_be_filled(language: str) -> None:
    own = catalogue(language)
    for noun in own.nouns:
        assert noun.one.keys() == noun.many.keys() == own.nouns[0].one.keys()
    used: set[str] = set()
    for style, wordings in own.styles.items():
        for line in wordings.lines():
            assert line_problems(line, own.nouns[0].one) == [], line
            used |= set(re.findall(r"\{(\w+)\}", line))
            for noun in own.nouns:
                for words in (noun.one, noun.many):
                    assert "{" not in line.format_map(words) and "  " not in line.format_map(words)
        for lines in (
            wordings.opening,
            wordings.bridge,
            wordings.inverted_opening,
            wordings.inverted_bridge,
            wordings.last,
        ):
            assert len(set(map(normalised, lines))) == len(lines)
        assert [pair for pair in wordings.speakers if speaker_problems(pair)] == []
        assert len(set(wordings.speakers)) == len(wordings.speakers)
        for family in wordings.families:
            if style == "next_turn":
                assert sorted(re.findall(r"\{(\w+)\}", family.says)) == ["speaker", "words"]
    assert used == set(own.nouns[0].one), "words that no line uses"


def test_chinese_and_hindi_wordings_have_no_latin_letters() -> None:
    for language, script in (("zh", "[\u4e00-\u9fff]"), ("hi", "[\u0900-\u097f]")):
        for text in wordings_of(catalogue(language)):
            assert not re.search("[A-Za-z]", text), text
        lines = [line for wordings in catalogue(language).styles.values() for line in wordings.lines()]
        assert all(
            re.search(script, line.format_map(catalogue(language).nouns[0].one)) for line in lines if line != "---"
        )


def test_each_language_keeps_its_punctuation() -> None:
    for text in wordings_of(catalogue("zh")):
        assert not re.search(r"[,;?!:()]", text), text
        assert not re.search("(?<![#*>=\\-–\\]/]) (?=[\u4e00-\u9fff])|[\u4e00-\u9fff，。：；？！] (?![=*])", text), text
    for text in wordings_of(catalogue("fr")):
        assert not re.search(r"(?<!\u00a0)[:;?!]|\u00a0(?![:;?!])", text), text
        assert "'" not in text
    for text in wordings_of(catalogue("es")):
        assert text.count("?") == text.count("¿") and text.count("!") == text.count("¡"), text
    for wordings in catalogue("hi").styles.values():
        assert not any(line.endswith(".") for line in wordings.lines())


@pytest.mark.parametrize(
    ("language", "plural"),
    [
        ("de", r"\b(?:Fragen|sind|kommen|beziehen|Aufgaben)\b"),
        ("fr", r"\b(?:[Qq]uestions|viennent|portent|suivent)\b"),
        ("es", r"\b(?:[Pp]reguntas|vienen|tratan|Estas)\b"),
        ("hi", r"प्रश्नों का|कुछ प्रश्न|ये प्रश्न"),
    ],
)
def test_a_single_pair_is_spoken_of_in_the_singular(language: str, plural: str) -> None:
    own = catalogue(language)
    spoken = [own.styles[style] for style in STYLE_NAMES if style != "inline_few_shot"]  # its lines are for several
    lines = [line for style in spoken for line in (*style.opening, *style.bridge, *style.inverted_opening)]
    worded = {line.format_map(own.nouns[0].one) for line in lines}
    assert [line for line in worded if re.search(plural, line)] == []


def test_the_ways_to_count() -> None:
    assert [COUNTERS["chinese"](number) for number in (1, 9, 10, 11, 20, 35, 99, 120)] == [
        *("一", "九", "十", "十一", "二十", "三十五", "九十九", "一二〇"),
    ]
    assert [COUNTERS["hindi"](number) for number in (1, 2, 5, 33, 34)] == ["क", "ख", "ङ", "ह", "कक"]
    assert COUNTERS["devanagari"](1980) == "१९८०"
    for count in COUNTERS.values():
        assert len({count(number) for number in range(1, 200)}) == 199


# --- texts


@settings(deadline=None, max_examples=200)
@given(RUNS, st.integers(), st.sampled_from(OTHERS), st.sampled_from([None, *STYLE_NAMES]), st.sampled_from([0, 1]))
def test_nothing_is_lost_in_any_language(
    contents: list[tuple[str, list[Pair]]], seed: int, language: str, style: str | None, inverted: int
) -> None:
    rows = [row(text, pairs, shot) for shot, (text, pairs) in enumerate(contents)]
    styles = {style: 1, "inverted": inverted} if style else None
    texts = list(render_rows(rows, seed=seed, styles=styles, pair_spans=True, wordings=language))
    everything = "\n".join(text["text"] for text in texts)
    for text, pairs in contents:
        assert not text.strip() or text in everything
        for pair in pairs if text.strip() else ():
            if pair.instruction.strip() and pair.response.strip():
                assert holds_everything(everything, pair)
    for text in texts:
        assert len(text["pair_spans"]) == text["num_pairs"]
        assert set(text["wordings"]) <= {language, ""}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("style", STYLE_NAMES)
@pytest.mark.parametrize("inverted", [0, 1])
def test_spans_hold_a_pair_each_in_every_language(language: str, style: str, inverted: int) -> None:
    told = [Pair(f"Ж{n}?\nLet's think step by step.", f"Ш{n}.\nTherefore, the answer is Щ{n}") for n in range(3)]
    for seed in range(20):
        rows = [row(f"«{TEXTS[language]}»", told)]
        (text,) = render_rows(rows, seed=seed, styles={style: 1, "inverted": inverted}, pair_spans=True)
        assert text["wordings"] == [language]
        spans = [text["text"][span["start"] : span["end"]] for span in text["pair_spans"]]
        for number, span in enumerate(spans):
            assert re.findall(r"([ЖШЩ])(\d)", span) == [(letter, str(number)) for letter in "ЖШЩ"]
        assert "«" not in "".join(spans) and "»" not in "".join(spans)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_answer_follows_the_shuffled_options(language: str) -> None:
    own, task = catalogue(language), recognise(CHOICE)
    orders = set()
    for number in range(300):
        stream = Draws(f"{language} {number}")
        look = draw_options(own.option_labels, "", stream)
        listed, answer = list_options(task, look, stream, own.grammar)
        marks = re.findall(r"(\S+) ([αβγδ])", listed)
        assert sorted(text for _, text in marks) == list("αβγδ")
        right = next(mark for mark, text in marks if text == "β")
        assert answer in ("β", f"{right} β", right, right.rstrip(".)"))
        orders.add(tuple(text for _, text in marks))
    assert len(orders) == 24


def test_answers_are_joined_and_closed_as_the_language_does() -> None:
    joined = {language: catalogue(language).grammar.joined(["Francia", "Italia"]) for language in LANGUAGES}
    assert joined == {
        "en": "Francia and Italia",
        "de": "Francia und Italia",
        "fr": "Francia et Italia",
        "es": "Francia e Italia",
        "zh": "Francia和Italia",
        "hi": "Francia और Italia",
    }
    assert catalogue("es").grammar.joined(["agua", "hielo"]) == "agua y hielo"
    assert catalogue("zh").grammar.joined(["A", "B", "C"]) == "A、B、C"
    for language, stop in (("de", "."), ("zh", "。"), ("hi", "।")):
        answer = "八" if language == "zh" else "8"
        steps = ("?\nLet's think step by step.", f"So.\nTherefore, the answer is {answer}")
        only = Styles.of({"classic": 1, "inverted": 0})
        texts = [compose([("t", [steps])], str(n), only, [language]).text for n in range(60)]
        assert any(text.endswith(stop) for text in texts)
        assert not any(text.endswith(("八.", f"{stop}{stop}")) for text in texts)


@pytest.mark.parametrize(
    ("language", "option"),
    [
        ("de", "Alle oben genannten"),
        ("fr", "Aucune de ces réponses"),
        ("es", "Todas las anteriores"),
        ("zh", "以上都对"),
        ("hi", "उपर्युक्त सभी"),
    ],
)
def test_an_option_that_speaks_of_the_others_keeps_its_place(language: str, option: str) -> None:
    task = recognise(Pair(f"?\nOptions:\n- α\n- β\n- {option}", "α"))
    for number in range(40):
        look = OptionLook("({upper})", "text", False)
        listed, _ = list_options(task, look, Draws(str(number)), catalogue(language).grammar)
        assert listed.endswith(option)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("de", "Antwort A ist falsch"),
        ("fr", "le choix B est exclu"),
        ("es", "la opción B"),
        ("zh", "选B是错的"),
        ("hi", "विकल्प B"),
    ],
)
def test_options_keep_their_places_where_the_pair_speaks_of_their_labels(language: str, said: str) -> None:
    task = recognise(Pair(f"{said}\nOptions:\nA. α\nB. β", "B"))
    for number in range(40):
        listed, answer = list_options(
            task, OptionLook("-", "text", False), Draws(str(number)), catalogue(language).grammar
        )
        assert (listed, answer) == ("A. α\nB. β", "B")


# --- which language


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_document_is_worded_in_its_language(language: str) -> None:
    assert wordings_language(TEXTS[language]) == language
    assert wordings_language(f"{TEXTS[language]}\n\n" * 50) == language


@pytest.mark.parametrize("language", FOREIGN)
def test_a_document_in_another_language_is_worded_in_english(language: str) -> None:
    assert wordings_language(FOREIGN[language]) == "en"


@pytest.mark.parametrize(
    "text",
    [
        *("", "Paris", "1,200", "Das ist gut.", "???", "\ud800", "def f(x): return x", "東京都千代田区"),
        "| No. | Title | Album |\n| 1 | Sur la route | La der des ders |\n| 2 | C. D. S. L. | J'en rêve |",
        "Los Angeles, El Paso, La Jolla, San Diego de la Vega, Las Cruces and Santa Fe are cities of the West.",
    ],
)
def test_what_is_not_told_surely_is_worded_in_english(text: str) -> None:
    assert wordings_language(text) == "en"


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=8))
def test_any_text_has_a_language_of_wordings(text: str, stated: str) -> None:
    assert wordings_language(text, stated) in LANGUAGES


@pytest.mark.parametrize(
    ("stated", "language"),
    [
        *(
            ("de", "de"),
            ("DE-at", "de"),
            ("deu", "de"),
            ("German", "de"),
            ("zh_Hant", "zh"),
            ("hin", "hi"),
            ("en", "en"),
        ),
        *(("ru", "en"), ("pt-BR", "en"), ("nld", "en"), ("python", "fr"), ("", "fr"), ("unknown", "fr")),
    ],
)
def test_a_column_says_the_language(stated: str, language: str) -> None:
    assert wordings_language(TEXTS["fr"], stated) == language


def row(text: str, pairs: list[Pair], shot: int = 0, chain: str = "c", **more: object) -> Row:
    told = [{"instruction": pair.instruction, "response": pair.response} for pair in pairs]
    return {"id": f"{chain}.{shot}", "text": text, "pairs": told, **more} | {
        "synthesis": {"status": "ok", "chain": chain, "shot": shot, "follows": shot > 0}
    }


def test_each_document_of_a_chain_is_worded_in_its_own_language() -> None:
    pairs = [Pair("Q?", "A.")]
    rows = [row(TEXTS[language], pairs, shot) for shot, language in enumerate(("de", "zh"))]
    rows += [row(TEXTS["fr"], [], 2), row(TEXTS["de"], pairs, 3), row(FOREIGN["it"], pairs, 4)]
    (text,) = render_rows(rows, seed=0, styles={"classic": 1})
    assert text["wordings"] == ["de", "zh", "", "de", "en"]
    (german,) = render_rows(rows, seed=0, styles={"classic": 1}, wordings="de")
    assert german["wordings"] == ["de", "de", "", "de", "de"]


def test_a_dataset_says_its_languages_in_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [row(TEXTS["en"], [Pair("Q?", "A.")], chain=f"c{n}", lang=said) for n, said in enumerate(("es", None, "xx"))]
    ds = Dataset.from_list(rows)
    assert render_dataset(ds, seed=0)["wordings"][:] == [["es"], ["en"], ["en"]]
    assert render_dataset(ds, seed=0, wordings="hi")["wordings"][:] == [["hi"]] * 3
    with pytest.raises(ConfigError, match=r"no wordings 'xx'[\s\S]*auto, or one of en, de, fr, es, zh, hi"):
        render_dataset(ds, seed=0, wordings="xx")


def golden_texts() -> dict[str, str]:
    """Render the same three pairs in every language and style, the document first and last."""
    pairs = [
        Pair("Q1?", "A1."),
        Pair("Q2?\nOptions:\n- α\n- β", "β"),
        Pair("Q3?\nOptions:\n- γ\n- δ\nLet's think step by step.", "R3.\nTherefore, the answer is δ"),
        Pair("Q4?\nLet's think step by step.", "R4.\nTherefore, the answer is 4"),
    ]
    return {
        f"{language} {style} {inverted}": next(
            render_rows([row(TEXTS[language], pairs)], seed=0, styles={style: 1, "inverted": inverted})
        )["text"]
        for language in LANGUAGES
        for style in STYLE_NAMES
        for inverted in (0, 1)
    }


def test_the_texts_of_every_language_are_fixed() -> None:
    """The bytes must not change unless RENDERING_VERSION or the wordings do; English is as without other languages."""
    assert golden_texts() == json.loads(GOLDEN.read_text("utf-8"))


# --- folders and cards


def run(arguments: list[str]) -> int:
    """Run the command line in this process and return its exit code."""
    argv, sys.argv = sys.argv, ["hfsynth", *arguments]
    try:
        app.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = argv
    return 0


def mixed_folder(folder: Path) -> Path:
    """Make a corpus of documents in six languages and one more, by a scripted synthesizer."""
    source = folder.parent / "source.jsonl"
    texts = [*TEXTS.values(), FOREIGN["it"], TEXTS["de"]]
    source.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    made = ["--engine", "scripted", "--shots", "2", "--quiet"]
    assert run(["synthesize", str(source), str(folder), *made]) == 0
    return folder


def languages_in(folder: Path) -> Counter[str]:
    """Count the languages in the rows of the texts."""
    rows = [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return Counter(language for row in rows for language in row["wordings"] if language)


def test_the_card_and_the_statistics_say_how_many_documents_are_in_which_language(tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path / "corpus")
    assert run(["render", str(folder), "--quiet"]) == 0
    told = languages_in(folder)
    assert told == {"en": 2, "de": 2, "fr": 1, "es": 1, "zh": 1, "hi": 1}
    stats = json.loads((folder / "stats.json").read_text("utf-8"))["render"]
    assert stats["wordings_used"] == told and stats["wordings"] == "auto"
    assert run(["card", str(folder), "--license", "cc-by-4.0"]) == 0
    card = (folder / "README.md").read_text("utf-8")
    said = re.search(r"is worded in (.*)\.", card)
    assert said and dict(re.findall(r"`(\w+)` for (\d+) document", said[1])) == {k: str(n) for k, n in told.items()}
    assert "--wordings" not in card


def test_one_language_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = mixed_folder(tmp_path / "corpus")
    assert run(["render", str(folder), "--wordings", "zh", "--quiet"]) == 0
    assert languages_in(folder) == {"zh": 8}
    assert run(["card", str(folder), "--license", "cc-by-4.0"]) == 0
    card = (folder / "README.md").read_text("utf-8")
    assert "worded in `zh` for 8 documents." in card and "--recipe" in card
    assert json.loads((folder / "synthesizer_config.json").read_text("utf-8"))["render"]["wordings"] == "zh"
    capsys.readouterr()
    assert run(["render", str(folder), "--wordings", "tlh"]) == 2
    assert "no wordings 'tlh'" in capsys.readouterr().err
