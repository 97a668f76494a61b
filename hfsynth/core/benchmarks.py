"""Benchmarks as texts to look for: where they are read from, and their questions, answers and passages.

Knows nothing of how they are read or looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from hfsynth.core.errors import ConfigError

_NAMED = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(?::(?P<config>[^:@]*))?(?::(?P<split>[^:@]*))?(?:@(?P<revision>[\w./-]+))?",
    re.ASCII,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class BenchmarkColumns:
    """The columns of a benchmark by name; a dot leads into a column's mapping. None: found by their usual names."""

    question: str | None = None
    answers: tuple[str, ...] | None = None
    passage: str | None = None


FOUND = BenchmarkColumns()


@dataclass(frozen=True, slots=True)
class BenchmarkSource:
    """Where a benchmark is read from. One that is `gated` may be left out where this login may not read it."""

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    columns: BenchmarkColumns = FOUND
    gated: bool = False

    @classmethod
    def named(cls, text: str) -> Self:
        """Read `user/name[:config[:split]][@revision]`; anything else is the name of a file or folder as it is."""
        found = _NAMED.fullmatch(text)
        if found is None:
            return cls(text)
        return cls(found["name"], found["config"] or None, found["split"] or None, found["revision"])

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Read what `to_dict` wrote, or a table of a list of benchmarks; raise ConfigError for what cannot be."""
        given: dict[str, Any] = dict(values) if isinstance(values, Mapping) else {"name": values}
        own = [one.name for one in fields(BenchmarkColumns)]
        known = [*(one.name for one in fields(cls) if one.name != "columns"), *own]
        if unknown := [str(name) for name in given if name not in known]:
            raise ConfigError(f"{unknown[0]!r} is no setting of a benchmark.", hint=f"Known are: {', '.join(known)}.")
        if not (given.get("name") and all(_fits(name, value) for name, value in given.items())):
            raise ConfigError(
                f"A benchmark is a name with config, split, revision and columns, not {str(values)[:200]}.",
                hint='Write it like: name = "user/dataset", split = "test", question = "problem".',
            )
        columns = {name: given.pop(name) for name in own if name in given}
        if columns.get("answers") is not None:
            columns["answers"] = tuple(columns["answers"])
        return cls(**given, columns=BenchmarkColumns(**columns))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without what is not set; `from_dict` reads them back."""
        values = asdict(self)
        values |= values.pop("columns")
        if self.columns.answers is not None:
            values["answers"] = list(self.columns.answers)
        return {name: value for name, value in values.items() if value not in (None, False)}

    @property
    def is_pinned(self) -> bool:
        """Whether it is a dataset on the Hub at a commit: the same rows for everybody."""
        return bool(_HUB_NAME.fullmatch(self.name) and self.revision and _COMMIT.fullmatch(self.revision))

    def pinned_by(self, others: Iterable[BenchmarkSource]) -> BenchmarkSource:
        """Return it at the commit at which one of the others is, where it has none of its own."""
        if self.revision is not None:
            return self
        same = (one for one in others if one.is_pinned and (one.name, one.config) == (self.name, self.config))
        found = next((one for one in same if self.split in (None, one.split)), None)
        return self if found is None else replace(self, revision=found.revision)


def _fits(name: str, value: object) -> bool:
    """Tell whether a setting of a benchmark is of the right kind."""
    if name == "gated":
        return isinstance(value, bool)
    if name == "answers":
        return value is None or (isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value))
    return value is None or (isinstance(value, str) and bool(value.strip()))


@dataclass(frozen=True, slots=True)
class BenchmarkRecord:
    """What is to be known of a benchmark that was read: from where, and how many rows with and without a question."""

    source: BenchmarkSource
    rows: int
    without_question: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` reads them back."""
        return {**self.source.to_dict(), "rows": self.rows, "without_question": self.without_question}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Read what `to_dict` wrote; raise ConfigError for what cannot be."""
        given = dict(values) if isinstance(values, Mapping) else {}
        counts = [given.pop(name, 0) for name in ("rows", "without_question")]
        if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
            raise ConfigError(f"A benchmark's rows are counted, not {counts}.")
        return cls(BenchmarkSource.from_dict(given), *counts)


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """A question, its answers (wrong choices too), and its passage. `number` is its row in the source, from 0."""

    question: str
    answers: tuple[str, ...] = ()
    passage: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark as it was read. `revision` is a commit on the Hub, else what pins the content of its files.

    `columns` are those that were named, `without_question` counts the rows that hold none.
    """

    name: str
    rows: tuple[BenchmarkRow, ...] = field(repr=False)
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    columns: BenchmarkColumns = FOUND
    without_question: int = 0

    def record(self) -> BenchmarkRecord:
        """Return which benchmark it is, without its texts."""
        source = BenchmarkSource(self.name, self.config, self.split, self.revision, self.columns)
        return BenchmarkRecord(source, len(self.rows), self.without_question)
