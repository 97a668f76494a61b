"""What a push says when the Hub or its storage refuses, is slow, or asks to wait; and how far it says it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from shutil import rmtree
from typing import Any

import httpx2
import pytest
from corpus_folders import contents, corpus_folder
from loopback_hub.faults import Fault
from loopback_hub.server import Hub

from hfsynth import check
from hfsynth.core.remote_calls import StorageError, is_transient, retrying
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import write_card

# Pushes once for each line on standard input, and answers each with what came out and everything that was said.
CLIENT = """
import json
from hfsynth.core.errors import HfsynthError
from hfsynth.publishing.hub import PushOptions, push_folder

def pushed(folder, timeout):
    told, said = [], []
    show = lambda done, total: told.append([done, total])
    try:
        options = PushOptions(timeout=timeout)
        result = push_folder(folder, "user/corpus", options, on_progress=show, on_retry=said.append)
        found = [result.changed]
    except HfsynthError as error:
        found = [type(error).__name__, error.message, error.hint]
    return {"found": found, "told": told, "said": said}
"""
XORBS, SHARDS, TOKEN = "POST /xet/v1/xorbs/", "POST /xet/v1/shards", "/xet-write-token/"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = corpus_folder(tmp_path / "corpus", {"default": {"train": 1}, "pairs": {"train": 1}})
    write_card(made, CardSettings(license="mit", language=("en",), title="Title"))
    return made


def push(hub: Hub, tmp_path: Path, folder: Path, timeout: float = 60.0) -> tuple[dict[str, Any], str]:
    """Push in a fresh process; return what came out, and what was written beside it."""
    code = f"{CLIENT}\nprint(json.dumps(pushed({str(folder)!r}, {timeout})))"
    done = hub.run(code, hub.env(tmp_path))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found, done.stderr


REFUSALS = {
    "token-403": (TOKEN, 403, "may not write to user/corpus"),
    "token-404": (TOKEN, 404, "gives no access to its storage for user/corpus"),
    "xorb-403": (XORBS, 403, "may not write to user/corpus"),
    "shard-400": (SHARDS, 400, "storage refused what was sent for user/corpus (400)"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_no_broken_network(name: str, folder: Path, tmp_path: Path) -> None:
    match, status, message = REFUSALS[name]
    with Hub(xet=True) as hub:
        rule = hub.faults.add(Fault(status=status), match=match, times=None)
        found, written = push(hub, tmp_path, folder)
        assert found["found"][0] == "HubError" and message in found["found"][1] and found["found"][2], found
        assert rule.fired == 1 and not found["said"] and not written
        assert "network" not in json.dumps(found) and "cannot be reached" not in json.dumps(found)


def test_a_hub_without_xet_is_told_and_the_way_round_it_works(folder: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        env = {key: value for key, value in hub.env(tmp_path).items() if key != "HF_HUB_DISABLE_XET"}
        code = f"{CLIENT}\nprint(json.dumps(pushed({str(folder)!r}, 60)))"
        found = json.loads(hub.run(code, env).stdout)["found"]
        assert "has no Xet" in found[1] and "HF_HUB_DISABLE_XET=1" in found[2]
        assert json.loads(hub.run(code, env | {"HF_HUB_DISABLE_XET": "1"}).stdout)["found"] == [True]


FAILURES = {
    "xorbs": (True, XORBS, "the Hub's storage answered 500"),
    "shards": (True, SHARDS, "the Hub's storage answered 500"),
    "token": (True, TOKEN, "the Hub answered 500"),
    "preupload": (True, "/preupload/", "the Hub answered 500"),
    "lfs": (False, "/preupload/|/lfs/|PUT ", "the Hub answered 500"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_for_ever_is_told_and_given_up(name: str, folder: Path, tmp_path: Path) -> None:
    """Repetitions are ours alone: told, and over when the time is; the clients' own would say nothing for minutes."""
    by_xet, match, reason = FAILURES[name]
    with Hub(xet=by_xet) as hub:
        rule = hub.faults.add(Fault(status=500), match=match, times=None)
        found, written = push(hub, tmp_path, folder, timeout=4.0)
        assert found["found"][0] == "HubError" and reason in found["found"][1], found
        assert rule.fired >= 2 and found["said"] and all("trying again in" in line for line in found["said"])
        assert reason in found["said"][0] and "Retrying" not in written


