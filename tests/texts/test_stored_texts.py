"""Training texts of a corpus on an object store: rendered, mixed and exported there as in a folder, whole or not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from corpus_folders import contents, stored, upload
from loopback_s3.faults import UNAVAILABLE, Fault
from loopback_s3.server import ScriptedS3
from typer.testing import CliRunner

import hfsynth
from hfsynth.cli.app import app
from hfsynth.core.errors import ConfigError, HfsynthError, OutputError, SourceError
from hfsynth.core.store_paths import StorePath
from hfsynth.core.stores import open_store
from hfsynth.corpus.folder import Corpus, CorpusAt
from hfsynth.corpus.manifest import damages, recorded
from hfsynth.texts.corpus_folder import render_folder
from hfsynth.texts.export.export import export

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
pytest.importorskip("obstore")


def run(*args: object) -> str:
    """Run the command line in this process and return its output."""
    ran = CliRunner().invoke(app, [str(arg) for arg in args])
    if ran.exception is not None:
        raise ran.exception
    return ran.output


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    """A finished corpus folder of 120 documents in three parts."""
    folder = tmp_path_factory.mktemp("made")
    rows = [{"id": f"d{n}", "text": f"This is text number {n}. It is short."} for n in range(120)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--engine", "scripted", "--shots", 3, "--workers", 0, "--shard-rows", 48, "--quiet")
    run("synthesize", folder / "texts.jsonl", folder / "corpus", *options)
    return folder / "corpus"


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "corpus"))


def manifest(url: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(open_store(url).get(".hfsynth/manifest.json"))
    return found


def test_rendering_on_a_store_gives_the_same_files(corpus: Path, bucket: str, tokenizer: Path) -> None:
    url = f"{bucket}/corpus"
    upload(corpus, url)
    for options in (("--validation", 0.2, "--tokenizer", tokenizer), ("--seed", 1, "--pair-spans")):
        run("render", corpus, *options, "--quiet")
        told = run("render", url, *options, "--quiet")
        assert stored(url) == contents(corpus)
        assert manifest(url) == json.loads(Corpus(corpus).manifest.read_text())
        split = '"train": "' + f'{url}/data/train-*.parquet"'
        assert f'Load it    load_dataset("parquet", data_files={{{split}' in told
    keys = [entry.key for entry in open_store(url).list(".hfsynth/")]
    assert not any("data.new" in key for key in keys)


@pytest.mark.parametrize("number", range(1, 60, 3))
def test_rendering_that_dies_at_any_request_can_be_given_again(
    corpus: Path, scripted_s3: ScriptedS3, number: int
) -> None:
    """From one request on the store refuses: at no moment the manifest vouches for texts that are not there."""
    url = "s3://bucket/corpus"
    root = upload(corpus, url)
    render_folder(url, validation=0.3)
    scripted_s3.script.clear()
    rule = scripted_s3.script.add(Fault(status=403), nth=number, times=None)
    try:
        render_folder(url, seed=1)
    except OutputError as error:
        assert rule.fired and url in error.message
    else:
        assert not rule.fired
    scripted_s3.script.clear()
    assert not list(damages(_fresh(root), digests=True))
    render_folder(url, seed=1)
    render_folder(corpus, validation=0.3)
    render_folder(corpus, seed=1)
    assert stored(url) == contents(corpus)
    assert not any("data.new" in key for key in scripted_s3.contents("bucket"))


def _fresh(root: StorePath) -> StorePath:
    return type(root)(open_store(str(root)))


def test_a_failing_request_is_made_good(corpus: Path, scripted_s3: ScriptedS3) -> None:
    url = "s3://bucket/corpus"
    upload(corpus, url)
    render_folder(corpus)
    scripted_s3.script.clear()
    render_folder(url)
    asked = len(scripted_s3.script.requests)
    for number in range(1, asked, 7):
        scripted_s3.script.clear()
        scripted_s3.script.add(UNAVAILABLE, nth=number)
        render_folder(url)
        assert stored(url) == contents(corpus)


def test_one_file_at_most_is_on_the_disk(
    corpus: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, here = f"{bucket}/corpus", tmp_path / "temporary"
    upload(corpus, url)
    here.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    monkeypatch.setattr("hfsynth.corpus.parquet.FILE_BYTES", 1)
    monkeypatch.setattr("hfsynth.corpus.parquet.ROWS_AT_A_TIME", 10)
    monkeypatch.setitem(hfsynth.write_split.__kwdefaults__, "file_bytes", 1)
    seen: list[tuple[str, list[str]]] = []
    put = StorePath.put

    def noted(path: StorePath, content: bytes | Path) -> None:
        seen.append((path.name, [found.name for found in here.rglob("*") if found.is_file()]))
        put(path, content)

    monkeypatch.setattr(StorePath, "put", noted)
    render_folder(url)
    texts = [(name, there) for name, there in seen if name.endswith(".parquet.tmp")]
    assert len(texts) > 2 and all(there == [name] for name, there in texts)
    assert not list(here.iterdir())
    assert len([key for key in stored(url) if key.startswith("data/")]) == len(texts)


def test_mixing_and_exporting_from_and_to_a_store(
    corpus: Path, bucket: str, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    render_folder(corpus, validation=0.2, pair_spans=True)
    url, mixed = f"{bucket}/corpus", f"{bucket}/mixed"
    upload(corpus, url)
    general = tmp_path / "general.jsonl"
    general.write_text(
        "".join(json.dumps({"question": f"What is {n}?", "response": f"It is {n}."}) + "\n" for n in range(50))
    )
    options = ("--general", general, "--tokenizer", tokenizer, "--seed", 3, "--quiet")
    run("mix", mixed, "--augmented", url, *options)
    run("mix", tmp_path / "mixed", "--augmented", corpus, *options)
    there, here = stored(mixed), contents(tmp_path / "mixed")
    same = {key for key in here if key.endswith(".parquet")} | {"README.md"}
    assert there.keys() == here.keys() and all(there[key] == here[key] for key in same)
    sources = json.loads(there["stats.json"])["mix"]["sources"]
    assert sources["augmented"]["source"] == url
    assert sources["augmented"]["revision"] == json.loads(here["stats.json"])["mix"]["sources"]["augmented"]["revision"]
    for to, content in (("olmo", url), ("sft", url), ("text", mixed)):
        local = corpus if content == url else tmp_path / "mixed"
        run("export", content, tmp_path / f"{to}-there", "--to", to, "--tokenizer", tokenizer, "--quiet")
        run("export", local, tmp_path / f"{to}-here", "--to", to, "--tokenizer", tokenizer, "--quiet")
        found, expected = contents(tmp_path / f"{to}-there"), contents(tmp_path / f"{to}-here")
        assert found.keys() == expected.keys() and found == expected


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few documents fill a shard."""
    monkeypatch.setattr("hfsynth.texts.export.shards.BATCH_DOCUMENTS", 10)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("to", ["olmo", "megatron", "litdata", "sft", "text"])
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_an_export_is_written_to_a_store(
    corpus: Path, bucket: str, tokenizer: Path, tmp_path: Path, to: str, validation: float
) -> None:
    render_folder(corpus, validation=validation)
    here = export(corpus, tmp_path / "out", to=to, tokenizer=str(tokenizer), shard_bytes=2000)
    there = export(corpus, f"{bucket}/out", to=to, tokenizer=str(tokenizer), shard_bytes=2000)
    assert stored(f"{bucket}/out") == contents(tmp_path / "out")
    assert there.files == here.files and len(here.files) > 2 and there.folder.startswith(f"{bucket}/out")
    again = export(corpus, f"{bucket}/out", to=to, tokenizer=str(tokenizer), shard_bytes=2000)
    assert again.resumed_shards == there.shards
    with pytest.raises(OutputError, match=f"{bucket}/out.* belongs to another export"):
        export(corpus, f"{bucket}/out", to=to, tokenizer=str(tokenizer), shard_bytes=3000)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("number", range(3, 40, 4))
