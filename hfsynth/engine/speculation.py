"""Speculative decoding as an option: what `--speculative ngram` means to vLLM, and where it would change the result.

Pairs quote their document, so the next words can often be guessed from it: the engine looks up the last few tokens in
the text so far, proposes what followed them there, and checks the whole proposal in one step. With greedy decoding a
proposal is kept only where the model would have written the same, so the pairs are the same and speculation is no part
of a corpus's identity. Drawn completions would be other draws. Knows nothing of vLLM but the names of its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.models.adapters import EMBEDDED
from hfsynth.models.precision import engine_has_gpu

ARGUMENT = "speculative_config"
PROPOSED_TOKENS = 4
NO_GUESSES = "none"
TAIL = 64
"""So many requests at once, or fewer, are a GPU's tail."""

_SCHEDULE = "num_speculative_tokens_per_batch_size"
_ANY_SIZE = 1_000_000
_MATCH = {"prompt_lookup_min": 2, "prompt_lookup_max": 4}


@dataclass(frozen=True, slots=True)
class Speculation:
    """What was guessed: tokens proposed, and those of them that the model would have written too."""

    proposed: int
    accepted: int

    def __sub__(self, other: Speculation) -> Speculation:
        return Speculation(self.proposed - other.proposed, self.accepted - other.accepted)

    @property
    def acceptance(self) -> float | None:
        """The share of proposed tokens that was kept; None where none was proposed."""
        return self.accepted / self.proposed if self.proposed else None


def speculating(engine: EngineConfig, method: str | None) -> EngineConfig:
    """Return `engine` with speculative decoding by `method`: `ngram`, `ngram:TOKENS` proposed at once, `none`.

    None leaves it to what is usual for the model: see `usual_engine`. Raise ConfigError for another method, for an
    engine other than vLLM, and where `speculative_config` is given too.
    """
    if method is None or (method == NO_GUESSES and engine.kind != "vllm"):
        return engine
    if engine.kind != "vllm":
        raise ConfigError(
            f"Speculative decoding is for the vllm engine, not for {engine.kind}.",
            hint="Leave --speculative out."
            if engine.kind == "scripted"
            else "Start the server with it (vllm serve --speculative-config …) and leave --speculative out.",
        )
    if ARGUMENT in engine.arguments:
        raise ConfigError(
            f"--speculative and the engine argument {ARGUMENT} say the same thing twice.", hint="Leave one of them out."
        )
    arguments = {**engine.arguments, ARGUMENT: None if method == NO_GUESSES else speculative_config(method)}
    return EngineConfig(engine.kind, arguments, engine.trust_remote_code)


def speculative_config(method: str) -> dict[str, Any]:
    """Return vLLM's `speculative_config` for `ngram` or `ngram:TOKENS`."""
    name, colon, number = method.partition(":")
    tokens = int(number) if number.isascii() and number.isdigit() else 0 if colon else PROPOSED_TOKENS
    if name != "ngram" or tokens < 1:
        raise ConfigError(
            f"speculative must be ngram, ngram:TOKENS with a number of at least 1, or none, not {method!r}.",
            hint=f"vLLM's other methods are reached with --engine-arg '{ARGUMENT}={{\"method\": …}}'.",
        )
    return {"method": "ngram", "num_speculative_tokens": tokens, **_MATCH}


def in_the_tail(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return engine arguments whose n-gram guesses are proposed only while few requests run.

    A GPU with a full batch has no time to spare for tokens that may be wrong; at a run's end, and where documents are
    few, it has. What says itself at which sizes of a batch to guess stays as it is.
    """
    found = arguments.get(ARGUMENT)
    if not isinstance(found, Mapping) or found.get("method") != "ngram" or _SCHEDULE in found:
        return dict(arguments)
    schedule = [(1, TAIL, found["num_speculative_tokens"]), (TAIL + 1, _ANY_SIZE, 0)]
    return {**arguments, ARGUMENT: {**found, _SCHEDULE: schedule}}


def require_greedy(engine: EngineConfig, sampling: Sampling) -> None:
    """Raise ConfigError where `engine` speculates and completions are drawn: the engine would decide the result."""
    if engine.arguments.get(ARGUMENT) and sampling.temperature > 0:
        raise ConfigError(
            f"Speculative decoding draws other completions than the engine would without it, and temperature is "
            f"{sampling.temperature}: the same recipe would give another corpus.",
            hint="Use --temperature 0, or leave speculation out.",
        )


def usual_engine(config: SynthesizerConfig, engine: EngineConfig) -> EngineConfig:
    """Return `engine` as the model usually runs: the embedded one guesses on a CPU, unless something else was said.

    A step of a small batch takes as long there as one of a large, and pairs quote. Where completions are drawn nothing
    is guessed.
    """
    settled = engine.kind != "vllm" or ARGUMENT in engine.arguments or config.sampling.temperature > 0
    if settled or config.model != EMBEDDED or engine_has_gpu():
        return engine
    return speculating(engine, "ngram")
