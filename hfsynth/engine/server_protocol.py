"""What is said to an OpenAI-compatible server and what its answers mean: plain values in, plain values out.

Follows vLLM 0.32's `/v1/completions` and `/v1/models`; where a server is not vLLM, only fields of OpenAI's own
protocol are sent. Knows nothing of connections, retries, tokenizers or chains.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from hfsynth.core.config import EngineConfig
from hfsynth.core.errors import ConfigError, ModelError
from hfsynth.core.text import encodable
from hfsynth.engine.protocol import Completion, Generation, Request

Body = dict[str, Any]

_REASON_LENGTH = 300
# What `vllm serve` would otherwise take from the model's generation_config.json; the engine in this process does not.
_NEUTRAL = {"top_k": 0, "min_p": 0.0}
_TOLD = 5  # the most likely tokens that OpenAI's protocol lets a server tell of


class UnreadableAnswer(ValueError):
    """An answer that is no completion, though its status says so."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server is used: the arguments of `--engine server`. Times are in seconds.

    `timeout` bounds one answer. `patience` bounds how long no request at all is answered before the server counts as
    gone; `attempts` how often one request may break an otherwise healthy server. `served_model_name` is the server's
    name for the model where it is neither the model's name nor its path, `reasoning_parser` what it was started with.
    """

    base_url: str
    concurrency: int = 64
    timeout: float = 600.0
    patience: float = 300.0
    attempts: int = 4
    served_model_name: str | None = None
    reasoning_parser: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", _api_root(self.base_url))
        for name in ("concurrency", "attempts"):
            value = getattr(self, name)
            if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}.")
        for name in ("timeout", "patience"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0):
                raise ConfigError(f"{name} must be a number of seconds over 0, not {value!r}.")
        for name in ("served_model_name", "reasoning_parser"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)):
                raise ConfigError(f"{name} must be a name, not {value!r}.")

    @classmethod
    def of(cls, config: EngineConfig) -> Self:
        """Return the options in an engine's arguments; raise ConfigError for one that is unknown or impossible."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(config.arguments) - set(known)):
            raise ConfigError(
                f"{unknown[0]} is no argument of the server engine.",
                hint=f"Known are: {', '.join(known)}. A key is read from HFSYNTH_API_KEY or OPENAI_API_KEY.",
            )
        if "base_url" not in config.arguments:
            raise ConfigError("The server engine needs an address.", hint="Add --base-url http://localhost:8000/v1")
        return cls(**config.arguments)

    def require_parser(self, *, thinks: bool) -> None:
        """Raise ConfigError for thoughts on a server of which it is not known that it tells them from the answer."""
        if thinks and not self.reasoning_parser:
            raise ConfigError(
                "A model that thinks needs a server that holds the JSON schema to the answer alone, and servers do not "
                "say whether they do.",
                hint="Start it with vllm serve MODEL --reasoning-parser NAME, and say so with "
                "--engine-arg reasoning_parser=NAME; or use --thinking off.",
            )


@dataclass(frozen=True, slots=True)
class Served:
    """A model on a server: the server's name for it, its length in tokens where known, and whether vLLM runs it."""

    name: str
    window: int | None = None
    is_vllm: bool = False


def served_model(cards: Iterable[Mapping[str, Any]], names: Iterable[str], options: ServerOptions) -> Served:
    """Find a model among the cards of `/v1/models`: by `served_model_name`, else by any of its `names`.

    Raise ModelError where the server serves others only. A server without cards is taken at its word.
    """
    by_id = {str(card.get("id")): card for card in cards}
    wanted = [options.served_model_name] if options.served_model_name else list(names)
    if not by_id:
        return Served(wanted[0])
    found = next((card for card in by_id.values() if card.get("id") in wanted or card.get("root") in wanted), None)
    if found is None:
        raise ModelError(
            f"The server at {options.base_url} does not serve {wanted[0]!r}, but {', '.join(map(repr, by_id))}.",
            hint="Check --model and --base-url. Where the server has another name for this model, say so with "
            "--engine-arg served_model_name=NAME.",
        )
    window = _length(found) or _length(by_id.get(str(found.get("parent")), {}))  # an adapter's card has none
    return Served(str(found["id"]), window, found.get("owned_by") == "vllm")


def agreed_window(asked: int | None, served: Served) -> int:
    """Return the window in tokens to work with; raise ConfigError where nobody knows one or the asked one is larger."""
    if asked is None and served.window is None:
        raise ConfigError(
            f"The server does not say how many tokens {served.name!r} takes.",
            hint="Give the length of a prompt plus its completion with --window.",
        )
    if asked and served.window and asked > served.window:
        raise ConfigError(
            f"A window of {asked} tokens was asked for; the server runs {served.name!r} with {served.window}.",
            hint=f"Use --window {served.window} or less, or start the server with a larger --max-model-len.",
        )
    return asked or served.window or 0


