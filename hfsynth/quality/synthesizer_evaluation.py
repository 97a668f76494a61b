"""How good a synthesizer is, by the paper's own measures: gold data in, a table of figures out.

Response accuracy and pair quality, without and with gold examples shown before, on gold sets such as task sets seen and
unseen in tuning (Instruction Pre-Training, Table 5): means with intervals over documents, and counts. Knows nothing of
the command line or of cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import chain, groupby
from pathlib import Path
from typing import Any, TypeVar

from hfsynth.core.addresses import public_location
from hfsynth.core.config import EngineConfig, SynthesizerConfig, require_room
from hfsynth.core.errors import ConfigError
from hfsynth.core.exemplars import Exemplar, ExemplarSets
from hfsynth.core.files import write_json, writing
from hfsynth.core.prompt_recipes import TEXT, PromptRecipe
from hfsynth.core.records import Turn
from hfsynth.documents.examples import Examples, read_examples
from hfsynth.engine.loading import config_of, engine_for
from hfsynth.engine.protocol import Chain, Engine, Generation
from hfsynth.models.resolve import pinned
from hfsynth.prompting.chat import Chat
from hfsynth.prompting.formats import prompt_format
from hfsynth.prompting.recipe_chat import PromptDraw
from hfsynth.quality.aggregates import Ratios
from hfsynth.quality.exemplars import settled_exemplars
from hfsynth.quality.gold_scoring import AnswerScore, Case, GoldJudge, PairsScore, RequestOutcome, cases
from hfsynth.quality.words import language_of

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """Everything about one document with one number of shots."""

    written: PairsScore
    answers: tuple[AnswerScore, ...]

    @property
    def source(self) -> str:
        """The task set that the document is from."""
        return self.written.case.example.source

    def answered(self) -> list[AnswerScore]:
        """Return the answers that there are figures of."""
        return [answer for answer in self.answers if answer.said is not None and not answer.said.failed]

    @property
    def outcomes(self) -> Sequence[PairsScore | AnswerScore]:
        """What became of each request, and of those that did not fit."""
        return [self.written, *self.answers]

    def said(self) -> list[RequestOutcome]:
        """Return what every request cost."""
        return [outcome.said for outcome in self.outcomes if outcome.said is not None]


def joined(written: Iterable[PairsScore], answered: Iterable[AnswerScore]) -> list[Judged]:
    """Put the outcomes of the two tasks together, by gold set, shots and document, in this order."""
    answers: dict[tuple[str, int, int], list[AnswerScore]] = {}
    for answer in answered:
        answers.setdefault(_key(answer), []).append(answer)
    return [Judged(one, tuple(answers.get(_key(one), ()))) for one in sorted(written, key=_key)]


def _key(item: PairsScore | AnswerScore) -> tuple[str, int, int]:
    return item.case.gold, item.case.shots, item.case.number


def results(judged: Sequence[Judged], seed: int) -> Figures:
    """Return the figures of each gold set and number of shots: `all`, `macro` (over sources) and `sources`."""
    found: Figures = {}
    for (gold, shots), group in groupby(judged, key=lambda one: _key(one.written)[:2]):
        documents = list(group)
        by_source: dict[str, list[Judged]] = {}
        for one in documents:
            by_source.setdefault(one.source, []).append(one)
        sources = {source: figures(ones, seed) for source, ones in sorted(by_source.items())}
        found.setdefault(gold, {})[str(shots)] = {
            "all": figures(documents, seed),
            "macro": _macro(list(sources.values())),
            "sources": sources,
        }
    return found


def figures(judged: Sequence[Judged], seed: int) -> Figures:
    """Return the figures of some documents.

    Means are over documents, a document's answers counted as their mean; scores and shares lie between 0 and 1.
    `grounding` is the share of a response's content words that its document has, `fully_grounded` the share of
    responses of which it has all. What did not fit the window, or failed in the engine, is counted and in no mean.
    """
    written = [one.written for one in judged if one.written.said is not None and not one.written.said.failed]
    answered = [answers for one in judged if (answers := one.answered())]
    said = [item for one in judged for item in one.said()]

    def mean(values: Sequence[float]) -> Mapping[str, float | None]:
        return _interval(values, seed)

    def of_answers(score: Callable[[AnswerScore], float]) -> Mapping[str, float | None]:
        return mean([sum(map(score, answers)) / len(answers) for answers in answered])

    qualities = [one.quality for one in written if one.quality is not None]
    return {
        "documents": len(judged),
        "response_accuracy": {
            "f1": of_answers(lambda answer: answer.f1),
            "exact_match": of_answers(lambda answer: answer.exact_match),
            "answers": sum(map(len, answered)),
        },
        "pair_quality": {
            "f1": mean([quality.f1 for quality in qualities]),
            "precision": mean([quality.precision for quality in qualities]),
            "recall": mean([quality.recall for quality in qualities]),
        },
        "with_pairs": mean([float(one.pairs > 0) for one in written]),
        "pairs_per_document": mean([float(one.pairs) for one in written]),
        "gold_pairs_per_document": mean([float(len(one.case.example.pairs)) for one in written]),
        "grounding": mean([sum(one.grounding) / len(one.grounding) for one in written if one.grounding]),
        "fully_grounded": mean([one.grounding.count(1) / len(one.grounding) for one in written if one.grounding]),
        "duplicates": _share(sum(one.duplicates for one in written), sum(one.pairs for one in written)),
        "language_mismatch": mean([sum(one.foreign) / len(one.foreign) for one in written if one.foreign]),
        "tasks": _tasks(written),
        "rejected": dict(sorted(Counter(str(item.reason) for one in written for item in one.rejected).items())),
        **_counts(judged, said),
    }


def _counts(judged: Sequence[Judged], said: Sequence[RequestOutcome]) -> Figures:
    asked = [one.written for one in judged if one.written.said is not None]
    unfit = sum(one.written.fits_no_prompt for one in judged)
    return {
        "too_long": sum(outcome.said is None for one in judged for outcome in one.outcomes) - unfit,
        "no_prompt": unfit,
        "failed": sum(item.failed for item in said),
        "cut_off": sum(one.said.cut_off for one in asked if one.said is not None),
        "fewer_shots": sum(one.said.shown < one.case.asked for one in asked if one.said is not None),
        "prompt_tokens": sum(item.prompt_tokens for item in said),
        "output_tokens": sum(item.output_tokens for item in said),
    }


def _tasks(written: Sequence[PairsScore]) -> dict[str, float]:
    """Return the share of pairs of each kind of task, the largest first."""
    counts = Counter(task for one in written for task in one.tasks)
    return {
        task: count / counts.total() for task, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    }


def _share(duplicates: int, pairs: int) -> float | None:
    return duplicates / (pairs + duplicates) if pairs + duplicates else None


def _macro(sources: Sequence[Figures]) -> Figures:
    """Return the plain mean over sources of what the paper reports."""
    found: Figures = {"sources": len(sources)}
    for measure, score in (("response_accuracy", "f1"), ("response_accuracy", "exact_match"), ("pair_quality", "f1")):
        means = [mean for one in sources if (mean := one[measure][score]["mean"]) is not None]
        found.setdefault(measure, {})[score] = sum(means) / len(means) if means else None
    return found


def _interval(values: Sequence[float], seed: int) -> Mapping[str, float | None]:
    """Return the mean and its 95% interval over documents; a single value has no interval."""
    ratios = Ratios(["mean"], seed=seed)
    for value in values:
        ratios.add({"mean": (value, 1)})
    return ratios.interval("mean")


T = TypeVar("T")

EVALUATION = "evaluation.json"


def evaluate_synthesizer(
    config: SynthesizerConfig,
    gold: Mapping[str, str | Path],
    *,
    engine: EngineConfig | Engine | None = None,
    shots: Sequence[int] = (0, 3),
    limit: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Judge the synthesizer of `config` on gold sets, each a name and a location that `read_examples` takes.

    `shots` are the numbers of gold examples of the same source to show before a document: 0 is zero-shot. `limit`
    bounds the documents of each source. Return plain JSON values: under `results`, for each gold set and number of
    shots, the figures of all documents (`all`), their plain mean over sources (`macro`) and those of each source.
    The recipe's `exemplars` are shown before everything else, one set a document, drawn as for chains. Its `prompt`
    decides how pairs are asked for; documents that no prompt is for are counted as `no_prompt`. Answers to gold
    instructions are asked for as in the `chat` format.
    Scores lie between 0 and 1, each with a 95% bootstrap interval over documents. `on_progress` is told how many
    requests have been answered, and of how many. The recipe's own `shots` play no role.

    Raise ConfigError for settings that cannot work, SourceError or ColumnError for gold data without usable rows,
    ModelError for an unknown model, EngineError when the engine dies.
    """
    _check(gold, shots, limit)
    _require_pairs(config.prompt)
    data = {name: read_examples(str(location)) for name, location in gold.items()}
    engine_config = config_of(engine)
    config = pinned(config, engine_config)
    if config.exemplars is not None:
        config = replace(config, exemplars=settled_exemplars(config.exemplars))
    asked = [
        case
        for name, examples in data.items()
        for case in cases(name, examples.rows, shots=shots, limit=limit, seed=seed)
    ]
    asked = _begun(asked, config, seed)
    judged = _judged(config, engine_for(config, engine_config), asked, seed, on_progress or (lambda number, of: None))
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
    if find_spec("scipy") is None:
        raise ConfigError(
            "A synthesizer is judged with scipy, which is not installed.",
            hint='Run `pip install "hfsynth[evaluate]"`.',
        )
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


