"""Read benchmarks to look for them elsewhere: questions, answers and passages, whatever their columns are called.

Reads what `documents.source` reads, the records of AI2's `decon` among it. Knows nothing of n-grams.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from hfsynth.core.addresses import public_location
from hfsynth.core.benchmarks import FOUND, Benchmark, BenchmarkColumns, BenchmarkRow, BenchmarkSource
from hfsynth.core.decontamination import CORE
from hfsynth.core.errors import ColumnError, ConfigError, SourceError
from hfsynth.documents.hf_datasets import commit_of
from hfsynth.documents.locate import locate
from hfsynth.documents.readers import UNREAD, BadRow
from hfsynth.documents.source import Source, open_rows, split_names

QUESTIONS = (
    *("question", "query", "problem", "input", "prompt", "instruction", "question_stem", "goal", "ctx", "sentence"),
)
"""What a column of questions may be called; the first of them that is there is taken."""
ANSWERS = (
    *("answer", "answers", "target", "choices", "options", "solution", "response", "output", "endings"),
    *("correct_answer", "best_answer", "canonical_solution", "sol1", "sol2", "option1", "option2"),
)
"""What columns of answers may be called; all of them are taken. They may hold lists, or SQuAD's `text` in a mapping."""
PASSAGES = ("passage", "context", "story", "article", "premise")
"""What a column of passages may be called; the first of them that is there is taken."""

_CORE_LIST = Path(__file__).with_name("core_benchmarks.toml")
_SPLITS = ("test", "validation", "dev", "val", "train")
_TEXTS = ("text", "value", "spans")


def read_benchmark(
    location: str,
    *,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    columns: BenchmarkColumns = FOUND,
) -> Benchmark:
    """Read a benchmark: a dataset on the Hub, or what `Source` reads else; all of its rows are in memory.

    Without a `split`, of a source that has several, the first of test, validation, dev, val, train. The revision is
    resolved to its commit. Rows without a question are counted and left out; neighbours that share question and passage
    (the choices of one question in decon's records) are one row.

    Raise ColumnError where there is no column of questions or a named one is missing, SourceError where nothing can be
    read, at that revision, or no row holds a question.
    """
    on_hub = locate(location) is None
    chosen = split or _split(location, config, revision)
    found = open_rows(Source(location, config=config, split=chosen, revision=revision))
    names = _named(location, tuple(found.reader.features), columns)
    asked, without = _read(found.reader.read(0), names)
    if not asked:
        raise _nothing(location, without)
    name = location if on_hub else public_location(location)
    return Benchmark(name, asked, config, chosen, found.revision, columns, without)


def benchmark_sources(name: str) -> list[BenchmarkSource]:
    """Return the benchmarks that a name stands for: `core`, those of a TOML file, else itself as one.

    A file is a list of tables `[[benchmark]]` with `name` and, as they are needed, `config`, `split`, `revision`,
    `question`, `answers`, `passage`. What is no file here is `user/dataset[:config[:split]][@revision]`. Raise
    ConfigError for a list that cannot be read, SourceError for a file that is not there.
    """
    if name == CORE:
        return _listed(_CORE_LIST)
    if name.lower().endswith(".toml"):
        return _listed(Path(name))
    return [BenchmarkSource.named(name) if locate(name) is None else BenchmarkSource(name)]


def pinned_benchmark(source: BenchmarkSource) -> BenchmarkSource:
    """Return a benchmark with its split and what pins its content now: a commit, a digest of files.

    One that is pinned to a commit already, and names its split, is looked for nowhere. Raise SourceError where it
    cannot be had.
    """
    if source.is_pinned and source.split is not None:
        return source
    split = source.split or _split(source.name, source.config, source.revision)
    if locate(source.name) is None:
        revision = source.revision if source.is_pinned else commit_of(source.name, source.revision)
        return replace(source, split=split, revision=revision)
    found = open_rows(Source(source.name, config=source.config, split=split, revision=source.revision))
    return replace(source, split=split, revision=found.revision)


