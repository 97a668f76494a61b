"""What decides a training run (base, packing, adapter, optimizer), and the folder that it lies in.

The folder says which run it is for, where its checkpoints lie, and when it is finished. Imports no torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import write_text, writing

_ADDED = {"precision": "auto", "adapter": None}  # settings that older runs did not write down, and what they had


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """`root` gets the model's files; what a run needs until it is finished lies in `root/.hfsynth`."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of the trainer's checkpoints."""
        return self.root / ".hfsynth" / "checkpoints"

    @property
    def logs(self) -> Path:
        """The folder of the logs for TensorBoard."""
        return self.root / ".hfsynth" / "tensorboard"

    @property
    def _recipe(self) -> Path:
        return self.root / ".hfsynth" / "training_recipe.json"

    @property
    def _figures(self) -> Path:
        return self.root / "training.json"

    def finished(self, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the figures of this run where it is finished; raise OutputError where something else lies here."""
        if not self._recipe.exists():
            if self.root.exists() and any(self.root.iterdir()):
                raise OutputError(f"{self.root} is not empty, and no training run.", hint="Name a new folder.")
            return None
        known = {**_ADDED, **_read(self._recipe)}
        other = [key for key in recipe if recipe[key] != known.get(key)]
        if other:
            raise OutputError(
                f"{self.root} holds a run with other settings: "
                + "; ".join(f"{key} was {known.get(key)!r}, now {recipe[key]!r}" for key in other),
                hint="Give the same settings to go on with it, or another folder.",
            )
        return _read(self._figures) if self._figures.exists() else None

    def claim(self, recipe: Mapping[str, Any], content: str) -> None:
        """Write down which run, on which content, the folder is for; raise OutputError where the content was other."""
        if self._recipe.exists() and _read(self._recipe)["content"] != content:
            raise OutputError(
                f"The examples in {recipe['data']} have changed since the run in {self.root} began.",
                hint="Put them back to go on with it, or name another folder.",
            )
        with writing(self.root):
            self._recipe.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._recipe, _json({**recipe, "content": content}))

    def last_checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint and clear away what a killed run left beside it half-written.

        The trainer writes a checkpoint's `trainer_state.json` last: where that cannot be read, the rest is not whole.
        """
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        whole = [path for path in found if _is_json(path / "trainer_state.json")]
        for path in found:
            if path not in whole:
                shutil.rmtree(path)
        return whole[-1] if whole else None

    def finish(self, recipe: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        """Write the synthesizer's recipe and then the figures, which say that the run is finished."""
        with writing(self.root):
            write_text(self.root / "synthesizer_config.json", _json(recipe))
            write_text(self._figures, _json(figures))
            shutil.rmtree(self.checkpoints, ignore_errors=True)


def _read(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


def _is_json(file: Path) -> bool:
    try:
        return bool(_read(file))
    except (OSError, ValueError):
        return False


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), indent=2) + "\n"


@dataclass(frozen=True, slots=True)
class Packing:
    """How examples become sequences. `window` is in tokens; up to `shots` examples go into a sequence.

    `caps` bounds how many examples of a source an epoch takes, `cap` that of every other source.
    """

    window: int
    shots: int = 3
    epochs: int = 1
    seed: int = 0
    cap: int | None = None
    caps: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for name in ("window", "shots", "epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, not {getattr(self, name)}.")

    def cap_of(self, source: str) -> int | None:
        """Return how many examples of `source` an epoch takes at most."""
        return dict(self.caps).get(source, self.cap)


__all__ = ["Lora", "Packing", "Precision", "Schedule", "TrainingConfig"]

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, slots=True)
class Lora:
    """The size of the adapter: `rank`, and `alpha`, which scales it by alpha / rank. All linear layers get one."""

    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What decides the weights. `lora` is None for full tuning; `window=N` stands for `packing=Packing(N)`.

    `batch_tokens` are the tokens of one optimizer step, `device_tokens` those that are on the device at once; padding
    counts. `warmup` and `validation` are shares (of the steps, of the examples). `learning_rate` is None for 2e-4
    with LoRA and 5e-6 without (the paper's, section 3). `precision` is that of the matrix products: `auto` is `bf16`
    on a GPU that has it and `fp32` elsewhere; a CPU with AVX512-BF16 or AMX is twice as fast with `bf16`. `adapter`, a
    folder or `embedded` for the one that comes with hfsynth, is trained further instead of a new one, at its own rank.
    """

    base: str
    packing: Packing = None  # type: ignore[assignment]  # never None once it is made
    lora: Lora | None = field(default_factory=Lora)
    learning_rate: float | None = None
    batch_tokens: int = 16_384
    device_tokens: int = 4_096
    warmup: float = 0.03
    validation: float = 0.02
    max_steps: int | None = None
    precision: Precision = "auto"
    adapter: str | None = None
    window: InitVar[int | None] = None

    def __post_init__(self, window: int | None) -> None:
        if (self.packing is None) == (window is None):
            raise ConfigError("Give either a packing or a window of tokens, which packs as `Packing(window)` does.")
        if window is not None:
            object.__setattr__(self, "packing", Packing(window))
        if not 0 < self.device_tokens <= self.batch_tokens:
            raise ConfigError(
                f"device_tokens must be at least 1 and at most batch_tokens ({self.batch_tokens}), "
                f"not {self.device_tokens}."
            )
        if self.adapter is not None and self.lora is None:
            raise ConfigError("An adapter is trained further by itself; full tuning starts from a whole model.")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision is one of {', '.join(get_args(Precision))}, not {self.precision!r}.")
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
