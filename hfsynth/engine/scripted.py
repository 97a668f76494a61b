"""`ScriptedEngine`: an engine without a model, exact and instant, to test pipelines with.

Its tokens are characters: token ids and text are one to one, so a script sees the prompt as it was written.
"""

from __future__ import annotations

import heapq
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TypeVar

from hfsynth.core.errors import ConfigError
from hfsynth.core.recipes import SCRIPTED
from hfsynth.core.records import Pair
from hfsynth.core.text import CONTEXT, END_CONTEXT
from hfsynth.core.thinking import Marks
from hfsynth.engine.protocol import Chain, Completion, EngineKey, Generation, Request, drive
from hfsynth.prompting.parsing import render_pairs

T = TypeVar("T")
Script = Callable[[str], str | Completion]
"""A prompt's text in, the completion out: its text, or a whole Completion. EngineError kills the engine."""

BOS, EOS = "<s>", "</s>"
_BOS_ID, _EOS_ID = 0x110000, 0x110001  # past the last code point, so that every text has ids of its own
_CONTROL_IDS = {BOS: _BOS_ID, EOS: _EOS_ID}
_CONTROLS = {_BOS_ID: BOS, _EOS_ID: EOS}
_WINDOW = 65_536


@dataclass(frozen=True, slots=True)
class CharacterTokenizer:
    """One token a character (its code point), and one each for `<s>` and `</s>`."""

    bos: str | None = BOS
    eos: str | None = EOS
    special_tokens: tuple[str, ...] = (BOS, EOS)

    def encode(self, text: str) -> list[int]:
        """Return a token id for every character and control string."""
        parts = re.split(f"({BOS}|{EOS})", text)
        return [token for part in parts for token in ([_CONTROL_IDS[part]] if part in _CONTROL_IDS else map(ord, part))]

    def chat(self, messages: Sequence[Mapping[str, str]], thinking: bool | None = None) -> list[int]:
        """Return the ids of a plain template without a switch: `<s>role: content</s>` for every message."""
        turns = "".join(f"{BOS}{message['role']}: {message['content']}{EOS}" for message in messages)
        return self.encode(f"{turns}{BOS}assistant: ")

    def marks(self, thinking: bool | None = None) -> Marks:
        """Return the marks of most models: a script may think."""
        return Marks()

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the text of token ids."""
        return "".join(_CONTROLS.get(token) or chr(token) for token in token_ids)


def first_sentences(prompt: str) -> str:
    """Answer with two pairs that quote the last document of a prompt in the published format."""
    document = prompt.rpartition(CONTEXT)[2].partition(END_CONTEXT)[0].split()
    pairs = [
        Pair("How does the text begin?", " ".join(document[:8])),
        Pair("How does it end?", " ".join(document[-8:])),
    ]
    return render_pairs(pairs)


@dataclass
class ScriptedEngine:
    """An engine that answers every prompt by a function of its text.

    `latency` is the mean time in seconds a completion takes; each prompt's own lies between half and one and a half
    of it, so that completions end out of order. At most `max_in_flight` requests are under way. Completions are cut
    before a stop string and after `max_tokens` characters, as a model's would be. Where a request has `choices`, the
    character with which the script's answer begins is certain; a Completion of its own may say other log-probabilities.
    """

    script: Script = first_sentences
    window: int = _WINDOW
    latency: float = 0.0
    max_in_flight: int = 64
    tokenizer: CharacterTokenizer = field(default_factory=CharacterTokenizer)

    def __post_init__(self) -> None:
        if not (isinstance(self.max_in_flight, int) and self.max_in_flight >= 1):
            raise ConfigError(f"max_in_flight must be a whole number of at least 1, not {self.max_in_flight!r}.")
        if not (isinstance(self.latency, (int, float)) and self.latency >= 0):
            raise ConfigError(f"latency must be a number of seconds, not {self.latency!r}.")

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        """Yield each chain's result as it ends; see `Engine.run`."""
        return drive(chains, _Requests(self, generation))

    def close(self) -> None:
        """Do nothing: a script holds nothing."""

    def ready(self, request: Request) -> float:
        """Return when a request that begins now ends, by the clock of `time.monotonic`; 0 for at once."""
        if not self.latency:
            return 0.0
        share = zlib.crc32(self.tokenizer.decode(request.token_ids).encode("utf-8", "surrogatepass")) / 0xFFFFFFFF
        return time.monotonic() + self.latency * (0.5 + share)

    def answer(self, request: Request, generation: Generation) -> Completion:
        """Return what the script says to a request, cut as `generation` asks."""
        answer = self.script(self.tokenizer.decode(request.token_ids))
        if isinstance(answer, Completion):
            return answer
        if request.choices:
            said = self.tokenizer.encode(answer[:1])
            told = tuple(0.0 if [choice] == said else None for choice in request.choices)
            return Completion(answer[:1], "length", output_tokens=len(said), logprobs=told)
        whole = answer[: min((at for stop in generation.stop if (at := answer.find(stop)) >= 0), default=None)]
        kept = whole[: generation.sampling.max_tokens]
        return Completion(kept, "stop" if kept == whole else "length", output_tokens=len(kept))


class _Requests:
    """One run's requests, answered when they begin and given back when they are due, by their chains' order."""

    def __init__(self, engine: ScriptedEngine, generation: Generation) -> None:
        self._engine, self._generation = engine, generation
        self.capacity = engine.max_in_flight
        self._due: list[tuple[float, int, Completion]] = []

    def admits(self, request: Request) -> bool:
        return True

    def submit(self, number: int, request: Request) -> None:
        due = self._engine.ready(request)
        heapq.heappush(self._due, (due, number, self._engine.answer(request, self._generation)))

    def next_ended(self) -> Iterator[tuple[int, Completion]]:
        due, number, completion = heapq.heappop(self._due)
        time.sleep(max(0.0, due - time.monotonic()) if due else 0.0)
        yield number, completion

    def abandon(self) -> None:
        self._due.clear()


def load_scripted(key: EngineKey) -> ScriptedEngine:
    """Make the engine that `--engine scripted` names: the model is the script, `scripted` or `module:function`."""
    arguments = key.config.arguments
    unknown = set(arguments) - {"latency", "max_in_flight"}
    if unknown:
        raise ConfigError(
            f"{min(unknown)} is no argument of the scripted engine.", hint="Known are: latency, max_in_flight."
        )
    script = first_sentences if key.model == SCRIPTED else _imported(key.model)
    return ScriptedEngine(script, key.window or _WINDOW, **arguments)


def _imported(name: str) -> Script:
    module, _, function = name.partition(":")
    try:
        script: Script = getattr(import_module(module), function)
    except (ImportError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise _no_script(name, f"cannot be imported: {error}") from error
    if not callable(script):
        raise _no_script(name, f"is no function but {script!r}")
    return script


def _no_script(name: str, why: str) -> ConfigError:
    hint = "Name it as module:function, or use --model scripted for the built-in one."
    return ConfigError(f"The script {name!r} {why}.", hint=hint)
