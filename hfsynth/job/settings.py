"""How a job is worked at: which engine, how patiently. Kept beside its plan: `hfsynth work` needs the folder alone.

Nothing of it decides the result, and each worker may be told otherwise. No secret is written, and no leave to run code:
who joins a job gives that. Knows nothing of workers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from hfsynth.core.addresses import without_credentials
from hfsynth.core.config import OWN_ENGINE, EngineConfig
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import read_json, reading_values, write_json
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.locate import locate
from hfsynth.job.journal import JournalPaths

BAD_ROWS = ("stop", "skip")


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What `hfsynth.synthesize` takes under these names, and what else a folder says of its job.

    `location` is where the source was found, `directory` where relative paths of the recipe start.
    """

    engine: EngineConfig
    max_engine_restarts: int = 3
    grace: float = 30.0
    bad_rows: str = "stop"
    location: str = ""
    directory: str = ""

    def __post_init__(self) -> None:
        if self.bad_rows not in BAD_ROWS:
            raise ConfigError(f"bad_rows is one of {', '.join(BAD_ROWS)}, not {self.bad_rows!r}.")

    def but(self, **given: Any) -> Self:  # noqa: ANN401
        """Return them with what was given, and is not None, in the place of what is there."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @classmethod
    def read(cls, corpus: Corpus) -> Self:
        """Return what the folder says; raise OutputError where it says nothing."""
        found = cls.find(corpus)
        if found is None:
            raise OutputError(
                f"{corpus.root} does not say how its job is worked at: an earlier version of hfsynth began it, or it "
                "was killed as it began.",
                hint="Give its `hfsynth synthesize` command once with --describe, or to the end.",
            )
        return found

    @classmethod
    def find(cls, corpus: Corpus) -> Self | None:
        """Return what the folder says, None where it says nothing."""
        path = JournalPaths(corpus.journal).settings
        found = read_json(path)
        if found is None:
            return None
        with reading_values(path):
            return cls(**{**found, "engine": EngineConfig(**found["engine"])})

    def write(self, corpus: Corpus, location: str) -> None:
        """Write them down, with where the source was found."""
        here = "://" not in location and locate(location) is not None
        values = {
            "engine": _kept(self.engine),
            "max_engine_restarts": self.max_engine_restarts,
            "grace": self.grace,
            "bad_rows": self.bad_rows,
            "location": os.path.abspath(os.path.expanduser(location)) if here else without_credentials(location),
            "directory": str(Path.cwd()),
        }
        write_json(JournalPaths(corpus.journal).settings, values)


def require_shared(engine: EngineConfig) -> None:
    """Raise ConfigError for an engine that one process alone has."""
    if engine.kind == OWN_ENGINE:
        raise ConfigError(
            "An engine that is an object is known to the process that made it alone.",
            hint="Give an EngineConfig, by which each worker loads its own.",
        )


def _kept(engine: EngineConfig) -> dict[str, Any]:
    """Return what is kept of an engine; an object has a number that no other process understands."""
    given = {} if engine.kind == OWN_ENGINE else engine.arguments
    plain = {name: without_credentials(value) if isinstance(value, str) else value for name, value in given.items()}
    return {"kind": engine.kind, "arguments": plain}
