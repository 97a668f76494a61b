"""The benchmarks: what they count is exact, every one is run by `make bench`, and the ones without a model run."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from conftest import needs_vllm
from started import run_process, start_process
from warm_python import VLLM

from hfsynth.core.records import Document, Pair
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.tuning.trial import Cost, Outcome
from hfsynth.models.cache import has_random_weights
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.synthesis.chains import Chainer

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("common", "gpu_engine", "run"))
pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.fixture
def common() -> ModuleType:
    return script("common")


def called(name: str, *arguments: object) -> None:
    """Run a benchmark in this process."""
    argv, sys.argv = sys.argv, [f"{name}.py", *map(str, arguments)]
    try:
        script(name).main()
    finally:
        sys.argv = argv


def test_every_benchmark_is_run_and_described() -> None:
    assert sorted({one.script or one.name for one in script("run").BENCHMARKS}) == SCRIPTS
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert [name for name in SCRIPTS if f"benchmarks/{name}.py" not in readme] == []


def test_options_go_to_the_benchmarks_that_have_them() -> None:
    run = script("run")
    given = run.options().parse_args(["--full", "--load-format", "dummy", "--reference", "there"])
    told = {one.name: list(run.arguments(one, given)) for one in run.BENCHMARKS}
    assert told["generating"] == ["--full", "--load-format", "dummy"]
    assert told["reference"] == ["--full", "--load-format", "dummy", "--reference", "there"]
    assert told["scale"] == ["--full"]
    assert told["overhead"] == []
    assert told["overhead_real"] == ["--model", "embedded", "--shots", "2", "--documents", "64"]
    other = run.options().parse_args(["--model", "other"])
    real = next(one for one in run.BENCHMARKS if one.name == "overhead_real")
    assert run.arguments(real, other)[-2:] == ["--model", "other"]
    nothing = run.options().parse_args(["scale"])
    assert list(run.arguments(run.BENCHMARKS[0], nothing)) == []
    assert nothing.names == ["scale"]


def test_what_needs_data_of_ones_own_is_skipped_without_it() -> None:
    run = script("run")
    asked = run.options().parse_args(["verifying"])
    (one,) = (one for one in run.BENCHMARKS if one.name == "verifying")
    if importlib.util.find_spec("vllm") is not None:
        assert run.outcome(one, asked) == {
            "benchmark": "verifying",
            "outcome": "skipped",
            "seconds": "",
            "why": "without --gold",
        }
    given = run.options().parse_args(["--gold", "there.parquet"])
    assert list(run.arguments(one, given)) == ["--gold", "there.parquet"]


def test_a_way_is_compared_document_by_document() -> None:
    candidates = script("candidates")
    runs = [{"f1": [0.5, 0.5], "pairs": 3.0, "tokens": 10.0}, {"f1": [0.0, 1.0], "pairs": 2.0, "tokens": 20.0}]
    plain = [{"f1": [0.5, 0.25], "pairs": 1.0, "tokens": 5.0}, {"f1": [0.0, 0.25], "pairs": 1.0, "tokens": 5.0}]
    row = candidates.compared("best", runs, plain)
    assert row == {
        "way": "best",
        "f1": 0.5,
        "more": 0.25,
        "95%": 0.3465,
        "pairs a document": 2.5,
        "computed tokens": 15.0,
    }


def test_pairs_are_kept_by_a_threshold_or_by_halves() -> None:
    verifying = script("verifying")
    pairs = [(match, {"accuracy": match, "relevance": None}) for match in (0.1, 0.4, 0.6, 0.9)]
    kept = dict(verifying.kept_by(pairs))
    assert kept["all"] == [0.1, 0.4, 0.6, 0.9]
    assert kept["accuracy>=0.5"] == [0.6, 0.9] and sorted(kept["better half by accuracy"]) == [0.6, 0.9]
    assert kept["relevance>=0.5"] == [] == kept["better half by relevance"]
    rows = {row["kept if"]: row for row in verifying.rows_of(0, pairs)}
    assert (rows["all"]["match"], rows["accuracy>=0.5"]["more"], rows["relevance>=0.5"]["match"]) == (0.5, 0.5, None)


@pytest.mark.parametrize(
    "name", ["gpu", "generating", "naive_map", "speculative", "tuning", "pipeline", "reference", "scale"]
)
def test_help_tells_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        called(name, "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"python benchmarks/{name}.py" in shown
    assert "--full" in shown


def test_a_report_is_a_table_a_file_and_a_plot(
    common: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"way": "a", "speed": 1234.5}, {"way": "b", "speed": 0.12345}]
    report = common.Report("name", "A title", rows, {"ratio": 2.0}, ["A note."], {"a": 1234.5, "b": 0.1}, "things")
    common.publish(report, tmp_path / "results")
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("A title", "1,234", "0.123", "ratio: 2", "A note."))
    values = json.loads((tmp_path / "results" / "name.json").read_text())
    assert (values["rows"], values["ratio"]) == (rows, 2.0)
    assert {"cores", "gpu", "versions", "commit"} <= set(values["machine"])
    assert (tmp_path / "results" / "name.png").read_bytes().startswith(b"\x89PNG")


def test_the_front_ends_cost_is_what_vllm_does_not_take_itself() -> None:
    front_end = script("front_end")
    found = {way: front_end.Cost(total, total) for way, total in {"vllm": 3.0, "whole": 7.0, "once": 4.0}.items()}
    args = argparse.Namespace(documents=9, shots=3, sequences=4)
    assert list(front_end.report(args, found).figures.values()) == [0.25, 0.333]


def test_a_chain_is_replayed_with_the_requests_of_its_answers() -> None:
    front_end, engine = script("front_end"), ScriptedEngine()
    chainer = Chainer(InstructionPretrain(engine.tokenizer), window=10_000, max_tokens=100, shots=2)
    script("gpu_engine").Counting.answer = (Pair("What?", "That."),)
    (asked,) = front_end.requests(chainer, [Document("a", "One."), Document("b", "Two.")])
    assert [request.shot for request in asked] == [0, 1]
    assert "That." in engine.tokenizer.decode(asked[1].token_ids)
    assert list(front_end.replayed(asked)) == asked


def test_what_recipes_add_is_measured_with_prompts_as_long_as_those_of_chat(tmp_path: Path) -> None:
    prompts, engine = script("prompts"), ScriptedEngine()
    documents = prompts.made_documents(30)
    tokens = {
        name: prompts.tokens_of(config, engine, documents)
        for name, config in prompts.recipes(tmp_path, engine, documents).items()
    }
    assert list(tokens) == ["chat", "one", "two", "qa", "mixed"]
    assert abs(tokens["one"] - tokens["chat"]) <= 8 and abs(tokens["two"] - tokens["chat"]) <= 8
    assert tokens["qa"] > tokens["chat"]


def test_figures_are_shown_as_people_read_them(common: ModuleType) -> None:
    assert [common.shown(value) for value in (1_000_000, 12345.6, 0.5, None, "x", True)] == [
        "1,000,000",
        "12,346",
        "0.5",
        "–",
        "x",
        "True",
    ]


def test_without_a_gpu_no_speed_is_put_next_to_the_published_one(common: ModuleType) -> None:
    assert "No GPU here" in common.against_published(1000, 1.0, None)
    assert "0.50 of the published 11,600" in common.against_published(5800, 1.0, "H100")


def test_documents_have_no_common_prefix(common: ModuleType) -> None:
    documents = common.made_documents(common.EXAMPLES, 60)
    assert len({document.text[:12] for document in documents}) == 60
    longer = common.made_documents(common.EXAMPLES, 3, joined=2)
    assert [len(document.text) > len(one.text) for document, one in zip(longer, documents, strict=False)] == [True] * 3
    assert common.chosen(None, True, small=1, large=2) == 2
    assert common.chosen(5, True, small=1, large=2) == 5


def test_the_model_of_7b_parameters_is_one_that_transformers_knows(common: ModuleType, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = common.shaped(tmp_path, common.SEVEN_BILLION)
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("mistral", 32, 4096)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.encode("<s> text", add_special_tokens=False)[0] == config.bos_token_id
    assert len(tokenizer) <= config.vocab_size
    args = argparse.Namespace(load_format="dummy", model="embedded")
    model, engine = common.engine_of(args, max_num_seqs=3)
    assert has_random_weights(model)
    assert engine.arguments == {"max_num_seqs": 3}


def test_a_model_without_its_weights_is_what_its_folder_says_of_it(
    common: ModuleType, tiny_llama: Path, tmp_path: Path
) -> None:
    args = argparse.Namespace(load_format="dummy", model=str(tiny_llama))
    copy = Path(common.model_of(args))
    assert sorted(path.name for path in copy.iterdir() if path.suffix == ".safetensors") == []
    assert (copy / "tokenizer.json").read_bytes() == (tiny_llama / "tokenizer.json").read_bytes()
    assert has_random_weights(str(copy))
    assert not has_random_weights(str(tiny_llama))
    assert not has_random_weights("organisation/model")
    other, engine = common.engine_of(argparse.Namespace(load_format="fastsafetensors", model=str(tiny_llama)))
    assert (other, engine.arguments) == (str(tiny_llama), {"load_format": "fastsafetensors"})


def test_ways_take_turns_and_the_best_counts() -> None:
    order: list[str] = []
    ways = {name: lambda number, name=name: order.append(f"{name}{number}") for name in "ab"}
    best = script("generating").best_of(ways, 2, lambda: order.append("-"))
    assert order == ["-", "a0", "-", "b0", "-", "b1", "-", "a1"]
    assert set(best) == {"a", "b"}


def test_speculation_is_put_next_to_a_run_without() -> None:
    speculative = script("speculative")
    without = Outcome((Cost(1, 2.0),), True, 2.0, 1.0, 3, 100, 50, 0, {})
    with_it = Outcome((Cost(1, 1.0),), True, 1.0, 1.0, 3, 100, 50, 0, {}, 0.654)
    shown = speculative.row("ngram", with_it, without)
    assert (shown["of without"], shown["guesses kept"]) == (2.0, "65%")
    assert speculative.row("none", without, without)["guesses kept"] is None


def test_tuning_is_held_to_its_prediction() -> None:
    tuning = script("tuning")
    found = {
        "prediction": {"documents_per_hour": {"value": 100.0, "low": 80.0, "high": 120.0}},
        "trials": [{"documents_per_second": 0.02}, {"documents_per_second": None}, {"documents_per_second": 0.03}],
        "sample_documents": 24,
        "flags": ["--engine-arg", "max_num_seqs=16"],
    }
    report = tuning.compared(found, 110.0, 48)
    assert report.figures["real run of predicted"] == 1.1
    assert report.figures["inside the error bar"] is True
    assert report.figures["best setting of the first"] == 1.5
    assert tuning.compared(found, 130.0, 48).figures["inside the error bar"] is False
    given = ["--engine-arg", "max_num_seqs=8", "--engine-arg", "block_size=16"]
    assert tuning.without(given, found["flags"]) == ["--engine-arg", "block_size=16"]


def ticks() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 1.0


def test_a_part_has_its_own_time_only() -> None:
    now = ticks()
    inner = SimpleNamespace(hash=lambda: "digest")
    outer = SimpleNamespace(write=lambda: [inner.hash(), inner.hash()], numbers=lambda: (n for n in range(3)))
    clocks = script("pipeline").Clocks()
    for part, owner, name in (("hashing", inner, "hash"), ("writing", outer, "write"), ("reading", outer, "numbers")):
        clocks.watch(part, owner, name, lambda: next(now))
    assert outer.write() == ["digest", "digest"]
    assert clocks.seconds == {"hashing": 2.0, "writing": 3.0}
    assert list(outer.numbers()) == [0, 1, 2]
    assert clocks.seconds["reading"] == 1.0


def test_what_the_pipeline_is_watched_at_is_there() -> None:
    pipeline = script("pipeline")
    watched = [*pipeline.ENGINE, *pipeline.LOADING, *(one for part in pipeline.BESIDE.values() for one in part)]
    assert [name for owner, name in watched if not callable(getattr(owner, name, None))] == []


def test_without_a_checkout_the_reference_is_skipped_with_the_reason(tmp_path: Path) -> None:
    called("reference", "--results", tmp_path)
    assert "--reference" in json.loads((tmp_path / "reference.json").read_text())["skipped"]
    with pytest.raises(SystemExit, match="no checkout"):
        called("reference", "--results", tmp_path, "--reference", tmp_path)


class StandIn:
    """Does what the reference's functions promise, for `corpus_wide_rounds`: entries of each round, then texts."""

    def __init__(self, fails_in: int | None = None) -> None:
        self.rounds: list[list[str]] = []
        self._fails_in = fails_in

    def get_dataset(self, *, prev_examples: list[list[object]], cur_raw_texts: list[str], **_: int) -> list[object]:
        self.rounds.append(cur_raw_texts)
        return [[*before, text] for before, text in zip(prev_examples or [[]] * 9, cur_raw_texts, strict=False)]

    def run(self, split: list[list[str]], model: object, parameters: object) -> list[list[object]]:
        if len(self.rounds) - 1 == self._fails_in:
            raise AttributeError("'str' object has no attribute 'outputs'")
        return [[*earlier, {"context": text, "QA_list": [1, 2]}] for *earlier, text in split]

    def cook_pt_entries(self, *, read_collection: list[object], random_seed: int) -> list[str]:
        return ["text"] * len(read_collection)


