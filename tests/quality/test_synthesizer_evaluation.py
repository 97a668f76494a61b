"""A synthesizer judged on gold data: exact figures with scripted engines, and the real vLLM once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import needs_vllm
from scripts import shown_documents

from hfsynth.cli import app
from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ColumnError, ConfigError, SourceError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.prompt_recipes import Prompt, PromptRecipe
from hfsynth.core.records import Pair
from hfsynth.documents.examples import Example
from hfsynth.engine.protocol import Completion
from hfsynth.models.resolve import folder_revision
from hfsynth.prompting.parsing import render_pairs
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import write_card
from hfsynth.quality.gold_scoring import cases
from hfsynth.quality.synthesizer_evaluation import evaluate_synthesizer, evaluation_place, save_evaluation

SCRIPTED = EngineConfig("scripted")
CAPITALS = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Peru": "Lima", "Kenya": "Nairobi"}


def row(country: str, source: str = "capitals") -> dict[str, Any]:
    pairs = [
        {"instruction": f"Which city governs {country}?", "response": CAPITALS[country]},
        {"instruction": f"Where does {country} lie?", "response": "on Earth"},
    ]
    return {"context": f"{CAPITALS[country]} is the capital of {country}.", "pairs": pairs, "source": source}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    return written(tmp_path / "gold.parquet", [row(country) for country in CAPITALS])


def knowing(prompt: str) -> str:
    """Answer as the gold pairs do once an example has been shown; else half right, and one pair of two, twice."""
    *shown, document = shown_documents(prompt)
    capital, country = document.split()[0], document.split()[-1].rstrip(".")
    first, second = (Pair(pair["instruction"], pair["response"]) for pair in row(country)["pairs"])
    if prompt.endswith("<ANS>"):
        governs = prompt.rpartition("<QUE>")[2].strip().startswith("Which")
        full = f" {capital if governs else 'on Earth'} </END>\n\n<QUE> And then?"
        return full if shown else f" {capital} or so, on Earth" if governs else " nowhere </END>"
    return render_pairs([first, second]) if shown else render_pairs([first, first])


def config(script: str, **settings: Any) -> SynthesizerConfig:  # noqa: ANN401
    return SynthesizerConfig(f"test_synthesizer_evaluation:{script}", sampling=Sampling(max_tokens=400), **settings)


def judged(script: str, gold: object, **settings: Any) -> dict[str, Any]:  # noqa: ANN401
    return evaluate_synthesizer(config(script), {"unseen": str(gold)}, engine=SCRIPTED, **settings)


def test_the_figures_are_those_computed_by_hand(gold: Path) -> None:
    values = judged("knowing", gold, shots=(0, 2))
    zero, few = (values["results"]["unseen"][shots]["all"] for shots in ("0", "2"))
    # "Paris or so, on Earth" shares 1 token of 5 with "Paris": 2 * 1 / 6; "nowhere" none with "on Earth"
    assert zero["response_accuracy"]["f1"] == pytest.approx({"mean": 1 / 6, "low": 1 / 6, "high": 1 / 6})
    assert zero["response_accuracy"]["exact_match"]["mean"] == 0
    assert zero["response_accuracy"]["answers"] == 10
    # one generated pair, the same as one of two gold ones; the second is a duplicate
    means = {name: interval["mean"] for name, interval in zero["pair_quality"].items()}
    assert means == pytest.approx({"f1": 2 / 3, "precision": 1, "recall": 1 / 2})
    assert zero["with_pairs"]["mean"] == zero["pairs_per_document"]["mean"] == 1
    assert zero["grounding"] == zero["fully_grounded"] == {"mean": 1, "low": 1, "high": 1}
    assert (zero["duplicates"], zero["rejected"]) == (0.5, {"duplicate_question": 5})
    assert few["response_accuracy"]["f1"]["mean"] == few["response_accuracy"]["exact_match"]["mean"] == 1
    assert few["pair_quality"]["f1"]["mean"] == 1
    # "Paris" is in the document, "Earth" is not
    assert few["grounding"]["mean"] == few["fully_grounded"]["mean"] == 0.5
    assert (few["pairs_per_document"]["mean"], few["duplicates"], few["rejected"]) == (2, 0, {})
    assert (few["documents"], few["too_long"], few["failed"], few["fewer_shots"]) == (5, 0, 0, 0)


def test_figures_are_given_by_source_and_as_the_plain_mean_of_sources(tmp_path: Path) -> None:
    rows = [row("France", "right"), *(row(country, "wrong") for country in ("Spain", "Italy", "Peru"))]
    found = judged("partial", written(tmp_path / "gold.parquet", rows), shots=[0])["results"]["unseen"]["0"]
    assert {name: part["pair_quality"]["f1"]["mean"] for name, part in found["sources"].items()} == {
        "right": 1,
        "wrong": 0,
    }
    assert found["all"]["pair_quality"]["f1"]["mean"] == found["all"]["with_pairs"]["mean"] == 0.25
    assert found["all"]["pair_quality"]["f1"]["low"] == 0
    assert 0.75 <= found["all"]["pair_quality"]["f1"]["high"] <= 1  # one of four documents
    assert found["sources"]["right"]["pair_quality"]["f1"] == {"mean": 1, "low": None, "high": None}  # one document
    assert found["macro"]["pair_quality"] == {"f1": 0.5}
    assert found["macro"]["sources"] == 2
    assert found["all"]["rejected"] == {"no_question": 3}


def partial(prompt: str) -> str:
    """Write the gold pairs about France, ramble about others."""
    return knowing(f"<s> <CON> x </CON>\n\n{prompt}") if "France" in prompt else "Let me think."


def test_the_recipe_and_the_data_are_named_without_their_folders(gold: Path) -> None:
    values = judged("knowing", gold, shots=[0], limit=2, seed=5)
    assert values["gold"] == {"unseen": {"data": "gold.parquet", "documents": 5, "left_out": {}}}
    assert (values["limit"], values["seed"], values["shots"]) == (2, 5, [0])
    assert values["synthesizer"]["sampling"]["max_tokens"] == 400
    assert str(gold.parent) not in json.dumps(values)


def test_the_same_seed_gives_the_same_figures_in_whatever_order_answers_come(gold: Path) -> None:
    first = judged("knowing", gold, shots=(0, 1), limit=3)
    slow = EngineConfig("scripted", {"latency": 0.002, "max_in_flight": 3})
    assert evaluate_synthesizer(config("knowing"), {"unseen": gold}, engine=slow, shots=(1, 0), limit=3) == first


def asking_of(numbers: range, **settings: Any) -> dict[tuple[int, int], list[str]]:  # noqa: ANN401
    """Return the documents that are shown before each, by shots and number, for examples `text NUMBER`."""
    examples = [Example(f"s{n % 2}", f"text {n}" + " long" * n, (Pair("q", "a"),)) for n in numbers]
    return {
        (case.shots, case.number): [turn.document for turn in case.history]
        for case in cases("gold", examples, **{"shots": [0, 3], "limit": None, "seed": 0, **settings})
    }


def number_of(document: str) -> int:
    return int(document.split()[1])


def test_shots_are_short_examples_of_the_same_source_and_never_the_document_itself() -> None:
    drawn = asking_of(range(60))
    assert all(drawn[0, number] == [] for number in range(60))
    for number in range(60):
        shown = [number_of(document) for document in drawn[3, number]]
        assert len(set(shown)) == 3
        assert number not in shown
        assert {other % 2 for other in shown} == {number % 2}
        assert max(shown) < 16, "only short ones are shown: a quarter of 30 examples a source"
        assert shown == sorted(shown), "the longest comes last"
    assert asking_of(range(60)) == drawn
    assert asking_of(range(60), seed=1) != drawn


def test_a_document_is_not_shown_before_itself_under_another_number() -> None:
    examples = [Example("s", "the same", (Pair("q", "a"),))] * 3 + [Example("s", "other", (Pair("q", "a"),))]
    shown = [case.history for case in cases("gold", examples, shots=[2], limit=None, seed=0)]
    assert [[turn.document for turn in turns] for turns in shown] == [["other"]] * 3 + [["the same"] * 2]


def test_the_limit_bounds_each_source_and_both_numbers_of_shots_see_the_same_documents() -> None:
    drawn = asking_of(range(40), limit=4)
    chosen = {shots: {number for asked, number in drawn if asked == shots} for shots in (0, 3)}
    assert chosen[0] == chosen[3]
    assert [sum(number % 2 == source for number in chosen[0]) for source in (0, 1)] == [4, 4]


def test_a_short_window_shows_fewer_examples_and_leaves_out_what_never_fits(tmp_path: Path) -> None:
    rows = [row(country) for country in ("France", "Spain", "Italy")]
    rows.append({**row("Peru"), "context": "Lima " * 200 + "Peru."})
    gold = written(tmp_path / "gold.parquet", rows)
    values = evaluate_synthesizer(config("knowing", window=650), {"unseen": gold}, engine=SCRIPTED, shots=[0, 2])
    zero, few = (values["results"]["unseen"][shots]["all"] for shots in ("0", "2"))
    assert (zero["documents"], zero["too_long"], zero["fewer_shots"]) == (4, 3, 0)  # the document and its questions
    assert (few["documents"], few["too_long"], few["fewer_shots"]) == (4, 3, 3)
    assert zero["pairs_per_document"]["mean"] == 1
    assert few["pairs_per_document"]["mean"] == 2


def test_exemplars_are_shown_before_every_document_and_the_pairs_are_described(gold: Path, tmp_path: Path) -> None:
    others = [row("France"), {**row("Kenya"), "context": "Mombasa is no capital of Kenya."}]
    exemplars = Exemplars(str(written(tmp_path / "tasks.parquet", others)))
    asked = config("knowing", exemplars=exemplars)
    values = evaluate_synthesizer(asked, {"unseen": gold}, engine=SCRIPTED, shots=[0])
    found = values["results"]["unseen"]["0"]["all"]
    assert found["pair_quality"]["f1"]["mean"] > 0.8, "the script writes the gold pairs once it is shown an example"
    assert found["pairs_per_document"]["mean"] > 1.5
    assert found["tasks"] == {"where": 1}
    assert found["language_mismatch"]["mean"] in (0, None)
    told = values["synthesizer"]["exemplars"]
    assert (told["source"], told["chosen"], len(told["digest"])) == ("tasks.parquet", 2, 32)
    without = judged("knowing", gold, shots=[0])
    assert "exemplars" not in without["synthesizer"]
    assert without["results"]["unseen"]["0"]["all"]["pair_quality"]["f1"]["mean"] == pytest.approx(2 / 3)


def test_exemplars_that_do_not_fit_are_counted_as_fewer_shots(gold: Path, tmp_path: Path) -> None:
    exemplars = Exemplars(str(written(tmp_path / "tasks.parquet", [{**row("Peru"), "context": "Lima " * 400}])))
    asked = config("knowing", window=900, exemplars=exemplars)
    found = evaluate_synthesizer(asked, {"unseen": gold}, engine=SCRIPTED, shots=[0])["results"]["unseen"]["0"]["all"]
    assert (found["documents"], found["fewer_shots"], found["too_long"]) == (5, 5, 0)


def refusing(prompt: str) -> str | Completion:
    """Refuse whatever is about Spain."""
    return Completion("", "error", error="no") if "Spain" in shown_documents(prompt)[-1] else knowing(prompt)


def test_what_fails_in_the_engine_is_counted_and_in_no_mean(gold: Path) -> None:
    found = judged("refusing", gold, shots=[1])["results"]["unseen"]["1"]["all"]
    assert found["failed"] == 3
    assert found["response_accuracy"]["answers"] == 8
    assert found["pair_quality"]["f1"]["mean"] == found["response_accuracy"]["f1"]["mean"] == 1


def dumb(prompt: str) -> Completion:
    """Fail always."""
    return Completion("", "error")


def test_figures_of_nothing_are_none(gold: Path) -> None:
    found = judged("dumb", gold, shots=[0])["results"]["unseen"]["0"]
    assert found["all"]["pair_quality"]["f1"] == {"mean": None, "low": None, "high": None}
    assert found["macro"]["response_accuracy"]["f1"] is found["all"]["duplicates"] is None


def test_rows_without_a_context_or_pairs_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [
        row("France"),
        {**row("Spain"), "context": None},
        {**row("Italy"), "pairs": []},
        {**row("Peru"), "pairs": None},
    ]
    values = judged("knowing", written(tmp_path / "gold.parquet", rows), shots=[0])
    assert values["gold"]["unseen"]["left_out"] == {"no_context": 1, "no_pairs": 2}
    assert values["results"]["unseen"]["0"]["all"]["documents"] == 1


def test_the_chat_format_is_judged_through_its_own_prompts(gold: Path) -> None:
    chatty = SynthesizerConfig("test_synthesizer_evaluation:chatting", prompt_format="chat")
    found = evaluate_synthesizer(chatty, {"gold": gold}, engine=SCRIPTED, shots=[1])["results"]["gold"]["1"]["all"]
    assert found["response_accuracy"]["exact_match"]["mean"] == 0.5
    assert found["pair_quality"]["f1"]["mean"] == 1


def test_what_a_model_thinks_is_neither_pair_nor_answer(gold: Path) -> None:
    def figures(script: str, thinking: str) -> dict[str, Any]:
        asked = SynthesizerConfig(f"test_synthesizer_evaluation:{script}", prompt_format="chat", thinking=thinking)
        found = evaluate_synthesizer(asked, {"gold": gold}, engine=SCRIPTED, shots=[0])
        assert found["synthesizer"].get("thinking", "off") == thinking
        one: dict[str, Any] = found["results"]["gold"]["0"]["all"]
        return {name: one[name] for name in ("response_accuracy", "pair_quality", "with_pairs", "rejected")}

    assert figures("thinking_aloud", "on") == figures("thinking_aloud", "budget 50") == figures("chatting", "off")
    assert figures("musing", "on")["with_pairs"]["mean"] == 0


def thinking_aloud(prompt: str) -> str:
    return f"<think>On Earth, I think.</think>\n{chatting(prompt)}"


def musing(prompt: str) -> str:
    return f"<think>{chatting(prompt)}"


def chatting(prompt: str) -> str:
    """Write the gold pairs as JSON; know where everything lies, but no capital."""
    if not prompt.startswith("<s>system"):
        return "On Earth."
    country = prompt.rpartition(".</s>")[0].split()[-1]
    return json.dumps({"pairs": row(country)["pairs"]})


SOME = Prompt("some", "Ask about {{ document }}", when=("words<=6",), words_a_pair=3)


def test_a_prompt_recipe_decides_how_pairs_are_asked_for(gold: Path, tmp_path: Path) -> None:
    long = {**row("Kenya"), "context": "Nairobi, as is well known, is the capital of Kenya."}
    both = written(tmp_path / "both.parquet", [*(row(one) for one in ("France", "Peru")), long])
    asked = SynthesizerConfig(
        "test_synthesizer_evaluation:asked", prompt_format="chat", prompt=PromptRecipe("mine", (SOME,))
    )
    values = evaluate_synthesizer(asked, {"gold": both}, engine=SCRIPTED, shots=[0, 1])
    for found in (values["results"]["gold"][shots]["all"] for shots in ("0", "1")):
        assert (found["documents"], found["no_prompt"], found["too_long"]) == (3, 1, 0)
        assert (found["pair_quality"]["f1"]["mean"], found["pairs_per_document"]["mean"]) == (1, 2)
        assert found["response_accuracy"]["exact_match"]["mean"] == 0.5, "answers are asked for without the recipe"
    assert values["synthesizer"]["prompt"] == {"name": "mine", "digest": asked.prompt.digest if asked.prompt else ""}
    plain = evaluate_synthesizer(replace(asked, prompt=None), {"gold": both}, engine=SCRIPTED, shots=[0])
    assert "prompt" not in plain["synthesizer"] and plain["results"]["gold"]["0"]["all"]["no_prompt"] == 0


def asked(prompt: str) -> str:
    """Write the gold pairs as JSON where a recipe asks for them."""
    last = prompt.rpartition("<s>user: ")[2].partition("</s>")[0]
    if not (last.startswith("Ask about ") and '"pairs", of 2 pairs' in last):
        return "On Earth."
    return json.dumps({"pairs": row(last.partition(".\n")[0].split()[-1])["pairs"]})


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        (PromptRecipe("mine", (SOME, replace(SOME, name="poem", returns="text"))), "poem asks for a text"),
        (PromptRecipe("mine", (Prompt("a", "{{ persona }}"),), persona_column="who"), "the column 'who'"),
    ],
)
def test_prompts_that_gold_data_cannot_judge_are_refused(gold: Path, prompts: PromptRecipe, words: str) -> None:
    chatty = SynthesizerConfig("test_synthesizer_evaluation:chatting", prompt_format="chat", prompt=prompts)
    with pytest.raises(ConfigError, match=words):
        evaluate_synthesizer(chatty, {"gold": gold}, engine=SCRIPTED)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"gold": {}}, ConfigError, "no gold data"),
        ({"shots": []}, ConfigError, "shots"),
        ({"shots": [-1]}, ConfigError, "shots"),
        ({"limit": 0}, ConfigError, "limit"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    gold: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    settings: dict[str, Any] = {"gold": {"gold": gold}, "engine": SCRIPTED, **change}
    with pytest.raises(error, match=words):
        evaluate_synthesizer(config("knowing"), settings.pop("gold"), **settings)


def test_gold_data_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="context"):
        judged("knowing", written(tmp_path / "texts.parquet", [{"text": "a"}]))
    with pytest.raises(SourceError):
        judged("knowing", tmp_path / "nowhere.parquet")


def test_the_model_card_shows_the_table(gold: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_text("weights")
    place = evaluation_place(str(folder))
    assert place == folder / "evaluation.json"
    assert evaluation_place("user/model") is None
    save_evaluation(judged("knowing", gold, shots=(0, 2), limit=4), place)
    text = write_card(folder, CardSettings(license="mit"), kind="model").path.read_text("utf-8")
    assert "| unseen | zero-shot | 4 | 16.7 (16.7–16.7) | 66.7 (66.7–66.7) | 100% | 1.0 | 50% |\n" in text
    assert "| unseen | 2-shot | 4 | 100.0 (100.0–100.0) | 100.0 (100.0–100.0) | 100% | 2.0 | 0% |\n" in text
    assert "| `capitals` | unseen | 2-shot | 4 | 100.0 (100.0–100.0) | 100.0 (100.0–100.0) |\n" in text
    assert "unseen is `gold.parquet` (5 documents), of each source at most 4." in text
    save_evaluation(judged("dumb", gold, shots=[0]), place)
    text = write_card(folder, CardSettings(), kind="model").path.read_text("utf-8")
    assert "| unseen | zero-shot | 5 | – | – | – | – | – |\n" in text


def test_judging_a_model_does_not_make_it_another_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_text("weights")
    before = folder_revision(tmp_path)
    (tmp_path / "README.md").write_text("A model.")
    save_evaluation({"results": {}}, tmp_path / "evaluation.json")
    assert folder_revision(tmp_path) == before
    (tmp_path / "adapter_config.json").write_text("{}")
    assert folder_revision(tmp_path) != before


@needs_vllm
def test_a_real_model_is_judged(tiny_llama: Path, gold: Path) -> None:
    model = SynthesizerConfig(str(tiny_llama), sampling=Sampling(max_tokens=8))
    engine = EngineConfig("vllm", {"max_num_seqs": 4})
    told: list[tuple[int, int]] = []
    values = evaluate_synthesizer(
        model, {"seen": gold}, engine=engine, shots=[0, 1], on_progress=lambda *count: told.append(count)
    )
    found = values["results"]["seen"]["1"]["all"]
    assert told == [
        (number, 30) for number in range(1, 31)
    ]  # five documents, for each pairs and two answers, with and without a shot
    assert (found["documents"], found["response_accuracy"]["answers"], found["failed"]) == (5, 10, 0)
    assert found["output_tokens"] > 0
    assert values["synthesizer"]["model"] == tiny_llama.name


Run = Callable[..., int]


@pytest.fixture
def run() -> Run:
    def run(*args: object) -> int:
        argv, sys.argv = sys.argv, ["hfsynth", "evaluate", *map(str, args)]
        try:
            app.main()
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            sys.argv = argv
        return 0

    return run


KNOWING = ["--model", "test_synthesizer_evaluation:knowing", "--engine", "scripted"]


def test_the_command_prints_the_table_and_writes_the_file(
    run: Run, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "evaluation.json"
    assert run(*KNOWING, "--seen", gold, "--unseen", gold, "--shots", 0, "--shots", 2, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "seen: all documents" in shown
    assert "16.7 (16.7–16.7)" in shown
    assert "100.0 (100.0–100.0)" in shown
    assert "zero-shot" in shown
    assert "2-shot" in shown
    assert "capitals" in shown
    assert run(*KNOWING, "--seen", gold, "--unseen", gold, "--shots", 2, "--shots", 0, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
    asking = ("--model", "test_synthesizer_evaluation:asked", "--engine", "scripted", "--prompt", "faq")
    assert run(*asking, "--gold", gold, "--shots", 0, "--json") == 0
    told = json.loads(capsys.readouterr().out)["synthesizer"]
    assert (told["prompt"]["name"], told["prompt_format"]) == ("faq", "chat")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--model"),
        (KNOWING, "--unseen FILE"),
        ([*KNOWING, "--unseen", "nowhere.parquet"], "nowhere.parquet"),
        ([*KNOWING, "--unseen", "{gold}", "--max-tokens", 65536], "--max-tokens"),
        ([*KNOWING, "--unseen", "{gold}", "--engine-arg", "x"], "key=value"),
        ([*KNOWING, "--unseen", "{gold}", "--prompt", "tutorial"], "tutorial asks for a text"),
        ([*KNOWING, "--unseen", "{gold}", "--prompt", "tutorials"], "did you mean tutorial"),
        ([*KNOWING, "--unseen", "{gold}", "--prompt", "qa", "--prompt-format", "instruction-pretrain"], "chat models"),
        ([*KNOWING, "--unseen", "{gold}", "--thinking", "on"], "--prompt-format chat"),
        ([*KNOWING, "--unseen", "{gold}", "--prompt-format", "chat", "--thinking", "aloud"], "budget 512"),
        (["corpus/", "--thinking", "on"], "they need --model"),
    ],
)
def test_bad_input_is_explained(
    run: Run, gold: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], words: str
) -> None:
    assert run(*(str(argument).format(gold=gold) for argument in arguments)) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
