"""Training with a tiny real model: what is learnt is what the real engine then writes, and a run can be resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import needs, needs_vllm
from datasets import Dataset
from typer.testing import CliRunner

from hfsynth import Synthesizer
from hfsynth.cli.app import app
from hfsynth.core.config import Sampling
from hfsynth.core.errors import ConfigError, ModelError, OutputError, SourceError
from hfsynth.training.config import Lora, Packing, Schedule, TrainingConfig, TrainingFolder

if TYPE_CHECKING:
    from hfsynth.training.trainer import TrainingProgress

pytestmark = needs("torch", "peft")

THINGS = "lamp tide bond root salt fish rope moon rain bell sand wolf milk coal gate nest seed wind hare kite".split()  # noqa: SIM905


def task_rows(count: int = 20) -> list[dict[str, Any]]:
    return [
        {
            "context": f"Of {thing}: kept in box {number}.",
            "pairs": [
                {"instruction": "What?", "response": thing},
                {"instruction": "Which box?", "response": str(number)},
            ],
            "source": "boxes",
        }
        for number, thing in enumerate(THINGS[:count])
    ]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tasks") / "tasks.parquet"
    pq.write_table(pa.Table.from_pylist(task_rows()), path)
    return path


def train(*arguments: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Train, by a function that is imported where it is called: it reads torch and PEFT."""
    from hfsynth.training import train

    return train.train(*arguments, **options)


def config(base: Path, **settings: Any) -> TrainingConfig:  # noqa: ANN401
    defaults = {"packing": Packing(window=256, shots=1), "batch_tokens": 512, "device_tokens": 512, "validation": 0.0}
    return TrainingConfig(base=str(base), **{**defaults, **settings})


