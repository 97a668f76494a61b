"""Texts are counted and cut to a trainer's sequences: no pair is torn, nothing is lost, and the counts are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export import TOKENIZERS, arrays, contents, documents, jsonl_texts, llama3_style, split_at
from test_pair_spans import chain, held

from hfsynth.core.errors import ColumnError, ConfigError
from hfsynth.models.tokenizers import load_tokenizer
from hfsynth.texts.export.export import export
from hfsynth.texts.export.lengths import Lengths
from hfsynth.texts.training_texts import render_rows

TOKENIZER = llama3_style()
COUNT = load_tokenizer(TOKENIZER).count


def texts(seed: int = 1, inverted: float = 0.2) -> list[dict[str, Any]]:
    rows = [row for n in range(12) for row in chain(f"c{n}", [2, n % 3, 1])]
    for row in rows[::4]:
        row["text"] = "A sentence of this document. " * 12
    return list(
        render_rows(rows, seed=seed, styles={"classic": 1, "numbered": 1, "inverted": inverted}, pair_spans=True)
    )


@pytest.mark.parametrize("limit", [40, 90, 200])
def test_pieces_fit_hold_whole_pairs_and_are_the_text_together(limit: int, tmp_path: Path) -> None:
    rows = texts()
    report = export(rows, tmp_path, to="trl", tokenizer=TOKENIZER, sequence_length=limit, split_longer=True)
    pieces = jsonl_texts(tmp_path)
    assert "".join(pieces) == "".join(row["text"] for row in rows)
    pairs = [pair for row in rows for pair in held(row)]
    for pair in pairs:
        assert any(pair in piece for piece in pieces)
    sizes = [size + 2 for size in COUNT(pieces)]
    longest = max(COUNT(pairs)) + 2
    assert all(size <= max(limit, longest + 6) for size in sizes)
    assert all(piece.strip() for piece in pieces)
    assert report.sequences is not None
    assert report.sequences.longer == sum(size > limit for size in sizes)
    assert report.sequences.overflow_tokens == sum(size - limit for size in sizes if size > limit)
    long = [row for row in rows if COUNT([row["text"]])[0] + 2 > limit]
    assert report.sequences.cut == len(long) and len(long) > (0 if limit == 200 else 5)
    assert report.documents == len(pieces)


def test_a_cut_is_behind_a_pair_where_one_fits() -> None:
    text = "Document one, short. Q1 A1.\n\nQ2 A2.\n\nQ3 A3."
    spans = [(text.index(f"Q{n}"), text.index(f"A{n}") + 3) for n in (1, 2, 3)]
    for limit in range(3, COUNT([text])[0]):
        for start, end in Lengths(load_tokenizer(TOKENIZER), limit, 0, True, None).pieces(text, spans):
            assert not any(one < start < to or one < end < to for one, to in spans)
            assert end in (len(text), *(to for _, to in spans), *(to + 2 for _, to in spans)) or end <= spans[0][0]


@settings(deadline=None, max_examples=60)
@given(
    text=st.text("ab .\n", min_size=1, max_size=80),
    cuts=st.lists(st.integers(0, 80), max_size=6),
    limit=st.integers(1, 30),
)
def test_pieces_of_any_text_are_the_text_and_tear_no_pair(text: str, cuts: list[int], limit: int) -> None:
    edges = sorted(min(cut, len(text)) for cut in cuts)
    spans = [(one, to) for one, to in zip(edges[::2], edges[1::2], strict=False) if one < to]
    pieces = list(Lengths(load_tokenizer(TOKENIZER), limit, 0, True, None).pieces(text, spans))
    assert "".join(text[start:end] for start, end in pieces) == text
    assert all(start < end for start, end in pieces)
    assert not any(one < cut < to for _, cut in pieces for one, to in spans)


def test_what_a_trainer_leaves_out_is_counted(tmp_path: Path) -> None:
    rows = documents(40)
    sizes = [size + 2 for size in COUNT([str(row["text"]) for row in rows])]
    total, length = sum(sizes), 15
    wanted = {
        "olmo": total % length,
        "nanotron": total % (length + 1),
        "litdata": total % (length + 1),
        "megatron": (total - 1) % length,
        "llama-factory": sum(size - length for size in sizes if size > length),
        "trl": 0,
        "torchtitan": 0,
        "axolotl": 0,
        "text": None,
    }
    assert wanted["llama-factory"] > 0
    for to, lost in wanted.items():
        found = export(rows, tmp_path / to, to=to, tokenizer=TOKENIZER, sequence_length=length).sequences
        assert found is not None and (to, found.lost_tokens) == (to, lost)
        assert (found.length, found.longer) == (length, sum(size > length for size in sizes))
    assert export(rows, tmp_path / "none", to="olmo", tokenizer=TOKENIZER).sequences is None


def test_a_cut_export_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfsynth.texts.export.shards.BATCH_DOCUMENTS", 2)
    options: dict[str, Any] = {"to": "olmo", "tokenizer": TOKENIZER, "sequence_length": 60, "shard_bytes": 300}
    options |= {"split_longer": True, "loss_mask": True}
    once = export(texts(), tmp_path / "once", identity="same", **options)
    assert once.shards > 2
    seen = iter(range(100))

    def stop(progress: object) -> None:
        if next(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(texts(), tmp_path / "often", identity="same", on_progress=stop, **options)
    again = export(texts(), tmp_path / "often", identity="same", **options)
    assert again.resumed_shards > 0 and again.sequences == once.sequences
    assert contents(tmp_path / "often") == contents(tmp_path / "once")


def test_settings_that_cannot_work(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"to": "olmo", "split_longer": True}, "only to a length"),
        ({"to": "sft", "sequence_length": 100}, "chat template"),
        ({"to": "olmo", "sequence_length": 2}, "8 or more"),
        ({"to": "trl", "loss_mask": True}, "for olmo and nanotron, not for trl"),
    ]
    for options, message in cases:
        with pytest.raises(ConfigError, match=message):
            export(documents(2), tmp_path, tokenizer=TOKENIZER, **options)
    with pytest.raises(ColumnError, match="no column 'pair_spans'") as error:
        export(documents(2), tmp_path, to="trl", tokenizer=TOKENIZER, sequence_length=90, split_longer=True)
    assert "hfsynth render --pair-spans" in error.value.hint


# --- masks


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(("to", "ending"), [("olmo", ".mask"), ("nanotron", ".ds.loss")])
def test_a_mask_has_a_byte_a_token_and_marks_those_of_pairs(name: str, to: str, ending: str, tmp_path: Path) -> None:
    tokenizer, rows = TOKENIZERS[name], texts(inverted=0.0)
    rows[1] = {**rows[1], "pair_spans": []}
    plain = export(rows, tmp_path / "plain", to=to, tokenizer=tokenizer)
    export(rows, tmp_path / "out", to=to, tokenizer=tokenizer, loss_mask=True)
    ids, described = arrays(tmp_path / "out"), json.loads((tmp_path / "out" / "dataset.json").read_text())
    marks = np.fromfile(tmp_path / "out" / f"part-00000{ending}", dtype=np.bool_)
    assert described["label_mask_paths"] == [f"part-00000{ending}"]
    assert ids.tolist() == arrays(tmp_path / "plain").tolist() and len(marks) == len(ids) == plain.tokens
    ends = np.flatnonzero(ids == tokenizer.eos_token_id)
    assert marks[ends].tolist() == [bool(row["pair_spans"]) for row in rows]
    for row, own, marked in zip(rows, split_at(ids, tokenizer.eos_token_id), np.split(marks, ends + 1), strict=False):
        spelled = tokenizer.decode([one for one, mark in zip(own[:-1], marked[:-1], strict=True) if mark])
        assert spelled.replace(" ", "") == "".join(held(row)).replace(" ", "")


# --- litdata and recipes


def test_litdata_chunks_to_the_byte(tmp_path: Path) -> None:
    report = export(documents(7), tmp_path, to="litdata", tokenizer=TOKENIZER)
    ids = [id_ for row in documents(7) for id_ in TOKENIZER(f"{row['text']}")["input_ids"] + [TOKENIZER.eos_token_id]]
    data = (tmp_path / "part-00000.bin").read_bytes()
    assert np.frombuffer(data[:12], "<u4").tolist() == [1, 12, len(data)]
    assert np.frombuffer(data[12:], "<i4").tolist() == ids and report.tokens == len(ids)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["chunks"] == [
        {"chunk_bytes": len(data), "chunk_size": 1, "dim": len(ids), "filename": "part-00000.bin"}
    ]
    assert index["config"]["data_format"] == ["no_header_tensor:16"]


@pytest.mark.parametrize(
    ("to", "file", "start", "wanted"),
    [
        ("axolotl", "axolotl.yaml", "axolotl train", {"sequence_len": 77, "excess_length_strategy": "raise"}),
        ("trl", "trl.yaml", "trl sft --config", {"packing_strategy": "wrapped", "max_length": 77}),
        ("llama-factory", "hfsynth.yaml", "llamafactory-cli train", {"packing": False, "cutoff_len": 77}),
        ("litgpt", "litgpt.yaml", "litgpt pretrain", {"out_dir": "{out}/trained"}),
    ],
)
def test_a_configuration_is_written_and_its_command_told(
    to: str, file: str, start: str, wanted: dict[str, object], tmp_path: Path
) -> None:
    report = export(documents(5), tmp_path / "out", to=to, tokenizer=TOKENIZER, sequence_length=77)
    told = yaml.safe_load((tmp_path / "out" / file).read_text())
    wanted = {
        key: value.format(out=tmp_path / "out") if isinstance(value, str) else value for key, value in wanted.items()
    }
    assert told | wanted == told
    assert to != "litgpt" or (told["train"]["max_tokens"], told["train"]["max_seq_length"]) == (report.tokens, 77)
    assert report.start is not None and report.start.startswith(start) and report.start.endswith(f"out/{file}")
    again = export(documents(5), tmp_path / "again", to=to, tokenizer=TOKENIZER)
    assert "2048" in (tmp_path / "again" / file).read_text() and again.sequences is not None


def test_torchtitans_module_is_python_that_names_the_files(tmp_path: Path) -> None:
    report = export(documents(5), tmp_path / "out", to="torchtitan", tokenizer=TOKENIZER)
    source = (tmp_path / "out" / "hfsynth_corpus.py").read_text()
    compile(source, "hfsynth_corpus.py", "exec")
    assert f'FILES = ["{tmp_path}/out/part-00000.jsonl"]' in source and "SEQUENCE_LENGTH = 2048" in source
    assert report.start is not None and "--module hfsynth_corpus" in report.start


def test_bos_is_written_where_the_tokenizer_does_not_put_it_and_never_twice(tmp_path: Path) -> None:
    silent = llama3_style()
    silent.backend_tokenizer.post_processor = None  # type: ignore[assignment]
    for to in ("trl", "axolotl", "torchtitan"):
        for name, tokenizer in {"adds": llama3_style(), "silent": silent}.items():
            export(documents(3), tmp_path / to / name, to=to, tokenizer=tokenizer)
            begins = name == "silent" and to != "torchtitan"
            assert all(text.startswith("<|begin") == begins for text in jsonl_texts(tmp_path / to / name))


def test_llama_factory_gets_bos_where_the_tokenizer_does_not_say_that_it_adds_one(tmp_path: Path) -> None:
    saying = llama3_style()
    saying.add_bos_token = True  # as Llama 2's has it
    export(documents(3), tmp_path / "says", to="llama-factory", tokenizer=saying)
    export(documents(3), tmp_path / "silent", to="llama-factory", tokenizer=llama3_style())
    assert [text.startswith("<|begin") for text in jsonl_texts(tmp_path / "says" / "hfsynth")] == [False] * 3
    assert [text.startswith("<|begin") for text in jsonl_texts(tmp_path / "silent" / "hfsynth")] == [True] * 3


def test_a_tokenizer_whose_control_tokens_would_be_doubled_is_refused(tmp_path: Path) -> None:
    from tokenizers import processors

    doubling = llama3_style()
    bos, eos = doubling.bos_token, doubling.eos_token
    ids = [(token, doubling.convert_tokens_to_ids(token)) for token in (bos, eos)]
    doubling.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=ids
    )
    with pytest.raises(ConfigError, match="that trl would double") as error:
        export(documents(3), tmp_path / "trl", to="trl", tokenizer=doubling)
    assert "--to olmo" in error.value.hint
    assert export(documents(3), tmp_path / "axolotl", to="axolotl", tokenizer=doubling).documents == 3
