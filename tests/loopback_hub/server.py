"""A Hub on the loopback, as a thread or, by hand, as a process: `python -m loopback_hub.server` in `tests/`.

    with Hub() as hub:
        env = hub.env(tmp_path)
        hub.run("import huggingface_hub; huggingface_hub.create_repo('user/name', repo_type='dataset')", env)
        assert hub.files("user/name")

The API answers on `http://127.0.0.1:PORT`, blobs go to and come from `http://localhost:PORT`: to the client these are
two origins, as the Hub and its storage are. `Hub(xet=True)` speaks Xet as the real one does (its storage is
`http://localhost:PORT/xet`); without, `env` tells clients not to try.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from started import start_process

from loopback_hub.api import Api
from loopback_hub.edits import WRITING
from loopback_hub.faults import Fault, Faults, Match, Request, Rule
from loopback_hub.jobs import Jobs
from loopback_hub.places import take_place
from loopback_hub.routes import READING
from loopback_hub.store import Commit, Repo, Store, Token
from loopback_hub.trees import Remove
from loopback_hub.wire import Answer, Call, as_json

TOKEN, READ_TOKEN, POWERLESS_TOKEN, OTHER_TOKEN = "hf_loopback", "hf_readonly", "hf_powerless", "hf_other"
QUOTA = {"RateLimit": '"api";r=999;t=300', "RateLimit-Policy": '"fixed window";"api";q=1000;w=300'}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Hub:
    """A Hub that runs while the `with` block does. Tokens of `user`: write, read, no rights; and one of `other`."""

    token = TOKEN

    def __init__(
        self, *, port: int = 0, page_size: int = 1000, multipart_chunk: int | None = None, xet: bool = False
    ) -> None:
        self._place = take_place()
        self._leave = weakref.finalize(self, self._place.leave)
        self._socket = self._place.listen(port)
        port = self._socket.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.store, self.faults = Store(), Faults()
        self.requests: list[Request] = []
        storage = f"http://localhost:{port}"
        self.api = Api(self.store, READING | WRITING, endpoint=self.endpoint, storage=storage, xet=xet)
        self.api.page_size, self.api.multipart_chunk = page_size, multipart_chunk
        self.store.tokens |= {TOKEN: Token("user", "write", ("org",)), READ_TOKEN: Token("user", "read")}
        self.store.tokens |= {POWERLESS_TOKEN: Token("user", "fineGrained"), OTHER_TOKEN: Token("other", "write")}
        config = uvicorn.Config(
            self,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="hub")

    def __enter__(self) -> Hub:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.jobs.close()
        self._leave()

    @property
    def jobs(self) -> Jobs:
        """The jobs that run on this machine in the place of the Hub's."""
        return self.api.jobs

    # What a test looks at

    @property
    def sent(self) -> Counter[str]:
        """How many times each blob has arrived whole: a file by its SHA-256, with Xet a xorb by its hash.

        Regular files travel in commits and are not counted.
        """
        return self.api.sent if self.api.xet is None else self.api.xet.sent

    def repo(self, name: str, kind: str = "dataset") -> Repo:
        return self.store.repo(name, kind)

    def head(self, name: str, revision: str = "main", kind: str = "dataset") -> str:
        return self.store.repo(name, kind).resolve(revision).id

    def files(self, name: str, revision: str = "main", kind: str = "dataset") -> dict[str, bytes]:
        """Return the files of a revision and their content, without the Hub's own `.gitattributes`."""
        files = self.store.files(self.store.repo(name, kind), revision)
        return {path: content for path, content in files.items() if path != ".gitattributes"}

    def commits(self, name: str, ref: str = "refs/heads/main", kind: str = "dataset") -> int:
        """Return how many commits were made on a ref (full name) since the repo was created."""
        return self.store.repo(name, kind).commit_counts[ref]

    def lines(self, pattern: str = "") -> list[str]:
        """Return the logged requests, as `METHOD /path?query`, that a regular expression is found in."""
        return [request.line for request in list(self.requests) if re.search(pattern, request.line)]

    # What a test does beside the client

    def commit(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        delete: Sequence[str] = (),
        revision: str = "main",
        kind: str = "dataset",
        author: str = "other",
    ) -> Commit:
        """Commit behind the client's back; a repo that does not exist is created."""
        with self.store.lock:
            repo = self.store.repos.get((kind, name)) or self.store.create(kind, name)
            changes = [Remove(path) for path in delete], [self.store.add(repo, *item) for item in files.items()]
            return repo.commit(
                repo.writable(revision), [*changes[0], *changes[1]], text=("Change something", ""), author=author
            )

    def at(self, nth: int, call: Callable[[Request], object], match: Match = None) -> Rule:
        """Run a callback just before the `nth` matching request from now on is carried out."""
        return self.faults.add(Fault(call=call), match=match, nth=nth)

    def env(self, folder: Path, *, token: str = TOKEN) -> dict[str, str]:
        """Return the environment of a client process, with an `HF_HOME` of its own under `folder`."""
        home = self._place.home(folder)
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
        }
        switches = ["HUB_DISABLE_TELEMETRY", "HUB_DISABLE_UPDATE_CHECK", "HUB_DISABLE_PROGRESS_BARS"]
        switches += ["DATASETS_DISABLE_PROGRESS_BARS", *(["HUB_DISABLE_XET"] if self.api.xet is None else [])]
        settings = {f"HF_{switch}": "1" for switch in switches} | ({"HF_TOKEN": token} if token else {})
        return {**kept, **settings, "HF_ENDPOINT": self.endpoint, "HF_HOME": home, "NO_PROXY": "127.0.0.1,localhost"}

    def start(
        self, command: str | Sequence[str], env: Mapping[str, str], *, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a process: Python code, or an argument list."""
        argv = [sys.executable, "-c", textwrap.dedent(command)] if isinstance(command, str) else list(command)
        return start_process(argv, env=dict(env), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(
        self,
        command: str | Sequence[str],
        env: Mapping[str, str],
        *,
        timeout: float = 600,
        check: bool = True,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a process to its end; with `check`, fail with what it wrote when it fails."""
        with self.start(command, env, cwd=cwd) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if check and process.returncode:
            raise AssertionError(f"the client exited with {process.returncode}\n{out}\n{err}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    # The ASGI application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path, query = scope["raw_path"].decode("ascii"), scope["query_string"].decode("ascii")
        request = Request(len(self.requests) + 1, scope["method"], path, query, headers.get("host", ""))
        self.requests.append(request)
        fault = self.faults.choose(request) or Fault()
        if fault.call is not None:
            await asyncio.to_thread(fault.call, request)
        await asyncio.sleep(fault.delay)
        if fault.drop == "before":
            return await self._break(fault, scope, receive)
        body = await _read(receive)
        if body is None:
            return
        request.received = len(body)
        answer = Answer(fault.status or 200)
        if fault.status is None or fault.carried_out:
            answer = await asyncio.to_thread(self.api.answer, Call(request.method, path, query, headers, body))
        if fault.status is not None:
            answer = as_json({"error": fault.message}, fault.status, fault.headers)
        if fault.drop == "after":
            return await self._break(fault, scope, receive)
        await self._respond(request, answer, send, whole=fault.drop is None)
        if fault.drop == "midway":
            await self._break(fault, scope, receive)

    async def _respond(self, request: Request, answer: Answer, send: Send, *, whole: bool) -> None:
        headers = {"Content-Length": str(len(answer.body)), **QUOTA, **answer.headers}
        pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        body = answer.body if whole else answer.body[: len(answer.body) // 2]
        if whole:
            request.status, request.sent = answer.status, len(body) if request.method != "HEAD" else 0
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        await send({"type": "http.response.body", "body": body, "more_body": not whole})

    async def _break(self, fault: Fault, scope: Scope, receive: Receive) -> None:
        """Break the connection of a request, and wait until the server knows that it is gone."""
        for protocol in self._server.server_state.connections:
            if getattr(protocol, "scope", None) is scope:
                self._hang_up(protocol.transport, fault)
                break
        while (await receive())["type"] != "http.disconnect":
            pass

    def _hang_up(self, transport: asyncio.Transport, fault: Fault) -> None:
        if fault.how == "close":
            return transport.close()
        no_goodbye = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_goodbye)
        transport.abort()


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body; None when the client went away before its end."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def main() -> None:
    """Run a Hub until the keyboard interrupts it, and say how to point a client at it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8800)
    parser.add_argument("--page-size", type=int, default=1000)
    parser.add_argument("--xet", action="store_true", help="speak Xet")
    options = parser.parse_args()
    with (
        Hub(port=options.port, page_size=options.page_size, xet=options.xet) as hub,
        tempfile.TemporaryDirectory() as folder,
    ):
        env = hub.env(Path(folder))
        shown = [f"export {key}={env[key]}" for key in sorted(env) if key.startswith(("HF_", "NO_PROXY"))]
        sys.stdout.write("\n".join(shown) + "\n\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write(f"{len(hub.requests)} requests\n")


if __name__ == "__main__":
    main()
