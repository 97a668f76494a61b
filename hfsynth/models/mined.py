"""`--model mined`: pairs by rules, without any model. What a recipe that names it must be, and which rules it names."""

from __future__ import annotations

from dataclasses import replace

from hfsynth.core.config import Sampling, SynthesizerConfig
from hfsynth.core.errors import ConfigError, ModelError

MINED = "mined"
RULES = "rules-1"
"""Raised whenever the rules, or what reads them, would give other pairs: it is the revision of a mined recipe."""


def mined_config(config: SynthesizerConfig) -> SynthesizerConfig:
    """Return a mined recipe without what belongs to models: sampling, window, precision, prompt format.

    No document is too long. Raise ConfigError for chains, ModelError for a recipe of other rules.
    """
    if config.model_revision not in (None, RULES):
        raise ModelError(
            f"The recipe was made with {config.model_revision}; this version of hfsynth mines with {RULES}.",
            hint="Install the version of hfsynth that the recipe names, or drop model_revision.",
        )
    if config.shots != 1 or config.fill is not None:
        raise ConfigError(
            "Rules read each document by itself: there are no shots, and nothing to fill.",
            hint="Leave --shots and --fill out.",
        )
    return replace(
        config,
        model_revision=RULES,
        prompt_format="instruction-pretrain",
        thinking="off",
        keep_reasoning=False,
        window=None,
        precision="auto",
        long_documents="skip",
        sampling=Sampling(),
    )