def _require_pairs(prompt: PromptRecipe | None) -> None:
    """Raise ConfigError for a prompt recipe that gold data cannot judge."""
    if prompt is not None and prompt.writes_texts:
        names = ", ".join(own.name for own in prompt.prompts if own.returns == TEXT)
        raise ConfigError(
            f"Gold data judge pairs, and of the prompt recipe {prompt.name} {names} asks for a text.",
            hint="Judge a recipe whose prompts all ask for pairs.",
        )
    if prompt is not None and prompt.persona_column is not None:
        raise ConfigError(
            f"The prompt recipe {prompt.name} takes personas from the column {prompt.persona_column!r}; gold data are "
            "read without one.",
            hint="Give the recipe `personas`, a list, instead of persona_column.",
        )


def _judged(
    config: SynthesizerConfig, engine: Engine, asked: Sequence[Case], seed: int, on_progress: Callable[[int, int], None]
) -> list[Judged]:
    require_room(engine.window, config.sampling.max_tokens)
    prompts = prompt_format(config, engine.tokenizer)
    draw = PromptDraw(config.prompt, prompts, seed) if config.prompt and isinstance(prompts, Chat) else None
    judge = GoldJudge(prompts, engine.window, config.sampling.max_tokens, seed, draw)
    answering = Generation(config.sampling, stop=prompts.answer_ends, thinking=config.thinking)
    writing_pairs = Generation(config.sampling, prompts.json_schema, thinking=config.thinking)
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


