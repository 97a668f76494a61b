"""How good a corpus is: its documents and pairs in, figures for `stats.json` and the card out.

Means and shares come with intervals; memory does not grow with the documents. Knows nothing of the command line or of
cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import Any

import pyarrow as pa

from hfsynth.core.draws import Draws
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import read_json, write_json
from hfsynth.core.records import Pair
from hfsynth.core.store_paths import AnyPath, sorted_glob
from hfsynth.core.stores import any_path
from hfsynth.corpus.folder import CorpusAt, split_order
from hfsynth.corpus.manifest import damaged_parquet, require_whole
from hfsynth.corpus.parquet import footer, parquet_file
from hfsynth.quality.aggregates import Ratios, Repeats, Sample, distinct, nearly_repeated, quantiles
from hfsynth.quality.measures import Evidence, answer_leak
from hfsynth.quality.pair_judge import Judgeable, PairJudge, judged_figures, load_judge
from hfsynth.quality.task_categories import Category, category_of
from hfsynth.quality.words import UNKNOWN, differ, language_of, words

COMPARED = 10_000
"""Pairs that are drawn to look for nearly repeated instructions and distinct n-grams."""

FIGURES = (
    "with_pairs",
    "pairs_per_document",
    "grounding",
    "fully_grounded",
    "with_foreign_numbers",
    "with_foreign_names",
    "answer_leak",
    "answer_in_instruction",
    "instruction_words",
    "response_words",
    "repeated_instructions",
    "language_known",
    "language_mismatch",
)
"""The names of the figures: shares and means, of documents (the first two) and of pairs."""

_UNBOUNDED = ("pairs_per_document", "instruction_words", "response_words")
_CATEGORIES = {category: f"category {category}" for category in Category}


_NEARLY = "nearly_repeated_instructions"


@dataclass(frozen=True, slots=True)
class _Compared:
    """A pair that was drawn to be compared with others: its document's number, its texts as words."""

    number: int
    instruction: list[str]
    response: list[str]


