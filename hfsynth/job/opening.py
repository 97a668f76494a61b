"""Find out where a job is: in a folder, or at an address."""

from __future__ import annotations

import re
from pathlib import Path

from hfsynth.core.errors import OutputError
from hfsynth.core.stores import is_store, open_store
from hfsynth.job.folder_site import FolderSite
from hfsynth.job.site import Site
from hfsynth.job.store_site import StoreSite

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # as a path has it: of two slashes one is left


def open_site(out: str | Path) -> Site:
    """Return the place of the job at `out`; raise OutputError for an address at which no job can be."""
    if is_store(out) and not str(out).startswith("memory:"):  # other processes have another memory
        return StoreSite(open_store(out))
    scheme = _URL.match(str(out))
    if scheme is not None:
        raise OutputError(
            f"A job works in a folder or an object store, not at {scheme[1]}://.",
            hint="Give a folder, s3://, gs://, az:// or hf://buckets/NAMESPACE/BUCKET; `hfsynth push` sends a finished "
            "corpus to the Hub.",
        )
    return FolderSite(Path(out))
