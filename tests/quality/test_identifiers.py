"""Identifiers in texts: planted ones are found to the character, and what only looks like one is left."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identifier_makers import MAKERS

from hfsynth.quality.identifiers import IdentifierKind, identifiers

CLEAR = """The bridge was opened on 19 March 1932 at 10:30:45, after 8 years and 1,400 workers; see section 1.2.3 of
report 2024-11-26/0042. It is 1,149 metres long (33.8523 S, 151.2108 E), built of 52,800 tonnes of steel with
6,000,000 rivets, version 10.4.2, ISBN 978-3-16-148410-0, C++20, @user, a::b::c, DE 12, 00 to 24, A1B2 C3D4."""


def found(text: str) -> list[tuple[str, str]]:
    return [(str(one.kind), text[one.start : one.end]) for one in identifiers(text)]


def test_every_kind_can_be_planted() -> None:
    assert set(MAKERS) == set(IdentifierKind)


@pytest.mark.parametrize("kind", MAKERS)
def test_five_hundred_planted_identifiers_are_found_to_the_character(kind: str) -> None:
    draw, words = random.Random(7), CLEAR.split()
    around = [(": ", ".\n"), (" ", ", "), (" (", ") "), (" ", " ")]
    around = around[:2] if kind == "phone" else around  # a number that follows may be the end of it
    missed = []
    for _ in range(500):
        planted = MAKERS[kind](draw)
        at = draw.randrange(len(words))
        before, after = draw.choice(around)
        text = " ".join(words[:at]) + before + planted + after + " ".join(words[at:])
        if (kind, planted) not in found(text):
            missed.append(planted)
    assert not missed


def test_nothing_is_found_where_nothing_is() -> None:
    assert found(CLEAR) == []


@pytest.mark.parametrize(
    "text",
    [
        "me@example.com, you@mail.example.org",
        "127.0.0.1 10.1.2.3 192.168.0.7 169.254.3.4 224.0.0.1 203.0.113.9 300.1.2.3 1.2.3.4.5 ::1 fe80::1 12:30:45",
        "card 4111 1111 1111 1112, 1234567812345670, 9999999999999995",
        "DE89370400440532013001, XX89370400440532013000",
        "+999 123 456 789, +1234, ++49 30 901820, +5 and -3",
        "hf_short, AKIA1234",
    ],
)
def test_what_only_looks_like_one_is_left(text: str) -> None:
    assert found(text) == []


def test_two_that_overlap_are_one_and_places_are_those_of_characters() -> None:
    text = "Grüße 😀 an grüße.an@straße.de, jane@acme.io und hf_" + "a1" * 20
    assert found(text) == [("email", "jane@acme.io"), ("key", "hf_" + "a1" * 20)]


@given(st.text(alphabet=st.characters(codec=None), max_size=300))
def test_any_text_has_identifiers_in_order_that_do_not_overlap(text: str) -> None:
    ends = [0]
    for one in identifiers(text):
        assert ends[-1] <= one.start < one.end <= len(text)
        ends.append(one.end)


@pytest.mark.parametrize(
    "text",
    [
        *("+493020110215" * 20_000, "a.b@lamp.org" * 20_000, "a.b@lamp.org " * 20_000, "a" * 300_000, "1" * 300_000),
        *(":" * 300_000, "+" * 300_000, "00" * 150_000, "4111 1111 " * 30_000, "A" * 300_000, "DE89 " * 60_000),
        *("@" * 300_000, "a@" * 150_000, "1." * 150_000, "x." * 100_000 + "@" + "y-" * 100_000, "北" * 300_000),
    ],
    ids=lambda text: text[:10],
)
def test_a_text_of_one_piece_is_looked_through_in_one_go(text: str) -> None:
    """A pattern that goes back over such a text again and again takes hours: the test would not end in its time."""
    assert all(one.end <= other.start for one, other in pairwise(identifiers(text)))


def test_letters_of_other_alphabets_end_an_account_number() -> None:
    assert found("FR14 2004 1010 0505 0001 3M02 606É") == []
    assert found("FR14 2004 1010 0505 École 0001 3M02 606 et plus") == []
    assert found("Konto DE89 3704 0044 0532 0130 00 Überweisung") == [("iban", "DE89 3704 0044 0532 0130 00")]