def _begun(asked: Sequence[Case], config: SynthesizerConfig, seed: int) -> list[Case]:
    """Return cases with the exemplars that each begins with, those with the same ones next to each other."""
    if config.exemplars is None:
        return list(asked)
    sets = ExemplarSets.of(config.exemplars)
    drawn: dict[tuple[str, int], int] = {}
    for case in asked:
        context = case.example.context
        language = language_of(context) if len(sets.languages) > 1 else ""
        name = f"{case.gold}/{case.number}"
        drawn[case.gold, case.number] = sets.drawn(name, seed=seed, language=language)
    ordered = sorted(asked, key=lambda case: drawn[case.gold, case.number])
    return [_beginning(case, sets.sets[drawn[case.gold, case.number]]) for case in ordered]


def _beginning(case: Case, exemplars: Sequence[Exemplar]) -> Case:
    """Return a case that shows exemplars, but not its own document or an example that it shows anyway."""
    shown = {case.example.context, *(turn.document for turn in case.history)}
    return replace(case, exemplars=tuple(Turn(one.context, one.pairs) for one in exemplars if one.context not in shown))


def _named(config: SynthesizerConfig) -> dict[str, Any]:
    """Return what decides the figures, a folder by its name alone."""
    values = config.to_dict()
    folder = Path(config.model).expanduser()
    kept = ("model_revision", "prompt_format", "window", "sampling", "thinking")
    return {
        "model": folder.resolve().name if folder.is_dir() else public_location(config.model),
        **{name: values[name] for name in kept if name in values},
        **({"prompt": {"name": config.prompt.name, "digest": config.prompt.digest}} if config.prompt else {}),
        **({"exemplars": {**values["exemplars"], "chosen": len(config.exemplars.chosen)}} if config.exemplars else {}),
    }


def _told(location: str | Path, examples: Examples) -> dict[str, Any]:
    name = public_location(str(location))
    left_out = {reason: count for reason, count in examples.left_out.items() if count}
    return {"data": name, "documents": len(examples.rows), "left_out": left_out}
