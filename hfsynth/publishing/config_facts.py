"""The configs of a corpus as its card describes them: splits, columns, and what each column is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfsynth.corpus.readme import as_code

_COLUMNS = {
    "id": "the document's name: the source's, or a digest of its text",
    "text": "the document",
    "pairs": "the instruction-response pairs about the document",
    "synthesis": "where the pairs come from: `status`, the `chain` and `shot`, whether the previous shot was in the "
    "prompt (`follows`), tokens, `finish_reason`, and what was `rejected` and why",
    "source_id": "of a piece of a long document, the document's name",
    "offset": "of a piece of a long document, the character that it begins with",
}
_TEXT_COLUMNS = {
    "text": "a document, or the documents of a few-shot chain, each followed by its pairs: one text to train on",
    "source_ids": "the names of the documents in the text, in order",
    "source": "the part of the mixture that the text is from",
    "shots": "how many documents are in the text",
    "num_pairs": "how many pairs are in the text",
    "pairs": "how many pairs are in the text (a number, by its former name)",
    "style": "the rendering that was drawn for the text",
    "wordings": "the language in which each of these documents is worded, empty where it has no pairs",
    "chain": "the few-shot chain that the text was made of",
    "pair_spans": "where each pair begins and ends in the text, in characters",
    "tokens": "tokens of the text, without those for its beginning and end",
}
_REWRITTEN_COLUMNS = {"id": "the document's name", "text": "what the model wrote", "prompt": "the prompt that asked it"}
_ABOUT = {"default": "text to train on", "pairs": "documents with their pairs, and where they come from"}
_ABOUT |= {"rewritten": "documents that the model wrote anew"}


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split of a config: where it lies, and how large it is. `nbytes` are those of its rows in memory."""

    name: str
    paths: tuple[str, ...]
    rows: int
    nbytes: int
    size: int
    files: int


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """One config: its splits and its columns, as `dataset_info` writes them."""

    name: str
    splits: tuple[SplitFacts, ...]
    features: Sequence[Any]

    @property
    def about(self) -> str:
        return _ABOUT.get(self.name, "one more config")

    @property
    def columns(self) -> list[tuple[str, str, str]]:
        """Every column with its type and what it is."""
        listed = any(column["name"] == "pairs" and "dtype" not in column for column in self.features)
        about = _COLUMNS if listed else _REWRITTEN_COLUMNS if self.name == "rewritten" else _TEXT_COLUMNS
        return [
            (as_code(column["name"]), as_code(_kind(column)), about.get(column["name"], "a column of the source"))
            for column in self.features
        ]

    def entry(self) -> dict[str, Any]:
        """Return the config's entry under `configs`."""
        files = [{"split": s.name, "path": s.paths[0] if len(s.paths) == 1 else list(s.paths)} for s in self.splits]
        return {"config_name": self.name, "data_files": files}

    def info(self) -> dict[str, Any]:
        """Return the config's entry under `dataset_info`."""
        return {
            "config_name": self.name,
            "features": list(self.features),
            "splits": [{"name": s.name, "num_bytes": s.nbytes, "num_examples": s.rows} for s in self.splits],
            "download_size": sum(s.size for s in self.splits),
            "dataset_size": sum(s.nbytes for s in self.splits),
        }


def _kind(column: Mapping[str, Any]) -> str:
    """Return the type of a column as `dataset_info` has it, in short."""
    if "dtype" in column:
        dtype = column["dtype"]
        return dtype if isinstance(dtype, str) else str(next(iter(dtype), "other"))
    shape = next((name for name in column if name != "name"), "other")
    inner = column.get(shape)
    if isinstance(inner, list) and shape != "struct":
        return f"{shape} of {', '.join(str(field['name']) for field in inner)}"
    return f"{shape} of {inner}" if isinstance(inner, str) else shape
