"""The output columns as Arrow and `datasets` types: `pairs` and `synthesis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa
from datasets import Features

from hfsynth.records import Pair, Reason, Rejected, Status, Synthesis, Synthesized

_text = pa.string()
PAIRS_TYPE = pa.list_(pa.struct({"instruction": _text, "response": _text}))
SYNTHESIS_TYPE = pa.struct(
    {
        "status": _text,
        "chain": _text,
        "shot": pa.int64(),
        "follows": pa.bool_(),
        "prompt_tokens": pa.int64(),
        "output_tokens": pa.int64(),
        "cached_tokens": pa.int64(),
        "truncated": pa.int64(),
        "finish_reason": _text,
        "rejected": pa.list_(pa.struct({"reason": _text, "text": _text})),
        "recipe": _text,
    }
)
_SYNTHESIS = frozenset(field.name for field in fields(Synthesis))
OUTPUT_SCHEMA = pa.schema({"pairs": PAIRS_TYPE, "synthesis": SYNTHESIS_TYPE})


def output_features(features: Features | None = None, *, recipe: bool = True) -> Features:
    """Return `features` with the output columns added; rows of the first versions do not name their `recipe`."""
    synthesis = pa.struct([field for field in SYNTHESIS_TYPE if recipe or field.name != "recipe"])
    schema = pa.schema({"pairs": PAIRS_TYPE, "synthesis": synthesis})
    return Features({**(features or {}), **Features.from_arrow_schema(schema)})


def output_values(results: Sequence[Synthesized], *, recipe: str) -> dict[str, list[Any]]:
    """Return the output columns of `results` as plain values; `recipe` names what made them."""
    return {
        "pairs": [[_pair(pair) for pair in result.pairs] for result in results],
        "synthesis": [_synthesis(result.synthesis, recipe) for result in results],
    }


def output_rows(results: Sequence[Synthesized], *, recipe: str) -> list[dict[str, Any]]:
    """Return the output columns of `results` row by row."""
    return [
        {"pairs": [_pair(pair) for pair in result.pairs], "synthesis": _synthesis(result.synthesis, recipe)}
        for result in results
    ]


def output_arrays(results: Sequence[Synthesized], *, recipe: str) -> dict[str, pa.Array]:
    """Return the output columns of `results` as typed Arrow arrays, also where every list in them is empty."""
    values = output_values(results, recipe=recipe)
    return {field.name: pa.array(values[field.name], type=field.type) for field in OUTPUT_SCHEMA}


def _pair(pair: Pair) -> dict[str, str]:
    return {"instruction": pair.instruction, "response": pair.response}


def synthesized(row: Mapping[str, Any]) -> Synthesized:
    """Read the output columns of a row back; raise KeyError, TypeError or ValueError where they are not ours."""
    found = row["synthesis"]
    rejected = tuple(Rejected(Reason(one["reason"]), one["text"]) for one in found["rejected"] or ())
    pairs = tuple(Pair(pair["instruction"], pair["response"]) for pair in row["pairs"] or ())
    own = {name: found[name] for name in _SYNTHESIS if name in found}
    return Synthesized(pairs, Synthesis(**{**own, "status": Status(found["status"]), "rejected": rejected}))


def _synthesis(synthesis: Synthesis, recipe: str) -> dict[str, Any]:
    return {
        "status": synthesis.status.value,
        "chain": synthesis.chain,
        "shot": synthesis.shot,
        "follows": synthesis.follows,
        "prompt_tokens": synthesis.prompt_tokens,
        "output_tokens": synthesis.output_tokens,
        "cached_tokens": synthesis.cached_tokens,
        "truncated": synthesis.truncated,
        "finish_reason": synthesis.finish_reason,
        "rejected": [_rejected(rejected) for rejected in synthesis.rejected],
        "recipe": recipe,
    }


def _rejected(rejected: Rejected) -> dict[str, str]:
    return {"reason": rejected.reason.value, "text": rejected.text}
