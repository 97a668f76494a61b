"""Open a corpus to look at it: a folder, finished or being filled, a repo on the Hub, a store, or a URL. Reads no row.

Of a finished folder the manifest says how many rows its files have, of a running job its records; of anything else the
files' footers do. Knows nothing of what is done with the rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from hfsynth.core.errors import OutputError
from hfsynth.core.files import read_json
from hfsynth.core.store_paths import StorePath
from hfsynth.core.stores import any_path, is_store
from hfsynth.corpus.folder import Corpus, CorpusAt, split_order
from hfsynth.corpus.manifest import damaged_parquet, recorded
from hfsynth.job.shards import part_path, read_record, record_paths
from hfsynth.page.rendered import RenderedTexts
from hfsynth.page.rows import CorpusRows, RowFile

_REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)
_AT_ONCE = 16  # footers that are read side by side


@dataclass(frozen=True, slots=True)
class OpenCorpus:
    """A corpus at hand: `location` as it was named, its rows, and what its own files say of it.

    `folder` is None for a corpus that is not on this machine. `running` says that its job has not ended: only the rows
    of finished shards are there. `texts` are the training texts of `data/`, where there is one.
    """

    location: str
    folder: Path | None
    rows: CorpusRows
    stats: Mapping[str, Any]
    recipe: Mapping[str, Any]
    running: bool = False
    texts: RenderedTexts | None = None

    @property
    def shots(self) -> int:
        """The documents of a chain; 1 where the recipe does not say."""
        found = self.recipe.get("shots")
        return found if isinstance(found, int) else 1


def open_corpus(location: str | Path) -> OpenCorpus:
    """Open a folder, `user/name[@revision]` on the Hub, an object store's address, or a URL that fsspec reads.

    Raise OutputError where there is no corpus, or a file of it is damaged.
    """
    named = str(location)
    if is_store(named):
        return _with_columns(_open_store(named))
    if Path(named).is_dir():
        return _with_columns(_open_folder(Path(named)))
    if "://" not in named and not _REPO.fullmatch(named):
        raise OutputError(f"{named} is no folder.", hint=f"Make a corpus with: hfsynth synthesize SOURCE {named}")
    return _with_columns(_open_remote(named, named if "://" in named else f"hf://datasets/{named}"))


def _with_columns(corpus: OpenCorpus) -> OpenCorpus:
    """Return a corpus that has what a corpus has; raise OutputError where its columns are others."""
    kinds = corpus.rows.types
    if not corpus.rows.files or (_is_text(kinds.get("text")) and _are_pairs(kinds.get("pairs"))):
        return corpus
    raise OutputError(
        f"{corpus.location} has the columns {', '.join(kinds)}; a corpus has `text`, and `pairs` of instructions and "
        "responses.",
        hint="Open a corpus that hfsynth has made: hfsynth synthesize SOURCE OUT",
    )


def _is_text(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _are_pairs(kind: pa.DataType | None) -> bool:
    if kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    pair = kind.value_type
    return pa.types.is_struct(pair) and {"instruction", "response"} <= {own.name for own in pair}


def _open_folder(folder: Path) -> OpenCorpus:
    corpus = Corpus(folder)
    plan, recipe = read_json(corpus.plan), read_json(corpus.config)
    published = sorted(corpus.pairs.glob("*.parquet"))
    if plan is None and recipe is None and not published:
        raise OutputError(
            f"{folder} holds no corpus of hfsynth.", hint=f"Make one with: hfsynth synthesize SOURCE {folder}"
        )
    running = plan is not None and not corpus.manifest.exists()
    if running and not published:
        known = (plan or {}).get("synthesizer") or {}
        return OpenCorpus(str(folder), folder, CorpusRows(_parts(corpus), _local), {}, recipe or known, running)
    opened = _open_published(str(folder), corpus, published, _local)
    return replace(opened, folder=folder, running=running)


def _open_store(url: str) -> OpenCorpus:
    corpus = CorpusAt(any_path(url))
    published = sorted(corpus.pairs.glob("*.parquet"))
    if not published:
        raise OutputError(
            f"{url} holds no finished pairs.",
            hint="Name a corpus that is there, or open the page when its job has ended.",
        )
    return _open_published(url, corpus, published, _on_store)


def _open_published(
    location: str, corpus: CorpusAt[Any], published: Sequence[Any], opened: Callable[[Any], pq.ParquetFile]
) -> OpenCorpus:
    """Open pairs where they lie, and the texts beside them."""
    paths = {str(path): path for path in (*published, *sorted(corpus.data.glob("*.parquet")))}
    ours = {str(path) for path in published}

    def rows(names: Iterable[str]) -> CorpusRows:
        return CorpusRows(
            _published(corpus, {name: paths[name] for name in names}, opened), lambda name: opened(paths[name])
        )

    pairs, texts = rows(sorted(ours)), sorted(paths.keys() - ours)
    return OpenCorpus(
        location,
        None,
        pairs,
        read_json(corpus.stats) or {},
        read_json(corpus.config) or {},
        texts=RenderedTexts(pairs, lambda: rows(texts)) if texts else None,
    )


def _published(
    corpus: CorpusAt[Any], paths: Mapping[str, Any], opened: Callable[[Any], pq.ParquetFile]
) -> list[RowFile]:
    known = recorded(corpus) if corpus.manifest.exists() else {}
    told = {name: known.get(path.relative_to(corpus.root).as_posix(), {}).get("rows") for name, path in paths.items()}
    found = {name: rows for name, rows in told.items() if isinstance(rows, int)}
    return in_order(found | _counted([name for name in told if name not in found], lambda name: opened(paths[name])))


def _parts(corpus: Corpus) -> list[RowFile]:
    """Return the files of the shards that a running job has finished, as they were: a row keeps its number."""
    paths = record_paths(corpus.parts)
    ended = sorted(paths, key=lambda shard: (paths[shard].stat().st_mtime_ns, shard))
    return [RowFile(str(part_path(corpus.parts, shard)), read_record(paths[shard]).rows, "") for shard in ended]


def _open_remote(named: str, url: str) -> OpenCorpus:
    try:
        fs, root = fsspec.core.url_to_fs(url)
        paths = sorted(map(str, fs.glob(f"{root}/pairs/*.parquet")))
        if not paths:
            raise OutputError(
                f"{named} has no files pairs/*.parquet.", hint="Name a corpus that hfsynth has published."
            )
        remote = partial(_remote, fs)
        rows = CorpusRows(in_order(_counted(paths, remote)), remote)
        stats, recipe = (_remote_json(fs, f"{root}/{name}") for name in ("stats.json", "synthesizer_config.json"))
        data = sorted(map(str, fs.glob(f"{root}/data/*.parquet")))
    except (OSError, ValueError, ImportError) as error:
        raise OutputError(
            f"{named} cannot be read: {_first_line(error)}",
            hint="Check the name and the network; a private repo needs HF_TOKEN in the environment.",
        ) from error
    texts = RenderedTexts(rows, lambda: CorpusRows(in_order(_counted(data, remote)), remote)) if data else None
    return OpenCorpus(named, None, rows, stats, recipe, texts=texts)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_order(counted: Mapping[str, int]) -> list[RowFile]:
    """Return files with their rows by split, `train` first, and by number."""
    files = [RowFile(path, rows, path.rpartition("/")[2].partition("-")[0]) for path, rows in counted.items()]
    return sorted(files, key=lambda file: (split_order(file.split), file.path))


def _counted(paths: Iterable[str], opened: Callable[[str], pq.ParquetFile]) -> dict[str, int]:
    """Return the rows of each file, by its footer."""

    def rows_of(path: str) -> tuple[str, int]:
        with opened(path) as file:
            return path, int(file.metadata.num_rows)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(pool.map(rows_of, paths))


def _local(path: str | Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(str(path))
    except FileNotFoundError as error:
        raise OutputError(f"{path} is no longer there.", hint="Open the corpus again.") from error
    except (pa.ArrowException, OSError) as error:
        raise damaged_parquet(Path(path)) from error


def _on_store(path: StorePath) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path.open("rb"), pre_buffer=True)
    except FileNotFoundError as error:
        raise OutputError(f"{path} is no longer there.", hint="Open the corpus again.") from error
    except (pa.ArrowException, OSError) as error:
        raise damaged_parquet(path) from error


def _remote(fs: Any, path: str) -> pq.ParquetFile:  # noqa: ANN401 - a file system of fsspec
    return pq.ParquetFile(fs.open(path, "rb"), pre_buffer=True)


def _remote_json(fs: Any, path: str) -> Mapping[str, Any]:  # noqa: ANN401
    try:
        found = json.loads(fs.cat_file(path))
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
