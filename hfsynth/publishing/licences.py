"""What licences ask of a corpus that is made of several things, read from a table: licences.toml. No legal advice.

Pure: identifiers in, terms and sentences out. Knows nothing of folders, cards or the Hub, and guesses no licence.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from hfsynth.core.errors import ConfigError

OTHER = "other"
_UNSTATED = ("", "unknown")
_EXPRESSION = re.compile(r"[()]|\s(?:and|or|with)\s", re.IGNORECASE)
_CHOICE = re.compile(r"\s(?:or|with)\s", re.IGNORECASE)
_ENDING = re.compile(r"-(?:only|or-later)$")
_NON_COMMERCIAL = "cc-by-nc-4.0"
_ASK = "Use one like --license apache-2.0, or --license other --license-name NAME --license-link URL."


@dataclass(frozen=True, slots=True)
class Terms:
    """What one licence asks. `source` and `section` say where it does.

    `onward` are other licences under which changed works may be passed on; `names` are other names of this one.
    `outputs` and `naming` are sentences on what a model writes, and on what must be displayed.
    """

    id: str
    name: str
    of: str
    source: str
    section: str
    commercial: bool = True
    derivatives: bool = True
    share_alike: bool = False
    attribution: bool = False
    outputs: str = ""
    naming: str = ""
    names: tuple[str, ...] = ()
    onward: tuple[str, ...] = ()
    compared: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One of the things that a corpus is made of: what it is in words ("the source"), and its licence's identifier.

    `is_model` is true for what has written texts: of its licence the terms for outputs count. `needed` is false for
    what may be without a known licence, `option` is how the licence is stated.
    """

    what: str
    license: str | None
    is_model: bool = False
    needed: bool = True
    option: str | None = None

    @property
    def terms(self) -> Terms | None:
        """What its licence asks; None where that is not known."""
        return terms_of(self.license)

    @property
    def share_alike(self) -> bool:
        """Whether the licence goes over to what is made of the part. That of a program does not to what it writes."""
        found = self.terms
        return found is not None and found.share_alike and not (self.is_model and found.of == "software")


@lru_cache(maxsize=1)
def table() -> Mapping[str, Terms]:
    """Return the terms of every licence of the table, by identifier."""
    return {name: _terms(name, row) for name, row in _data()["licences"].items()}


def terms_of(license: str | None) -> Terms | None:
    """Return what a licence asks, by any of its names; None where the table does not have it."""
    found = _known(license or "")
    return table().get(found) if found else None


def canonical(license: str) -> tuple[str, ...]:
    """Return the identifiers that a licence names: of the Hub, of the table, or of SPDX; several where it says AND.

    Raise ConfigError, with names that are near it, for one that does not exist, and for a choice (OR) that is not made.
    """
    text = license.strip()
    if _EXPRESSION.search(text):
        return _of_expression(text)
    found = _known(text) or _spdx(text)
    if found is None:
        raise ConfigError(f"{license!r} is no licence identifier of the Hub.", hint=f"{_near(text)}{_ASK}")
    return (found,)


def is_on_hub(license: str) -> bool:
    """Return whether a card's metadata may have this identifier; others are `other`, with a name and a link."""
    found = table().get(license)
    return license in _data()["hub"] or (found is not None and license not in _only_named())


def combined(parts: Sequence[Part]) -> tuple[str, ...]:
    """Return the identifiers of the licence of what is made of all `parts`.

    Non-commercial anywhere makes it non-commercial, share-alike anywhere decides it. Raise ConfigError where a licence
    is not known, allows nothing to be made of the part, or where two contradict each other.
    """
    for part in parts:
        _require_known(part)
        _require_derivatives(part)
    shared = _share_alike(parts)
    closed = _non_commercial(parts)
    if shared is not None:
        found = table()[shared]
        if found.commercial and closed:
            raise ConfigError(
                f"{_said(closed[0])} allows no commercial use, "
                f"and that of {_told(_of(parts, shared))} lets nobody add this.",
                hint="Leave out one of them, or state what you were allowed: --license ID.",
            )
        return (shared,)
    texts = [part.terms for part in parts if not part.is_model and part.terms is not None]
    if closed:
        own = sorted({terms.id for terms in texts if not terms.commercial})
        return (own[0],) if len(own) == 1 else (_NON_COMMERCIAL,)
    asking = [terms for terms in texts if terms.attribution] or texts
    return tuple(sorted({terms.id for terms in asking}))


