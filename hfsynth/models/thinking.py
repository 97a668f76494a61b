"""How a model's files say that it thinks: the switch in its chat template, the marks around a thought, vLLM's parser.

Templates and vocabularies are read as text. Knows vLLM's reasoning parsers by their names alone.
"""

from __future__ import annotations

import re
from collections.abc import Container

from hfsynth.core.thinking import Marks

_SWITCHES = ("enable_thinking", "thinking")  # Qwen, SmolLM, GLM, Gemma, Hunyuan; DeepSeek, Granite, Kimi
_PARSERS = {
    Marks("<think>", "</think>"): "deepseek_r1",
    Marks("<seed:think>", "</seed:think>"): "seed_oss",
    Marks("[THINK]", "[/THINK]"): None,  # vLLM's parser of these knows Mistral's own tokenizer alone
}


def switches_of(template: str) -> tuple[str, ...]:
    """Return the names of the variables by which a template is told whether to think."""
    code = " ".join(re.findall(r"\{[{%].*?[%}]\}", template, re.DOTALL))
    return tuple(name for name in _SWITCHES if re.search(rf"(?<![\w.'\"]){name}(?![\w'\"])", code))


def marks_of(template: str, added: Container[str]) -> Marks:
    """Return what begins and ends a thought: marks that are tokens of their own, else those the template speaks of.

    Where there are neither they are those that most models use.
    """
    known = [marks for marks in _PARSERS if marks.start in added and marks.end in added]
    spoken = [marks for marks in _PARSERS if marks.end in template]
    return next(iter((*known, *spoken)), Marks())


def parser_of(marks: Marks, vocabulary: Container[str]) -> str | None:
    """Return vLLM's name for the parser that holds a schema to what follows a thought, None where it has none.

    It looks for the marks among tokens, so that they must be tokens.
    """
    name = _PARSERS.get(Marks(marks.start, marks.end))
    return name if marks.start in vocabulary and marks.end in vocabulary else None


def closed(prompt: str, marks: Marks) -> str:
    """Return a prompt with the thought ended that it would begin."""
    begun = prompt.rstrip()
    return f"{begun}\n\n{marks.end}\n\n" if begun.endswith(marks.start) else prompt
