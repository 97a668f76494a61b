"""Screen synthesized rows one by one: by language, benchmarks and identifiers, and by what is known to be a duplicate.

Pure functions of a row. Nothing disappears: a document that is taken out keeps its row with the status `screened`, and
its pairs, like single pairs that are taken out, go to `synthesis.rejected` with the reason. The entry of the document
itself says why: its language, the kinds of identifiers, what it is a duplicate of. What is rejected for its identifiers
is kept with marks in their places.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hfsynth.core.conditions import Condition
from hfsynth.core.decontamination import DEFAULT_CONDITION
from hfsynth.core.records import Reason, Row, Status
from hfsynth.core.screening import Screening
from hfsynth.quality.identifiers import Find, Identifier, identifiers
from hfsynth.quality.marking import marked
from hfsynth.quality.measures import LooksForBenchmarks, contaminated
from hfsynth.quality.words import language_of

COLUMNS = ("text", "pairs", "synthesis", "verdicts")
"""The columns of a row that are read and may be changed; the last is there in judged corpora alone."""

_UNCONTAMINATED = (Condition.parse(DEFAULT_CONDITION),)
_QUOTED = ("reasoning", "rewritten")  # texts in `synthesis`


@dataclass(frozen=True, slots=True)
class Screened:
    """A row after screening, and what there was to count. An unchanged row is the very one that went in."""

    row: Row
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Repeated:
    """What of a row is a duplicate: the document, of which one and whether exactly so, or pairs by their numbers."""

    document: str | None = None
    exact: bool = False
    pairs: frozenset[int] = frozenset()


def screened(
    row: Row, settings: Screening, index: LooksForBenchmarks | None = None, find: Find = identifiers
) -> Screened:
    """Screen a row by all that it tells alone. A document that was screened out before keeps its reason.

    `index` is that of the benchmarks that are looked for, where there are any; `find` finds identifiers.
    """
    found = Screened(row)
    if settings.languages:
        found = _by_language(found, settings.languages)
    if index is not None:
        found = _by_benchmarks(found, index)
    return _by_identifiers(found, settings.pii, find) if settings.pii else found


def without_repeated(found: Screened, repeated: Repeated) -> Screened:
    """Take out of a screened row what is a duplicate."""
    if repeated.document is not None:
        kind = "exact" if repeated.exact else "near"
        return _without_document(
            found, Reason.DUPLICATE, f"{kind} duplicate of {repeated.document}", f"duplicate/{kind}"
        )
    return _without_pairs(found, repeated.pairs, Reason.DUPLICATE) if repeated.pairs else found


def is_in(row: Row) -> bool:
    """Return whether a row's document is there to be trained on: it has a text, and was not screened out."""
    return row["synthesis"]["status"] != Status.SCREENED and bool((row["text"] or "").strip())


def _by_language(found: Screened, languages: Collection[str]) -> Screened:
    if not is_in(found.row):
        return found
    language = language_of(found.row["text"])
    if language in languages:
        return found
    return _without_document(found, Reason.LANGUAGE, language, f"language/{language}")


def _by_benchmarks(found: Screened, index: LooksForBenchmarks) -> Screened:
    """Take out what a job with benchmarks would have kept out."""
    if not is_in(found.row):
        return found
    if (held := contaminated(found.row["text"], _UNCONTAMINATED, index)) is not None:
        return _without_document(found, Reason.CONTAMINATED, held.text)
    shares = [index.pair(pair["instruction"], pair["response"]).share for pair in found.row["pairs"] or []]
    unmet = {number for number, share in enumerate(shares) if not _UNCONTAMINATED[0].is_met_by(share)}
    return _without_pairs(found, unmet, Reason.CONTAMINATED)


def texts_of(row: Row) -> Iterator[str]:
    """Yield the texts of a row in which identifiers are looked for."""
    yield row["text"] or ""
    for pair in row["pairs"] or []:
        yield from (pair["instruction"], pair["response"])
    synthesis = row["synthesis"]
    yield from (synthesis[name] for name in _QUOTED if synthesis.get(name))
    for one in synthesis["rejected"] or []:
        values = _entry_values(one["text"])
        yield from (one["text"],) if values is None else (text for text in values.values() if isinstance(text, str))


def _by_identifiers(found: Screened, mode: str, find: Find) -> Screened:
    row, pairs = found.row, found.row["pairs"] or []
    own = find(row["text"] or "")
    of_pairs = [[*find(pair["instruction"]), *find(pair["response"])] for pair in pairs]
    counts = found.counts + _counted(own, of_pairs) if own or any(of_pairs) else found.counts
    if mode == "report":
        return Screened(row, counts)
    clean = Screened(_marked_row(row, own, find, marks_pairs=any(of_pairs)), counts)
    if mode == "mark":
        return clean
    if own and is_in(row):
        kinds = ", ".join(sorted({str(one.kind) for one in own}))
        return _without_document(clean, Reason.IDENTIFIER, kinds)
    return _without_pairs(clean, {number for number, some in enumerate(of_pairs) if some}, Reason.IDENTIFIER)


