"""From documents to the Hub with the corpus on an object store all the way: what comes out is what a folder gives."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import needs
from corpus_folders import contents, stored
from loopback_hub.server import Hub

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.long, needs("obstore", "moto", "tokenizers", "rensa", "py3langid")]


def test_a_corpus_on_a_store_takes_the_whole_road(bucket: str, tiny_llama: Path, tmp_path: Path) -> None:
    with Hub(xet=True) as hub:

        def told(line: str, **names: object) -> str:
            arguments = [sys.executable, "-m", "hfsynth", *shlex.split(line.format(**names))]
            return str(hub.run(arguments, hub.env(tmp_path)).stdout)

        def road(corpus: str, mixed: str, tokens: str, repo: str) -> None:
            names = {"corpus": corpus, "mixed": mixed, "tokens": tokens, "repo": repo, "tokenizer": tiny_llama}
            names["source"] = ROOT / "examples" / "corpus.jsonl"
            job = "synthesize {source} {corpus} --engine scripted --shots 2 --shard-rows 8 --workers 2 --quiet"
            told(job, **names)
            told("render {corpus} --validation 0.2 --pair-spans --quiet", **names)
            told("evaluate {corpus} --quiet", **names)
            told("mix {mixed} --augmented {corpus} --raw {source} --tokenizer {tokenizer} --quiet", **names)
            told("export {mixed} {tokens} --to olmo --tokenizer {tokenizer} --quiet", **names)
            assert "finished" in told("info {corpus}", **names)
            told("push {corpus} {repo} --license mit --language en --quiet", **names)
            told("push {mixed} {repo}-mixed --license mit --language en --quiet", **names)

        road(f"{bucket}/corpus", f"{bucket}/mixed", f"{bucket}/tokens", "user/there")
        road(str(tmp_path / "corpus"), str(tmp_path / "mixed"), str(tmp_path / "tokens"), "user/here")
        for what in ("corpus", "mixed"):
            there, here = stored(f"{bucket}/{what}"), contents(tmp_path / what)
            assert there.keys() == here.keys()
            parquet = [key for key in here if key.endswith(".parquet")]
            assert parquet and all(there[key] == here[key] for key in parquet)
        assert stored(f"{bucket}/tokens") == contents(tmp_path / "tokens")
        assert hub.files("user/there") == stored(f"{bucket}/corpus")
        assert hub.files("user/there-mixed").keys() == hub.files("user/here-mixed").keys()
        names = {"source": ROOT / "examples" / "corpus.jsonl", "again": f"{bucket}/again"}
        told("synthesize {source} {again} --recipe user/here --engine scripted --shard-rows 8 --quiet", **names)
        again, here = stored(f"{bucket}/again"), contents(tmp_path / "corpus")
        assert all(again[key] == here[key] for key in here if key.endswith(".parquet"))
        texts = {"there": _texts(hub, "user/there", tmp_path), "here": _texts(hub, "user/here", tmp_path)}
        assert texts["there"] == texts["here"] and len(texts["here"]) >= 24
        figures = [json.loads(hub.files(f"user/{where}")["stats.json"])["evaluation"] for where in ("there", "here")]
        assert figures[0] == figures[1]


def _texts(hub: Hub, repo: str, folder: Path) -> list[str]:
    found = []
    for path, content in sorted(hub.files(repo).items()):
        if path.startswith("pairs/"):
            (folder / "part.parquet").write_bytes(content)
            found += pq.read_table(folder / "part.parquet")["text"].to_pylist()
    return found
