"""What a finished corpus is screened for: the settings, what is recorded of them, and the sentences that say it.

Knows nothing of how anything is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hfsynth.core.decontamination import DEFAULT_CONDITION, Decontamination, sentences
from hfsynth.core.errors import ConfigError
from hfsynth.core.identifier_models import IdentifierModel
from hfsynth.core.records import Counts

PII_MODES = ("mark", "drop", "report")
SIMILARITY = 0.8
"""The Jaccard similarity from which two documents are near-duplicates."""

SHINGLE_WORDS = 5
"""How many neighbouring words are compared as one."""

_USE = "Use --pii mark, drop or report beside it."
_OPTIONS = "--pii mark|drop|report, --duplicates, --language en,de, --decontaminate core"
_NAMES = {
    "benchmarks": "benchmark questions",
    "identifiers": "personal identifiers",
    "duplicates": "duplicates",
    "language": "languages",
}


@dataclass(frozen=True, slots=True)
class Screening:
    """What to screen for. `languages` are codes as `hfsynth.quality.words.language_codes` gives them.

    `benchmarks` are settled: they name the index that they made (`hfsynth.quality.decontamination`). So is `pii_model`,
    which tells names and the like beside the identifiers that rules find.
    """

    pii: str | None = None
    duplicates: bool = False
    languages: tuple[str, ...] = ()
    benchmarks: Decontamination | None = None
    pii_model: IdentifierModel | None = None

    def __post_init__(self) -> None:
        if self.pii not in (None, *PII_MODES):
            raise ConfigError(f"pii must be one of {', '.join(PII_MODES)}, not {self.pii!r}.", hint="Use --pii mark.")
        if self.pii_model is not None and self.pii is None:
            raise ConfigError("A model that tells identifiers was named; nothing is to be done with them.", hint=_USE)
        if not self.measures:
            raise ConfigError("Nothing was asked for: a corpus is screened for something.", hint=f"Use {_OPTIONS}.")

    @property
    def measures(self) -> list[dict[str, Any]]:
        """Return the measures in the order in which they are taken, each with its settings, as plain values."""
        language = {"measure": "language", "languages": list(self.languages)}
        benchmarks = {"measure": "benchmarks", **_index(self.benchmarks)}
        model = self.pii_model.told if self.pii_model else {}
        identifiers = {"measure": "identifiers", "mode": self.pii, **model}
        duplicates = {"measure": "duplicates", "similarity": SIMILARITY, "shingle_words": SHINGLE_WORDS}
        wanted = (self.languages, self.benchmarks, self.pii, self.duplicates)
        measures: tuple[dict[str, Any], ...] = (language, benchmarks, identifiers, duplicates)
        return [measure for measure, asked in zip(measures, wanted, strict=True) if asked]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` reads them back."""
        own = {"pii": self.pii, "duplicates": self.duplicates, "languages": list(self.languages)}
        model = {"pii_model": self.pii_model.to_dict()} if self.pii_model else {}
        return {**own, **model, **({"benchmarks": self.benchmarks.to_dict()} if self.benchmarks else {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        own = {"languages": tuple(values["languages"]), "benchmarks": Decontamination.read(values.get("benchmarks"))}
        return cls(**{**values, **own, "pii_model": IdentifierModel.read(values.get("pii_model"))})


def _index(benchmarks: Decontamination | None) -> dict[str, Any]:
    """Return which index was looked in, without the folders of this machine."""
    told = {} if benchmarks is None else benchmarks.to_dict()
    named = {name: value for name, value in told.items() if name != "sources"}
    return {"condition": DEFAULT_CONDITION, **named} if named else {}


_REASONS = {
    "language": "language",
    "benchmarks": "contaminated",
    "identifiers": "identifier",
    "duplicates": "duplicate",
}


def steps_of(settings: Screening, counts: Counter[str]) -> list[dict[str, Any]]:
    """Return what is told of each measure: its settings, and what it found and took out.

    `counts` are those of `hfsynth.quality.screening`. `documents_out` and `pairs_out` were taken out for the measure's
    own reason; the pairs of a document go with it.
    """
    return [{**measure, **_found(measure, counts), **_out(measure["measure"], counts)} for measure in settings.measures]


def _out(measure: str, counts: Counter[str]) -> dict[str, int]:
    reason = _REASONS[measure]
    return {f"{what}_out": counts[f"out/{what}/{reason}"] for what in ("documents", "pairs")}


def _found(measure: Mapping[str, Any], counts: Counter[str]) -> dict[str, Any]:
    if measure["measure"] == "language":
        return {"found": _under("language/", counts)}
    if measure["measure"] == "benchmarks":
        return {}
    if measure["measure"] == "duplicates":
        return {"exact": counts["duplicate/exact"], "near": counts["duplicate/near"]}
    by_kind = {what: _under(f"{what}/", counts) for what in ("documents", "pairs")}
    kinds = sorted({*by_kind["documents"], *by_kind["pairs"]})
    holding = {what: counts[f"holding/{what}"] for what in ("documents", "pairs")}
    return {**holding, "kinds": {kind: {what: by_kind[what].get(kind, 0) for what in by_kind} for kind in kinds}}


def _under(prefix: str, counts: Counter[str]) -> dict[str, int]:
    found = {name.removeprefix(prefix): number for name, number in counts.items() if name.startswith(prefix)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def told_of_documents(recipe: Mapping[str, Any], counts: Counts) -> dict[str, Any]:
    """Return what the statistics of a job say of identifiers in its documents, if any were looked for.

    `documents` are those with identifiers, `documents_out` those of them about which no pairs were written.
    """
    mode, model = recipe.get("pii"), IdentifierModel.read(recipe.get("pii_model"))
    if mode is None:
        return {}
    kinds = {kind: number for kind, number in sorted(counts.identifiers.items()) if kind != "documents"}
    out = counts.rejected["identifier"]
    found = {"documents": counts.identifiers["documents"], "documents_out": out, "kinds": kinds}
    return {"pii": {"mode": mode, **(model.told if model else {}), **found}}


def settings_of(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe says of a step: the measure and its settings, and nothing that was counted."""
    names = ("measure", "mode", "model", "revision", "model_kinds", "languages", "similarity", "shingle_words")
    index = ("condition", "sha256", "benchmarks", "not_read")
    return {name: step[name] for name in (*names, *index) if name in step}


def joined(before: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the steps of earlier passes with new ones; a report of identifiers gives way to the next step on them."""
    counts_identifiers = any(step["measure"] == "identifiers" for step in new)
    old = [step for step in before if not (counts_identifiers and step.get("mode") == "report")]
    return [*old, *new]


def screening_sentences(stats: Mapping[str, Any]) -> list[str]:
    """Return what a corpus was screened for and what it was not, a sentence each, from its statistics.

    What a job itself kept out, of benchmarks, is told elsewhere (`hfsynth.core.decontamination`).
    """
    steps = (stats.get("screen") or {}).get("steps", [])
    done = {step["measure"] for step in steps} | ({"benchmarks"} if stats.get("decontamination") else set())
    done |= {"identifiers"} if stats.get("pii") else set()
    before = [_of_documents(stats["pii"])] if stats.get("pii") else []
    missing = [name for measure, name in _NAMES.items() if measure not in done]
    left = f"Not screened for {_listed(missing)}."
    return [*before, *map(sentence, steps), *([left] if missing else [])]


def _of_documents(told: Mapping[str, Any]) -> str:
    """Say what became of identifiers before pairs were written."""
    number = f"{told['documents']:,} documents"
    done = {
        "mark": f"identifiers in {number} were replaced by marks",
        "drop": f"no pairs were written about {number} with identifiers, which are not trained on",
        "report": f"identifiers are in {number}, and were left there",
    }[told["mode"]]
    found = ", ".join(f"{number:,} {kind}" for kind, number in told["kinds"].items())
    return f"Before pairs were written, {done}{f' ({found})' if found else ''}.{_told_by(told)}"


def sentence(step: Mapping[str, Any]) -> str:
    """Return what a step of a screening did."""
    return "".join(_SAID[step["measure"]](step))


def _of_identifiers(step: Mapping[str, Any]) -> Iterator[str]:
    where = f"{step['documents']:,} documents and {step['pairs']:,} pairs"
    done = {
        "mark": f"identifiers were replaced by marks in {where}",
        "drop": f"{step['documents_out']:,} documents and {step['pairs_out']:,} pairs with identifiers were taken out",
        "report": f"identifiers are in {where}, and were left there",
    }[step["mode"]]
    yield f"Screened for personal identifiers: {done}"
    numbers = {kind: found["documents"] + found["pairs"] for kind, found in step["kinds"].items()}
    yield f" ({', '.join(f'{number:,} {kind}' for kind, number in numbers.items())})." if numbers else "."
    yield _told_by(step)


def _told_by(step: Mapping[str, Any]) -> str:
    """Say which model was asked, where one was."""
    if not step.get("model"):
        return ""
    asked = f"{_listed(step['model_kinds'])} was told by the model {step['model']} at {step['revision'][:12]}"
    return f" What is a {asked}, which misses some and takes other words for one."


def _of_duplicates(step: Mapping[str, Any]) -> Iterator[str]:
    yield f"Screened for duplicates: {step['documents_out']:,} documents "
    yield f"({step['exact']:,} the same as an earlier one, "
    yield f"{step['near']:,} nearly: {step['shingle_words']}-word shingles, Jaccard similarity of at least "
    yield f"{step['similarity']}) and {step['pairs_out']:,} pairs were taken out."


def _of_language(step: Mapping[str, Any]) -> Iterator[str]:
    yield f"Screened for languages: only documents in {_listed(step['languages'])} were kept; "
    yield f"{step['documents_out']:,} documents and their {step['pairs_out']:,} pairs were taken out"
    yield f" ({', '.join(f'{number:,} {code}' for code, number in step['found'].items())})." if step["found"] else "."


def _of_benchmarks(step: Mapping[str, Any]) -> Iterator[str]:
    yield f"Screened for benchmark questions: {' '.join(sentences(step))} What is found are copies, not the same "
    yield "questions in other words."


_SAID = {
    "benchmarks": _of_benchmarks,
    "identifiers": _of_identifiers,
    "duplicates": _of_duplicates,
    "language": _of_language,
}


def _listed(names: Sequence[str]) -> str:
    return " or ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])
