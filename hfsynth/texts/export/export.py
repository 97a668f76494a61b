"""Export training text to the files a trainer reads. Knows nothing of how the text was made, or of training.

llama-factory
    JSON lines in a folder OUT/NAME and the entry NAME in OUT/dataset_info.json, whose `prompt` column is `text`. The
    entry is written last, and other entries stay. LLaMA-Factory's `stage: pt` appends the tokenizer's EOS to every
    text, puts BOS before it only where the tokenizer has `add_bos_token` (with `packing` the first id of every block
    becomes BOS instead), and tokenizes with `add_special_tokens=False` (`data/processor/pretrain.py`). So texts hold
    no EOS, and BOS where the tokenizer has one that leads and no `add_bos_token`: Llama 3's. It lists the folder in no
    particular order, so the trainer must shuffle. OUT/NAME.yaml trains on the entry without packing, which loses
    tokens there.
olmo, megatron, nanotron
    Token arrays as OLMo-core, Megatron's `IndexedDataset` and nanotron map them, BOS and EOS in them (see
    `hfsynth.texts.export.token_arrays`), and OUT/dataset.json with the files, the dtype, and the arguments for
    OLMo-core's `TokenizerConfig`: where there is a BOS, it finds the end of a document by EOS followed by BOS when
    `bos_token_id` is given. For Megatron `paths` have no ending, as `--data-path` takes them.
axolotl, trl, torchtitan
    JSON lines of text, and the configuration by which the trainer reads all of it (`hfsynth.texts.export.recipes`):
    axolotl.yaml, trl.yaml, the module hfsynth_corpus.py. The text holds BOS only where it has to and the tokenizer does
    not put it there itself, and no EOS: these trainers add it.
litdata, litgpt
    Chunks of ids as litdata's `TokensLoader` reads them, BOS and EOS in them, and index.json; litgpt.yaml for litgpt.
sft
    Examples to fine-tune on out of the pairs, not the texts (see `hfsynth.texts.export.sft`), in a folder OUT/NAME, and
    the entry NAME in OUT/dataset_info.json, as for llama-factory. TRL and axolotl are given the files of that folder.
text
    JSON lines or Parquet with BOS and EOS written around each text, for trainers that tokenize with
    `add_special_tokens=False` (the published rule: `<|begin_of_text|>{text}<|end_of_text|>` for Llama 3).

Every split is an export of its own. Of several splits each has its folder, OUT/SPLIT, and for LLaMA-Factory its entry:
NAME for `train`, NAME_SPLIT for the others, to be named as `eval_dataset`. A single split is written into OUT itself.

Everywhere BOS and EOS are the target tokenizer's and appear once a document. A tokenizer must have EOS. Where it has no
BOS, or one token stands for both (GPT-2), only EOS is used. A control string inside a document is broken up by a space
behind its first character, and such documents are counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from hfsynth.core.errors import ConfigError, OutputError, SourceError
from hfsynth.core.store_paths import AnyPath, StorePath
from hfsynth.core.stores import any_path
from hfsynth.corpus.folder import main_split
from hfsynth.models.tokenizers import Tokenizing, load_tokenizer
from hfsynth.texts.export import records
from hfsynth.texts.export.formats import JsonLines
from hfsynth.texts.export.records import Manifest
from hfsynth.texts.export.sft import SftColumns, SftRow
from hfsynth.texts.export.shards import ExportProgress, ExportRun, write_shards
from hfsynth.texts.export.source import Exportable, ExportSource, open_sources
from hfsynth.texts.export.targets import (
    CONFIGURED,
    NAMED,
    ExportPlan,
    FileFormat,
    Options,
    Target,
    exported_content,
    plan_for,
)

VERSION = 1
SHARD_BYTES = 500_000_000
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class SequenceReport:
    """What sequences of `length` tokens mean for the texts, BOS and EOS included.

    `longer` texts do not fit into one, and `overflow_tokens` are those beyond it: what a trainer that truncates throws
    away. `cut` texts were cut into pieces before. `lost_tokens` are those that this target's trainer would leave out,
    told what the export tells it: of long texts, and at the end of a file what fills no sequence. It is None for text,
    of which nobody knows who reads it.
    """

    length: int
    longer: int
    overflow_tokens: int
    cut: int
    lost_tokens: int | None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    `tokens` include BOS and EOS and are None where nothing was tokenized; `resumed_shards` were there before;
    `neutralized` counts documents in which a control string was broken up, `skipped` rows by reason. Of several splits
    these are sums, and `splits` has the report of each. `start` is the command that begins to train, where the export
    has a configuration for it.
    """

    target: str
    folder: str
    files: tuple[str, ...]
    documents: int
    tokens: int | None
    shards: int
    resumed_shards: int
    neutralized: int
    skipped: dict[str, int]
    splits: dict[str, ExportReport] = field(default_factory=dict)
    sequences: SequenceReport | None = None
    start: str | None = None


