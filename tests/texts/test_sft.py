"""Examples to fine-tune on: every pair once, in the columns that trainers read, and the same after an interruption."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export import LLAMA, Stop, contents, llama3_style

from hfsynth.core.errors import ColumnError, SourceError
from hfsynth.texts.export.export import ExportReport, export
from hfsynth.texts.export.sft import examples_of_chains, examples_of_pairs

Row = dict[str, Any]


def row(name: str, pairs: list[tuple[str, str]], *, chain: str = "", shot: int = 0) -> Row:
    """A synthesized row; the text is a word about its name."""
    return {
        "id": name,
        "text": f"text of {name}",
        "pairs": [{"instruction": question, "response": response} for question, response in pairs],
        "synthesis": {"chain": chain or name, "shot": shot, "follows": shot > 0},
    }


ROWS = [
    row("a", [("q1", "r1"), ("q2", "r2")], chain="one"),
    row("b", [], chain="one", shot=1),
    row("c", [("q3", "r3")], chain="one", shot=2),
    row("d", [("q4", "r4")], chain="two"),
]


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def exported(rows: list[Row], out: Path, **options: object) -> ExportReport:
    return export(Dataset.from_list(rows), out, to="sft", tokenizer=llama3_style(), **options)  # type: ignore[arg-type]


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def test_a_row_a_pair_in_messages_to_the_byte(tmp_path: Path) -> None:
    report = exported([row("é", [("q1", "r1"), ("q2", "r2")])], tmp_path)
    assert (tmp_path / "hfsynth" / "part-00000.jsonl").read_text("utf-8") == (
        '{"messages": [{"role": "user", "content": "text of é\\n\\nq1"}, {"role": "assistant", "content": "r1"}]}\n'
        '{"messages": [{"role": "user", "content": "text of é\\n\\nq2"}, {"role": "assistant", "content": "r2"}]}\n'
    )
    assert (report.documents, report.files) == (2, ("part-00000.jsonl",))


def test_a_row_a_chain_is_one_conversation(tmp_path: Path) -> None:
    report = exported(ROWS, tmp_path, sft_row="chain")
    assert lines(tmp_path / "hfsynth") == [
        {
            "messages": [
                *(user("text of a\n\nq1"), assistant("r1"), user("q2"), assistant("r2")),
                *(user("text of c\n\nq3"), assistant("r3")),
            ]
        },
        {"messages": [user("text of d\n\nq4"), assistant("r4")]},
    ]
    assert (report.documents, report.skipped) == (2, {})


def test_prompt_and_completion_put_together_read_as_one_text(tmp_path: Path) -> None:
    exported(ROWS[:1], tmp_path / "pairs", sft_columns="prompt-completion")
    assert lines(tmp_path / "pairs" / "hfsynth") == [
        {"prompt": "text of a\n\nq1\n", "completion": "r1"},
        {"prompt": "text of a\n\nq2\n", "completion": "r2"},
    ]
    exported(ROWS, tmp_path / "chains", sft_columns="prompt-completion", sft_row="chain")
    first = lines(tmp_path / "chains" / "hfsynth")[0]
    assert first == {"prompt": "text of a\n\nq1\nr1\n\nq2\nr2\n\ntext of c\n\nq3\n", "completion": "r3"}


def test_what_gives_no_example_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [*ROWS, row("e", [("q", "r")], chain="lost", shot=1), {**row("f", [("q", "r")]), "text": " "}]
    assert exported(rows, tmp_path / "pairs").skipped == {"no_pairs": 1, "empty_text": 1}
    assert exported(rows, tmp_path / "chains", sft_row="chain").skipped == {"broken_chain": 1, "no_pairs": 1}
    with pytest.raises(SourceError, match="None of the 1 rows holds a text .1 no_pairs."):
        exported(ROWS[1:2], tmp_path / "none")


def test_control_strings_are_broken_up_wherever_they_are(tmp_path: Path) -> None:
    bad = {**row("a", [(f"say {LLAMA[2]}", f'"{LLAMA[1]}"'), ("q", "r")]), "text": f"text {LLAMA[0]}"}
    assert exported([bad, ROWS[3]], tmp_path).neutralized == 2
    first, second, _ = lines(tmp_path / "hfsynth")
    assert first == {"messages": [user("text < |begin_of_text|>\n\nsay < |eot_id|>"), assistant('"< |end_of_text|>"')]}
    assert second["messages"][1] == assistant("r")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None)
@given(chains=st.lists(st.lists(st.lists(st.tuples(TEXT, TEXT), max_size=3), min_size=1, max_size=3), max_size=4))
def test_every_pair_is_in_one_example_of_each_kind(chains: list[list[list[tuple[str, str]]]]) -> None:
    rows = [
        row(f"{number}-{shot}", pairs, chain=str(number), shot=shot)
        for number, documents in enumerate(chains)
        for shot, pairs in enumerate(documents)
    ]
    sides = [(q.strip(), r.strip()) for documents in chains for pairs in documents for q, r in pairs]
    wanted = [pair for pair in sides if all(pair)]
    for make in (examples_of_pairs, examples_of_chains):
        turns = [turn for example in make(rows) for turn in example.get("turns", ())]  # type: ignore[attr-defined]
        asked = [(re.sub(r"^text of \d+-\d+\n\n", "", question), response) for question, response in turns]
        assert asked == wanted


@pytest.mark.parametrize("kind", ["pair", "chain"])
def test_an_export_of_examples_goes_on_where_it_stopped(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hfsynth.texts.export.shards.BATCH_DOCUMENTS", 2)
    rows = [row(f"{n}", [(f"q{n}", f"r{n}")] * (n % 3), chain=str(n // 3), shot=n % 3) for n in range(40)]
    once = exported(rows, tmp_path / "once", sft_row=kind, shard_bytes=300)
    assert once.shards > 3

    def stop(progress: object) -> None:
        if next(batches) == 3:
            raise Stop

    batches = iter(range(4))
    with pytest.raises(Stop):
        exported(rows, tmp_path / "often", sft_row=kind, shard_bytes=300, on_progress=stop)
    again = exported(rows, tmp_path / "often", sft_row=kind, shard_bytes=300)
    assert again.resumed_shards > 0
    assert contents(tmp_path / "often") == contents(tmp_path / "once")


def test_splits_of_a_corpus_folder_have_entries_that_llama_factory_reads(tmp_path: Path) -> None:
    folder = tmp_path / "corpus" / "pairs"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(pa.Table.from_pylist(ROWS), folder / f"{split}-00000-of-00001.parquet")
    report = export(tmp_path / "corpus", tmp_path / "out", to="sft", tokenizer=llama3_style())
    entries = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert {name: entry["file_name"] for name, entry in entries.items()} == {
        "hfsynth": "hfsynth",
        "hfsynth_validation": "hfsynth_validation",
    }
    assert entries["hfsynth"]["formatting"] == "sharegpt"
    assert {split: part.documents for split, part in report.splits.items()} == {"train": 4, "validation": 4}
    files = [str(tmp_path / "out" / name) for name in report.files if name.startswith("hfsynth/")]
    read = load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert [message["role"] for message in read[0]["messages"]] == ["user", "assistant"]
    export(ROWS, tmp_path / "two", to="sft", tokenizer=llama3_style(), sft_columns="prompt-completion", name="mine")
    entry = json.loads((tmp_path / "two" / "dataset_info.json").read_text())["mine"]
    assert entry == {"file_name": "mine", "columns": {"prompt": "prompt", "response": "completion"}}


def test_rows_without_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="The dataset has no column 'pairs'; the columns are: text") as error:
        export(Dataset.from_list([{"text": "a"}]), tmp_path, to="sft", tokenizer=llama3_style())
    assert "hfsynth synthesize" in error.value.hint
