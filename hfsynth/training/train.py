"""Fine-tune a synthesizer on task data: LoRA by default, all weights on request, checkpoints that a rerun goes on from.

The only module that imports PEFT. Knows nothing of the Hub, of engines or of corpora.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from transformers.utils import logging as library_logging

from hfsynth.core.addresses import public_location
from hfsynth.core.config import SynthesizerConfig, digest
from hfsynth.core.errors import ModelError, SourceError
from hfsynth.core.files import file_digest, writing
from hfsynth.documents.examples import Example, read_examples
from hfsynth.models.adapters import ADAPTER_FOLDER, BASE_NAME, EMBEDDED, SETTINGS, adapted, base_path, is_adapter
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.training.config import Packing, Schedule, TrainingConfig, TrainingFolder
from hfsynth.training.order import has_order, ordered_sums
from hfsynth.training.sequences import TrainingSequence, batched, held_out, in_order, pack
from hfsynth.training.trainer import Batches, OnProgress, Report, SynthesizerTrainer, only, tensorboard_logs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_NEIGHBOURS = 256  # sequences among which batches of like length are looked for


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
    folder = TrainingFolder(Path(out))
    finished = folder.finished(_identity(str(data), config))
    if finished is not None:
        return finished
    with _quietly():
        return _train(str(data), folder, config, schedule or Schedule(), on_progress)


def training_plan(data: str | Path, config: TrainingConfig) -> dict[str, Any]:
    """Return what `train` would train on, without loading the model or writing anything.

    Under the names of `training.json`: `sequences`, `tokens`, `tokens_learnt`, `steps` and `left_out`; and `held_out`,
    the sequences that the loss is measured on. Raise what `train` raises for data and for a base without a tokenizer.
    """
    with _quietly():
        examples = read_examples(str(data))
        training, validation, packed = _sequences(examples.rows, _tokenizer(config.base), config)
    batches = batched(training, config.device_tokens, within=_NEIGHBOURS)
    return {
        **_amounts(training),
        "held_out": len(validation),
        "steps": _steps(len(batches), config),
        "left_out": dict(examples.left_out + packed),
    }


def _train(
    data: str, folder: TrainingFolder, config: TrainingConfig, schedule: Schedule, on_progress: OnProgress | None
) -> dict[str, Any]:
    examples = read_examples(data)
    tokenizer = _tokenizer(config.base)
    training, validation, packed = _sequences(examples.rows, tokenizer, config)
    model = _model(config)
    content = digest({"examples": [asdict(example) for example in examples.rows], **_before(config)})
    folder.claim(_identity(data, config), content)  # not before: a run that could not begin leaves the folder free
    device_batches = batched(training, config.device_tokens, within=_NEIGHBOURS)
    batches = Batches(in_order(device_batches, config.packing.seed), tokenizer)
    held = Batches(batched(validation, config.device_tokens, within=len(validation) or 1), tokenizer)
    trainer = SynthesizerTrainer(
        model=model,
        args=_arguments(folder.checkpoints, config, schedule, len(batches), measured=len(held) > 0),
        train_dataset=batches,
        eval_dataset=held if len(held) else None,
        data_collator=only,
        callbacks=[
            *([Report(on_progress, batches.tokens)] if on_progress else []),
            *([tensorboard_logs(folder.logs)] if schedule.tensorboard else []),
        ],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    started = time.monotonic()
    last = folder.last_checkpoint()
    strict = torch.cuda.is_available() and has_order(trainer.try_step)
    with ordered_sums(strict=strict):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
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
    checkpoints: Path, config: TrainingConfig, schedule: Schedule, batches: int, *, measured: bool
) -> TrainingArguments:
    steps = _steps(batches, config)
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=_accumulated(config),
        max_steps=steps,
        learning_rate=config.rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(config.warmup * steps),
        bf16=_in_half(config),
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


def _in_half(config: TrainingConfig) -> bool:
    """Tell whether matrix products are computed in bfloat16; the weights that are learnt stay in float32."""
    if config.precision == "auto":
        return torch.cuda.is_available() and bool(torch.cuda.is_bf16_supported())
    return config.precision == "bf16"


def _accumulated(config: TrainingConfig) -> int:
    """Return how many device batches make an optimizer step."""
    return max(1, round(config.batch_tokens / config.device_tokens))


def _steps(batches: int, config: TrainingConfig) -> int:
    return min(config.max_steps or batches, max(1, -(-batches // _accumulated(config))))


def _tokenizer(base: str) -> PreTrainedTokenizerBase:
    with _loading(base):
        return AutoTokenizer.from_pretrained(_location(base))


def _model(config: TrainingConfig) -> PreTrainedModel:
    with _loading(config.base):
        half = config.lora is not None and _in_half(config)
        model = AutoModelForCausalLM.from_pretrained(
            _location(config.base), dtype=torch.bfloat16 if half else torch.float32
        )
    if config.lora is None:
        return model
    if config.adapter is not None:
        model = adapted(model, _adapter(config.adapter), to_train=True)
    else:
        torch.manual_seed(config.packing.seed)  # the adapter starts from random numbers
        adapter = peft.LoraConfig(
            r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = peft.get_peft_model(model, adapter)
    model.peft_config["default"].base_model_name_or_path = _base_name(config.base)
    return model


def _location(base: str) -> str:
    return str(base_path()) if base == EMBEDDED else base


def _adapter(adapter: str) -> Path:
    folder = ADAPTER_FOLDER if adapter == EMBEDDED else Path(adapter)
    if not is_adapter(folder):
        raise ModelError(
            f"There is no adapter in {folder}.",
            hint=f"Give --adapter a folder with an {SETTINGS}, or `embedded` for the one that comes with hfsynth.",
        )
    return folder


def _before(config: TrainingConfig) -> dict[str, str]:
    """Return what a run starts from beside its base: nothing where the adapter is a new one."""
    if config.adapter is None:
        return {}
    files = sorted(_adapter(config.adapter).glob("adapter_*"))
    return {"adapter": digest({file.name: file_digest(file)[0] for file in files})}


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


def _figures(
    trainer: Trainer, config: TrainingConfig, sequences: Sequence[TrainingSequence], seconds: float
) -> dict[str, Any]:
    history = trainer.state.log_history
    curve = [{"step": log["step"], "loss": log["loss"]} for log in history if "loss" in log]
    held = [{"step": log["step"], "loss": log["eval_loss"]} for log in history if "eval_loss" in log]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "base_model": public_location(_base_name(config.base)),
        "method": _method(trainer.model),
        "adapter_before": None if config.adapter is None else public_location(config.adapter),
        "shots": config.packing.shots,
        "window": config.packing.window,
        **_amounts(sequences),
        "epochs": config.packing.epochs,
        "steps": trainer.state.global_step,
        "batch_tokens": config.batch_tokens,
        "learning_rate": config.rate,
        "precision": "bf16" if _in_half(config) else "fp32",
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


def _method(model: PreTrainedModel) -> str:
    if not isinstance(model, peft.PeftModel):
        return "full"
    settings = model.peft_config["default"]
    return f"LoRA, rank {settings.r}, alpha {settings.lora_alpha}"


def _amounts(sequences: Sequence[TrainingSequence]) -> dict[str, int]:
    return {
        "sequences": len(sequences),
        "tokens": sum(len(found.token_ids) for found in sequences),
        "tokens_learnt": sum(sum(found.counts) for found in sequences),
    }


def _write(
    folder: TrainingFolder,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainingConfig,
    figures: Mapping[str, Any],
) -> None:
    with writing(folder.root):
        model.to(torch.bfloat16).save_pretrained(folder.root)
        (folder.root / "README.md").unlink(missing_ok=True)  # PEFT's template of a card
        tokenizer.save_pretrained(folder.root)
    recipe = SynthesizerConfig(".", shots=config.packing.shots).to_dict()
    del recipe["model"]  # it is the folder itself, wherever it will be
    folder.finish(recipe, figures)
