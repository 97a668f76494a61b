"""Collect from a folder what its card says: Parquet footers, the job's JSON files, and what the user has stated.

Knows nothing of how a card looks, and asks no network: what only the source's own card says comes in as a setting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from datasets import DatasetInfo, Features
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from hfsynth.core.addresses import public_values
from hfsynth.core.errors import ConfigError, OutputError
from hfsynth.core.files import read_json
from hfsynth.core.store_paths import AnyPath
from hfsynth.corpus.files import CorpusFiles
from hfsynth.corpus.folder import CorpusAt, SplitFiles, assigned
from hfsynth.corpus.manifest import require_whole
from hfsynth.corpus.readme import Card
from hfsynth.publishing import plots
from hfsynth.publishing.belongings import belongings
from hfsynth.publishing.card import CardSample, CorpusFacts, ModelFacts
from hfsynth.publishing.config_facts import ConfigFacts, SplitFacts
from hfsynth.publishing.licences import Part
from hfsynth.publishing.licensing import DERIVED, Licence, corpus_parts, licence_of, model_licence
from hfsynth.publishing.taken_out import outcomes

SAMPLES = 2
_LETTERS, _ITEMS, _LOOKED_AT = 300, 5, 50  # of an example row, and the rows among which it is looked for
_LANGUAGE = re.compile(r"[a-z]{2,}(-[A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class CardSettings:
    """What the user states about a folder, or the source's card does. None and empty: what the card said before.

    Attributes:
        license: an identifier of the Hub, such as `cc-by-4.0`, one of SPDX, several with AND, or `other`. Shown in the
            metadata (`license`) and under Licence. Where neither you nor the folder's card states one it is what those
            of the source, the model and the parts of a mixture give together; where one of these is not known, or two
            contradict each other, there is no card.
        license_name: the name of a licence that is `other`, which then needs one. Shown in the metadata and under
            Licence.
        license_link: the web address of the text of a licence that is `other`. Shown and taken like its name.
        language: codes, such as `("en", "de")`. Shown in the metadata (`language`). Default: that of the source's card;
            without it, none, and the result's notes ask for it.
        title: plain text. Shown as the heading and, of a corpus, in the metadata (`pretty_name`). Default: the name of
            the repo, or of the folder.
        repo: `user/name`, where the folder will be published. Shown in the lines that load it and make it again.
            Default: the folder's name; a push fills it in.
        source_license: what the source's own card states, as an identifier. Shown under Licence, as "not known here"
            without one. Default: what the Hub says, when `card` or `push` asks it.
        model_license: the same of the model's own card.
        include: patterns (`notes/*.md`; `*` stops at a slash, `**` does not) of files that are published besides those
            of the corpus. Parquet files among them are listed as configs; others do not show. Default: none.
        creator: who had the corpus made, a person or an organization. Shown under How it was made, and in
            `croissant.json`. Default: nobody is named there, and the repo's owner in `croissant.json`.
        part_licenses: of the parts of a mixture, by their names, an identifier each. Shown under Licence. Default: what
            their own cards state, of a folder when it was mixed, of a dataset on the Hub when `card` or `push` asks it.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: tuple[str, ...] = ()
    title: str | None = None
    repo: str | None = None
    source_license: str | None = None
    model_license: str | None = None
    include: tuple[str, ...] = ()
    creator: str | None = None
    part_licenses: Mapping[str, str] = field(default_factory=dict)


def read_card(root: AnyPath) -> Card:
    """Return the folder's README taken apart; an empty one where there is none."""
    if (root / "README.md").is_symlink():
        raise OutputError(
            f"{root / 'README.md'} is a link.", hint="Put the file itself there: links are not published."
        )
    try:
        return Card.parse((root / "README.md").read_text("utf-8"))
    except FileNotFoundError:
        return Card()
    except UnicodeDecodeError as error:
        raise OutputError(f"{root / 'README.md'} is no UTF-8 text.", hint="Save it as UTF-8.") from error


def own_block(card: Card) -> Mapping[str, Any]:
    """Return what the folder's card knows about itself from an earlier time."""
    return next((block.known for block in card.blocks), {})


