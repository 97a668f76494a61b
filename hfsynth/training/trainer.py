"""Transformers' Trainer for synthesizers: batches of sequences, the loss where it counts, and reports.

Knows nothing of files, recipes or where sequences come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback

from hfsynth.core.errors import ConfigError
from hfsynth.core.private_names import on_device
from hfsynth.training.sequences import TrainingSequence

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerControl, TrainerState


_IGNORED = -100


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a run is. `loss` is that of the last logged steps, None before the first; `tokens` since this start."""

    step: int
    steps: int
    loss: float | None
    tokens: int
    seconds: float


OnProgress = Callable[[TrainingProgress], None]


class Batches(torch.utils.data.Dataset[Mapping[str, torch.Tensor]]):
    """Batches as the trainer's items: `input_ids` and `labels`, padded at the end."""

    def __init__(self, batches: Sequence[Sequence[TrainingSequence]], tokenizer: PreTrainedTokenizerBase) -> None:
        self._batches = batches
        padding = tokenizer.pad_token_id
        self._padding: int = tokenizer.eos_token_id if padding is None else padding

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Mapping[str, torch.Tensor]:
        rows = self._batches[number]
        return {
            "input_ids": self._padded([row.token_ids for row in rows], self._padding),
            "labels": self._padded([row.labels(_IGNORED) for row in rows], _IGNORED),
        }

    @property
    def tokens(self) -> list[int]:
        """The tokens of each batch, without padding."""
        return [sum(len(row.token_ids) for row in rows) for rows in self._batches]

    @staticmethod
    def _padded(rows: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
        longest = max(map(len, rows))
        return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])


def only(items: Sequence[Mapping[str, torch.Tensor]]) -> Mapping[str, torch.Tensor]:
    """Return the one batch that the trainer takes at a time."""
    (item,) = items
    return item


class SynthesizerTrainer(Trainer):
    """Computes logits only where the loss is, which spares most of the output head.

    There is no attention mask: padding comes last, where no token that counts can see it.
    """

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = True  # the loss below is a sum over the tokens of the whole step

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401 - the trainer's own signature
        """Return the cross-entropy of the tokens that count, a mean over the step's."""
        labels = inputs["labels"]
        positions = (labels[:, 1:] != _IGNORED).any(dim=0).nonzero().squeeze(-1)
        outputs = model(input_ids=inputs["input_ids"], logits_to_keep=positions, use_cache=False)
        wanted = labels[:, positions + 1]
        total = torch.nn.functional.cross_entropy(
            outputs.logits.float().flatten(0, 1), wanted.flatten(), ignore_index=_IGNORED, reduction="sum"
        )
        items = (wanted != _IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = total / items
        return (loss, {"loss": loss}) if return_outputs else loss

    def try_step(self) -> None:
        """Compute what a step computes, for the first batch, and learn nothing from it."""
        self.model.train()
        try:
            with self.compute_loss_context_manager():
                loss = self.compute_loss(self.model, on_device(self, self.train_dataset[0]))
            loss.backward()
        finally:
            self.model.zero_grad()

    def prediction_step(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, torch.Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, None, None]:
        """Return the loss alone."""
        with torch.no_grad():
            return self.compute_loss(model, on_device(self, inputs)).detach(), None, None


class Report(TrainerCallback):
    """Tells how far the run is, after every step."""

    def __init__(self, on_progress: OnProgress, tokens: Sequence[int]) -> None:
        self._tell = on_progress
        self._mean_tokens = sum(tokens) / len(tokens)
        self._loss: float | None = None
        self._started = time.monotonic()
        self._first = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Start the clock."""
        self._started, self._first = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        """Remember the newest loss."""
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Report a finished step."""
        done = state.global_step - self._first
        tokens = round(done * args.gradient_accumulation_steps * self._mean_tokens)
        seconds = time.monotonic() - self._started
        self._tell(TrainingProgress(state.global_step, state.max_steps, self._loss, tokens, seconds))


def tensorboard_logs(folder: Path) -> TrainerCallback:
    """Return what logs for TensorBoard into `folder`; raise ConfigError where tensorboard is not installed."""
    try:
        callback = TensorBoardCallback()
    except RuntimeError as error:
        raise ConfigError(
            "Logs for TensorBoard were asked for, and tensorboard is not installed.",
            hint="Run `pip install tensorboard`, or go without.",
        ) from error
    callback.logging_dir = str(folder)
    return callback