def test_the_reference_is_driven_in_corpus_wide_rounds() -> None:
    drive = script("reference").corpus_wide_rounds
    reference, parameters = StandIn(), SimpleNamespace(max_tokens=8)
    entries, texts, pairs, note = drive(reference, None, parameters, list("abcdef"), shots=2, window=99)
    assert reference.rounds == [["a", "b", "c"], ["d", "e", "f"]]
    assert [len(entry) for entry in entries] == [2, 2, 2]
    assert (len(texts), pairs, note) == (6, 12, "")
    entries, texts, pairs, note = drive(StandIn(1), None, parameters, list("abcdef"), shots=2, window=99)
    assert (entries, texts, pairs) == ([], [], 0)
    assert "outputs" in note


def test_scale_runs_with_the_scripted_engine(tmp_path: Path) -> None:
    called("scale", "--documents", 200, "--results", tmp_path)
    values = json.loads((tmp_path / "scale.json").read_text())
    assert [row["documents"] for row in values["rows"]] == [200]
    assert values["rows"][0]["peak MiB"] > 10
    assert values["resume of a half-finished job, seconds"] > 0


@needs_vllm
def test_the_pipeline_is_measured_with_a_real_model(tiny_llama: Path, tmp_path: Path) -> None:
    options = ["--model", str(tiny_llama), "--documents", "4", "--max-tokens", "8", "--results", str(tmp_path)]
    run_process([sys.executable, FOLDER / "pipeline.py", *options], reads=VLLM, check=True)
    values = json.loads((tmp_path / "pipeline.json").read_text())
    seconds = {row["part"]: row["seconds"] for row in values["rows"]}
    assert set(seconds) == {"engine", "tokenising", "parsing", "rendering", "writing", "hashing"}
    assert all(found > 0 for found in seconds.values())
    assert 0 < values["engine share"] <= 1
    assert (tmp_path / "pipeline.png").is_file()


