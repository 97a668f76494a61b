"""Where the workers of a job meet: what they must see of each other, whatever the place is made of.

Each process has a folder, `corpus`, in which it finds and makes files as every job does. Where that folder is the place
itself that all share, most of what follows is done already. Knows nothing of engines and sources.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from hfsynth.core.errors import HfsynthError
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.manifest import Damage
from hfsynth.job.journal import Notes
from hfsynth.job.leases import LeaseFiles, Leases
from hfsynth.job.sessions import Sessions
from hfsynth.job.shards import ShardRecord


class Site(Protocol):
    """A job's place. `url` names it for people and for other processes, `corpus` is this process's own view of it."""

    url: str
    corpus: Corpus
    fresh: float
    """Seconds without a sign of life after which a worker no longer counts as running."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the place, and nothing on this machine that was only a view of it."""

    # --- what others do ----------------------------------------------------------------------------------------

    def look(self, *, now: bool = False, calmly: bool = False) -> None:
        """See which shards are finished, who holds what, how long the source is.

        That is not done too often, but for `now`, and seldom where somebody only looks on, `calmly`.
        """

    def finished(self) -> Collection[int]:
        """Return the finished shards, as last seen."""

    def is_finished(self, shard: int) -> bool:
        """Ask whether a shard is finished at this moment."""

    def fetch(self, *paths: Path) -> None:
        """Bring files here as they are in the place now; what is not there is not here."""

    def fetch_state(self) -> None:
        """Bring what says what the job is, and whether it is finished."""

    def fetch_records(self) -> None:
        """Bring the records of the finished shards."""

    def fetch_journal(self, shard: int) -> bool:
        """Bring what others have noted of a shard; return whether any did, and are gone."""

    def fetch_notes(self, worker: str) -> None:
        """Bring what a worker that has ended noted of any unfinished shard, also what it had no time to send."""

    # --- what is done here -------------------------------------------------------------------------------------

    def share(self, *paths: Path) -> None:
        """Let others see files as they are here."""

    def forget(self, *paths: Path) -> None:
        """Remove files, here and for all."""

    def commit(self, part: Path, record: ShardRecord) -> None:
        """Put a finished shard in place: its part first, then the record, of which the first one counts."""

    def lease_files(self, worker: str, stale_after: float) -> LeaseFiles:
        """Return where the leases of a holder lie."""

    def sessions(self) -> Sessions:
        """Return what workers say of themselves, and what is known of those that died."""

    def notes(self, worker: str) -> Notes:
        """Return where a worker notes what it does."""

    # --- the beginning and the end -----------------------------------------------------------------------------

    def require_own(self) -> None:
        """Raise OutputError where something else than a job of hfsynth is in the place, or it cannot hold one."""

    def require_several(self) -> None:
        """Raise OutputError where several workers would do each other's work."""

    def is_whole(self) -> bool:
        """Return whether a finished job has lost nothing; raise OutputError where no job can make it anew."""

    def mend(self, leases: Leases) -> None:
        """Make a job go on whose corpus has lost parts, or whose publication was killed."""

    def publish(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Make the finished shards a corpus, the manifest last; return its statistics."""

    def sweep(self, *, finished: bool = False) -> None:
        """Remove what killed processes have left, and of a `finished` job what only an unfinished one needs."""

    # --- for those who look ------------------------------------------------------------------------------------

    def files(self, *folders: str) -> dict[str, int]:
        """Return the Parquet files of some folders and their sizes."""

    def damages(self, *, digests: bool) -> Iterator[Damage]:
        """Yield what of a finished corpus is not as its manifest says."""

    def part_described(self, shard: int, record: ShardRecord) -> tuple[str, int] | None:
        """Return digest and size of an unfinished job's part, None where it is missing."""

    def told(self, error: HfsynthError) -> HfsynthError:
        """Return an error that names the place, not this machine's view of it."""