def _listed(path: Path) -> list[BenchmarkSource]:
    try:
        listed = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The list of benchmarks {path} cannot be read: {error}.", hint="Check the name, and that it is TOML."
        ) from error
    tables = listed.pop("benchmark", None)
    if listed or not isinstance(tables, list) or not tables:
        raise ConfigError(
            f"{path} is no list of benchmarks: it holds {', '.join(listed) or 'no table [[benchmark]]'}.",
            hint='Write a table for each: [[benchmark]] with name = "user/dataset" and what else it needs.',
        )
    return list(map(BenchmarkSource.from_dict, tables))


def _split(location: str, config: str | None, revision: str | None) -> str | None:
    there = split_names(Source(location, config=config, split=None, revision=revision))
    if there is None:
        return None
    return next((name for name in _SPLITS if name in there), there[0] if there else None)


def _named(location: str, there: Sequence[str], columns: BenchmarkColumns) -> BenchmarkColumns:
    """Return which columns are read, or say what is missing."""
    given = [name for name in (columns.question, *(columns.answers or ()), columns.passage) if name]
    missing = next((name for name in given if name.partition(".")[0] not in there), None)
    if missing is not None:
        raise ColumnError.missing(missing, there, where=location, hint="Name columns that are there.")
    usual = {name.lower(): name for name in reversed(there)}
    question = columns.question or next((usual[name] for name in QUESTIONS if name in usual), None)
    if question is None:
        raise ColumnError(
            f"{location} has the columns {', '.join(there) or 'none'}; a benchmark needs one of questions: "
            f"{', '.join(QUESTIONS)}. Read beside it are answers ({', '.join(ANSWERS)}) and passages "
            f"({', '.join(PASSAGES)}).",
            hint="Name it in a list of benchmarks, FILE.toml: a table [[benchmark]] with `name` and `question`.",
        )
    answers = tuple(usual[name] for name in ANSWERS if name in usual) if columns.answers is None else columns.answers
    passage = columns.passage or next((usual[name] for name in PASSAGES if name in usual), None)
    return BenchmarkColumns(question, tuple(name for name in answers if name != question), passage)


def _read(rows: Iterable[Mapping[str, Any] | BadRow], names: BenchmarkColumns) -> tuple[tuple[BenchmarkRow, ...], int]:
    """Return the rows that hold a question, and the number of those that do not."""
    read = list(_rows(rows, names))
    asked = [row for row in read if row.question]
    merged = (list(group) for _, group in groupby(asked, key=lambda row: (row.question, row.passage)))
    return tuple(map(_merged, merged)), len(read) - len(asked)


def _rows(rows: Iterable[Mapping[str, Any] | BadRow], names: BenchmarkColumns) -> Iterator[BenchmarkRow]:
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            raise row.error
        if UNREAD in row:
            yield BenchmarkRow("")
            continue
        answers = tuple(text for name in names.answers or () for text in _texts(_value(row, name)))
        passage = "\n".join(_texts(_value(row, names.passage))) if names.passage else ""
        yield BenchmarkRow("\n".join(_texts(_value(row, names.question or ""))), answers, passage, number)


def _merged(rows: list[BenchmarkRow]) -> BenchmarkRow:
    answers = tuple(dict.fromkeys(answer for row in rows for answer in row.answers))
    return BenchmarkRow(rows[0].question, answers, rows[0].passage, rows[0].number)


def _value(row: Mapping[str, Any], path: str) -> object:
    """Return what stands under a name, where dots lead into mappings."""
    value: object = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _texts(value: object) -> list[str]:
    """Return the texts in a value: itself, those of a list, of a mapping those that are called so, else all."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, Mapping):
        named = [value[name] for name in _TEXTS if name in value]
        return [text for one in named or value.values() for text in _texts(one)]
    return [text for one in value for text in _texts(one)] if isinstance(value, (list, tuple)) else []


def _nothing(location: str, without: int) -> SourceError:
    told = f"none of its {without:,} rows holds a question" if without else "it is empty"
    return SourceError(f"{location} holds no questions: {told}.", hint="Check the file, the split and the columns.")
