"""Keep the pairs that meet conditions and set the others aside whole. Knows nothing of models, chains or files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from hfsynth.conditions import Condition
from hfsynth.measures import MEASURES
from hfsynth.parsing import Parsed
from hfsynth.records import Pair, Rejected


def keep_pairs(parsed: Parsed, text: str, conditions: Sequence[Condition]) -> Parsed:
    """Keep the pairs about `text` that meet all conditions; reject the others by the first one that they do not meet.

    `text` is the document as the model saw it, so that a shortened document is no evidence for what was cut off. A
    rejected pair's text is JSON with the fields `instruction` and `response`.
    """
    if not conditions:
        return parsed
    failed = [(pair, _unmet(text, pair, conditions)) for pair in parsed.pairs]
    return Parsed(
        tuple(pair for pair, unmet in failed if unmet is None),
        parsed.rejected + tuple(_rejected(pair, unmet) for pair, unmet in failed if unmet is not None),
    )


def _unmet(text: str, pair: Pair, conditions: Sequence[Condition]) -> Condition | None:
    """Return the first condition that a pair does not meet; measures after it are not taken."""
    return next((c for c in conditions if not c.is_met_by(MEASURES[c.measure](text, pair))), None)


def _rejected(pair: Pair, unmet: Condition) -> Rejected:
    return Rejected(unmet.reason, json.dumps(asdict(pair), ensure_ascii=False))
