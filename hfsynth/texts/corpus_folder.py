"""Training texts for a whole corpus folder: rendered from its pairs, or mixed from several sources, into `data/`.

Knows nothing of models or the Hub.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hfsynth.core.addresses import public_location
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import read_json, write_json
from hfsynth.core.store_paths import AnyPath, StorePath, sorted_glob
from hfsynth.core.stores import any_path
from hfsynth.corpus.folder import Corpus, CorpusAt, exchange, mend_exchange, split_order
from hfsynth.corpus.manifest import require_whole
from hfsynth.corpus.parquet import ROWS_AT_A_TIME, file_record, parquet_file, write_split
from hfsynth.corpus.readme import describe_configs
from hfsynth.models.adapters import EMBEDDED, embedded_path
from hfsynth.models.tokenizers import load_tokenizer
from hfsynth.texts.languages import AUTO, require_wordings
from hfsynth.texts.mixing import mix_splits, report_of
from hfsynth.texts.mixture_parts import Part
from hfsynth.texts.mixture_sources import told_sources
from hfsynth.texts.rendering import cut_splits, text_features
from hfsynth.texts.styles import Styles
from hfsynth.texts.training_texts import LANGUAGE_COLUMNS, RenderCounts, in_validation, render_rows
from hfsynth.version import __version__

Row = Mapping[str, Any]
_PAIRS_COLUMNS = ("id", "text", "pairs", "synthesis", *LANGUAGE_COLUMNS)


@dataclass(frozen=True, slots=True)
class TextsReport:
    """What was written into `data/`: where, how many texts by split, and the facts that went into `stats.json`."""

    root: AnyPath
    texts: Mapping[str, int]
    facts: Mapping[str, Any]


def render_folder(
    folder: str | AnyPath,
    *,
    seed: int = 0,
    tokenizer: str | None = None,
    styles: Mapping[str, float] | None = None,
    validation: float = 0.0,
    pair_spans: bool = False,
    wordings: str = AUTO,
    on_texts: Callable[[int], None] = lambda texts: None,
) -> TextsReport:
    """Render the pairs of a finished corpus folder into its `data/`, one text for each run of chained documents.

    What `data/` held before is replaced as a whole. Settings and counts go into `stats.json` and
    `synthesizer_config.json` under `render`. `on_texts` is told how many texts there are so far. Every split of the
    pairs becomes one of the texts; `validation` cuts that share of the chains off `train`, a split document's pieces
    counting as documents, where the pairs have no such split. `pair_spans` adds the column of that name; `wordings` is
    as in `hfsynth.render`. Raise OutputError where the folder holds no finished pairs, ConfigError for settings that
    cannot work.
    """
    corpus = _finished(any_path(folder))
    require_whole(corpus.root, "pairs/", digests=True)
    if not 0 <= validation < 1:
        raise ConfigError(f"validation must be a share from 0 to below 1, not {validation!r}.")
    weights, language = Styles.of(styles), require_wordings(wordings)
    count = load_tokenizer(tokenizer_place(tokenizer)).count if tokenizer else None
    features = text_features(tokens=count is not None, pair_spans=pair_spans)
    tally = SplitTally(on_texts)
    staged = _staged(corpus)
    for split, of in cut_splits(pair_splits(corpus), validation).items():
        rows = render_rows(
            pairs_rows(corpus, of),
            seed=seed,
            styles=weights,
            count=count,
            keep=_Keep(validation, split) if validation and of == "train" else None,
            on_counts=tally.add,
            pair_spans=pair_spans,
            wordings=language,
        )
        files = write_split(tally.tallied(rows, split), staged, split=split, features=features)
        if not tally.texts[split]:  # a split without rows is one that `load_dataset` refuses
            for path in files:
                path.unlink()
    if not tally.texts.total():
        raise OutputError(f"{corpus.root} holds no document with text: there is nothing to render.")
    settings = {
        "seed": seed,
        "styles": asdict(weights),
        "validation": validation,
        "tokenizer": None if tokenizer is None else public_location(tokenizer),
        "wordings": language,
        "pair_spans": pair_spans,
    }
    _publish(corpus, staged, {"render": {**settings, **tally.facts}}, {"render": settings})
    return TextsReport(corpus.root, tally.texts, tally.facts)


def mix_folder(
    parts: Sequence[Part],
    out: str | AnyPath,
    *,
    tokenizer: str,
    seed: int = 0,
    budget_tokens: int | None = None,
    ratios: Mapping[str, float] | None = None,
    preset: str | None = None,
    on_texts: Callable[[int], None] = lambda texts: None,
) -> TextsReport:
    """Mix parts by tokens into the `data/` of the corpus folder `out`, split by split; see `hfsynth.mix` for the rules.

    `out` is new, empty, or a folder of hfsynth whose `data/` is replaced as a whole; it must not be one of the parts'
    own folders unless their texts were loaded before. The report goes into `stats.json` under `mix`, what was asked
    and where the parts come from into `synthesizer_config.json`, too.
    """
    corpus = CorpusAt(any_path(out))
    _refuse_foreign(corpus)
    made = mix_splits(
        parts,
        tokenizer=tokenizer_place(tokenizer),
        seed=seed,
        budget_tokens=budget_tokens,
        ratios=ratios,
        preset=preset,
    )
    tally = SplitTally(on_texts)
    staged = _staged(corpus)
    for split, rows in made.items():
        write_split(tally.tallied(rows, split), staged, split=split, features=rows.features)
    name = public_location(tokenizer)
    asked = {"seed": seed, "tokenizer": name, "preset": preset, "budget_tokens": budget_tokens, "ratios": ratios}
    asked |= {"sources": told_sources(parts, corpus.root)}
    report = report_of({split: rows.report for split, rows in made.items()})
    facts = {**report.to_dict(), **asked}
    _publish(corpus, staged, {"mix": facts}, {"mix": asked})
    return TextsReport(corpus.root, tally.texts, facts)


def tokenizer_place(tokenizer: str) -> str:
    """Return where a tokenizer is loaded from: `embedded` names the embedded synthesizer's."""
    return str(embedded_path()) if tokenizer == EMBEDDED else tokenizer


