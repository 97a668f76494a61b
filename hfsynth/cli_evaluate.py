"""The command that says how good a synthesizer or a corpus is: `evaluate`. Parse, one library call, print."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfsynth import console
from hfsynth.cli_options import EngineArgs, Json, Quiet, TrustRemoteCode, Window, key_values
from hfsynth.counting import counting
from hfsynth.errors import ConfigError
from hfsynth.evaluation_tables import show_corpus, show_synthesizer

if TYPE_CHECKING:
    from hfsynth.pair_judge import PairJudge

OnCount = Callable[[int], None]

_FORMS = "hfsynth evaluate corpus/\nhfsynth evaluate --model MODEL --unseen gold.parquet"
_OF_CORPUS = ("--split", "--sample", "--judge", "--judge-pairs", "--judge-revision")
_OF_MODEL = (
    *("--model-revision", "--prompt-format", "--seen", "--unseen", "--gold", "--shots", "--limit"),
    *("--max-tokens", "--temperature", "--out"),
)
_OF_JUDGE = ("--judge-pairs", "--judge-revision", "--window", "--engine", "--engine-arg", "--trust-remote-code")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(evaluate)


def evaluate(
    context: typer.Context,
    corpus: Annotated[Path | None, typer.Argument(help="The corpus folder to judge; or give --model.")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="A split of CORPUS; may be repeated. [default: all of them]")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Documents of CORPUS that are drawn. [default: all]")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="A chat model that judges pairs of CORPUS: a Hub model or a folder.")
    ] = None,
    judge_pairs: Annotated[int, typer.Option(min=1, help="Pairs that it judges at most.")] = 500,
    judge_revision: Annotated[str | None, typer.Option(help="The judge's revision on the Hub.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The synthesizer to judge: a Hub model, a folder, or `embedded`.")
    ] = None,
    model_revision: Annotated[str | None, typer.Option(help="The synthesizer's revision on the Hub.")] = None,
    prompt_format: Annotated[str, typer.Option(help="instruction-pretrain or chat.")] = "instruction-pretrain",
    seen: Annotated[str | None, typer.Option(help="Gold data of task sets seen in tuning.")] = None,
    unseen: Annotated[str | None, typer.Option(help="Gold data of other task sets.")] = None,
    gold: Annotated[str | None, typer.Option(help="Gold data, where seen or unseen does not matter.")] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Gold examples shown before a document; may be repeated. [default: 0 and 3]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Gold documents of each source at most.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens a completion at most.")] = 400,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. [default: evaluation.json in the model's folder]")
    ] = None,
    window: Window = None,
    seed: Annotated[int, typer.Option(help="Which documents, pairs and examples are drawn.")] = 0,
    engine: Annotated[str, typer.Option(help="vllm, server or scripted; for a corpus the judge's.")] = "vllm",
    engine_arg: EngineArgs = None,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say how good the pairs of CORPUS are, or how good the synthesizer --model is on gold data.

    Of a corpus: how well its pairs keep to their documents, how much they repeat each other, what kinds of tasks they
    are; with --judge also what a language model says of them. The figures go into the folder's stats.json.

    Of a synthesizer: the figures of the Instruction Pre-Training paper. Gold data are contexts with pairs that people
    wrote, with the columns `context, pairs`, the published collection's `context, QA_list`, or SQuAD's.

    Every figure comes with a 95% interval.

    Example: hfsynth evaluate corpus/ --sample 1000

    Example: hfsynth evaluate --model embedded --unseen gold.parquet --limit 20 --shots 0
    """
    from hfsynth.config import EngineConfig, SynthesizerConfig
    from hfsynth.models import recommended_sampling
    from hfsynth.pair_judge import load_judge
    from hfsynth.synthesizer_evaluation import evaluate_synthesizer, evaluation_place, save_evaluation

    named = _one_form(context, corpus, model)
    engine_config = EngineConfig.create(engine, key_values(engine_arg or []), trust_remote_code)
    silent = quiet or as_json
    if isinstance(named, Path):
        load = partial(load_judge, engine=engine_config, model_revision=judge_revision, window=window)
        loading = partial(load, judge, pairs=judge_pairs) if judge else None
        values = _corpus_values(named, loading, split=split or None, sample=sample, seed=seed, quiet=silent)
        return _show(values, show_corpus, f"For its card: hfsynth card {named}", as_json=as_json)
    config = SynthesizerConfig(
        model=named,
        model_revision=model_revision,
        prompt_format=prompt_format,
        window=window,
        sampling=replace(recommended_sampling(named), max_tokens=max_tokens, temperature=temperature),
    )
    sets = {"seen": seen, "unseen": unseen, "gold": gold}
    with counting("completions", quiet=silent) as on_progress:
        values = evaluate_synthesizer(
            config,
            {name: location for name, location in sets.items() if location},
            engine=engine_config,
            shots=shots or (0, 3),
            limit=limit,
            seed=seed,
            on_progress=on_progress,
        )
    place = out or evaluation_place(named)
    if place:
        save_evaluation(values, place)
    return _show(values, show_synthesizer, f"Written to {place}" if place else None, as_json=as_json)


