"""The loopback Hub, used by the real huggingface_hub and datasets in fresh processes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import TESTS
from started import start_process

from loopback_hub.faults import Fault, Faults, Request
from loopback_hub.server import OTHER_TOKEN, POWERLESS_TOKEN, READ_TOKEN, Hub
from loopback_hub.trees import Entry, Refusal, merge_trees, regular_entry
from loopback_hub.wire import Answer, Call, card_errors

PRELUDE = """
import json, os, sys
from pathlib import Path
from huggingface_hub import *
from huggingface_hub.errors import *

def failure(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except HfHubHTTPError as error:
        return [type(error).__name__, error.response.status_code]
    except Exception as error:
        return [type(error).__name__, None]

api, out = HfApi(), {}
data = dict(repo_id="user/data", repo_type="dataset")
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


def client(hub: Hub, env: Mapping[str, str], code: str) -> dict[str, Any]:
    """Run client code that fills `out` in a fresh process, and return `out`."""
    done = hub.run(f"{PRELUDE}\n{code}\nprint(json.dumps(out))", env)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_repos_files_refs_and_listings(hub: Hub, tmp_path: Path) -> None:
    hub.api.page_size = 10
    folder = tmp_path / "folder"
    files = {f"data/{name:02d}.parquet": b"%d" % name * 50 for name in range(12)} | {"notes.txt": b"hello", "none": b""}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    out = client(
        hub,
        hub.env(tmp_path),
        f"""
folder = {str(folder)!r}
out["name"] = api.whoami()["name"]
out["url"] = api.create_repo(**data)
out["again"] = failure(api.create_repo, **data)
api.create_repo(**data, exist_ok=True)
api.create_repo("user/model", private=True)
api.upload_file(path_or_fileobj=b"weights", path_in_repo="a/model.safetensors", repo_id="user/model")
out["private"] = api.model_info("user/model").private
out["first"] = api.upload_folder(folder_path=folder, **data).oid
api.create_tag(**data, tag="v1")
out["same"] = api.upload_folder(folder_path=folder, **data).oid
api.upload_file(path_or_fileobj=b"changed", path_in_repo="notes.txt", **data)
out["tree"] = [item.path for item in api.list_repo_tree(**data, recursive=True)]
out["sub"] = [item.path for item in api.list_repo_tree(**data, path_in_repo="data", expand=True)]
out["missing"] = failure(lambda: list(api.list_repo_tree(**data, path_in_repo="nowhere")))
out["infos"] = [[i.path, i.size] for i in api.get_paths_info(**data, paths=["none", "data/01.parquet", "x"])
                if isinstance(i, RepoFile)]
out["commits"] = [commit.title for commit in api.list_repo_commits(**data)]
path = api.hf_hub_download(**data, filename="notes.txt", revision="v1")
out["tagged"] = Path(path).read_text()
snapshot = Path(api.snapshot_download(**data))
out["snapshot"] = {{str(p.relative_to(snapshot)): p.read_text() for p in snapshot.rglob("*") if p.is_file()}}
out["no file"] = failure(api.hf_hub_download, **data, filename="nothing")
out["no rev"] = failure(api.hf_hub_download, **data, filename="none", revision="nothing")
""",
    )
    assert out["name"] == "user"
    assert out["url"] == f"{hub.endpoint}/datasets/user/data"
    assert out["again"] == ["HfHubHTTPError", 409]
    assert out["private"] is True
    assert hub.files("user/model", kind="model") == {"a/model.safetensors": b"weights"}
    assert out["same"] == out["first"] == hub.head("user/data", "v1")
    assert hub.files("user/data", "v1") == files
    assert hub.files("user/data") == files | {"notes.txt": b"changed"}
    assert len(hub.sent) == 13 and set(hub.sent.values()) == {1}
    assert hub.commits("user/data") == 2
    assert out["tree"] == sorted([".gitattributes", "data", *files])
    assert out["sub"] == [path for path in sorted(files) if path.startswith("data/")]
    assert len(hub.lines("GET .*/tree/.*cursor=")) >= 2
    assert out["missing"] == out["no file"] == ["RemoteEntryNotFoundError", 404]
    assert out["no rev"] == ["RevisionNotFoundError", 404]
    assert out["infos"] == [["none", 0], ["data/01.parquet", 50]]
    assert out["commits"][-1] == "initial commit" and len(out["commits"]) == 3
    assert out["tagged"] == "hello"
    assert {path: text.encode() for path, text in out["snapshot"].items() if path != ".gitattributes"} == hub.files(
        "user/data"
    )


def test_branches_tags_locking_and_operations(hub: Hub, tmp_path: Path) -> None:
    start = hub.commit("user/data", {"a.txt": b"1", "old/x.bin": b"\0x", "old/y.txt": b"y"}).id
    commit = "POST .*/commit/main"
    hub.at(2, lambda _: hub.commit("user/data", {"theirs.txt": b"in between"}), commit)
    out = client(
        hub,
        hub.env(tmp_path),
        f"""
def commit(*operations, **kwargs):
    return api.create_commit(**data, operations=operations, commit_message="Change", **kwargs)

api.create_branch(**data, branch="dev/one", revision="{start}")
out["branch"] = failure(api.create_branch, **data, branch="dev/one")
out["bad branch"] = failure(api.create_branch, **data, branch="refs/pr/5")
api.upload_file(path_or_fileobj=b"dev", path_in_repo="dev.txt", revision="dev/one", **data)
api.create_tag(**data, tag="v1", revision="dev/one")
out["tag"] = failure(api.create_tag, **data, tag="v1")
api.create_tag(**data, tag="v1", exist_ok=True)
out["refs"] = [[r.name for r in rs] for rs in (api.list_repo_refs(**data).branches, api.list_repo_refs(**data).tags)]
add = lambda text: CommitOperationAdd("a.txt", text)
head = commit(add(b"2"), parent_commit="{start}").oid
out["raced"] = failure(commit, add(b"3"), parent_commit=head)
out["stale"] = failure(commit, add(b"4"), parent_commit="{start}")
out["to tag"] = failure(commit, add(b"5"), revision="v1")
commit(CommitOperationCopy("old/x.bin", "new/x.bin"), CommitOperationCopy("old/y.txt", "new/y.txt"),
       CommitOperationDelete("old/"))
out["no delete"] = failure(commit, CommitOperationDelete("old/y.txt"))
api.super_squash_history(**data, branch="dev/one")
out["squashed"] = len(api.list_repo_commits(**data, revision="dev/one"))
api.delete_tag(**data, tag="v1")
api.delete_branch(**data, branch="dev/one")
out["left"] = [[r.name for r in rs] for rs in (api.list_repo_refs(**data).branches, api.list_repo_refs(**data).tags)]
out["protected"] = failure(api.delete_branch, **data, branch="main")
out["bad card"] = failure(api.upload_file, path_or_fileobj=b"---\\nlicense: [\\n---", path_in_repo="README.md", **data)
api.delete_repo(**data)
out["gone"] = failure(api.dataset_info, "user/data")
""",
    )
    assert out["branch"] == out["tag"] == ["HfHubHTTPError", 409]
    assert out["bad branch"] == ["BadRequestError", 400]
    assert out["refs"] == [["dev/one", "main"], ["v1"]]
    assert out["raced"] == out["stale"] == ["HfHubHTTPError", 412]
    assert out["to tag"] == ["RevisionNotFoundError", 404]
    assert out["no delete"] == ["RemoteEntryNotFoundError", 404]
    assert out["squashed"] == 1
    assert out["left"] == [["main"], []]
    assert out["protected"] == ["HfHubHTTPError", 403]
    assert out["bad card"] == ["ValueError", None]
    assert out["gone"] == ["RepositoryNotFoundError", 404]
    assert not hub.store.repos and not hub.lines("PUT")


def test_pull_requests(hub: Hub, tmp_path: Path) -> None:
    hub.commit("user/data", {"a.txt": b"1\n", "b.txt": b"1\n"})
    out = client(
        hub,
        hub.env(tmp_path),
        """
first = api.upload_file(path_or_fileobj=b"2\\n", path_in_repo="a.txt", **data, create_pr=True)
rival = api.upload_file(path_or_fileobj=b"3\\n", path_in_repo="a.txt", **data, create_pr=True)
out["nums"] = [first.pr_num, rival.pr_num]
path = api.hf_hub_download(**data, filename="a.txt", revision="refs/pr/1")
out["on pr"], out["on main"] = Path(path).read_text(), Path(api.hf_hub_download(**data, filename="a.txt")).read_text()
details = api.get_discussion_details(**data, discussion_num=1)
out["details"] = [details.status, details.target_branch, details.conflicting_files, details.diff.splitlines()[-2:]]
api.merge_pull_request(**data, discussion_num=1)
out["conflict"] = failure(api.merge_pull_request, **data, discussion_num=2)
out["conflicts"] = api.get_discussion_details(**data, discussion_num=2).conflicting_files
out["closed"] = api.change_discussion_status(**data, discussion_num=2, new_status="closed").new_status
draft = api.create_pull_request(**data, title="Add many files")
for i in range(3):
    api.upload_file(path_or_fileobj=b"new", path_in_repo=f"new/{i}.bin", revision=draft.git_reference, **data)
out["draft"] = failure(api.merge_pull_request, **data, discussion_num=draft.num)
api.change_discussion_status(**data, discussion_num=draft.num, new_status="open")
api.comment_discussion(**data, discussion_num=draft.num, comment="Ready")
api.merge_pull_request(**data, discussion_num=draft.num)
out["twice"] = failure(api.merge_pull_request, **data, discussion_num=draft.num)
out["all"] = [[d.num, d.status] for d in api.get_repo_discussions(**data, discussion_type="pull_request")]
out["refs"] = [ref.ref for ref in api.list_repo_refs(**data, include_pull_requests=True).pull_requests]
out["merge commit"] = api.get_discussion_details(**data, discussion_num=draft.num).merge_commit_oid
out["titles"] = [commit.title for commit in api.list_repo_commits(**data)]
""",
    )
    assert out["nums"] == [1, 2]
    assert [out["on pr"], out["on main"]] == ["2\n", "1\n"]
    assert out["details"] == ["open", "refs/heads/main", [], ["-1", "+2"]]
    assert out["conflict"] == ["HfHubHTTPError", 409] and out["conflicts"] == ["a.txt"]
    assert out["closed"] == "closed"
    assert out["draft"] == out["twice"] == ["BadRequestError", 400]
    assert out["all"] == [[3, "merged"], [2, "closed"], [1, "merged"]]
    assert out["refs"] == ["refs/pr/1", "refs/pr/2", "refs/pr/3"]
    assert out["merge commit"] == hub.head("user/data")
    assert out["titles"][0] == "Add many files (#3)"
    assert hub.files("user/data") == {"a.txt": b"2\n", "b.txt": b"1\n"} | {f"new/{i}.bin": b"new" for i in range(3)}
    assert hub.commits("user/data") == 3  # the start and two merges; three commits on the last request became one


def test_tokens_and_rights(hub: Hub, tmp_path: Path) -> None:
    hub.commit("user/data", {"a.txt": b"1"})
    hub.store.create("dataset", "user/secret", private=True)
    tokens = {
        "TOKEN": hub.token,
        "READ_TOKEN": READ_TOKEN,
        "POWERLESS_TOKEN": POWERLESS_TOKEN,
        "OTHER_TOKEN": OTHER_TOKEN,
    }
    out = client(
        hub,
        hub.env(tmp_path, token=""),
        f"""
for name, token in {{**{tokens!r}, "BAD": "hf_bad", "NONE": False}}.items():
    api = HfApi(token=token)
    upload = dict(path_or_fileobj=name.encode(), path_in_repo="a.txt", **data)
    out[name] = [
        failure(api.whoami), failure(api.list_repo_files, **data), failure(api.upload_file, **upload),
        failure(api.upload_file, **upload, create_pr=True), failure(api.create_repo, "user/made"),
        failure(api.dataset_info, "user/secret"),
    ]
out["org"] = HfApi(token="{hub.token}").create_repo("org/made").repo_id
out["bad name"] = failure(HfApi(token="{hub.token}").create_repo, "user/" + "x" * 97)
""",
    )
    hidden, denied = ["RepositoryNotFoundError", 404], ["HfHubHTTPError", 403]
    assert out["TOKEN"] == [None] * 6
    assert out["READ_TOKEN"] == [None, None, denied, denied, denied, None]
    assert out["POWERLESS_TOKEN"] == [None, None, denied, denied, denied, None]
    assert out["OTHER_TOKEN"] == [None, None, denied, None, denied, hidden]
    assert out["BAD"][:5] == [["HfHubHTTPError", 401]] * 5
    assert out["NONE"][1] is None and out["NONE"][2][1] == out["NONE"][4][1] == 401
    assert out["NONE"][5] == ["RepositoryNotFoundError", 401]
    assert out["org"] == "org/made"
    assert hub.files("user/data") == {"a.txt": b"TOKEN"}
    assert list(hub.repo("user/data").discussions) == [1]  # the writer's was no change


def test_datasets_push_and_load(hub: Hub, tmp_path: Path) -> None:
    client(
        hub,
        hub.env(tmp_path),
        """
from datasets import Dataset, DatasetDict
rows = lambda start, n: Dataset.from_dict({"text": [f"row {i}" for i in range(start, start + n)]})
DatasetDict(train=rows(0, 30), test=rows(30, 5)).push_to_hub("user/data", num_shards={"train": 3, "test": 1})
rows(100, 4).push_to_hub("user/data", "pairs", split="train")
api.create_tag(**data, tag="v1")
rows(200, 2).push_to_hub("user/data", "pairs", split="extra")
rows(0, 7).push_to_hub("user/data", split="train", create_pr=True)
""",
    )
    out = client(
        hub,
        hub.env(tmp_path),
        """
from datasets import load_dataset, get_dataset_config_names
out["configs"] = get_dataset_config_names("user/data")
out["rows"] = {split: ds["text"][:] for split, ds in load_dataset("user/data").items()}
out["pairs"] = {split: len(ds) for split, ds in load_dataset("user/data", "pairs").items()}
out["tag"] = {split: len(ds) for split, ds in load_dataset("user/data", "pairs", revision="v1").items()}
out["pr"] = len(load_dataset("user/data", split="train", revision="refs/pr/1"))
out["streamed"] = [row["text"] for row in load_dataset("user/data", split="train", streaming=True)]
""",
    )
    assert out["configs"] == ["default", "pairs"]
    assert out["rows"] == {"train": [f"row {i}" for i in range(30)], "test": [f"row {i}" for i in range(30, 35)]}
    assert out["pairs"] == {"train": 4, "extra": 2} and out["tag"] == {"train": 4}
    assert out["pr"] == 7
    assert out["streamed"] == out["rows"]["train"]
    assert set(hub.sent.values()) == {1}
    assert hub.commits("user/data") == 3 and hub.commits("user/data", "refs/pr/1") == 1
    assert all(request.host.startswith("localhost") for request in hub.requests if request.method == "PUT")


def test_faults_as_the_client_sees_them(hub: Hub, tmp_path: Path) -> None:
    hub.api.multipart_chunk = 1000
    hub.commit("user/data", {"big.bin": bytes(5000)})
    hub.faults.add(Fault.rate_limit(), match="preupload")
    hub.faults.add(Fault.retry_after(503), match="POST .*objects/batch")
    hub.faults.add(Fault(drop="before"), match="PUT .*/1$")
    hub.faults.add(Fault(drop="after"), match="PUT .*/3$")
    hub.faults.add(Fault(drop="midway", how="close"), match="GET .*/download/")
    hub.faults.add(Fault(status=503), match="POST .*/commit/main")
    hub.faults.add(Fault(drop="after"), match="POST .*/commit/main", nth=2)
    hub.faults.add(Fault(status=504, carried_out=True), match="POST .*/commit/main", nth=3)
    hub.faults.add(Fault(status=429, delay=0.01), match="POST .*/commit/main", nth=4)
    out = client(
        hub,
        hub.env(tmp_path),
        """
upload = lambda name, text: failure(api.upload_file, path_or_fileobj=text, path_in_repo=name, **data)
out["unavailable"] = upload("own.bin", bytes(range(250)) * 10)
out["reset"] = upload("own.bin", bytes(range(250)) * 10)
out["gateway"] = upload("two.txt", b"2")
out["limited"] = upload("three.txt", b"3")
out["downloaded"] = Path(api.hf_hub_download(**data, filename="big.bin")).stat().st_size
""",
    )
    assert out["unavailable"] == ["HfHubHTTPError", 503]
    assert out["reset"] == ["ReadError", None]
    assert out["gateway"] == ["HfHubHTTPError", 504]
    assert out["limited"] == ["HfHubHTTPError", 429]
    assert out["downloaded"] == 5000
    assert hub.files("user/data") == {"big.bin": bytes(5000), "own.bin": bytes(range(250)) * 10, "two.txt": b"2"}
    assert list(hub.sent.values()) == [1]
    statuses = {line: [r.status for r in hub.requests if line in r.line] for line in ("preupload", "objects/batch")}
    assert statuses == {"preupload": [429, 200, 200, 200, 200], "objects/batch": [503, 200, 200]}
    assert [r.status for r in hub.requests if r.method == "PUT"] == [0, 200, 200, 0, 200]
    assert [r.status for r in hub.requests if "/download/" in r.path] == [0, 200]


def test_a_fault_walks_over_every_request(hub: Hub, tmp_path: Path) -> None:
    code = """
out["failed"] = 0
for count in range({count}):
    name = f"user/data{{count}}"
    try:
        api.create_repo(name, repo_type="dataset", exist_ok=True)
        api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=name, repo_type="dataset")
    except HfHubHTTPError as error:
        out["failed"] += error.response.status_code == 418
"""
    client(hub, hub.env(tmp_path), code.format(count=1))
    total = len([line for line in hub.lines() if "user" in line or "repos" in line])
    assert total == 3  # create, preupload, commit
    rules = [hub.faults.add(Fault(status=418), match="repos|user", nth=4 * n + 1) for n in range(total)]
    assert client(hub, hub.env(tmp_path), code.format(count=5)) == {"failed": 3}
    assert [rule.fired for rule in rules] == [1] * total


def test_a_listing_never_mixes_two_states(hub: Hub, tmp_path: Path) -> None:
    hub.api.page_size = 10
    old = [f"{i:02d}.txt" for i in range(25)]
    hub.commit("user/data", {name: b"old" for name in old})
    hub.at(2, lambda _: hub.commit("user/data", {"0.txt": b"new"}, delete=old), "GET .*/tree/")
    out = client(hub, hub.env(tmp_path), "out['files'] = api.list_repo_files(**data)")
    assert out["files"] == [".gitattributes", *old]
    assert hub.files("user/data") == {"0.txt": b"new"}


def test_it_runs_by_hand() -> None:
    command = [sys.executable, "-m", "loopback_hub.server", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), *sys.path))}
    with start_process(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        exports = dict(
            line.removeprefix("export ").strip().split("=", 1) for line in iter(process.stdout.readline, "\n")
        )
        headers = {"Authorization": f"Bearer {exports['HF_TOKEN']}"}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(f"{exports['HF_ENDPOINT']}/api/whoami-v2", headers=headers)) as found:
            assert json.load(found)["name"] == "user"
        process.send_signal(signal.SIGINT)
        assert "1 requests" in process.stdout.read()
    assert process.returncode == 0


