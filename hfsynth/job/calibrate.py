"""Try a judge on gold data before a verification, once a verification. Knows nothing of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hfsynth.core.addresses import public_location
from hfsynth.core.conditions import JUDGED
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.files import read_json, write_json
from hfsynth.corpus.folder import Corpus
from hfsynth.documents.examples import read_examples
from hfsynth.engine.loading import drop_engine, engine_for
from hfsynth.engine.protocol import Chain, Engine, Generation
from hfsynth.quality.calibration import Known, Told, calibration, known_pairs
from hfsynth.quality.rubric import RubricJudge

DOCUMENTS = 500
"""Gold documents that are drawn at most."""


def calibrated(
    inner: Corpus,
    gold: str | Path | None,
    config: SynthesizerConfig,
    engine: EngineConfig,
    *,
    seed: int,
    stays: bool,
) -> dict[str, Any] | None:
    """Return what the judge's scores are worth on gold data, None where none is named; asked once a verification.

    The engine `stays` loaded where this process goes on with it.
    """
    if gold is None:
        return None
    place = inner.journal / "calibration.json"
    name = public_location(str(gold))
    found: dict[str, Any] | None = read_json(place)
    if found is not None and found.get("data") == name:
        return found
    known = list(known_pairs(read_examples(str(gold)).rows, limit=DOCUMENTS, seed=seed))
    loaded = engine_for(config, engine)
    values = {"data": name, "documents": len(known), **try_judge(loaded, known)}
    if not stays:
        drop_engine(loaded)
    write_json(place, values)
    return values


def try_judge(engine: Engine, known: Sequence[Sequence[Known]]) -> dict[str, Any]:
    """Return the calibration of each score on documents' known pairs, and how many got no verdict."""
    judge = RubricJudge(engine.tokenizer, engine.window)
    said = sorted(engine.run((_asked(judge, *one) for one in enumerate(known)), Generation()), key=lambda one: one[0])
    told: dict[str, list[Told]] = {name: [] for name in JUDGED}
    unjudged = 0
    for number, scores in said:
        for pair, score in zip(known[number], scores, strict=True):
            if score is None:
                unjudged += 1
                continue
            told["relevance"].append(Told(score[0], pair.relevant))
            if pair.accurate is not None:
                told["accuracy"].append(Told(score[1], pair.accurate))
    return {"unjudged": unjudged, **{name: calibration(ones) for name, ones in told.items()}}


def _asked(
    judge: RubricJudge, number: int, known: Sequence[Known]
) -> Chain[tuple[int, list[tuple[float, float] | None]]]:
    scored = yield from judge.chain(known[0].document, [one.pair for one in known])
    both = [(one.relevance, one.accuracy) for one in scored.scores]
    return number, [None if first is None or second is None else (first, second) for first, second in both]
