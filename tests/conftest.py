"""What every test needs: an environment without a network, and a tiny real model.

The environment is set when this file is imported, before any test imports a library that reads it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from loopback_s3.moto import MotoS3, moto_server
from loopback_s3.server import ScriptedS3
from seeds import EVERYTHING, SEED
from started import end_started, start_process
from warm_python import VLLM

_HF_HOME = tempfile.mkdtemp(prefix="hfsynth-tests-")
atexit.register(shutil.rmtree, _HF_HOME, ignore_errors=True)
os.environ.update(
    HF_HOME=_HF_HOME,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",  # the engine in this process: it starts in seconds
    VLLM_CPU_KVCACHE_SPACE="1",
    # Tiny models need no threads, and threads that wait by spinning, or are bound to the same cores by every process,
    # take the time of the tests beside them.
    OMP_NUM_THREADS="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
)

# Hundreds of processes read the same modules: let the first keep what it has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Started in the background by a shell, or by nohup, a process ignores the keyboard's interrupt, or the end of its
# terminal, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Other examples in every run, in CI too, where Hypothesis would take the same; a failure tells how to see it again.
settings.register_profile("hfsynth", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("hfsynth")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one worker more than cores, for tests wait much, and nine at most, for each takes a gigabyte."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8) + 1


def pytest_report_header() -> str:
    """Say how to see the same kills and faults again."""
    return f"HFSYNTH_TEST_SEED={SEED}" + (" HFSYNTH_TEST_EVERYTHING=1" if EVERYTHING else "")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run side by side, begin with what takes longest: no process is to end long after the others."""
    if hasattr(config, "workerinput"):
        long = {item.path for item in items if item.get_closest_marker("long")}
        items.sort(key=lambda item: (not names_vllm(item.path), item.path not in long))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:  # noqa: ANN401
    """Give a file to one process, which shares its fixtures, and all files that load vLLM to the same one.

    To read vLLM takes 15 seconds of a processor, in a process of tests and in the Python that their commands are forked
    from. Marks would be finer, but pytest-xdist 3.8 does not see them with pytest 9.2.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "vllm" if names_vllm(config.rootpath / path) else path

    return Files(config, log)


@cache
def names_vllm(path: Path) -> bool:
    """Return whether tests of a file load vLLM, which its text tells: the process that hands them out has no more."""
    return "needs_vllm" in path.read_text("utf-8")


@pytest.fixture(autouse=True)
def processes() -> Iterator[None]:
    """End what a test has started and left running: it would disturb the tests that follow."""
    yield
    end_started()


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[MotoS3]:
    """Return moto's S3, which runs as a process until the tests are done."""
    for library in ("obstore", "moto"):
        if find_spec(library) is None:
            pytest.skip(f"not installed: {library}")
    with moto_server() as server:
        yield server


@pytest.fixture
def bucket(moto_s3: MotoS3, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty bucket, which this process and its children reach by their environment."""
    for name, value in moto_s3.env().items():
        monkeypatch.setenv(name, value)
    return f"s3://{moto_s3.new_bucket()}"


@pytest.fixture
def scripted_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    """Return an S3 whose faults a test chooses, which this process and its children reach by their environment."""
    with ScriptedS3() as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def warm_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the processes that a job or a trial of this process starts, from a Python that has read vLLM."""

    def forked(argv: list[str], **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401
        process = start_process(argv, reads=VLLM, **options)
        if process.stdin is not None:
            process.stdin = process.stdin.detach()  # type: ignore[attr-defined]  # it is given bytes
        return process

    own = SimpleNamespace(Popen=forked, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr("hfsynth.job.child_process.subprocess", own)


needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="there is no wheel of vLLM for this machine")


def needs(*libraries: str) -> pytest.MarkDecorator:
    """Skip where one of them is not installed; to see that imports none, which would take every process seconds."""
    missing = [name for name in libraries if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


_SENTENCES = (
    "The lighthouse keeper lit the lamp every evening and wrote down the weather.",
    "Potatoes were first grown in the Andes, thousands of years ago.",
    "A bond is a loan that can be traded; its price falls when interest rates rise.",
    "Insulin lowers the sugar in the blood. It was first given to a patient in 1922.",
    "What does the text say? It says that tides are caused mainly by the Moon.",
    " <CON> A short document. </CON>\n\n<QUE> What is it? <ANS> A short document. </END>\n\n",
)
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ bos_token }}{{ message['role'] }}\n{{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a real Llama of two layers: random weights, the same in every run; window 2048.

    Its byte-level tokenizer is trained on the spot: `<unk>` 0, `<s>` 1 (added in front unless told otherwise, as a
    Llama's does), `</s>` 2, `<pad>` 3.
    """
    for library in ("torch", "transformers"):
        if find_spec(library) is None:
            pytest.skip(f"the tiny model is made with {library}, which is not installed")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    vocabulary = _save_tokenizer(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=2048,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=3,
            )
        )
    model.save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path) -> int:
    """Train and save a tokenizer; return the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        chat_template=_CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return int(tokenizer.get_vocab_size())