# --- on a GPU -------------------------------------------------------------------------------------------------------


def test_every_row_of_the_gpu_table_has_a_name_and_an_engine_is_loaded_once() -> None:
    gpu = script("gpu")
    rows = gpu.plan(gpu.SIZES, ("bf16", "fp8", "fp8-kv"))
    assert len({row.name for row in rows}) == len(rows)
    settings = [setting.name for setting, _ in itertools.groupby(rows, key=lambda row: row.setting)]
    assert settings == ["bf16", "fp8", "fp8-kv", "bf16 in-process"]
    assert {(row.way, row.shots) for row in rows} == {("generate", 1), ("job", 1), ("job", 2), ("job", 3), ("map", 3)}
    assert {row.size for row in rows} == {500, 1000, 2000}
    assert [row.name for row in rows if not row.detokenize] == ["bf16 generate 1000 ids-only"]
    args = argparse.Namespace(rows="fp8 job-3", tiny=False)
    assert [row.name for row in gpu.wanted(args)] == ["fp8 job-3 1000", "fp8 job-3 500"]


def test_rows_that_are_done_are_not_done_again(tmp_path: Path) -> None:
    gpu = script("gpu")
    kept = gpu.Rows(tmp_path / "gpu.jsonl", "this machine")
    kept.note("a", why="no time left")
    kept.note("b", seconds=1.0)
    gpu.Rows(tmp_path / "gpu.jsonl", "another machine").note("c", seconds=1.0)
    with (tmp_path / "gpu.jsonl").open("a") as file:
        file.write('{"row": "d", "seco')
    assert kept.done() == {"b"}
    kept.note("a", seconds=2.0)
    assert kept.done() == {"a", "b"}


