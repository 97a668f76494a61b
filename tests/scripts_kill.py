"""Scripts for ScriptedEngine that note their calls in a file, and that kill: named as `scripts_kill:function`."""

from __future__ import annotations

import os

from scripts import quoting, shown_documents

from hfsynth.core.errors import EngineError

LOG = "HFSYNTH_TEST_CALLS"


def noted(prompt: str) -> str:
    """Write down the documents of the prompt, whatever happens next, and quote the last one."""
    note = " | ".join(shown_documents(prompt)) + "\n"
    if path := os.environ.get(LOG):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, note.encode())
        os.close(file)
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
