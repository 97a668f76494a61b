"""Scripts for `ScriptedEngine`, named in tests as `scripts:function`."""

from __future__ import annotations

import re

from hfsynth.core.errors import EngineError
from hfsynth.core.records import Pair
from hfsynth.engine.protocol import Completion
from hfsynth.prompting.chat import json_answer
from hfsynth.prompting.parsing import render_pairs

_DOCUMENTS = re.compile(r"<s> <CON> (.*?) </CON>\n\n", re.DOTALL)


def shown_documents(prompt: str) -> list[str]:
    """Return the documents of a prompt in the published format, as it shows them."""
    return _DOCUMENTS.findall(prompt)


def quoting(prompt: str) -> str:
    """Answer with one pair that names the document asked about and how many the prompt shows."""
    documents = shown_documents(prompt)
    return render_pairs([Pair(f"What is text {len(documents)}?", documents[-1][:60])])


def thinking(prompt: str) -> str:
    """Think, then answer in the form of the `chat` format."""
    return "<think>\nLet me see.\n</think>\n\n" + json_answer([Pair("What is it?", "It is a text.")])


def moody(prompt: str) -> str | Completion:
    """Do what the document asked about says: fail, ramble, stay silent, be cut off; else quote it."""
    document = shown_documents(prompt)[-1]
    if "fail" in document:
        return Completion("", "error", error="the engine refused this one")
    if "ramble" in document:
        return "I would rather talk about something else."
    if "silent" in document:
        return ""
    if "cut" in document:
        return Completion("<QUE> What is cut? <ANS> This ans", "length", output_tokens=30)
    return quoting(prompt)


def twice(prompt: str) -> str:
    """Ask the same question twice."""
    return render_pairs([Pair("What?", "This."), Pair("what?", "That.")])


class Death:
    """Quote, but die at the document that holds `at`; remember what was asked."""

    def __init__(self) -> None:
        self.at: str | None = None
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> str:
        document = shown_documents(prompt)[-1]
        if self.at is not None and self.at in document:
            raise EngineError("The engine died: it was told to.")
        self.asked.append(document)
        return quoting(prompt)


mortal = Death()
not_a_script = "a string"


def prompted(prompt: str) -> str:
    """Answer what a prompt recipe asks in its last message: pairs that name its document, or a text."""
    asked = prompt.rpartition("<s>user: ")[2].partition("</s>")[0]
    if '"pairs"' not in asked:
        return f"New: {asked[-40:]}"
    return json_answer([Pair("What is it about?", asked[-40:]), Pair("Who asks?", asked.partition(".")[0])])