def test_a_storage_that_never_answers_is_given_up(folder: Path, tmp_path: Path) -> None:
    with Hub(xet=True) as hub:
        hub.faults.add(Fault(delay=600), match=XORBS, times=None)
        found, _ = push(hub, tmp_path, folder, timeout=2.0)
        assert found["found"][0] == "HubError" and "nothing has moved for 2 s" in found["found"][1]


@pytest.mark.parametrize("by_xet", [True, False])
def test_a_long_wait_is_said_with_the_choice(by_xet: bool, folder: Path, tmp_path: Path) -> None:
    with Hub(xet=by_xet) as hub:
        rule = hub.faults.add(Fault.retry_after(429, 3600), match="/preupload/", times=None)
        found, _ = push(hub, tmp_path, folder, timeout=20.0)
        kind, message, hint = found["found"]
        assert kind == "HubError" and "429" in message and "asks to wait 3,600 s" in message
        assert "same command again after" in hint and "--timeout 3660" in hint and rule.fired == 1


STEPS = (
    *("push of", "planned on top of", "to add", "uploaded the contents of", "call refused: the Hub answered 503"),
    *("(until ", "committed ", "verified: ", "tagged "),
)


def test_every_step_of_a_push_and_every_retry_is_in_the_folders_log(folder: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        rule = hub.faults.add(Fault.retry_after(503, 1), match="/commit/main")
        run = [sys.executable, "-m", "hfsynth", "push", str(folder), "user/corpus", "--tag", "v1"]
        assert hub.run([*run, "--quiet"], hub.env(tmp_path)).stderr == ""
        log = folder / ".hfsynth" / "log" / "push.log"
        lines = log.read_text("utf-8").splitlines()
        places = [next(n for n, line in enumerate(lines) if step in line) for step in STEPS]
        assert rule.fired == 1 and places == sorted(places)
        assert all(" INFO hfsynth." in line for line in lines)
        shown = hub.run([*run[:-2], "--quiet", "-v"], hub.env(tmp_path)).stderr.splitlines()
        assert shown[:-1] == log.read_text("utf-8").splitlines()[len(lines) :] and "nothing had to change" in shown[-1]
        assert any("nothing to commit" in line for line in shown)
        hub.faults.add(Fault(status=403), match="/auth-check", times=None)
        assert hub.run([*run, "--quiet"], hub.env(tmp_path), check=False).returncode
        written = log.read_text("utf-8")
        assert " ERROR hfsynth.publishing.hub: push to user/corpus ended: This token may not write" in written
        assert Hub.token not in written + "".join(shown) and "one pairs train" not in written  # a document's text
        assert not any("log" in path for path in hub.files("user/corpus"))
        assert hub.files("user/corpus") == contents(folder) and not check(folder).damaged


def test_a_push_makes_no_corpus_folder_of_one_by_its_log(folder: Path, tmp_path: Path) -> None:
    rmtree(folder / ".hfsynth")
    with Hub() as hub:
        assert push(hub, tmp_path, folder)[0]["found"] == [True]
    assert not (folder / ".hfsynth").exists()


def test_who_waits_long_is_told_until_when() -> None:
    request, said, calls = httpx2.Request("GET", "http://localhost/"), list[str](), []
    answers = [httpx2.Response(429, headers={"Retry-After": "3600"}, request=request), httpx2.Response(200)]
    answers[1].request = request

    def ask() -> int:
        calls.append(answers[len(calls)])
        return calls[-1].raise_for_status().status_code

    assert retrying(7200, said.append).copy(sleep=lambda seconds: None)(ask) == 200
    assert len(said) == 1 and "going on at" in said[0] and "Ctrl-C" in said[0]


def test_what_the_storage_answers_is_judged_by_its_status() -> None:
    assert all(is_transient(StorageError("", status)) for status in (None, 401, 429, 500, 503))
    assert not any(is_transient(StorageError("", status)) for status in (400, 403, 404))


def test_bytes_are_told_while_they_go(folder: Path, tmp_path: Path) -> None:
    with Hub(xet=True) as hub:
        hub.faults.add(Fault(delay=1.0), match=SHARDS)
        hub.faults.add(Fault(status=503), match=SHARDS)
        found, _ = push(hub, tmp_path, folder)
        done, totals = zip(*found["told"], strict=True)
        assert found["found"] == [True] and len(set(totals)) == 1
        assert done[0] == 0 and done[-1] == totals[0] and any(0 < size < totals[0] for size in done)
        assert list(done) == sorted(done), "told twice what was sent twice"
