"""moto's S3 server as a process of its own on a free port of the loopback. It ends with the process that started it.

moto looks whether a key is there and writes it later, so that two may create it at once; S3 lets one of them. Here a
request that has a condition is answered before the next such request is looked at.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.request import Request, urlopen

from loopback_s3.server import environment

# It ends when its input does: a killed test leaves no server behind.
_PROGRAM = """
import io, logging, sys, threading
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
logging.disable()
one_at_a_time, answer = threading.Lock(), DomainDispatcherApplication.__call__

def answer_in_turn(self, environ, start_response):
    if not {"HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"} & environ.keys():
        return answer(self, environ, start_response)
    length = int(environ.get("CONTENT_LENGTH") or 0)
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))  # a slow sender holds up nobody
    with one_at_a_time:
        return answer(self, environ, start_response)

DomainDispatcherApplication.__call__ = answer_in_turn
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""


class MotoS3:
    """A running server. `env()` is what a process needs to reach it; every bucket is the caller's own."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._numbers = itertools.count(1)

    def env(self) -> dict[str, str]:
        return environment(self.endpoint)

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        with urlopen(Request(f"{self.endpoint}/{name}", method="PUT"), timeout=60):
            return name


@contextlib.contextmanager
def moto_server() -> Iterator[MotoS3]:
    """Run a server while the `with` block does."""
    command = [sys.executable, "-c", _PROGRAM]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None and process.stdout is not None
    try:
        endpoint = process.stdout.readline().decode().strip()
        assert endpoint.startswith("http://"), "moto's server did not start: is moto[s3,server] installed?"
        yield MotoS3(endpoint)
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
