"""The command that says how good a synthesizer or a corpus is: `evaluate`. Parse, one library call, print.

The tables that `evaluate` prints, of a synthesizer and of a corpus. Knows the values, not how they came about.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hfsynth.cli import console
from hfsynth.cli.options import (
    EngineArgs,
    Exemplars,
    ExemplarSets,
    ExemplarsPerPrompt,
    Json,
    PromptRecipe,
    Quiet,
    TrustRemoteCode,
    Verbose,
    Window,
    exemplars_of,
    key_values,
)
from hfsynth.cli.rooms import EVALUATE, in_rooms
from hfsynth.core.errors import ConfigError
from hfsynth.core.store_paths import AnyPath
from hfsynth.core.stores import any_path
from hfsynth.corpus.readme import as_mean, as_score, as_share

if TYPE_CHECKING:
    from hfsynth.quality.pair_judge import PairJudge


Row = Sequence[str]

_MOST_TASKS = 6
_PLAIN_WIDTH = 140  # of a table that goes into a file or a pipe
_OF_SYNTHESIZER = (
    *("documents", "response accuracy", "pair quality", "fully grounded"),
    *("with pairs", "pairs each", "duplicates"),
)
_SHARES = {
    "with_pairs": "documents with pairs",
    "grounding": "words of a response that are in the document",
    "fully_grounded": "responses with all words in the document",
    "with_foreign_numbers": "with a number that the document does not have",
    "with_foreign_names": "with a name that the document does not have",
    "answer_in_instruction": "with the whole answer in the instruction",
    "repeated_instructions": "with an instruction that occurred before",
    "nearly_repeated_instructions": "with nearly such an instruction",
    "language_mismatch": "in another language than the document",
}
_JUDGED = {"context_relevance": "about the document", "response_accuracy": "with a right response"}


def show_synthesizer(values: Mapping[str, Any]) -> None:
    """Print the layout of the paper's Table 5, then the sources."""
    for gold, by_shots in values["results"].items():
        settings = [(_setting(shots), found["all"]) for shots, found in by_shots.items()]
        _table(f"{gold}: all documents", _OF_SYNTHESIZER, map(_of_synthesizer, settings))
        written = [(_setting(shots), found["all"]) for shots, found in by_shots.items()]
        _table(f"{gold}: what it writes, % of pairs", ["in another language", "kinds of tasks"], map(_mix, written))
        for shots, found in by_shots.items():
            title = f"{gold}, {_setting(shots)}, by source"
            _table(title, _OF_SYNTHESIZER, map(_of_synthesizer, found["sources"].items()))


def show_corpus(values: Mapping[str, Any]) -> None:
    """Print the figures of a corpus, each with its 95% interval: shares, lengths, kinds of tasks, verdicts."""
    drawn = ", drawn from the corpus" if values["sampled"] else ""
    splits = values.get("splits", {})
    of = f" ({', '.join(f'{name} {number:,}' for name, number in splits.items())})" if len(splits) > 1 else ""
    title = f"{values['pairs']:,} pairs of {values['documents']:,} documents{of}{drawn}"
    figures = values["figures"]
    pairs = ("pairs a document", as_mean(figures["pairs_per_document"]))
    _table(title, ["% (95% interval)"], [*_shares(_SHARES, figures), pairs])
    lengths = list(_lengths(values))
    if lengths:
        _table("words", ["mean", "median", "5 to 95 %", "distinct-1", "distinct-2", "distinct-3"], lengths)
    if values["categories"]:
        tasks = {name: name.replace("_", " ") for name in values["categories"]}
        _table("kinds of tasks, told by rules", ["% of pairs"], _shares(tasks, values["categories"]))
    if "judge" in values:
        _show_judge(values["judge"])


def _show_judge(judge: Mapping[str, Any]) -> None:
    _table(f"{judge['pairs']:,} pairs judged by {judge['model']}", ["% of pairs"], _shares(_JUDGED, judge))
    missing = {reason: count for reason, count in judge["unjudged"].items() if count}
    if missing:
        counted = ((reason.replace("_", " "), f"{count:,}") for reason, count in missing.items())
        _table("pairs without a verdict", ["pairs"], counted)


def _shares(names: Mapping[str, str], figures: Mapping[str, Mapping[str, float | None]]) -> Iterator[Row]:
    for name, told in names.items():
        yield told, as_score(figures[name])


def _lengths(values: Mapping[str, Any]) -> Iterator[Row]:
    for name, mean in (("instructions", "instruction_words"), ("responses", "response_words")):
        words, distinct = values["words"][name], values["distinct"][name]
        if words:
            span = f"{words['5%']}–{words['95%']}"
            shares = ("–" if share is None else f"{share:.3f}" for share in distinct.values())
            yield name, as_mean(values["figures"][mean]), str(words["50%"]), span, *shares


def _mix(named: tuple[str, Mapping[str, Any]]) -> Row:
    name, found = named
    tasks = [
        f"{task.replace('_', ' ')} {100 * share:.0f}" for task, share in list(found["tasks"].items())[:_MOST_TASKS]
    ]
    return name, as_score(found["language_mismatch"]), ", ".join(tasks)


def _setting(shots: str) -> str:
    return "zero-shot" if shots == "0" else f"{shots}-shot"


def _of_synthesizer(named: tuple[str, Mapping[str, Any]]) -> Row:
    name, found = named
    pairs = found["pairs_per_document"]["mean"]
    return (
        name,
        f"{found['documents']:,}",
        as_score(found["response_accuracy"]["f1"]),
        as_score(found["pair_quality"]["f1"]),
        as_score(found["fully_grounded"]),
        as_share(found["with_pairs"]["mean"]),
        "–" if pairs is None else f"{pairs:.1f}",
        as_share(found["duplicates"]),
    )


