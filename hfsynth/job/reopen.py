"""Open a finished job again where parts of its corpus were lost: only their shards are done anew.

Everything here may be killed at any line and is done again by the next call: first the manifest goes, so that nobody
takes the folder for finished, then the parts that are whole go back to where unfinished jobs have them.
"""

from __future__ import annotations

import logging
import os
import shutil

from hfsynth.core.errors import OutputError
from hfsynth.core.files import file_digest, read_json, writing
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.manifest import damages
from hfsynth.documents.splits import SplitLayout
from hfsynth.job.shards import part_path, read_extent, read_record, record_paths

_LOG = logging.getLogger(__name__)


def has_all_files(corpus: Corpus) -> bool:
    """Return whether a finished folder holds all that its job wrote, byte by byte, and can say so."""
    try:
        lost = list(damages(corpus.root, folders=("pairs/", "rewritten/"), digests=True))
        described = read_json(corpus.stats) is not None and read_json(corpus.config) is not None
    except OutputError as error:
        _LOG.warning("%s", error.message)
        return False
    for damage in lost:
        _LOG.warning("%s in %s: it is made again.", damage, corpus.root)
    return described and not lost


def reopen(corpus: Corpus) -> None:
    """Make a job unfinished whose folder is not whole, or whose publication was killed; to be called by one at a time.

    What the old manifest says of other files is kept in `corpus.former` for the next.
    """
    if not corpus.manifest.exists() or not has_all_files(corpus):
        with writing(corpus.journal):
            if corpus.manifest.exists():
                os.replace(corpus.manifest, corpus.former)
            if corpus.pairs.exists() or corpus.former.exists():
                _take_back(corpus)


def _take_back(corpus: Corpus) -> None:
    """Move whole parts back into the journal; drop the records of all others, so that their shards are done again."""
    corpus.parts.mkdir(parents=True, exist_ok=True)
    layout = SplitLayout.of(read_extent(corpus), (read_json(corpus.plan) or {}).get("shard_rows", 1))
    for shard, path in record_paths(corpus.parts).items():
        record, part = read_record(path), part_path(corpus.parts, shard)
        name = layout.name_of(shard) if layout else f"train-{shard:05d}"
        published = next(corpus.pairs.glob(f"{name}-of-*.parquet"), None)
        if not part.exists() and published is not None and file_digest(published) == (record.sha256, record.size):
            os.replace(published, part)
        if not part.exists() and not _is_staged(corpus, name):
            path.unlink()
    shutil.rmtree(corpus.pairs, ignore_errors=True)


def _is_staged(corpus: Corpus, name: str) -> bool:
    """Return whether a publication that was killed had moved a part to where it gathers them."""
    return any((corpus.journal / "pairs").glob(f"{name}-of-*.parquet"))
