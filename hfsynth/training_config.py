"""What decides a training run: the base, the packing of examples, the adapter, the optimizer. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from hfsynth.errors import ConfigError
from hfsynth.sequences import Packing

__all__ = ["Lora", "Packing", "Schedule", "TrainingConfig"]


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