def _table(title: str, headings: Sequence[str], rows: Iterable[Row]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    for heading in ("", *headings):
        table.add_column(heading, no_wrap=True, justify="right" if heading else "left")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    output = Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False)  # names stay as they are
    output.print(title, soft_wrap=True)  # a table's own title would be broken at the width of the table
    output.print(table)


OnCount = Callable[[int], None]

_FORMS = "hfsynth evaluate corpus/\nhfsynth evaluate --model MODEL --unseen gold.parquet"
_OF_CORPUS = ("--split", "--sample", "--judge", "--judge-pairs", "--judge-revision")
_OF_MODEL = (
    *("--model-revision", "--prompt-format", "--prompt", "--seen", "--unseen", "--gold", "--shots", "--limit"),
    *(
        "--max-tokens",
        "--temperature",
        "--thinking",
        "--out",
        "--exemplars",
        "--exemplars-per-prompt",
        "--exemplar-sets",
    ),
)
_OF_JUDGE = ("--judge-pairs", "--judge-revision", "--window", "--engine", "--engine-arg", "--trust-remote-code")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=in_rooms(EVALUATE))(evaluate)


def evaluate(
    context: typer.Context,
    corpus: Annotated[
        Path | None, typer.Argument(help="The corpus folder to judge, here or s3://…; or give --model.")
    ] = None,
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
    prompt_format: Annotated[
        str | None,
        typer.Option(help="instruction-pretrain or chat. [default: instruction-pretrain; chat with --prompt]"),
    ] = None,
    prompt: PromptRecipe = None,
    seen: Annotated[str | None, typer.Option(help="Gold data of task sets seen in tuning.")] = None,
    unseen: Annotated[str | None, typer.Option(help="Gold data of other task sets.")] = None,
    gold: Annotated[str | None, typer.Option(help="Gold data, where seen or unseen does not matter.")] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Gold examples shown before a document; may be repeated. [default: 0 and 3]"),
    ] = None,
    exemplars: Exemplars = None,
    exemplars_per_prompt: ExemplarsPerPrompt = None,
    exemplar_sets: ExemplarSets = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Gold documents of each source at most.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens a completion at most.")] = 400,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    thinking: Annotated[str, typer.Option(help="off, on or `budget N`, for models that think (chat format).")] = "off",
    out: Annotated[
        Path | None, typer.Option(help="The file to write. [default: evaluation.json in the model's folder]")
    ] = None,
    window: Window = None,
    seed: Annotated[int, typer.Option(help="Which documents, pairs and examples are drawn.")] = 0,
    engine: Annotated[str, typer.Option(help="vllm, server or scripted; for a corpus the judge's.")] = "vllm",
    engine_arg: EngineArgs = None,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
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
    from hfsynth.core.config import EngineConfig, SynthesizerConfig
    from hfsynth.core.exemplars import Exemplars as Named
    from hfsynth.models.resolve import recommended_sampling
    from hfsynth.quality.pair_judge import load_judge
    from hfsynth.quality.synthesizer_evaluation import evaluate_synthesizer, evaluation_place, save_evaluation
    from hfsynth.synthesis.prompts import open_prompt

    named = _one_form(context, corpus, model)
    engine_config = EngineConfig(engine, key_values(engine_arg or []), trust_remote_code)
    silent = quiet or as_json
    if not isinstance(named, str):
        load = partial(load_judge, engine=engine_config, model_revision=judge_revision, window=window)
        loading = partial(load, judge, pairs=judge_pairs) if judge else None
        values = _corpus_values(named, loading, split=split or None, sample=sample, seed=seed, quiet=silent)
        return _show(values, show_corpus, f"For its card: hfsynth card {named}", as_json=as_json)
    config = SynthesizerConfig(
        model=named,
        model_revision=model_revision,
        prompt_format=prompt_format or ("chat" if prompt else "instruction-pretrain"),
        prompt=open_prompt(prompt) if prompt else None,
        window=window,
        sampling=replace(recommended_sampling(named), max_tokens=max_tokens, temperature=temperature),
        thinking=thinking,
        exemplars=Named.read(exemplars_of(exemplars, exemplars_per_prompt, exemplar_sets)),
    )
    sets = {"seen": seen, "unseen": unseen, "gold": gold}
    with console.counting("completions", quiet=silent) as on_progress:
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


def _one_form(context: typer.Context, corpus: Path | None, model: str | None) -> AnyPath | str:
    """Return the corpus folder or the synthesizer, whichever was named; refuse options of the other form."""
    given = _given(context)
    if corpus is not None and model is not None:
        raise ConfigError("A corpus and a synthesizer were named; one of them is judged at a time.", hint=_FORMS)
    if corpus is not None:
        _refuse(given, _OF_MODEL, "judge a synthesizer: they need --model instead of CORPUS")
        if "--judge" not in given:
            _refuse(given, _OF_JUDGE, "load a judge: they need --judge MODEL")
        return any_path(corpus)
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
    corpus: AnyPath,
    loading: Callable[[], PairJudge] | None,
    *,
    split: list[str] | None,
    sample: int | None,
    seed: int,
    quiet: bool,
) -> dict[str, Any]:
    """Measure a corpus and keep the figures in its folder; the judge is loaded when the folder is known to be one."""
    from hfsynth.quality.corpus_evaluation import evaluate_corpus, require_measurable, save_corpus_evaluation

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
                    show = shown.enter_context(console.counting(what, quiet=quiet))
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