def corpus_facts(root: AnyPath, settings: CardSettings, files: CorpusFiles | None = None) -> CorpusFacts:
    """Return what the card of the corpus in `root` says; `files` are its files where they are read elsewhere, too.

    Raise OutputError where there is no whole corpus, ConfigError where the licence is missing or a value cannot be.
    """
    corpus, card, files = CorpusAt(root), read_card(root), files or CorpusFiles(root)
    require_whole(root)
    splits = assigned(belongings(root, "dataset", settings.include).files, card.metadata)
    if not splits:
        raise OutputError(
            f"{root} holds no corpus: there is no Parquet file in it.",
            hint="Make one with: hfsynth synthesize SOURCE " + str(root),
        )
    counted, recipe = _told(corpus.stats), _told(corpus.config)
    known = own_block(card)
    repo = settings.repo or known.get("repo")
    name = repo or root.resolve().name
    made = recipe if "source" in recipe else None  # a mixture was not synthesized here
    source_license = settings.source_license or known.get("source_license")
    model_license = model_licence(str(recipe.get("model")), settings.model_license or known.get("model_license"))
    part_licenses = {**(known.get("part_licenses") or {}), **settings.part_licenses}
    licensed = corpus_parts(made, counted.get("mix"), source_license, model_license, part_licenses)
    return CorpusFacts(
        name=name,
        title=settings.title or str(card.metadata.get("pretty_name") or name.rpartition("/")[2]),
        licence=_licence(settings, card, licensed),
        language=languages_of(settings, card.metadata),
        repo=repo,
        configs=tuple(_configs(files, splits)),
        samples=tuple(_samples(files, splits)),
        example=_example(files, splits),
        plots=plots.current(root, counted),
        recipe=made,
        stats=counted if "total_documents" in counted else None,
        render=counted.get("render"),
        mix=counted.get("mix"),
        evaluation=_evaluation(root, counted),
        source_license=source_license,
        model_license=model_license,
        licensed=licensed,
        creator=settings.creator or known.get("creator"),
        part_licenses=part_licenses,
        outcomes=outcomes(files, splits, counted, of_stats="total_documents" in counted),
    )


def model_facts(root: AnyPath, settings: CardSettings) -> ModelFacts:
    """Return what the card of the synthesizer in `root` says: an adapter or full weights."""
    card = read_card(root)
    files = belongings(root, "model", settings.include).files
    adapter = _told(root / "adapter_config.json") or None
    if not any(name.endswith(".safetensors") for name in files) or (adapter is None and "config.json" not in files):
        raise OutputError(
            f"{root} holds no model: it needs .safetensors weights beside config.json or adapter_config.json.",
            hint="Give the folder that `hfsynth train` wrote.",
        )
    known, training = own_block(card), _told(root / "training.json")
    repo = settings.repo or known.get("repo")
    name = repo or root.resolve().name
    kept = ("peft_type", "r", "lora_alpha", "lora_dropout")
    base = (adapter or {}).get("base_model_name_or_path") or training.get("base_model")
    return ModelFacts(
        name=name,
        title=settings.title or (repo or root.resolve().name).rpartition("/")[2],
        licence=_licence(settings, card),
        language=languages_of(settings, card.metadata),
        repo=repo,
        evaluation=_evaluation(root, None),
        weights="adapter (LoRA)" if adapter else "full weights",
        base_model=base or known.get("base_model") or card.metadata.get("base_model"),
        size=sum((root / path).stat().st_size for path in files if path.endswith(".safetensors")),
        settings={key: adapter[key] for key in kept if key in adapter} if adapter else {},
        training=_scalars(training) if training else None,
    )


def _licence(settings: CardSettings, card: Card, parts: Sequence[Part] = ()) -> Licence:
    stated = Licence(settings.license or "", settings.license_name, settings.license_link)
    return licence_of(stated, card.metadata, parts, derived=own_block(card).get(DERIVED) or ())


