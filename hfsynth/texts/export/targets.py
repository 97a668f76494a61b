"""What each target of an export needs: its form, its folder, how rows are read, and what is written last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from hfsynth.core.errors import ConfigError
from hfsynth.core.files import write_text
from hfsynth.core.store_paths import AnyPath
from hfsynth.core.stores import any_path
from hfsynth.core.text import Escape
from hfsynth.models.tokenizers import TextTokenizer
from hfsynth.texts.export import llama_factory, recipes
from hfsynth.texts.export.formats import ExportReader, ExportTextReader, Format, JsonLines, Lines, Parquet
from hfsynth.texts.export.lengths import Lengths
from hfsynth.texts.export.records import Manifest
from hfsynth.texts.export.sft import ExampleReader, SftColumns, SftExamples, SftRow, llama_factory_entry
from hfsynth.texts.export.source import PAIRS, SPANNED_TEXTS, TEXTS, ExportContent, ExportSource
from hfsynth.texts.export.token_arrays import LitdataArrays, MegatronArrays, NanotronArrays, OlmoArrays, TokenArrays

MANIFEST = "export.json"


class Target(StrEnum):
    """Whom an export is for."""

    AXOLOTL = "axolotl"
    LITDATA = "litdata"
    LITGPT = "litgpt"
    LLAMA_FACTORY = "llama-factory"
    MEGATRON = "megatron"
    NANOTRON = "nanotron"
    OLMO = "olmo"
    SFT = "sft"
    TEXT = "text"
    TORCHTITAN = "torchtitan"
    TRL = "trl"


NAMED = (Target.LLAMA_FACTORY, Target.SFT)
"""The targets whose files lie in a folder OUT/NAME, with an entry NAME in OUT/dataset_info.json."""

_ARRAYS: Mapping[Target, type[TokenArrays]] = {
    Target.LITDATA: LitdataArrays,
    Target.LITGPT: LitdataArrays,
    Target.MEGATRON: MegatronArrays,
    Target.NANOTRON: NanotronArrays,
    Target.OLMO: OlmoArrays,
}


MASKED = (Target.OLMO, Target.NANOTRON)
"""The targets that take a mask of the loss."""

USUAL_LENGTH = 2048
"""The length of sequences in a configuration, where none is given: the published one."""

_RECIPES: Mapping[Target, Callable[[recipes.Exported], recipes.TrainerRecipe]] = {
    Target.AXOLOTL: recipes.axolotl,
    Target.LITGPT: recipes.litgpt,
    Target.TORCHTITAN: recipes.torchtitan,
    Target.TRL: recipes.trl,
}


CONFIGURED = (*_RECIPES, Target.LLAMA_FACTORY)
"""Targets with a configuration, which names files and folders of the machine that trains."""


class FileFormat(StrEnum):
    """The files of the target `text`."""

    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked of an export."""

    to: Target
    file_format: FileFormat = FileFormat.JSONL
    sft_row: SftRow = SftRow.PAIR
    sft_columns: SftColumns = SftColumns.MESSAGES
    sequence_length: int | None = None
    split_longer: bool = False
    loss_mask: bool = False

    @property
    def length(self) -> int | None:
        """The length of sequences: the one given, or the usual one where a configuration has to name it."""
        return self.sequence_length or (USUAL_LENGTH if self.to in CONFIGURED else None)

    def check(self) -> None:
        """Raise ConfigError for what this target cannot do."""
        if self.length is not None and self.length < 8:
            raise ConfigError(f"sequence_length must be 8 or more; got {self.length}.", hint="Usual are 2048 and more.")
        if self.split_longer and self.length is None:
            raise ConfigError("Texts can be cut only to a length.", hint="Give sequence_length (--sequence-length).")
        if self.to is Target.SFT and (self.split_longer or self.sequence_length):
            raise ConfigError(
                "Examples to fine-tune on are not counted in sequences, nor cut: a chat template decides their tokens.",
                hint="Leave out sequence_length and split_longer.",
            )
        if self.loss_mask and self.to not in MASKED:
            raise ConfigError(
                f"Loss masks are written for {' and '.join(MASKED)}, not for {self.to}.", hint="Leave out loss_mask."
            )

    def identity(self, name: str, shard_bytes: int) -> tuple[object, ...]:
        """Return what decides the files, beside the source and the tokenizer."""
        rows = (self.sft_row.value, self.sft_columns.value) if self.to is Target.SFT else ()
        fitted = (self.sequence_length, self.split_longer, self.loss_mask)
        own = (*rows, *(fitted if any(fitted) else ()))
        return (self.to.value, self.file_format.value, name, shard_bytes, *own)


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """How a target is written: how rows are read, the form and folder of the files, the manifest, what comes last.

    `finish` returns the command that begins to train; `lost` tells how many tokens the trainer would not use, where
    that is known.
    """

    read: ExportReader
    format: Format[Any]
    folder: AnyPath
    manifest: AnyPath
    finish: Callable[[Manifest], str | None] = lambda done: None
    lengths: Lengths | None = None
    lost: Callable[[Manifest], int | None] = lambda done: done.sequences.lost
    source: Callable[[ExportSource], ExportSource] = lambda source: source


