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

    def again(self, follow: bool, number: int | None, starts: list[int | None], *given: Any) -> list[Any]:  # noqa: ANN401
        """Return what a running job has come to: summary, figures, timer, splits, then the list of rows and the row.

        With `follow` they are the newest. Else they stay as they are, for somebody reads them; only when the job ends
        the list is that of its rows.
        """
        try:
            self.look.again()
            ended = not self.look.corpus.running
            state = [self.look.summary(), self.look.plots(), changed(active=not ended)]
            state.append(self._splits() if ended else changed())
            if number is not None and not follow and not ended:
                return [*state, *[changed()] * 9]
            rows, said, starts, following, *_ = self._listing([None] if follow else starts, given)
            if not rows["choices"] and number is not None:  # between two shards
                return [*state, *[changed()] * 9]
            now = None if number is None or (follow and not ended) else self.look.moved(int(number))
            if now is not None:
                return [*state, self._keeping(rows, now), said, starts, following, *[changed()] * 5]
            first = rows["value"]
            shown = [changed()] * 5 if first == number else self.chosen(first)
            return [*state, rows, said, starts, following, *shown]
        except HfsynthError as error:
            return [markup.failure(error), *[changed()] * 12]

    def _splits(self) -> Change:
        """Return the splits of a job that has ended."""
        choices = self.look.choices()["split"]
        first = self.look.first_split() or None
        return changed(choices=choices, value=first, label="Split", visible=len(choices) > 1)

    def _keeping(self, rows: Change, chosen: int) -> Change:
        """Return a change of the list that has the chosen row in it."""
        choices = list(rows["choices"])
        if chosen not in [number for _, number in choices]:
            choices.append((self.look.label(chosen), chosen))
        return changed(choices=choices, value=chosen)

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