def languages_of(settings: CardSettings, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the languages that were given or that the card had; none is guessed."""
    found = settings.language or metadata.get("language") or ()
    languages = (found,) if isinstance(found, str) else tuple(map(str, found))
    for language in languages:
        if not _LANGUAGE.fullmatch(language):
            raise ConfigError(f"{language!r} is no language code.", hint="Use ISO codes: --language en --language de.")
    return languages


def _evaluation(root: AnyPath, stats: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    found = _told(root / "evaluation.json") or (stats or {}).get("evaluation")
    return _scalars(found) if isinstance(found, dict) else None


def _told(path: AnyPath) -> dict[str, Any]:
    """Return what a JSON file says, as it may be told to others; nothing where there is no file."""
    found = public_values(read_json(path) or {}, path.parent)
    if not isinstance(found, dict):
        raise OutputError(f"{path} is damaged: it holds no fields.", hint="Make it again.")
    return found


def _scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what fits into one line of a card."""
    return {key: value for key, value in values.items() if isinstance(value, (str, int, float, dict))}


def _configs(files: CorpusFiles, splits: list[SplitFiles]) -> Iterator[ConfigFacts]:
    for config in dict.fromkeys(split.config for split in splits):
        own = [split for split in splits if split.config == config]
        schemas = {path: files.footer(path).schema.to_arrow_schema() for split in own for path in split.files}
        features = {path: Features.from_arrow_schema(schema) for path, schema in schemas.items()}
        first, *others = features
        for path in others:
            if features[path] != features[first]:
                raise OutputError(
                    f"{first} and {path} of config {config!r} have different columns.", hint="Make one of them again."
                )
        yield ConfigFacts(config, tuple(_split_facts(files, split) for split in own), _as_metadata(features[first]))


def _as_metadata(features: Features) -> list[Any]:
    """Return columns in the form of a card's `dataset_info`."""
    data = DatasetCardData()
    DatasetInfosDict({"default": DatasetInfo(features=features)}).to_dataset_card_data(data)
    return list(data["dataset_info"]["features"])


def _split_facts(files: CorpusFiles, split: SplitFiles) -> SplitFacts:
    return SplitFacts(
        name=split.split,
        paths=split.patterns,
        rows=sum(files.footer(path).num_rows for path in split.files),
        nbytes=sum(_arrow_bytes(files, path) for path in split.files),
        size=sum((files.root / path).stat().st_size for path in split.files),
        files=len(split.files),
    )


def _arrow_bytes(files: CorpusFiles, path: str) -> int:
    """Return the bytes of a file's rows in memory, which `datasets` calls `num_bytes`.

    It reads in pieces of the first row group's size, and so does this: the bytes of a column depend on the pieces.
    """
    with files.opened(path) as file:
        groups = file.metadata.num_row_groups
        size = max(file.metadata.row_group(0).num_rows, 1) if groups else 1
        pieces = (file.iter_batches(batch_size=size, row_groups=[group]) for group in range(groups))
        return sum(batch.nbytes for batches in pieces for batch in batches)


def _samples(files: CorpusFiles, splits: list[SplitFiles]) -> Iterator[CardSample]:
    """Take the first texts to train on; where there are none, the first documents with pairs."""
    split = splits[0]
    given = 0
    for path in split.files:
        for row in _rows(files, path, columns=("text", "pairs")):
            if text := _shown_row(row):
                given += 1
                yield CardSample(split.config, text)
            if given == SAMPLES:
                return


def _rows(files: CorpusFiles, path: str, columns: Collection[str] | None = None) -> Iterator[Mapping[str, Any]]:
    """Yield a file's rows, or what `columns` name of them; raise OutputError where it is damaged."""
    with files.opened(path) as file:
        wanted = [name for name in file.schema_arrow.names if columns is None or name in columns]
        for batch in file.iter_batches(batch_size=50, columns=wanted) if wanted else ():
            yield from batch.to_pylist()


def _example(files: CorpusFiles, splits: list[SplitFiles]) -> str | None:
    """Return the first row with pairs of the config `pairs`, as JSON in which long texts are shortened.

    None where there are no pairs among the first rows.
    """
    path = next((path for split in splits if split.config == "pairs" for path in split.files), None)
    if path is None:
        return None
    row = next((row for row in islice(_rows(files, path), _LOOKED_AT) if row.get("pairs")), None)
    return None if row is None else json.dumps(_short(row), ensure_ascii=False, indent=2, default=str)


def _short(value: Any) -> Any:  # noqa: ANN401 - whatever a row holds
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_short(inner) for inner in value[:_ITEMS]]
    if isinstance(value, str | bytes) and len(value) > _LETTERS:
        return f"{value[:_LETTERS]!s} […]"
    return value


def _shown_row(row: Mapping[str, Any]) -> str:
    text, pairs = row.get("text") or "", row.get("pairs")
    if not isinstance(pairs, list):
        return str(text)
    told = [f"instruction: {pair['instruction']}\nresponse: {pair['response']}" for pair in pairs if pair]
    return "\n\n".join([str(text), *told]) if told else ""


def stated(facts: CorpusFacts) -> list[str]:
    """Say what the card leaves out because nobody has stated it."""
    said = [] if facts.language else ["The card names no language: state it with --language en (or another code)."]
    if facts.recipe and not facts.recipe["source"]["location"]:
        said.append("The card does not say where the documents come from: state it with source=… in save_corpus.")
    if (facts.stats or facts.mix) and not facts.plots and not plots.available():
        said.append("The card has no plots: matplotlib is not installed (pip install 'hfsynth[plots]').")
    return said