def ask(hub: Hub, method: str, path: str, body: object = b"", **headers: str) -> Answer:
    """Ask without a socket; as the writer, unless the headers say otherwise."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    path, _, query = path.partition("?")
    return hub.api.answer(Call(method, path, query, {"authorization": f"Bearer {hub.token}", **headers}, raw))


def storage_headers(hub: Hub, **headers: str) -> dict[str, str]:
    return {"host": hub.api.storage.removeprefix("http://"), **headers}


def test_storage_takes_signed_addresses_and_no_token(hub: Hub) -> None:
    hub.commit("user/data", {"x.bin": b"0123456789"})
    found = ask(hub, "GET", "/datasets/user/data/resolve/main/x.bin")
    path = found.headers["Location"].removeprefix(hub.api.storage)
    assert found.status == 302 and found.headers["X-Linked-Size"] == "10"
    assert ask(hub, "GET", path, **storage_headers(hub)).status == 400
    get = {"headers": storage_headers(hub)}
    for asked, status, body in (
        ("", 200, b"0123456789"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
    ):
        answer = hub.api.answer(Call("GET", path, "", get["headers"] | {"range": asked}))
        assert (answer.status, answer.body) == (status, body), asked
    assert hub.api.answer(Call("PUT", "/upload/unknown/0", "", get["headers"], b"x")).status == 403


def test_uploads_are_checked(hub: Hub) -> None:
    hub.commit("user/data", {"x.bin": b"there"})
    entry = hub.repo("user/data").resolve("main").tree["x.bin"]
    new = regular_entry(b"new")
    objects = [{"oid": e.sha256, "size": e.size} for e in (entry, new)]
    found = json.loads(ask(hub, "POST", "/datasets/user/data.git/info/lfs/objects/batch", {"objects": objects}).body)
    assert ["actions" in item for item in found["objects"]] == [False, True]
    address = found["objects"][1]["actions"]["upload"]["href"].removeprefix(hub.api.storage)
    assert hub.api.answer(Call("PUT", address, "", storage_headers(hub), b"damaged")).status == 400
    header = {"key": "header", "value": {"summary": "Add"}}
    lines = [header, {"key": "lfsFile", "value": {"path": "n.bin", "algo": "sha256", "oid": new.sha256, "size": 3}}]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert ask(hub, "POST", "/api/datasets/user/data/commit/main", body).status == 400
    assert hub.api.answer(Call("PUT", address, "", storage_headers(hub), b"new")).status == 200
    assert ask(hub, "POST", "/api/datasets/user/data/commit/main", body).status == 200
    assert hub.files("user/data")["n.bin"] == b"new"


@pytest.mark.parametrize("body", [b"{", b"", b'{"key": "file", "value": {}}', b'{"key": "header", "value": {}}'])
def test_a_malformed_commit_is_refused(hub: Hub, body: bytes) -> None:
    hub.commit("user/data", {"a.txt": b"1"})
    assert ask(hub, "POST", "/api/datasets/user/data/commit/main", body).status == 400
    assert hub.commits("user/data") == 1


def test_preupload_says_what_goes_where(hub: Hub) -> None:
    hub.commit("user/data", {"a.txt": b"1", "b.parquet": b"2", ".gitignore": b"# mine\n*.log\ntmp/\n"})
    samples = {"a.txt": (b"1", 1), "b.parquet": (b"2", 1), "c.txt": (b"\0", 1), "d.txt": (b"d", 11 << 20)}
    samples |= {"e.parquet": (b"", 0), "tmp/f.txt": (b"f", 1), "g.log": (b"g", 1)}
    files = [
        {"path": path, "sample": base64.b64encode(sample).decode(), "size": size}
        for path, (sample, size) in samples.items()
    ]
    found = json.loads(ask(hub, "POST", "/api/datasets/user/data/preupload/main", {"files": files}).body)["files"]
    assert [item["uploadMode"] for item in found] == ["regular", "lfs", "lfs", "lfs", "regular", "regular", "regular"]
    assert [item["path"] for item in found if item["shouldIgnore"]] == ["tmp/f.txt", "g.log"]
    tree = hub.repo("user/data").resolve("main").tree
    assert [item.get("oid") for item in found[:3]] == [tree["a.txt"].oid, tree["b.parquet"].sha256, None]
    assert ask(hub, "POST", "/api/datasets/user/data/preupload/main", {"files": files[:1] * 257}).status == 400


def test_card_errors() -> None:
    good = b"---\nlicense: other\nlicense_name: mine\nsize_categories: n<1K\nconfigs:\n- config_name: a\n---\n# Title\n"
    assert card_errors(good) == card_errors(b"# no metadata") == []
    for bad in ("license: [", "- a", "tags: {a: b}", "license: other", "size_categories: [5]", "configs: [{}]"):
        assert card_errors(f"---\n{bad}\n---\n".encode()), bad


def test_rules_count_every_matching_request() -> None:
    faults = Faults()
    first = faults.add(Fault(status=500), nth=2, times=2)
    second = faults.add(Fault(status=501), match=lambda request: request.method == "PUT")
    requests = [Request(n, method, "/", "", "") for n, method in enumerate(["GET", "PUT", "PUT", "PUT"])]
    struck = [fault and fault.status for fault in map(faults.choose, requests)]
    assert struck == [None, 500, 500, None]
    assert [(rule.seen, rule.fired) for rule in (first, second)] == [(4, 2), (3, 1)]
    faults.add(Fault(status=502), times=None)
    assert [fault and fault.status for fault in map(faults.choose, requests)] == [502] * 4
    faults.clear()
    assert faults.choose(requests[0]) is None


TREES = st.dictionaries(st.sampled_from(["a", "b", "c/d", "c/e"]), st.binary(max_size=1).map(regular_entry), max_size=4)


@settings(deadline=None, max_examples=50)
@given(fork=TREES, ours=TREES, theirs=TREES)
def test_a_merge_takes_both_sides_or_names_the_conflict(
    fork: dict[str, Entry], ours: dict[str, Entry], theirs: dict[str, Entry]
) -> None:
    assert merge_trees(fork, fork, theirs) == (theirs, [])
    assert merge_trees(fork, ours, fork) == (ours, [])
    merged, conflicts = merge_trees(fork, ours, theirs)
    assert conflicts == merge_trees(fork, theirs, ours)[1]
    for path in {*fork, *ours, *theirs} - set(conflicts):
        changed = ours if ours.get(path) != fork.get(path) else theirs
        assert merged.get(path) == changed.get(path)


@pytest.mark.parametrize("path", ["../a", "/a", "a//b", ".git/config", "a.txt/b", "folder"])
def test_an_impossible_path_is_refused(hub: Hub, path: str) -> None:
    hub.commit("user/data", {"a.txt": b"1", "folder/b.txt": b"2"})
    with pytest.raises(Refusal):
        hub.commit("user/data", {path: b"3"})
