"""The engine on the other side of a wire: an OpenAI-compatible server that already runs (`vllm serve` or other).

Prompts go out as token ids to `/v1/completions`, so the model's tokenizer is loaded here; its weights are not. Knows
chains; knows nothing of documents. For the same pairs as the engine in this process gives, start the server with
`vllm serve MODEL --revision REVISION --generation-config vllm --enable-prompt-tokens-details`: the first two say
which weights (a server does not tell, so the revision that a corpus names is that of the model it was asked for),
the third turns off defaults that a model brings along, the last one makes cached tokens known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from hfsynth.core.errors import ConfigError, EngineError
from hfsynth.core.remote_calls import retrying
from hfsynth.engine.protocol import Chain, Completion, EngineKey, Generation, Request, drive
from hfsynth.engine.server_calls import Calls, Server
from hfsynth.engine.server_protocol import (
    Served,
    ServerOptions,
    agreed_window,
    choice_names,
    completion_body,
    served_model,
)
from hfsynth.models.tokenizers import ModelTokenizer, load_model_tokenizer

T = TypeVar("T")

KEY_VARIABLES = ("HFSYNTH_API_KEY", "OPENAI_API_KEY")
_START_SECONDS = 10.0
_CARDLESS = frozenset({404, 405, 501})


class ServerEngine:
    """Drive chains on a server, `concurrency` requests at a time. `window` is in tokens."""

    def __init__(self, server: Server, served: Served, tokenizer: ModelTokenizer, window: int) -> None:
        self.window = window
        self.tokenizer = tokenizer
        self._server = server
        self.served = served

    def run(self, chains: Iterable[Chain[T]], generation: Generation) -> Iterator[T]:
        """Yield each chain's result as it ends; see `Engine.run`. Given up early, it takes back what is in flight."""
        yield from drive(chains, _Requests(Calls(self._server), generation, self))

    def close(self) -> None:
        """Do nothing: between runs no connection is held."""


class _Requests:
    """One run's requests, as calls to a server: as many at a time as its options say."""

    def __init__(self, calls: Calls, generation: Generation, engine: ServerEngine) -> None:
        self._calls, self._generation, self._engine = calls, generation, engine
        self.capacity = calls.concurrency

    def admits(self, request: Request) -> bool:
        return True

    def submit(self, number: int, request: Request) -> None:
        served = self._engine.served
        texts = map(self._engine.tokenizer.text, request.choices)
        body = completion_body(request, self._generation, served)
        self._calls.send(number, body, choice_names(request.choices, texts, served))

    def next_ended(self) -> list[tuple[int, Completion]]:
        return [self._calls.next_ended()]

    def abandon(self) -> None:
        self._calls.leave()


def load_server(key: EngineKey) -> ServerEngine:
    """Find the model of `key` on its server and load its tokenizer.

    Raise ConfigError for arguments that cannot work, EngineError where no server answers, ModelError where it serves
    another model or the tokenizer cannot be loaded.
    """
    options = ServerOptions.of(key.config)
    options.require_parser(thinks=key.thinks)
    server = Server(options, _headers())
    served = served_model(_cards(server), _names(key.model), server.options)
    window = agreed_window(key.window, served)
    tokenizer = load_model_tokenizer(key.model, key.revision, trust_remote_code=key.config.trust_remote_code)
    return ServerEngine(server, served, tokenizer, window)


def _headers() -> Mapping[str, str]:
    name = next((name for name in KEY_VARIABLES if os.environ.get(name, "").strip()), None)
    if name is None:
        return {}
    key = os.environ[name].strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{name} holds characters that no key has.", hint="Set it again, without line breaks.")
    return {"Authorization": f"Bearer {key}"}


def _names(model: str) -> list[str]:
    folder = Path(model).expanduser()
    return [model, str(folder.resolve())] if folder.is_dir() else [model]


def _cards(server: Server) -> list[Mapping[str, Any]]:
    """Return what the server says about its models; nothing where it has no such page."""
    try:
        response = retrying(min(_START_SECONDS, server.options.patience))(
            _get, f"{server.options.base_url}/models", server.headers
        )
    except httpx2.HTTPStatusError as error:
        if error.response.status_code in _CARDLESS:
            return []
        raise server.unusable(error) from error
    except httpx2.TransportError as error:
        raise EngineError(
            f"No server answers at {server.options.base_url}: {error}.",
            hint="Start one with vllm serve MODEL, or check --base-url.",
        ) from error
    try:
        return [card for card in response.json()["data"] if isinstance(card, Mapping)]
    except (ValueError, TypeError, LookupError) as error:
        raise EngineError(
            f"What answers at {server.options.base_url} is no OpenAI-compatible server.",
            hint="Check --base-url; it mostly ends in /v1.",
        ) from error


def _get(url: str, headers: Mapping[str, str]) -> httpx2.Response:
    response = httpx2.get(url, headers=dict(headers), timeout=_START_SECONDS)
    response.raise_for_status()
    return response
