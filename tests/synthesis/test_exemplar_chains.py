"""Chains that begin with exemplars: prompts to the token, the budget of the window, neighbours, jobs and transforms."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import needs_vllm
from hypothesis import given
from hypothesis import strategies as st
from scripts import quoting, shown_documents

from hfsynth.core.config import EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.exemplars import Exemplar, Exemplars, digest_of, public_recipe
from hfsynth.core.records import Counts, Document, Pair, Synthesized, Turn, chain_id
from hfsynth.documents.source import Source
from hfsynth.engine.protocol import Completion, Request
from hfsynth.engine.scripted import CharacterTokenizer, ScriptedEngine
from hfsynth.job.progress import describe, inspect
from hfsynth.job.run import synthesize
from hfsynth.models.tokenizers import ModelTokenizer
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.publishing.card import recipe_card
from hfsynth.synthesis.chains import Chainer, Splitter, chainer_for
from hfsynth.synthesis.exemplars import Beginnings, neighbours, settle
from hfsynth.synthesis.loading import load
from hfsynth.synthesis.synthesizer import Synthesizer

TOKENIZER = CharacterTokenizer()
FIRST = "<s> <CON> Text a. </CON>\n\n<QUE> Qa? <ANS> Aa </END></s>"
SECOND = "<s> <CON> Text b. </CON>\n\n<QUE> Qb? <ANS> Ab </END></s>"


def exemplar(name: str, kind: str = "who") -> Exemplar:
    return Exemplar(name, f"Text {name}.", (Pair(f"Q{name}?", f"A{name}"),), kind)


def recipe(*names: str, per_prompt: int = 2, **settings: Any) -> SynthesizerConfig:  # noqa: ANN401
    chosen = tuple(map(exemplar, names))
    exemplars = Exemplars("tasks.jsonl", per_prompt=per_prompt, chosen=chosen, digest=digest_of(chosen))
    return SynthesizerConfig("scripted", exemplars=exemplars, **settings)


def chainer(config: SynthesizerConfig, window: int = 65_536) -> Chainer:
    return chainer_for(config, ScriptedEngine(quoting, window=window))


def astuples(turns: Iterable[Turn]) -> list[object]:
    return [(turn.document, turn.pairs) for turn in turns]


def play(chains: Chainer, *texts: str) -> tuple[list[str], list[Synthesized]]:
    """Run one chain; return its prompts and results."""
    asked: list[Request] = []
    chain = chains.chain([Document(f"d{number}", text) for number, text in enumerate(texts)])
    try:
        asked.append(next(chain))
        while True:
            asked.append(chain.send(Completion(quoting(TOKENIZER.decode(asked[-1].token_ids)), "stop")))
    except StopIteration as end:
        return [TOKENIZER.decode(request.token_ids) for request in asked], end.value


def test_every_shot_shows_the_exemplars_before_the_first_document() -> None:
    prompts, results = play(chainer(recipe("a", "b", shots=2)), "one", "two")
    assert prompts[0] == f"{FIRST}{SECOND}<s> <CON> one </CON>\n\n"
    assert prompts[1].startswith(f"{prompts[0]}<QUE>") and prompts[1].endswith("<s> <CON> two </CON>\n\n")
    assert [result.synthesis.exemplars for result in results] == [("a", "b"), ("a", "b")]
    assert [result.synthesis.follows for result in results] == [False, True]
    assert Counts.of(results).fewer_exemplars == 0


def test_the_ids_of_exemplars_are_known_before_the_first_chain_and_those_of_the_whole_text(tiny_llama: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    prompts = InstructionPretrain(ModelTokenizer(PreTrainedTokenizerFast.from_pretrained(tiny_llama)))
    begun = Beginnings.of(recipe("a", "b"), prompts, 2048).each[0]
    assert begun.known is not None and {*begun.known} == {*("Text a.", "Text b."), *astuples(begun.turns)}
    for shown in (1, 2):
        known = {**begun.known, **prompts.foresee(["one"])}
        assert prompts.prompt(begun.turns[:shown], "one", known) == prompts.prompt(begun.turns[:shown], "one")
        assert len(known) == 5


def test_exemplars_that_do_not_fit_beside_a_document_are_fewer_and_counted() -> None:
    room = len(FIRST) + len("<s> <CON>  </CON>\n\n") + 30
    chains = chainer(recipe("a", "b", sampling=Sampling(max_tokens=10)), window=room + 10)
    found = {length: play(chains, "x" * length) for length in (20, 60, 200)}
    assert [results[0].synthesis.exemplars for _, results in found.values()] == [("a",), (), ()]
    assert [results[0].synthesis.exemplars_left_out for _, results in found.values()] == [1, 2, 0]
    assert [results[0].synthesis.status for _, results in found.values()] == ["ok", "ok", "too_long"]
    assert sum(Counts.of(results).fewer_exemplars for _, results in found.values()) == 2


def test_the_history_is_given_up_before_an_exemplar_is() -> None:
    asked = len(f"{FIRST}{SECOND}<s> <CON> {'x' * 40} </CON>\n\n")
    chains = chainer(recipe("a", "b", shots=2, sampling=Sampling(max_tokens=10)), window=asked + 20)
    prompts, results = play(chains, "one", "x" * 40)
    assert shown_documents(prompts[1]) == ["Text a.", "Text b.", "x" * 40]
    assert (results[1].synthesis.follows, results[1].synthesis.exemplars) == (False, ("a", "b"))


def test_exemplars_for_which_no_prompt_has_room_are_a_plain_error() -> None:
    with pytest.raises(ConfigError, match=r"shortest of the exemplars takes \d+ tokens.*room for 50"):
        chainer(recipe("a", "b", sampling=Sampling(max_tokens=10)), window=60)


def test_pieces_of_long_documents_leave_room_for_exemplars() -> None:
    chains = chainer(recipe("a", "b", sampling=Sampling(max_tokens=10)), window=400)
    row = {"id": "d", "text": " ".join(f"Sentence {n} is here." for n in range(60))}
    pieces = list(Splitter.of(chains).pieces(row))
    assert "".join(piece["text"] for piece in pieces).split() == row["text"].split()
    for piece in pieces:
        _, (result,) = play(chains, piece["text"])
        assert result.synthesis.exemplars == ("a", "b")


def test_a_document_is_not_its_own_exemplar() -> None:
    prompts, results = play(chainer(recipe("a", "b")), "Text b.")
    assert shown_documents(prompts[0]) == ["Text a.", "Text b."]
    assert (results[0].synthesis.exemplars, results[0].synthesis.exemplars_left_out) == (("a",), 0)


def test_rules_have_no_prompt_to_show_exemplars_in() -> None:
    with pytest.raises(ConfigError, match="no prompt to show exemplars in"):
        Synthesizer("mined", exemplars=recipe("a", "b").exemplars)


@given(st.lists(st.integers(0, 5), max_size=400), st.integers(1, 2_000_000))
def test_neighbours_have_one_key_and_nothing_is_lost(keys: list[int], size: int) -> None:
    items = list(enumerate(keys))
    found = list(neighbours(items, lambda item: item[1], lambda item: size))
    assert sorted(found) == items
    if size == 1:
        for window in (found[:64], found[64:192], found[192:]):
            changes = sum(one[1] != other[1] for one, other in zip(window, window[1:], strict=False))
            assert changes <= max(0, len({key for _, key in window}) - 1)


def test_neighbours_begin_soon() -> None:
    def endless() -> Any:  # noqa: ANN401
        for number in range(10**6):
            taken.append(number)
            yield number

    taken: list[int] = []
    next(iter(neighbours(endless(), lambda number: number % 2, lambda number: 1)))
    assert len(taken) == 64


@needs_vllm
def test_the_engine_finds_exemplars_in_its_cache_from_the_second_chain_on(tiny_llama: Path) -> None:
    engine = EngineConfig("vllm", {"max_num_seqs": 2, "block_size": 32, "num_gpu_blocks_override": 64})
    chosen = tuple(replace(exemplar(name, name), context=f"Text {name} is long. " * 40) for name in "abcd")
    exemplars = Exemplars("tasks.jsonl", chosen=chosen, digest=digest_of(chosen))
    sampling = Sampling(max_tokens=4)
    config = settle(SynthesizerConfig(str(tiny_llama), sampling=sampling, window=1024, exemplars=exemplars), engine)
    loaded = load(config, engine)
    chainer = loaded.chainer
    tokens = [len(chainer.prompts.prompt(begun.turns, "")) - chainer.overhead for begun in chainer.beginnings.each]
    assert sum(tokens) > 64 * 32 / 2, "the cache holds few of the sets at once"
    groups = [[Document(f"d{number}", f"Lamp {number} burns.")] for number in range(40)]
    order = neighbours(groups, chainer.beginnings.number, lambda group: 1)
    by_set: dict[str, list[int]] = {}
    for (result,) in loaded.engine.run(map(chainer.chain, order), loaded.generation):
        by_set.setdefault(result.synthesis.exemplars[0], []).append(result.synthesis.cached_tokens)
    assert {*by_set} == {*"abcd"}
    shares = [min(one, of) / of for name, of in zip("abcd", tokens, strict=True) for one in sorted(by_set[name])[1:]]
    assert sum(shares) / len(shares) >= 0.9


# --- whole roads ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [
        {
            "id": f"{kind}{number}",
            "context": f"Exemplar {kind} {number} tells of rivers.",
            "pairs": [{"instruction": f"{kind} is it {number}?", "response": f"Because {number}."}],
            "task": kind,
            "lang": "en",
        }
        for kind in ("why", "who")
        for number in range(3)
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": f"Lighthouse {number} is tall."}) + "\n" for number in range(100)))
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(sorted((folder / "pairs").glob("*.parquet"))).to_pylist()
    return rows


def test_a_job_names_the_exemplars_of_each_row_and_of_the_recipe(tasks: Path, documents: Path, tmp_path: Path) -> None:
    config, out = SynthesizerConfig("scripts:quoting", shots=2), tmp_path / "corpus"
    result = synthesize(Source(str(documents)), out, config, exemplars=str(tasks), engine=EngineConfig("scripted"))
    rows = rows_of(out)
    assert [row["text"] for row in rows] == [f"Lighthouse {number} is tall." for number in range(100)]
    made = json.loads((out / "synthesizer_config.json").read_text())["exemplars"]
    assert (made["source"], made["per_prompt"], len(made["chosen"])) == ("tasks.jsonl", 1, 6)
    assert {row["synthesis"]["exemplars"][0] for row in rows} == {one["id"] for one in made["chosen"]}
    by_chain = Counter((row["synthesis"]["chain"], *row["synthesis"]["exemplars"]) for row in rows)
    assert {*by_chain.values()} == {2}
    assert result.stats["fewer_exemplars"] == 0
    assert "Exemplars  1 a chain, from tasks.jsonl\n" in describe(inspect(out))
    assert rows[0]["synthesis"]["chain"] == chain_id([rows[0]["id"], rows[1]["id"]])


def test_a_transform_makes_the_same_rows_as_a_job_in_any_batches(tasks: Path, documents: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    out = tmp_path / "corpus"
    config = SynthesizerConfig("scripts:quoting", shots=2)
    synthesize(Source(str(documents)), out, config, exemplars=str(tasks), engine=EngineConfig("scripted"))
    ds = load_dataset("json", data_files=str(documents), split="train")
    transform = Synthesizer("scripts:quoting", shots=2, exemplars=str(tasks), engine="scripted")
    told = [(row["pairs"], {**row["synthesis"], "recipe": ""}) for row in rows_of(out)]
    for size in (10, 100):
        rows = ds.map(transform, batched=True, batch_size=size, load_from_cache_file=False).to_list()
        assert [(row["pairs"], {**row["synthesis"], "recipe": ""}) for row in rows] == told


def test_other_exemplars_are_another_job(tasks: Path, documents: Path, tmp_path: Path) -> None:
    def run(**settings: Any) -> bool:  # noqa: ANN401
        made = synthesize(
            Source(str(documents)),
            tmp_path / "corpus",
            SynthesizerConfig("scripted"),
            engine=EngineConfig("scripted"),
            **settings,
        )
        return made.worked

    assert run(exemplars=str(tasks))
    assert not run(exemplars=str(tasks))
    with pytest.raises(OutputError, match="another recipe: synthesizer.exemplars is"):
        run()
    with pytest.raises(OutputError, match="synthesizer.exemplars.sets is 8 there and 1 here"):
        run(exemplars=Exemplars(str(tasks), sets=1))
    tasks.write_text(tasks.read_text().replace("rivers", "hills"))
    with pytest.raises(OutputError, match="synthesizer.exemplars.digest is") as told:
        run(exemplars=str(tasks))
    assert "hills" not in str(told.value)


def test_a_chat_model_is_shown_exemplars_as_earlier_turns() -> None:
    chains = chainer(replace(recipe("a", "b"), prompt_format="chat"))
    request = next(chains.chain([Document("d", "one")]))
    _, *turns = TOKENIZER.decode(request.token_ids).split("<s>user: ")
    assert [turn.split("</s>")[0] for turn in turns] == ["Text a.", "Text b.", "one"]
    assert ['"Qa?"' in turns[0], '"Qb?"' in turns[1]] == [True, True]


def test_a_published_recipe_says_what_chains_begin_with() -> None:
    text = recipe_card(public_recipe({**recipe("a", "b").to_dict(), "hfsynth_version": "1"}), "me/recipe", None).text()
    assert "| chains begin with | 2 of the exemplars from `tasks.jsonl`, human-made" in text
