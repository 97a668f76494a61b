"""Exports hold every document once, BOS and EOS once a document, and go on where they were killed."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
from datasets import Dataset, load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from started import run_process
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from hfsynth.core.errors import ColumnError, ConfigError, OutputError, SourceError
from hfsynth.models.tokenizers import load_tokenizer
from hfsynth.texts.export.export import ExportReport, export
from hfsynth.texts.export.shards import ExportProgress
from hfsynth.texts.export.targets import Target

PROSE = [
    "The quick brown fox jumps over the lazy dog.",
    "Pack my box with five dozen liquor jugs!",
    "漢字とかな",
    "שלום",
]
LLAMA = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
GPT2 = ("<|endoftext|>",)


def train_bpe(specials: tuple[str, ...]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(PROSE, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    return tokenizer


def llama3_style() -> transformers.PreTrainedTokenizerFast:
    """Adds BOS itself when asked for special tokens, as Llama 3's does."""
    tokenizer = train_bpe(LLAMA)
    bos = LLAMA[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=LLAMA[1])


def gpt2_style() -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=train_bpe(GPT2), bos_token=GPT2[0], eos_token=GPT2[0])


def eos_only() -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=train_bpe(GPT2), eos_token=GPT2[0])


TOKENIZERS = {"llama3": llama3_style(), "gpt2": gpt2_style(), "eos-only": eos_only()}


def documents(count: int) -> list[dict[str, object]]:
    return [{"text": f"{at}: {PROSE[at % len(PROSE)]}", "source_ids": [f"d{at}", f"e{at}"]} for at in range(count)]


