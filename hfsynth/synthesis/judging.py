"""Chains that judge what is there: a document's pairs are scored, and those that conditions do not let pass taken out.

Every document is a chain of its own. Knows nothing of files or engines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hfsynth.core.conditions import JUDGED, Condition
from hfsynth.core.errors import ModelError
from hfsynth.core.records import Pair, Reason, Rejected, Row, Status, Synthesized
from hfsynth.core.verdicts import Scored, Scores
from hfsynth.corpus.parquet import synthesized
from hfsynth.engine.protocol import Chain
from hfsynth.quality.measures import MEASURES
from hfsynth.quality.rubric import RubricJudge
from hfsynth.synthesis.exemplars import NONE, Beginnings

_PATIENCE = 64
"""Pairs without a single answer after which a judge counts as one that does not know the rubric."""


@dataclass
class JudgingChainer:
    """Judge the pairs of rows, or of those rows alone that are `drawn`, and keep the pairs that meet all conditions."""

    judge: RubricJudge
    keep: tuple[Condition, ...] = ()
    drawn: Callable[[Row], bool] = lambda row: True
    beginnings: Beginnings = NONE
    _asked: int = field(default=0, init=False)
    _answered: int = field(default=0, init=False)

    def of_rows(self, rows: Sequence[Row]) -> Chain[list[Synthesized]]:
        """Return the rows' documents with what is left of their pairs, the scores and what was rejected.

        Raise ModelError for a judge that answers nothing.
        """
        results = []
        for row in rows:
            found = synthesized(row)
            if found.pairs and self.drawn(row):
                text = row["text"] or ""
                shown = text[: len(text) - found.synthesis.truncated]
                scored = yield from self.judge.chain(shown, found.pairs)
                self._require_answers(scored)
                found = kept(replace(found, scored=scored), shown, self.keep)
            results.append(found)
        return results

    def _require_answers(self, scored: Scored) -> None:
        self._asked += len(scored.scores)
        self._answered += sum(one.unjudged is None for one in scored.scores)
        if self._asked >= _PATIENCE and not self._answered:
            raise never_answers(self._asked)


def never_answers(pairs: int) -> ModelError:
    """Return the error for a judge that has said neither yes nor no of any pair."""
    return ModelError(
        f"The judge answered yes or no about none of {pairs} pairs: it does not follow the rubric.",
        hint="Use a chat model with --judge; a server must tell log-probabilities (`logprobs`).",
    )


def kept(found: Synthesized, text: str, conditions: Sequence[Condition]) -> Synthesized:
    """Keep the pairs that meet all conditions, each with its scores; reject the others by the first that is not met.

    A condition on a verdict that there is none of is not met: `unjudged`. A rejected pair's text is JSON with the
    fields of the pair and its scores.
    """
    if not conditions or found.scored is None:
        return found
    judged = list(zip(found.pairs, found.scored.scores, strict=True))
    reasons = [_unmet(text, pair, scores, conditions) for pair, scores in judged]
    left = [one for one, reason in zip(judged, reasons, strict=True) if reason is None]
    out = tuple(_rejected(*one, reason) for one, reason in zip(judged, reasons, strict=True) if reason is not None)
    synthesis = found.synthesis
    status = Status.NO_PAIRS if synthesis.status is Status.OK and not left else synthesis.status
    return Synthesized(
        tuple(pair for pair, _ in left),
        replace(synthesis, status=status, rejected=synthesis.rejected + out),
        replace(found.scored, scores=tuple(scores for _, scores in left), all_scores=found.scored.scores),
    )


def _unmet(text: str, pair: Pair, scores: Scores, conditions: Sequence[Condition]) -> Reason | None:
    for condition in conditions:
        value = getattr(scores, condition.measure) if condition.measure in JUDGED else _measured(text, pair, condition)
        if value is None:
            return Reason.UNJUDGED
        if not condition.is_met_by(value):
            return condition.reason
    return None


def _measured(text: str, pair: Pair, condition: Condition) -> float:
    return MEASURES[condition.measure](text, pair)


def _rejected(pair: Pair, scores: Scores, reason: Reason) -> Rejected:
    told = {name: score for name in JUDGED if (score := getattr(scores, name)) is not None}
    return Rejected(reason, json.dumps({**asdict(pair), **told}, ensure_ascii=False))


def judged_rows(rows: Sequence[Row], results: Sequence[Synthesized]) -> Iterator[Row]:
    """Yield the rows with their results: `pairs`, what changes in `synthesis`, and `verdicts`, null where none."""
    for row, result in zip(rows, results, strict=True):
        rejected = [{"reason": one.reason.value, "text": one.text} for one in result.synthesis.rejected]
        changed = {"status": result.synthesis.status.value, "rejected": rejected}
        yield {
            **row,
            "pairs": [asdict(pair) for pair in result.pairs],
            "synthesis": {**row["synthesis"], **changed},
            "verdicts": None if result.scored is None else [_verdict(one) for one in result.scored.scores],
        }


def _verdict(scores: Scores) -> Mapping[str, Any]:
    return {**{name: getattr(scores, name) for name in JUDGED}, "unjudged": scores.unjudged}
