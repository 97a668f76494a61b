"""What trainers read of an export, by their own loaders, is our stream of tokens: each once, BOS and EOS too.

`make trainers` makes an environment for each trainer and runs this; without them there is nothing to run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1] / "texts"))

from test_export import gpt2_style, llama3_style

from hfsynth.texts.export.export import ExportReport, export
from hfsynth.texts.training_texts import render_rows

ENVIRONMENTS = Path(os.environ.get("HFSYNTH_TRAINERS", Path(__file__).parents[2] / "build" / "trainers"))
pytestmark = pytest.mark.skipif(
    not ENVIRONMENTS.is_dir(), reason="there are no environments with trainers: make trainers"
)
LENGTH = 64
TRAINERS = ("axolotl", "litdata", "litgpt", "llama-factory", "megatron", "nanotron", "olmo", "torchtitan", "trl")
TOKENIZERS = {"BOS leads": llama3_style, "one token for both": gpt2_style}


def synthesized() -> list[dict[str, Any]]:
    """Chains of three documents with and without pairs, a few of them long."""
    return [
        {
            "id": f"{n}.{shot}",
            "text": f"Document {n}.{shot}. " + "It has a word more. " * (n % 7),
            "pairs": [{"instruction": f"Question {n}.{shot}?", "response": "An answer. " * (1 + 9 * (n == 5))}]
            * (n % 3),
            "synthesis": {"chain": str(n), "shot": shot, "follows": shot > 0},
        }
        for n in range(40)
        for shot in range(3)
    ]


def texts() -> list[dict[str, Any]]:
    """Texts of such chains, most of them longer than a sequence, some pairs longer than one too."""
    return list(render_rows(synthesized(), seed=1, pair_spans=True))


@pytest.fixture(scope="module", params=TOKENIZERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model with its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model")
    tokenizer = TOKENIZERS[request.param]()
    tokenizer.chat_template = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    return folder


def environment(trainer: str) -> Path:
    python = ENVIRONMENTS / re.sub("^(sft|packed|sampled)-", "", trainer) / "bin" / "python"
    if not python.exists():
        pytest.skip(f"there is no environment with {trainer}: make trainers")
    return python


def read(trainer: str, folder: Path, model: Path) -> dict[str, list[Any]]:
    command = [environment(trainer), Path(__file__).with_name("read_with.py"), trainer, folder, model, LENGTH]
    place = {**os.environ, "HF_HOME": str(folder.parent / "cache"), "PYTHONPATH": ""}
    done = subprocess.run([*map(str, command)], cwd=folder.parent, env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def stream(model: Path) -> list[list[int]]:
    """Return what every document is to be: BOS where it leads, the ids of its text, EOS."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    bos = [tokenizer.bos_token_id] if tokenizer.bos_token != tokenizer.eos_token else []
    return [[*bos, *tokenizer.encode(row["text"], add_special_tokens=False), tokenizer.eos_token_id] for row in texts()]


