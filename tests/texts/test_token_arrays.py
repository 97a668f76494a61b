"""Token arrays are what the trainers map: to the byte, and read by their own loaders where these are installed."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import transformers
from test_export import documents, llama3_style, train_bpe

from hfsynth.models.tokenizers import load_tokenizer
from hfsynth.texts.export.export import export
from hfsynth.texts.export.token_arrays import MegatronArrays, NanotronArrays

ROWS = documents(7)


def expected() -> list[list[int]]:
    """Return the ids of each document: BOS, the text's, EOS."""
    tokenizer = llama3_style()
    specials = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
    return [[*specials[0], *tokenizer.encode(str(row["text"]), add_special_tokens=False), *specials[1]] for row in ROWS]


def written(out: Path, to: str, **options: int) -> dict[str, bytes]:
    export(ROWS, out, to=to, tokenizer=llama3_style(), **options)  # type: ignore[arg-type]
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_megatron_to_the_byte(tmp_path: Path) -> None:
    files, ids = written(tmp_path, "megatron"), expected()
    lengths = [len(one) for one in ids]
    starts = [2 * sum(lengths[:n]) for n in range(7)]
    assert files["part-00000.bin"] == struct.pack(f"<{sum(lengths)}H", *(token for one in ids for token in one))
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 7, 8)
    assert files["part-00000.idx"] == index + struct.pack("<7i7q8q", *lengths, *starts, *range(8))
    assert json.loads(files["dataset.json"])["paths"] == ["part-00000"]  # as --data-path takes it


def test_nanotron_to_the_byte(tmp_path: Path) -> None:
    files, ids = written(tmp_path, "nanotron"), expected()
    ends = [sum(map(len, ids[: n + 1])) for n in range(7)]
    assert files["part-00000.ds"] == struct.pack(f"<{ends[-1]}H", *(token for one in ids for token in one))
    assert files["part-00000.ds.index"] == struct.pack("<7Q", *ends)
    name = load_tokenizer(llama3_style()).name
    assert files["part-00000.ds.metadata"].decode() == f"{name}|2\n{ends[-1]}\n{ends[-1]:.1f} T"


@pytest.mark.parametrize(
    ("tokens", "told"), [(0, "0.00 T"), (999, "999 T"), (1000, "1.00 kT"), (1_234_567, "1.23 MT"), (10**12, "1.00 TT")]
)
def test_the_number_of_tokens_for_people(tokens: int, told: str) -> None:
    from hfsynth.texts.export.token_arrays import _for_people

    assert _for_people(tokens) == told


@pytest.mark.parametrize(
    ("size", "megatron", "nanotron"),
    [
        (65_499, "uint16", "uint16"),
        (65_500, "int32", "uint16"),
        (65_536, "int32", "uint16"),
        (65_537, "int32", "uint32"),
    ],
)
def test_the_width_of_an_id_is_the_trainers(size: int, megatron: str, nanotron: str) -> None:
    tokenizer = train_bpe(("<|end|>",))
    tokenizer.add_tokens([f"<extra-{number}>" for number in range(size - tokenizer.get_vocab_size())])
    loaded = load_tokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>"))
    assert (loaded.vocab_size, MegatronArrays(loaded).dtype, NanotronArrays(loaded).dtype) == (size, megatron, nanotron)


@pytest.mark.parametrize("to", ["megatron", "nanotron"])
def test_shards_hold_every_document_once(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfsynth.texts.export.shards.BATCH_DOCUMENTS", 2)
    files = written(tmp_path, to, shard_bytes=1)
    ending = {"megatron": ".bin", "nanotron": ".ds"}[to]
    shards = sorted(name for name in files if name.endswith(ending))
    assert len(shards) == 4
    assert b"".join(files[name] for name in shards) == b"".join(
        struct.pack(f"<{len(one)}H", *one) for one in expected()
    )


def test_megatron_core_reads_them(tmp_path: Path) -> None:
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed")
    written(tmp_path, "megatron")
    dataset = indexed.IndexedDataset(str(tmp_path / "part-00000"), multimodal=False, mmap=True)
    assert [dataset[n].tolist() for n in range(len(dataset))] == expected()
    assert dataset.document_indices.tolist() == list(range(8))


def test_datatrove_reads_what_nanotron_does(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datatrove.utils.dataset", reason="datatrove is not installed", exc_type=ImportError)
    written(tmp_path, "nanotron")
    stream = np.concatenate(expected())
    dataset = datasets.DatatroveFileDataset(str(tmp_path / "part-00000.ds"), seq_len=15, token_size=2)
    read = [dataset[n]["input_ids"].tolist() for n in range(len(dataset))]
    assert len(read) == len(stream) // 16
    assert read == [stream[16 * n : 16 * n + 16].tolist() for n in range(len(read))]