def test_an_export_to_a_store_goes_on_where_it_was(
    corpus: Path, scripted_s3: ScriptedS3, tokenizer: Path, tmp_path: Path, number: int
) -> None:
    render_folder(corpus)
    options = {"to": "olmo", "tokenizer": str(tokenizer), "shard_bytes": 2000}
    export(corpus, tmp_path / "out", **options)
    rule = scripted_s3.script.add(Fault(status=403), nth=number, times=None)
    with suppress(OutputError):
        export(corpus, "s3://bucket/out", **options)
    assert rule.fired
    scripted_s3.script.clear()
    export(corpus, "s3://bucket/out", **options)
    assert stored("s3://bucket/out") == contents(tmp_path / "out")


def test_a_configuration_is_not_written_to_a_store(corpus: Path, bucket: str, tokenizer: Path) -> None:
    render_folder(corpus)
    for to in ("axolotl", "trl", "llama-factory", "litgpt", "torchtitan"):
        with pytest.raises(ConfigError, match=f"names files of the machine that trains, and {bucket}/out is none"):
            export(corpus, f"{bucket}/out", to=to, tokenizer=str(tokenizer))
    (StorePath(open_store(bucket)) / "out" / "notes.txt").put(b"mine")
    with pytest.raises(OutputError, match=f"{bucket}/out is not empty"):
        export(corpus, f"{bucket}/out", to="olmo", tokenizer=str(tokenizer))


def test_what_is_not_there_is_said(corpus: Path, bucket: str, tokenizer: Path) -> None:
    url = f"{bucket}/corpus"
    root = upload(corpus, url)
    with pytest.raises(SourceError, match=f"{url} has no training texts"):
        export(url, "nowhere", to="olmo", tokenizer=str(tokenizer))
    with pytest.raises(SourceError, match=f"{url} has no training texts in split 'train'"):
        hfsynth.open_texts(url)
    part = root / "pairs" / "train-00001-of-00003.parquet"
    part.put(part.read_bytes()[:-3])
    with pytest.raises(OutputError, match=f"{url} is not whole: pairs/train-00001"):
        render_folder(url)
    (root / "data" / "notes.txt").put(b"")
    assert recorded(CorpusAt(root))
    for unfinished in (f"{bucket}/nothing", f"{url}/pairs"):
        with pytest.raises(OutputError, match=f"{unfinished} holds no finished corpus"):
            render_folder(unfinished)
    with pytest.raises(HfsynthError, match="is not empty and not made by hfsynth"):
        hfsynth.mix([], f"{url}/pairs", tokenizer=str(tokenizer))


@pytest.mark.skipif(find_spec("s3fs") is None, reason="not installed: s3fs")
def test_datasets_loads_what_is_on_a_store(corpus: Path, bucket: str, tmp_path: Path) -> None:
    """As the pages spell it, in a process of its own whose environment says where the store is."""
    url = f"{bucket}/corpus"
    upload(corpus, url)
    program = """
import sys
from datasets import load_dataset
files = {"train": f"{sys.argv[1]}/pairs/train-*.parquet"}
print(len(load_dataset("parquet", data_files=files, split="train")))
print(next(iter(load_dataset("parquet", data_files=files, split="train", streaming=True)))["id"])
"""
    env = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    ran = subprocess.run([sys.executable, "-c", program, url], env=env, capture_output=True, text=True)
    assert ran.stdout.split() == ["120", "d0"], ran.stderr
