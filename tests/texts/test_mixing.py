"""Mixtures have exact shares, are interleaved evenly, come out the same every time, and count what they leave out."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from datasets import Dataset, DatasetDict, IterableDataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

import hfsynth
from hfsynth.core.errors import BudgetError, ColumnError, ConfigError, ModelError, OutputError, SourceError
from hfsynth.core.prompt_recipes import PromptRecipe
from hfsynth.core.records import content_id
from hfsynth.corpus.parquet import FEATURES, write_split
from hfsynth.models.tokenizers import TextTokenizer, load_tokenizer
from hfsynth.synthesis.prompts import open_prompt
from hfsynth.texts.layouts import Kind, Skip, layout_for, read_row
from hfsynth.texts.mixing import MixReport, mix_datasets, mix_rows, mix_splits
from hfsynth.texts.mixture_parts import Part
from hfsynth.texts.presets import PRESETS


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def word_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token a word: shares can be counted by eye."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="[UNK]")


@pytest.fixture(scope="module")
def words() -> TextTokenizer:
    return load_tokenizer(word_tokenizer())


def texts(name: str, lengths: list[int]) -> Dataset:
    return Dataset.from_dict(
        {
            "text": [" ".join([f"{name}{at}"] * length) for at, length in enumerate(lengths)],
            "id": [f"{name}{at}" for at in range(len(lengths))],
        }
    )


def general(count: int, words: int = 4) -> Dataset:
    return Dataset.from_dict(
        {
            "system": ["be nice"] * count,
            "question": [f"why {at} ?" for at in range(count)],
            "response": [" ".join(["so"] * (words - 3))] * count,
        }
    )


def part_of(report: MixReport, name: str) -> dict[str, object]:
    parts = report.to_dict()["parts"]
    assert isinstance(parts, tuple)
    return next(part for part in parts if part["name"] == name)


# --- shares ----------------------------------------------------------------------------------------------------------

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=30)


@settings(deadline=None, max_examples=40)
@given(LENGTHS, LENGTHS, st.integers(1, 99), st.integers(1, 400), st.integers(0, 5))
def test_a_budget_is_met_to_one_document_a_part(
    left: list[int], right: list[int], percent: int, budget: int, seed: int
) -> None:
    parts = [Part("a", texts("a", left), Kind.AUGMENTED, repeat=True), Part("b", texts("b", right), Kind.RAW)]
    ratios = {"a": percent / 100, "b": 1 - percent / 100}
    rows = mix_rows(parts, tokenizer=word_tokenizer(), seed=seed, budget_tokens=budget, ratios=ratios)
    if sum(right) < ratios["b"] * budget:
        with pytest.raises(BudgetError, match=rf"Part 'b' has {sum(right)} tokens in {len(right)} documents"):
            list(rows)
        return
    mixed = list(rows)
    for name, lengths in (("a", left), ("b", right)):
        got = sum(row["tokens"] for row in mixed if row["source"] == name)
        assert 0 <= got - ratios[name] * budget < max(lengths)
    assert all(row["tokens"] == len(row["text"].split()) for row in mixed)


@settings(deadline=None, max_examples=40)
@given(LENGTHS, LENGTHS, st.integers(5, 95))
def test_shares_alone_give_the_largest_mixture_in_which_no_part_runs_out(
    left: list[int], right: list[int], percent: int
) -> None:
    totals = {"a": sum(left), "b": sum(right)}
    ratios = {"a": percent / 100, "b": 1 - percent / 100}
    parts = [Part("a", texts("a", left), Kind.RAW), Part("b", texts("b", right), Kind.RAW)]
    rows = mix_rows(parts, tokenizer=word_tokenizer(), seed=3, ratios=ratios)
    mixed = list(rows)
    got = {name: sum(row["tokens"] for row in mixed if row["source"] == name) for name in totals}
    assert any(got[name] == totals[name] for name in totals)
    size = min(totals[name] / ratios[name] for name in totals)
    for name, lengths in (("a", left), ("b", right)):
        assert abs(got[name] - ratios[name] * size) <= max(lengths)
    assert len({row["text"] for row in mixed}) == len(mixed)


def test_every_prefix_has_nearly_the_right_shares(words: TextTokenizer) -> None:
    lengths = [1 + at * 7 % 13 for at in range(400)]
    parts = [Part(name, texts(name, lengths), Kind.RAW) for name in "abc"]
    ratios = [0.6, 0.3, 0.1]
    got = dict.fromkeys("abc", 0)
    for row in mix_rows(parts, tokenizer=words, seed=0, ratios=ratios):
        got[row["source"]] += row["tokens"]
        total = sum(got.values())
        for name, ratio in zip("abc", ratios, strict=True):
            assert abs(got[name] - ratio * total) <= 2 * max(lengths)


def test_a_part_repeats_in_another_order_and_is_counted(words: TextTokenizer) -> None:
    parts = [Part("a", texts("a", [5] * 40), Kind.RAW, repeat=True)]
    rows = mix_rows(parts, tokenizer=words, budget_tokens=500, ratios={"a": 1.0})
    mixed = [row["text"] for row in rows]
    assert sorted(mixed[:40]) == sorted(mixed[40:80])
    assert mixed[:40] != mixed[40:80]
    assert part_of(rows.report, "a") | {"documents": 100, "tokens": 500, "repeats": 60} == part_of(rows.report, "a")


def test_without_shares_every_part_is_used_whole_and_spread_evenly(words: TextTokenizer) -> None:
    parts = [Part("augmented", texts("a", [9] * 20), Kind.AUGMENTED), Part("raw", texts("r", [4] * 80), Kind.RAW)]
    rows = mix_rows(parts, tokenizer=words, preset="general-pretraining")
    mixed = [row["source"] for row in rows]
    assert mixed.count("augmented") == 20 and mixed.count("raw") == 80
    assert all(3 <= mixed[at : at + 20].count("augmented") <= 5 for at in range(0, 100, 20))
    assert part_of(rows.report, "raw")["share_asked"] is None
    assert part_of(rows.report, "raw")["share_got"] == pytest.approx(320 / 500)


def test_without_shares_a_budget_ends_the_mixture_or_is_refused(words: TextTokenizer) -> None:
    parts = [Part("a", texts("a", [5] * 20), Kind.AUGMENTED), Part("b", texts("b", [5] * 20), Kind.RAW)]
    assert sum(row["tokens"] for row in mix_rows(parts, tokenizer=words, budget_tokens=52)) == 55
    with pytest.raises(BudgetError, match="200 tokens together; 201 were asked"):
        list(mix_rows(parts, tokenizer=words, budget_tokens=201))


def test_weights_are_relative_shares(words: TextTokenizer) -> None:
    parts = [Part("a", texts("a", [5] * 90), Kind.RAW, 3), Part("b", texts("b", [5] * 90), Kind.RAW, 1)]
    rows = mix_rows(parts, tokenizer=words, budget_tokens=200)
    assert [row["source"] for row in rows].count("a") == 30
    assert part_of(rows.report, "b")["share_asked"] == 0.25


def test_the_domain_preset_is_one_to_one_by_tokens(words: TextTokenizer) -> None:
    parts = [
        Part("health", texts("h", [30] * 30), Kind.AUGMENTED),
        Part("finance", texts("f", [30] * 30), Kind.AUGMENTED),
        Part("instructions", general(500), Kind.GENERAL, repeat=True),
    ]
    rows = mix_rows(parts, tokenizer=words, preset="domain-adaptive")
    list(rows)
    shares = [rows.report.parts[at].share_got for at in range(3)]
    assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.02)
    assert PRESETS["domain-adaptive"].shots == 3 and PRESETS["general-pretraining"].converted == 0.2


# --- order and identity ----------------------------------------------------------------------------------------------


def test_the_seed_decides_the_order_and_the_parts_stay_as_they_are(words: TextTokenizer) -> None:
    data, instructions = texts("a", [5] * 50), general(50)
    before = data.to_dict(), instructions.to_dict()

    def texts_of(seed: int) -> list[str]:
        parts = [Part("a", data, Kind.RAW), Part("g", instructions, Kind.GENERAL)]
        return [row["text"] for row in mix_rows(parts, tokenizer=words, seed=seed, ratios=[0.5, 0.5])]

    assert texts_of(1) == texts_of(1) != texts_of(2)
    assert (data.to_dict(), instructions.to_dict()) == before


_OTHER_PROCESS = """
import sys; sys.path[:0] = sys.argv[1:]
from test_mixing import Kind, Part, general, mix_rows, texts, word_tokenizer
parts = [Part("a", texts("a", [3, 5, 8] * 20), Kind.RAW), Part("g", general(60), Kind.GENERAL)]
rows = mix_rows(parts, tokenizer=word_tokenizer(), seed=7, ratios=[0.3, 0.7])
print([row["text"] for row in rows]); print(rows.identity)
"""


def test_another_process_makes_the_same_mixture() -> None:
    command = [sys.executable, "-c", _OTHER_PROCESS, *map(str, Path(__file__).parents[:2])]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert "why 5 ? so" in runs[0]


def test_a_stream_gives_the_same_shares(words: TextTokenizer) -> None:
    parts = [
        Part("a", texts("a", [5] * 300).to_iterable_dataset(), Kind.RAW),
        Part("g", general(300).to_iterable_dataset(), Kind.GENERAL),
    ]
    rows = mix_rows(parts, tokenizer=words, ratios=[0.5, 0.5], budget_tokens=1000)
    mixed = list(rows)
    assert mixed == list(rows)
    assert [report.tokens for report in rows.report.parts] == [500, 500]


def test_a_stream_is_read_no_further_than_needed(words: TextTokenizer) -> None:
    read = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal read
        while True:
            read += 1
            yield {"text": f"row {read} of a stream that never ends"}

    part = Part("a", IterableDataset.from_generator(endless), Kind.RAW, weight=1)
    assert len(list(mix_rows([part], tokenizer=words, budget_tokens=80))) == 10
    assert read < 3000


# --- rows to text ----------------------------------------------------------------------------------------------------

USER, ASSISTANT, SYSTEM = ({"role": role} for role in ("user", "assistant", "system"))


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"question": "Why?", "response": "So.", "system": "Be nice."}, "Why? So."),
        ({"question": "Why?\n", "response": " So."}, "Why? So."),
        ({"question": None, "response": "So."}, Skip.NO_QUESTION),
        ({"question": "Why?", "response": None}, Skip.NO_RESPONSE),
        ({"question": "Why?", "response": " \n"}, Skip.NO_RESPONSE),
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, "Add.\n1 2 3"),
        ({"instruction": "Greet.", "input": "", "output": "Hi"}, "Greet. Hi"),
        ({"instruction": "Greet.", "output": "Hi"}, "Greet. Hi"),
        ({"messages": [SYSTEM | {"content": "s"}, USER | {"content": "q"}, ASSISTANT | {"content": "a"}]}, "q a"),
        (
            {
                "messages": [
                    USER | {"content": "q"},
                    USER | {"content": "r"},
                    ASSISTANT | {"content": "a"},
                    USER | {"content": "t"},
                    ASSISTANT | {"content": "b"},
                    USER | {"content": "unanswered"},
                ]
            },
            "q\nr a\n\nt b",
        ),
        ({"messages": [USER | {"content": "q"}]}, Skip.NO_RESPONSE),
        ({"messages": [USER | {"content": "q"}, ASSISTANT | {"content": None}]}, Skip.NO_RESPONSE),
        ({"messages": [ASSISTANT | {"content": "a"}]}, Skip.NO_QUESTION),
        ({"messages": []}, Skip.NO_RESPONSE),
        ({"messages": None}, Skip.NO_RESPONSE),
        ({"messages": [{"role": "tool", "content": "x"}]}, Skip.MALFORMED_MESSAGES),
        ({"messages": ["q", "a"]}, Skip.MALFORMED_MESSAGES),
        ({"text": "as it is\n"}, "as it is\n"),
        ({"text": "  "}, Skip.EMPTY_TEXT),
        ({"text": "half \ud800"}, Skip.INVALID_UNICODE),
    ],
)
def test_rows_become_text(row: dict[str, object], text: str) -> None:
    layout = layout_for(Kind.GENERAL, row, part="p")
    assert read_row(layout, row, 0) == text
    assert isinstance(read_row(layout, row, 0), Skip) == isinstance(text, Skip)


NASTY = st.text(min_size=1).filter(lambda text: text.strip() and text.isprintable())


@settings(deadline=None)
@given(NASTY, NASTY)
def test_all_layouts_say_the_same(question: str, response: str) -> None:
    rows: list[dict[str, object]] = [
        {"question": question, "response": response},
        {"instruction": question, "input": None, "output": response},
        {"messages": [USER | {"content": question}, ASSISTANT | {"content": response}]},
    ]
    read = {read_row(layout_for(Kind.GENERAL, row, part="p"), row, 0) for row in rows}
    assert read == {f"{question.strip()} {response.strip()}"}


def test_rows_say_where_they_come_from(words: TextTokenizer) -> None:
    rendered = Dataset.from_dict({"text": ["x y"], "source_ids": [["d1", "d2"]], "id": ["chain"]})
    numbered = Dataset.from_dict({"text": ["z"], "id": [7]})
    bare = general(1)
    parts = [Part("a", rendered, Kind.AUGMENTED), Part("b", numbered, Kind.RAW), Part("c", bare, Kind.GENERAL)]
    ids = {row["source"]: row["source_ids"] for row in mix_rows(parts, tokenizer=words)}
    assert ids == {"a": ["d1", "d2"], "b": ["7"], "c": [content_id("why 0 ? so")]}


def test_skipped_rows_are_counted_by_reason_once(words: TextTokenizer) -> None:
    data = Dataset.from_dict({"question": ["q", "", "q", None], "response": ["a b", "a", None, "a"]})
    rows = mix_rows([Part("g", data, Kind.GENERAL, repeat=True)], tokenizer=words, ratios=[1.0], budget_tokens=30)
    assert len(list(rows)) == 10
    assert part_of(rows.report, "g")["skipped"] == {"no_question": 2, "no_response": 1}


# --- bad input -------------------------------------------------------------------------------------------------------


def test_columns_of_no_known_layout_are_named(words: TextTokenizer) -> None:
    data = Dataset.from_dict({"prompt": ["q"], "completion": ["a"]})
    with pytest.raises(ColumnError, match=r"'g' has the columns prompt, completion; expected questions \(question, "):
        mix_rows([Part("g", data, Kind.GENERAL)], tokenizer=words)
    with pytest.raises(ColumnError, match="expected text"):
        mix_rows([Part("g", general(1), Kind.RAW)], tokenizer=words)


def test_a_column_of_another_type_is_named_with_its_row(words: TextTokenizer) -> None:
    rows = mix_rows([Part("n", Dataset.from_dict({"text": [1, 2]}), Kind.RAW)], tokenizer=words)
    with pytest.raises(ColumnError, match="'text' must hold strings; row 0 holds int"):
        list(rows)


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ([0.5, 0.6], "must sum to 1; 0.5, 0.6 sum to 1.1"),
        ({"a": 0.2, "b": 0.2}, "sum to 0.4"),
        ([0.0, 1.0], "above 0"),
        ([1.5, -0.5], "above 0"),
        ([float("nan"), 1.0], "above 0"),
        ([1.0], "one ratio for each of the parts a, b"),
        ([0.5, 0.25, 0.25], "one ratio for each"),
        ({"a": 0.5, "c": 0.5}, "one ratio for each"),
    ],
)
def test_ratios_that_cannot_work(words: TextTokenizer, ratios: list[float], message: str) -> None:
    parts = [Part(name, texts(name, [5]), Kind.RAW) for name in "ab"]
    with pytest.raises(ConfigError, match=message):
        mix_rows(parts, tokenizer=words, ratios=ratios)


def test_settings_that_cannot_work(words: TextTokenizer) -> None:
    one, two = Part("a", texts("a", [5]), Kind.RAW), Part("b", texts("b", [5]), Kind.RAW, weight=1)
    endless = Part("c", texts("c", [5]), Kind.RAW, weight=1, repeat=True)
    stream = Part("s", texts("s", [5]).to_iterable_dataset(), Kind.RAW)
    for parts, options, message in (
        ([], {}, "at least one part"),
        ([one, one], {}, "Two parts are named 'a'"),
        ([one, two], {}, "a has none"),
        ([Part("b", one.data, Kind.RAW, weight=0)], {}, "Weights must be above 0"),
        ([one], {"budget_tokens": 0}, "1 or more"),
        ([one], {"preset": "nonsense"}, "no preset 'nonsense'.*\n.*general-pretraining, domain-adaptive"),
        ([one], {"preset": "domain-adaptive"}, "mixes the kinds augmented, general; the parts are raw"),
        ([one], {"preset": "domain-adaptive", "ratios": [1.0]}, "not both"),
        ([endless], {}, "no end"),
        ([Part("c", one.data, Kind.RAW, repeat=True)], {}, "no share says how much"),
        ([one, stream], {}, "stream of unknown length"),
    ):
        with pytest.raises(ConfigError, match=message):
            mix_rows(parts, tokenizer=words, **options)


def test_a_part_must_be_a_dataset_of_a_known_kind() -> None:
    with pytest.raises(ConfigError, match="kind 'other'"):
        Part("a", texts("a", [1]), "other")
    with pytest.raises(SourceError, match="part 'a' must be a Dataset, .* got list"):
        Part("a", [{"text": "a"}], Kind.RAW)
    assert Part("a", texts("a", [1]), "raw").kind is Kind.RAW


# --- splits ----------------------------------------------------------------------------------------------------------


def augmented() -> DatasetDict:
    return DatasetDict({"train": texts("t", [5] * 20), "validation": texts("v", [5] * 6), "test": texts("e", [5] * 3)})


def test_every_split_is_mixed_from_the_parts_that_have_it() -> None:
    other = DatasetDict({"train": general(30), "validation": general(4), "dev": general(2)})
    parts = [
        Part("a", augmented(), Kind.AUGMENTED),
        Part("g", other, Kind.GENERAL),
        Part("r", texts("r", [3] * 90), "raw"),
    ]
    ratios = {"a": 0.4, "g": 0.4, "r": 0.2}
    mixture = mix_datasets(parts, tokenizer=word_tokenizer(), ratios=ratios, seed=1)
    assert isinstance(mixture.dataset, DatasetDict) and list(mixture.dataset) == ["train", "validation", "test"]
    sources = {name: set(rows["source"]) for name, rows in mixture.dataset.items()}
    assert sources == {"train": {"a", "g", "r"}, "validation": {"a", "g"}, "test": {"a"}}
    held = mixture.report.splits["validation"]
    assert [part.share_asked for part in held.parts] == [0.5, 0.5]
    assert abs(held.parts[0].tokens - held.parts[1].tokens) <= 5
    alone = [part for part in (part.of("train", main=True) for part in parts) if part]
    assert (
        mixture.dataset["train"][:] == mix_datasets(alone, tokenizer=word_tokenizer(), ratios=ratios, seed=1).dataset[:]
    )
    assert len(mixture.dataset["test"]) == 3


def test_the_report_of_splits_is_their_sum() -> None:
    parts = [Part("a", augmented(), Kind.AUGMENTED), Part("g", general(30), Kind.GENERAL)]
    mixture = mix_datasets(parts, tokenizer=word_tokenizer(), ratios=[0.5, 0.5])
    report = json.loads(json.dumps(mixture.report.to_dict()))
    rows = [row for split in mixture.dataset.values() for row in split]
    assert (report["documents"], report["tokens"]) == (len(rows), sum(row["tokens"] for row in rows))
    for part in report["parts"]:
        assert part["documents"] == sum(row["source"] == part["name"] for row in rows)
    assert sum(part["share_got"] for part in report["parts"]) == pytest.approx(1)
    assert {name: one["documents"] for name, one in report["splits"].items()} == {
        name: len(split) for name, split in mixture.dataset.items()
    }
    single = mix_datasets([Part("a", augmented()["train"], "raw")], tokenizer=word_tokenizer())
    assert "splits" not in single.report.to_dict() and isinstance(single.dataset, Dataset)


def test_held_out_splits_know_no_budget_and_do_not_repeat(words: TextTokenizer) -> None:
    parts = [Part("a", augmented(), Kind.AUGMENTED, repeat=True)]
    made = mix_splits(parts, tokenizer=words, ratios=[1.0], budget_tokens=300)
    counted = {name: sum(row["tokens"] for row in rows) for name, rows in made.items()}
    assert counted == {"train": 300, "validation": 30, "test": 15}
    assert made["train"].report.parts[0].repeats == 40


def test_splits_that_cannot_be_mixed_are_said(words: TextTokenizer, caplog: pytest.LogCaptureFixture) -> None:
    whole, other = Part("a", augmented(), "raw"), Part("b", {"sft": texts("b", [1])}, "raw")
    with pytest.raises(SourceError, match="Part 'b' has no split 'train'; it has sft"):
        mix_splits([whole, other], tokenizer=words)
    with pytest.raises(SourceError, match="Part 'a' has splits: train, validation, test"):
        mix_rows([whole], tokenizer=words)
    empty = DatasetDict({"train": texts("a", [1]), "validation": texts("a", [])})
    with caplog.at_level(logging.WARNING):
        assert list(mix_splits([Part("a", empty, "raw"), Part("b", augmented(), "raw")], tokenizer=words)) == [
            "train",
            "validation",
        ]
    assert "Of part 'b' the splits test are left out: the mixture has train, validation." in caplog.text


def test_a_part_with_nothing_usable_is_an_error_also_when_it_repeats(words: TextTokenizer) -> None:
    barren = Dataset.from_dict({"question": ["q", "q"], "response": ["", None]})
    full = Part("a", texts("a", [5] * 5), Kind.RAW)
    for repeat, options in ((True, {"ratios": [0.5, 0.5]}), (False, {})):
        parts = [full, Part("g", barren, Kind.GENERAL, repeat=repeat)]
        with pytest.raises(BudgetError, match=r"'g' has 0 tokens in 0 documents; some .*2 no_response"):
            list(mix_rows(parts, tokenizer=words, **options))


def test_a_tokenizer_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No tokenizer can be loaded"):
        load_tokenizer(tmp_path)


def test_texts_that_a_prompt_recipe_had_written_are_mixed_like_texts_with_pairs(words: TextTokenizer) -> None:
    """Words are tokens here: what the mixture counts of each text is what stands in it."""
    both = PromptRecipe("both", tuple(open_prompt(name).prompts[0] for name in ("tutorial", "faq")))
    documents = [f"The lamp of tower {n} burned oil for {'very ' * (n % 7)}long." for n in range(60)]
    ds = Dataset.from_dict({"id": [f"d{n}" for n in range(60)], "text": documents})
    made = hfsynth.Synthesizer("scripts:prompted", engine="scripted", prompt=both).map(ds)
    written = {row["id"]: row["synthesis"]["rewritten"] for row in made if row["synthesis"]["rewritten"]}
    assert 10 < len(written) < 50 and not any(row["pairs"] for row in made if row["id"] in written)
    rendered = hfsynth.render(made, seed=0, pair_spans=True)
    size = sum(len(text.split()) for text in rendered["text"])

    parts = [Part("new", rendered, Kind.AUGMENTED), Part("raw", texts("raw", [7] * 400), Kind.RAW)]
    mixture = mix_datasets(parts, tokenizer=word_tokenizer(), ratios=[0.5, 0.5], seed=3)
    rows = [row for row in mixture.dataset if row["source"] == "new"]
    assert sorted(row["text"] for row in rows) == sorted(rendered["text"]), "each once, as it was rendered"
    assert all(row["tokens"] == len(row["text"].split()) for row in mixture.dataset)
    found = part_of(mixture.report, "new")
    assert (found["tokens"], found["documents"], found["skipped"]) == (size, 60, {})
    assert abs(mixture.report.to_dict()["tokens"] - 2 * size) <= 7
    alone = {row["source_ids"][0]: row for row in rows if row["source_ids"][0] in written}
    assert {name: row["text"] for name, row in alone.items()} == written
    assert not any(row["pair_spans"] for row in alone.values())
    assert all(row["pair_spans"] for row in rows if row["source_ids"][0] not in written)


# --- files and datasets ----------------------------------------------------------------------------------------------


def test_mix_returns_a_dataset_and_a_report_that_json_takes() -> None:
    parts = [Part("a", texts("a", [5] * 30), Kind.AUGMENTED), Part("g", general(30), Kind.GENERAL)]
    mixture = mix_datasets(parts, tokenizer=word_tokenizer(), ratios=[0.5, 0.5])
    again = mix_datasets(parts, tokenizer=word_tokenizer(), ratios=[0.5, 0.5])
    assert mixture.dataset.to_dict() == again.dataset.to_dict()
    report = json.loads(json.dumps(mixture.report.to_dict()))
    assert report["tokens"] == sum(mixture.dataset["tokens"])
    assert report["documents"] == len(mixture.dataset)
    assert [part["name"] for part in report["parts"]] == ["a", "g"]


def test_a_mixture_is_written_as_parquet_that_loads_as_it_is(tmp_path: Path, words: TextTokenizer) -> None:
    parts = [Part("a", texts("a", [50] * 2500), Kind.AUGMENTED)]
    rows = mix_rows(parts, tokenizer=words)
    paths = write_split(rows, tmp_path / "data", split="train", features=FEATURES, file_bytes=150_000)
    assert [path.name for path in paths] == [f"train-{at:05d}-of-{len(paths):05d}.parquet" for at in range(len(paths))]
    assert len(paths) > 1
    loaded = load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == list(rows)
    with pytest.raises(OutputError, match="already holds the split 'train'"):
        write_split(rows, tmp_path / "data", split="train", features=FEATURES)


def test_an_error_on_the_way_leaves_no_files(tmp_path: Path, words: TextTokenizer) -> None:
    parts = [Part("a", texts("a", [5] * 3000), Kind.RAW)]
    with pytest.raises(BudgetError):
        rows = mix_rows(parts, tokenizer=words, ratios=[1.0], budget_tokens=10**6)
        write_split(rows, tmp_path / "data", split="train", features=FEATURES)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_empty_mixture_still_makes_a_file(tmp_path: Path) -> None:
    paths = write_split([], tmp_path / "data", split="train", features=FEATURES)
    assert [path.name for path in paths] == ["train-00000-of-00001.parquet"]
