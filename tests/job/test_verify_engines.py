"""Verification through the engines that people have: the real vLLM, and a server over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from completions_server import CompletionsServer
from conftest import needs_vllm
from jobs import documents

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.records import Pair
from hfsynth.documents.source import Source
from hfsynth.engine.protocol import Completion
from hfsynth.job.run import synthesize
from hfsynth.job.verify import verify
from hfsynth.models.tokenizers import load_model_tokenizer
from hfsynth.quality.rubric import Answers, RubricJudge


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    source = documents(tmp_path / "texts.jsonl", 6, special={2: "  "})
    synthesize(Source(str(source)), tmp_path / "out", SynthesizerConfig("scripted"), engine=EngineConfig("scripted"))
    return tmp_path / "out"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "pairs").iterdir()) for row in pq.read_table(path).to_pylist()]


@needs_vllm
def test_the_scores_are_what_the_judges_own_weights_say(corpus: Path, tiny_llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    told = verify(corpus, str(tiny_llama), engine=EngineConfig("vllm", {"max_num_seqs": 4})).stats["verify"]
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    tokenizer = load_model_tokenizer(str(tiny_llama), None, trust_remote_code=False)
    rubric, answers = RubricJudge(tokenizer, 2048), Answers.of(tokenizer)
    checked = 0
    for row in rows_of(corpus):
        for pair, scores in zip(row["pairs"], row["verdicts"] or (), strict=True):
            chain = rubric.chain(row["text"], [Pair(pair["instruction"], pair["response"])])
            requests = [next(chain)]
            requests.append(chain.send(Completion("", "stop")))
            for name, request in zip(("relevance", "accuracy"), requests, strict=True):
                with torch.no_grad():
                    logits = model(torch.tensor([request.token_ids])).logits[0, -1]
                likely = logits.log_softmax(-1)[list(answers.ids)].tolist()
                assert scores[name] == pytest.approx(answers.share(likely), abs=1e-3)
                checked += 1
    assert checked == 2 * told["judged"] == 20
    assert told["cached_tokens"] > 0  # the document that the questions about it share


def test_a_server_judges_as_it_writes(corpus: Path, tiny_llama: Path) -> None:
    with CompletionsServer(tiny_llama) as server:
        engine = EngineConfig("server", {"base_url": f"{server.url}/v1"})
        told = verify(corpus, str(tiny_llama), engine=engine, keep=["relevance>=0.5"]).stats["verify"]
    answers = Answers.of(load_model_tokenizer(str(tiny_llama), None, trust_remote_code=False))
    likely = [2.0 ** -(place + 1) for place in range(len(answers.ids))]
    yes = sum(likely[: len(answers.yes)]) / sum(likely)
    scores = [one for row in rows_of(corpus) for one in row["verdicts"] or ()]
    assert {round(one["relevance"], 6) for one in scores} == {round(yes, 6)}
    assert told["judged"] == told["kept"] == 10 and told["unjudged"] == {}
    assert len(server.calls) == 20
