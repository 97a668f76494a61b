"""The thread that writes parts, where the place of the job does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hfsynth.core.errors import OutputError
from hfsynth.job.part_writer import ChainResult, PartWriter, ShardEnd


def test_a_part_is_given_up_where_nobody_can_be_asked_whose_it_is(tmp_path: Path) -> None:
    def is_mine(shard: int) -> bool:
        raise OutputError(f"shard {shard} cannot be asked about.")

    def rows(read: Sequence[Any], results: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"text": "a"}]

    def never(*told: object) -> None:
        raise AssertionError(told)

    schema = pa.schema({"text": pa.string()})
    writer = PartWriter(tmp_path, schema, made=rows, is_mine=is_mine, on_finished=never, commit=never)
    writer.put(ChainResult(0, 0, [], []))
    writer.put(ShardEnd(0, 1, 1))
    with pytest.raises(OutputError, match="cannot be asked"):
        writer.close()
    assert list(tmp_path.iterdir()) == []
