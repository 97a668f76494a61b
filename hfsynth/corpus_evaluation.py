"""How good a corpus is: its documents and pairs in, figures for `stats.json` and the card out.

Knows nothing of the command line or of cards.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hfsynth.card_facts import footer
from hfsynth.corpus import Corpus, read_json, write_json
from hfsynth.corpus_figures import CorpusFigures
from hfsynth.corpus_files import split_order
from hfsynth.errors import ConfigError, OutputError
from hfsynth.holdings import damaged_parquet, require_whole
from hfsynth.pair_judge import Judgeable, PairJudge, judged_figures
from hfsynth.records import Pair
from hfsynth.repetition import Sample

_LIBRARIES = ("datasketch", "py3langid")
_COLUMNS = ("text", "pairs")
_BATCH = 500  # rows that are read at once
_INSTRUCTIONS = "pairs.list.element.instruction"


def evaluate_corpus(
    folder: str | Path,
    *,
    split: str | Sequence[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
    judge: PairJudge | None = None,
    on_progress: Callable[[int], None] = lambda documents: None,
    on_verdict: Callable[[int], None] = lambda pairs: None,
) -> dict[str, Any]:
    """Measure the pairs of a finished corpus folder, or of `sample` of its documents that are drawn from the seed.

    All splits are measured together, or those that `split` names; `splits` in the result counts the documents of each.
    Return plain JSON values: `figures`, `categories`, `words`, `distinct` and `languages` (see
    `CorpusFigures.to_dict`), and under `judge`, if there is one, what it said of pairs drawn from the seed. Means and
    shares come with 95% intervals over documents. Documents are read one after another: memory does not grow with
    them. `on_progress` is told how many have been measured, `on_verdict` how many pairs have been judged.

    Raise OutputError where the folder holds no finished pairs or is damaged, ConfigError for settings that cannot work
    and where a library of the extra `evaluate` is missing, what `PairJudge.verdicts` raises.
    """
    if sample is not None and sample < 1:
        raise ConfigError(f"sample must be a whole number of at least 1, not {sample}.", hint="Use --sample 1000.")
    parts = require_measurable(folder, split)
    require_whole(folder, "pairs/", digests=True)
    rows, expected = _extent(parts)
    drawn = _drawn(rows, sample, seed)
    share = len(drawn) / rows if rows else 0.0
    figures = CorpusFigures(expected_pairs=round(expected * share), seed=seed)
    judged: Sample[Judgeable] = Sample(judge.pairs if judge else 0, seed=seed, name="judged")
    measured: Counter[str] = Counter()
    for number, (name, text, pairs) in enumerate(_documents(parts, drawn), start=1):
        measured[name] += 1
        figures.add(text, pairs)
        for pair in pairs:
            judged.offer(Judgeable(number, text, pair))
        on_progress(number)
    splits = {name: measured[name] for name in sorted(measured, key=split_order)}
    drawing = {"seed": seed, "sampled": len(drawn) < rows, "splits": splits}
    values = {"of": "corpus", **drawing, **figures.to_dict()}
    if judge is None:
        return values
    verdicts = judge.verdicts(judged.items(), seed=seed, on_verdict=on_verdict)
    return {**values, "judge": {"model": judge.model, **judged_figures(verdicts, seed=seed)}}


def save_corpus_evaluation(folder: str | Path, values: Mapping[str, Any]) -> Path:
    """Write an evaluation into the folder's `stats.json` under `evaluation`, whole or not at all; return its path."""
    corpus = Corpus(Path(folder))
    write_json(corpus.stats, {**(read_json(corpus.stats) or {}), "evaluation": dict(values)})
    return corpus.stats


def require_measurable(folder: str | Path, split: str | Sequence[str] | None = None) -> list[Path]:
    """Return the files with the pairs of a folder that a job has finished or that came from elsewhere.

    Raise OutputError where there are none, also of a split that is asked for, ConfigError where a library is missing:
    what `evaluate_corpus` would raise, before anything is loaded or read.
    """
    _require_libraries()
    corpus = Corpus(Path(folder))
    unfinished = corpus.journal.is_dir() and not corpus.manifest.exists()
    parts = sorted(corpus.pairs.glob("*.parquet"))
    if unfinished or not parts:
        raise OutputError(
            f"{corpus.root} holds no finished pairs.",
            hint=f"Make or finish them: hfsynth synthesize SOURCE {corpus.root}",
        )
    require_whole(folder, "pairs/")
    parts = _of_splits(corpus, parts, (split,) if isinstance(split, str) else split)
    for path in parts:
        missing = [name for name in _COLUMNS if name not in footer(path).schema.to_arrow_schema().names]
        if missing:
            raise OutputError(
                f"{path} has no column {missing[0]!r}.", hint="Pairs are measured with the documents they are about."
            )
    return parts


def _of_splits(corpus: Corpus, parts: list[Path], asked: Sequence[str] | None) -> list[Path]:
    """Return the files of the splits that are asked for, all where none is."""
    there = sorted({_split(path) for path in parts}, key=split_order)
    missing = [name for name in asked or () if name not in there]
    if missing:
        raise OutputError(
            f"{corpus.root} has no pairs in split {missing[0]!r}; splits there: {', '.join(there)}.",
            hint="Check --split; without it every split is measured.",
        )
    return [path for path in parts if asked is None or _split(path) in asked]


def _split(path: Path) -> str:
    return path.name.partition("-")[0]


def _require_libraries() -> None:
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"A corpus is measured with {' and '.join(_LIBRARIES)}; not installed: {', '.join(missing)}.",
            hint='Run `pip install "hfsynth[evaluate]"`.',
        )


def _extent(parts: list[Path]) -> tuple[int, int]:
    """Return the number of rows, and one of pairs that is too large by the documents without any."""
    rows = pairs = 0
    for path in parts:
        found = footer(path)
        rows += found.num_rows
        for group in range(found.num_row_groups):
            columns = [found.row_group(group).column(number) for number in range(found.num_columns)]
            pairs += sum(column.num_values for column in columns if column.path_in_schema == _INSTRUCTIONS)
    return rows, pairs


def _drawn(rows: int, sample: int | None, seed: int) -> Collection[int]:
    """Return the numbers of the rows to measure."""
    if sample is None or sample >= rows:
        return range(rows)
    return frozenset(random.Random(seed).sample(range(rows), sample))


def _documents(parts: list[Path], drawn: Collection[int]) -> Iterator[tuple[str, str, list[Pair]]]:
    """Yield split, text and pairs of the documents that are drawn."""
    number = 0
    for path in parts:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_BATCH, columns=list(_COLUMNS)):
                    kept = [row for row in range(len(batch)) if number + row in drawn]
                    number += len(batch)
                    rows = batch.take(kept).to_pylist() if kept else []
                    yield from ((_split(path), *_document(row)) for row in rows)
        except (pa.ArrowException, OSError) as error:
            raise damaged_parquet(path) from error


def _document(row: Mapping[str, Any]) -> tuple[str, list[Pair]]:
    pairs = [Pair(pair["instruction"] or "", pair["response"] or "") for pair in row["pairs"] or () if pair]
    return row["text"] or "", pairs
