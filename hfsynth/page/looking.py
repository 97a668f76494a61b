"""What the page shows of a corpus: its rows by filters, one row, its chain, its figures. Knows no widgets."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hfsynth.core.errors import OutputError
from hfsynth.corpus.folder import Corpus
from hfsynth.job.progress import JournalView, Progress
from hfsynth.job.shards import record_paths
from hfsynth.page import markup
from hfsynth.page.commands import Ways, figuring, following, looking
from hfsynth.page.figures import Figures, figures_of, reasons_of, statuses_of
from hfsynth.page.filters import PAGE, SECONDS, Filters, find, fits
from hfsynth.page.live import LiveRows
from hfsynth.page.opening import OpenCorpus, open_corpus
from hfsynth.page.rows import UNDER_WAY, CorpusRow
from hfsynth.page.texts import in_all_styles
from hfsynth.quality.task_categories import Category
from hfsynth.texts.styles import RAW
from hfsynth.texts.wordings import STYLE_NAMES

LIVE = "under way"
"""In the place of a split: the rows that a running job has made of shards that are not finished."""

Choice = tuple[str, str]
"""What a person reads, and the value that it stands for."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of rows: choices to choose from, what is said of them, and where the next page begins (None: nowhere)."""

    rows: tuple[tuple[str, int], ...]
    said: str
    next: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """One row, as HTML; `pairs_choices` are whose words can be marked."""

    document: str
    pairs: str
    chain: str
    texts: str
    marks: tuple[Choice, ...]


