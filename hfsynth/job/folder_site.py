"""A job in a folder that all its workers share: what one writes, all see."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hfsynth.core.errors import HfsynthError, OutputError
from hfsynth.core.files import file_digest
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.manifest import Damage, damages, require_whole
from hfsynth.job.journal import JournalPaths, Segments
from hfsynth.job.leases import LeaseFolder, Leases
from hfsynth.job.leftovers import sweep, sweep_finished
from hfsynth.job.reopen import has_all_files, reopen
from hfsynth.job.sessions import Sessions
from hfsynth.job.shards import ShardRecord, part_path, record_paths, write_record


class FolderSite:
    """A folder, on this machine or on a file system that several share."""

    fresh = 10.0

    def __init__(self, root: Path) -> None:
        self.corpus = Corpus(root)
        self.url = str(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def look(self, *, now: bool = False, calmly: bool = False) -> None:
        pass

    def finished(self) -> Collection[int]:
        return record_paths(self.corpus.parts)

    def is_finished(self, shard: int) -> bool:
        return shard in self.finished()

    def fetch(self, *paths: Path) -> None:
        pass

    def fetch_state(self) -> None:
        pass

    def fetch_records(self) -> None:
        pass

    def fetch_journal(self, shard: int) -> bool:
        return False

    def fetch_notes(self, worker: str) -> None:
        pass

    def share(self, *paths: Path) -> None:
        pass

    def forget(self, *paths: Path) -> None:
        for path in paths:
            path.unlink()

    def commit(self, part: Path, record: ShardRecord) -> None:
        write_record(part.with_suffix(".json"), record)

    def lease_files(self, worker: str, stale_after: float) -> LeaseFolder:
        return LeaseFolder(JournalPaths(self.corpus.journal).leases, worker)

    def sessions(self) -> Sessions:
        return Sessions(JournalPaths(self.corpus.journal).sessions)

    def notes(self, worker: str) -> Segments:
        return Segments(JournalPaths(self.corpus.journal).segments, worker)

    def require_own(self) -> None:
        root = self.corpus.root
        in_the_way = next((path for path in (root, *root.absolute().parents) if path.is_file()), None)
        if in_the_way is not None:
            raise OutputError(f"{in_the_way} is a file, not a folder.", hint="Give another output folder.")
        if root.is_dir() and any(root.iterdir()) and not self.corpus.journal.is_dir():
            raise OutputError(
                f"{root} is not empty and holds no job of hfsynth.", hint="Give a new or an empty folder."
            )

    def require_several(self) -> None:
        pass

    def is_whole(self) -> bool:
        if self.corpus.plan.exists():
            return has_all_files(self.corpus)
        require_whole(self.corpus.root, digests=True)
        return True

    def mend(self, leases: Leases) -> None:
        if any(path.exists() for path in (self.corpus.pairs, self.corpus.manifest, self.corpus.former)):
            with leases.waiting_for("publish"):
                reopen(self.corpus)

    def publish(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        from hfsynth.job.finish import finish  # loads what writes corpora

        return finish(self.corpus, identity)

    def sweep(self, *, finished: bool = False) -> None:
        (sweep_finished if finished else sweep)(self.corpus)

    def files(self, *folders: str) -> dict[str, int]:
        root = self.corpus.root
        found = sorted(path for name in folders for path in (root / name).glob("*.parquet"))
        return {path.relative_to(root).as_posix(): path.stat().st_size for path in found}

    def damages(self, *, digests: bool) -> Iterator[Damage]:
        return damages(self.corpus.root, digests=digests)

    def part_described(self, shard: int, record: ShardRecord) -> tuple[str, int] | None:
        path = part_path(self.corpus.parts, shard)
        return file_digest(path) if path.exists() else None

    def told(self, error: HfsynthError) -> HfsynthError:
        return error
