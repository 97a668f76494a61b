"""What became of every document, and what was not kept and why: one table, counted from the rows of `pairs`.

Where the rows do not say it (a corpus of another making), the job's statistics do. Knows nothing of how a card looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hfsynth.core.records import Reason, Status
from hfsynth.corpus.files import CorpusFiles
from hfsynth.corpus.folder import SplitFiles

_STATUSES = {
    "ok": "kept, with pairs",
    "no_pairs": "kept, without pairs: none was written, or none was kept",
    "too_long": "did not fit into the model's window",
    "empty": "has no text",
    "failed": "the engine refused it or failed",
    "screened": "taken out by screening",
}
_REASONS = {
    "no_question": "text that belongs to no question",
    "no_answer": "a question without an answer",
    "empty_question": "an answer to an empty question",
    "empty_answer": "an empty answer",
    "duplicate_question": "the same question a second time about one document",
    "unfinished": "cut off by the limit of tokens",
    "stray_delimiter": "a delimiter where none belongs",
    "invalid_json": "not the object that was asked for",
    "too_long": "the document did not fit into the model's window",
    "engine": "the engine refused the document or failed",
    "no_prompt": "no prompt of the recipe is for such a document",
    "unjudged": "a pair without a verdict, where the conditions ask for one",
    "not_chosen": "a pair of a candidate; others about the document were better",
    "language": "in a language that was not wanted",
    "identifier": "holds a personal identifier",
    "duplicate": "the same as another one, or nearly so",
    "contaminated": "holds a question of a benchmark",
}
_FILTERED = "filtered_"
_RENDERED = {
    "empty_documents": "has no text",
    "screened_documents": "was taken out before",
    "broken_chains": "its prompt showed a document that is no longer right before it",
    "empty_questions": "a pair without a question",
    "empty_answers": "a pair without an answer",
    "pairs_without_text": "a pair of a document without text",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line of the table: of what (`documents`, …), the status or reason, how many, and what it means."""

    of: str
    name: str
    number: int
    why: str


def outcomes(
    files: CorpusFiles, splits: Sequence[SplitFiles], stats: Mapping[str, Any], *, of_stats: bool
) -> tuple[Outcome, ...]:
    """Return the whole table; empty where neither the rows nor, with `of_stats`, the statistics say anything."""
    counted = counted_rows(files, splits)
    if counted is None and of_stats:
        counted = Counter(stats.get("documents") or {}), Counter(stats.get("rejected") or {})
    return (*_of_rows(*counted), *_of_others(stats)) if counted else tuple(_of_others(stats))


def counted_rows(files: CorpusFiles, splits: Sequence[SplitFiles]) -> tuple[Counter[str], Counter[str]] | None:
    """Count the rows of the config `pairs`: documents by status, and what was not kept by reason.

    None where the rows have no column `synthesis` that says it.
    """
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    paths = [path for split in splits if split.config == "pairs" for path in split.files]
    for path in paths:
        columns = [name for name in _leaves(files, path) if _is_told(name)]
        if "synthesis.status" not in columns:
            return None
        with files.opened(path) as file:
            for batch in file.iter_batches(columns=columns):
                told = batch.column("synthesis")
                statuses += _counts(pc.struct_field(told, "status"))
                if len(columns) > 1:
                    reasons += _counts(pc.struct_field(pc.list_flatten(pc.struct_field(told, "rejected")), "reason"))
    return (statuses, reasons) if paths else None


def _leaves(files: CorpusFiles, path: str) -> list[str]:
    schema = files.footer(path).schema
    return [schema.column(number).path for number in range(len(schema))]


def _is_told(leaf: str) -> bool:
    return leaf == "synthesis.status" or (leaf.startswith("synthesis.rejected.") and leaf.endswith(".reason"))


def _counts(values: pa.Array) -> Counter[str]:
    return Counter({str(one["values"]): one["counts"] for one in pc.value_counts(values).to_pylist()})


def _of_rows(statuses: Mapping[str, int], reasons: Mapping[str, int]) -> Iterator[Outcome]:
    known = [status.value for status in Status]
    for name in [*known, *sorted(statuses.keys() - {*known})]:
        yield Outcome("documents", name, statuses.get(name, 0), _STATUSES.get(name, ""))
    for name in sorted(reasons):
        yield Outcome("what was written", name, reasons[name], _why(name))


def _why(reason: str) -> str:
    """Say what a reason means; that of a condition names its measure."""
    if reason.startswith(_FILTERED):
        return f"a pair that does not meet the condition on {reason.removeprefix(_FILTERED).replace('_', ' ')}"
    return _REASONS.get(reason, "")


def _of_others(stats: Mapping[str, Any]) -> Iterator[Outcome]:
    """Yield what was left out before the rows (of the source) and after them (of texts, of a mixture's parts)."""
    if stats.get("unreadable"):
        yield Outcome(
            "rows of the source", "unreadable", int(stats["unreadable"]), "could not be read, and are not here"
        )
    counts = (stats.get("render") or {}).get("counts") or {}
    for name, why in _RENDERED.items():
        if counts.get(name):
            yield Outcome("what was rendered", name, int(counts[name]), why)
    for part in (stats.get("mix") or {}).get("parts") or ():
        for name, number in sorted((part.get("skipped") or {}).items()):
            yield Outcome(f"rows of the part {part.get('name')}", name, int(number), name.replace("_", " "))


def meanings() -> dict[str, str]:
    """Return every status and reason that there is, with what it means."""
    return {status.value: _STATUSES.get(status.value, "") for status in Status} | {
        reason.value: _why(reason.value) for reason in Reason
    }
