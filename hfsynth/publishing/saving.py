"""Save mapped datasets as a corpus folder, the one that a job makes, as a whole or not at all.

Knows nothing of the Hub, and of models only by their recipe.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import IterableDataset

from hfsynth.core.errors import ColumnError, OutputError, SourceError
from hfsynth.core.files import write_json, write_text, writing
from hfsynth.core.records import Counts
from hfsynth.corpus.exchange import mend_folder, replaced_folder
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.parquet import file_record, output_features, write_split
from hfsynth.corpus.readme import describe_configs
from hfsynth.corpus.rewritten import write_rewritten
from hfsynth.documents.dataset_splits import AnyDataset, Rows, require_same_columns, splits_of
from hfsynth.documents.origins import origin_of, stated_origin
from hfsynth.documents.source import Source
from hfsynth.job.begin import SHARD_ROWS
from hfsynth.job.finish import counted, published_config, screened_out
from hfsynth.publishing.saved_rows import OnePass, SavedSplit, open_rows, save_split
from hfsynth.synthesis.synthesizer import Synthesizer
from hfsynth.texts.corpus_folder import SplitTally, pairs_rows
from hfsynth.texts.mixing import Mixture
from hfsynth.texts.rendering import rendering_of, text_features
from hfsynth.version import __version__

_OURS = frozenset(
    (
        "rewritten",
        "pairs",
        "data",
        "plots",
        "stats.json",
        "synthesizer_config.json",
        "evaluation.json",
        "README.md",
        ".hfsynth",
    )
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SavedCorpus:
    """A corpus folder and its statistics, as `stats.json` has them. It can be given wherever a folder's path can."""

    root: Path
    stats: Mapping[str, Any]

    def __fspath__(self) -> str:
        return str(self.root)


def save_corpus(
    folder: str | Path,
    *,
    pairs: AnyDataset,
    texts: AnyDataset | Mixture | None = None,
    synthesizer: Synthesizer,
    source: str | Source | None = None,
) -> SavedCorpus:
    """Write mapped datasets as the corpus folder that a job makes: `pairs/`, `data/`, recipe, statistics, README.

    `pairs` is what `ds.map(synthesize)` returned, `texts` what `render` or `mix` made of it: datasets, streams, or
    dicts of splits. Splits, rows and their order stay; a stream is read once, in constant memory, and its texts are
    rendered from what was saved. Counts come from the column `synthesis`; what only a job knows, its time and cost, is
    left out. Where the documents come from is taken from the datasets (a repo on the Hub and its commit, the files of a
    stream) or from `source`; where neither says so, the card does.

    The folder is new, empty, or one that `save_corpus` made: that is replaced in one step, so that a process killed at
    any moment leaves the old or the new. What lies in it beside the corpus, and your own words in its README, stay.

    Raise ColumnError for datasets that were not synthesized or have lost a column, ConfigError for rows of another
    recipe, SourceError for a stream that breaks off, OutputError for a folder that holds something else or a full disk.
    """
    root = Path(folder)
    _refuse_taken(root)
    splits = splits_of(pairs, what="pairs")
    mixture = texts if isinstance(texts, Mixture) else None
    text_splits = _text_splits(mixture.dataset if mixture else texts)
    require_same_columns(splits, what="pairs")
    require_same_columns(text_splits, what="texts")
    origin = stated_origin(source) if source is not None else origin_of(splits.values())
    with replaced_folder(root) as staged:
        corpus = Corpus(staged)
        saved = _save_pairs(corpus, splits, synthesizer)
        rewritten = write_rewritten(corpus)
        facts, settings = _save_texts(corpus, text_splits, splits, mixture)
        stats = {**_statistics(saved, synthesizer.config.to_dict()), **facts}
        identity = {"source": _source(origin, splits, synthesizer), "synthesizer": synthesizer.config.to_dict()}
        write_json(corpus.config, {**published_config(identity), **settings})
        write_json(corpus.stats, stats)
        _keep(root, staged)
        describe_configs(corpus)
        files = {**_files(corpus, saved), **rewritten}
        write_json(corpus.manifest, {"hfsynth": __version__, "files": files})
    return SavedCorpus(root, stats)


def _refuse_taken(root: Path) -> None:
    """Refuse a folder that holds a job's work or anything else that is not ours."""
    mend_folder(root)
    corpus = Corpus(root)
    if root.exists() and not root.is_dir():
        raise OutputError(f"{root} is a file, not a folder.", hint="Give another output folder.")
    if corpus.plan.exists():
        raise OutputError(f"{root} holds the work of `hfsynth synthesize`.", hint="Give a new or an empty folder.")
    if root.is_dir() and any(root.iterdir()) and not corpus.manifest.exists():
        raise OutputError(f"{root} is not empty and not made by hfsynth.", hint="Give a new or an empty folder.")


def _text_splits(texts: AnyDataset | None) -> dict[str, Rows]:
    splits = {} if texts is None else splits_of(texts, what="texts")
    for name, rows in splits.items():
        if rows.features is not None and "text" not in rows.features:
            given = "Give what hfsynth.render or hfsynth.mix returned."
            raise ColumnError.missing("text", rows.features, where=f"The split {name!r} of texts", hint=given)
    return splits


