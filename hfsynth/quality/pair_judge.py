"""Have a language model judge pairs: is the instruction about the document, is the response right?

The two figures of the paper's own check of its corpora (context relevance and response accuracy, there judged by
GPT-4). The rubric is `data/prompts/judge.jinja`. Knows nothing of files, or of which pairs are judged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.draws import Draws
from hfsynth.core.errors import ConfigError
from hfsynth.core.records import Pair
from hfsynth.core.text import Escape, encodable
from hfsynth.documents.splitting import truncate_text
from hfsynth.engine.loading import config_of, engine_for
from hfsynth.engine.protocol import Chain, Completion, Engine, Generation, Request
from hfsynth.models.resolve import pinned
from hfsynth.quality.aggregates import Ratios

_RUBRIC = Environment(undefined=StrictUndefined, autoescape=False).from_string(
    (files("hfsynth.quality") / "judge.jinja").read_text("utf-8")
)
_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "why": {"type": "string", "maxLength": 300},
            "relevant": {"type": "boolean"},
            "accurate": {"type": "boolean"},
        },
        "required": ["why", "relevant", "accurate"],
        "additionalProperties": False,
    }
)
_PAIRS = 500
_MAX_TOKENS = 300


class Unjudged(StrEnum):
    """Why there is no verdict on a pair."""

    TOO_LONG = "too_long"  # the pair alone does not fit the window
    FAILED = "failed"  # the engine refused or failed the request
    UNREADABLE = "unreadable"  # the answer is not the object that was asked for


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said of a pair."""

    relevant: bool
    accurate: bool


@dataclass(frozen=True, slots=True)
class Judgeable:
    """A pair, its document, and the document's number: pairs of one document are not independent."""

    number: int
    document: str
    pair: Pair


@dataclass(frozen=True)
class PairJudge:
    """A chat model that judges: `model` is its name in the results, `pairs` how many it is asked about at most.

    A document that does not fit the window is shown as far as it does. Answers are greedy.
    """

    engine: Engine
    model: str
    pairs: int = _PAIRS
    max_tokens: int = _MAX_TOKENS

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ConfigError(f"The judge needs at least 1 pair, not {self.pairs}.")
        if self.engine.window <= self.max_tokens:
            raise ConfigError(
                f"The judge's window of {self.engine.window} tokens leaves no room for a prompt.",
                hint="Use a model with a larger window.",
            )

    def verdicts(
        self, asked: Iterable[Judgeable], *, seed: int = 0, on_verdict: Callable[[int], None] = lambda number: None
    ) -> list[tuple[int, Verdict | Unjudged]]:
        """Return the number of its document and the verdict for each pair, ordered by document.

        `on_verdict` is told how many pairs there have been. Raise ModelError for a model without a chat template,
        EngineError when the engine dies.
        """
        generation = Generation(Sampling(max_tokens=self.max_tokens, temperature=0.0), _SCHEMA)
        found: list[tuple[int, int, Verdict | Unjudged]] = []
        chains = (self._chain(position, one, seed) for position, one in enumerate(asked))
        for outcome in self.engine.run(chains, generation):
            found.append(outcome)
            on_verdict(len(found))
        return [(number, verdict) for _, number, verdict in sorted(found, key=lambda one: one[0])]

    def _chain(self, position: int, one: Judgeable, seed: int) -> Chain[tuple[int, int, Verdict | Unjudged]]:
        token_ids = self._fitted(one)
        if token_ids is None:
            return position, one.number, Unjudged.TOO_LONG
        name = f"judge/{seed}/{one.number}/{one.pair.instruction}"
        completion = yield Request(token_ids, 0, Draws(name).below(2**31))
        return position, one.number, read_verdict(completion)

    def _fitted(self, one: Judgeable) -> list[int] | None:
        room = self.engine.window - self.max_tokens
        document = encodable(one.document)
        if len(token_ids := self._prompt(document, one.pair)) <= room:
            return token_ids
        if len(self._prompt("", one.pair)) >= room:
            return None
        shown = truncate_text(document, room, lambda part: len(self._prompt(part, one.pair)))
        return self._prompt(shown, one.pair) if shown.strip() else None

    def _prompt(self, document: str, pair: Pair) -> list[int]:
        asked = {"document": document, "instruction": encodable(pair.instruction), "response": encodable(pair.response)}
        rubric = _RUBRIC.render({name: self._escape.escape(text) for name, text in asked.items()})
        return self.engine.tokenizer.chat([{"role": "user", "content": rubric.strip()}], thinking=False)

    @cached_property
    def _escape(self) -> Escape:
        return Escape.of(self.engine.tokenizer.special_tokens)


def load_judge(
    model: str,
    *,
    engine: EngineConfig | Engine | None = None,
    model_revision: str | None = None,
    window: int | None = None,
    pairs: int = _PAIRS,
) -> PairJudge:
    """Load a chat model as a judge of at most `pairs` pairs; raise ModelError for an unknown one.

    `window` bounds prompt and answer, in tokens; by default it is the model's own.
    """
    engine_config = config_of(engine)
    asked = SynthesizerConfig(model=model, model_revision=model_revision, prompt_format="chat", window=window)
    config = pinned(asked, engine_config)
    return PairJudge(engine_for(config, engine_config), _named(model, config.model_revision), pairs)


def _named(model: str, revision: str | None) -> str:
    """Return a model's name for the results: a folder by its own name, no path of this machine."""
    folder = Path(model).expanduser()
    name = folder.resolve().name if folder.is_dir() else model
    return f"{name}@{revision}" if revision else name


def read_verdict(completion: Completion) -> Verdict | Unjudged:
    """Read a verdict; what is not exactly the object that was asked for is none, whatever it may have meant."""
    if completion.error is not None or completion.finish_reason == "error":
        return Unjudged.FAILED
    try:
        found = json.loads(completion.text)
    except (ValueError, RecursionError):
        return Unjudged.UNREADABLE
    if not isinstance(found, dict):
        return Unjudged.UNREADABLE
    relevant, accurate = found.get("relevant"), found.get("accurate")
    if not isinstance(relevant, bool) or not isinstance(accurate, bool):
        return Unjudged.UNREADABLE
    return Verdict(relevant, accurate)


def judged_figures(verdicts: Sequence[tuple[int, Verdict | Unjudged]], *, seed: int = 0) -> dict[str, Any]:
    """Return the shares of relevant and of accurate pairs with intervals over documents, and what was not judged."""
    ratios = Ratios(("context_relevance", "response_accuracy"), seed=seed)
    by_document: dict[int, list[Verdict]] = {}
    for number, verdict in verdicts:
        if isinstance(verdict, Verdict):
            by_document.setdefault(number, []).append(verdict)
    for _, ones in sorted(by_document.items()):
        ratios.add(
            {
                "context_relevance": (sum(one.relevant for one in ones), len(ones)),
                "response_accuracy": (sum(one.accurate for one in ones), len(ones)),
            }
        )
    missing = Counter(verdict for _, verdict in verdicts if isinstance(verdict, Unjudged))
    return {
        "pairs": sum(map(len, by_document.values())),
        "context_relevance": ratios.share("context_relevance"),
        "response_accuracy": ratios.share("response_accuracy"),
        "unjudged": {reason.value: missing[reason] for reason in Unjudged},
    }