def sentences(parts: Sequence[Part], license: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what users must know besides the licence itself, each with the sections that say it and their addresses.

    `license` is that of the corpus as a whole.
    """
    found: list[tuple[str, list[tuple[str, str]]]] = []
    closed = _non_commercial(parts)
    if closed:
        found.append((f"No commercial use: so say {_listed(closed)}.", _cited(closed)))
    shared = [part for part in parts if part.share_alike]
    if shared:
        found.append((f"What is made of it stays under the same licence: so say {_listed(shared)}.", _cited(shared)))
    named = [part for part in parts if not part.is_model and part.terms is not None and part.terms.attribution]
    if named:
        found.append((f"Attribution: {_listed(named)} must be named.", _cited(named)))
    for part in parts:
        terms = part.terms
        if part.is_model and terms is not None and (terms.outputs or terms.naming):
            found.append(
                (f"{_capital(part.what)}, {terms.name}: {terms.outputs} {terms.naming}".strip(), _cited([part]))
            )
    return [*found, *_differing(parts, license)]


def _differing(parts: Sequence[Part], license: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Say where the stated licence is not what the parts' licences give."""
    if not parts:
        return []
    stated = "The licence was stated by those who publish this"
    unknown = [part.what for part in parts if part.needed and part.terms is None]
    if unknown:
        return [(f"{stated}: what the licence of {' and that of '.join(unknown)} asks is not known here.", [])]
    try:
        own = combined(parts)
    except ConfigError as error:
        return [(f"{stated}, and does not follow from those of the parts. {error.message}", [])]
    return [] if set(own) == set(license) else [(f"{stated}; from those of the parts follows {' and '.join(own)}.", [])]


def _require_known(part: Part) -> None:
    if not part.needed or part.terms is not None:
        return
    license = (part.license or "").strip()
    if license in _UNSTATED:
        said = f"The card needs a licence: that of {part.what} is not known, and none was stated."
    else:
        said = f"The card needs a licence: what that of {part.what} asks ({license}) is not known here."
    own = f" Or state that of {part.what} alone: {part.option}." if part.option else ""
    hint = "Read it, and name the corpus's: --license cc-by-4.0 (or another identifier of the Hub, or `other`)."
    raise ConfigError(said, hint=f"{_near(license)}{hint}{own}")


def _require_derivatives(part: Part) -> None:
    if part.terms is not None and not part.terms.derivatives and not part.is_model:
        raise ConfigError(
            f"{_said(part)} allows no changed copies, and a corpus with pairs is one.",
            hint="Take other documents, or state what you were allowed: --license ID.",
        )


def _share_alike(parts: Sequence[Part]) -> str | None:
    """Return the one share-alike licence under which everything may be; None where no part has one."""
    asked = {part.terms.id: part for part in parts if part.share_alike and part.terms is not None}
    if not asked:
        return None
    for one in asked:
        if all(one in (other, *table()[other].onward) for other in asked):
            return one
    first, second = list(asked.values())[:2]
    raise ConfigError(
        f"{_said(first)} and that of {_told(second)} both ask that what is made of it stays under the same licence: "
        "it cannot be under two.",
        hint="Make two corpora, leave out one of them, or state what you were allowed: --license ID.",
    )


def _non_commercial(parts: Iterable[Part]) -> list[Part]:
    return [part for part in parts if part.terms is not None and not part.terms.commercial]


def _of(parts: Iterable[Part], license: str) -> Part:
    return next(part for part in parts if part.share_alike and part.terms is not None and part.terms.id == license)


def _said(part: Part) -> str:
    return _capital(f"{part.what}'s licence ({part.license})")


def _told(part: Part) -> str:
    return f"{part.what} ({part.license})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(parts: Sequence[Part]) -> str:
    told = [_told(part) for part in parts]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def _cited(parts: Iterable[Part]) -> list[tuple[str, str]]:
    """Return where the licences of parts say it, each once: the section, and the address of the text."""
    found = [(f"{part.terms.id}, {part.terms.section}", part.terms.source) for part in parts if part.terms]
    return list(dict.fromkeys(found))


def _known(text: str) -> str | None:
    """Return the identifier that a name stands for: the Hub's or the table's."""
    lower = text.strip().lower()
    return _names().get(lower) or _names().get(_ENDING.sub("", lower))


def _spdx(text: str) -> str | None:
    """Return SPDX's identifier, where the name is one that neither the Hub nor the table has."""
    from license_expression import get_spdx_licensing

    known = {name.lower(): name for name in get_spdx_licensing().known_symbols if not name.startswith("LicenseRef")}
    return known.get(text.lower())


def _of_expression(text: str) -> tuple[str, ...]:
    from license_expression import ExpressionError, Licensing

    if _CHOICE.search(text):
        raise ConfigError(
            f"{text!r} leaves a choice or has an exception: a card names what holds.", hint=f"Choose. {_ASK}"
        )
    try:
        parsed = Licensing().parse(text, strict=True)
    except ExpressionError as error:
        raise ConfigError(f"{text!r} is no licence expression: {error}.", hint=_ASK) from error
    names = [canonical(str(symbol.key))[0] for symbol in parsed.symbols]
    return tuple(sorted({*names}))


def _near(text: str) -> str:
    wanted = re.sub(r"[\s_]+", "-", text.strip().lower())
    near = get_close_matches(wanted, _names(), n=3, cutoff=0.6)
    return f"Near it: {', '.join(dict.fromkeys(_names()[name] for name in near))}. " if near else ""


@lru_cache(maxsize=1)
def _names() -> Mapping[str, str]:
    """Return every name of a licence in small letters, and the identifier that it stands for."""
    own = {name: name for name in (*_data()["hub"], *table())}
    return own | {name.lower(): terms.id for terms in table().values() for name in terms.names}


def _only_named() -> frozenset[str]:
    return frozenset(_data()["named"])


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "licences.toml").read_text("utf-8"))


def _terms(name: str, row: Mapping[str, Any]) -> Terms:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return Terms(id=name, **values)
