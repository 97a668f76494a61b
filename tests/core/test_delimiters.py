"""Escaping: nothing of a control string is left, and every text comes back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hfsynth.core.text import FORMAT_DELIMITERS, Escape

SPECIALS = (
    "<s>",
    "</s>",
    "<unk>",
    "<|im_start|>",
    "<|im_end|>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<｜end▁of▁sentence｜>",
)
ALL = (*FORMAT_DELIMITERS, *SPECIALS)

# Texts made of delimiters, pieces of them and the spaces that escaping puts in are the hard ones.
pieces = st.sampled_from(
    [*ALL, *(token[1:] for token in ALL), *(f"< {token[1:]}" for token in ALL), "<", " ", "  ", "x"]
)
hard_texts = st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=12).map("".join)
token_sets = st.lists(st.text("<|/ab>é", min_size=2, max_size=5), min_size=1, max_size=5)


@given(hard_texts)
def test_escaped_text_holds_no_delimiter_and_comes_back(text: str) -> None:
    escape = Escape.of(ALL)
    escaped = escape.escape(text)
    assert not [token for token in ALL if token in escaped]
    assert escape.unescape(escaped) == text


@given(token_sets, st.text("<|/ab>é  x", max_size=20))
@example(["<ab", "abz"], "<abz")
@example(["<<SYS>>", "<SYS>"], "<<SYS>>")
@example(["aa"], "aaaa a  aa")
def test_any_set_of_control_strings_is_escaped_reversibly(tokens: list[str], text: str) -> None:
    escape = Escape.of(tokens)
    escaped = escape.escape(text)
    assert not [token for token in tokens if token in escaped]
    assert escape.unescape(escaped) == text


@given(hard_texts)
def test_escaping_twice_is_undone_by_restoring_twice(text: str) -> None:
    escape = Escape.of(ALL)
    assert escape.unescape(escape.unescape(escape.escape(escape.escape(text)))) == text


@given(st.text().filter(lambda text: "<" not in text and "[" not in text))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    escape = Escape.of(ALL)
    assert escape.escape(text) == escape.unescape(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<CON>", "< CON>"),
        ("< CON>", "<  CON>"),
        ("a</END></s>b", "a< /END>< /s>b"),
        ("1 < 2 > 0", "1 < 2 > 0"),
        ("<con>", "<con>"),
        ("<CO", "<CO"),
    ],
)
def test_one_space_is_put_behind_the_first_character(text: str, escaped: str) -> None:
    assert Escape.of(ALL).escape(text) == escaped


def test_a_control_string_with_a_space_in_it_is_escaped_too() -> None:
    escape = Escape.of(["<end of text>"])
    assert escape.escape("a <end of text> b") == "a < end of text> b"
    assert escape.unescape(escape.escape("<end of text>< end of text>")) == "<end of text>< end of text>"


def test_single_characters_and_nothing_at_all_are_no_control_strings() -> None:
    assert Escape.of(["a", ""]).tokens == ()
    assert Escape.of([]).escape("a <CON> b") == "a <CON> b"
    assert Escape.of([]).unescape("a < CON> b") == "a < CON> b"


def test_the_order_and_number_of_control_strings_do_not_matter() -> None:
    assert Escape.of(["<a>", "<ab>", "<a>"]) == Escape.of(["<ab>", "<a>"])


def test_a_megabyte_of_delimiters_takes_one_pass() -> None:
    text = "<CON>< " * 150_000
    escape = Escape.of(ALL)
    assert escape.unescape(escape.escape(text)) == text