def _save_pairs(corpus: Corpus, splits: Mapping[str, Rows], synthesizer: Synthesizer) -> dict[str, SavedSplit]:
    opened = {name: open_rows(name, rows, synthesizer) for name, rows in splits.items()}
    _require_same_output(opened)
    shots = synthesizer.config.shots
    saved = {
        name: save_split(
            name,
            rows,
            synthesizer.config,
            folder=corpus.pairs,
            working=corpus.parts,
            shard_rows=-(-SHARD_ROWS // shots) * shots,
        )
        for name, rows in opened.items()
    }
    shutil.rmtree(corpus.parts, ignore_errors=True)
    if not any(split.rows for split in saved.values()):
        raise SourceError("The datasets hold no rows: there is nothing to save.", hint="Check what was mapped.")
    if broken := sum(split.broken for split in saved.values()):
        _log.warning("%d documents are in chains that are not whole: rows were taken out or moved.", broken)
    return saved


def _require_same_output(opened: Mapping[str, Any]) -> None:
    first = next(iter(opened))
    for name, rows in opened.items():
        if output_features(rows.features) != output_features(opened[first].features):
            raise ColumnError(
                f"The splits {first!r} and {name!r} of pairs have different columns.",
                hint="Give every split the same columns and types, with remove_columns and cast.",
            )


def _statistics(saved: Mapping[str, SavedSplit], recipe: Mapping[str, Any]) -> dict[str, Any]:
    counts = sum((split.counts for split in saved.values()), Counts())
    broken = sum(split.broken for split in saved.values())
    stats = counted(counts, sum(split.rows for split in saved.values()))
    stats |= screened_out(recipe, stats, counts)
    return {**stats, **({"broken_chains": broken} if broken else {})}


def _save_texts(
    corpus: Corpus, texts: Mapping[str, Rows], pairs: Mapping[str, Rows], mixture: Mixture | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the texts; return what `stats.json` and what `synthesizer_config.json` say of them."""
    if not texts:
        return {}, {}
    tally = SplitTally(lambda texts: None)
    for name, rows in texts.items():
        read, features = _text_rows(corpus, name, rows, pairs)
        files = write_split(tally.tallied(read, name), corpus.data, split=name, features=features)
        if not tally.texts[name]:  # a split without rows is one that `load_dataset` refuses
            for path in files:
                path.unlink()
    if not any(corpus.data.glob("*.parquet")):
        raise SourceError("There is no text to save: the splits of texts hold no rows.", hint="Leave texts out.")
    if mixture is not None:
        return {"mix": mixture.report.to_dict()}, {}
    known = [rendering_of(rows) for rows in texts.values()]
    asked = {rendering.settings for rendering in known if rendering is not None}
    settings = next(iter(asked)).to_dict() if None not in known and len(asked) == 1 else {}
    made = {name: value for name, value in tally.facts.items() if name != "counts"}
    return {"render": {**settings, **made}}, ({"render": settings} if settings else {})


def _text_rows(corpus: Corpus, name: str, rows: Rows, pairs: Mapping[str, Rows]) -> tuple[Iterable[Any], Any]:
    """Return the texts of a split and their columns. Those of a stream come from its saved pairs, which are at hand."""
    rendering = rendering_of(rows)
    if rendering is not None and isinstance(rows, IterableDataset):
        of = next((split for split, source in pairs.items() if source is rendering.source), None)
        if of is not None:
            return rendering.rows(pairs_rows(corpus, of)), rows.features or text_features(tokens=False)
    reader = OnePass(rows, f"The split {name!r} of texts")
    return reader.read(0), reader.features


def _source(origin: Mapping[str, Any], splits: Mapping[str, Rows], synthesizer: Synthesizer) -> dict[str, Any]:
    """Return the source as a job's recipe has it."""
    names = list(splits)
    stated = Source("unknown", text_column=synthesizer.text_column)
    return {
        **asdict(stated),
        "split": names[0] if len(names) == 1 else names,
        "id_column": None if synthesizer.id_column == "id" else synthesizer.id_column,
        **origin,
    }


def _keep(root: Path, staged: Path) -> None:
    """Take over what is in the old folder beside the corpus, and the README, whose own words stay."""
    if not root.is_dir():
        return
    with writing(root):
        for path in root.iterdir():
            if path.name == "README.md":
                write_text(staged / path.name, path.read_text("utf-8"))
            elif path.is_dir() and path.name not in _OURS:
                shutil.copytree(path, staged / path.name, symlinks=True, copy_function=os.link)
            elif path.name not in _OURS:
                os.link(path, staged / path.name, follow_symlinks=False)


def _files(corpus: Corpus, saved: Mapping[str, SavedSplit]) -> dict[str, dict[str, Any]]:
    texts = {f"data/{path.name}": file_record(path) for path in sorted(corpus.data.glob("*.parquet"))}
    pairs = {
        f"pairs/{name}": {"rows": record.rows, "size": record.size, "sha256": record.sha256}
        for split in saved.values()
        for name, record in split.files.items()
    }
    return {**texts, **pairs}