def test_all_documents_of_a_size_are_as_many_and_make_whole_chains(tmp_path: Path) -> None:
    gpu, engine = script("gpu"), script("gpu_engine")
    kept = gpu.Rows(tmp_path / "gpu.jsonl", "x")
    assert engine.documents_for(1000, kept, None, 70) == 6
    assert engine.documents_for(1000, kept, 16_000.0, 70) == 1122
    kept.note("a", size=1000, documents=600, seconds=60.0)
    assert engine.documents_for(1000, kept, 16_000.0, 70) == 600


def test_rows_without_figures_say_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = script("gpu")
    stub = tmp_path / "measures_until_a_map.py"
    stub.write_text(
        "import json, os, sys\n"
        "asked = dict(one[2:].split('=', 1) for one in sys.argv[1:] if '=' in one)\n"
        "for name in asked['group'].split(';'):\n"
        "    assert ('in-process' in name) == (os.environ['VLLM_ENABLE_V1_MULTIPROCESSING'] == '0')\n"
        "    if 'map' in name or 'in-process' in name:\n"
        "        sys.exit(3)\n"
        "    with open(f\"{asked['results']}/gpu.jsonl\", 'a') as file:\n"
        "        file.write(json.dumps({'row': name, 'setup': 'x', 'seconds': 1.0}) + '\\n')\n"
    )
    monkeypatch.setattr(gpu, "ENGINE", stub)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    rows, kept = gpu.plan(gpu.SIZES, ("bf16",)), gpu.Rows(tmp_path / "gpu.jsonl", "x")
    shared = {"tiny": False, "setup": "x", "max_tokens": 1, "window": 9, "results": tmp_path}
    gpu.run_all(rows, kept, argparse.Namespace(**shared, minutes=0.5), "model")
    assert [found["why"] for found in kept.read().values()] == ["no time left"] * len(rows)
    gpu.run_all(rows, kept, argparse.Namespace(**shared, minutes=30), "model")
    failed = {name: found["why"] for name, found in kept.read().items() if "seconds" not in found}
    assert set(failed) == {row.name for row in rows if row.way == "map" or not row.setting.own_process}
    assert set(failed.values()) == {"ended with exit code 3"}


