"""Documents before pairs are written about them: their identifiers found, and marked where no pair may quote them.

`mark` puts a mark such as `<EMAIL>` in the place of each; `drop` does so too, and no pairs are written about a document
that had any; `report` counts them. Looked for is what `hfsynth.quality.identifiers` finds. Pure functions of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hfsynth.core.records import Document, Reason, Rejected
from hfsynth.core.text import encodable
from hfsynth.quality.identifiers import Identifier, identifiers


@dataclass(frozen=True, slots=True)
class Cleared:
    """A text as models and readers see it: the kinds of the identifiers found, and where each begins in `text`."""

    text: str
    kinds: tuple[str, ...] = ()
    places: tuple[int, ...] = ()

    def within(self, start: int, end: int) -> tuple[str, ...]:
        """Return the kinds of those that begin from a place to before another."""
        return tuple(kind for kind, place in zip(self.kinds, self.places, strict=True) if start <= place < end)


def mark_of(kind: str) -> str:
    """Return what stands in the place of an identifier of a kind, such as `<EMAIL>`."""
    return f"<{kind.upper()}>"


def marked(text: str, found: Sequence[Identifier] | None = None) -> str:
    """Return a text with a mark, such as `<EMAIL>`, in the place of each identifier."""
    pieces, end = [], 0
    for one in identifiers(text) if found is None else found:
        pieces += [text[end : one.start], mark_of(one.kind)]
        end = one.end
    return "".join([*pieces, text[end:]]) if pieces else text


def cleared(text: str, mode: str) -> Cleared:
    """Return a text with its identifiers told, and marked unless they are only to be reported."""
    found = identifiers(text)
    kinds = tuple(str(one.kind) for one in found)
    if mode == "report" or not found:
        return Cleared(text, kinds, tuple(one.start for one in found))
    places, moved = [], 0
    for one in found:
        places.append(one.start + moved)
        moved += len(mark_of(one.kind)) - (one.end - one.start)
    return Cleared(marked(text, found), kinds, tuple(places))


def cleared_document(document: Document, mode: str | None) -> Document:
    """Return a document as it may be shown, with its persona; itself where nothing is left to do."""
    if mode is None:
        return document
    persona = document.persona if document.persona is None or mode == "report" else marked(document.persona)
    if document.identifiers is not None:
        return document if persona == document.persona else replace(document, persona=persona)
    found = Cleared("") if document.text is None else cleared(encodable(document.text), mode)
    text = None if document.text is None else found.text
    return replace(document, text=text, persona=persona, identifiers=found.kinds)


def holds_identifier(text: str) -> bool:
    """Return whether a text has an identifier."""
    return bool(identifiers(text))


def dropped(kinds: Sequence[str] | None, mode: str | None) -> Rejected | None:
    """Return why no pairs are written about a document with identifiers of these kinds, if so."""
    return Rejected(Reason.IDENTIFIER, ", ".join(sorted(set(kinds)))) if kinds and mode == "drop" else None
