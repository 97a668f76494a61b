"""Whether a model that can think before it answers does so: how a recipe says it, and how thoughts are taken off.

Knows nothing of templates, engines or prompts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hfsynth.core.errors import ConfigError

OFF, ON, TEMPLATE = "off", "on", "template"
"""No thoughts, thoughts, and what the chat template does by itself: so recipes ran before there was the setting."""

_BUDGET = re.compile(r"budget\s+(\d{1,9})")
_SAID = 'Write "off", "on" or "budget 512", the most tokens of thought.'


@dataclass(frozen=True, slots=True)
class Marks:
    """What begins and ends a thought in what a model writes; `opened` says that the prompt begins it already."""

    start: str = "<think>"
    end: str = "</think>"
    opened: bool = False

    def split(self, text: str) -> tuple[str, str]:
        """Return the thought, its marks included, and the answer after it. A thought without an end has no answer."""
        if not (self.opened or text.lstrip().startswith(self.start)):
            return "", text
        thought, end, answer = text.partition(self.end)
        return thought + end, answer

    def bare(self, thought: str) -> str:
        """Return a thought without its marks."""
        return thought.strip().removeprefix(self.start).removesuffix(self.end).strip()


def canonical_thinking(text: object) -> str:
    """Return `off`, `on`, `template` or `budget N` in its one form; raise ConfigError for anything else."""
    said = {False: OFF, True: ON}.get(text) if isinstance(text, bool) else text  # YAML reads off and on as booleans
    if said in (OFF, ON, TEMPLATE):
        return str(said)
    budget = _BUDGET.fullmatch(said.strip()) if isinstance(said, str) else None
    if budget is None or int(budget[1]) < 1:
        raise ConfigError(f"thinking must be off, on or budget N, not {str(text)[:100]!r}.", hint=_SAID)
    return f"budget {int(budget[1])}"


def settled_thinking(thinking: object, prompt_format: str, max_tokens: int, *, keep: bool) -> str:
    """Return the one form of a recipe's `thinking`; raise ConfigError where the rest of the recipe rules it out."""
    settled = canonical_thinking(thinking)
    if thinks(settled) and prompt_format != "chat":
        raise ConfigError(
            f"thinking is for chat models; the prompt format is {prompt_format}.",
            hint="Use --prompt-format chat, or leave --thinking out.",
        )
    if (budget_of(settled) or 0) >= max_tokens:
        raise ConfigError(
            f"thinking: {settled} leaves no tokens for an answer; max_tokens is {max_tokens}.",
            hint="Use a larger --max-tokens, which bounds thought and answer together.",
        )
    if keep and not thinks(settled):
        raise ConfigError("keep_reasoning keeps what a model thinks, and thinking is off.", hint="Add --thinking on.")
    return settled if prompt_format == "chat" else OFF


def budget_of(thinking: str) -> int | None:
    """Return the most tokens of thought, None where nothing bounds them."""
    found = _BUDGET.fullmatch(thinking)
    return int(found[1]) if found else None


def thinks(thinking: str) -> bool:
    """Return whether a recipe asks for thoughts."""
    return thinking not in (OFF, TEMPLATE)


def switch_of(thinking: str) -> bool | None:
    """Return what a template's switch is set to, None where it is left alone."""
    return None if thinking == TEMPLATE else thinks(thinking)
