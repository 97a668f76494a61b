"""Languages of texts: known, unknown, different."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.errors import ConfigError
from hfsynth.quality import words
from hfsynth.quality.words import UNKNOWN, differ, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The tower was built by an engineer for the exhibition, and it still stands there today.", "en"),
        ("Der Turm wurde von einem Ingenieur für die Ausstellung gebaut und steht noch heute dort.", "de"),
        ("La tour a été construite par un ingénieur pour l'exposition et elle est encore là aujourd'hui.", "fr"),
        ("La torre fue construida por un ingeniero para la exposición y todavía está allí hoy en día.", "es"),
        ("Башня была построена инженером для выставки и до сих пор стоит на том же месте.", "ru"),
        ("这座塔是一位工程师为博览会建造的，至今仍然矗立在那里。", "zh"),
        ("この塔は博覧会のために技師によって建てられ、今もそこに立っています。", "ja"),
        ("بنى مهندس البرج من أجل المعرض ولا يزال قائما هناك حتى اليوم.", "ar"),
        ("यह मीनार एक इंजीनियर ने प्रदर्शनी के लिए बनाई थी और यह आज भी वहीं खड़ी है।", "hi"),
        ("หอคอยนี้สร้างโดยวิศวกรเพื่อนิทรรศการและยังคงตั้งอยู่ที่นั่นจนถึงทุกวันนี้", "th"),
    ],
)
def test_languages_are_told(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "Paris", "1,200", "Marie Curie, 1867", "???", "\ud800"])
def test_short_texts_are_unknown(text: str) -> None:
    assert language_of(text) == UNKNOWN


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_one_language_or_none(text: str) -> None:
    assert language_of(text) == language_of(text)


def test_only_two_known_languages_differ() -> None:
    assert differ("en", "de")
    assert not differ("en", "en")
    assert not differ("en", UNKNOWN)
    assert not differ(UNKNOWN, UNKNOWN)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    words._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ConfigError, match=r"py3langid[\s\S]*hfsynth\[evaluate\]"):
        language_of("The tower was built by an engineer for the exhibition.")
    words._identifier.cache_clear()