@dataclass(frozen=True, slots=True)
class _Keep:
    """Tell whether a chain belongs to a split."""

    validation: float
    split: str

    def __call__(self, chain: str) -> bool:
        return in_validation(chain, self.validation) == (self.split == "validation")


class SplitTally:
    """Count texts as they pass: by split, by style, their tokens, documents by the language of their wordings; and what
    rendering left out.
    """

    def __init__(self, on_texts: Callable[[int], None]) -> None:
        self._on_texts = on_texts
        self._counts = RenderCounts()
        self._styles: Counter[str] = Counter()
        self._wordings: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()

    def add(self, counts: RenderCounts) -> None:
        """Add the counts of one run."""
        self._counts += counts

    def tallied(self, rows: Iterable[Row], split: str) -> Iterator[Row]:
        """Pass the rows of a split on, counted."""
        for row in rows:
            self.texts[split] += 1
            self._styles[row.get("style", "")] += 1
            self._wordings.update(filter(None, row.get("wordings", ())))
            self._tokens[split] += row.get("tokens", 0)
            self._on_texts(self.texts.total())
            yield row

    @property
    def facts(self) -> dict[str, Any]:
        """What was counted, as JSON values; tokens are None where no tokenizer was given."""
        return {
            "texts": dict(self.texts),
            "tokens": dict(self._tokens) if self._tokens.total() else None,
            "styles_drawn": dict(sorted(self._styles.items())),
            "wordings_used": dict(sorted(self._wordings.items())),
            "counts": asdict(self._counts),
        }


def _finished(folder: AnyPath) -> CorpusAt[AnyPath]:
    corpus = CorpusAt(folder)
    if not corpus.manifest.exists():
        raise OutputError(
            f"{folder} holds no finished corpus.",
            hint=f"Finish it first: hfsynth synthesize SOURCE {folder}",
        )
    _mend(corpus)
    return corpus


def _refuse_foreign(corpus: CorpusAt[AnyPath]) -> None:
    if corpus.root.is_dir() and any(corpus.root.iterdir()) and not corpus.journal.is_dir():
        raise OutputError(f"{corpus.root} is not empty and not made by hfsynth.", hint="Give a new or an empty folder.")
    _mend(corpus)


def _mend(corpus: CorpusAt[AnyPath]) -> None:
    if isinstance(corpus.root, Path):
        mend_exchange(Corpus(corpus.root))


def _staged(corpus: CorpusAt[AnyPath]) -> AnyPath:
    """Return an empty place in the journal for the new `data/`."""
    staged = corpus.journal / "data.new"
    if isinstance(staged, StorePath):
        staged.remove_below()
    else:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
    return staged


def pair_splits(corpus: CorpusAt[Any]) -> list[str]:
    """Return the names of the splits of the pairs, in their usual order."""
    return sorted({path.name.partition("-")[0] for path in corpus.pairs.glob("*.parquet")}, key=split_order)


def pairs_rows(corpus: CorpusAt[Any], split: str) -> Iterator[dict[str, Any]]:
    """Read the synthesized rows of a split in order, a thousand at a time."""
    for path in sorted_glob(corpus.pairs, f"{split}-*.parquet"):
        with parquet_file(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=list(_PAIRS_COLUMNS)):
                yield from batch.to_pylist()


def _publish(corpus: CorpusAt[AnyPath], staged: AnyPath, facts: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Put the staged texts in place of the old, and say what they are; the manifest last.

    The manifest first gives up the old texts, so that at no moment it vouches for files that are not there.
    """
    manifest = read_json(corpus.manifest) or {"hfsynth": __version__, "files": {}}
    kept = {name: record for name, record in manifest["files"].items() if not name.startswith("data/")}
    write_json(corpus.manifest, {**manifest, "files": kept})
    exchange(corpus, staged)
    write_json(corpus.stats, {**(read_json(corpus.stats) or {}), **facts})
    write_json(corpus.config, {**(read_json(corpus.config) or {}), **settings})
    describe_configs(corpus)
    texts = {f"data/{path.name}": file_record(path) for path in sorted_glob(corpus.data, "*.parquet")}
    write_json(corpus.manifest, {**manifest, "files": {**texts, **kept}})