def exported_content(options: Options) -> ExportContent:
    """Return what of a corpus is exported."""
    if options.to is Target.SFT:
        return PAIRS
    return SPANNED_TEXTS if options.split_longer or options.loss_mask else TEXTS


def plan_for(options: Options, tokenizer: TextTokenizer, out: AnyPath, name: str) -> ExportPlan:
    """Return the plan of one split, to be written into `out` under this name.

    Raises ConfigError or OutputError where that cannot work.
    """
    options.check()
    escape = Escape.of(tokenizer.specials)
    if options.to is Target.SFT:
        return _sft_plan(options, escape, out, name)
    read = ExportTextReader(escape, spanned=options.split_longer or options.loss_mask)
    return replace(_texts_plan(options, tokenizer, read, out, name), lengths=_lengths(options, tokenizer))


def _texts_plan(options: Options, tokenizer: TextTokenizer, read: ExportReader, out: AnyPath, name: str) -> ExportPlan:
    if options.to is Target.LLAMA_FACTORY:
        bos = tokenizer.leading_bos()
        form = JsonLines(before=bos.text if bos and not tokenizer.says_bos else "")
        plan = _named_plan(out, name, llama_factory.texts_entry(name), read=read, form=form)
        return replace(plan, finish=_both(plan.finish, _told(options, tokenizer, out, name)))
    if options.to in _ARRAYS:
        return _arrays_plan(options, _ARRAYS[options.to](tokenizer, options.loss_mask), read, out)
    if options.to in _RECIPES:
        form = JsonLines(before=_unsaid_bos(options.to, tokenizer))
        return ExportPlan(read, form, out, out / MANIFEST, _told(options, tokenizer, out, name))
    return ExportPlan(read, _text_format(tokenizer, options.file_format), out, out / MANIFEST, lost=lambda done: None)


def _arrays_plan(options: Options, arrays: TokenArrays, read: ExportReader, out: AnyPath) -> ExportPlan:
    def finish(done: Manifest) -> str | None:
        _describe_arrays(arrays, done, out)
        if isinstance(arrays, LitdataArrays):
            _index_chunks(done, out)
        return _told(options, arrays.tokenizer, out, "")(done) if options.to in _RECIPES else None

    return ExportPlan(read, arrays, out, out / MANIFEST, finish, lost=lambda done: _rests(options, done))


def _rests(options: Options, done: Manifest) -> int:
    """Count the tokens at the end of each file that fill no sequence: all four trainers leave them out."""
    if options.length is None:
        return 0
    more = 0 if options.to is Target.OLMO else 1  # the others read one token beyond a sequence, to be predicted
    step = options.length if options.to in (Target.OLMO, Target.MEGATRON) else options.length + 1
    overlap = more if options.to is Target.MEGATRON else 0
    return sum((shard.tokens - overlap) % step for shard in done.shards if shard.tokens)


def _lengths(options: Options, tokenizer: TextTokenizer) -> Lengths | None:
    if options.length is None:
        return None
    frame = 2 if tokenizer.leading_bos() else 1
    keeps = {Target.LLAMA_FACTORY: 1, Target.AXOLOTL: recipes.AXOLOTL_PIECES}.get(options.to)
    return Lengths(tokenizer, options.length, frame, options.split_longer, keeps and keeps * options.length)


def _told(options: Options, tokenizer: TextTokenizer, out: AnyPath, name: str) -> Callable[[Manifest], str | None]:
    """Return what writes the trainer's configuration beside the texts, and returns the command that begins to train."""
    make = partial(recipes.llama_factory, name=name) if options.to is Target.LLAMA_FACTORY else _RECIPES[options.to]

    def write(done: Manifest) -> str:
        recipe = make(
            recipes.Exported(out.as_posix(), done.files, tokenizer, options.length or USUAL_LENGTH, done.tokens)
        )
        write_text(any_path(recipe.file), recipe.text)
        return recipe.start

    return write


