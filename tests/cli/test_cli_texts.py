"""synthesize | render | mix | export on the command line, from a source to three trainers; and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

import hfsynth
from hfsynth.cli import app
from hfsynth.core.errors import ConfigError
from hfsynth.corpus.folder import Corpus, exchange, mend_exchange

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")


def run(*args: object) -> int:
    """Run the command line in this process and return its exit code."""
    argv, sys.argv = sys.argv, ["hfsynth", *map(str, args)]
    try:
        app.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = argv
    return 0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a word-level tokenizer with BOS and EOS."""
    folder = tmp_path_factory.mktemp("tokenizer")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus folder of 200 documents in chains of three, some of them empty."""
    folder = tmp_path_factory.mktemp("made")
    rows = [
        {"id": f"d{n}", "text": "" if n % 17 == 5 else f"This is text number {n}. It is short."} for n in range(200)
    ]
    source = written(folder / "texts.jsonl", rows)
    assert (
        run("synthesize", source, folder / "corpus", "--engine", "scripted", "--shots", 3, "--workers", 0, "--quiet")
        == 0
    )
    return folder / "corpus"


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "corpus"))


@pytest.fixture
def general(tmp_path: Path) -> Path:
    rows = [{"system": "s", "question": f"What is {n}?", "response": f"It is {n}, a number."} for n in range(400)]
    return written(tmp_path / "general.jsonl", rows)


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(f"data/{split}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_rendering_makes_the_folder_train_ready(
    corpus: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("render", corpus, "--validation", 0.2, "--tokenizer", tokenizer, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    loaded = load_dataset(str(corpus), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == shown["texts"]
    assert set(shown["texts"]) == {"train", "validation"}
    chains = {split: set(rows["chain"]) for split, rows in loaded.items()}
    assert not chains["train"] & chains["validation"]
    sources = [name for rows in loaded.values() for ids in rows["source_ids"] for name in ids]
    with_text = {f"d{n}" for n in range(200) if n % 17 != 5}
    assert sorted(sources) == sorted(with_text)
    render = json.loads((corpus / "stats.json").read_text())["render"]
    assert render["counts"]["documents"] == 200
    assert sum(render["tokens"].values()) == sum(sum(rows["tokens"]) for rows in loaded.values())
    assert len(load_dataset(str(corpus), "pairs", split="train", cache_dir=str(tmp_path / "cache"))) == 200


def test_rendering_again_replaces_everything_and_the_same_seed_gives_the_same_bytes(corpus: Path) -> None:
    assert run("render", corpus, "--validation", 0.2, "--quiet") == 0
    first = {path.name: path.read_bytes() for path in (corpus / "data").iterdir()}
    assert run("render", corpus, "--seed", 1, "--quiet") == 0
    assert {path.name for path in (corpus / "data").iterdir()} == {"train-00000-of-00001.parquet"}
    assert run("render", corpus, "--validation", 0.2, "--quiet") == 0
    assert {path.name: path.read_bytes() for path in (corpus / "data").iterdir()} == first
    manifest = json.loads((corpus / ".hfsynth" / "manifest.json").read_text())["files"]
    assert set(manifest) == {f"data/{name}" for name in first} | {"pairs/train-00000-of-00001.parquet"}


def test_what_the_user_wrote_into_the_readme_stays(corpus: Path) -> None:
    readme = corpus / "README.md"
    readme.write_text(readme.read_text().replace("tags:", "license: cc-by-4.0\ntags:") + "\n# My corpus\n")
    assert run("render", corpus, "--quiet") == 0
    assert "license: cc-by-4.0" in readme.read_text()
    assert readme.read_text().endswith("\n# My corpus\n")


def test_an_exchange_cut_off_half_way_is_mended(corpus: Path) -> None:
    assert run("render", corpus, "--quiet") == 0
    before = texts(corpus)
    folder = Corpus(corpus)
    (folder.journal / "data.new").mkdir()
    folder.data.rename(folder.replaced_data)  # killed here
    mend_exchange(folder)
    assert texts(corpus) == before
    exchange(folder, folder.journal / "data.new")
    assert not texts(corpus)
    assert not folder.replaced_data.exists()


def test_styles_are_chosen_by_name(corpus: Path) -> None:
    assert run("render", corpus, "--style", "dialogue=1", "--inverted", 1, "--quiet") == 0
    assert {row["style"] for row in texts(corpus) if row["num_pairs"]} == {"dialogue+inverted"}


def test_mixing_one_to_one_and_exporting_to_three_trainers(
    corpus: Path, general: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("render", corpus, "--quiet") == 0
    mixed = tmp_path / "mixed"
    settings = ["--preset", "domain-adaptive", "--tokenizer", tokenizer]
    capsys.readouterr()
    assert run("mix", mixed, "--augmented", corpus, "--general", general, *settings, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["parts"] == json.loads((mixed / "stats.json").read_text())["mix"]["parts"]
    parts = {part["name"]: part for part in shown["parts"]}
    largest = max(row["tokens"] for row in texts(mixed))
    assert abs(parts["augmented"]["tokens"] - parts["general"]["tokens"]) <= 2 * largest
    rows = load_dataset(str(mixed), split="train", cache_dir=str(tmp_path / "cache"))
    assert set(rows["source"]) == {"augmented", "general"}

    assert run("export", mixed, tmp_path / "lf", "--to", "llama-factory", "--tokenizer", tokenizer) == 0
    entry = json.loads((tmp_path / "lf" / "dataset_info.json").read_text())["hfsynth"]
    assert entry["columns"] == {"prompt": "text"}
    assert run("export", mixed, tmp_path / "text", "--to", "text", "--tokenizer", tokenizer) == 0
    exported = next((tmp_path / "text").glob("*.jsonl")).read_text("utf-8")
    lines = [json.loads(line)["text"] for line in exported.split("\n") if line]
    assert len(lines) == len(rows)
    assert all(line.startswith("<s>") and line.endswith("</s>") and line.count("<s>") == 1 for line in lines)
    assert run("export", mixed, tmp_path / "olmo", "--to", "olmo", "--tokenizer", tokenizer) == 0
    array = np.memmap(next((tmp_path / "olmo").glob("*.npy")), dtype=np.uint16, mode="r")
    assert (array == 2).sum() == len(rows)


def test_the_pairs_are_exported_to_fine_tune_on(
    corpus: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--to", "sft", "--tokenizer", tokenizer]
    assert run("export", corpus, tmp_path / "sft", *settings) == 0
    shown = capsys.readouterr().out
    lines = (tmp_path / "sft" / "hfsynth" / "part-00000.jsonl").read_text("utf-8").splitlines()
    pairs = json.loads((corpus / "stats.json").read_text())["pairs"]
    assert len(lines) == pairs and f"{pairs:,} examples" in shown and "empty_text" in shown
    chains = [*settings, "--sft-row", "chain", "--sft-columns", "prompt-completion"]
    assert run("export", corpus, tmp_path / "chains", *chains, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 < report["documents"] < pairs
    (name,) = report["files"]
    first = json.loads((tmp_path / "chains" / "hfsynth" / name).read_text("utf-8").splitlines()[0])
    assert list(first) == ["prompt", "completion"]


def test_what_does_not_fit_is_told_cut_on_request_and_the_trainers_command_printed(
    corpus: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("render", corpus, "--pair-spans", "--validation", 0.2, "--quiet") == 0
    settings = ["--tokenizer", tokenizer, "--sequence-length", 30]
    capsys.readouterr()
    assert run("export", corpus, tmp_path / "trl", "--to", "trl", *settings) == 0
    shown = capsys.readouterr().out
    assert "texts are longer than 30 tokens, by" in shown and "--split-longer" in shown
    assert "tokens this trainer leaves out: 0" in shown
    assert f"Train on it    trl sft --config {tmp_path}/trl/train/trl.yaml" in shown
    assert run("export", corpus, tmp_path / "lf", "--to", "llama-factory", *settings, "--split-longer") == 0
    shown = capsys.readouterr().out
    assert "texts were cut behind a pair, to fit into 30 tokens" in shown
    assert (
        run("export", corpus, tmp_path / "olmo", "--to", "olmo", "--tokenizer", tokenizer, "--loss-mask", "--json") == 0
    )
    files = json.loads(capsys.readouterr().out)["files"]
    assert "train/part-00000.mask" in files and "validation/part-00000.mask" in files


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["render", "{nowhere}"], 1, "hfsynth synthesize"),
        (["render", "{corpus}", "--style", "sonnet=1"], 2, "sonnet"),
        (["render", "{corpus}", "--style", "dialogue"], 2, "name=number"),
        (["render", "{corpus}", "--validation", "1.5"], 2, "validation"),
        (["mix", "{out}", "--augmented", "{corpus}", "--tokenizer", "{tokenizer}"], 2, "hfsynth render"),
        (["mix", "{out}", "--raw", "nowhere.jsonl", "--tokenizer", "{tokenizer}"], 2, "nowhere.jsonl"),
        (["mix", "{out}", "--general", "{general}", "--tokenizer", "{tokenizer}", "--ratio", "raw=1"], 2, "ratio"),
        (
            ["mix", "{out}", "--general", "{general}", "--tokenizer", "{tokenizer}", "--preset", "x"],
            2,
            "domain-adaptive",
        ),
        (
            ["mix", "{out}", "--general", "{general}", "--tokenizer", "{tokenizer}", "--repeat", "raw"],
            2,
            "no part 'raw'",
        ),
        (
            ["mix", "{out}", "--general", "{general}", "--tokenizer", "{tokenizer}", "--budget-tokens", "9999999"],
            2,
            "general",
        ),
        (["export", "{corpus}", "{out}", "--to", "vinyl", "--tokenizer", "{tokenizer}"], 2, "llama-factory"),
        (["export", "{corpus}", "{out}", "--to", "sft", "--tokenizer", "{tokenizer}", "--sft-row", "x"], 2, "chain"),
    ],
)
def test_bad_input_is_explained_and_leaves_no_texts(
    corpus: Path,
    general: Path,
    tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    places = {"corpus": corpus, "general": general, "tokenizer": tokenizer, "out": tmp_path / "out"}
    assert run(*(argument.format(**places, nowhere=tmp_path / "nowhere") for argument in arguments)) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert not texts(tmp_path / "out")


def test_a_folder_is_rendered_and_mixed_from_python_as_by_the_commands(
    corpus: Path, general: Path, tokenizer: Path, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(corpus, tmp_path / "again"))
    assert run("render", corpus, "--seed", 3, "--tokenizer", tokenizer, "--quiet") == 0
    report = hfsynth.render(again, seed=3, tokenizer=str(tokenizer))
    assert report.root == again
    assert texts(again) == texts(corpus)
    part = hfsynth.Part("general", load_dataset("json", data_files=str(general), split="train"), "general")
    mixed = hfsynth.mix([part], tmp_path / "mixed", tokenizer=str(tokenizer))
    assert mixed.texts["train"] == len(texts(tmp_path / "mixed"))
    assert run("mix", tmp_path / "other", "--general", general, "--tokenizer", tokenizer, "--quiet") == 0
    assert texts(tmp_path / "other") == texts(tmp_path / "mixed")


@pytest.mark.parametrize("settings", [{"tokenizer": len}, {"text_column": "body"}])
def test_what_a_folder_cannot_keep_is_refused(corpus: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        hfsynth.render(corpus, **settings)
