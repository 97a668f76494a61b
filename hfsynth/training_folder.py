"""The folder of a training run: which run it is for, where its checkpoints lie, and when it is finished.

Knows nothing of models, examples or trainers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfsynth.durable import write_text, writing
from hfsynth.errors import OutputError


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
        known = _read(self._recipe)
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