def _both(
    first: Callable[[Manifest], str | None], second: Callable[[Manifest], str | None]
) -> Callable[[Manifest], str | None]:
    return lambda done: (first(done), second(done))[1]


def _unsaid_bos(target: Target, tokenizer: TextTokenizer) -> str:
    """Return BOS as text where the trainer's call of the tokenizer would not put it there; refuse what it doubles."""
    if target is Target.TORCHTITAN:  # puts both there itself, where they are not
        return ""
    bos, eos = tokenizer.leading_bos(), tokenizer.require_eos()
    before, behind = tokenizer.framed()
    wanted = [[], [bos.id]] if bos else [[]]
    if before not in wanted or (behind and target is Target.TRL) or behind not in ([], [eos.id]):
        raise ConfigError(
            f"The tokenizer {tokenizer.name} puts control tokens around a text that {target} would double: "
            f"{before} before, {behind} behind it.",
            hint="Export token arrays (--to olmo, megatron, nanotron or litdata), which hold BOS and EOS once.",
        )
    return bos.text if bos and not before else ""


def _index_chunks(done: Manifest, out: AnyPath) -> None:
    """Write litdata's index of the chunks."""
    sizes = [size for shard in done.shards for size in shard.files.values()]
    chunks = [
        {"chunk_bytes": size, "chunk_size": 1, "dim": shard.tokens, "filename": name}
        for shard in done.shards
        for name, size in shard.files.items()
    ]
    config = {
        "chunk_bytes": max(sizes),
        **dict.fromkeys(("chunk_size", "compression", "encryption")),
        "data_format": ["no_header_tensor:16"],
        "data_spec": '[1, {"type": null, "context": null, "children_spec": []}]',
        "item_loader": "TokensLoader",
    }
    write_text(out / "index.json", json.dumps({"chunks": chunks, "config": config}, indent=1) + "\n")


def _sft_plan(options: Options, escape: Escape, out: AnyPath, name: str) -> ExportPlan:
    entry, read = llama_factory_entry(name, options.sft_columns), ExampleReader(escape, options.sft_columns)
    source = partial(SftExamples, row=options.sft_row)
    return _named_plan(out, name, entry, read=read, form=Lines(), source=source)


def _named_plan(
    out: AnyPath,
    name: str,
    entry: llama_factory.Entry,
    *,
    read: ExportReader,
    form: Format[Any],
    source: Callable[[ExportSource], ExportSource] = lambda source: source,
) -> ExportPlan:
    llama_factory.check_dataset_info(out, name, entry)
    manifest = out / f"{name}.{MANIFEST}"
    return ExportPlan(
        read, form, out / name, manifest, lambda done: llama_factory.register_dataset(out, name, entry), source=source
    )


def _text_format(tokenizer: TextTokenizer, kind: FileFormat) -> JsonLines | Parquet:
    """Write BOS and EOS as text; both must be strings that can be told from ordinary text."""
    bos, eos = tokenizer.leading_bos(), tokenizer.require_eos()
    for token in (bos, eos):
        if token is not None and len(token.text) < 2:
            raise ConfigError(
                f"The tokenizer's {token.text!r} cannot be told from the same character in a text.",
                hint="Export token arrays (--to olmo), or use a tokenizer with longer BOS and EOS tokens.",
            )
    form = JsonLines if kind is FileFormat.JSONL else Parquet
    return form(before=bos.text if bos else "", after=eos.text)


def _describe_arrays(arrays: TokenArrays, done: Manifest, out: AnyPath) -> None:
    """Write dataset.json: the settings under which the arrays are read, in OLMo-core's words."""
    tokenizer = arrays.tokenizer
    bos, eos = tokenizer.leading_bos(), tokenizer.require_eos()
    masks = {"label_mask_paths": [name for name in done.files if name.endswith(arrays.mask_ending)]}
    described = {
        "paths": [_as_named(name, arrays) for name in done.files if name.endswith(arrays.endings[0])],
        **(masks if arrays.masked else {}),
        "dtype": arrays.dtype,
        "tokenizer": {
            "vocab_size": tokenizer.vocab_size,
            "eos_token_id": eos.id,
            "pad_token_id": tokenizer.pad.id if tokenizer.pad else eos.id,
            "bos_token_id": bos.id if bos else None,
            "identifier": tokenizer.name,
        },
        "tokens": done.tokens,
        "documents": done.documents,
    }
    write_text(out / "dataset.json", json.dumps(described, indent=2) + "\n")


def _as_named(file: str, arrays: TokenArrays) -> str:
    return file.removesuffix(arrays.endings[0]) if isinstance(arrays, MegatronArrays) else file