class CorpusLook:
    """A corpus that is being looked at by any number of people; one that is being filled is looked at again."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._lock = threading.Lock()
        self._corpus = open_corpus(location)
        folder = self._corpus.folder if self._corpus.running else None
        self._journal = None if folder is None else JournalView(Corpus(folder))
        self._live = None if folder is None else LiveRows(folder)
        self._marks = _marks_of(folder)
        if self._live is not None:
            self._live.look()

    @property
    def corpus(self) -> OpenCorpus:
        return self._corpus

    def first_split(self) -> str:
        """Return the split that is shown first, none where the rows have no splits; of a running job what is LIVE."""
        if self._corpus.running and self._live is not None:
            works = self.figures().state == "running"
            return LIVE if works or len(self._live) or not len(self._corpus.rows) else ""
        return next((split for split in self._corpus.rows.splits if split), "")

    def again(self) -> None:
        """Look what a running job has done since, and whether it has ended."""
        with self._lock:
            if not self._corpus.running or self._live is None:
                return
            marks = _marks_of(self._corpus.folder)
            if marks != self._marks:
                self._open_again(marks)
            if self._corpus.running:
                self._live.look()
            else:
                self._live.close()

    def _open_again(self, marks: tuple[int, bool]) -> None:
        try:
            self._corpus, self._marks = open_corpus(self.location), marks
        except OutputError:  # as a job ends, its parts are for a moment neither where they were nor where they will be
            if marks != _marks_of(self._corpus.folder) or not marks[1]:
                return
            raise

    def figures(self) -> Figures:
        """Return the figures as they are now."""
        with self._lock:
            return figures_of(self._corpus, self._journal)

    def choices(self) -> dict[str, list[Choice]]:
        """Return what each filter can be set to, with how often it occurs where that is known."""
        figures = self.figures()
        running = self._corpus.running  # then numbers would soon be wrong
        statuses = [(name if running else f"{name} ({number:,})", name) for name, number in statuses_of(figures)]
        reasons = [(_numbered(name, 0 if running else number), name) for name, number in reasons_of(figures)]
        prompts = self._corpus.recipe.get("prompt") or {}
        named = [str(one.get("name")) for one in prompts.get("prompts") or () if isinstance(one, dict)]
        texts = _styles((self._corpus.stats.get("render") or {}).get("styles_drawn") or {})
        styles = [(_numbered(name.replace("_", " "), number), name) for name, number in texts.items()]
        splits = [(f"{name} ({rows:,})", name) for name, rows in self._corpus.rows.splits.items() if name]
        return {
            "status": [("any", ""), *statuses],
            "reason": [("any", ""), *reasons],
            "kind": [("any", ""), *((one.value.replace("_", " "), one.value) for one in Category)],
            "prompt": [("any", ""), *((name, name) for name in named)],
            "style": [("any", ""), *styles] if self._has_texts() else [],
            "split": [("under way", LIVE), ("finished shards", "")] if running else splits,
        }

    def listed(self, filters: Filters, split: str = "", start: int | None = None) -> Listed:
        """Return a page of the rows that fit, from row `start` on, or from the first of the split."""
        if split == LIVE:
            if self._corpus.running and self._live is not None:
                return self._listed_live(self._live, filters, start or 0)
            split = self.first_split()
        rows = self._corpus.rows
        if not len(rows):
            return Listed((), _empty(self._corpus, self.figures()), None)
        first = rows.start_of(split) if split else 0
        end = first + rows.splits.get(split, len(rows)) if split else len(rows)
        start = first if start is None else start
        found = find(rows, filters, texts=self._corpus.texts, start=start, end=end)
        shown = [rows.row(number) for number in found.numbers]
        choices = tuple((_label(row), row.number) for row in shown)
        return Listed(choices, _said(choices, start, found.seen, end, found.ended), None if found.ended else found.seen)

    def _listed_live(self, live: LiveRows, filters: Filters, start: int) -> Listed:
        numbers, found, seen = list(live.numbers()), [], start
        until = time.monotonic() + SECONDS
        for number in numbers[start:]:
            row, seen = live.row(number), seen + 1
            if row is not None and fits(row, filters):
                found.append((_label(row), number))
            if len(found) == PAGE or time.monotonic() >= until:
                break
        if not numbers:
            return Listed((), _empty(self._corpus, self.figures()), None)
        said = f"{len(found)} shown; looked at {seen:,} of {len(numbers):,} rows under way, the newest first."
        return Listed(tuple(found), said, seen if seen < len(numbers) else None)

    def moved(self, number: int) -> int | None:
        """Return the number that a row has now, another where its shard was finished; None where it is not found."""
        if number < UNDER_WAY or self._live is None or self._live.row(number) is not None:
            return number
        name = self._live.name_of(number)
        return None if name is None else self._corpus.rows.place_of(*name)

    def label(self, number: int) -> str:
        """Return how a row is listed."""
        return _label(self._row(number))

    def _row(self, number: int) -> CorpusRow:
        row = self._live.row(number, wait=True) if self._live is not None and number >= UNDER_WAY else None
        if row is not None:
            return row
        now = self.moved(number)
        if now is None:
            raise OutputError("This row is no longer under way.", hint="Choose it again from the finished shards.")
        return self._corpus.rows.row(now)

    def _chain(self, row: CorpusRow) -> list[CorpusRow]:
        live = self._live if row.under_way else None
        return self._corpus.rows.chain(row.number) if live is None else live.chain(row.number)

    def shown(self, number: int, pair: int | None = None) -> Shown:
        """Return a row; `pair` is whose words are marked in the document, None for all."""
        row = self._row(number)
        chain = self._chain(row)
        text = self._corpus.texts.text_of(row) if self._corpus.texts is not None and self._has_texts() else None
        style = f'<p class="hs-note">In a training text of the style {_style(text.style)}.</p>' if text else ""
        marks = (("all pairs", ""), *((f"pair {at + 1}", str(at)) for at in range(len(row.pairs))))
        return Shown(
            f"<h2>Document</h2>{markup.document(row, pair)}",
            f"<h2>Pairs</h2>{markup.pairs(row, pair)}",
            f"<h2>Chain</h2>{style}{markup.chain(chain, row.number)}",
            (f"{markup.rendered(text)}<h4>The chain in every style</h4>" if text else "") + in_all_styles(chain),
            marks,
        )

    def _has_texts(self) -> bool:
        return self._corpus.texts is not None and self._corpus.texts.are_there

    def documents(self, number: int | None, most: int, longest: int) -> list[str]:
        """Return `most` documents of a row's chain, its own the last, each so long at most; empty for want of more."""
        row = None if number is None else self._row(number)
        rows = [] if row is None else [one for one in self._chain(row) if one.shot <= row.shot]
        texts = [one.text[:longest] for one in rows][-most:]
        return [*texts, *[""] * (most - len(texts))]

    def ways(self, filters: Filters, split: str = "") -> Ways:
        """Return how the same rows are had from the command line and in Python."""
        running = self._corpus.running
        if split == LIVE and running:
            return following(self.location, filters)
        return looking(self.location, self.first_split() if split == LIVE else split, filters, running=running)

    def summary(self) -> str:
        """Return what the corpus is, in a line or two."""
        figures = self.figures()
        told = {
            "corpus": self.location,
            "state": figures.state,
            "documents": f"{figures.total:,}" if figures.total else f"{len(self._corpus.rows):,} rows",
            "pairs": f"{figures.pairs:,}" if figures.pairs else "",
            **figures.recipe,
        }
        return markup.definitions({name: value for name, value in told.items() if value}) + told_progress(
            figures.progress
        )

    def plots(self) -> str:
        """Return the figures as tables with bars."""
        figures = self.figures()
        drawn = [
            markup.bars("Documents by what became of them", figures.documents),
            markup.bars("What was lost, by reason", figures.rejected),
            markup.bars("Documents by their number of pairs", figures.pairs_per_document),
            markup.bars("Tokens by where they come from", figures.tokens),
            *(markup.bars(title, values) for title, values in figures.more.items()),
        ]
        if not any(drawn):
            return markup.message("There are no figures yet.", "They come with the first documents that are done.")
        return f'<div class="hs-plots">{"".join(drawn)}</div>'

    def plots_ways(self) -> Ways:
        """Return how the figures are had from the command line and in Python."""
        return figuring(self.location)


