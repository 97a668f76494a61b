"""Scripts for ScriptedEngine that note their calls in a file, and that kill: named as `scripts_kill:function`."""

from __future__ import annotations

import os
from zlib import crc32

from scripts import quoting, shown_documents

from hfsynth.core.errors import EngineError

LOG = "HFSYNTH_TEST_CALLS"


def noted(prompt: str) -> str:
    """Write down the documents of the prompt, whatever happens next, and quote the last one."""
    _note(" | ".join(shown_documents(prompt)))
    return quoting(prompt)


def raising(prompt: str) -> str:
    """Let a document that says poison kill the engine."""
    answer = noted(prompt)
    if "poison" in shown_documents(prompt)[-1]:
        raise EngineError("The engine died: it choked.")
    return answer


def exiting(prompt: str) -> str:
    """Let a document that says poison end the whole process."""
    answer = noted(prompt)
    if "poison" in shown_documents(prompt)[-1]:
        os._exit(9)
    return answer


def judging(prompt: str) -> str:
    """Note what is asked of which document, and say of every third pair that its response is not right."""
    document, question = (part(prompt, name) for name in ("document", "instruction"))
    asked = prompt.partition("</response>")[2].partition("Answer")[0]
    _note(f"{document} / {question} / {asked.split()[-1]}")
    wrong = "right answer" in asked and crc32(document.encode()) % 3 == 0
    return "no" if wrong else "yes"


def part(prompt: str, name: str) -> str:
    """Return what stands between the marks of a rubric."""
    return prompt.partition(f"<{name}>")[2].partition(f"</{name}>")[0].strip()


def _note(line: str) -> None:
    if path := os.environ.get(LOG):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, f"{line}\n".encode())
        os.close(file)
