"""What the widgets of a corpus are given when somebody filters, chooses a row, or waits. Knows no widgets.

A change of a widget is a plain value, as the page's library takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfsynth.core.errors import HfsynthError
from hfsynth.page import markup
from hfsynth.page.filters import filters_of
from hfsynth.page.looking import CorpusLook

Change = dict[str, Any]


def changed(**values: Any) -> Change:  # noqa: ANN401
    """Return a change of some of a widget's own values; of none, it stays as it is."""
    return {"__type__": "update", **values}


class CorpusAnswers:
    """Answers to what is done in the view of a corpus; `given` are the values of its filters, the split last."""

    def __init__(self, look: CorpusLook) -> None:
        self.look = look

    def search(self, *given: Any) -> list[Any]:  # noqa: ANN401
        """Return the first page of rows."""
        return self._listing([None], given)

    def onward(self, starts: list[int | None], following: int | None, *given: Any) -> list[Any]:  # noqa: ANN401
        """Return the next page of rows; the last stays where it is."""
        return self._listing(starts if following is None else [*starts, following], given)

    def back(self, starts: list[int | None], following: int | None, *given: Any) -> list[Any]:  # noqa: ANN401
        """Return the page of rows before."""
        return self._listing(starts[:-1] or [None], given)

    def chosen(self, number: int | None) -> list[Any]:
        """Return a row, and whose words can be marked in it."""
        *parts, marks = self.row(number, "")
        return [*parts, changed(**marks)]

    def marked(self, number: int | None, pair: str) -> list[Any]:
        """Return a row's document and pairs with the words of one pair marked."""
        return self.row(number, pair)[:2]

    def row(self, number: int | None, pair: str) -> list[Any]:
        """Return a row as HTML, and whose words can be marked."""
        none = {"choices": [("all pairs", "")], "value": ""}
        if number is None:
            return [markup.message("No row is chosen.", "", "Choose one from the rows."), "", "", "", none]
        try:
            shown = self.look.shown(int(number), int(pair) if pair else None)
        except HfsynthError as error:
            return [markup.failure(error), "", "", "", none]
        parts = [shown.document, shown.pairs, shown.chain, shown.texts]
        return [*parts, {"choices": list(shown.marks), "value": pair}]

    def again(self, number: int | None, starts: list[int | None], *given: Any) -> list[Any]:  # noqa: ANN401
        """Return what a running job has come to; rows come as their shards are finished."""
        try:
            self.look.again()
            rows, said = changed(), changed()
            if number is None or not self.look.corpus.running:
                rows, said, *_ = self._listing(starts, given)
            return [self.look.summary(), self.look.plots(), rows, said, changed(active=self.look.corpus.running)]
        except HfsynthError as error:
            return [markup.failure(error), *[changed()] * 4]

    def list_rows(self, *given: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return the first page of rows to a program."""
        listed = self.look.listed(filters_of(given), given[-1] or "")
        return {"rows": [[label, number] for label, number in listed.rows], "said": listed.said}

    def show_row(self, number: int) -> list[str]:
        """Return a row's document, pairs, chain and texts to a program, as HTML."""
        return self.row(number, "")[:4]

    def _listing(self, starts: list[int | None], given: Sequence[Any]) -> list[Any]:
        filters, split = filters_of(given), given[-1] or ""
        ways = self.look.ways(filters, split)
        told = [ways.command, ways.python]
        try:
            listed = self.look.listed(filters, split, starts[-1])
        except HfsynthError as error:
            return [changed(choices=[], value=None), markup.failure(error), starts, None, *told]
        rows = changed(choices=list(listed.rows), value=listed.rows[0][1] if listed.rows else None)
        return [rows, markup.message(listed.said), starts, listed.next, *told]