def _counted(own: Sequence[Identifier], of_pairs: Sequence[Sequence[Identifier]]) -> Counter[str]:
    names = [f"documents/{one.kind}" for one in own] + [f"pairs/{one.kind}" for some in of_pairs for one in some]
    return Counter(names) + Counter({"holding/documents": bool(own), "holding/pairs": sum(map(bool, of_pairs))})


# --- taking out -------------------------------------------------------------------------------------------------------


def _without_document(found: Screened, reason: Reason, why: str, *counters: str) -> Screened:
    """Take a document out with all its pairs."""
    left = _without_pairs(found, range(len(found.row["pairs"] or [])), reason)
    synthesis = left.row["synthesis"]
    entry = {"reason": reason.value, "text": why}
    changed = {"status": Status.SCREENED.value, "rejected": [*(synthesis["rejected"] or []), entry]}
    counts = left.counts + Counter([f"out/documents/{reason.value}", *counters])
    return Screened({**left.row, "synthesis": {**synthesis, **changed}}, counts)


def _without_pairs(found: Screened, numbers: Collection[int], reason: Reason) -> Screened:
    """Move pairs to what was rejected, with a judge's verdicts on them where there are any."""
    if not numbers:
        return found
    row, pairs, verdicts = found.row, found.row["pairs"], found.row.get("verdicts")
    synthesis = row["synthesis"]
    entries = [_entry(pairs[number], verdicts and verdicts[number], reason) for number in sorted(numbers)]
    left = _others(pairs, numbers)
    is_empty = synthesis["status"] == Status.OK and not left and synthesis.get("rewritten") is None
    status = {"status": Status.NO_PAIRS.value} if is_empty else {}
    changed = {
        **row,
        "pairs": left,
        "synthesis": {**synthesis, **status, "rejected": [*(synthesis["rejected"] or []), *entries]},
    }
    if verdicts is not None:
        changed["verdicts"] = _others(verdicts, numbers)
    return Screened(changed, found.counts + Counter({f"out/pairs/{reason.value}": len(numbers)}))


def _others(items: Sequence[Any], numbers: Collection[int]) -> list[Any]:
    return [item for number, item in enumerate(items) if number not in numbers]


def _entry(pair: Mapping[str, str], verdict: Mapping[str, Any] | None, reason: Reason) -> dict[str, str]:
    told = {name: value for name, value in (verdict or {}).items() if value is not None}
    return {"reason": reason.value, "text": json.dumps({**pair, **told}, ensure_ascii=False)}


# --- marking ----------------------------------------------------------------------------------------------------------


def _marked_row(row: Row, own: Sequence[Identifier], find: Find, *, marks_pairs: bool) -> Row:
    """Return a row with marks in its text, its pairs, and what its `synthesis` quotes; itself where there are none."""
    changed: dict[str, Any] = {}

    def clean(text: str) -> str:
        return marked(text, find(text))

    synthesis = _marked_synthesis(row["synthesis"], clean)
    if own:
        text = row["text"]
        changed["text"] = marked(text, own)
        if truncated := synthesis["truncated"]:
            synthesis = {**synthesis, "truncated": _moved(len(text) - truncated, text, own)}
    if marks_pairs:
        changed["pairs"] = [{**pair, **_all(clean, pair, ("instruction", "response"))} for pair in row["pairs"]]
    if synthesis is not row["synthesis"]:
        changed["synthesis"] = synthesis
    return {**row, **changed} if changed else row


def _moved(seen: int, text: str, found: Sequence[Identifier]) -> int:
    """Return how many characters of a marked text were not seen, where `seen` characters of the text itself were."""
    last = max([seen, *(one.end for one in found if one.start < seen)])
    return len(marked(text, found)) - len(marked(text[:last], [one for one in found if one.start < seen]))


def _marked_synthesis(synthesis: dict[str, Any], clean: Callable[[str], str]) -> dict[str, Any]:
    rejected = synthesis["rejected"] or []
    cleaned = [{**one, "text": _marked_entry(one["text"], clean)} for one in rejected]
    changed: dict[str, Any] = {"rejected": cleaned} if cleaned != list(rejected) else {}
    quoted = _all(clean, synthesis, [name for name in _QUOTED if synthesis.get(name)])
    changed |= {name: text for name, text in quoted.items() if text != synthesis[name]}
    return {**synthesis, **changed} if changed else synthesis


def _marked_entry(text: str, clean: Callable[[str], str]) -> str:
    """Mark the text of a rejected entry: within its values where it is JSON, so that it stays JSON."""
    values = _entry_values(text)
    if values is None:
        return clean(text)
    quoted = _all(clean, values, [name for name, value in values.items() if isinstance(value, str)])
    same = all(quoted[name] == values[name] for name in quoted)
    return text if same else json.dumps({**values, **quoted}, ensure_ascii=False)


def _entry_values(text: str) -> dict[str, Any] | None:
    """Return the values of a rejected pair; None for what is kept as it was said."""
    if not text.startswith("{"):
        return None
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _all(change: Callable[[str], str], values: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    return {name: change(values[name]) for name in names}
