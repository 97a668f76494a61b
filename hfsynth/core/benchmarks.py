"""Benchmarks as texts to look for: questions with their answers and the passages that they are about.

Knows nothing of where they are read from or how they are looked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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

    `without_question` counts the rows that hold none.
    """

    name: str
    rows: tuple[BenchmarkRow, ...] = field(repr=False)
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    without_question: int = 0

    def record(self) -> dict[str, Any]:
        """Return which benchmark it is, as JSON values, without its texts."""
        names = {"name": self.name, "config": self.config, "split": self.split, "revision": self.revision}
        counts = {"rows": len(self.rows), "without_question": self.without_question}
        return {**{name: value for name, value in names.items() if value is not None}, **counts}
