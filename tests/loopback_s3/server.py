"""A small S3 on the loopback whose faults a script chooses, in a thread of the test's process.

    with ScriptedS3() as s3:
        os.environ.update(s3.env())
        s3.script.add(CONFLICT, "PutObject .*claims/", nth=2)
        ...
        assert s3.script.counted()["PutObject"] == 3

Any bucket exists. It knows PUT with conditions, GET and HEAD, ranges, DELETE, DeleteObjects, ListObjectsV2, CopyObject
and uploads in parts; signatures are not looked at. Like the Hub's gateway it refuses bodies with trailing checksums.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from loopback_s3.faults import Fault, Script
from loopback_s3.objects import Bucket, Object, Refused

PAGE = 1000


def environment(endpoint: str) -> dict[str, str]:
    """Return the variables by which the usual S3 clients find a server on the loopback."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "loopback",
        "AWS_SECRET_ACCESS_KEY": "loopback-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@dataclass(frozen=True, slots=True)
class Call:
    """A request, taken apart."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Return the operation's name in S3's documentation."""
        match self.method, bool(self.key):
            case "GET", False:
                return "ListObjectsV2"
            case "GET", True:
                return "GetObject"
            case "HEAD", True:
                return "HeadObject"
            case "DELETE", True:
                return "AbortMultipartUpload" if "uploadId" in self.query else "DeleteObject"
            case "POST", False if "delete" in self.query:
                return "DeleteObjects"
            case "POST", True if "uploads" in self.query:
                return "CreateMultipartUpload"
            case "POST", True if "uploadId" in self.query:
                return "CompleteMultipartUpload"
            case "PUT", True if "partNumber" in self.query:
                return "UploadPart"
            case "PUT", True:
                return "CopyObject" if "x-amz-copy-source" in self.headers else "PutObject"
        return "Unknown"

    @property
    def conditions(self) -> dict[str, str]:
        return {name: self.headers[name] for name in ("If-Match", "If-None-Match") if name in self.headers}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class ScriptedS3:
    """A server that runs while the `with` block does. `script` holds the faults and the log."""

    def __init__(self, *, page: int = PAGE) -> None:
        self.script = Script()
        self.buckets: dict[str, Bucket] = {}
        self._page = page
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> ScriptedS3:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def env(self) -> dict[str, str]:
        return environment(self.endpoint)

    def bucket(self, name: str) -> Bucket:
        with self._lock:
            return self.buckets.setdefault(name, Bucket())

    def contents(self, name: str) -> dict[str, bytes]:
        """Return the keys of a bucket and what they hold."""
        return {key: found.content for key, found in self.bucket(name).listing()}

    def carry_out(self, call: Call, fault: Fault) -> Answer:
        """Do what a request asks for and return what is to be answered."""
        bucket = self.bucket(call.bucket)
        try:
            if "aws-chunked" in call.headers.get("Content-Encoding", ""):
                raise Refused(501, "NotImplemented")
            match call.kind:
                case "PutObject":
                    return _written(bucket.put(call.key, call.body, call.conditions))
                case "GetObject" | "HeadObject":
                    return _read(bucket.get(call.key, call.conditions), call.headers.get("Range"))
                case "DeleteObject":
                    bucket.delete([call.key])
                    return Answer(204)
                case "DeleteObjects":
                    return _deleted(bucket, call.body)
                case "CopyObject":
                    origin, _, source = unquote(call.headers["x-amz-copy-source"]).lstrip("/").partition("/")
                    made = bucket.copy(self.bucket(origin), source, call.key, call.conditions)
                    return Answer(body=_xml("CopyObjectResult", _changed(made)))
                case "ListObjectsV2":
                    return _listed(call, bucket.listing(fault.stale), self._page)
            return _in_parts(call, bucket)
        except Refused as refused:
            return _refusal(refused.status, refused.code)


def _in_parts(call: Call, bucket: Bucket) -> Answer:
    upload = call.query.get("uploadId", "")
    match call.kind:
        case "CreateMultipartUpload":
            return Answer(body=_xml("InitiateMultipartUploadResult", _tag("UploadId", bucket.begin())))
        case "UploadPart":
            return _written(bucket.add_part(upload, int(call.query["partNumber"]), call.body))
        case "CompleteMultipartUpload":
            numbers = [int(number) for number in _texts(call.body, "PartNumber")]
            made = bucket.complete(upload, call.key, numbers, call.conditions)
            return Answer(body=_xml("CompleteMultipartUploadResult", _tag("ETag", made.etag)))
        case "AbortMultipartUpload":
            bucket.abort(upload)
            return Answer(204)
    return _refusal(501, "NotImplemented")


