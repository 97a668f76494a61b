"""What in a text points at a person or opens a door: addresses, numbers with a checksum, keys. Pure functions of text.

Only what can be told by its form alone: an e-mail address; a public IP address (the IANA special-purpose registries
are left out, with the examples of documentation); an international phone number (E.164: a plus sign, a country code
that is assigned, 8 to 15 digits); a payment card (13 to 19 digits of a known issuer, Luhn's checksum, ISO/IEC 7812);
an IBAN (ISO 13616: the length of its country, the remainder of 97); a token or key (`hfsynth.core.secret_rules`).
Names, postal addresses and national numbers are out of its reach.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from types import MappingProxyType

from hfsynth.core.secret_rules import rules


class IdentifierKind(StrEnum):
    """What an identifier is."""

    EMAIL = "email"
    IP = "ip"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    KEY = "key"


Find = Callable[[str], "list[Identifier]"]
"""What finds the identifiers of a text, in the order of their places; they do not overlap."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier and the characters of the text that it takes, from `start` to before `end`.

    Its kind is an `IdentifierKind`, or what a model tells: see `hfsynth.core.identifier_models`.
    """

    kind: str
    start: int
    end: int


_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9_](?:[\w.+%'-]{0,62}[A-Za-z0-9_+-])?@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z]{2,24}(?![\w-])",
    re.ASCII,
)
_EXAMPLE_DOMAINS = re.compile(r"@(?:[\w-]+\.)*(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)$", re.IGNORECASE)
# A pattern begins with the characters that it can begin with, and looks back behind them: that is searched for fast.
_IPV4 = re.compile(r"\d(?<![\w.]\d)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?!\w|\.\d)", re.ASCII)
_GROUP_OF_IPV6 = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(
    r"(?<![\w.])(?<!::)(?<![0-9A-Fa-f]:)(?:[0-9A-Fa-f]{1,4}:|:){2,7}(?::|[0-9A-Fa-f]{1,4})(?![\w:])", re.ASCII
)
_PHONES = {
    prefix: re.compile(
        rf"{re.escape(prefix)}(?<![\w+]{re.escape(prefix)})[1-9](?:[ \u00a0().\-/]{{0,2}}\d){{7,14}}(?!\w)", re.ASCII
    )
    for prefix in ("+", "00")
}
_CARD = re.compile(
    r"[2-6](?<![\w.,+-].)(?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{3}([ -])\d{6}\2\d{4,5})"
    r"(?!\w|[.,-]\d)",
    re.ASCII,
)
_IBAN = re.compile(r"[A-Z](?<!\w.)[A-Z]\d{2}(?:[ -]?[A-Z0-9]{1,4}){3,8}(?!\w)", re.ASCII)
_SHORTEST_KEY = 20
ROUNDS = 32
"""How often a text is looked through again, without what was found in it."""

_NEUTRAL = "<"  # as a mark begins; no identifier has it
_NOT_DIGIT = re.compile(r"\D")

# ISO 13616, the IBAN registry of SWIFT: how long an account number of each country is.
_IBAN_LENGTHS = MappingProxyType(
    {
        country: length
        for length, countries in {
            15: "NO",
            16: "BE",
            18: "DK FO FI GL NL SD",
            19: "MK SI",
            20: "AT BA EE KZ LT LU MN XK",
            21: "CH HR LI LV",
            22: "BG BH CR DE GB GE IE ME RS VA",
            23: "AE GI IL IQ OM SO TL",
            24: "AD CZ ES MD PK RO SA SE SK TN VG",
            25: "LY PT ST",
            26: "IS TR",
            27: "BI DJ FR GR IT MC MR SM",
            28: "AL AZ BY CY DO GT HU LB NI PL SV",
            29: "BR EG PS QA UA",
            30: "JO KW MU YE",
            31: "MT SC",
            32: "LC",
            33: "RU",
        }.items()
        for country in countries.split()
    }
)

# ITU-T E.164: the country codes that are assigned, by their first digits.
_COUNTRY_CODES = re.compile(
    r"1|7|2(?:0|7|1[1-3689]|2\d|3\d|4\d|5[0-8]|6\d|9[017-9])|3(?:[0-469]|5\d|7[0-8]|8[0-35-79])|4(?:[013-9]|2[013])"
    r"|5(?:[1-8]|0\d|9\d)|6(?:[0-6]|7[02-9]|8[0-35-9]|9[0-2])|8(?:[1246]|5[02356]|8[0-3]|70|80)|9(?:[0-58]|6\d|7[0-79]|9[2-68])"
)

# ISO/IEC 7812: what the numbers of the large issuers begin with, and how long they are.
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)


def identifiers(text: str) -> list[Identifier]:
    """Return the identifiers of a text in the order of their places; of two that overlap, the one that begins first.

    What is one only where its neighbour is taken out ("a@b.de+49 30 ...") is one: behind a mark nothing is left. Of a
    text that is one long row of them, each glued to the next, the first `ROUNDS` are found so.
    """
    kept: list[Identifier] = []
    for _ in range(ROUNDS):
        new = _found(text)
        if not new:
            break
        kept += new
        text = _without(text, new)
    return sorted(kept, key=lambda one: one.start)


def _without(text: str, found: list[Identifier]) -> str:
    """Return a text with something that is none in the places of identifiers, all places as they were."""
    pieces, end = [], 0
    for one in found:
        pieces += [text[end : one.start], _NEUTRAL * (one.end - one.start)]
        end = one.end
    return "".join([*pieces, text[end:]])


def _found(text: str) -> list[Identifier]:
    found = [Identifier(kind, *span) for kind, spans in _FINDERS.items() for span in spans(text)]
    if len(found) > 1:
        found.sort(key=lambda one: (one.start, -one.end))
    kept: list[Identifier] = []
    for one in found:
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept


_Span = tuple[int, int]


def _emails(text: str) -> Iterator[_Span]:
    if "@" in text:
        yield from (match.span() for match in _EMAIL.finditer(text) if not _EXAMPLE_DOMAINS.search(match.group()))


def _addresses(text: str) -> Iterator[_Span]:
    patterns = (*((_IPV4,) if "." in text else ()), *((_IPV6,) if _GROUP_OF_IPV6.search(text) else ()))
    for pattern in patterns:
        yield from (match.span() for match in pattern.finditer(text) if _is_public(match.group()))


def _is_public(written: str) -> bool:
    try:
        address = ip_address(written)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast and not (address.version == 4 and written.endswith(".0"))


def _phones(text: str) -> Iterator[_Span]:
    for prefix, pattern in _PHONES.items():
        for match in pattern.finditer(text) if prefix in text else ():
            number = _NOT_DIGIT.sub("", match.group()[len(prefix) :])
            if 8 <= len(number) <= 15 and _COUNTRY_CODES.match(number) and len(set(number)) > 2:
                yield match.span()


def _cards(text: str) -> Iterator[_Span]:
    for match in _CARD.finditer(text):
        number = _NOT_DIGIT.sub("", match.group())
        if _ISSUERS.fullmatch(number) and _luhn(number):
            yield match.span()


def _luhn(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


def _ibans(text: str) -> Iterator[_Span]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match.group()[:2])
        end = _end_of(match.group(), length) if length else None
        if end is not None and not text[match.start() + end : match.start() + end + 1].isalnum():
            yield match.start(), match.start() + end


def _end_of(text: str, length: int) -> int | None:
    """Return where a number of so many characters ends, blanks and hyphens not counted, if its checksum is right."""
    written = ""
    for place, character in enumerate(text):
        written += character if character.isalnum() else ""
        if len(written) == length:
            number = "".join(str(int(one, 36)) for one in written[4:] + written[:4])
            return place + 1 if int(number) % 97 == 1 else None
    return None


def _keys(text: str) -> Iterator[_Span]:
    if max(map(len, text.split()), default=0) < _SHORTEST_KEY:
        return
    content: bytes | None = None
    for rule in rules():
        if any(mark.decode() in text for mark in rule.marks):
            content = text.encode("utf-8", "replace") if content is None else content
            for match in rule.matches(content):
                start = len(content[: match.start()].decode())
                yield start, start + len(match.group().decode())


_FINDERS: MappingProxyType[IdentifierKind, Callable[[str], Iterator[_Span]]] = MappingProxyType(
    {
        IdentifierKind.EMAIL: _emails,
        IdentifierKind.IP: _addresses,
        IdentifierKind.PHONE: _phones,
        IdentifierKind.CARD: _cards,
        IdentifierKind.IBAN: _ibans,
        IdentifierKind.KEY: _keys,
    }
)
