"""The error tree. Every error says what was expected, what came, and what to do next.

HfsynthError                exit code 1
├── UsageError              exit code 2: the call must change
│   ├── ConfigError         a setting has a value that cannot work
│   ├── ColumnError         a column is missing or holds the wrong type
│   ├── SourceError         the input is missing, empty or unreadable
│   └── BudgetError         more was asked for than the data holds
├── UnreadableRowsError     rows of the source cannot be read; everything else is done
├── ModelError              a model cannot be found or loaded
├── EngineError             the engine died
│   └── EngineStopped       it was told to end, and did not die of a document
├── OutputError             the output folder cannot be used or written
└── HubError                the Hub refused or could not be reached
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from hfsynth.core.addresses import without_credentials


class HfsynthError(Exception):
    """Report a failure in one sentence, with the next step in `hint`."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        message = without_credentials(message)  # it is shown, logged and kept
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def to_dict(self) -> dict[str, str]:
        """Return plain values, from which `from_dict` makes the error again, in another process too."""
        return {"kind": type(self).__name__, "message": self.message, "hint": self.hint}

    @staticmethod
    def from_dict(values: Mapping[str, str]) -> HfsynthError:
        """Make the error again that `to_dict` described; of a kind that is not known here, HfsynthError itself."""
        kind = globals().get(values["kind"])
        if not (isinstance(kind, type) and issubclass(kind, HfsynthError)):
            kind = HfsynthError
        return kind(values["message"], hint=values["hint"])

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[HfsynthError], message: str, hint: str) -> HfsynthError:
    return kind(message, hint=hint)


class UsageError(HfsynthError):
    """The call itself must change."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting has a value that cannot work."""


class ColumnError(UsageError):
    """A column is missing or holds the wrong type."""

    @classmethod
    def missing(cls, column: str, found: Iterable[str], *, where: str = "", hint: str = "") -> Self:
        """Return the error for a column that is not among those found `where`."""
        there = f"{where} has" if where else "There is"
        return cls(f"{there} no column {column!r}; the columns are: {', '.join(found) or 'none'}.", hint=hint)


class SourceError(UsageError):
    """The input is missing, empty or unreadable."""


class BudgetError(UsageError):
    """More was asked for than the data holds."""


class UnreadableRowsError(HfsynthError):
    """Rows of the source cannot be read; everything else is done."""


class ModelError(HfsynthError):
    """A model cannot be found or loaded."""


class EngineError(HfsynthError):
    """The engine died."""


class EngineStopped(EngineError):
    """The engine was told to end while it had work: no document is to blame."""


class OutputError(HfsynthError):
    """The output folder cannot be used or written."""


class HubError(HfsynthError):
    """The Hub refused or could not be reached."""
