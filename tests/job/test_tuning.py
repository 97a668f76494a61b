"""Tuning: the order of trials, shares of time, the prediction and its error bar, flags; one real trial."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import needs_vllm
from hypothesis import given
from hypothesis import strategies as st

import hfsynth
from hfsynth.cli import app
from hfsynth.cli import tune as cli_tune
from hfsynth.cli.tune import cells, conclusion, precision_cells, precision_table, table
from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ConfigError, SourceError
from hfsynth.core.records import Document, Pair, Status, Synthesis, Synthesized
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.engine.speculation import speculating
from hfsynth.job.tuning import tune as tuning
from hfsynth.job.tuning.settings import Setting, search
from hfsynth.job.tuning.trial import Cost, Order, Outcome, TimeShares, measure, predict
from hfsynth.job.tuning.trial_process import TrialFailed, run_trial
from hfsynth.job.tuning.tune import Tuning, sample, tune
from hfsynth.quality.agreement import Fingerprint, agreement
from hfsynth.synthesis.loading import Loaded

START = Setting(32, 2048)
CONFIG = SynthesizerConfig("scripted", shots=2)


def climbed(speed_of: Callable[[Setting], float | None], **options: int | bool) -> tuple[list[Setting], Setting]:
    """Search with a known speed for every setting; return what was tried, and the best."""
    given = {"most_sequences": 1024, "greedy": True} | options
    steps = search(START, speed_of(START) or 0.0, **given)
    tried: list[Setting] = []
    try:
        setting = next(steps)
        while True:
            tried.append(setting)
            setting = steps.send(speed_of(setting))
    except StopIteration as end:
        return tried, end.value


def test_nothing_helps() -> None:
    tried, best = climbed(lambda setting: 1.0)
    assert best == START
    assert tried == [
        replace(START, speculative="ngram"),
        replace(START, max_num_seqs=64),
        replace(START, max_num_seqs=16),
        replace(START, max_num_batched_tokens=4096),
        replace(START, max_num_batched_tokens=1024),
        replace(START, prefix_caching=False),
    ]


def test_a_way_is_followed_as_far_as_it_leads() -> None:
    tried, best = climbed(lambda setting: 1.0 + (setting.max_num_seqs in (64, 128)) + (setting.max_num_seqs == 128))
    assert [setting.max_num_seqs for setting in tried[:5]] == [32, 64, 128, 256, 128]
    assert best == replace(START, max_num_seqs=128)


def test_what_was_found_is_kept_while_the_rest_is_tried() -> None:
    tried, best = climbed(lambda setting: (2.0 if setting.speculative == "ngram" else 1.0) + setting.max_num_seqs / 99)
    assert all(setting.speculative == "ngram" for setting in tried[2:])
    assert best == replace(START, speculative="ngram", max_num_seqs=256)


def test_settings_that_fail_are_left() -> None:
    tried, best = climbed(lambda setting: 1.0 if setting == START else None)
    assert best == START
    assert len(tried) == 6


def test_drawn_completions_are_not_guessed_and_small_samples_fill_no_more_sequences() -> None:
    tried, _ = climbed(lambda setting: 1.0, greedy=False, most_sequences=40)
    assert all(setting.speculative is None and setting.max_num_seqs <= 32 for setting in tried)


def test_flags_name_what_differs() -> None:
    assert START.flags(START) == []
    other = Setting(64, 2048, prefix_caching=False, speculative="ngram:8")
    assert " ".join(other.flags(START)) == (
        "--engine-arg max_num_seqs=64 --engine-arg enable_prefix_caching=false --speculative ngram:8"
    )


def test_time_is_shared_equally_at_every_moment() -> None:
    now = iter([0.0, 1.0, 3.0, 7.0, 8.0, 20.0, 21.0])
    shares = TimeShares(lambda: next(now))
    shares.enter("a")  # at 1
    shares.enter("b")  # at 3
    assert shares.leave("a") == pytest.approx(2 + 4 / 2)  # at 7
    assert shares.leave("b") == pytest.approx(4 / 2 + 1)  # at 8
    shares.enter("c")  # at 20: nobody was there since 8
    assert shares.leave("c") == pytest.approx(1)


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_shares_add_up_to_the_time_in_which_anybody_was_there(seed: int, names: int) -> None:
    draw = random.Random(seed)
    clock = 0.0
    shares = TimeShares(lambda: clock)
    waiting, there = list(range(names)), []
    busy = given = 0.0
    while waiting or there:
        passed = draw.random()
        busy += passed if there else 0.0
        clock += passed
        if waiting and (not there or draw.random() < 0.5):
            there.append(waiting.pop())
            shares.enter(there[-1])
        else:
            given += shares.leave(there.pop(draw.randrange(len(there))))
    assert given == pytest.approx(busy)


def test_prediction_of_equal_costs_has_no_error() -> None:
    found = predict([Cost(2, 1.0)] * 10, 14_400)
    assert (found.documents_per_hour.low, found.documents_per_hour.high) == (7200, 7200)
    assert found.engine_hours is not None
    assert found.engine_hours.value == 2


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=60), st.integers(0, 9))
def test_the_range_holds_the_figure_and_a_seed_repeats_it(seconds: list[float], seed: int) -> None:
    costs = [Cost(1, found) for found in seconds]
    found = predict(costs, None, seed=seed)
    speed = found.documents_per_hour
    assert speed.low <= speed.value * (1 + 1e-9)
    assert speed.value <= speed.high * (1 + 1e-9)
    assert speed.value == pytest.approx(3600 * len(seconds) / sum(seconds))
    assert found == predict(costs, None, seed=seed)
    assert found.engine_hours is None


def test_the_error_bar_is_about_that_of_the_mean() -> None:
    draw = random.Random(1)
    costs = [Cost(1, draw.expovariate(1)) for _ in range(400)]
    hours = predict(costs, 3600).engine_hours
    assert hours is not None
    assert 0.7 < (hours.high - hours.low) / (2 * 1.96 * 0.05) < 1.3  # standard error of the mean: 1 / sqrt(400)


def test_a_sample_is_made_of_whole_chains_in_random_order() -> None:
    rows = [{"id": str(n), "text": f"text {n}"} for n in range(1000)]
    drawn = sample(rows, 3, 30, seed=0)
    assert [len(group) for group in drawn] == [3] * 10
    starts = [int(group[0].id) for group in drawn]
    assert all(start % 3 == 0 for start in starts)
    assert all([int(d.id) for d in group] == list(range(s, s + 3)) for group, s in zip(drawn, starts, strict=True))
    assert starts != sorted(starts)
    assert drawn == sample(iter(rows), 3, 30, seed=0) != sample(rows, 3, 30, seed=1)
    assert len(sample(rows[:7], 3, 30, seed=0)) == 3


def order(groups: int = 12, **more: float) -> Order:
    made = tuple((Document(f"{n}a", f"Text {n}."), Document(f"{n}b", f"Text {n}, too.")) for n in range(groups))
    return Order(CONFIG, EngineConfig("scripted"), made, **more)


def ticking() -> Iterator[float]:
    time = 0.0
    while True:
        time += 1.0
        yield time


def test_a_trial_counts_every_document_and_all_of_the_time() -> None:
    engine = ScriptedEngine(max_in_flight=4)
    clock = ticking()
    run = measure(Loaded.of(CONFIG, engine), order(), lambda: next(clock))
    assert run.complete
    assert [cost.documents for cost in run.costs] == [2] * 12
    assert len(run.results) == 24
    assert run.seconds - 4 < sum(cost.seconds for cost in run.costs) <= run.seconds


def test_a_trial_stops_handing_over_and_gives_up() -> None:
    engine = ScriptedEngine(max_in_flight=4)
    clock = ticking()
    run = measure(Loaded.of(CONFIG, engine), order(50, feed_seconds=20), lambda: next(clock))
    assert run.complete
    assert 1 < len(run.costs) < 50
    assert sum(cost.documents for cost in run.costs) == len(run.results)
    clock = ticking()
    run = measure(Loaded.of(CONFIG, engine), order(50, give_up_seconds=20), lambda: next(clock))
    assert not run.complete
    assert len(run.results) < 100


def test_an_order_travels_as_json() -> None:
    sent = replace(order(3, feed_seconds=2.5), engine=speculating(EngineConfig("vllm", {"max_num_seqs": 8}), "ngram"))
    assert Order.from_dict(json.loads(json.dumps(sent.to_dict()))) == sent


def said(document: Document, *responses: str, truncated: int = 0) -> tuple[Document, Synthesized]:
    pairs = tuple(Pair(f"What of {document.id}?", response) for response in responses)
    return document, Synthesized(pairs, Synthesis(Status.OK, "chain", 0, truncated=truncated))


TIDES, LAMPS = Document("1", "Tides rise."), Document("2", "Lamps burn.")


def test_the_same_pairs_agree_in_any_order() -> None:
    first = Fingerprint.of([said(TIDES, "Tides.", "Rise."), said(LAMPS, "Lamps.")])
    again = Fingerprint.of([said(LAMPS, "Lamps."), said(TIDES, "Rise.", "Tides.", "Tides rise.")])
    assert agreement(first, first) == agreement(first, again) == 1
    assert agreement(again, first) == 3 / 4


def test_other_pairs_disagree_and_so_do_pairs_of_another_document() -> None:
    first = Fingerprint.of([said(TIDES, "Tides.", "Tides.", "Rise."), said(LAMPS, "Lamps.")])
    assert agreement(first, Fingerprint.of([said(TIDES, "Tides.", "Fall."), said(LAMPS, "Lamps.")])) == 2 / 4
    assert agreement(first, Fingerprint()) == 0
    assert agreement(Fingerprint(), first) is None
    pair = (Pair("What?", "Tides."),)
    moved = [Fingerprint.of([(one, Synthesized(pair, Synthesis(Status.OK, "c", 0)))]) for one in (TIDES, LAMPS)]
    assert agreement(*moved) == 0


def test_grounding_is_the_mean_of_pairs_in_what_the_model_saw() -> None:
    assert Fingerprint.of([said(TIDES, "Tides rise.", "Lamps.", "Rise."), said(LAMPS)]).grounding == 2 / 3
    assert Fingerprint.of([said(TIDES, "Tides rise.", truncated=len(" rise."))]).grounding == 1 / 2
    assert Fingerprint.of([said(LAMPS)]).grounding is None


def test_a_trial_keeps_each_answer_with_its_document() -> None:
    engine = ScriptedEngine(max_in_flight=4)
    run = measure(Loaded.of(CONFIG, engine), order())
    expected = sorted(document.id for group in order().groups for document in group)
    assert sorted(document.id for document, _ in run.answers) == expected
    kept = Fingerprint.of(run.answers)
    assert len(set(kept.digests)) == sum(len(result.pairs) for result in run.results) >= 24
    again = Fingerprint.of(measure(Loaded.of(CONFIG, ScriptedEngine(max_in_flight=1)), order()).answers)
    assert agreement(kept, again) == 1


def test_an_outcome_travels_as_json() -> None:
    kept = Fingerprint.of([said(TIDES, "Tides.")])
    outcome = Outcome((Cost(1, 2.0),), True, 2.0, 1.0, 1, 9, 9, 0, {"max_num_seqs": 4}, 0.5, kept)
    assert Outcome.from_dict(json.loads(json.dumps(asdict(outcome)))) == outcome


class Bench:
    """Stands for the machine: every setting has a speed, or fails; in each precision there are other pairs.

    In `fp8` the second document of every two has another pair, and `refused` is the message of those that fail.
    """

    def __init__(
        self, speed_of: Callable[[dict[str, object]], float | None], refused: Mapping[str, str] | None = None
    ) -> None:
        self.speed_of = speed_of
        self.refused = refused or {}
        self.orders: list[Order] = []

    def fingerprint(self, order: Order) -> Fingerprint:
        other = "Nothing of it." if order.config.precision == "fp8" else "Tides."
        documents = [document for group in order.groups for document in group]
        return Fingerprint.of(said(one, other if at % 2 else "Tides.") for at, one in enumerate(documents))

    def __call__(self, order: Order, seconds: float) -> Outcome:
        self.orders.append(order)
        if order.config.precision in self.refused:
            raise TrialFailed(self.refused[order.config.precision])
        speed = self.speed_of(order.engine.arguments)
        if speed is None:
            raise TrialFailed("out of memory")
        speed *= 2 if order.config.precision == "fp8" else 1
        number = len(order.groups)
        costs = tuple(Cost(len(group), len(group) / speed) for group in order.groups)
        complete = order.give_up_seconds is None or number * 2 / speed <= order.give_up_seconds
        settings = {"max_num_seqs": 32, "max_num_batched_tokens": 2048}
        total = sum(cost.seconds for cost in costs)
        ended = costs if complete else ()
        return Outcome(ended, complete, total, 1.0, 5, 400, 1000, 250, settings, None, self.fingerprint(order))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"Tides and lamps, number {n}."}) + "\n" for n in range(500)))
    return path


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model").mkdir()
    return str(tmp_path / "model")


def test_the_whole_search(texts: Path, model: str) -> None:
    bench = Bench(lambda a: None if a.get("max_num_seqs") == 64 else 3.0 if "speculative_config" in a else 1.0)
    told: list[object] = []
    config = hfsynth.SynthesizerConfig(model, shots=2)
    found = hfsynth.tune(hfsynth.Source(str(texts)), config, documents=300, on_trial=told.append, run=bench)
    assert found.flags == ["--speculative", "ngram"]
    assert found.best.speed == pytest.approx(3.0)
    assert found.documents == 300
    assert found.prediction.documents == 500
    assert found.prediction.engine_hours is not None
    assert found.prediction.engine_hours.value == pytest.approx(500 / 3 / 3600)
    assert all(order.groups == bench.orders[0].groups for order in bench.orders)
    assert "failed: out of memory" in [trial.note for trial in found.trials]
    assert told[0] is None
    assert told[2::2] == [trial.setting for trial in found.trials[1:]]
    assert json.loads(json.dumps(found.to_dict()))["engine_arguments"]["max_num_seqs"] == 32
    assert not found.ran_out


def test_no_trial_is_begun_when_the_time_is_up(texts: Path, model: str) -> None:
    found = tune(Source(str(texts)), SynthesizerConfig(model), minutes=1e-9, run=Bench(lambda a: 1.0))
    assert len(found.trials) == 1
    assert found.ran_out
    assert "--minutes" in conclusion(found)[-1]


def test_a_first_trial_that_fails_is_an_error(texts: Path, model: str) -> None:
    with pytest.raises(TrialFailed, match="out of memory"):
        tune(Source(str(texts)), SynthesizerConfig(model), run=Bench(lambda a: None))


def test_only_vllm_is_tuned_and_only_on_text(texts: Path, tmp_path: Path, model: str) -> None:
    with pytest.raises(ConfigError, match="vllm"):
        tune(Source(str(texts)), CONFIG, engine=EngineConfig("scripted"))
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": " "}\n')
    with pytest.raises(SourceError, match="no text"):
        tune(Source(str(empty)), SynthesizerConfig(model), run=Bench(lambda a: 1.0))


def test_the_table_and_what_to_do(texts: Path, model: str) -> None:
    bench = Bench(lambda a: 2.0 if a.get("max_num_seqs") == 64 else 1.0)
    found = tune(Source(str(texts)), SynthesizerConfig(model), documents=200, run=bench)
    assert table(found).row_count == len(found.trials)
    row = cells(found.best, found.trials[0], best=True)
    assert row == ["64 sequences, 2,048 tokens a step", "7,200", "2.00", "4", "75%", "–", "fastest"]
    lines = conclusion(found)
    assert lines[0].endswith("--engine-arg max_num_seqs=64")
    assert "7,200 (7,200 to 7,200) documents an hour" in lines[1]
    assert "0.07 (0.07 to 0.07) engine-hours for all 500 documents" in lines[2]
    slower = next(trial for trial in found.trials if trial.note)
    assert cells(slower, found.trials[0], best=False)[-1] == "slower, given up"


def test_an_engines_message_is_no_markup(texts: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = tune(Source(str(texts)), SynthesizerConfig(model), minutes=1e-9, run=Bench(lambda a: 1.0))
    failed = replace(found.trials[0], outcome=None, note="failed: [/dev/shm] is full")
    cli_tune._show(replace(found, trials=(*found.trials, failed)))
    assert failed.note in capsys.readouterr().out


def compared(texts: Path, model: str, bench: Bench, precisions: list[str] | None, **more: object) -> Tuning:
    """Tune with 40 documents and the precisions that are named."""
    return tune(Source(str(texts)), SynthesizerConfig(model), documents=40, precisions=precisions, run=bench, **more)


def faster(arguments: dict[str, object]) -> float:
    return 2.0 if "speculative_config" in arguments else 1.0


def test_other_precisions_run_last_with_the_best_setting_and_are_never_the_best(texts: Path, model: str) -> None:
    bench, told = Bench(faster), []
    found = compared(texts, model, bench, ["fp8", "fp32", "bf16", "fp8"], on_trial=told.append)
    assert found.precision == "fp32"
    assert [other.precision for other in found.others] == ["fp8", "bf16"]
    assert [order.config.precision for order in bench.orders] == ["fp32"] * len(found.trials) + ["fp8", "bf16"]
    assert bench.orders[-1].engine.arguments.items() >= found.best.setting.arguments().items()
    assert bench.orders[-1].groups == bench.orders[1].groups
    assert bench.orders[-1].give_up_seconds is None
    assert told[-4:] == ["fp8", found.others[0].trial, "bf16", found.others[1].trial]
    assert found.flags == ["--speculative", "ngram"]
    assert found.best in found.trials
    assert found.prediction.documents_per_hour.value == pytest.approx(7200)
    assert found == replace(compared(texts, model, Bench(faster), []), others=found.others)


def test_other_precisions_are_compared_in_a_table_and_in_json(texts: Path, model: str) -> None:
    found = compared(texts, model, Bench(faster), ["fp8", "bf16"])
    assert [precision_cells(found, other) for other in found.others] == [
        ["fp8", "14,400", "2.00", "50%", "0.50", ""],
        ["bf16", "7,200", "1.00", "100%", "1.00", ""],
    ]
    assert precision_table(found).row_count == 3
    values = json.loads(json.dumps(found.to_dict()))
    assert values["precision"] == "fp32"
    assert values["own_agreement"] == 1
    assert values["precisions"][0] == {
        "precision": "fp8",
        "note": "",
        "documents_per_second": pytest.approx(4),
        "of_the_best": pytest.approx(2),
        "agreement": 0.5,
        "grounding": 0.5,
        "grounding_of_the_best": 1,
    }
    assert "fingerprint" not in values["trials"][0]["outcome"]


def test_a_precision_that_fails_is_shown_with_its_reason(
    texts: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {"fp8-kv": "No kernel for [/fp8] here."}
    found = compared(texts, model, Bench(faster, refused), ["fp8-kv", "fp8"])
    note = "failed: No kernel for [/fp8] here."
    assert precision_cells(found, found.others[0]) == ["fp8-kv", "–", "–", "–", "–", note]
    assert found.others[1].trial.speed == pytest.approx(4)
    failed = found.to_dict()["precisions"][0]
    assert (failed["note"], failed["of_the_best"], failed["agreement"]) == (note, None, None)
    cli_tune._show(found)
    shown = capsys.readouterr().out
    assert note in shown
    assert "none of them is in the flags" in shown


def test_no_precision_is_tried_when_the_time_is_up(texts: Path, model: str) -> None:
    bench = Bench(faster)
    found = compared(texts, model, bench, ["fp8"], minutes=1e-9)
    assert [order.config.precision for order in bench.orders] == ["fp32"]
    assert precision_cells(found, found.others[0])[-1].startswith("not tried: the time was up")
    assert found.own_agreement is None


@pytest.mark.parametrize(("gpu", "names"), [(True, ["fp8", "fp8-kv"]), (False, [])])
def test_on_a_gpu_the_fast_precisions_are_tried(
    texts: Path, model: str, gpu: bool, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "engine_has_gpu", lambda: gpu)
    assert [other.precision for other in compared(texts, model, Bench(faster), None).others] == names
    assert compared(texts, model, Bench(faster), []).others == ()


def test_precisions_are_named_with_commas_between_them() -> None:
    assert cli_tune._names(None) is None
    assert cli_tune._names("none") == []
    assert cli_tune._names("bf16, fp8") == ["bf16", "fp8"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 2, "--model"),
        (["--model", "embedded", "--minutes", "0"], 2, "minutes"),
        (["--model", "embedded", "--precisions", "bf16,int4"], 2, "fp8-kv, not 'int4'"),
        (["--model", "embedded", "--precisions", "auto"], 2, "not 'auto'"),
        (["--model", "embedded", "--engine-arg", "max_model_len=5"], 2, "--window"),
        (["--model", "nobody/no-model"], 1, "nobody/no-model"),
    ],
)
def test_bad_input_is_explained(
    texts: Path,
    options: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["hfsynth", "tune", str(texts), *options])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == code
    assert words in capsys.readouterr().err


@needs_vllm
@pytest.mark.usefixtures("warm_children")
def test_a_real_trial_with_guessing(tiny_llama: Path, texts: Path) -> None:
    rows = [json.loads(line) | {"id": str(number)} for number, line in enumerate(texts.read_text().splitlines())]
    config = SynthesizerConfig(str(tiny_llama), shots=2, sampling=Sampling(max_tokens=24), long_documents="split")
    engine = EngineConfig("vllm", {"max_num_seqs": 4, "disable_log_stats": False})
    outcome = run_trial(Order(config, speculating(engine, "ngram"), sample(rows, 2, 12, 0)), 300)
    assert outcome.complete
    assert outcome.documents == 12
    assert outcome.settings["max_num_seqs"] == 4
    assert outcome.acceptance is not None
    assert 0 < outcome.acceptance <= 1
    assert 0 < sum(cost.seconds for cost in outcome.costs) <= outcome.seconds


def test_a_trial_whose_process_is_refused_says_why(tmp_path: Path) -> None:
    sent = Order(SynthesizerConfig("no.such:script"), EngineConfig("scripted"), order().groups)
    with pytest.raises(TrialFailed, match="no.such"):
        run_trial(sent, 60)


def test_a_trial_tells_of_its_pairs_from_its_process() -> None:
    told = run_trial(order(), 300)
    engine = ScriptedEngine()
    here = Fingerprint.of(measure(Loaded.of(CONFIG, engine), order()).answers)
    assert len(told.fingerprint.digests) == told.pairs > 0
    assert agreement(here, told.fingerprint) == 1
    assert told.fingerprint.grounding == pytest.approx(here.grounding)


def test_a_trial_that_takes_too_long_is_ended() -> None:
    slow = replace(order(), engine=EngineConfig("scripted", {"latency": 60}))
    with pytest.raises(TrialFailed, match="not done after"):
        run_trial(slow, 4)