def test_a_row_is_compared_with_the_limit_of_its_engine_and_with_the_published_speed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = script("gpu")
    row = next(row for row in gpu.plan(gpu.SIZES, ("bf16",)) if row.name == "bf16 job-3 500")
    plain = {"documents": 6, "computed": 1, "written": 1, "cached_share": 0.5, "preemptions": 0, "utilisation": None}
    found = {
        "bf16 generate 500": {**plain, "seconds": 1.0, "raw": 20_000},
        row.name: {**plain, "seconds": 2.0, "raw": 30_000},
    }
    monkeypatch.setattr(gpu, "gpu_name", lambda: "H100")
    shown = gpu.table_row(row, found)
    assert (shown["raw/s"], shown["of generate"], round(shown["of published"], 3)) == (15_000, 0.75, 1.293)
    monkeypatch.setattr(gpu, "gpu_name", lambda: None)
    assert gpu.table_row(row, found)["of published"] is None
    assert gpu.table_row(row, {}) == {"row": row.name, "note": "not run"}
    written = gpu.markdown([row], found)
    assert written.splitlines()[0].startswith("| row | documents | seconds | raw/s |")
    assert written.splitlines()[2].startswith("| bf16 job-3 500 | 6 | 2 | 15,000 |")


def test_the_use_of_the_gpu_is_read_while_work_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = script("gpu_engine")
    asked, told = tmp_path / "asked", tmp_path / "told"
    os.mkfifo(told)
    (tmp_path / "nvidia-smi").write_text(
        "#!/bin/sh\n"
        'case "$*" in *utilization*) ;; *) echo H100; exit ;; esac\n'
        f'echo "$@" > {asked}; echo 90; echo 70; echo N/A; echo > {told}\n'
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    with engine.gpu_in_use() as used:
        told.read_text()  # it has said all
    assert used == [90.0, 70.0]
    assert "--id=3" in asked.read_text()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with engine.gpu_in_use() as used:
        pass
    assert used == []


def started_warm(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return start_process(command, reads=VLLM, env=env)


@needs_vllm
def test_the_gpu_table_is_made_without_a_gpu_and_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In-process rows alone: an engine process of its own takes 40 seconds longer to load."""
    processes = SimpleNamespace(Popen=started_warm, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(script("gpu"), "subprocess", processes)
    options = ["--tiny", "--results", tmp_path, "--rows", "in-process"]
    called("gpu", *options)
    first = capsys.readouterr().out
    assert "no GPU: a check of the script" in first
    rows = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines() if line]
    assert [row["row"] for row in rows] == ["fp32 in-process generate 100", "fp32 in-process job-3 100"]
    limit, job = rows
    assert job["raw"] == limit["raw"] > 500
    assert job["written"] == limit["written"] == 6 * 16
    assert job["computed"] > limit["computed"] > limit["raw"]  # the made-up answers, which chains show again
    assert job["cached_share"] > 0.2  # and chains do follow
    before = (tmp_path / "gpu.jsonl").read_text()
    called("gpu", *options)
    assert (tmp_path / "gpu.jsonl").read_text() == before
    assert capsys.readouterr().out == first
    assert "| fp32 in-process job-3 100 | 6 |" in (tmp_path / "gpu.md").read_text()


def test_the_checks_of_a_source_are_all_counted(tmp_path: Path) -> None:
    called("source_checks", "--documents", 200, "--results", tmp_path)
    found = json.loads((tmp_path / "source_checks.json").read_text())
    assert all(row["seconds"] > 0 for row in found["rows"]) and len(found["rows"]) == 3
    assert 0 < found["of_the_job"] < found["with_digests_of_rows"] < 1
