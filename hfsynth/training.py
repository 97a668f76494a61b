"""Fine-tune a synthesizer on task data: LoRA by default, all weights on request, checkpoints that a rerun goes on from.

The only module that imports PEFT. Knows nothing of the Hub, of engines or of corpora.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from transformers.utils import logging as library_logging

from hfsynth.config import SynthesizerConfig, digest
from hfsynth.durable import write_text, writing
from hfsynth.embedded import BASE_NAME, EMBEDDED, base_path
from hfsynth.errors import ConfigError, ModelError, OutputError, SourceError
from hfsynth.model_tokenizer import ModelTokenizer
from hfsynth.prompts import InstructionPretrain
from hfsynth.sequences import Packing, TrainingSequence, batched, held_out, in_order, pack
from hfsynth.synthesizer_trainer import Batches, OnProgress, Report, SynthesizerTrainer, only, tensorboard_logs
from hfsynth.training_data import Example, read_examples

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NEIGHBOURS = 256  # sequences among which batches of like length are looked for
_STATE = ".hfsynth"
_RECIPE = "training_recipe.json"


@dataclass(frozen=True, slots=True)
class Lora:
    """The size of the adapter: `rank`, and `alpha`, which scales it by alpha / rank. All linear layers get one."""

    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What decides the weights. `lora` is None for full tuning.

    `batch_tokens` are the tokens of one optimizer step, `device_tokens` those that are on the device at once; padding
    counts. `warmup` and `validation` are shares (of the steps, of the examples). `learning_rate` is None for 2e-4
    with LoRA and 5e-6 without (the paper's, section 3).
    """

    base: str
    packing: Packing
    lora: Lora | None = field(default_factory=Lora)
    learning_rate: float | None = None
    batch_tokens: int = 16_384
    device_tokens: int = 4_096
    warmup: float = 0.03
    validation: float = 0.02
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.device_tokens <= self.batch_tokens:
            raise ConfigError(
                f"device_tokens must be at least 1 and at most batch_tokens ({self.batch_tokens}), "
                f"not {self.device_tokens}."
            )
        if not (0 <= self.warmup < 1 and 0 <= self.validation < 1):
            raise ConfigError(f"warmup and validation are shares below 1, not {self.warmup} and {self.validation}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate must be a number between 0 and 1, not {self.learning_rate}.")

    @property
    def rate(self) -> float:
        """The highest learning rate, after the warm-up."""
        return self.learning_rate or (5e-6 if self.lora is None else 2e-4)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often a run says something, measures its held-out loss and keeps a checkpoint, in optimizer steps."""

    log: int = 10
    evaluate: int = 50
    save: int = 50
    tensorboard: bool = False


def train(
    data: str | Path,
    out: str | Path,
    config: TrainingConfig,
    *,
    schedule: Schedule | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Make a synthesizer of `config.base` and write it to the folder `out`; return what `training.json` says.

    `out` gets the adapter (or the weights), the tokenizer, `synthesizer_config.json` and `training.json`; checkpoints
    lie in `out/.hfsynth` until the run is finished. The same call goes on where an interrupted one was; a finished one
    only reads its figures. Raise OutputError where `out` holds something else, SourceError and ColumnError for data
    that cannot be used, ModelError for a base that cannot.
    """
    folder = Path(out)
    finished = _finished(folder, _identity(str(data), config))
    if finished is not None:
        return finished
    with _quietly():
        return _train(str(data), folder, config, schedule or Schedule(), on_progress)