class _Sums:
    """What one document gives to each figure: a sum, and what it is a sum of."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[float, float]] = {}

    def add(self, name: str, value: float, count: float = 1) -> None:
        above, below = self.of.get(name, (0.0, 0.0))
        self.of[name] = above + value, below + count


class CorpusFigures:
    """Measure one document after another. `expected_pairs` is about how many pairs there will be."""

    def __init__(self, *, expected_pairs: int, seed: int = 0) -> None:
        self._seed = seed
        self._ratios = Ratios([*FIGURES, *_CATEGORIES.values()], seed=seed)
        self._repeats = Repeats(expected_pairs)
        self._compared: Sample[_Compared] = Sample(COMPARED, seed=seed, name="compared")
        self._instruction_lengths: Counter[int] = Counter()
        self._response_lengths: Counter[int] = Counter()
        self._languages: Counter[str] = Counter()
        self.documents = 0
        self.pairs = 0

    def add(self, text: str, pairs: Sequence[Pair]) -> None:
        """Measure a document and its pairs; of one without pairs only that it has none."""
        sums = _Sums()
        sums.add("with_pairs", bool(pairs))
        sums.add("pairs_per_document", len(pairs))
        if pairs:
            self._grounded(sums, text, pairs)
            self._said(sums, pairs)
            self._in_languages(sums, text, pairs)
            categories = Counter(map(category_of, pairs))
            for category, name in _CATEGORIES.items():
                sums.add(name, categories[category], len(pairs))
        self._ratios.add(sums.of)
        self.documents += 1
        self.pairs += len(pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values; shares and measures lie between 0 and 1, each with its 95% interval.

        `figures` has those in FIGURES and that of nearly repeated instructions, `categories` the share of each task
        category that occurs, the largest first; `words` the distribution of lengths; `distinct` the shares of
        different n-grams among `compared_pairs` drawn pairs; `languages` counts documents with pairs.
        """
        compared, ratios = self._compared.items(), self._ratios
        figures = {name: (ratios.interval if name in _UNBOUNDED else ratios.share)(name) for name in FIGURES}
        shares = {category.value: ratios.share(name) for category, name in _CATEGORIES.items()}
        found = {name: share for name, share in shares.items() if share["mean"]}
        return {
            "documents": self.documents,
            "pairs": self.pairs,
            "figures": figures | {_NEARLY: self._nearly_repeated(compared)},
            "categories": dict(sorted(found.items(), key=lambda item: (-(item[1]["mean"] or 0), item[0]))),
            "words": {
                "instructions": quantiles(self._instruction_lengths),
                "responses": quantiles(self._response_lengths),
            },
            "distinct": {
                "instructions": _distinct([one.instruction for one in compared]),
                "responses": _distinct([one.response for one in compared]),
            },
            "compared_pairs": len(compared),
            "languages": dict(self._languages.most_common()),
        }

    def _grounded(self, sums: _Sums, text: str, pairs: Sequence[Pair]) -> None:
        evidence = Evidence.of(text)
        for pair in pairs:
            grounding = evidence.grounding(pair.response)
            leak = answer_leak(pair.instruction, pair.response)
            sums.add("grounding", grounding)
            sums.add("fully_grounded", grounding == 1)
            sums.add("with_foreign_numbers", bool(evidence.foreign_numbers(pair.response)))
            sums.add("with_foreign_names", bool(evidence.foreign_names(pair.response)))
            sums.add("answer_leak", leak)
            sums.add("answer_in_instruction", leak == 1)

    def _said(self, sums: _Sums, pairs: Sequence[Pair]) -> None:
        for pair in pairs:
            instruction, response = words(pair.instruction), words(pair.response)
            self._instruction_lengths[len(instruction)] += 1
            self._response_lengths[len(response)] += 1
            sums.add("instruction_words", len(instruction))
            sums.add("response_words", len(response))
            repeat = self._repeats.is_repeat(instruction)
            if repeat is not None:
                sums.add("repeated_instructions", repeat)
            self._compared.offer(_Compared(self.documents, instruction, response))

    def _in_languages(self, sums: _Sums, text: str, pairs: Sequence[Pair]) -> None:
        own = language_of(text)
        self._languages[own] += 1
        for pair in pairs:
            language = language_of(f"{pair.instruction}\n{pair.response}")
            known = UNKNOWN not in (own, language)
            sums.add("language_known", known)
            if known:
                sums.add("language_mismatch", differ(own, language))

    def _nearly_repeated(self, compared: Sequence[_Compared]) -> Mapping[str, float | None]:
        ratios = Ratios([_NEARLY], seed=self._seed)
        repeated = nearly_repeated([one.instruction for one in compared])
        told = zip(compared, repeated, strict=True)
        for _, group in groupby(told, key=lambda item: item[0].number):
            flags = [flag for _, flag in group]
            ratios.add({_NEARLY: (sum(flags), len(flags))})
        return ratios.share(_NEARLY)


def _distinct(texts: Sequence[list[str]]) -> dict[str, float | None]:
    return {str(length): distinct(texts, length) for length in (1, 2, 3)}


_LIBRARIES = ("rensa", "py3langid")
_COLUMNS = ("text", "pairs")
_BATCH = 500  # rows that are read at once
_INSTRUCTIONS = "pairs.list.element.instruction"


