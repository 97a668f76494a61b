"""A synthesizer's whole way: trained on a base from the Hub, published, and used by its name. Fresh processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import needs, needs_vllm
from loopback_hub.server import Hub

HFSYNTH = [sys.executable, "-m", "hfsynth"]


@needs("peft")
@needs_vllm
def test_an_adapter_of_a_base_on_the_hub_is_published_and_used_by_its_name(tiny_llama: Path, tmp_path: Path) -> None:
    tasks, documents, out = tmp_path / "tasks.parquet", tmp_path / "documents.jsonl", tmp_path / "synthesizer"
    pairs = [{"instruction": "What?", "response": "A box."}]
    rows = [{"context": f"Box {number}.", "pairs": pairs, "source": "boxes"} for number in range(8)]
    pq.write_table(pa.Table.from_pylist(rows), tasks)
    documents.write_text("".join(json.dumps({"text": row["context"]}) + "\n" for row in rows[:3]))
    with Hub() as hub:
        hub.commit("org/base", {path.name: path.read_bytes() for path in tiny_llama.iterdir()}, kind="model")
        env = hub.env(tmp_path)
        training = ["--base", "org/base", "--window", "128", "--epochs", "120", "--batch-tokens", "256"]
        more = ["--device-tokens", "256", "--learning-rate", "1e-2", "--lora-rank", "32", "--validation", "0"]
        hub.run([*HFSYNTH, "train", str(tasks), str(out), *training, *more, "--quiet"], env, timeout=600)
        push = ["push", str(out), "user/synthesizer", "--type", "model", "--license", "apache-2.0", "--quiet"]
        hub.run([*HFSYNTH, *push], env, timeout=600)
        published = hub.files("user/synthesizer", kind="model")
        assert {"adapter_model.safetensors", "synthesizer_config.json", "training.json"} <= set(published)
        assert b"base_model: org/base" in published["README.md"]
        corpus = tmp_path / "corpus"
        use = ["--model", "user/synthesizer", "--max-tokens", "40", "--workers", "0", "--quiet", "--json"]
        ran = hub.run([*HFSYNTH, "synthesize", str(documents), str(corpus), *use], env, timeout=600)
    assert json.loads(ran.stdout)["stats"]["documents"]["ok"] == 3
    (part,) = corpus.glob("pairs/*.parquet")
    assert pq.read_table(part)["pairs"].to_pylist() == [pairs] * 3