def write_folder(folder: Path, rows: list[dict[str, object]], *, files: int = 2, split: str = "train") -> Path:
    (folder / "data").mkdir(parents=True)
    size = -(-len(rows) // files)
    for at in range(files):
        table = pa.Table.from_pylist(rows[at * size : (at + 1) * size])
        path = folder / "data" / f"{split}-{at:05d}-of-{files:05d}.parquet"
        pq.write_table(table, path, row_group_size=7)
    return folder


def jsonl_texts(folder: Path) -> list[str]:
    lines = (line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines())
    return [json.loads(line)["text"] for line in lines]


def arrays(folder: Path) -> np.ndarray:
    described = json.loads((folder / "dataset.json").read_text())
    return np.concatenate([np.memmap(folder / path, mode="r", dtype=described["dtype"]) for path in described["paths"]])


def split_at(ids: Iterable[int], eos: int) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for one in ids:
        found[-1].append(int(one))
        if one == eos:
            found.append([])
    assert found.pop() == []
    return found


def contents(folder: Path, *, called: str = "") -> dict[str, bytes]:
    """Return every file; with `called`, as if the folder were of that name: configurations say where they are."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: data.replace(str(folder).encode(), called.encode()) if called else data for name, data in files.items()
    }


# --- BOS and EOS, exactly once ---------------------------------------------------------------------------------------

CONTROL = st.sampled_from(
    [*LLAMA, *GPT2, "<|", "|>", "< |endoftext|>", "<", "\n", "{answer}", "漢字", "שלום", "\u202e"]
)
NASTY = st.lists(st.one_of(CONTROL, st.text(st.characters(exclude_categories=["Cs"]))), min_size=1).map("".join)
TEXTS = st.lists(NASTY.filter(str.strip), min_size=1, max_size=6)
SLOW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def expected_ids(tokenizer: transformers.PreTrainedTokenizerFast, text: str) -> list[int]:
    """One BOS, where it is not EOS, the text with no control id in it, one EOS."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = [] if tokenizer.bos_token in (None, tokenizer.eos_token) else [tokenizer.bos_token_id]
    return [*bos, *ids, tokenizer.eos_token_id]


def specials_in(tokenizer: transformers.PreTrainedTokenizerFast, ids: list[int]) -> list[int]:
    control = tokenizer.added_tokens_decoder
    return [one for one in ids if one in control]


def control_frame(tokenizer: transformers.PreTrainedTokenizerFast) -> list[int]:
    both = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    return both if tokenizer.bos_token not in (None, tokenizer.eos_token) else both[1:]


@pytest.mark.parametrize("name", TOKENIZERS)
@SLOW
@given(texts=TEXTS)
def test_text_gets_bos_and_eos_once_and_no_other_control_token(
    name: str, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer, out = TOKENIZERS[name], tmp_path_factory.mktemp("text")
    report = export([{"text": text} for text in texts], out, to="text", tokenizer=tokenizer)
    written = jsonl_texts(out)
    assert len(written) == report.documents == len(texts)
    for text, line in zip(texts, written, strict=True):
        ids = tokenizer(line, add_special_tokens=False)["input_ids"]
        assert specials_in(tokenizer, ids) == control_frame(tokenizer)
        assert ids[-1] == tokenizer.eos_token_id
        body = tokenizer.decode(ids, skip_special_tokens=True)
        assert body.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("name", TOKENIZERS)
@SLOW
@given(texts=TEXTS)
def test_arrays_hold_bos_and_eos_once_a_document_and_no_other_control_id(
    name: str, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer, out = TOKENIZERS[name], tmp_path_factory.mktemp("olmo")
    report = export([{"text": text} for text in texts], out, to="olmo", tokenizer=tokenizer)
    found = split_at(arrays(out), tokenizer.eos_token_id)
    assert len(found) == len(texts)
    assert all(specials_in(tokenizer, ids) == control_frame(tokenizer) for ids in found)
    spelled = [tokenizer.decode(ids, skip_special_tokens=True) for ids in found]
    assert [text.replace(" ", "") for text in spelled] == [text.replace(" ", "") for text in texts]
    changed = sum(text != original for text, original in zip(spelled, texts, strict=True))
    assert report.neutralized == changed


def test_text_without_control_strings_is_exported_to_the_token(tmp_path: Path) -> None:
    rows = documents(50)
    for name, tokenizer in TOKENIZERS.items():
        export(rows, tmp_path / name, to=Target.OLMO, tokenizer=tokenizer)
        wanted = [expected_ids(tokenizer, str(row["text"])) for row in rows]
        assert split_at(arrays(tmp_path / name), tokenizer.eos_token_id) == wanted


def test_the_published_rule_for_llama_3(tmp_path: Path) -> None:
    export([{"text": "body"}], tmp_path / "j", to="text", tokenizer=llama3_style())
    export([{"text": "body"}], tmp_path / "p", to="text", tokenizer=llama3_style(), file_format="parquet")
    assert jsonl_texts(tmp_path / "j") == ["<|begin_of_text|>body<|end_of_text|>"]
    assert pq.read_table(tmp_path / "p" / "part-00000.parquet").to_pylist() == [
        {"text": jsonl_texts(tmp_path / "j")[0]}
    ]


# --- OLMo-core -------------------------------------------------------------------------------------------------------


def test_arrays_are_bare_and_their_index_has_a_line_a_document(tmp_path: Path) -> None:
    rows, tokenizer = documents(30), llama3_style()
    rows[3]["source_ids"] = ["a\nb", "c,d"]
    report = export(rows, tmp_path, to="olmo", tokenizer=tokenizer, shard_bytes=1)
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described["dtype"] == "uint16"
    assert described["tokenizer"]["eos_token_id"] == tokenizer.eos_token_id
    assert described["tokenizer"]["bos_token_id"] == tokenizer.bos_token_id
    assert (described["documents"], described["tokens"]) == (30, report.tokens)
    assert (tmp_path / "part-00000.npy").stat().st_size == report.tokens * 2
    ids = np.memmap(tmp_path / "part-00000.npy", mode="r", dtype=np.uint16)
    with gzip.open(tmp_path / "part-00000.csv.gz", "rt", encoding="utf-8", newline="") as file:
        lines = file.read().splitlines()
    index = list(csv.reader(lines))
    assert len(lines) == 30
    assert [int(start) for start, *_ in index] == [0, *(int(end) for _, end, *_ in index[:-1])]
    assert all(ids[int(end) - 1] == tokenizer.eos_token_id for _, end, *_ in index)
    assert [row[2] for row in index[:4]] == ["d0|e0", "d1|e1", "d2|e2", "a b|c,d"]
    assert [int(row[4]) for row in index] == list(range(30))


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    tokenizer = llama3_style()
    tokenizer.add_tokens([f"<extra-{at}>" for at in range(1 << 16)])
    report = export([{"text": "one <extra-65535>"}], tmp_path, to="olmo", tokenizer=tokenizer)
    ids = arrays(tmp_path)
    assert ids.dtype == np.uint32 and len(ids) == report.tokens
    assert tokenizer.convert_tokens_to_ids("<extra-65535>") == ids[-2] > 1 << 16


@pytest.mark.parametrize("name", TOKENIZERS)
def test_olmo_core_reads_the_arrays(name: str, tmp_path: Path) -> None:
    data = pytest.importorskip("olmo_core.data", reason="ai2-olmo-core is not installed", exc_type=ImportError)
    rows, tokenizer = documents(100), TOKENIZERS[name]
    report = export(rows, tmp_path / "out", to="olmo", tokenizer=tokenizer)
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    dataset = data.NumpyFSLDatasetConfig(
        tokenizer=data.TokenizerConfig(**described["tokenizer"]),
        paths=[str(tmp_path / "out" / path) for path in described["paths"]],
        dtype=described["dtype"],
        sequence_length=16,
        generate_doc_lengths=True,
        work_dir=str(tmp_path / "work"),
    ).build()
    dataset.prepare()
    assert len(dataset) == report.tokens // 16
    read = [int(one) for at in range(len(dataset)) for one in dataset[at]["input_ids"]]
    assert read == arrays(tmp_path / "out")[: len(read)].tolist()
    from olmo_core.data.utils import iter_document_indices

    path = str(tmp_path / "out" / described["paths"][0])
    bos, eos = described["tokenizer"]["bos_token_id"], described["tokenizer"]["eos_token_id"]
    by_index = list(iter_document_indices(path, use_array_if_local=False, dtype=np.uint16))
    by_array = list(iter_document_indices(path, eos_token_id=eos, bos_token_id=bos, dtype=np.uint16))
    assert by_index == [(int(start), int(end)) for start, end in by_array]
    assert len(by_index) == 100


# --- LLaMA-Factory ---------------------------------------------------------------------------------------------------


def test_the_entry_points_to_a_folder_and_other_entries_stay(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json", "note": "é"}}', encoding="utf-8")
    rows = documents(30)
    export(rows, tmp_path, to="llama-factory", tokenizer=llama3_style(), name="corpus")
    export(rows[:3], tmp_path, to="llama-factory", tokenizer=llama3_style(), name="second")
    entries = json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))
    assert entries["mine"] == {"file_name": "mine.json", "note": "é"}
    assert entries["corpus"] == {"file_name": "corpus", "columns": {"prompt": "text"}}
    assert set(entries) == {"mine", "corpus", "second"}
    assert jsonl_texts(tmp_path / "corpus") == [f"{LLAMA[0]}{row['text']}" for row in rows]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_documented_way_of_llama_factory_sees_bos_and_eos_once(name: str, tmp_path: Path) -> None:
    """Every file of the folder is read as JSON, EOS is appended, BOS put before where the tokenizer adds one."""
    tokenizer = TOKENIZERS[name]
    export(
        [{"text": "plain"}, {"text": f"a {tokenizer.eos_token} b"}], tmp_path, to="llama-factory", tokenizer=tokenizer
    )
    entry = json.loads((tmp_path / "dataset_info.json").read_text())["hfsynth"]
    files = [str(path) for path in (tmp_path / entry["file_name"]).iterdir()]
    data = load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    texts = [row[entry["columns"]["prompt"]] + tokenizer.eos_token for row in data]
    bos = tokenizer.bos_token if getattr(tokenizer, "add_bos_token", False) else ""
    ids = tokenizer([bos + text for text in texts], add_special_tokens=False)["input_ids"]
    assert all(specials_in(tokenizer, one) == control_frame(tokenizer) for one in ids)


def test_llama_factory_loads_the_entry(tmp_path: Path) -> None:
    parser = pytest.importorskip(
        "llamafactory.data.parser", reason="llamafactory is not installed or does not import", exc_type=ImportError
    )
    export(documents(3), tmp_path, to="llama-factory", tokenizer=llama3_style(), name="corpus")
    (attributes,) = parser.get_dataset_list(["corpus"], str(tmp_path))
    assert attributes.load_from == "file"
    assert (attributes.prompt, attributes.query, attributes.response) == ("text", None, None)
    assert (tmp_path / attributes.dataset_name / "part-00000.jsonl").exists()


@pytest.mark.parametrize("content", ["not json", "[]", '{"corpus": {"file_name": "other.json"}}'])
def test_a_dataset_info_that_cannot_take_the_entry_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text(content)
    with pytest.raises(OutputError):
        export(documents(3), tmp_path, to="llama-factory", tokenizer=llama3_style(), name="corpus")
    assert path.read_text() == content
    assert [one.name for one in tmp_path.iterdir()] == ["dataset_info.json"]


# --- shards, resuming ------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfsynth.texts.export.shards.BATCH_DOCUMENTS", 5)


def export_until(batches: int, data: object, out: Path, target: str) -> None:
    def stop(progress: ExportProgress) -> None:
        nonlocal batches
        batches -= 1
        if not batches:
            raise Stop

    with pytest.raises(Stop):
        export(data, out, to=target, tokenizer=llama3_style(), shard_bytes=400, on_progress=stop)


@pytest.mark.parametrize("target", [target for target in Target if target is not Target.SFT])
@pytest.mark.parametrize("kind", ["folder", "dataset"])
def test_an_export_goes_on_where_it_stopped(target: str, kind: str, tmp_path: Path, small_batches: None) -> None:
    rows = documents(103)
    rows[10]["text"], rows[50]["text"], rows[102]["text"] = "", None, "  "
    rows[20]["text"] = f"holds {LLAMA[0]} and more"
    data = write_folder(tmp_path / "in", rows) if kind == "folder" else Dataset.from_list(rows)
    tokenizer = llama3_style()
    once = export(data, tmp_path / "once", to=target, tokenizer=tokenizer, shard_bytes=400)
    assert once.shards > 5 and once.documents == 100 and once.neutralized == 1
    assert once.skipped == {"empty_text": 3}
    for batches in (3, 7, 5):
        export_until(batches, data, tmp_path / "often", target)
    finished = {path: path.stat().st_ino for path in (tmp_path / "often").rglob("part-*")}
    again = export(data, tmp_path / "often", to=target, tokenizer=tokenizer, shard_bytes=400)
    assert contents(tmp_path / "often", called="out") == contents(tmp_path / "once", called="out")
    assert finished and all(path.stat().st_ino == inode for path, inode in finished.items())
    assert again.resumed_shards > 0
    assert (again.documents, again.tokens, again.files) == (once.documents, once.tokens, once.files)


def test_a_finished_export_is_not_touched(tmp_path: Path) -> None:
    data = Dataset.from_list(documents(20))
    first = export(data, tmp_path, to="olmo", tokenizer=llama3_style())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = export(data, tmp_path, to="olmo", tokenizer=llama3_style())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert (second.documents, second.resumed_shards, first.resumed_shards) == (20, 1, 0)


def test_a_damaged_shard_is_made_again(tmp_path: Path, small_batches: None) -> None:
    data = Dataset.from_list(documents(40))
    export(data, tmp_path, to="text", tokenizer=llama3_style(), shard_bytes=400)
    whole = contents(tmp_path)
    (tmp_path / "part-00001.jsonl").write_text("")
    export(data, tmp_path, to="text", tokenizer=llama3_style(), shard_bytes=400)
    assert contents(tmp_path) == whole


_KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
import hfsynth.texts.export.shards
hfsynth.texts.export.shards.BATCH_DOCUMENTS = 5
from test_export import Path, export, llama3_style
def die(progress):
    if progress.documents >= 60:
        os.kill(os.getpid(), signal.SIGKILL)
export(Path(sys.argv[1]), sys.argv[2], to="olmo", tokenizer=llama3_style(), shard_bytes=400, on_progress=die)
"""


def test_an_export_that_was_killed_ends_the_same(tmp_path: Path, small_batches: None) -> None:
    folder = write_folder(tmp_path / "in", documents(100))
    arguments = [folder, tmp_path / "killed", *Path(__file__).parents[:2]]
    killed = run_process([sys.executable, "-c", _KILLED, *map(str, arguments)])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "dataset.json").exists()
    report = export(folder, tmp_path / "killed", to="olmo", tokenizer=llama3_style(), shard_bytes=400)
    export(folder, tmp_path / "once", to="olmo", tokenizer=llama3_style(), shard_bytes=400)
    assert report.resumed_shards > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "once")


def test_another_input_tokenizer_or_option_is_another_export(tmp_path: Path) -> None:
    data, other = Dataset.from_list(documents(20)), Dataset.from_list(documents(21))
    export(data, tmp_path, to="text", tokenizer=llama3_style())
    whole = contents(tmp_path)
    for changed, options in (
        (other, {}),
        (data, {"tokenizer": gpt2_style()}),
        (data, {"to": "olmo"}),
        (data, {"shard_bytes": 7}),
        (data, {"file_format": "parquet"}),
        (documents(20), {}),
    ):
        with pytest.raises(OutputError, match="belongs to another export"):
            export(changed, tmp_path, **({"to": "text", "tokenizer": llama3_style()} | options))
    assert contents(tmp_path) == whole


def test_a_stream_resumes_when_it_is_named(tmp_path: Path, small_batches: None) -> None:
    data = Dataset.from_list(documents(60))

    def run(stop_at: int) -> ExportReport:
        def stop(progress: ExportProgress) -> None:
            assert progress.total_rows is None
            if progress.documents >= stop_at:
                raise Stop

        stream = data.to_iterable_dataset()
        options = {"to": "text", "tokenizer": llama3_style(), "shard_bytes": 400, "identity": "mine"}
        return export(stream, tmp_path, on_progress=stop, **options)

    with pytest.raises(Stop):
        run(30)
    report = run(1000)
    assert report.resumed_shards > 0
    assert [text.count(":") for text in jsonl_texts(tmp_path)] == [1] * 60


def test_a_used_up_iterator_cannot_be_resumed_from(tmp_path: Path, small_batches: None) -> None:
    def stop(progress: ExportProgress) -> None:
        if progress.shards:
            raise Stop

    options = {"to": "text", "tokenizer": llama3_style(), "shard_bytes": 1, "identity": "mine"}
    with pytest.raises(Stop):
        export(iter(documents(30)), tmp_path, on_progress=stop, **options)
    with pytest.raises(ConfigError, match="used up"):
        export(iter(documents(30)), tmp_path, **options)


def test_progress_counts_up_to_the_report(tmp_path: Path, small_batches: None) -> None:
    seen: list[ExportProgress] = []
    data = Dataset.from_list(documents(33))
    report = export(data, tmp_path, to="olmo", tokenizer=llama3_style(), shard_bytes=400, on_progress=seen.append)
    assert [one.rows for one in seen] == sorted(one.rows for one in seen)
    assert (seen[-1].rows, seen[-1].total_rows, seen[-1].documents) == (33, 33, 33)
    assert seen[-1].tokens == report.tokens
    assert seen[-1].shards == report.shards - 1


def test_few_rows_are_read_ahead(tmp_path: Path, small_batches: None) -> None:
    read = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal read
        for row in documents(300):
            read += 1
            yield row

    def check(progress: ExportProgress) -> None:
        assert read - progress.rows <= 5 * 3

    export(rows(), tmp_path, to="olmo", tokenizer=llama3_style(), on_progress=check)
    assert read == 300


# --- bad input -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_without_eos_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bare = transformers.PreTrainedTokenizerFast(tokenizer_object=train_bpe(GPT2), bos_token=GPT2[0])
    for target in Target:
        with pytest.raises(ConfigError, match="no EOS token") as error:
            export(documents(3), tmp_path / "out", to=target, tokenizer=bare)
        assert "eos_token" in error.value.hint
    assert not (tmp_path / "out").exists()


def test_an_eos_that_is_ordinary_text_is_refused(tmp_path: Path) -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=train_bpe(()), eos_token="g")
    with pytest.raises(ConfigError, match="ordinary text as its BOS or EOS"):
        export([{"text": "dog"}], tmp_path / "olmo", to="olmo", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="cannot be told from"):
        export([{"text": "dog"}], tmp_path / "text", to="text", tokenizer=tokenizer)


def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"not empty \(notes.txt\)"):
        export(documents(3), tmp_path, to="olmo", tokenizer=llama3_style())
    with pytest.raises(OutputError, match="not empty"):
        export(documents(3), tmp_path / "notes.txt", to="olmo", tokenizer=llama3_style())
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "export.json").write_text('{"shards": 3}')
    with pytest.raises(OutputError, match="not the manifest"):
        export(documents(3), tmp_path / "export", to="olmo", tokenizer=llama3_style())


def test_input_that_is_missing_or_of_the_wrong_kind_is_named(tmp_path: Path) -> None:
    tokenizer, out = llama3_style(), tmp_path / "out"
    folder = write_folder(tmp_path / "in", documents(4), split="validation")
    cases: list[tuple[object, type[Exception], str]] = [
        (tmp_path / "nowhere", SourceError, "has no training texts"),
        ({"train": []}, SourceError, r"what is exported\['train'\] must be a dataset; got list"),
        ({"train": Dataset.from_list([{"prompt": "x"}])}, ColumnError, "Split 'train' has no column 'text'"),
        (Dataset.from_list([{"prompt": "x"}]), ColumnError, "no column 'text'; the columns are: prompt"),
        (write_folder(tmp_path / "bad", [{"content": "x"}], files=1), ColumnError, "has no column 'text'"),
    ]
    for data, kind, message in cases:
        with pytest.raises(kind, match=message):
            export(data, out, to="text", tokenizer=tokenizer)
    with pytest.raises(SourceError, match="no texts in split 'train'; splits there: validation"):
        export(folder, out, to="text", tokenizer=tokenizer, split="train")
    assert not out.exists()
    with pytest.raises(ColumnError, match="must hold strings; row 1 holds int"):
        export([{"text": "a"}, {"text": 5}], tmp_path / "a", to="text", tokenizer=tokenizer)
    with pytest.raises(ColumnError, match="A row has no column 'text'; the columns are: title"):
        export([{"title": "a"}], tmp_path / "b", to="text", tokenizer=tokenizer)
    with pytest.raises(SourceError, match="None of the 2 rows holds a text .2 empty_text."):
        export([{"text": ""}, {"text": None}], tmp_path / "c", to="text", tokenizer=tokenizer)
    assert export(folder, tmp_path / "d", to="text", tokenizer=tokenizer, split="validation").documents == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"to": "megatrom"},
            "to must be one of axolotl, litdata, litgpt, llama-factory, megatron, nanotron, olmo, sft, text,",
        ),
        ({"file_format": "csv"}, "file_format must be one of jsonl, parquet"),
        ({"shard_bytes": 0}, "1 or more"),
        ({"to": "llama-factory", "name": "../x"}, "cannot be that of a folder"),
        ({"to": "llama-factory", "name": ""}, "cannot be that of a folder"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export(documents(3), tmp_path / "out", **({"to": "text", "tokenizer": llama3_style()} | options))


# --- splits ----------------------------------------------------------------------------------------------------------


def split_folder(folder: Path) -> Path:
    """A corpus folder of two splits, seven texts of the one and four of the other."""
    write_folder(folder, documents(7))
    pq.write_table(pa.Table.from_pylist(documents(4)), folder / "data" / "validation-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("to", ["text", "olmo"])
def test_every_split_gets_the_export_that_it_would_get_alone(tmp_path: Path, to: str, small_batches: None) -> None:
    folder, seen = split_folder(tmp_path / "in"), list[ExportProgress]()
    tokenizer = llama3_style()
    report = export(folder, tmp_path / "out", to=to, tokenizer=tokenizer, shard_bytes=400, on_progress=seen.append)
    assert {name: part.documents for name, part in report.splits.items()} == {"train": 7, "validation": 4}
    assert report.documents == 11 and report.shards == sum(part.shards for part in report.splits.values())
    assert report.tokens == (sum(part.tokens or 0 for part in report.splits.values()) or None)
    assert all((tmp_path / "out" / name).is_file() for name in report.files)
    for split in report.splits:
        alone = tmp_path / split
        export(folder, alone, to=to, tokenizer=tokenizer, shard_bytes=400, split=split)
        assert contents(tmp_path / "out" / split) == contents(alone)
    steps = [(progress.rows, progress.documents) for progress in seen]
    assert steps == sorted(steps) and steps[-1] == (11, 11) and {progress.total_rows for progress in seen} == {11}


def test_llama_factory_has_an_entry_for_each_split(tmp_path: Path) -> None:
    report = export(split_folder(tmp_path / "in"), tmp_path / "out", to="llama-factory", tokenizer=llama3_style())
    entries = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert list(entries) == ["hfsynth", "hfsynth_validation"]
    assert [len(jsonl_texts(tmp_path / "out" / name)) for name in entries] == [7, 4]
    assert report.files == ("hfsynth/part-00000.jsonl", "hfsynth_validation/part-00000.jsonl")


def test_splits_are_chosen_and_dicts_of_datasets_taken(tmp_path: Path) -> None:
    folder, options = split_folder(tmp_path / "in"), {"to": "text", "tokenizer": llama3_style()}
    pq.write_table(pa.Table.from_pylist(documents(2)), folder / "data" / "test-00000-of-00001.parquet")
    assert list(export(folder, tmp_path / "two", split=["test", "train"], **options).splits) == ["train", "test"]
    assert export(folder, tmp_path / "one", split=["test"], **options).files == ("part-00000.jsonl",)
    rows = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    export(rows, tmp_path / "dict", split=["train", "test"], **options)
    exported = [path.relative_to(tmp_path / "dict").as_posix() for path in (tmp_path / "dict").rglob("*.jsonl")]
    assert sorted(exported) == ["test/part-00000.jsonl", "train/part-00000.jsonl"]
    assert jsonl_texts(tmp_path / "dict" / "test") == jsonl_texts(tmp_path / "two" / "test")
    streams = {name: part.to_iterable_dataset() for name, part in rows.items()}
    assert export(streams, tmp_path / "streams", **options).documents == 13


def test_one_split_and_several_do_not_share_a_folder(tmp_path: Path) -> None:
    folder, options = split_folder(tmp_path / "in"), {"to": "text", "tokenizer": llama3_style()}
    export(folder, tmp_path / "one", split="train", **options)
    before = contents(tmp_path / "one")
    with pytest.raises(OutputError, match="a folder for each of the splits train, validation; it holds export.json"):
        export(folder, tmp_path / "one", **options)
    assert contents(tmp_path / "one") == before
    export(folder, tmp_path / "both", **options)
    with pytest.raises(OutputError, match="is not empty"):
        export(folder, tmp_path / "both", split="train", **options)
    assert export(folder, tmp_path / "both", **options).resumed_shards == 2


def test_broken_unicode_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"text": "half \ud800"}, {"text": "whole"}]
    report = export(rows, tmp_path, to="olmo", tokenizer=llama3_style())
    assert (report.documents, report.skipped) == (1, {"invalid_unicode": 1})


def test_the_tokenizer_given_is_not_changed(tmp_path: Path) -> None:
    tokenizer = llama3_style()
    tokenizer.backend_tokenizer.enable_truncation(2)
    before = tokenizer.backend_tokenizer.to_str()
    export([{"text": "long enough to be cut"}], tmp_path / "out", to="olmo", tokenizer=tokenizer)
    assert tokenizer.backend_tokenizer.to_str() == before
    assert len(arrays(tmp_path / "out")) > 4
    tokenizer.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").eos == load_tokenizer(tokenizer).eos