def exported(trainer: str, model: Path, out: Path, **options: object) -> ExportReport:
    return export(texts(), out, to=trainer, tokenizer=str(model), sequence_length=LENGTH, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_trainers_own_loader_reads_our_tokens(trainer: str, model: Path, tmp_path: Path) -> None:
    environment(trainer)
    report, documents = exported(trainer, model, tmp_path / "out"), stream(model)
    found, lost = read(trainer, tmp_path / "out", model), (report.sequences and report.sequences.lost_tokens) or 0
    blocks = list(chain.from_iterable(found["blocks"]))
    if trainer == "torchtitan":  # a loader that goes round would read the rest, too
        inputs, labels = (list(chain.from_iterable(each)) for each in _shifted(model))
        assert inputs[: len(blocks)] == blocks and 0 <= len(inputs) - len(blocks) < LENGTH
        assert labels[: len(blocks)] == list(chain.from_iterable(found["labels"]))
    elif trainer == "llama-factory":
        assert found["blocks"] == [document[:LENGTH] for document in documents]
        assert lost == sum(map(len, documents)) - len(blocks) > 0
    else:
        whole = list(chain.from_iterable(documents))
        left = 0 if trainer == "megatron" else lost  # its IndexedDataset reads documents, its sampler leaves the rest
        assert blocks == whole[: len(whole) - left]
        assert lost < LENGTH + 1 and (lost == 0) == (trainer in ("axolotl", "trl"))


def _shifted(model: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Return inputs and labels within each document; torchtitan begins a document by BOS also where EOS is the same."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    bodies = [document if document[0] == tokenizer.bos_token_id else [tokenizer.bos_token_id, *document]
              for document in stream(model)]  # fmt: skip
    return [body[:-1] for body in bodies], [body[1:] for body in bodies]


def test_llama_factory_loses_nothing_of_texts_that_were_cut(model: Path, tmp_path: Path) -> None:
    environment("llama-factory")
    short = [row for row in texts() if "An answer. An answer. An answer." not in row["text"]]
    report = export(
        short, tmp_path / "out", to="llama-factory", tokenizer=str(model), sequence_length=256, split_longer=True
    )
    assert report.sequences is not None and report.sequences.cut > 3
    assert report.sequences.longer == report.sequences.lost_tokens == 0
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    blocks = read("llama-factory", tmp_path / "out", model)["blocks"]
    spelled = "".join(tokenizer.decode(block, skip_special_tokens=True) for block in blocks)
    assert spelled == "".join(row["text"] for row in short)


def test_olmo_core_reads_the_mask_of_pairs(model: Path, tmp_path: Path) -> None:
    environment("olmo")
    exported("olmo", model, tmp_path / "out", loss_mask=True)
    found = read("olmo", tmp_path / "out", model)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    ids, marks = (list(chain.from_iterable(found[name])) for name in ("blocks", "masks"))
    shown = "".join(tokenizer.decode(id_) for id_, mark in zip(ids, marks, strict=True) if mark)
    assert "Question 1.0?" in shown and "Document" not in shown


def test_axolotl_packs_every_piece_of_a_text_once_and_none_beyond_a_sequence(model: Path, tmp_path: Path) -> None:
    environment("axolotl")
    exported("axolotl", model, tmp_path / "out")
    sequences = read("packed-axolotl", tmp_path / "out", model)["blocks"]
    assert all(sum(map(len, pieces)) <= LENGTH for pieces in sequences)
    pieces = [text[at : at + LENGTH] for text in stream(model) for at in range(0, len(text), LENGTH)]
    assert sorted(chain.from_iterable(sequences)) == sorted(pieces) and len(sequences) < len(pieces)


def test_megatrons_sampler_leaves_out_the_end_alone(model: Path, tmp_path: Path) -> None:
    environment("megatron")
    report = exported("megatron", model, tmp_path / "out")
    found, documents = read("sampled-megatron", tmp_path / "out", model), stream(model)
    whole = list(chain.from_iterable(documents[at] for at in found["order"]))
    assert sorted(found["order"]) == list(range(len(documents)))
    for at, block in enumerate(found["blocks"]):
        assert block == whole[at * LENGTH : (at + 1) * LENGTH + 1]
    assert report.sequences is not None
    assert len(whole) - len(found["blocks"]) * LENGTH - 1 == report.sequences.lost_tokens


@pytest.mark.parametrize(
    ("trainer", "columns"),
    [(each, columns) for each in ("sft-trl", "sft-llama-factory") for columns in ("messages", "prompt-completion")]
    + [("sft-axolotl", "messages")],
)
def test_examples_are_read_whole_and_responses_are_what_is_learnt(
    trainer: str, columns: str, model: Path, tmp_path: Path
) -> None:
    environment(trainer)
    out = tmp_path / "out"
    export(synthesized(), out, to="sft", tokenizer=str(model), sft_row="chain", sft_columns=columns)
    found, tokenizer = read(trainer, out, model), PreTrainedTokenizerFast.from_pretrained(model)
    (file,) = (out / "hfsynth").glob("*.jsonl")
    written = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert len(written) == len(found["blocks"])
    for row, ids, labels in zip(written, found["blocks"], found["labels"], strict=True):
        contents = [turn["content"] for turn in row["messages"]] if "messages" in row else list(row.values())
        shown, place = tokenizer.decode(ids), 0
        for content in contents:
            place = shown.index(content.strip(), place) + len(content.strip())
        if columns == "prompt-completion":
            learnt = tokenizer.decode([one for one in labels if one >= 0], skip_special_tokens=True)
            assert learnt.strip() == row["completion"].strip()