def _written(made: Object) -> Answer:
    return Answer(headers={"ETag": made.etag})


def _read(found: Object, wanted: str | None) -> Answer:
    stamp = found.changed.strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"ETag": found.etag, "Last-Modified": stamp, "Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if asked is None:
        return Answer(body=found.content, headers=headers)
    size = len(found.content)
    start = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
    end = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
    if start >= size:
        raise Refused(416, "InvalidRange")
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Answer(206, found.content[start : end + 1], headers)


def _deleted(bucket: Bucket, body: bytes) -> Answer:
    keys = _texts(body, "Key")
    bucket.delete(keys)
    return Answer(body=_xml("DeleteResult", "".join(f"<Deleted>{_tag('Key', key)}</Deleted>" for key in keys)))


def _listed(call: Call, objects: list[tuple[str, Object]], page: int) -> Answer:
    """Answer a listing, in pages; the mark of the next one is the last key of this."""
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    after = call.query.get("continuation-token") or call.query.get("start-after", "")
    groups: dict[str, Object | None] = {}
    for key, found in objects:
        if key.startswith(prefix):
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            groups.setdefault(prefix + head + cut if cut else key, None if cut else found)
    names = [name for name in sorted(groups) if name > after]
    names, more = names[: min(page, int(call.query.get("max-keys", page)))], len(names)
    parts = [_tag("Name", call.bucket), _tag("Prefix", prefix), _tag("KeyCount", len(names)), _tag("MaxKeys", page)]
    parts.append(_tag("IsTruncated", str(more > len(names)).lower()))
    if more > len(names):
        parts.append(_tag("NextContinuationToken", names[-1]))
    for name in names:
        found = groups[name]
        if found is None:
            parts.append(f"<CommonPrefixes>{_tag('Prefix', name)}</CommonPrefixes>")
        else:
            facts = _tag("Key", name) + _changed(found) + _tag("Size", len(found.content))
            parts.append(f"<Contents>{facts}{_tag('StorageClass', 'STANDARD')}</Contents>")
    return Answer(body=_xml("ListBucketResult", "".join(parts)))


def _changed(found: Object) -> str:
    return _tag("LastModified", found.changed.strftime("%Y-%m-%dT%H:%M:%S.000Z")) + _tag("ETag", found.etag)


def _refusal(status: int, code: str) -> Answer:
    return Answer(status, _xml("Error", _tag("Code", code) + _tag("Message", f"{code}, on purpose or not")))


def _xml(root: str, inside: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{inside}</{root}>'.encode()


def _tag(name: str, value: object) -> str:
    return f"<{name}>{escape(str(value))}</{name}>"


def _texts(body: bytes, name: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(body).iter() if node.tag.rpartition("}")[2] == name]


_CODES = {409: "ConditionalRequestConflict", 500: "InternalError", 503: "SlowDown"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, s3: ScriptedS3) -> None:
        self.s3 = s3
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """End the connections that clients keep, too: nobody is to be answered by a server that is gone."""
        super().server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing of clients that were killed in the middle of a request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # the answer in one piece
    server: _Server

    def do_GET(self) -> None:
        script = self.server.s3.script
        call = self._call()
        fault = script.choose(f"{call.kind} {call.bucket}/{call.key}")
        answer = self._answer(call, fault)
        dropped = fault.drop is not None
        sent = 0 if call.method == "HEAD" or dropped else len(answer.body)
        status = 0 if dropped else answer.status
        script.note(call.kind, call.bucket, call.key, received=len(call.body), sent=sent, status=status)
        if dropped:
            self._drop(fault.how)
        else:
            self._send(call, answer)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Be silent: the log is the script's."""

    def _call(self) -> Call:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path.lstrip("/")).partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return Call(self.command, bucket, key, query, self.headers, body)  # type: ignore[arg-type]  # names of any case

    def _answer(self, call: Call, fault: Fault) -> Answer:
        if fault.delay:
            time.sleep(fault.delay)
        instead = None if fault.status is None else _refusal(fault.status, _CODES.get(fault.status, "Injected"))
        if fault.drop == "before" or (instead is not None and not fault.applied):
            return instead or Answer()
        done = self.server.s3.carry_out(call, fault)
        return instead or done

    def _send(self, call: Call, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if call.method != "HEAD":
            self.wfile.write(answer.body)

    def _drop(self, how: str) -> None:
        """Break the connection: the client sees a reset, or an end where it expects an answer."""
        self.close_connection = True
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
