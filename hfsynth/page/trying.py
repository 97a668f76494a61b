"""Try a recipe on a few pasted documents: what was sent, what came back, shot by shot. Knows no widgets.

The documents are those of one chain, or each its own; nothing is written to a disk. One trial runs at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

from hfsynth.core.config import EngineConfig, Sampling
from hfsynth.core.errors import ConfigError, HfsynthError
from hfsynth.core.records import Document, Parsed, Synthesized, content_id
from hfsynth.corpus.parquet import output_rows
from hfsynth.engine.protocol import Chain, Completion, Engine, Request
from hfsynth.models.mined import MINED
from hfsynth.models.resolve import recommended_sampling
from hfsynth.models.tokenizers import Decodes, PromptTokenizer
from hfsynth.page import markup
from hfsynth.page.commands import Ways, trying
from hfsynth.page.rows import CorpusRow, row_of
from hfsynth.page.texts import in_all_styles
from hfsynth.synthesis.chains import grouped
from hfsynth.synthesis.loading import Loaded, load
from hfsynth.synthesis.synthesizer import Synthesizer

LONGEST = 20_000
"""Characters of a document that is tried at most."""
DOCUMENTS = 3
EXAMPLES = {
    "A lighthouse": (
        "The lighthouse on the cape was built in 1871, after three ships had been lost there in one winter. Its lamp "
        "stands 48 metres above the sea and turns once in ten seconds. For its first forty years it burned colza oil, "
        "and a keeper carried four litres of it up 214 steps every evening. Electric light came in 1912. The last "
        "keeper left in 1986; since then a computer in the harbour office has switched the lamp on at dusk."
    ),
    "A loan": (
        "A bond is a loan that can be sold. Whoever buys a new bond lends its issuer, say a city, a sum of money for a "
        "fixed time, and is paid interest for it every year. If interest rates rise, new bonds pay more, so nobody "
        "will give the full price for the old ones: their price falls. If rates fall, old bonds become dearer."
    ),
    "A medicine": (
        "Insulin is a hormone that lets cells take up sugar from the blood. In type 1 diabetes the pancreas makes "
        "none, and it has to be injected. Too much of it lowers the sugar too far: the patient sweats and becomes "
        "confused. Eating glucose at once helps; whoever is unconscious must be given it into a vein."
    ),
}
"""Documents to begin with, of our own words."""
_TICK = 0.5


@dataclass(frozen=True, slots=True)
class Engines:
    """By what a trial is run: an engine's name with its arguments, or an engine; ConfigError for none of these."""

    engine: str | Engine = "vllm"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.engine, str):
            EngineConfig(self.engine, self.arguments)

    def given(self) -> dict[str, Any]:
        """Return what a `Synthesizer` is given, without what is the default."""
        found = {"engine": self.engine} if isinstance(self.engine, str) and self.engine != "vllm" else {}
        return {**found, **({"engine_args": dict(self.arguments)} if self.arguments else {})}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is tried. `shots` is the documents of a chain, `prompt` a built-in prompt recipe of a chat model."""

    texts: tuple[str, ...]
    model: str
    shots: int = 1
    prompt: str = ""
    temperature: float = 0.0
    max_tokens: int = 400

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(text for text in self.texts if text.strip()))
        if not self.texts:
            raise ConfigError("There is no document to try.", hint="Paste a text, or take one from the corpus.")
        if self.model == MINED:  # rules read each document by itself
            object.__setattr__(self, "shots", 1)
        longest = max(map(len, self.texts))
        if longest > LONGEST:
            raise ConfigError(
                f"A document has {longest:,} characters; {LONGEST:,} are taken here.",
                hint="Paste less of it, or give it to hfsynth synthesize, which splits long documents.",
            )

    def options(self) -> dict[str, Any]:
        """Return what a `Synthesizer` is given, without what is the default."""
        found: dict[str, Any] = {"model": self.model, "shots": self.shots, "long_documents": "truncate"}
        return {**found, **({"prompt": self.prompt} if self.prompt else {})}

    @property
    def sampling(self) -> Sampling:
        """How the model is sampled: as its folder recommends, and the command line has it, but for what is set here."""
        return replace(recommended_sampling(self.model), max_tokens=self.max_tokens, temperature=self.temperature)

    def ways(self, engines: Engines) -> Ways:
        """Return how the same is done from the command line and in Python."""
        own, recommended = self.sampling, recommended_sampling(self.model)
        flags = _others(own, recommended)
        return trying(self.texts, self.options(), flags, _others(own, Sampling()) if flags else {}, engines.given())


def _others(sampling: Sampling, than: Sampling) -> dict[str, Any]:
    """Return what is other in one sampling than in another."""
    values, known = asdict(sampling), asdict(than)
    return {name: value for name, value in values.items() if value != known[name]}


@dataclass(frozen=True, slots=True)
class Shot:
    """What was sent for one document and what came back; `pairs` are read as the chain goes on."""

    place: int
    prompt: str
    completion: str
    finish_reason: str
    parsed: Parsed


@dataclass(frozen=True, slots=True)
class Trial:
    """How far a trial is: shots by the document's place, and at the end the rows as a corpus has them.

    `seconds` are all of them, `loading_seconds` those before the engine was at hand.
    """

    wanted: Wanted
    seconds: float = 0.0
    loading_seconds: float = 0.0
    loading: bool = True
    shots: Mapping[int, Shot] = field(default_factory=dict)
    rows: tuple[CorpusRow, ...] = ()
    ended: bool = False

    @property
    def written(self) -> int:
        """Tokens that the model wrote; known when the trial has ended."""
        return sum(int(row.synthesis.get("output_tokens") or 0) for row in self.rows)


_busy = threading.Lock()


def try_documents(wanted: Wanted, engines: Engines | Engine | None = None) -> Iterator[Trial]:
    """Yield how far a trial is, every half second and with every shot, the whole of it last.

    Raise what a `Synthesizer` raises: ConfigError for settings that cannot be, ModelError for a model that cannot be
    loaded; ConfigError where another trial is running.
    """
    if not _busy.acquire(blocking=False):
        raise ConfigError("Another trial is running.", hint="Wait until it has ended, then try again.")
    try:
        yield from _tried(wanted, engines if isinstance(engines, Engines) else Engines(engines or "vllm"))
    finally:
        _busy.release()


def _tried(wanted: Wanted, engines: Engines) -> Iterator[Trial]:
    events: SimpleQueue[Loaded | Shot | list[Synthesized] | HfsynthError] = SimpleQueue()
    given_up = threading.Event()
    worker = threading.Thread(target=_work, args=(wanted, engines, events.put, given_up), daemon=True)
    began = time.monotonic()
    trial = Trial(wanted)
    worker.start()
    try:
        while not trial.ended:
            try:
                event = events.get(timeout=_TICK)
            except Empty:
                event = None
            if isinstance(event, HfsynthError):
                raise event
            trial = _with_event(replace(trial, seconds=time.monotonic() - began), event)
            yield trial
    finally:
        given_up.set()
        worker.join()


def _with_event(trial: Trial, event: Loaded | Shot | list[Synthesized] | None) -> Trial:
    if isinstance(event, Loaded):
        return replace(trial, loading=False, loading_seconds=trial.seconds)
    if isinstance(event, Shot):
        return replace(trial, shots={**trial.shots, event.place: event})
    if event is None:
        return trial
    return replace(trial, rows=tuple(_rows(trial.wanted.texts, event)), loading=False, ended=True)


def _rows(texts: Sequence[str], results: Sequence[Synthesized]) -> Iterator[CorpusRow]:
    made = output_rows(results, recipe="")
    for place, (text, values) in enumerate(zip(texts, made, strict=True)):
        yield row_of({"id": content_id(text), "text": text, **values}, place)


def _work(wanted: Wanted, engines: Engines, tell: Any, given_up: threading.Event) -> None:  # noqa: ANN401
    """Run a trial and tell of everything that happens; an error is told too."""
    try:
        arguments = engines.arguments or None
        made = Synthesizer(**wanted.options(), sampling=wanted.sampling, engine=engines.engine, engine_args=arguments)
        loaded = load(made.config, made.engine_config)
        tell(loaded)
        documents = [Document(content_id(text), text) for text in wanted.texts]
        chains = _chains(loaded, documents, wanted.shots, tell, given_up)
        ended = dict(loaded.engine.run(chains, loaded.generation))
        tell([result for number in sorted(ended) for result in ended[number]])
    except HfsynthError as error:
        tell(error)
    except Exception as error:  # the page goes on and says what happened, whatever a model's library raises
        tell(HfsynthError(f"{type(error).__name__}: {error}", hint="The terminal of hfsynth page says more with -v."))


def _chains(
    loaded: Loaded,
    documents: Sequence[Document],
    shots: int,
    tell: Any,  # noqa: ANN401
    given_up: threading.Event,
) -> Iterator[Chain[tuple[int, list[Synthesized]]]]:
    for number, group in enumerate(grouped(documents, shots)):
        if given_up.is_set():
            return
        yield _watched(loaded, number * shots, loaded.chainer.chain(group), tell)


def _watched(
    loaded: Loaded,
    first: int,
    chain: Chain[list[Synthesized]],
    tell: Any,  # noqa: ANN401
) -> Chain[tuple[int, list[Synthesized]]]:
    """Run a chain and tell of each of its shots."""
    try:
        request = next(chain)
        while True:
            completion = yield request
            tell(_shot(loaded, first + request.shot, request, completion))
            request = chain.send(completion)
    except StopIteration as end:
        return first, end.value


def _shot(loaded: Loaded, place: int, request: Request, completion: Completion) -> Shot:
    cut_off = completion.finish_reason == "length"
    parsed = Parsed((), ()) if loaded.chainer.draw else loaded.chainer.prompts.parse(completion.text, cut_off=cut_off)
    prompt = as_sent(loaded.engine.tokenizer, request.token_ids)
    return Shot(place, prompt, completion.text or completion.error or "", completion.finish_reason, parsed)


def as_sent(tokenizer: PromptTokenizer, token_ids: Sequence[int]) -> str:
    """Return the text of a prompt's token ids, control tokens as they are written."""
    if isinstance(tokenizer, Decodes):
        return tokenizer.decode(token_ids)
    return f"{len(token_ids):,} token ids: " + " ".join(map(str, token_ids))


