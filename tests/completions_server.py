"""An OpenAI-compatible server on the loopback: real HTTP, answers from a script, faults on demand.

It decodes the token ids it is sent with the model's own tokenizer and answers as `scripts.quoting` does. Faults are
given by a word: a request whose last document holds it meets them one after the other.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from zlib import crc32

import uvicorn
from scripts import quoting, shown_documents
from tokenizers import Tokenizer

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NAME = "tiny"
FOREVER = 1_000_000


@dataclass
class Fault:
    """What goes wrong, and how many times: a status with its message and headers, or a connection that breaks."""

    status: int = 500
    message: str = "something went wrong"
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False
    times: int = 1


@dataclass
class Call:
    """One request as the server saw it."""

    at: float
    document: str
    body: dict[str, Any]
    headers: dict[str, str]


class CompletionsServer:
    """A server that runs while the `with` block does, on the same port after every `start`."""

    def __init__(self, model: Path, cards: list[dict[str, Any]] | None = None) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.cards = [{"id": NAME, "root": str(model), "owned_by": "vllm", "max_model_len": 2048}]
        if cards is not None:
            self.cards = cards
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.calls: list[Call] = []
        self.in_flight = self.most_in_flight = self.answered = self.dropped = 0
        self.together = 1  # the first answers wait until so many requests are in flight at once
        self.hold = ""  # a request whose document holds this word is never answered
        self.raw: bytes | None = None  # sent in place of every completion
        self.answers: dict[str, bytes] = {}  # sent in place of completions about a document with this word
        self.models_status = 200
        probe = socket.create_server(("127.0.0.1", 0))
        self.port: int = probe.getsockname()[1]
        probe.close()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> CompletionsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        config = uvicorn.Config(
            self._app,
            port=self.port,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="completions")
        self._thread.start()
        while not self._server.started:
            sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def documents(self) -> list[str]:
        return [call.document for call in self.calls]

    async def _app(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/models":
            return await _answer(send, self.models_status, {"data": self.cards})
        if scope["path"] != "/v1/completions":
            return await _answer(send, 404, {"detail": "Not Found"})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._complete(scope, receive, send)
        finally:
            self.in_flight -= 1
        return None

    async def _complete(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = json.loads(await _whole(receive))
        prompt = self._tokenizer.decode(body["prompt"], skip_special_tokens=False)
        document = (shown_documents(prompt) or [""])[-1]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.calls.append(Call(monotonic(), document, body, headers))
        if self.hold and self.hold in document:
            return await self._until_dropped(receive)
        await self._until_together()
        if (fault := self._fault(document)) is not None:
            return await _fail(send, fault)
        await asyncio.sleep(crc32(document.encode()) % 7 / 500)
        self.answered += 1
        raw = next((raw for word, raw in self.answers.items() if word in document), self.raw)
        await _answer(send, 200, raw if raw is not None else self._completion(prompt, document, body))
        return None

    async def _until_dropped(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.dropped += 1

    async def _until_together(self) -> None:
        for _ in range(2000):
            if self.most_in_flight >= self.together:
                return
            await asyncio.sleep(0.005)

    def _fault(self, document: str) -> Fault | None:
        for word, faults in self.faults.items():
            while word in document and faults:
                if faults[0].times > 0:
                    faults[0].times -= 1
                    return faults[0]
                faults.pop(0)
        return None

    def _completion(self, prompt: str, document: str, body: dict[str, Any]) -> dict[str, Any]:
        text = quoting(prompt) if document else ""
        usage = {
            "prompt_tokens": len(body["prompt"]),
            "completion_tokens": len(text),
            "prompt_tokens_details": {"cached_tokens": 16 * (len(body["prompt"]) // 32)},
        }
        return {"choices": [{"text": text, "finish_reason": "stop", "logprobs": _told(body)}], "usage": usage}


def _told(body: dict[str, Any]) -> dict[str, Any] | None:
    """Say of tokens that are asked about by their ids that each is half as likely as the one before it."""
    names = [f"token_id:{token}" for token in body.get("logprob_token_ids", ())]
    halved = {name: -math.log(2) * (number + 1) for number, name in enumerate(names)}
    return {"top_logprobs": [halved]} if "logprobs" in body else None


async def _whole(receive: Receive) -> bytes:
    content = b""
    while True:
        message = await receive()
        content += message.get("body", b"")
        if not message.get("more_body"):
            return content


async def _fail(send: Send, fault: Fault) -> None:
    if fault.breaks:  # uvicorn closes the connection of an answer that ends too early
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"choices"', "more_body": True})
        raise ConnectionAbortedError
    await _answer(send, fault.status, {"error": {"message": fault.message}}, fault.headers)


async def _answer(
    send: Send, status: int, content: dict[str, Any] | bytes, headers: dict[str, str] | None = None
) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": raw})
