"""The benchmarks that a recipe looks for, as a part of it: how they were asked for, and which index they made.

Pure; how they are read and looked for is told by `hfsynth.quality.decontamination`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from hfsynth.core.addresses import public_location, without_credentials
from hfsynth.core.benchmarks import BenchmarkRecord
from hfsynth.core.errors import ConfigError

CORE = "core"
"""The list of benchmarks that hfsynth knows by itself."""

DEFAULT_CONDITION = "contamination<0.5"
"""What documents and pairs must meet where benchmarks are named, and no condition on them."""

_LISTED = 3
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXAMPLE = "Name benchmarks: --decontaminate core, a file, or user/dataset[:config[:split]][@revision]."


@dataclass(frozen=True, slots=True)
class Decontamination:
    """Benchmarks to look for: `sources` are `core`, lists of benchmarks (TOML), indexes, files, datasets on the Hub.

    Once settled, `sha256` is the identity of their index, `benchmarks` are those in it, with revisions, and `not_read`
    names gated ones that this login may not read.
    """

    sources: tuple[str, ...]
    sha256: str | None = None
    benchmarks: tuple[BenchmarkRecord, ...] = ()
    not_read: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("sources", "not_read"):
            value = getattr(self, name)
            fine = isinstance(value, (list, tuple)) and all(isinstance(one, str) and one.strip() for one in value)
            _require(fine, name, "a list of names", value)
            object.__setattr__(self, name, tuple(value))
        _require(bool(self.sources), "sources", "a list of names", self.sources)
        fine = self.sha256 is None or (isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256) is not None)
        _require(fine, "sha256", "64 hex digits", self.sha256)

    @classmethod
    def read(cls, value: object) -> Self | None:
        """Read what a recipe or a caller gives: nothing, a name, a list of names, a mapping, or itself."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls((value,))
        if isinstance(value, (list, tuple)):
            return cls(tuple(value)) if value else None
        _require(isinstance(value, Mapping), "the setting", "names of benchmarks", value)
        given = dict(value) if isinstance(value, Mapping) else {}
        known = [own.name for own in fields(cls)]
        if unknown := [str(name) for name in given if name not in known]:
            raise ConfigError(
                f"{unknown[0]!r} is no setting of a decontamination.", hint=f"Known are: {', '.join(known)}."
            )
        _require("sources" in given, "sources", "a list of names", None)
        benchmarks = given.pop("benchmarks", ())
        _require(isinstance(benchmarks, (list, tuple)), "benchmarks", "a list", benchmarks)
        return cls(**given, benchmarks=tuple(map(BenchmarkRecord.from_dict, benchmarks)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the credentials of addresses; `read` reads them back."""
        return {
            "sources": list(map(without_credentials, self.sources)),
            "sha256": self.sha256,
            "benchmarks": [record.to_dict() for record in self.benchmarks],
            **({"not_read": list(self.not_read)} if self.not_read else {}),
        }

    @property
    def is_pinned(self) -> bool:
        """Whether every benchmark can be had from the Hub as it was."""
        return bool(self.benchmarks) and all(record.source.is_pinned for record in self.benchmarks)


def public_decontamination(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's values without the folders of this machine among the benchmarks' sources."""
    found = Decontamination.read(values.get("decontaminate"))
    if found is None:
        return dict(values)
    return {**values, "decontaminate": {**found.to_dict(), "sources": list(map(public_location, found.sources))}}


def counted_out(recipe: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the statistics of a job say of benchmarks, if any: which index, and what was kept out."""
    found = Decontamination.read(recipe.get("decontaminate"))
    if found is None:
        return {}
    documents = stats["documents"].get("screened", 0) - stats["rejected"].get("identifier", 0)
    pairs = stats["rejected"].get("contaminated", 0) - documents
    told = {name: value for name, value in found.to_dict().items() if name != "sources"}
    return {"decontamination": {**told, "documents_out": documents, "pairs_out": pairs}}


def sentences(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is said of a job's benchmarks: which index, what was kept out, and what was not read."""
    names = list(dict.fromkeys(one["name"] for one in told["benchmarks"]))
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    rows = sum(one["rows"] for one in told["benchmarks"])
    yield (
        f"{rows:,} questions of {listed} (index sha256 {told['sha256'][:12]}): {told['documents_out']:,} documents and "
        f"{told['pairs_out']:,} pairs were kept out."
    )
    if told.get("not_read"):
        yield f"Not looked for, because they are gated: {', '.join(told['not_read'])}."


def _require(fine: bool, name: str, expected: str, got: object) -> None:
    if not fine:
        raise ConfigError(f"decontaminate: {name} must be {expected}, not {str(got)[:200]!r}.", hint=_EXAMPLE)
