"""What each target of an export needs: its form, its folder, how rows are read, and what is written last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from hfsynth.core.errors import ConfigError
from hfsynth.core.files import write_text
from hfsynth.core.text import Escape
from hfsynth.models.tokenizers import TextTokenizer
from hfsynth.texts.export import llama_factory
from hfsynth.texts.export.formats import Format, JsonLines, Lines, Parquet, Reader, TextReader
from hfsynth.texts.export.records import Manifest
from hfsynth.texts.export.sft import ExampleReader, Examples, SftColumns, SftRow, llama_factory_entry
from hfsynth.texts.export.source import PAIRS, TEXTS, Content, ExportSource
from hfsynth.texts.export.token_arrays import MegatronArrays, NanotronArrays, OlmoArrays, TokenArrays

MANIFEST = "export.json"


class Target(StrEnum):
    """Whom an export is for."""

    LLAMA_FACTORY = "llama-factory"
    MEGATRON = "megatron"
    NANOTRON = "nanotron"
    OLMO = "olmo"
    SFT = "sft"
    TEXT = "text"


NAMED = (Target.LLAMA_FACTORY, Target.SFT)
"""The targets whose files lie in a folder OUT/NAME, with an entry NAME in OUT/dataset_info.json."""

_ARRAYS: Mapping[Target, type[TokenArrays]] = {
    Target.MEGATRON: MegatronArrays,
    Target.NANOTRON: NanotronArrays,
    Target.OLMO: OlmoArrays,
}


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

    def identity(self, name: str, shard_bytes: int) -> tuple[object, ...]:
        """Return what decides the files, beside the source and the tokenizer."""
        own = (self.sft_row.value, self.sft_columns.value) if self.to is Target.SFT else ()
        return (self.to.value, self.file_format.value, name, shard_bytes, *own)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a target is written: how rows are read, the form and folder of the files, the manifest, what comes last."""

    read: Reader
    format: Format[Any]
    folder: Path
    manifest: Path
    finish: Callable[[Manifest], None] = lambda done: None
    source: Callable[[ExportSource], ExportSource] = lambda source: source


def content_of(options: Options) -> Content:
    """Return what of a corpus is exported."""
    return PAIRS if options.to is Target.SFT else TEXTS


def plan_for(options: Options, tokenizer: TextTokenizer, out: Path, name: str) -> Plan:
    """Return the plan of one split, to be written into `out` under this name.

    Raises ConfigError or OutputError where that cannot work.
    """
    escape = Escape.of(tokenizer.specials)
    if options.to is Target.SFT:
        return _sft_plan(options, escape, out, name)
    read = TextReader(escape)
    if options.to is Target.LLAMA_FACTORY:
        entry = llama_factory.texts_entry(name)
        return _named_plan(out, name, entry, read=read, form=JsonLines())
    if options.to in _ARRAYS:
        arrays = _ARRAYS[options.to](tokenizer)
        return Plan(read, arrays, out, out / MANIFEST, lambda done: _describe_arrays(arrays, done, out))
    return Plan(read, _text_format(tokenizer, options.file_format), out, out / MANIFEST)


def _sft_plan(options: Options, escape: Escape, out: Path, name: str) -> Plan:
    entry, read = llama_factory_entry(name, options.sft_columns), ExampleReader(escape, options.sft_columns)
    source = partial(Examples, row=options.sft_row)
    return _named_plan(out, name, entry, read=read, form=Lines(), source=source)


def _named_plan(
    out: Path,
    name: str,
    entry: llama_factory.Entry,
    *,
    read: Reader,
    form: Format[Any],
    source: Callable[[ExportSource], ExportSource] = lambda source: source,
) -> Plan:
    llama_factory.check_dataset_info(out, name, entry)
    manifest = out / f"{name}.{MANIFEST}"
    return Plan(read, form, out / name, manifest, lambda done: llama_factory.register_dataset(out, name, entry), source)


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


def _describe_arrays(arrays: TokenArrays, done: Manifest, out: Path) -> None:
    """Write dataset.json: the settings under which the arrays are read, in OLMo-core's words."""
    tokenizer = arrays.tokenizer
    bos, eos = tokenizer.leading_bos(), tokenizer.require_eos()
    described = {
        "paths": [_as_named(name, arrays) for name in done.files if name.endswith(arrays.endings[0])],
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
