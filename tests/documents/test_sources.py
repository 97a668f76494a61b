from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import tracemalloc
import types
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback_hub.server import Hub

from hfsynth.core.errors import ColumnError, ConfigError, SourceError
from hfsynth.core.records import content_id
from hfsynth.documents.source import OpenSource, Source, open_source

ROWS = [{"id": f"d{n}", "text": f"Text {n}.\nMore, “quoted”.", "n": n, "tags": ["a"] * (n % 3)} for n in range(25)]


def opened(location: Path | str, **settings: str | int | None) -> OpenSource:
    return open_source(replace(Source(str(location)), **settings))


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path, *content: str | bytes) -> Path:
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in content))
    return path


# Every kind of source holds the same 25 documents


def make_jsonl(folder: Path) -> Path:
    return write_jsonl(folder / "rows.jsonl", ROWS)


def make_gz(folder: Path) -> Path:
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(make_jsonl(folder).read_bytes()))
    return path


def make_two_jsonl(folder: Path) -> Path:
    both = folder / "both"
    both.mkdir()
    write_jsonl(both / "a.jsonl", ROWS[:10])
    write_jsonl(both / "b.jsonl", ROWS[10:])
    return both


def make_csv(folder: Path) -> Path:
    path = folder / "rows.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "text", "n"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def make_parquet(folder: Path) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)
    return path


def make_parquet_glob(folder: Path) -> str:
    pq.write_table(pa.Table.from_pylist(ROWS[:11]), folder / "train-0.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[11:]).select(["tags", "n", "text", "id"]), folder / "train-1.parquet")
    return str(folder / "train-*.parquet")


def make_saved(folder: Path) -> Path:
    Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    return folder / "saved"


def make_saved_dict(folder: Path) -> Path:
    other = Dataset.from_dict({"text": ["other"]})
    DatasetDict(test=other, train=Dataset.from_list(ROWS)).save_to_disk(folder / "dict")
    return folder / "dict"


def make_texts(folder: Path) -> Path:
    for row in ROWS:
        (folder / "texts" / "deep").mkdir(parents=True, exist_ok=True)
        (folder / "texts" / "deep" / f"{row['n']:02}.txt").write_text(row["text"])
    return folder / "texts"


def make_markdown(folder: Path) -> str:
    for row in ROWS:
        (folder / f"{row['n']:02}.md").write_text(row["text"])
    return str(folder / "*.md")


def make_memory_url(folder: Path) -> str:
    url = f"memory://{folder.name}/rows.jsonl"
    with fsspec.open(url, "wb") as stream:
        stream.write(make_jsonl(folder).read_bytes())
    return url


MAKERS: list[Callable[[Path], Path | str]] = [
    make_jsonl,
    make_gz,
    make_two_jsonl,
    make_csv,
    make_parquet,
    make_parquet_glob,
    make_saved,
    make_saved_dict,
    make_texts,
    make_markdown,
    make_memory_url,
]
KNOW_THEIR_LENGTH = [make_parquet, make_parquet_glob, make_saved, make_saved_dict, make_texts, make_markdown]


@pytest.mark.parametrize("make", MAKERS)
def test_every_kind_of_source_gives_its_documents_in_order(make: Callable[[Path], Path | str], tmp_path: Path) -> None:
    source = opened(make(tmp_path))
    rows = list(source.rows())
    assert [row["text"] for row in rows] == [row["text"] for row in ROWS]
    assert all(tuple(row) == source.columns == tuple(source.features) for row in rows)
    expected = {make_texts: "deep/07.txt", make_markdown: "07.md"}.get(make, "d7")
    assert rows[7]["id"] == expected
    if "n" in source.columns:
        assert [row["n"] for row in rows] == list(range(25)) and source.features["n"] == Value("int64")
    if "tags" in source.columns:
        assert rows[5]["tags"] == ["a", "a"] and source.features["tags"] == List(Value("string"))
    assert source.num_rows == (25 if make in KNOW_THEIR_LENGTH else None)
    assert source.count() == source.num_rows == 25


@pytest.mark.parametrize("make", MAKERS)
def test_row_ranges_are_slices_of_the_whole(make: Callable[[Path], Path | str], tmp_path: Path) -> None:
    source = opened(make(tmp_path))
    whole = list(source.rows())
    ranges = [(0, 5), (5, 12), (12, 12), (12, None), (3, 9), (9, 10), (24, 25), (20, 99), (25, 30), (40, 50), (7, 2)]
    for start, stop in ranges:
        assert list(source.rows(start, stop)) == whole[start:stop], (start, stop)


@pytest.mark.parametrize("make", MAKERS)
def test_a_source_opened_again_has_the_same_revision(make: Callable[[Path], Path | str], tmp_path: Path) -> None:
    location = make(tmp_path)
    revision = opened(location).revision
    assert revision and opened(location).revision == revision
    assert list(opened(location, revision=revision).rows(0, 2))
    with pytest.raises(SourceError, match="should be at revision main, and is at"):
        opened(location, revision="main")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=30), min_size=1, max_size=12), st.integers(0, 13), st.integers(0, 13))
