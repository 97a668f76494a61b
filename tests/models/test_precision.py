"""Precision: settled once, pinned in the recipe, and never two of them in one corpus."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from jobs import documents

from hfsynth.core.config import PRECISIONS, EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import read_json, write_json
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.source import Source
from hfsynth.job.begin import job_plan
from hfsynth.job.run import synthesize
from hfsynth.models.precision import precision_arguments, settled_precision
from hfsynth.models.resolve import pinned


def model(folder: Path, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return folder


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with GPUs whose compute capabilities stand in a file, and with vLLM's CUDA build."""
    folder = tmp_path / "bin"
    folder.mkdir()
    told = folder / "capabilities"
    told.write_text("9.0\n")
    command = folder / "nvidia-smi"
    command.write_text(f'#!/bin/sh\ncase "$1" in -L) echo "GPU 0: a";; *) cat {told};; esac\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("hfsynth.models.precision._is_cpu_build", lambda: False)
    return told


@pytest.mark.parametrize(
    ("config", "capabilities", "precision"),
    [
        ({"torch_dtype": "bfloat16"}, "9.0", "bf16"),
        ({"dtype": "float16"}, "9.0", "fp16"),
        ({"dtype": "float32"}, "9.0", "bf16"),
        ({}, "9.0\n8.0", "bf16"),
        ({"dtype": "bfloat16"}, "9.0\n7.5", "fp16"),
        ({"dtype": "bfloat16"}, "N/A", "bf16"),
    ],
)
def test_auto_is_what_the_weights_are_stored_in_where_the_gpu_computes_in_it(
    gpu: Path, tmp_path: Path, config: dict[str, str], capabilities: str, precision: str
) -> None:
    gpu.write_text(capabilities)
    folder = model(tmp_path / "model", **config)
    assert settled_precision(folder / "config.json") == precision
    assert pinned(SynthesizerConfig(str(folder)), EngineConfig()).precision == precision


def test_on_a_cpu_auto_is_fp32_and_a_cluster_may_say_that_it_has_gpus(tmp_path: Path) -> None:
    config = SynthesizerConfig(str(model(tmp_path / "model", dtype="bfloat16")))
    assert pinned(config, EngineConfig(), gpu=False).precision == "fp32"
    assert pinned(config, EngineConfig(), gpu=True).precision == "bf16"


def test_what_was_asked_for_and_what_a_server_runs_stays(tmp_path: Path, gpu: Path) -> None:
    folder = str(model(tmp_path / "model"))
    assert pinned(SynthesizerConfig(folder, precision="fp8"), EngineConfig()).precision == "fp8"
    assert pinned(SynthesizerConfig(folder), EngineConfig("server")).precision == "auto"


def test_every_precision_has_its_arguments_and_no_two_the_same() -> None:
    said = [json.dumps(dict(precision_arguments(name))) for name in PRECISIONS]
    assert len(set(said)) == len(PRECISIONS)
    with pytest.raises(ConfigError, match="precision must be one of auto, bf16"):
        SynthesizerConfig("m", precision="int3")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("dtype", "float16", "--precision"),
        ("quantization", "fp8", "--precision"),
        ("kv_cache_dtype", "fp8", "--precision"),
        ("max_model_len", 900, "--window"),
        ("load_format", "dummy", "dummy in load_format"),
        ("speculative_config", {"method": "ngram", "rejection_sample_method": "fly"}, "rejection_sample_method"),
        ("spec_method", "ngram", "--speculative"),
        ("max_num_seq", 8, "Did you mean max_num_seqs?"),
        ("no_such_argument", 1, "no engine argument of vLLM"),
    ],
)
def test_an_argument_that_changes_the_result_is_refused_with_what_to_use_instead(
    name: str, value: object, said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        EngineConfig("vllm", {name: value})
    assert said in str(refused.value)


def test_the_same_recipe_never_mixes_two_precisions_in_a_corpus(tmp_path: Path) -> None:
    source, corpus = Source(str(documents(tmp_path / "texts.jsonl", 4))), Corpus(tmp_path / "out")
    config, engine = SynthesizerConfig("scripted"), EngineConfig("scripted")
    synthesize(source, corpus.root, config, engine=engine)
    begun = read_json(corpus.plan)
    begun["synthesizer"]["precision"] = "bf16"  # as if it had been begun on a machine that computes in it
    write_json(corpus.plan, begun)
    assert job_plan(source, corpus.root, config, engine=engine)["synthesizer"]["precision"] == "bf16"
    with pytest.raises(OutputError, match=r"synthesizer\.precision is 'bf16' there and 'fp16' here"):
        synthesize(source, corpus.root, SynthesizerConfig("scripted", precision="fp16"), engine=engine)


def test_a_job_from_before_there_were_precisions_is_gone_on_with(tmp_path: Path) -> None:
    source, corpus = Source(str(documents(tmp_path / "texts.jsonl", 4))), Corpus(tmp_path / "out")
    config, engine = SynthesizerConfig("scripted"), EngineConfig("scripted")
    synthesize(source, corpus.root, config, engine=engine)
    begun = read_json(corpus.plan)
    del begun["synthesizer"]["precision"]
    write_json(corpus.plan, begun)
    assert not synthesize(source, corpus.root, config, engine=engine).worked