def shown(trial: Trial) -> str:
    """Return a trial as HTML: what it does, then shot by shot the pairs, the prompt, and what came back."""
    places = range(len(trial.wanted.texts)) if trial.ended else sorted(trial.shots)
    return _state(trial) + "".join(_place(trial, place) for place in places)


def texts(trial: Trial) -> str:
    """Return the training texts of a trial that has ended, in all styles, as HTML."""
    if not trial.ended:
        return ""
    groups = grouped(trial.rows, trial.wanted.shots)
    return "<h2>Training texts in every style</h2>" + "".join(in_all_styles(list(group)) for group in groups)


def _state(trial: Trial) -> str:
    seconds = f"{trial.seconds:.1f} s"
    if trial.ended:
        pairs = sum(len(row.pairs) for row in trial.rows)
        prompt = sum(int(row.synthesis.get("prompt_tokens") or 0) for row in trial.rows)
        worked = f"{trial.seconds - trial.loading_seconds:.1f} s"
        loaded = f", after {trial.loading_seconds:.1f} s of loading" if trial.loading_seconds >= 1 else ""
        told = f"{markup.counted(pairs, 'pair')} in {worked}{loaded}; {prompt:,} tokens of prompt"
        return markup.message("Done.", f"{told}, {trial.written:,} written.")
    if trial.loading:
        told = "The first time the model is loaded, and the embedded one is built: about a minute."
        return markup.message(f"Loading {trial.wanted.model}… {seconds}", told)
    documents = len(trial.wanted.texts)
    return markup.message(f"Shot {min(len(trial.shots) + 1, documents)} of {documents}… {seconds}")


def _place(trial: Trial, place: int) -> str:
    shot = trial.shots.get(place)
    if trial.rows:
        row = trial.rows[place]
        content = markup.document(row) + markup.pairs(row)
    elif shot is not None:
        row = CorpusRow(place, "", trial.wanted.texts[place], shot.parsed.pairs)
        content = markup.pairs(row)
    else:
        content = ""
    if shot is not None:
        content += markup.folded("The prompt as it was sent", markup.text_block(shot.prompt))
        content += markup.folded(f"What came back ({shot.finish_reason})", markup.text_block(shot.completion))
    return f'<section class="hs-shot"><h2>Document {place + 1}</h2>{content}</section>'
