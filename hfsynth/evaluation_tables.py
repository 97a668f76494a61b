"""The tables that `evaluate` prints, of a synthesizer and of a corpus. Knows the values, not how they came about."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hfsynth.card_text import as_mean, as_score, as_share

Row = Sequence[str]

_PLAIN_WIDTH = 140  # of a table that goes into a file or a pipe
_OF_SYNTHESIZER = ("documents", "response accuracy", "pair quality", "with pairs", "pairs each", "duplicates")
_SHARES = {
    "with_pairs": "documents with pairs",
    "grounding": "words of a response that are in the document",
    "fully_grounded": "responses with all words in the document",
    "with_foreign_numbers": "with a number that the document does not have",
    "with_foreign_names": "with a name that the document does not have",
    "answer_in_instruction": "with the whole answer in the instruction",
    "repeated_instructions": "with an instruction that occurred before",
    "nearly_repeated_instructions": "with nearly such an instruction",
    "language_mismatch": "in another language than the document",
}
_JUDGED = {"context_relevance": "about the document", "response_accuracy": "with a right response"}


def show_synthesizer(values: Mapping[str, Any]) -> None:
    """Print the layout of the paper's Table 5, then the sources."""
    for gold, by_shots in values["results"].items():
        settings = [(_setting(shots), found["all"]) for shots, found in by_shots.items()]
        _table(f"{gold}: all documents", _OF_SYNTHESIZER, map(_of_synthesizer, settings))
        for shots, found in by_shots.items():
            title = f"{gold}, {_setting(shots)}, by source"
            _table(title, _OF_SYNTHESIZER, map(_of_synthesizer, found["sources"].items()))


def show_corpus(values: Mapping[str, Any]) -> None:
    """Print the figures of a corpus, each with its 95% interval: shares, lengths, kinds of tasks, verdicts."""
    drawn = ", drawn from the corpus" if values["sampled"] else ""
    splits = values.get("splits", {})
    of = f" ({', '.join(f'{name} {number:,}' for name, number in splits.items())})" if len(splits) > 1 else ""
    title = f"{values['pairs']:,} pairs of {values['documents']:,} documents{of}{drawn}"
    figures = values["figures"]
    pairs = ("pairs a document", as_mean(figures["pairs_per_document"]))
    _table(title, ["% (95% interval)"], [*_shares(_SHARES, figures), pairs])
    lengths = list(_lengths(values))
    if lengths:
        _table("words", ["mean", "median", "5 to 95 %", "distinct-1", "distinct-2", "distinct-3"], lengths)
    if values["categories"]:
        tasks = {name: name.replace("_", " ") for name in values["categories"]}
        _table("kinds of tasks, told by rules", ["% of pairs"], _shares(tasks, values["categories"]))
    if "judge" in values:
        _show_judge(values["judge"])


def _show_judge(judge: Mapping[str, Any]) -> None:
    _table(f"{judge['pairs']:,} pairs judged by {judge['model']}", ["% of pairs"], _shares(_JUDGED, judge))
    missing = {reason: count for reason, count in judge["unjudged"].items() if count}
    if missing:
        counted = ((reason.replace("_", " "), f"{count:,}") for reason, count in missing.items())
        _table("pairs without a verdict", ["pairs"], counted)


def _shares(names: Mapping[str, str], figures: Mapping[str, Mapping[str, float | None]]) -> Iterator[Row]:
    for name, told in names.items():
        yield told, as_score(figures[name])


def _lengths(values: Mapping[str, Any]) -> Iterator[Row]:
    for name, mean in (("instructions", "instruction_words"), ("responses", "response_words")):
        words, distinct = values["words"][name], values["distinct"][name]
        if words:
            span = f"{words['5%']}–{words['95%']}"
            shares = ("–" if share is None else f"{share:.3f}" for share in distinct.values())
            yield name, as_mean(values["figures"][mean]), str(words["50%"]), span, *shares


def _setting(shots: str) -> str:
    return "zero-shot" if shots == "0" else f"{shots}-shot"


def _of_synthesizer(named: tuple[str, Mapping[str, Any]]) -> Row:
    name, found = named
    pairs = found["pairs_per_document"]["mean"]
    return (
        name,
        f"{found['documents']:,}",
        as_score(found["response_accuracy"]["f1"]),
        as_score(found["pair_quality"]["f1"]),
        as_share(found["with_pairs"]["mean"]),
        "–" if pairs is None else f"{pairs:.1f}",
        as_share(found["duplicates"]),
    )


def _table(title: str, headings: Sequence[str], rows: Iterable[Row]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    for heading in ("", *headings):
        table.add_column(heading, no_wrap=True, justify="right" if heading else "left")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    output = Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False)  # names stay as they are
    output.print(title, soft_wrap=True)  # a table's own title would be broken at the width of the table
    output.print(table)
