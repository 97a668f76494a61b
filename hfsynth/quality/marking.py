"""Documents before pairs are written about them: their identifiers found, and marked where no pair may quote them.

`mark` puts a mark such as `<EMAIL>` in the place of each; `drop` does so too, and no pairs are written about a document
that had any; `report` counts them. Looked for is what `hfsynth.quality.identifiers` finds, unless a model is asked too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hfsynth.core.records import Document, Reason, Rejected
from hfsynth.core.text import encodable
from hfsynth.quality.identifiers import Find, Identifier, identifiers


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


@dataclass(frozen=True, slots=True)
class Marking:
    """What is done with the identifiers of documents, by `mode`, and what finds them."""

    mode: str
    find: Find = identifiers

    def cleared(self, text: str) -> Cleared:
        """Return a text with its identifiers told, and marked unless they are only to be reported."""
        found = self.find(text)
        kinds = tuple(str(one.kind) for one in found)
        if self.mode == "report" or not found:
            return Cleared(text, kinds, tuple(one.start for one in found))
        places, moved = [], 0
        for one in found:
            places.append(one.start + moved)
            moved += len(mark_of(one.kind)) - (one.end - one.start)
        return Cleared(marked(text, found), kinds, tuple(places))

    def document(self, document: Document) -> Document:
        """Return a document as it may be shown, with its persona; itself where nothing is left to do."""
        persona = document.persona
        if persona is not None and self.mode != "report":
            persona = marked(persona, self.find(persona))
        if document.identifiers is not None:
            return document if persona == document.persona else replace(document, persona=persona)
        found = Cleared("") if document.text is None else self.cleared(encodable(document.text))
        text = None if document.text is None else found.text
        return replace(document, text=text, persona=persona, identifiers=found.kinds)

    def dropped(self, kinds: Sequence[str] | None) -> Rejected | None:
        """Return why no pairs are written about a document with identifiers of these kinds, if so."""
        if not kinds or self.mode != "drop":
            return None
        return Rejected(Reason.IDENTIFIER, ", ".join(sorted(set(kinds))))
