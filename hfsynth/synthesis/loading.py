"""What synthesis needs at once: an engine, what makes chains for it, and how it is to answer. Knows no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.engine.loading import engine_for
from hfsynth.engine.protocol import Engine, Generation
from hfsynth.models.mined import MINED
from hfsynth.synthesis.chains import Chainer, chainer_for, generation_for
from hfsynth.synthesis.mining import FillingChainer, MiningChainer

_CHAINERS = {(True, None): MiningChainer, (False, "mined"): FillingChainer}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine at hand, and what goes with it for one recipe."""

    engine: Engine
    chainer: Chainer
    generation: Generation

    @classmethod
    def of(cls, config: SynthesizerConfig, engine: Engine) -> Self:
        """Return what goes with an engine; raise ConfigError where a prompt has no room in its window."""
        chainer = chainer_for(config, engine, _CHAINERS.get((config.model == MINED, config.fill), Chainer))
        return cls(engine, chainer, generation_for(config, chainer))


def load(config: SynthesizerConfig, engine: EngineConfig) -> Loaded:
    """Return this process's engine for a pinned config, loading it the first time, and what goes with it."""
    return Loaded.of(config, engine_for(config, engine))