def test_any_text_survives_jsonl_and_csv(tmp_path: Path, texts: list[str], start: int, stop: int) -> None:
    jsonl = write_jsonl(tmp_path / "any.jsonl", ({"text": text} for text in texts))
    with (tmp_path / "any.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in texts)])
    for path in (jsonl, tmp_path / "any.csv"):
        source = opened(path)
        assert [row["text"] for row in source.rows(start, stop)] == texts[start:stop]
        assert [row["id"] for row in source.rows()] == [content_id(text) for text in texts]


# Reading


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    with path.open("w") as stream:
        stream.writelines(f'{{"text": "{"word " * 40}{n}"}}\n' for n in range(200_000))
    source = opened(path)
    assert isinstance(source.rows(), types.GeneratorType)
    tracemalloc.start()
    assert sum(1 for _ in source.rows()) == 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 40_000_000 > 20 * peak


def test_reading_on_skips_nothing(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    source = opened(path)
    first = list(source.rows(0, 10))
    path.write_bytes(path.read_bytes().replace(b"Text 3.", b"\xff" * 7))  # unseen by whoever goes on reading
    assert [row["id"] for row in first + list(source.rows(10, 20))] == [row["id"] for row in ROWS[:20]]


def test_a_document_of_a_megabyte(tmp_path: Path) -> None:
    text = 'A "quoted", long\nline. ' * 45_000
    write_jsonl(tmp_path / "big.jsonl", [{"text": text}])
    with (tmp_path / "big.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["text"], [text]])
    (tmp_path / "big.txt").write_text(text)
    for name in ("big.jsonl", "big.csv", "big.txt"):
        assert [row["text"] for row in opened(tmp_path / name).rows()] == [text]


def test_nothing_and_white_space_are_rows_too(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": None}, {"text": ""}, {"text": " \n"}, {"n": 1}])
    assert [(row["text"], row["n"]) for row in opened(path).rows()] == [
        (None, None),
        ("", None),
        (" \n", None),
        (None, 1),
    ]
    assert next(opened(path).rows())["id"] == content_id("")


def test_control_characters_are_kept_and_broken_bytes_replaced(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfa\x00\x07\x1b\x85b\xffc\r\nd"
    expected = "a\x00\x07\x1b\ufffdb\ufffdc\r\nd"
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbftext\r\n"' + content[3:] + b'"\r\n')
    lines(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "' + content[3:].replace(b"\r\n", b"\\r\\n") + b'"}')
    for name in ("a.txt", "a.csv", "a.jsonl"):
        assert next(opened(tmp_path / name).rows())["text"] == expected


def test_lone_surrogates_are_replaced_everywhere(tmp_path: Path) -> None:
    row = r'{"id": "\ud800", "text": "a\udfffb \ud83d\ude00", "tags": [{"k\udc00": "\udc00"}]}'
    source = opened(lines(tmp_path / "a.jsonl", row))
    read = next(source.rows())
    assert read == {"id": "\ufffd", "text": "a\ufffdb 😀", "tags": [{"k\ufffd": "\ufffd"}]}
    Dataset.from_list([read], features=source.features)


def test_csv_values_have_types_and_codes_stay_strings(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.csv",
        "text,whole,number,truth,code,mixed,none,long",
        '"a, ""b""\n\nc",1,1,true,007,1,,12345678901234567890',
        "",
        "d,,2.5e3,False,1,x,,1",
    )
    source = opened(path)
    kinds = {name: kind.dtype for name, kind in source.features.items()}
    assert kinds == dict.fromkeys(("id", "text", "code", "mixed", "none", "long"), "string") | {
        "whole": "int64",
        "number": "float64",
        "truth": "bool",
    }
    values = [tuple(row.values())[1:] for row in source.rows()]
    assert values == [
        ('a, "b"\n\nc', 1, 1.0, True, "007", "1", "", "12345678901234567890"),
        ("d", None, 2500.0, False, "1", "x", "", "1"),
    ]


def test_jsonl_columns_are_the_union_and_of_their_own_types(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "n": 1, "list": [], "deep": {"x": None}, "none": None},
        {"text": "b", "n": 2.5, "list": [1], "deep": {"x": [True], "y": "z"}, "late": "l"},
    ]
    source = opened(write_jsonl(tmp_path / "a.jsonl", rows))
    assert source.features == Features(
        {
            "id": Value("string"),
            "text": Value("string"),
            "n": Value("float64"),
            "list": List(Value("int64")),
            "deep": {"x": List(Value("bool")), "y": Value("string")},
            "none": Value("string"),
            "late": Value("string"),
        }
    )
    read = list(source.rows())
    assert (read[0]["late"], read[1]["late"]) == (None, "l")
    assert Dataset.from_list(read, features=source.features)["deep"][1] == {"x": [True], "y": "z"}


def test_text_and_id_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"text": "short", "body": "long", "key": 7, "id": "x"}, {"text": 1, "body": "b", "key": None, "id": 2}]
    source = opened(write_jsonl(tmp_path / "a.jsonl", rows), text_column="body", id_column="key")
    assert list(source.rows()) == [
        {"id": "7", "text": "long", "key": 7},
        {"id": content_id("b"), "text": "b", "key": None},
    ]
    assert [row["id"] for row in opened(tmp_path / "a.jsonl", text_column="body").rows()] == ["x", "2"]


def test_parquet_keeps_types_that_plain_values_have_not(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", None]).dictionary_encode(),
            "id": pa.array([1, 2], pa.uint8()),
            "small": pa.array([1, None], pa.int8()),
            "when": pa.array([0, 1], pa.timestamp("us")),
            "raw": pa.array([b"x", b"\xff"]),
            "nothing": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    source = opened(tmp_path / "a.parquet")
    kinds = [kind.dtype for kind in source.features.values()]
    assert kinds == ["string", "string", "int8", "timestamp[us]", "binary", "string"]
    rows = list(source.rows())
    assert [(row["id"], row["text"], row["raw"]) for row in rows] == [("1", "a", b"x"), ("2", None, b"\xff")]
    assert pa.Table.from_pylist(rows, schema=source.features.arrow_schema).num_rows == 2


def test_a_dataset_repository_is_read_by_its_data_files(tmp_path: Path) -> None:
    make_parquet(tmp_path)
    (tmp_path / "README.md").write_text("---\nconfigs: []\n---\n")
    (tmp_path / "stats.json").write_text("{}")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.csv").write_text("text\nhidden\n")
    assert opened(tmp_path).num_rows == 25


def test_limits(tmp_path: Path) -> None:
    path = make_parquet(tmp_path)
    source = opened(path, limit=8)
    assert source.num_rows == source.count() == 8
    assert [row["n"] for row in source.rows()] == list(range(8))
    assert [row["n"] for row in source.rows(5, 20)] == [5, 6, 7]
    assert opened(make_jsonl(tmp_path), limit=99).count() == 25
    with pytest.raises(ConfigError, match="at least 1 row, not 0"):
        Source(str(path), limit=0)


def test_paths_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_jsonl(tmp_path), make_saved(tmp_path)
    assert opened("~/rows.jsonl").count() == opened("~/saved").count() == 25


# Pinning


def test_touching_small_files_changes_nothing_and_changing_them_does(tmp_path: Path) -> None:
    folder = make_two_jsonl(tmp_path)
    before = opened(folder).revision
    os.utime(folder / "a.jsonl", (1, 1))
    assert opened(folder).revision == before
    shutil.copytree(folder, tmp_path / "copy")
    assert opened(tmp_path / "copy").revision == before
    (folder / "a.jsonl").write_bytes((folder / "a.jsonl").read_bytes().replace(b"Text 1.", b"Text X."))
    changed = opened(folder).revision
    (folder / "b.jsonl").rename(folder / "c.jsonl")
    assert len({before, changed, opened(folder).revision}) == 3


def test_large_files_are_pinned_without_being_read(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "large.jsonl", ROWS * 41)
    with path.open("ab") as stream:
        stream.truncate(65 * 2**20)  # a hole behind the rows that are looked at: takes no space
    before = opened(path, limit=5).revision
    assert opened(path, limit=5).revision == before
    os.utime(path, (1, 1))
    assert opened(path, limit=5).revision != before


def test_a_saved_dataset_is_pinned_by_its_own_fingerprint(tmp_path: Path) -> None:
    saved = make_saved(tmp_path)
    assert opened(saved).revision == json.loads((saved / "state.json").read_text())["_fingerprint"]
    shutil.copytree(saved, tmp_path / "elsewhere")
    assert opened(tmp_path / "elsewhere").revision == opened(saved).revision


# Bad input


@pytest.mark.parametrize(
    "name", ["a.txt", "a.md", "a.jsonl", "a.jsonl.gz", "a.csv", "header.csv", "blank.jsonl", "a.parquet", "saved"]
)
def test_a_source_without_documents_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes({"header.csv": b"text\r\n", "blank.jsonl": b"\n  \n"}.get(name, b""))
    if name == "a.jsonl.gz":
        path.write_bytes(gzip.compress(b""))
    if name == "a.parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    if name == "saved":
        path.unlink()
        Dataset.from_dict({"text": []}, features=Features({"text": Value("string")})).save_to_disk(path)
    with pytest.raises(SourceError, match=f"{name} holds no documents"):
        opened(path)


@pytest.mark.parametrize(
    "location", ["./nothing", "~/nothing-here", "/nothing/here", "data/x.jsonl", "x.txt", "corpus/"]
)
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(location: str) -> None:
    with pytest.raises(SourceError, match=f"No such file or folder: {location}") as caught:
        opened(location)
    assert "Hub dataset ids" in caught.value.hint


def test_names_that_are_neither_paths_nor_datasets(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file or folder: a/b/c. It is no dataset id either"):
        opened("a/b/c")
    with pytest.raises(ConfigError, match="A source needs a name"):
        Source(" ")
    with pytest.raises(SourceError, match="nosuch://x cannot be opened: Protocol not known: nosuch"):
        opened("nosuch://x")
    with pytest.raises(SourceError, match="cannot be read|matches"):
        opened(f"memory://{tmp_path.name}/nothing.jsonl")


def test_a_glob_or_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    with pytest.raises(SourceError, match="No file that can be read matches"):
        opened(tmp_path / "*.jsonl")
    with pytest.raises(SourceError, match="No file that can be read matches"):
        opened(tmp_path)
    with pytest.raises(SourceError, match=r"a kind that cannot be read: unknown \(x.pdf\)"):
        opened(tmp_path / "x.pdf")


def test_mixed_kinds_are_named(tmp_path: Path) -> None:
    make_jsonl(tmp_path), make_csv(tmp_path)
    with pytest.raises(SourceError, match=r"several kinds: csv \(rows.csv\), jsonl \(rows.jsonl\)"):
        opened(tmp_path)


@pytest.mark.parametrize("make", MAKERS)
def test_a_missing_column_lists_those_there_are(make: Callable[[Path], Path | str], tmp_path: Path) -> None:
    location = make(tmp_path)
    with pytest.raises(ColumnError, match="no column 'body'; the columns are: id, text") as caught:
        opened(location, text_column="body")
    assert caught.value.hint.endswith("--text-column text")
    with pytest.raises(ColumnError, match="no column 'key'; the columns are: id, text") as caught:
        opened(location, id_column="key")
    assert caught.value.hint.endswith("--id-column id")


def test_the_hint_names_a_column_that_would_do(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"title": "t", "content": "c", "n": 1}])
    with pytest.raises(ColumnError) as caught:
        opened(path)
    assert "--text-column content" in caught.value.hint
    assert next(opened(path, text_column="content").rows())["text"] == "c"


@pytest.mark.parametrize(("value", "found"), [(7, "int"), (["a"], "list"), ({"a": 1}, "dict"), (True, "bool")])
def test_a_text_that_is_no_string_is_refused_with_its_row(value: object, found: str, tmp_path: Path) -> None:
    rows = [{"text": "good"}] * 3 + [{"text": value, "n": 1}]
    source = opened(write_jsonl(tmp_path / "a.jsonl", rows))
    with pytest.raises(
        ColumnError, match=f"'text' must hold strings or null; row 4 holds a {found}. The columns are: text, n"
    ):
        list(source.rows())
    with pytest.raises(ColumnError, match=f"row 1 holds a {found}"):
        opened(write_jsonl(tmp_path / "a.jsonl", rows[3:]))


@pytest.mark.parametrize("make", [make_parquet, make_saved])
def test_a_typed_text_column_of_another_type_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="'n' must hold strings or null; it holds int64"):
        opened(make(tmp_path), text_column="n")
    with pytest.raises(ColumnError, match="'tags' must hold strings or null; it holds list or struct"):
        opened(make(tmp_path), text_column="tags")


def test_ids_must_be_simple(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "id": 1}, {"text": "b", "id": [1]}])
    with pytest.raises(ColumnError, match="id column 'id' must hold strings or numbers; row 2 holds a list"):
        list(opened(path).rows())


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "b"', "line 3 is no JSON"),
        ("[1]", "line 3 holds a list"),
        ('"x"', "line 3 holds a str"),
        ("[" * 99_999, ""),
    ],
)
def test_a_broken_line_is_named(line: str, what: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", '{"text": "a"}', "", line)
    with pytest.raises(SourceError, match=f"a.jsonl, {what}"):
        list(opened(path).rows())


def test_a_file_without_any_row_that_can_be_read_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a.jsonl, line 1 is no JSON"):
        opened(lines(tmp_path / "a.jsonl", "[", '{"text": "a"},', "]"))


def test_a_broken_line_far_away_is_named_when_it_is_reached(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", *['{"text": "a"}'] * 1500, "nonsense")
    source = opened(path)
    assert len(list(source.rows(0, 1500))) == 1500
    with pytest.raises(SourceError, match="line 1501 is no JSON"):
        list(source.rows(1400))


def test_later_rows_must_fit_the_columns(tmp_path: Path) -> None:
    def read(first: dict[str, Any], last: dict[str, Any]) -> None:
        list(
            opened(write_jsonl(tmp_path / "a.jsonl", [{"text": "t", **first}] * 1200 + [{"text": "t", **last}])).rows()
        )

    with pytest.raises(ColumnError, match="a.jsonl, line 1201: the column 'x' is not among those of the first 1000"):
        read({"n": 1}, {"x": 1})
    with pytest.raises(
        ColumnError, match="line 1201: the column 'n' holds int64 in the rows before, and here float64: 2.5"
    ):
        read({"n": 1}, {"n": 2.5})
    with pytest.raises(ColumnError, match="'n' holds list of string .* here list of int64"):
        read({"n": ["a"]}, {"n": [1]})
    with pytest.raises(ColumnError, match="'n' holds object with a: int64 .* here object with b: int64"):
        read({"n": {"a": 1}}, {"n": {"b": 1}})
    with pytest.raises(ColumnError, match="here mixture of types: 9223372036854775808"):
        read({"n": 1}, {"n": 2**63})
    read({"n": 1.5, "m": None, "k": [None], "o": {"a": [1]}}, {"n": 1, "m": "x", "k": ["y"], "o": {}})


def test_rows_among_the_first_must_fit_each_other(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "t", "n": 1}, {"text": "t", "n": "one"}])
    with pytest.raises(ColumnError, match="a.jsonl, line 2: the column 'n' holds int64 .* here string: \"one\""):
        opened(path)
    with pytest.raises(ColumnError, match="'n' holds objects without any keys"):
        opened(write_jsonl(path, [{"text": "t", "n": {}}]))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("text,n\na,1,2\n", "a.csv, line 2: 3 fields, and the header has 2"),
        ('text,n\n"a,1\n', "a.csv, line 2 and what follows are no CSV: unexpected end of data"),
        ("text,text\na,b\n", "a.csv has two columns of one name: text, text"),
    ],
)
def test_a_broken_csv_is_named(content: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=error):
        list(opened(lines(tmp_path / "a.csv", content)).rows())