def _styles(drawn: Mapping[str, int]) -> dict[str, int]:
    """Return every style with how many texts have it; one that is inverted is one of its style, and a choice too."""
    found = dict.fromkeys((*STYLE_NAMES, RAW), 0)
    for name, number in drawn.items():
        for own in {name, name.partition("+")[0]}:
            found[own] = found.get(own, 0) + number
    return found


def _style(name: str) -> str:
    return markup.escaped(name.replace("_", " "))


def _marks_of(folder: Path | None) -> tuple[int, bool]:
    """Return what changes when a shard is finished, or the job."""
    corpus = None if folder is None else Corpus(folder)
    return (0, True) if corpus is None else (len(record_paths(corpus.parts)), corpus.manifest.exists())


def _numbered(name: str, number: int) -> str:
    return f"{name} ({number:,})" if number else name


def _label(row: CorpusRow) -> str:
    name = f"{markup.one_line(row.id, 24)} · " if row.id else ""
    told = f"{row.status} · " if row.status and row.status != "ok" else ""
    pairs = markup.counted(len(row.pairs), "pair")
    begins = row.text or next((pair.instruction for pair in row.pairs), "")
    number = "" if row.under_way else f"{row.number + 1:,} · "
    return f"{number}{name}{told}{pairs} · {markup.one_line(begins, 60)}"


def _said(choices: Sequence[object], start: int, seen: int, end: int, ended: bool) -> str:
    looked = f"rows {start + 1:,} to {max(seen, start + 1):,} of {end:,}"
    if choices:
        return f"{len(choices)} shown; looked at {looked}."
    if ended:
        return f"No row fits; looked at {looked}. Ask for less, or go back to the first page."
    return f"None so far; looked at {looked}. Go on with “Next”."


def _empty(corpus: OpenCorpus, figures: Figures) -> str:
    if corpus.running and figures.state == "running":
        return "Nothing is there yet: rows appear here by themselves as their chains end."
    if corpus.running:
        return "Nothing is there yet, and nobody works on it: give the hfsynth synthesize command again."
    return "This folder holds no pairs. Make some: hfsynth synthesize SOURCE OUT."


def told_progress(progress: Progress | None) -> str:
    """Return how far a job is as HTML, and what there is to do where nobody works on it; nothing for no job."""
    if progress is None:
        return ""
    of = f" of {progress.total:,}" if progress.total else ""
    workers = markup.counted(progress.workers, "worker")
    told = f"{progress.documents_seen:,} documents{of}, {progress.pairs_seen:,} pairs, {workers}"
    share = progress.documents_seen / progress.total if progress.total else 0.0
    left = f", about {progress.seconds_left:,.0f} s left" if progress.seconds_left is not None else ""
    idle = "" if progress.workers else _idle(is_over=progress.rows >= (progress.total or progress.rows + 1))
    bar = f'<progress max="1" value="{min(share, 1):.4f}" aria-label="How far the job is"></progress>'
    return f'<div class="hs-progress">{bar}<span>{markup.escaped(told + left)}</span></div>{idle}'


def _idle(*, is_over: bool) -> str:
    """Say what there is to do where no worker runs; at the end that is for a moment so."""
    again = "give the hfsynth synthesize command again."
    if is_over:
        return markup.message(
            "Every document is done: the corpus is put together now.", "", f"Where nothing comes, {again}"
        )
    return markup.message("Nobody works on it.", "", again.capitalize())