def _train(
    data: str, folder: Path, config: TrainingConfig, schedule: Schedule, on_progress: OnProgress | None
) -> dict[str, Any]:
    examples = read_examples(data)
    tokenizer = _tokenizer(config.base)
    training, validation, packed = _sequences(examples.rows, tokenizer, config)
    model = _model(config)
    content = digest({"examples": [asdict(example) for example in examples.rows]})
    _claim(folder, _identity(data, config), content)  # not before: a run that could not begin leaves the folder free
    device_batches = batched(training, config.device_tokens, within=_NEIGHBOURS)
    batches = Batches(in_order(device_batches, config.packing.seed), tokenizer)
    held = Batches(batched(validation, config.device_tokens, within=len(validation) or 1), tokenizer)
    trainer = SynthesizerTrainer(
        model=model,
        args=_arguments(folder, config, schedule, len(batches), measured=len(held) > 0),
        train_dataset=batches,
        eval_dataset=held if len(held) else None,
        data_collator=only,
        callbacks=[
            *([Report(on_progress, batches.tokens)] if on_progress else []),
            *([tensorboard_logs(folder / _STATE / "tensorboard")] if schedule.tensorboard else []),
        ],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
    figures = _figures(trainer, config, training, time.monotonic() - started)
    figures |= {"data": Path(data).name, "left_out": dict(examples.left_out + packed)}
    _write(folder, trainer.model, tokenizer, config, figures)
    return figures


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the libraries' own progress bars and warnings, about what this machine lacks, off the terminal."""
    bars = (not datasets.are_progress_bars_disabled(), library_logging.is_progress_bar_enabled())
    datasets.disable_progress_bars()
    library_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if bars[0]:
            datasets.enable_progress_bars()
        if bars[1]:
            library_logging.enable_progress_bar()


def _sequences(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, config: TrainingConfig
) -> tuple[list[TrainingSequence], list[TrainingSequence], Counter[str]]:
    wrapped = ModelTokenizer(tokenizer)
    prompts = InstructionPretrain(wrapped)
    to_train, to_measure = held_out(examples, config.validation, config.packing.seed)
    packing = config.packing
    training, left_out = pack(to_train, prompts, wrapped, packing)
    if not training:
        raise SourceError(
            f"No example fits a window of {packing.window} tokens: {left_out['too_long']} are longer.",
            hint="Use a larger --window, or shorter contexts.",
        )
    once = Packing(packing.window, packing.shots, seed=packing.seed, cap=packing.cap, caps=packing.caps)
    return training, pack(to_measure, prompts, wrapped, once)[0], left_out


def _arguments(
    folder: Path, config: TrainingConfig, schedule: Schedule, batches: int, *, measured: bool
) -> TrainingArguments:
    accumulated = max(1, round(config.batch_tokens / config.device_tokens))
    steps = min(config.max_steps or batches, max(1, -(-batches // accumulated)))
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder / _STATE / "checkpoints"),
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=accumulated,
        max_steps=steps,
        learning_rate=config.rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(config.warmup * steps),
        bf16=cuda and torch.cuda.is_bf16_supported(),
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        train_sampling_strategy="sequential",
        logging_steps=schedule.log,
        eval_strategy="steps" if measured else "no",
        eval_steps=schedule.evaluate,
        save_steps=schedule.save,
        save_total_limit=2,
        report_to=[],
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
        disable_tqdm=True,
        seed=config.packing.seed,
    )


def _tokenizer(base: str) -> PreTrainedTokenizerBase:
    with _loading(base):
        return AutoTokenizer.from_pretrained(_location(base))


def _model(config: TrainingConfig) -> PreTrainedModel:
    with _loading(config.base):
        half = torch.cuda.is_available() and config.lora is not None
        model = AutoModelForCausalLM.from_pretrained(
            _location(config.base), dtype=torch.bfloat16 if half else torch.float32
        )
    if config.lora is None:
        return model
    torch.manual_seed(config.packing.seed)  # the adapter starts from random numbers
    adapter = peft.LoraConfig(
        r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(model, adapter)
    model.peft_config["default"].base_model_name_or_path = _base_name(config.base)
    return model


def _location(base: str) -> str:
    return str(base_path()) if base == EMBEDDED else base


def _base_name(base: str) -> str:
    return BASE_NAME if base == EMBEDDED else base


@contextmanager
def _loading(base: str) -> Iterator[None]:
    """Turn what a library says of a model that cannot be loaded into ModelError."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The base model {base!r} cannot be loaded: {str(error).splitlines()[0]}",
            hint="Give --base a model folder, a model on the Hub, or `embedded` for SmolLM2-135M-Instruct.",
        ) from error


def _identity(data: str, config: TrainingConfig) -> dict[str, Any]:
    return {"data": data, **json.loads(json.dumps(asdict(config)))}


def _claim(folder: Path, recipe: Mapping[str, Any], content: str) -> None:
    """Write down which run, on which content, the folder is for; refuse to go on with a run on other content."""
    file = folder / _STATE / _RECIPE
    if file.exists() and json.loads(file.read_text(encoding="utf-8"))["content"] != content:
        raise OutputError(
            f"The examples in {recipe['data']} have changed since the run in {folder} began.",
            hint="Put them back to go on with it, or name another folder.",
        )
    with writing(folder):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({**recipe, "content": content}, indent=2) + "\n")


def _finished(folder: Path, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the figures of this run where it is finished; refuse a folder that holds something else."""
    file = folder / _STATE / _RECIPE
    if not file.exists():
        if folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{folder} is not empty, and no training run.", hint="Name a new folder.")
        return None
    known = json.loads(file.read_text(encoding="utf-8"))
    other = [key for key in recipe if recipe[key] != known.get(key)]
    if other:
        raise OutputError(
            f"{folder} holds a run with other settings: "
            + "; ".join(f"{key} was {known.get(key)!r}, now {recipe[key]!r}" for key in other),
            hint="Give the same settings to go on with it, or another folder.",
        )
    done = folder / "training.json"
    return json.loads(done.read_text(encoding="utf-8")) if done.exists() else None


def _last_checkpoint(folder: Path) -> str | None:
    found = transformers.trainer_utils.get_last_checkpoint(str(folder / _STATE / "checkpoints"))
    return None if found is None else str(found)


def _figures(
    trainer: Trainer, config: TrainingConfig, sequences: Sequence[TrainingSequence], seconds: float
) -> dict[str, Any]:
    history = trainer.state.log_history
    curve = [{"step": log["step"], "loss": log["loss"]} for log in history if "loss" in log]
    held = [{"step": log["step"], "loss": log["eval_loss"]} for log in history if "eval_loss" in log]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "base_model": _base_name(config.base),
        "method": "full" if config.lora is None else f"LoRA, rank {config.lora.rank}, alpha {config.lora.alpha}",
        "sequences": len(sequences),
        "shots": config.packing.shots,
        "window": config.packing.window,
        "tokens": sum(len(found.token_ids) for found in sequences),
        "tokens_learnt": sum(sum(found.counts) for found in sequences),
        "epochs": config.packing.epochs,
        "steps": trainer.state.global_step,
        "batch_tokens": config.batch_tokens,
        "learning_rate": config.rate,
        "seed": config.packing.seed,
        "final_loss": curve[-1]["loss"] if curve else None,
        "held_out_loss": held[-1]["loss"] if held else None,
        "seconds_since_last_start": round(seconds, 1),
        "device": device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "curve": curve,
        "held_out_curve": held,
    }


def _write(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainingConfig,
    figures: Mapping[str, Any],
) -> None:
    """Write the model's files, the figures last: they say that the run is finished."""
    with writing(folder):
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's template of a card
        tokenizer.save_pretrained(folder)
        recipe = SynthesizerConfig(".", shots=config.packing.shots).to_dict()
        del recipe["model"]  # it is the folder itself, wherever it will be
        write_text(folder / "synthesizer_config.json", json.dumps(recipe, indent=2) + "\n")
        write_text(folder / "training.json", json.dumps(figures, indent=2) + "\n")
        shutil.rmtree(folder / _STATE / "checkpoints", ignore_errors=True)