def evaluate_corpus(
    folder: str | AnyPath,
    *,
    split: str | Sequence[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
    judge: str | PairJudge | None = None,
    on_progress: Callable[[int], None] = lambda documents: None,
    on_verdict: Callable[[int], None] = lambda pairs: None,
) -> dict[str, Any]:
    """Measure the pairs of a finished corpus folder, or of `sample` of its documents that are drawn from the seed.

    All splits are measured together, or those that `split` names; `splits` in the result counts the documents of each.
    Return plain JSON values: `figures`, `categories`, `words`, `distinct` and `languages` (see
    `CorpusFigures.to_dict`), and under `judge`, if there is one, what it said of pairs drawn from the seed: a chat
    model by its name or folder, which vLLM runs and which is asked about 500 pairs, or a `PairJudge`. Means and
    shares come with 95% intervals over documents. Documents are read one after another: memory does not grow with
    them. `on_progress` is told how many have been measured, `on_verdict` how many pairs have been judged.

    Raise OutputError where the folder holds no finished pairs or is damaged, ConfigError for settings that cannot work
    and where a library of the extra `evaluate` is missing, what `PairJudge.verdicts` raises.
    """
    if sample is not None and sample < 1:
        raise ConfigError(f"sample must be a whole number of at least 1, not {sample}.", hint="Use --sample 1000.")
    root = any_path(folder)
    parts = require_measurable(root, split)
    require_whole(root, "pairs/", digests=True)
    judge = load_judge(judge) if isinstance(judge, str) else judge
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


def save_corpus_evaluation(folder: str | AnyPath, values: Mapping[str, Any]) -> AnyPath:
    """Write an evaluation into the folder's `stats.json` under `evaluation`, whole or not at all; return its path."""
    corpus = CorpusAt(any_path(folder))
    write_json(corpus.stats, {**(read_json(corpus.stats) or {}), "evaluation": dict(values)})
    return corpus.stats


def require_measurable(folder: str | AnyPath, split: str | Sequence[str] | None = None) -> list[AnyPath]:
    """Return the files with the pairs of a folder that a job has finished or that came from elsewhere.

    Raise OutputError where there are none, also of a split that is asked for, ConfigError where a library is missing:
    what `evaluate_corpus` would raise, before anything is loaded or read.
    """
    _require_libraries()
    corpus = CorpusAt(any_path(folder))
    unfinished = corpus.journal.is_dir() and not corpus.manifest.exists()
    parts = sorted_glob(corpus.pairs, "*.parquet")
    if unfinished or not parts:
        raise OutputError(
            f"{corpus.root} holds no finished pairs.",
            hint=f"Make or finish them: hfsynth synthesize SOURCE {corpus.root}",
        )
    require_whole(corpus.root, "pairs/")
    parts = _of_splits(corpus, parts, (split,) if isinstance(split, str) else split)
    for path in parts:
        missing = [name for name in _COLUMNS if name not in footer(path).schema.to_arrow_schema().names]
        if missing:
            raise OutputError(
                f"{path} has no column {missing[0]!r}.", hint="Pairs are measured with the documents they are about."
            )
    return parts


def _of_splits(corpus: CorpusAt[Any], parts: list[AnyPath], asked: Sequence[str] | None) -> list[AnyPath]:
    """Return the files of the splits that are asked for, all where none is."""
    there = sorted({_split(path) for path in parts}, key=split_order)
    missing = [name for name in asked or () if name not in there]
    if missing:
        raise OutputError(
            f"{corpus.root} has no pairs in split {missing[0]!r}; splits there: {', '.join(there)}.",
            hint="Check --split; without it every split is measured.",
        )
    return [path for path in parts if asked is None or _split(path) in asked]


def _split(path: AnyPath) -> str:
    return path.name.partition("-")[0]


def _require_libraries() -> None:
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"A corpus is measured with {' and '.join(_LIBRARIES)}; not installed: {', '.join(missing)}.",
            hint='Run `pip install "hfsynth[evaluate]"`.',
        )


def _extent(parts: list[AnyPath]) -> tuple[int, int]:
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
    return Draws(f"evaluate/{seed}").sample(sample, rows)


def _documents(parts: list[AnyPath], drawn: Collection[int]) -> Iterator[tuple[str, str, list[Pair]]]:
    """Yield split, text and pairs of the documents that are drawn."""
    number = 0
    for path in parts:
        try:
            with parquet_file(path) as file:
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