def test_later_csv_rows_must_fit(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", "text,n", *["a,1"] * 1000, "a,one")
    with pytest.raises(ColumnError, match="a.csv, line 1002: the column 'n' holds int64 .* here string: \"one\""):
        list(opened(path).rows())


def test_files_of_other_columns_are_named(tmp_path: Path) -> None:
    lines(tmp_path / "a.csv", "text,n", "a,1")
    lines(tmp_path / "b.csv", "text,m", "a,1")
    with pytest.raises(ColumnError, match="b.csv has the columns text, m; before it the columns are text, n"):
        opened(tmp_path / "*.csv")
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "n": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(ColumnError, match=r"b.parquet has the columns text \(string\), n \(string\); before it"):
        opened(tmp_path / "*.parquet")


@pytest.mark.parametrize("column", ["pairs", "synthesis"])
def test_output_columns_cannot_be_there_already(column: str, tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match=f"already has the columns {column}"):
        opened(write_jsonl(tmp_path / "a.jsonl", [{"text": "a", column: 1}]))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    cut = make_gz(tmp_path)
    cut.write_bytes(cut.read_bytes()[:-20])
    (tmp_path / "no.jsonl.gz").write_bytes(b"not gzip at all")
    (tmp_path / "no.parquet").write_bytes(b"PAR1 and nothing else")
    for name in (cut.name, "no.jsonl.gz", "no.parquet"):
        with pytest.raises(SourceError, match=f"{name}.* cannot be read"):
            list(opened(tmp_path / name).rows())


@pytest.mark.parametrize("broken", [b"", b"{", b"{}"])
def test_a_damaged_saved_dataset_is_named(broken: bytes, tmp_path: Path) -> None:
    saved = make_saved(tmp_path)
    (saved / "state.json").write_bytes(broken)
    with pytest.raises(SourceError, match="saved is no whole save_to_disk folder"):
        opened(saved)
    (saved / "dataset_dict.json").write_bytes(broken)
    with pytest.raises(SourceError, match="saved is no whole save_to_disk folder"):
        opened(saved)
    (make_saved_dict(tmp_path) / "train" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(SourceError, match="dict cannot be read"):
        opened(tmp_path / "dict")


def test_splits_and_configs(tmp_path: Path) -> None:
    folder = make_saved_dict(tmp_path)
    assert [row["text"] for row in opened(folder, split="test").rows()] == ["other"]
    with pytest.raises(SourceError, match="has no split 'dev'; the splits are: test, train"):
        opened(folder, split="dev")
    with pytest.raises(SourceError, match="needs a split; the splits are: test, train"):
        opened(folder, split=None)
    for location in (folder, make_jsonl(tmp_path)):
        with pytest.raises(ConfigError, match="has no configs"):
            opened(location, config="en")


# The Hub, each client in a process of its own: the endpoint is read when the library is imported

PINNED = """
    from hfsynth.documents.source import Source, open_source

    for name in ("lines", "tables"):
        source = open_source(Source(f"user/{name}"))
        rows = list(source.rows())
        print(source.revision, source.columns, source.features["n"].dtype, source.num_rows, source.expected_rows)
        print([row["n"] for row in rows], rows[20:31] == list(source.rows(20, 31)), source.count())
        again = open_source(Source(f"user/{name}", revision=source.revision))
        print(again.revision == source.revision, rows[5:9] + rows[9:12] == [*again.rows(5, 9), *again.rows(9, 12)])
"""
REFUSED = """
    from hfsynth.core.errors import SourceError
    from hfsynth.documents.source import Source, open_source

    for name, split in [("nothing", "train"), ("lines", "dev")]:
        try:
            open_source(Source(f"user/{name}", split=split))
        except SourceError as error:
            print(error)
"""


def test_datasets_on_the_hub(tmp_path: Path) -> None:
    jsonl, parquet = make_jsonl(tmp_path).read_bytes(), make_parquet(tmp_path).read_bytes()
    with Hub() as hub:
        hub.commit("user/lines", {"data/train.jsonl": jsonl, "data/test.jsonl": jsonl[: jsonl.index(b"\n")]})
        card = b"---\ndataset_info:\n  splits:\n  - name: train\n    num_bytes: 1\n    num_examples: 50\n---\n"
        tables = {"README.md": card, "data/train-0.parquet": parquet, "data/train-1.parquet": parquet}
        hub.commit("user/tables", tables)
        offline = hub.env(tmp_path) | {"HF_HUB_OFFLINE": "1"}
        clients = [
            hub.start(PINNED, hub.env(tmp_path)),
            hub.start(REFUSED, hub.env(tmp_path)),
            hub.start(REFUSED, offline),
        ]
        answers = [client.communicate()[0].splitlines() for client in clients]
    pinned = answers[0]
    for name, copies in (("lines", 1), ("tables", 2)):
        columns = "('id', 'text', 'n', 'tags') int64 None"
        expected = None if name == "lines" else 50
        assert pinned[:3] == [
            f"{hub.head(f'user/{name}')} {columns} {expected}",
            f"{list(range(25)) * copies} True {25 * copies}",
            "True True",
        ]
        pinned = pinned[3:]
    assert answers[1][0].startswith(
        "user/nothing is no file here, and cannot be loaded from the Hub: Dataset 'user/noth"
    )
    assert answers[1][1].startswith("Check the name")
    assert answers[1][2] == "user/lines has no split 'dev'; the splits are: train, test."
    assert "Couldn't reach" in answers[2][0] and "HF_HUB_OFFLINE" in answers[2][1]


def test_files_on_the_web(tmp_path: Path) -> None:
    with Hub() as hub:
        hub.commit("user/lines", {"data/train.jsonl": make_jsonl(tmp_path).read_bytes()})
        folder = f"{hub.endpoint}/datasets/user/lines/resolve/main/data"
        source = opened(f"{folder}/train.jsonl?download=true")
        assert [row["n"] for row in source.rows(3, 6)] == [3, 4, 5]
        with pytest.raises(SourceError, match="none.jsonl cannot be read"):
            opened(f"{folder}/none.jsonl")
    with pytest.raises(SourceError, match="train.jsonl cannot be read"):
        opened(f"{folder}/train.jsonl")
