"""How good a synthesizer is, by the paper's own measures: gold data in, a table of figures out.

Response accuracy and pair quality, without and with gold examples shown before, on gold sets such as task sets seen
and unseen in tuning (Instruction Pre-Training, Table 5). Knows nothing of the command line or of cards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from hfsynth.addresses import public_location
from hfsynth.chains import Chain
from hfsynth.config import EngineConfig, SynthesizerConfig, require_room
from hfsynth.corpus import write_json
from hfsynth.durable import writing
from hfsynth.engine import Engine, Generation
from hfsynth.errors import ConfigError
from hfsynth.judging import Case, Judge, cases
from hfsynth.models import engine_for, pinned
from hfsynth.prompts import prompt_format
from hfsynth.synthesizer_figures import Judged, joined, results
from hfsynth.training_data import Examples, read_examples

T = TypeVar("T")

EVALUATION = "evaluation.json"


def evaluate_synthesizer(
    config: SynthesizerConfig,
    gold: Mapping[str, str | Path],
    *,
    engine: EngineConfig | None = None,
    shots: Sequence[int] = (0, 3),
    limit: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Judge the synthesizer of `config` on gold sets, each a name and a location that `read_examples` takes.

    `shots` are the numbers of gold examples of the same source to show before a document: 0 is zero-shot. `limit`
    bounds the documents of each source. Return plain JSON values: under `results`, for each gold set and number of
    shots, the figures of all documents (`all`), their plain mean over sources (`macro`) and those of each source.
    Scores lie between 0 and 1, each with a 95% bootstrap interval over documents. `on_progress` is told how many
    requests have been answered, and of how many. The recipe's own `shots` play no role.

    Raise ConfigError for settings that cannot work, SourceError or ColumnError for gold data without usable rows,
    ModelError for an unknown model, EngineError when the engine dies.
    """
    _check(gold, shots, limit)
    data = {name: read_examples(str(location)) for name, location in gold.items()}
    engine = engine or EngineConfig()
    config = pinned(config, engine)
    asked = [
        case
        for name, examples in data.items()
        for case in cases(name, examples.rows, shots=shots, limit=limit, seed=seed)
    ]
    judged = _judged(config, engine_for(config, engine), asked, seed, on_progress or (lambda number, of: None))
    return {
        "synthesizer": _named(config),
        "shots": sorted(set(shots)),
        "limit": limit,
        "seed": seed,
        "gold": {name: _told(gold[name], examples) for name, examples in data.items()},
        "results": results(judged, seed),
    }


def save_evaluation(values: Mapping[str, Any], path: Path) -> None:
    """Write an evaluation to a file, whole or not at all; raise OutputError where it cannot be written."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, values)


def evaluation_place(model: str) -> Path | None:
    """Return the file in a model's folder that its card reads the evaluation from; None for a model elsewhere."""
    folder = Path(model).expanduser()
    return folder / EVALUATION if folder.is_dir() else None


def _check(gold: Mapping[str, object], shots: Sequence[int], limit: int | None) -> None:
    if not gold:
        raise ConfigError(
            "There is no gold data to judge by.", hint="Name some: --seen FILE, --unseen FILE, --gold FILE."
        )
    if not shots or min(shots) < 0:
        raise ConfigError(
            f"shots must be whole numbers of at least 0, not {list(shots)}.", hint="Use --shots 0 --shots 3."
        )
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be a whole number of at least 1, not {limit}.")


def _judged(
    config: SynthesizerConfig, engine: Engine, asked: Sequence[Case], seed: int, on_progress: Callable[[int, int], None]
) -> list[Judged]:
    require_room(engine.window, config.sampling.max_tokens)
    prompts = prompt_format(config, engine.tokenizer)
    judge = Judge(prompts, engine.window, config.sampling.max_tokens, seed)
    answering = Generation(config.sampling, stop=prompts.answer_ends)
    writing_pairs = Generation(config.sampling, prompts.json_schema)
    ended, of = 0, sum(1 + len(case.example.pairs) for case in asked)

    def counted(chains: Iterator[Chain[T]], generation: Generation) -> Iterator[T]:
        nonlocal ended
        for outcome in engine.run(chains, generation):
            ended += 1
            on_progress(ended, of)
            yield outcome

    written = list(counted((judge.pairs(case) for case in asked), writing_pairs))
    answered = list(counted(chain.from_iterable(map(judge.answers, asked)), answering))
    return joined(written, answered)


def _named(config: SynthesizerConfig) -> dict[str, Any]:
    """Return what decides the figures, a folder by its name alone."""
    values = config.to_dict()
    folder = Path(config.model).expanduser()
    kept = ("model_revision", "prompt_format", "window", "sampling")
    return {
        "model": folder.resolve().name if folder.is_dir() else public_location(config.model),
        **{name: values[name] for name in kept},
    }


def _told(location: str | Path, examples: Examples) -> dict[str, Any]:
    name = public_location(str(location))
    left_out = {reason: count for reason, count in examples.left_out.items() if count}
    return {"data": name, "documents": len(examples.rows), "left_out": left_out}
