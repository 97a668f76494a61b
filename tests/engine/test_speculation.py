"""Speculative decoding: what the option means, where it is refused, and that it leaves the pairs as they are."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import needs_vllm
from started import run_process
from warm_python import VLLM

from hfsynth.cli import app
from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.documents.source import Source
from hfsynth.engine import speculation
from hfsynth.engine.speculation import Speculation, in_the_tail, require_greedy, speculating, speculative_config
from hfsynth.job.run import synthesize

# Commands one after the other in one process, where they share the engine that guesses; what the first such engine
# leaves in a process (llvmlite is read before it), the next one of that process finds.
# What numba says of vLLM's code while it compiles it is not for a user to read, nor for a program that allows none.
PROGRAM = """
import json, sys, warnings
warnings.simplefilter("error", PendingDeprecationWarning)
import llvmlite.binding
from hfsynth.cli import app
for sys.argv in json.loads(sys.argv[1]):
    try:
        app.main()
    except SystemExit as ended:
        if ended.code:
            raise
import numba
print(numba.threading_layer())
"""
PENALTIES: dict[str, dict[str, float]] = {
    "plain": {},
    "penalised": {"repetition_penalty": 1.1, "frequency_penalty": 0.5},
}


def test_the_option_becomes_an_argument_of_vllm() -> None:
    engine = speculating(EngineConfig("vllm", {"max_num_seqs": 8}), "ngram:6")
    assert engine.arguments["max_num_seqs"] == 8
    assert engine.arguments["speculative_config"]["method"] == "ngram"
    assert engine.arguments["speculative_config"]["num_speculative_tokens"] == 6
    assert speculative_config("ngram")["num_speculative_tokens"] > 0
    assert speculating(engine, None) is engine


def test_the_embedded_model_guesses_by_itself_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "engine_has_gpu", lambda: False)
    embedded, asked = SynthesizerConfig("embedded"), EngineConfig("vllm", {"max_num_seqs": 8})
    usual = speculation.usual_engine(embedded, asked)
    assert usual == speculating(asked, "ngram")
    assert speculation.usual_engine(embedded, usual) is usual
    for config, engine in (
        (replace(embedded, sampling=Sampling(temperature=0.1)), asked),
        (replace(embedded, model="another"), asked),
        (embedded, speculating(asked, "none")),
        (embedded, speculating(asked, "ngram:8")),
        (embedded, EngineConfig("scripted")),
    ):
        assert speculation.usual_engine(config, engine) is engine
    monkeypatch.setattr(speculation, "engine_has_gpu", lambda: True)
    assert speculation.usual_engine(embedded, asked) is asked


def test_no_guesses_can_be_asked_for_of_every_engine() -> None:
    engine = speculating(EngineConfig(), "none")
    assert engine.arguments == {"speculative_config": None}
    require_greedy(engine, Sampling(temperature=1.0))
    assert speculating(EngineConfig("scripted"), "none") == EngineConfig("scripted")


@pytest.mark.parametrize("method", ["", "eagle", "ngram:", "ngram:0", "ngram:-1", "ngram:x", "ngram:\u00b2", "Ngram"])
def test_other_methods_are_refused(method: str) -> None:
    with pytest.raises(ConfigError, match="ngram") as caught:
        speculating(EngineConfig(), method)
    assert "speculative_config" in caught.value.hint


@pytest.mark.parametrize("kind", ["server", "scripted"])
def test_other_engines_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=kind):
        speculating(EngineConfig(kind), "ngram")


def test_saying_it_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        speculating(EngineConfig("vllm", {"speculative_config": {"method": "suffix"}}), "ngram")


def test_it_is_refused_where_it_would_change_the_result() -> None:
    engine = speculating(EngineConfig(), "ngram")
    require_greedy(engine, Sampling())
    require_greedy(EngineConfig(), Sampling(temperature=1.0))
    with pytest.raises(ConfigError, match="another corpus"):
        require_greedy(engine, Sampling(temperature=0.1))


def test_a_gpu_guesses_only_while_few_requests_run() -> None:
    arguments = speculating(EngineConfig("vllm", {"max_num_seqs": 8}), "ngram:6").arguments
    tail = in_the_tail(arguments)
    schedule = tail["speculative_config"].pop("num_speculative_tokens_per_batch_size")
    assert tail == arguments
    assert [tokens for first, last, tokens in schedule] == [6, 0]
    assert (schedule[0][0], schedule[0][1] + 1) == (1, schedule[1][0])
    own = {
        "speculative_config": {**arguments["speculative_config"], "num_speculative_tokens_per_batch_size": [[1, 9, 2]]}
    }
    for same in (own, {"max_num_seqs": 8}, {"speculative_config": {"method": "eagle", "num_speculative_tokens": 2}}):
        assert in_the_tail(same) == same


@needs_vllm
def test_vllm_takes_the_schedule_and_fills_it() -> None:
    from vllm.v1.spec_decode.dynamic.utils import build_dynamic_sd_schedule_lookup

    found = in_the_tail({"speculative_config": speculative_config("ngram:6")})["speculative_config"]
    lookup = build_dynamic_sd_schedule_lookup(found["num_speculative_tokens_per_batch_size"], 1024, 6)
    assert set(lookup[1:65]) == {6} and set(lookup[65:]) == {0}


def test_acceptance() -> None:
    assert (Speculation(30, 20) - Speculation(10, 10)).acceptance == 0.5
    assert Speculation(0, 0).acceptance is None


@pytest.mark.parametrize("options", [["--temperature", "0.5"], ["--engine", "scripted"]])
def test_the_command_line_refuses_it_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    source = written(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["hfsynth", "synthesize", str(source), str(tmp_path / "c"), "--speculative", "ngram", *options]
    )
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert "Speculative decoding" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


@needs_vllm
def test_completions_are_the_same_with_and_without(tiny_llama: Path, tmp_path: Path) -> None:
    source, engine, commands = written(tmp_path), EngineConfig("vllm", {"max_num_seqs": 4}), []
    for name, penalties in PENALTIES.items():
        sampling, recipe = Sampling(max_tokens=40, **penalties), tmp_path / f"{name}.json"
        config = SynthesizerConfig(str(tiny_llama), shots=2, sampling=sampling, long_documents="split")
        recipe.write_text(json.dumps(config.to_dict()))
        synthesize(Source(str(source)), tmp_path / name, config, engine=engine)
        options = ["--recipe", str(recipe), "--workers", "0", "--quiet", "--engine-arg", "max_num_seqs=4"]
        out = str(tmp_path / f"{name}-guessed")
        commands.append(["hfsynth", "synthesize", str(source), out, *options, "--speculative", "ngram"])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "nothing compiled yet")}
    program = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    ran = run_process(program, reads=VLLM, env=environment, check=True)
    assert ran.stdout.split()[-1] != "omp"  # it would slow down everything else
    for name in PENALTIES:
        assert said(tmp_path / f"{name}-guessed") == said(tmp_path / name)
        assert sum(row["output_tokens"] for row in said(tmp_path / name)) > 200
    # One engine served both: the second command's pairs are its own.
    assert said(tmp_path / "plain") != said(tmp_path / "penalised")


def written(folder: Path) -> Path:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"Tides and lamps, number {n}. " * 5}) + "\n" for n in range(8)))
    return path


def said(corpus: Path) -> list[dict[str, Any]]:
    """Return what became of every document but for what the cache saved."""
    rows = [row for path in sorted((corpus / "pairs").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return [{**row["synthesis"], "cached_tokens": 0, "pairs": row["pairs"]} for row in rows]
