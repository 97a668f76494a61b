"""The output columns as Arrow and `datasets` types: `pairs` and `synthesis`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from datasets import Features

from hfsynth.records import Pair, Rejected, Synthesis, Synthesized

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
    }
)
OUTPUT_SCHEMA = pa.schema({"pairs": PAIRS_TYPE, "synthesis": SYNTHESIS_TYPE})


def output_features(features: Features | None = None) -> Features:
    """Return `features` with the output columns added."""
    return Features({**(features or {}), **Features.from_arrow_schema(OUTPUT_SCHEMA)})


def output_values(results: Sequence[Synthesized]) -> dict[str, list[Any]]:
    """Return the output columns of `results` as plain values."""
    return {
        "pairs": [[_pair(pair) for pair in result.pairs] for result in results],
        "synthesis": [_synthesis(result.synthesis) for result in results],
    }


def output_rows(results: Sequence[Synthesized]) -> list[dict[str, Any]]:
    """Return the output columns of `results` row by row."""
    return [
        {"pairs": [_pair(pair) for pair in result.pairs], "synthesis": _synthesis(result.synthesis)}
        for result in results
    ]


def output_arrays(results: Sequence[Synthesized]) -> dict[str, pa.Array]:
    """Return the output columns of `results` as typed Arrow arrays, also where every list in them is empty."""
    values = output_values(results)
    return {field.name: pa.array(values[field.name], type=field.type) for field in OUTPUT_SCHEMA}


def _pair(pair: Pair) -> dict[str, str]:
    return {"instruction": pair.instruction, "response": pair.response}


def _synthesis(synthesis: Synthesis) -> dict[str, Any]:
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
    }


def _rejected(rejected: Rejected) -> dict[str, str]:
    return {"reason": rejected.reason.value, "text": rejected.text}