def export(
    data: Exportable,
    out: str | AnyPath,
    *,
    to: Target | str,
    tokenizer: Tokenizing,
    split: str | Sequence[str] | None = None,
    name: str = "hfsynth",
    file_format: FileFormat | str = FileFormat.JSONL,
    sft_row: SftRow | str = SftRow.PAIR,
    sft_columns: SftColumns | str = SftColumns.MESSAGES,
    sequence_length: int | None = None,
    split_longer: bool = False,
    loss_mask: bool = False,
    shard_bytes: int = SHARD_BYTES,
    identity: str | None = None,
    on_progress: Callable[[ExportProgress], None] = lambda progress: None,
) -> ExportReport:
    """Write the column `text` of a corpus folder, a dataset, a stream, a dict of splits or plain rows for a trainer.

    The target `sft` takes the columns `text` and `pairs` instead: what was synthesized, a row for each `sft_row` (pair
    or chain) in the columns `sft_columns` (messages or prompt-completion).

    `tokenizer` is that of the model to be trained: a Hub id, a folder, or a tokenizer of transformers. `split` names
    one split or several of a folder or a dict; without it every split is written, see the module for where. `name` is
    the entry for LLaMA-Factory, `file_format` that of the target `text`. A shard ends with the batch that reaches
    `shard_bytes`. Run again after an interruption, it goes on behind the last finished shard; for that, a stream needs
    an `identity`: any string that names its content.

    With a `sequence_length` it is counted what does not fit into sequences of so many tokens, and what the trainer
    would leave out; `split_longer` cuts such texts behind a pair, never within one. `loss_mask` adds, for OLMo-core and
    nanotron, which tokens are of pairs. Both need texts that were rendered with `pair_spans`.

    Raises SourceError, ColumnError or ConfigError for input and settings that cannot work, and OutputError where the
    folder holds something else.
    """
    options = Options(
        to=_member(Target, to, "to"),
        file_format=_member(FileFormat, file_format, "file_format"),
        sft_row=_member(SftRow, sft_row, "sft_row"),
        sft_columns=_member(SftColumns, sft_columns, "sft_columns"),
        sequence_length=sequence_length,
        split_longer=split_longer,
        loss_mask=loss_mask,
    )
    options.check()
    place = any_path(out)
    if isinstance(place, StorePath) and options.to in CONFIGURED:
        raise ConfigError(
            f"The configuration for {options.to} names files of the machine that trains, and {place} is none.",
            hint="Export into a folder there. A store takes what has no configuration, such as --to olmo or text.",
        )
    if shard_bytes < 1:
        raise ConfigError(f"shard_bytes must be 1 or more; got {shard_bytes}.", hint="The default is half a gigabyte.")
    loaded = load_tokenizer(tokenizer)
    loaded.require_eos()
    sources = open_sources(data, split=split, identity=identity, content=exported_content(options))
    places = _places(options.to, place, name, sources)
    plans = {each: plan_for(options, loaded, folder, entry) for each, (folder, entry) in places.items()}
    for plan in plans.values():
        _check_free(plan)
    reports: dict[str, ExportReport] = {}
    for each, source in sources.items():
        plan, told = plans[each], _further(on_progress, reports.values(), sources.values())
        settled = (VERSION, source.identity, loaded.identity, *options.identity(places[each][1], shard_bytes))
        if options.to is Target.LLAMA_FACTORY and isinstance(plan.format, JsonLines) and plan.format.before:
            settled += ("with BOS",)
        fresh = Manifest(
            identity=hashlib.blake2b(repr(settled).encode(), digest_size=16).hexdigest(),
            about={"to": options.to.value, "tokenizer": loaded.name},
        )
        job = ExportRun(
            *(plan.source(source), plan.read, plan.lengths, plan.format, plan.folder, plan.manifest), shard_bytes, told
        )
        reports[each] = _run(job, plan, fresh)
    return next(iter(reports.values())) if len(reports) == 1 else _together(reports, place)


def _places(target: Target, out: AnyPath, name: str, splits: Collection[str]) -> dict[str, tuple[AnyPath, str]]:
    """Return the folder and the entry of each split; raise OutputError where `out` cannot hold several."""
    if len(splits) == 1:
        return {split: (out, name) for split in splits}
    if target in NAMED:
        first = main_split(splits)
        return {split: (out, name if split == first else f"{name}_{split}") for split in splits}
    others = sorted(path.name for path in out.iterdir() if path.name not in splits) if out.is_dir() else []
    if others:
        raise OutputError(
            f"{out} is to hold a folder for each of the splits {', '.join(splits)}; it holds {others[0]}.",
            hint="Choose a new folder, or name the one split with --split that is exported there.",
        )
    return {split: (out / split, name) for split in splits}