def completion_body(request: Request, generation: Generation, served: Served) -> Body:
    """Return the JSON body that asks for a completion of token ids, or for one token where there are `choices`.

    vLLM tells of those very tokens; others tell of the most likely ones, by their texts.
    """
    if request.choices:
        return _choosing_body(request, served)
    sampling, schema = generation.sampling, request.json_schema or generation.json_schema
    body: Body = {
        "model": served.name,
        "prompt": request.token_ids,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.temperature > 0:
        body["seed"] = request.seed
    if served.is_vllm:
        body |= _NEUTRAL
    if served.is_vllm or sampling.repetition_penalty != 1:
        body["repetition_penalty"] = sampling.repetition_penalty
    if served.is_vllm or sampling.frequency_penalty != 0:
        body["frequency_penalty"] = sampling.frequency_penalty
    if generation.shows_marks:
        body["skip_special_tokens"] = False
    if generation.thinking_budget is not None:
        body["thinking_token_budget"] = generation.thinking_budget
    if generation.stop:
        body["stop"] = list(generation.stop)
    if schema:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "pairs", "schema": json.loads(schema), "strict": True},
        }
    return body


def _choosing_body(request: Request, served: Served) -> Body:
    told: Body = {"logprobs": _TOLD}
    if served.is_vllm:
        ids = list(request.choices)
        told = {**_NEUTRAL, "logprobs": len(ids), "logprob_token_ids": ids, "return_tokens_as_token_ids": True}
    return {"model": served.name, "prompt": request.token_ids, "max_tokens": 1, "temperature": 0.0, **told}


def smallest_body(body: Body) -> Body:
    """Return the least that can be asked in the same way: one token after the first token of `body`'s prompt."""
    return {**body, "prompt": body["prompt"][:1] or [0], "max_tokens": 1}


def choice_names(choices: Iterable[int], texts: Iterable[str], served: Served) -> tuple[str, ...]:
    """Return how a server names the tokens that are asked about: vLLM by their ids, others by their `texts`."""
    return tuple(f"token_id:{choice}" for choice in choices) if served.is_vllm else tuple(texts)


def completion_of(content: bytes, choices: Sequence[str] = ()) -> Completion:
    """Read a completion out of a server's answer, with the log-probabilities of tokens by the names in `choices`.

    Raise UnreadableAnswer where there is none.
    """
    try:
        answer = json.loads(content)
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        text, reason = choice.get("text") or "", choice.get("finish_reason") or "none"
        details = usage.get("prompt_tokens_details") or {}
        counts = int(usage.get("completion_tokens") or 0), int(details.get("cached_tokens") or 0)
        told = (choice.get("logprobs") or {}).get("top_logprobs") or [{}]
        logprobs = tuple(None if (found := (told[0] or {}).get(name)) is None else float(found) for name in choices)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UnreadableAnswer(f"an answer that is no completion: {_shortened(repr(content))}") from error
    if reason not in ("stop", "length"):
        return Completion("", "error", error=f"the server ended the completion with finish_reason {reason}")
    return Completion(encodable(str(text)), str(reason), *counts, logprobs=logprobs)


def refusal(status: int, content: bytes) -> str:
    """Say in words what a server answered instead of a completion: its status and its own message."""
    try:
        answer = json.loads(content)
    except ValueError:
        answer = content.decode("utf-8", "replace")
    return f"the server answered {status}: {_shortened(_message(answer)) or 'no reason given'}"


def _message(answer: object) -> str:
    """Return the message in an error's body, as OpenAI, vLLM and web frameworks nest it."""
    if isinstance(answer, Mapping):
        inner = next((answer[name] for name in ("error", "message", "detail") if answer.get(name)), None)
        return _message(inner) if inner is not None else json.dumps(answer)
    return answer if isinstance(answer, str) else json.dumps(answer)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _REASON_LENGTH else f"{line[:_REASON_LENGTH]}…"


def _length(card: Mapping[str, Any]) -> int | None:
    length = card.get("max_model_len")
    return length if isinstance(length, int) and length > 0 else None


def _api_root(address: object) -> str:
    """Return an address without its final slash; where it has no path, with the `/v1` that OpenAI's servers have."""
    parts = _split(address) if isinstance(address, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"The server's address must look like http://localhost:8000/v1, not {address!r}.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            "The server's address must hold no user name, password, query or fragment.",
            hint="Put a key into the environment variable HFSYNTH_API_KEY.",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address.strip())
        return parts if parts.port is None or parts.port > 0 else None
    except ValueError:  # a port or an IPv6 address that is none
        return None