def _one_form(context: typer.Context, corpus: Path | None, model: str | None) -> Path | str:
    """Return the corpus folder or the synthesizer, whichever was named; refuse options of the other form."""
    given = _given(context)
    if corpus is not None and model is not None:
        raise ConfigError("A corpus and a synthesizer were named; one of them is judged at a time.", hint=_FORMS)
    if corpus is not None:
        _refuse(given, _OF_MODEL, "judge a synthesizer: they need --model instead of CORPUS")
        if "--judge" not in given:
            _refuse(given, _OF_JUDGE, "load a judge: they need --judge MODEL")
        return corpus
    if model is not None:
        _refuse(given, _OF_CORPUS, "judge a corpus: they need CORPUS instead of --model")
        return model
    raise ConfigError("Neither a corpus nor a synthesizer (--model) was named.", hint=_FORMS)


def _given(context: typer.Context) -> list[str]:
    """Return the options that the user wrote, by their first names."""
    sources = ((one.opts[0], context.get_parameter_source(one.name or "")) for one in context.command.params)
    return [name for name, source in sources if source is not None and source.name == "COMMANDLINE"]


def _refuse(given: Sequence[str], names: Collection[str], why: str) -> None:
    found = [name for name in given if name in names]
    if found:
        raise ConfigError(f"{', '.join(found)}: such options {why}.", hint=_FORMS)


def _corpus_values(
    corpus: Path,
    loading: Callable[[], PairJudge] | None,
    *,
    split: list[str] | None,
    sample: int | None,
    seed: int,
    quiet: bool,
) -> dict[str, Any]:
    """Measure a corpus and keep the figures in its folder; the judge is loaded when the folder is known to be one."""
    from hfsynth.corpus_evaluation import evaluate_corpus, require_measurable, save_corpus_evaluation

    require_measurable(corpus, split)
    judge = loading() if loading else None
    with _counting_in_turn("documents", "verdicts", quiet=quiet) as (on_progress, on_verdict):
        values = evaluate_corpus(
            corpus, split=split, sample=sample, seed=seed, judge=judge, on_progress=on_progress, on_verdict=on_verdict
        )
    save_corpus_evaluation(corpus, values)
    return values


@contextmanager
def _counting_in_turn(*whats: str, quiet: bool) -> Iterator[list[OnCount]]:
    """Lend a function for each of `whats` that is told how many there are; the one before ends where one begins."""
    with ExitStack() as shown:

        def counter(what: str) -> OnCount:
            show: OnCount | None = None

            def count(number: int) -> None:
                nonlocal show
                if show is None:
                    shown.close()
                    show = shown.enter_context(counting(what, quiet=quiet))
                show(number)

            return count

        yield [counter(what) for what in whats]


def _show(
    values: Mapping[str, Any], show: Callable[[Mapping[str, Any]], None], closing: str | None, *, as_json: bool
) -> None:
    if as_json:
        return console.emit_json(values)
    show(values)
    return console.emit(closing) if closing else None