def _further(
    on_progress: Callable[[ExportProgress], None], done: Collection[ExportReport], sources: Collection[ExportSource]
) -> Callable[[ExportProgress], None]:
    """Return `on_progress` for a split behind others, told what all of them have together."""
    documents, shards = sum(report.documents for report in done), sum(report.shards for report in done)
    rows = documents + sum(sum(report.skipped.values()) for report in done)
    tokens = sum(report.tokens or 0 for report in done)
    sizes = [source.rows for source in sources]
    return lambda progress: on_progress(
        ExportProgress(
            rows=rows + progress.rows,
            total_rows=None if None in sizes else sum(size or 0 for size in sizes),
            documents=documents + progress.documents,
            tokens=None if progress.tokens is None else tokens + progress.tokens,
            shards=shards + progress.shards,
        )
    )


def _run(job: ExportRun, plan: ExportPlan, fresh: Manifest) -> ExportReport:
    """Do what is not done yet, and say what is there."""
    before = records.resume(plan.manifest, fresh, files_in=plan.folder)
    manifest = before
    if not before.complete:
        manifest = write_shards(job, before)
        _check_not_empty(manifest)
        start = plan.finish(manifest)
        about = {**manifest.about, **({"start": start} if start else {})}
        manifest = replace(manifest, complete=True, about=about)
        records.save(plan.manifest, manifest)
    return _report(manifest, plan, resumed=len(before.shards))


def _check_free(plan: ExportPlan) -> None:
    """Refuse a folder with files in it that no manifest explains."""
    if plan.manifest.exists() or not plan.folder.exists():
        return
    there = sorted(path.name for path in plan.folder.iterdir()) if plan.folder.is_dir() else ["a file"]
    if there:
        raise OutputError(
            f"{plan.folder} is not empty ({there[0]}) and holds no export to go on with.",
            hint="Choose a new folder.",
        )


def _check_not_empty(manifest: Manifest) -> None:
    if not manifest.documents:
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in manifest.skipped.items())
        raise SourceError(
            f"None of the {manifest.rows:,} rows holds a text ({skipped or 'there are none'}).",
            hint="Check the column `text` of the input.",
        )


def _report(manifest: Manifest, plan: ExportPlan, *, resumed: int) -> ExportReport:
    return ExportReport(
        target=str(manifest.about["to"]),
        folder=str(plan.folder),
        files=tuple(manifest.files),
        documents=manifest.documents,
        tokens=manifest.tokens,
        shards=sum(bool(shard.files) for shard in manifest.shards),
        resumed_shards=resumed,
        neutralized=manifest.neutralized,
        skipped=manifest.skipped,
        sequences=_sequences(manifest, plan),
        start=str(manifest.about["start"]) if "start" in manifest.about else None,
    )


def _sequences(manifest: Manifest, plan: ExportPlan) -> SequenceReport | None:
    if plan.lengths is None:
        return None
    counts = manifest.sequences
    return SequenceReport(plan.lengths.limit, counts.longer, counts.overflow, counts.cut, plan.lost(manifest))


def _together(reports: Mapping[str, ExportReport], out: AnyPath) -> ExportReport:
    """Return the report of several splits: sums, and the paths of all files in `out`."""
    done = list(reports.values())
    counted = [report.tokens for report in done if report.tokens is not None]
    return ExportReport(
        target=done[0].target,
        folder=str(out),
        files=tuple(f"{one.folder}/{name}".removeprefix(f"{out}/") for one in done for name in one.files),
        documents=sum(report.documents for report in done),
        tokens=sum(counted) if counted else None,
        shards=sum(report.shards for report in done),
        resumed_shards=sum(report.resumed_shards for report in done),
        neutralized=sum(report.neutralized for report in done),
        skipped=dict(sum((Counter(report.skipped) for report in done), Counter())),
        splits=dict(reports),
        sequences=_summed([report.sequences for report in done if report.sequences]),
        start=reports[main_split(reports)].start,
    )


def _summed(reports: Sequence[SequenceReport]) -> SequenceReport | None:
    if not reports:
        return None
    known = [report.lost_tokens for report in reports if report.lost_tokens is not None]
    return SequenceReport(
        length=reports[0].length,
        longer=sum(report.longer for report in reports),
        overflow_tokens=sum(report.overflow_tokens for report in reports),
        cut=sum(report.cut for report in reports),
        lost_tokens=sum(known) if known else None,
    )


def _member(kinds: type[E], value: str, option: str) -> E:
    if value not in tuple(kinds):
        raise ConfigError(f"{option} must be one of {', '.join(kinds)}; got {value!r}.", hint=f"Correct {option}.")
    return kinds(value)
