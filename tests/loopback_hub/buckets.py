"""Buckets on the loopback, as far as a script needs one that is to be a job: made, filled by Xet, mounted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from loopback_hub.trees import Refusal
from loopback_hub.wire import Answer, Call, as_json

if TYPE_CHECKING:
    from loopback_hub.api import Api


class Buckets(dict[str, dict[str, bytes]]):
    """The files of every bucket, by its name."""

    def answer(self, api: Api, call: Call, rest: list[str]) -> Answer:
        name, verb = "/".join(rest[:2]), rest[2:]
        api.writer(call, rest[0])
        if api.xet is None:
            raise Refusal(404, "This Hub has no Xet, and so no buckets")
        address = {"url": f"{api.endpoint}/buckets/{name}"}
        match call.method, verb:
            case "POST", [] if name in self:
                raise Refusal(409, "You already created this bucket", extra=address)
            case "POST", []:
                self[name] = {}
                api.store.create("bucket", name, private=True, author=rest[0])
                return as_json(address)
            case "GET", ["xet-write-token"] if name in self:
                return api.xet.token(api.store.repo(name, "bucket"), write=True)
            case "POST", ["batch"] if name in self:
                return self._batch(api, name, [json.loads(line) for line in call.body.splitlines()])
        raise Refusal(404, "Bucket not found")

    def _batch(self, api: Api, name: str, operations: list[dict[str, Any]]) -> Answer:
        assert api.xet is not None
        for operation in operations:
            if operation["type"] == "deleteFile":
                self[name].pop(operation["path"], None)
            elif operation["type"] == "addFile" and operation["xetHash"] in api.xet.files:
                self[name][operation["path"]] = api.xet.content(operation["xetHash"])
            else:
                raise Refusal(400, f"Nothing here does {operation}")
        return as_json({"success": True})