@needs_vllm
def test_a_tiny_model_learns_twenty_contexts_and_synthesize_returns_their_pairs(
    tasks: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    out = tmp_path / "synthesizer"
    figures = train(
        tasks,
        out,
        config(tiny_llama, packing=Packing(256, 1, epochs=130), lora=None, learning_rate=4e-3),
    )
    assert figures["final_loss"] < 0.1
    rows = task_rows()
    ds = Dataset.from_dict({"text": [row["context"] for row in rows]})
    written = ds.map(Synthesizer(str(out), sampling=Sampling(max_tokens=100)), batched=True)
    assert written["pairs"] == [row["pairs"] for row in rows]


@needs_vllm
def test_an_adapter_is_merged_and_changes_what_the_model_writes(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "synthesizer"
    packing = Packing(256, 1, epochs=25)
    train(tasks, out, config(tiny_llama, packing=packing, lora=Lora(32, 64), learning_rate=1e-2))
    assert (out / "adapter_model.safetensors").exists()
    assert not (out / "model.safetensors").exists()
    ds = Dataset.from_dict({"text": [row["context"] for row in task_rows(4)]})
    written = ds.map(Synthesizer(str(out), sampling=Sampling(max_tokens=60)), batched=True)
    assert "What?" in [pair["instruction"] for pairs in written["pairs"] for pair in pairs]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_was_interrupted_has_the_same_loss_curve(
    tasks: Path, tiny_llama: Path, tmp_path: Path, precision: str
) -> None:
    class Killed(Exception):
        pass

    def die_at_seven(progress: TrainingProgress) -> None:
        if progress.step == 7:
            raise Killed

    settings = config(
        tiny_llama, packing=Packing(256, 2, epochs=4), lora=Lora(4, 8), validation=0.2, precision=precision
    )
    schedule = Schedule(log=1, evaluate=4, save=3)
    whole = train(tasks, tmp_path / "whole", settings, schedule=schedule)
    with pytest.raises(Killed):
        train(tasks, tmp_path / "cut", settings, schedule=schedule, on_progress=die_at_seven)
    assert not (tmp_path / "cut" / "training.json").exists()
    steps: list[int] = []
    resumed = train(
        tasks, tmp_path / "cut", settings, schedule=schedule, on_progress=lambda progress: steps.append(progress.step)
    )
    assert steps[0] == 7
    assert resumed["curve"] == whole["curve"]
    assert resumed["held_out_curve"] == whole["held_out_curve"]
    assert len(whole["curve"]) == whole["steps"] > 7
    weights = [(tmp_path / run / "adapter_model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert whole["precision"] == precision


def test_half_precision_learns_the_weights_themselves_in_full(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    """Steps far smaller than bfloat16 tells apart add up: after eight of them the loss is near that of float32."""
    curves = {}
    for precision in ("fp32", "bf16"):
        settings = config(
            tiny_llama, packing=Packing(256, 1, epochs=6), lora=Lora(8, 16), learning_rate=2e-3, precision=precision
        )
        figures = train(tasks, tmp_path / precision, settings, schedule=Schedule(log=1))
        curves[precision] = [point["loss"] for point in figures["curve"]]
    assert curves["fp32"][-1] < curves["fp32"][0] - 0.05
    assert curves["bf16"] == pytest.approx(curves["fp32"], abs=0.02)
    assert curves["bf16"] != curves["fp32"]


KILLED = """
import os, signal, sys
import torch
from hfsynth.training.config import Lora, Packing, Schedule, TrainingConfig
from hfsynth.training.train import train

data, base, out = sys.argv[1:]
save = torch.save


def killed_at_the_sixth_step(what, file, *rest, **named):
    if "checkpoint-6" in str(file):  # its weights are written, its optimizer is not
        os.kill(os.getpid(), signal.SIGKILL)
    save(what, file, *rest, **named)


torch.save = killed_at_the_sixth_step
packing = Packing(256, 2, epochs=4)
config = TrainingConfig(
    base, packing, lora=Lora(4, 8), batch_tokens=512, device_tokens=512, validation=0.2
)
train(data, out, config, schedule=Schedule(log=1, evaluate=4, save=3))
"""


def test_a_run_killed_while_it_keeps_a_checkpoint_goes_on_from_the_one_before(
    tasks: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, str(tasks), str(tiny_llama), str(out)])
    assert run.returncode == -signal.SIGKILL
    checkpoints = out / ".hfsynth" / "checkpoints"
    assert not (checkpoints / "checkpoint-6" / "trainer_state.json").exists()
    settings = config(tiny_llama, packing=Packing(256, 2, epochs=4), lora=Lora(4, 8), validation=0.2)
    schedule = Schedule(log=1, evaluate=4, save=3)
    steps: list[int] = []
    resumed = train(tasks, out, settings, schedule=schedule, on_progress=lambda progress: steps.append(progress.step))
    assert steps[0] == 4
    assert resumed["curve"] == train(tasks, tmp_path / "whole", settings, schedule=schedule)["curve"]


@pytest.mark.parametrize("state", [None, "", '{"global_step": 6, "log_hist'])
def test_a_checkpoint_counts_when_its_state_is_whole(state: str | None, tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path)
    assert folder.last_checkpoint() is None
    for step in (3, 12, 6):
        (folder.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (folder.checkpoints / f"checkpoint-{step}" / "trainer_state.json").write_text('{"global_step": 1}')
    assert folder.last_checkpoint() == folder.checkpoints / "checkpoint-12"
    broken = folder.checkpoints / "checkpoint-12" / "trainer_state.json"
    broken.unlink() if state is None else broken.write_text(state)
    assert folder.last_checkpoint() == folder.checkpoints / "checkpoint-6"
    assert not broken.parent.exists()


def test_an_adapter_is_trained_further_at_its_own_rank(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    schedule = Schedule(log=1, evaluate=100, save=3)
    rate: dict[str, Any] = {"packing": Packing(256, 2, epochs=4), "learning_rate": 1e-2}
    first = train(tasks, tmp_path / "first", config(tiny_llama, lora=Lora(4, 8), **rate), schedule=schedule)
    further = config(tiny_llama, lora=Lora(16, 32), adapter=str(tmp_path / "first"), **rate)
    again = train(tasks, tmp_path / "again", further, schedule=schedule)
    assert again["curve"][0]["loss"] < (first["curve"][0]["loss"] + first["curve"][-1]["loss"]) / 2
    assert again["method"] == first["method"] == "LoRA, rank 4, alpha 8"
    assert first["adapter_before"] is None and again["adapter_before"] is not None
    assert str(tmp_path) not in again["adapter_before"]
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("first", "again")]
    assert weights[0] != weights[1]


def test_a_run_from_another_adapter_is_another_run(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    train(tasks, before, config(tiny_llama, max_steps=1))
    folder = TrainingFolder(tmp_path / "run")
    folder.claim({"data": str(tasks)}, "the content of another adapter")
    further = config(tiny_llama, adapter=str(before), max_steps=1)
    with pytest.raises(OutputError, match="other settings: .*adapter was None, now"):
        train(tasks, folder.root, further)


def test_what_is_no_adapter_is_refused(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no adapter in") as raised:
        train(tasks, tmp_path / "out", config(tiny_llama, adapter=str(tmp_path / "nothing")))
    assert "--adapter" in raised.value.hint and not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="cannot be used"):
        train(tasks, tmp_path / "out", config(tiny_llama, adapter="embedded"))
    with pytest.raises(ConfigError, match="full tuning starts from a whole model"):
        config(tiny_llama, adapter="embedded", lora=None)


def test_a_plan_says_what_would_be_trained_on_and_writes_nothing(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["train", str(tasks), str(out), "--base", str(tiny_llama), "--window", "256", "--cap-source", "boxes=8"]
    ran = CliRunner().invoke(app, [*command, "--dry-run"])
    assert ran.exit_code == 0, ran.output
    assert "left out: 12 over_cap" in ran.stdout
    assert not out.exists()
    planned = json.loads(CliRunner().invoke(app, [*command, "--dry-run", "--json"]).stdout)
    figures = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    names = ("sequences", "tokens", "tokens_learnt", "steps", "left_out")
    assert [planned[name] for name in names] == [figures[name] for name in names]


def test_a_run_asks_for_one_order_and_leaves_torch_as_it_was(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    import torch

    cuda, deterministic = torch.backends.cuda, torch.utils.deterministic

    def settings() -> tuple[bool, ...]:
        ordered = torch.are_deterministic_algorithms_enabled()
        fused = (cuda.cudnn_sdp_enabled(), cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled())
        return (ordered, deterministic.fill_uninitialized_memory, *fused)

    before, during = settings(), []
    train(tasks, tmp_path / "synthesizer", config(tiny_llama), on_progress=lambda _: during.append(settings()))
    assert set(during) == {(True, False, False, True, True)}  # without the last, masks and float32 take far more memory
    assert settings() == before != during[0]


def test_a_step_is_tried_for_an_order_and_teaches_nothing(
    tasks: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where alone it is done: the run after it is the one without it."""
    from hfsynth.training import train as module
    from hfsynth.training.order import has_order
    from hfsynth.training.trainer import SynthesizerTrainer

    train(tasks, tmp_path / "plain", config(tiny_llama))
    found = []

    class Tried(SynthesizerTrainer):
        def train(self, *args: Any, **named: Any) -> Any:  # noqa: ANN401
            found.append(has_order(self.try_step))
            return super().train(*args, **named)

    monkeypatch.setattr(module, "SynthesizerTrainer", Tried)
    train(tasks, tmp_path / "tried", config(tiny_llama))
    assert found == [True]
    plain, tried = (tmp_path / name / "adapter_model.safetensors" for name in ("plain", "tried"))
    assert plain.read_bytes() == tried.read_bytes()


def test_what_has_no_order_is_told_and_other_errors_are_passed_on() -> None:
    import torch

    from hfsynth.training.order import has_order

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    assert has_order(lambda: torch.ones(3).sum())
    assert not has_order(lambda: torch.zeros(3).put_(torch.tensor([0]), torch.ones(1)))
    with pytest.raises(RuntimeError, match="must match"):
        has_order(lambda: torch.ones(3) + torch.ones(2))
    assert before == (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def test_the_loss_is_the_mean_over_the_tokens_that_count(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    """One step over all sequences in four device batches: the logged loss is that of plain cross-entropy."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hfsynth.documents.examples import read_examples
    from hfsynth.models.tokenizers import ModelTokenizer
    from hfsynth.prompting.instruction_pretrain import InstructionPretrain
    from hfsynth.training.sequences import pack

    settings = config(tiny_llama, batch_tokens=4096, device_tokens=512, max_steps=1)
    figures = train(tasks, tmp_path / "out", settings, schedule=Schedule(log=1))
    tokenizer = ModelTokenizer(AutoTokenizer.from_pretrained(tiny_llama))
    packed, _ = pack(
        read_examples(str(tasks)).rows, InstructionPretrain(tokenizer), tokenizer, Packing(window=256, shots=1)
    )
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    total, count = 0.0, 0
    with torch.no_grad():
        for found in packed:
            logits = model(torch.tensor([found.token_ids])).logits[0, :-1]
            labels = torch.tensor(found.labels()[1:])
            total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
            count += int((labels != -100).sum())
    assert figures["steps"] == 1
    assert figures["curve"][0]["loss"] == pytest.approx(total / count, rel=1e-4)


def test_a_run_does_not_go_on_with_other_examples(tiny_llama: Path, tmp_path: Path) -> None:
    def die(progress: TrainingProgress) -> None:
        raise InterruptedError

    path, settings = tmp_path / "tasks.parquet", config(tiny_llama, lora=Lora(4, 8), max_steps=2)
    pq.write_table(pa.Table.from_pylist(task_rows()), path)
    with pytest.raises(InterruptedError):
        train(path, tmp_path / "out", settings, on_progress=die)
    pq.write_table(pa.Table.from_pylist(task_rows(19)), path)
    with pytest.raises(OutputError, match="have changed since"):
        train(path, tmp_path / "out", settings)
    pq.write_table(pa.Table.from_pylist(task_rows()), path)
    assert train(path, tmp_path / "out", settings)["steps"] == 2


def test_a_finished_run_is_not_repeated_and_other_settings_are_refused(
    tasks: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    settings = config(tiny_llama, lora=Lora(4, 8))
    first = train(tasks, tmp_path / "out", settings)
    stamp = (tmp_path / "out" / "adapter_model.safetensors").stat().st_mtime_ns
    assert train(tasks, tmp_path / "out", settings) == first
    assert (tmp_path / "out" / "adapter_model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(OutputError, match="learning_rate was None, now 0.001"):
        train(tasks, tmp_path / "out", config(tiny_llama, lora=Lora(4, 8), learning_rate=1e-3))


def test_a_run_of_before_a_setting_was_there_goes_on_with_its_default(
    tasks: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    settings = config(tiny_llama, lora=Lora(4, 8), max_steps=1)
    first = train(tasks, tmp_path / "out", settings)
    recipe = tmp_path / "out" / ".hfsynth" / "training_recipe.json"
    values = json.loads(recipe.read_text())
    del values["precision"]
    recipe.write_text(json.dumps(values))
    assert train(tasks, tmp_path / "out", settings) == first
    with pytest.raises(OutputError, match="precision was 'auto', now 'bf16'"):
        train(tasks, tmp_path / "out", config(tiny_llama, lora=Lora(4, 8), max_steps=1, precision="bf16"))


def test_so_few_examples_that_none_is_held_out_are_trained_on(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    figures = train(tasks, tmp_path / "out", config(tiny_llama, lora=Lora(4, 8), validation=0.001, max_steps=1))
    assert figures["held_out_loss"] is None
    assert figures["steps"] == 1


def test_logs_for_tensorboard_outlast_the_run(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    settings = config(tiny_llama, lora=Lora(4, 8), max_steps=1)
    train(tasks, tmp_path / "out", settings, schedule=Schedule(log=1, tensorboard=True))
    assert list((tmp_path / "out" / ".hfsynth" / "tensorboard").glob("events.*"))


def test_a_folder_with_other_things_is_refused(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        train(tasks, tmp_path, config(tiny_llama))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_data_longer_than_the_window_is_refused(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="20 are longer"):
        train(tasks, tmp_path / "out", config(tiny_llama, packing=Packing(16, 1)))


def test_a_run_that_could_not_begin_does_not_take_the_folder(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    settings = config(tiny_llama, lora=Lora(4, 8), max_steps=1)
    with pytest.raises(SourceError):
        train(tmp_path / "none.parquet", tmp_path / "out", settings)
    assert train(tasks, tmp_path / "out", settings)["steps"] == 1


def test_a_base_that_is_not_there_is_refused(tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        train(tasks, tmp_path / "out", config(tmp_path / "none"))


@pytest.mark.parametrize(
    "settings",
    [{"device_tokens": 0}, {"device_tokens": 9_000}, {"learning_rate": 2.0}, {"validation": 1.0}, {"precision": "fp8"}],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config(Path("base"), **settings)


def test_the_command_writes_model_recipe_figures_and_card(tasks: Path, tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["train", str(tasks), str(out), "--base", str(tiny_llama), "--window", "256", "--lora-rank", "4"]
    options = ["--cap-source", "boxes=8", "--license", "apache-2.0", "--language", "en", "--validation", "0", "--json"]
    ran = CliRunner().invoke(app, [*command, *options])
    assert ran.exit_code == 0, ran.output
    figures = json.loads(ran.stdout)
    assert figures["left_out"]["over_cap"] == 12
    names = {path.name for path in out.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "synthesizer_config.json", "training.json"} <= names
    assert {"tokenizer.json", "tokenizer_config.json", "README.md"} <= names
    assert "model" not in json.loads((out / "synthesizer_config.json").read_text())
    card = (out / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "tokens_learnt" in card
    assert not (out / ".hfsynth" / "checkpoints").exists()


def test_a_cap_that_cannot_be_read_is_refused(tasks: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(
        app, ["train", str(tasks), str(tmp_path / "out"), "--base", "x", "--cap-source", "boxes:8"]
    )
    assert isinstance(ran.exception, ConfigError)
