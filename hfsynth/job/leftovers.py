"""Clear away what killed processes have left in a corpus folder. Knows nothing of what the files hold."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hfsynth.core.processes import lives
from hfsynth.corpus.folder import Corpus
from hfsynth.job.journal import JournalPaths
from hfsynth.job.leases import clear

_OLD = 3600.0  # seconds without a change after which a file of another machine's process is nobody's


def sweep(corpus: Corpus) -> None:
    """Remove the temporary files that no living process owns; do nothing where the folder cannot be written."""
    paths = JournalPaths(corpus.journal)
    for folder in (corpus.root, corpus.journal, corpus.parts, paths.sessions, paths.leases):
        for path in folder.glob(".*.tmp"):
            with suppress(OSError):
                if path.is_file() and not _is_owned(path):
                    path.unlink(missing_ok=True)


def sweep_finished(corpus: Corpus) -> None:
    """Remove also what only an unfinished job needs."""
    sweep(corpus)
    paths = JournalPaths(corpus.journal)
    shutil.rmtree(paths.segments, ignore_errors=True)
    with suppress(OSError):
        corpus.former.unlink(missing_ok=True)
        clear(paths.leases)


def _is_owned(path: Path) -> bool:
    alive = lives(next(_writers(path), ""))
    return time.time() - path.stat().st_mtime < _OLD if alive is None else alive


def _writers(path: Path) -> Iterator[str]:
    """Yield the mark in the name of a temporary file, where there is one."""
    yield from (part for part in reversed(path.name.removesuffix(".tmp").split(".")) if part.count("-") == 2)
