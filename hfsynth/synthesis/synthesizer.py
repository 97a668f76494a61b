"""`Synthesizer`: the transform for `datasets.map`, and the owner of its fingerprint.

Knows nothing of files, nor of what is on the Hub beyond a recipe's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from operator import itemgetter
from typing import Any

import multiprocess
from datasets import Features
from datasets.formatting.formatting import LazyBatch

from hfsynth.core.conditions import canonical
from hfsynth.core.config import ChatOptions, EngineConfig, Sampling, SynthesizerConfig
from hfsynth.core.decontamination import Decontamination
from hfsynth.core.errors import ColumnError, ConfigError, EngineError
from hfsynth.core.exemplars import Exemplars
from hfsynth.core.identifier_models import IdentifierModel
from hfsynth.core.private_names import register_for_hashing
from hfsynth.core.recipes import config_from, hub_recipe
from hfsynth.core.records import Document, Synthesized, content_id
from hfsynth.corpus.parquet import output_arrays, output_features, output_values
from hfsynth.documents.dataset_splits import AnyDataset, is_streamed, known_rows
from hfsynth.engine.loading import config_of
from hfsynth.engine.protocol import Chain, Engine
from hfsynth.models.resolve import recommended_sampling
from hfsynth.publishing.recipe import RecipePushed, push_recipe
from hfsynth.synthesis.chains import Chainer, grouped
from hfsynth.synthesis.exemplars import neighbours, settle, with_exemplars
from hfsynth.synthesis.identified import marking_of
from hfsynth.synthesis.loading import load
from hfsynth.synthesis.mapping import MapSettings, Tally, map_splits, shown_progress
from hfsynth.synthesis.prompts import Named, open_prompt


class Synthesizer:
    """Write instruction-response pairs about every document: `ds.map(synthesize, batched=True, batch_size=…)`.

    In: a string column `text_column`, and `id_column` where there is one. Out, one row a document in the same order:
    `pairs` and `synthesis` (see `docs/folder.md`). Neighbouring rows form chains of `shots` documents, so batches must
    be multiples of `shots`; `synthesize.map(ds, num_proc=…)` sees to that for any number of rows and processes, where
    `ds.map` with `num_proc` needs `with_indices=True` and shards that happen to fit. Without `batched` only `shots=1`
    works; then pass `features=synthesize.features(ds.features)`.

    `thinking` (`off`, `on`, `budget N`) is for models of the `chat` format that think before they answer; what they
    thought is counted, and kept with `keep_reasoning`. The model `mined` is none: rules make the pairs; `fill="mined"`
    has them do so for the documents about which a model wrote no pair. `prompt` is a prompt recipe for a chat model: a
    built-in name, a TOML file or a `PromptRecipe` (see `docs/prompts.md`).

    `exemplars` (a file, `user/dataset[@revision]`, or `hfsynth.Exemplars` with how many) are contexts with pairs that
    people wrote: every chain begins with some, which steers the model without another prompt. They are chosen here,
    once; `synthesis.exemplars` names those that each prompt showed.

    `keep` are conditions that pairs must meet, such as `"grounding>=0.5"`; the others go to `synthesis.rejected`.
    `decontaminate` names benchmarks (`core`, files, datasets on the Hub) whose questions are kept out: see
    `docs/screening.md`. `pii` says what becomes of personal identifiers in the documents: `mark` puts marks in their
    places before any prompt is made, in the text column too, `drop` screens the document out, `report` counts them;
    `pii_model` is a token classifier that tells names beside them (`hfsynth.IdentifierModel`).
    `candidates` completions are drawn about each document, and the best of their pairs kept, chosen by `measures` of
    their text, by their `agreement` with each other or by the model as its own `judge`.

    `engine` is `vllm`, `server` or `scripted`, or an object that keeps the `hfsynth.Engine` protocol; `model` is then
    the name that it goes by in the recipe.

    The fingerprint covers what decides the result (model and revision, format, sampling, shots, seed, conditions,
    format version), not the engine or its flags. Raise ConfigError for impossible settings, ModelError for an unknown
    model.
    """

    def __init__(
        self,
        model: str,
        *,
        shots: int = 1,
        model_revision: str | None = None,
        prompt_format: str | None = None,
        seed: int = 0,
        window: int | None = None,
        precision: str = "auto",
        long_documents: str = "skip",
        sampling: Sampling | None = None,
        chat: ChatOptions | None = None,
        keep: Sequence[str] = (),
        thinking: str = "off",
        keep_reasoning: bool = False,
        fill: str | None = None,
        candidates: int = 1,
        choose_by: str = "measures",
        exemplars: str | Exemplars | None = None,
        prompt: Named | None = None,
        decontaminate: str | Sequence[str] | None = None,
        pii: str | None = None,
        pii_model: str | IdentifierModel | None = None,
        engine: str | Engine = "vllm",
        engine_args: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        text_column: str = "text",
        id_column: str = "id",
    ) -> None:
        config = SynthesizerConfig(
            model=model,
            model_revision=model_revision,
            prompt_format=prompt_format or ("instruction-pretrain" if prompt is None else "chat"),
            shots=shots,
            seed=seed,
            window=window,
            precision=precision,
            long_documents=long_documents,
            sampling=sampling or recommended_sampling(model),
            chat=chat or ChatOptions(),
            keep=canonical(keep, indexed=decontaminate is not None),
            thinking=thinking,
            keep_reasoning=keep_reasoning,
            fill=fill,
            candidates=candidates,
            choose_by=choose_by,
            exemplars=Exemplars.read(exemplars),
            prompt=None if prompt is None else open_prompt(prompt),
            decontaminate=Decontamination.read(decontaminate),
            pii=pii,
            pii_model=IdentifierModel.read(pii_model),
        )
        engine_config = _engine_config(engine, engine_args, trust_remote_code)
        self._settle(settle(config, engine_config), engine_config, text_column, id_column)

    @classmethod
    def from_config(
        cls,
        config: SynthesizerConfig,
        engine: EngineConfig | Engine | None = None,
        *,
        text_column: str = "text",
        id_column: str = "id",
    ) -> Synthesizer:
        """Build the transform from a config, as `synthesizer_config.json` holds it."""
        engine_config = config_of(engine)
        return _rebuild(settle(config, engine_config), engine_config, text_column, id_column)

    @classmethod
    def from_hub(
        cls,
        name: str,
        revision: str | None = None,
        *,
        model: str | None = None,
        exemplars: str | Exemplars | None = None,
        engine: str | Engine = "vllm",
        engine_args: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        text_column: str = "text",
        id_column: str = "id",
    ) -> Synthesizer:
        """Build the transform that made a published corpus, from the `synthesizer_config.json` of its repo.

        `name` is a dataset or a model on the Hub, `user/name`; `revision` one of its branches, tags or commits. A
        recipe that splits long documents skips them here, for a transform keeps rows one to one; to split them too,
        run `hfsynth synthesize SOURCE OUT --recipe user/name`. `model` takes the place of the recipe's: a recipe names
        no code, so a script of your own is named here. `exemplars` take the place of the recipe's. Raise HubError where
        there is no recipe, ConfigError for one that names code or a file of this machine.
        """
        fields = hub_recipe(name, revision)
        if fields.get("long_documents") == "split":
            fields["long_documents"] = "skip"
        engine_config = _engine_config(engine, engine_args, trust_remote_code)
        config = with_exemplars(config_from(fields, {"model": model}), exemplars)
        return cls.from_config(config, engine_config, text_column=text_column, id_column=id_column)

    def _settle(self, config: SynthesizerConfig, engine: EngineConfig, text_column: str, id_column: str) -> None:
        if config.long_documents == "split":
            raise ConfigError(
                "A transform keeps rows one to one and cannot split documents.",
                hint="Use hfsynth.split_documents(ds, max_tokens=…, tokenizer=…) first, or long_documents='truncate'.",
            )
        self.config = config
        self.engine_config = engine
        self.text_column = text_column
        self.id_column = id_column
        self._ragged: tuple[str, ...] | None = None
        self._tally: Tally | None = None
        self._cut_at_chains = False

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"_tally": self._tally, "_cut_at_chains": self._cut_at_chains}
        return _rebuild, (self.config, self.engine_config, self.text_column, self.id_column), state

    def map(
        self,
        ds: AnyDataset,
        *,
        batch_size: int | None = None,
        num_proc: int | None = None,
        remove_columns: str | list[str] | None = None,
        load_from_cache_file: bool | None = None,
    ) -> Any:  # noqa: ANN401 - a dataset for a dataset, a dict for a dict, a stream for a stream
        """Synthesize a dataset, a stream or a dict of splits: `ds.map` with shards that no chain crosses.

        The rows are those that one process gives, whatever their number and `num_proc`: the processes share out whole
        chains, and what is left at the end goes to one of its own. Every process loads an engine; those that a map
        started are gone when it ends. `batch_size` is a multiple of the shots, about 2,048 by default. Results come
        from the cache of `datasets` where it has them; a bar shows pairs and tokens a second.
        """
        options = {"remove_columns": remove_columns, "load_from_cache_file": load_from_cache_file}
        asked = MapSettings.of(self.config.shots, batch_size, num_proc, options)
        with shown_progress(known_rows(ds)) as tally:
            working = _rebuild(self.config, self.engine_config, self.text_column, self.id_column)
            working._cut_at_chains = True
            working._tally = tally if not is_streamed(ds) else None
            return map_splits(ds, working, self.features, asked)

    def push(
        self,
        repo: str,
        *,
        private: bool = False,
        license: str | None = None,
        tag: str | None = None,
        message: str | None = None,
    ) -> RecipePushed:
        """Publish the recipe alone as the model repo `user/name`: `Synthesizer.from_hub` and `--recipe` read it there.

        Engine flags and column names are no part of it. Raise ConfigError where the model is a folder of this machine,
        HubError for what the Hub refuses.
        """
        return push_recipe(self.config, repo, private=private, license=license, tag=tag, message=message)

    def features(self, features: Features | None = None) -> Features:
        """Return the features of a dataset with `features` after this transform."""
        return output_features(features, self.config.extra_columns)

    def __call__(self, batch: MutableMapping[str, Any], indices: Sequence[int] | int | None = None) -> dict[str, Any]:
        """Synthesize one batch (or one row); see the class."""
        if self.text_column not in batch:
            hint = "Name the column that holds the documents with text_column=…."
            raise ColumnError.missing(self.text_column, batch, hint=hint)
        texts = batch[self.text_column]
        if texts is None or isinstance(texts, str) or not isinstance(texts, Iterable):
            return self._row(texts, batch)
        documents = self._documents(list(texts), batch)
        self._check_grouping(documents, indices, lazy=isinstance(batch, LazyBatch))
        results = self.synthesize(documents)
        if isinstance(batch, LazyBatch):
            # `map` merges what a function puts into its lazy batch as it is: typed Arrow arrays keep their types
            # even when the first batch has no pair at all, where inferred types would fail on a later batch.
            batch.update(output_arrays(results, self.config.extra_columns, recipe=self.config.fingerprint))
            batch.update(self._texts(documents))
            return {}
        values = output_values(results, self.config.extra_columns, recipe=self.config.fingerprint)
        return {**values, **self._texts(documents)}

    def _texts(self, documents: Sequence[Document]) -> dict[str, list[str | None]]:
        """Return the text column as it was shown to the model, where that is not what the dataset holds."""
        shown = self.config.pii in ("mark", "drop")
        return {self.text_column: [document.text for document in documents]} if shown else {}

    def synthesize(self, documents: Sequence[Document]) -> list[Synthesized]:
        """Synthesize documents in order: one result a document."""
        loaded = load(self.config, self.engine_config)
        numbered = _numbered_chains(loaded.chainer, documents)
        ended: list[tuple[int, list[Synthesized]]] = []
        for number, chain in loaded.engine.run(numbered, loaded.generation):
            ended.append((number, chain))
            self._tell(chain)
        results = [result for _, chain in sorted(ended, key=itemgetter(0)) for result in chain]
        if len(results) != len(documents):
            raise EngineError(f"The engine was given {len(documents)} documents and answered {len(results)}.")
        return results

    def _tell(self, chain: Sequence[Synthesized]) -> None:
        if self._tally is not None:
            pairs = sum(len(result.pairs) for result in chain)
            self._tally.add(len(chain), pairs, sum(result.synthesis.output_tokens for result in chain))

    def _row(self, text: object, row: Mapping[str, Any]) -> dict[str, Any]:
        if self.config.shots > 1:
            raise ConfigError(
                f"Chains of {self.config.shots} shots need batches: a single row has no neighbours.",
                hint=f"Use ds.map(synthesize, batched=True, batch_size={1024 * self.config.shots}), or shots=1.",
            )
        own = (self.text_column, self.id_column, self._persona_column)
        single = {name: [row[name]] for name in own if name and name in row}
        documents = self._documents([text], single)
        results = self.synthesize(documents)
        values = output_values(results, self.config.extra_columns, recipe=self.config.fingerprint)
        values |= self._texts(documents)
        return {name: column[0] for name, column in values.items()}

    def _documents(self, texts: Sequence[object], batch: Mapping[str, Any]) -> list[Document]:
        ids = batch[self.id_column] if self.id_column in batch else [None] * len(texts)
        column = self._persona_column
        if column is not None and column not in batch:
            raise ColumnError.missing(column, batch, hint="The prompt recipe's persona_column names it.")
        personas = [None] * len(texts) if column is None else batch[column]
        return [self._document(*row) for row in zip(texts, ids, personas, strict=True)]

    @property
    def _persona_column(self) -> str | None:
        return self.config.prompt.persona_column if self.config.prompt else None

    def _document(self, text: object, name: object, persona: object) -> Document:
        if text is not None and not isinstance(text, str):
            raise ColumnError(
                f"Column {self.text_column!r} must hold strings; it holds {type(text).__name__} ({str(text)[:40]!r}).",
                hint="Name the column that holds the documents with text_column=….",
            )
        own = content_id(text or "") if name is None else str(name)
        document = Document(own, text, persona=None if persona is None else str(persona))
        marking = marking_of(self.config)
        return document if marking is None else marking.document(document)

    def _check_grouping(self, documents: Sequence[Document], indices: object, *, lazy: bool) -> None:
        """Refuse batches that would cut a chain in two; only the very last batch may end within one."""
        if self._cut_at_chains:
            return
        shots = self.config.shots
        if isinstance(indices, Sequence):
            if indices and indices[0] % shots:
                self._refuse(f"a batch starts at row {indices[0]}")
            return
        names = tuple(document.id for document in documents)
        if lazy and len(names) % shots and multiprocess.process.parent_process() is not None:
            self._refuse(f"a worker process got a batch of {len(names)} rows and cannot tell whether it is the last")
        # The same short batch again is a new pass over a short dataset; another one no longer than it is not the last.
        if self._ragged not in (None, names) and len(names) <= len(self._ragged or ()):
            self._refuse(f"a batch of {len(self._ragged or ())} rows was not the last")
        self._ragged = names if len(names) % shots else None

    def _refuse(self, found: str) -> None:
        shots = self.config.shots
        raise ConfigError(
            f"Chains of {shots} shots need batches, and shards, of a multiple of {shots} rows: {found}.",
            hint=f"Use batch_size={1024 * shots}; with num_proc use synthesize.map(ds, num_proc=…), which cuts the "
            f"rows into multiples of {shots}, or with_indices=True and a num_proc that happens to do so.",
        )


def _engine_config(engine: str | Engine, arguments: Mapping[str, Any] | None, trust_remote_code: bool) -> EngineConfig:
    """Return how the engine is run that was named, or given as an object, which takes no arguments any more."""
    if isinstance(engine, str):
        return EngineConfig(engine, arguments or {}, trust_remote_code)
    if arguments:
        raise ConfigError("An engine that is an object takes no engine_args.", hint="Set them where it is made.")
    return config_of(engine)


def _numbered_chains(chainer: Chainer, documents: Sequence[Document]) -> Iterator[Chain[Any]]:
    """Yield the chains of documents with their numbers; those that begin with the same exemplars are neighbours."""
    groups: Iterable[tuple[int, list[Document]]] = enumerate(grouped(documents, chainer.shots))
    if chainer.beginnings.each:
        groups = neighbours(
            groups,
            lambda item: chainer.beginnings.number(item[1]),
            lambda item: sum(len(document.text or "") for document in item[1]),
        )
    for number, group in groups:
        yield _numbered(number, chainer.chain(group))


def _numbered(number: int, chain: Chain[list[Synthesized]]) -> Chain[tuple[int, list[Synthesized]]]:
    return number, (yield from chain)


def _rebuild(config: SynthesizerConfig, engine: EngineConfig, text_column: str, id_column: str) -> Synthesizer:
    synthesizer = Synthesizer.__new__(Synthesizer)
    synthesizer._settle(config, engine, text_column, id_column)
    return synthesizer


def _save_for_hashing(pickler: Any, synthesizer: Synthesizer) -> None:  # noqa: ANN401
    """Pickle for `datasets`' fingerprint only: engine flags are left out of it, but not of what workers receive.

    Hashing also starts a new `map`, so the memory of the last one's final batch is dropped here.
    """
    synthesizer._ragged = None
    columns = (synthesizer.text_column, synthesizer.id_column)
    pickler.save_reduce(_rebuild, (synthesizer.config.to_dict(), None, *columns), obj=synthesizer)


register_for_hashing(Synthesizer, _save_for_hashing)
