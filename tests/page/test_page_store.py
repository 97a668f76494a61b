"""A corpus on an object store is looked at where it lies: opened by footers, read by ranges, never written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from corpus_folders import stored, upload
from page_corpora import everything, large_corpus

from hfsynth.core.config import SynthesizerConfig
from hfsynth.core.errors import OutputError
from hfsynth.documents.source import Source
from hfsynth.job.run import synthesize
from hfsynth.page.filters import Filters
from hfsynth.page.looking import CorpusLook
from hfsynth.texts.calls import render

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "corpus.jsonl"


def test_a_corpus_on_a_store_shows_what_the_same_folder_does(bucket: str, tmp_path: Path) -> None:
    folder, url = tmp_path / "corpus", f"{bucket}/some/corpus"
    synthesize(Source(str(EXAMPLES)), folder, SynthesizerConfig(model="mined"))
    render(folder, seed=0, validation=0.3)
    upload(folder, url)
    before = stored(url)
    here, there = CorpusLook(str(folder)), CorpusLook(url)
    assert not there.corpus.running and there.figures() == here.figures()
    assert there.choices() == here.choices()
    for filters in (Filters(), Filters(text="lighthouse"), Filters(kind="what"), Filters(style="classic")):
        assert there.listed(filters) == here.listed(filters)
    for number in range(24):
        assert there.shown(number) == here.shown(number)
    assert stored(url) == before
    assert f"data_files='{url}/pairs/train-*.parquet'" in there.ways(Filters()).python
    scope: dict[str, Any] = {}
    exec(there.plots_ways().python, scope)


def test_only_what_is_looked_at_is_read(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url = large_corpus(tmp_path / "corpus", 40_000, files=2, group=1_000), f"{bucket}/large"
    upload(folder, url)
    groups: list[int] = []
    reading = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, at, **given: (groups.append(at), reading(self, at, **given))[1]
    )
    look = CorpusLook(url)
    assert len(look.corpus.rows) == 40_000 and not groups
    assert len(look.listed(Filters(status="no_pairs")).rows) == 20 and len(groups) <= 20


def test_what_is_not_there_is_said(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no finished pairs"):
        CorpusLook(f"{bucket}/nothing")
    upload(everything(tmp_path / "corpus"), f"{bucket}/damaged")
    from hfsynth.core.stores import open_store

    store = open_store(f"{bucket}/damaged")
    (key,) = (entry.key for entry in store.list("pairs/"))
    store.put(key, b"not Parquet")
    with pytest.raises(OutputError, match="damaged"):
        CorpusLook(f"{bucket}/damaged")
