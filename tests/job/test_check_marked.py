"""A corpus whose documents held identifiers is whole: `check` compares what statistics and records both tell."""

from __future__ import annotations

import json
from pathlib import Path

from hfsynth.core.config import SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.job.check import check
from hfsynth.job.run import synthesize


def test_a_corpus_of_marked_documents_is_whole(tmp_path: Path) -> None:
    text = "Write to keeper@lighthouse-museum.fr, who lit the lamp in 1822 and wrote down the weather."
    (tmp_path / "docs.jsonl").write_text(json.dumps({"text": text}) + "\n")
    synthesize(Source(str(tmp_path / "docs.jsonl")), tmp_path / "out", SynthesizerConfig("mined", pii="mark"))
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["pii"]["documents"] == 1
    assert check(tmp_path / "out").damaged == ()
