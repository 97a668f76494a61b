"""Facts in, the README of a corpus or of a synthesizer out. Pure: the same facts give the same bytes.

The metadata is written here and cannot be changed by a template; the body comes from a Jinja template that fails on a
name it does not know. Knows nothing of folders, models or the Hub.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hfsynth.card_text import (
    Block,
    Card,
    as_block,
    as_code,
    as_mean,
    as_number,
    as_pairs,
    as_score,
    as_share,
    as_size,
    printable,
    shortened,
)
from hfsynth.errors import ConfigError

TASKS = ["text-generation", "question-answering"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGE = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"))
_LARGEST = "100B<n<1T"


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence by the Hub's name of it; `other` has a name of its own and a link."""

    id: str
    name: str | None = None
    link: str | None = None

    def metadata(self) -> dict[str, str]:
        """Return the keys of a card's metadata."""
        named = {"license_name": self.name and printable(self.name), "license_link": self.link}
        return {"license": self.id, **{key: value for key, value in named.items() if value}}

    def markdown(self) -> str:
        """Return the licence as shown text."""
        shown = as_code(self.name or self.id)
        return f"{shown}, {as_code(self.link)}" if self.link else shown


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split of a config: where it lies, and what the Parquet footers say. `nbytes` is uncompressed."""

    name: str
    paths: tuple[str, ...]
    rows: int
    nbytes: int
    size: int
    files: int


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """One config: its splits and its columns, as `dataset_info` writes them."""

    name: str
    splits: tuple[SplitFacts, ...]
    features: Sequence[Any]

    @property
    def about(self) -> str:
        known = {"default": "text to train on", "pairs": "documents with their pairs, and where they come from"}
        return known.get(self.name, "one more config")

    def entry(self) -> dict[str, Any]:
        """Return the config's entry under `configs`."""
        files = [{"split": s.name, "path": s.paths[0] if len(s.paths) == 1 else list(s.paths)} for s in self.splits]
        return {"config_name": self.name, "data_files": files}

    def info(self) -> dict[str, Any]:
        """Return the config's entry under `dataset_info`."""
        return {
            "config_name": self.name,
            "features": list(self.features),
            "splits": [{"name": s.name, "num_bytes": s.nbytes, "num_examples": s.rows} for s in self.splits],
            "download_size": sum(s.size for s in self.splits),
            "dataset_size": sum(s.nbytes for s in self.splits),
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """A text from the corpus, shown in the card."""

    config: str
    whole: str

    @property
    def text(self) -> str:
        return shortened(self.whole)

    @property
    def shortened(self) -> bool:
        return self.text != self.whole


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture beside the card."""

    path: str
    about: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What every card needs. `name` is what a loader is given: the repo, or the folder until there is one.

    `home` is the folder of the repo with the corpus's own files, empty or ending in a slash.
    """

    name: str
    title: str
    licence: Licence
    language: tuple[str, ...] = ()
    repo: str | None = None
    home: str = ""
    evaluation: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CorpusFacts(Facts):
    """What a dataset card says. `recipe`, `stats`, `render`, `mix` are the values of the folder's JSON files."""

    configs: tuple[ConfigFacts, ...] = ()
    samples: tuple[Sample, ...] = ()
    plots: tuple[Plot, ...] = ()
    recipe: Mapping[str, Any] | None = None
    stats: Mapping[str, Any] | None = None
    render: Mapping[str, Any] | None = None
    mix: Mapping[str, Any] | None = None
    source_license: str | None = None
    model_license: str | None = None

    @property
    def parts(self) -> list[str]:
        """What the card is about, as `config/split`."""
        return [f"{config.name}/{split.name}" for config in self.configs for split in config.splits]

    @property
    def source_id(self) -> str | None:
        """The source's repo id, where it is one."""
        return hub_id(str(self.recipe["source"]["location"])) if self.recipe else None


@dataclass(frozen=True, slots=True)
class ModelFacts(Facts):
    """What a synthesizer's model card says. `settings` are those of its adapter, `training` those of its training."""

    weights: str = "full weights"
    base_model: str | None = None
    size: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] | None = None


def build(facts: CorpusFacts | ModelFacts, template: str | None = None) -> str:
    """Return the README for `facts`, its body made by `template` (Jinja source) or by the one hfsynth ships.

    Raise ConfigError for a template that fails or uses a name that is not there.
    """
    return card_of(facts, template).text()


def card_of(facts: CorpusFacts | ModelFacts, template: str | None = None) -> Card:
    """Return the README for `facts`, taken apart."""
    if isinstance(facts, CorpusFacts):
        known = {"source_license": facts.source_license, "model_license": facts.model_license, "parts": facts.parts}
        return Card(corpus_metadata(facts), (Block(_known(facts, known), _body("dataset", template, _shown(facts))),))
    known = {"base_model": facts.base_model, "parts": ["model"]}
    return Card(model_metadata(facts), (Block(_known(facts, known), _body("model", template, _shown_model(facts))),))


def recipe_card(recipe: Mapping[str, Any], repo: str, license: str | None) -> Card:
    """Return the card of a repo that holds a recipe alone."""
    base = hub_id(str(recipe["model"]))
    metadata = {
        **({"license": license} if license else {}),
        **({"base_model": base} if base else {}),
        "library_name": "hfsynth",
        "tags": ["hfsynth", "instruction-synthesizer", "recipe"],
    }
    values = {"title": repo.rpartition("/")[2], "name": repo, "recipe": recipe}
    return Card(metadata, (Block({"parts": ["recipe"], "repo": repo}, _body("recipe", None, values)),))


def corpus_metadata(facts: CorpusFacts) -> dict[str, Any]:
    """Return the metadata of a dataset card."""
    configs = facts.configs
    return {
        **facts.licence.metadata(),
        **({"language": list(facts.language)} if facts.language else {}),
        "pretty_name": printable(facts.title),
        "task_categories": list(TASKS),
        "size_categories": [size_category(sum(split.rows for config in configs for split in config.splits))],
        "annotations_creators": ["machine-generated"],
        **({"source_datasets": [facts.source_id]} if facts.source_id else {}),
        "tags": ["synthetic", "hfsynth"],
        "configs": [config.entry() for config in configs],
        "dataset_info": [config.info() for config in configs],
    }


def model_metadata(facts: ModelFacts) -> dict[str, Any]:
    """Return the metadata of a model card."""
    base = hub_id(facts.base_model or "")
    return {
        **facts.licence.metadata(),
        **({"language": list(facts.language)} if facts.language else {}),
        **({"base_model": base} if base else {}),
        "library_name": "peft" if facts.weights.startswith("adapter") else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["hfsynth", "instruction-synthesizer"],
    }


def size_category(rows: int) -> str:
    """Return the Hub's name for a number of rows."""
    return next((name for limit, name in (*_SIZES, *_LARGE) if rows < limit), _LARGEST)


def hub_id(location: str) -> str | None:
    """Return `location` where it has the form of a repo id and is no file."""
    looks = HUB_ID.fullmatch(location) and not location.endswith((".json", ".jsonl", ".parquet", ".csv", ".txt"))
    return location if looks else None


def _known(facts: Facts, more: Mapping[str, Any]) -> dict[str, Any]:
    known = {**more, "repo": facts.repo, "home": facts.home}
    return {key: value for key, value in known.items() if value}


def _shown(facts: CorpusFacts) -> dict[str, Any]:
    """Return the names that the dataset template may use."""
    location = facts.recipe["source"]["location"] if facts.recipe else None
    names = ("name", "title", "home", "evaluation", "configs", "samples", "plots", "recipe", "stats", "mix")
    source = facts.source_id
    return {
        **{name: getattr(facts, name) for name in (*names, "source_license", "model_license", "language")},
        "licence": facts.licence.markdown(),
        "render": {key: value for key, value in (facts.render or {}).items() if key != "counts"},
        "source_name": as_code(location) if location else None,
        "source_url": f"https://huggingface.co/datasets/{source}" if source else None,
        "recipe_name": facts.repo if facts.repo and not facts.home else f"{facts.home}synthesizer_config.json",
        "reproduce": _source_options(facts.recipe["source"]) if facts.recipe and location else "",
    }


def _source_options(source: Mapping[str, Any]) -> str:
    """Return the source as it is written on the command line."""
    options = {"config": "config", "split": "split", "text_column": "text-column", "id_column": "id-column"}
    given = [
        f"--{flag} {shlex.quote(str(value))}" for name, flag in options.items() for value in _listed(source.get(name))
    ]
    given += [f"--limit {source['limit']}"] if source.get("limit") else []
    pinned = hub_id(str(source["location"])) and source["revision"]
    given += [f"--revision {shlex.quote(str(source['revision']))}"] if pinned else []
    return " ".join([shlex.quote(str(source["location"])), *given])


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value] if value else []


def _shown_model(facts: ModelFacts) -> dict[str, Any]:
    names = ("name", "title", "evaluation", "weights", "base_model", "size", "settings", "training", "language")
    return {**{name: getattr(facts, name) for name in names}, "licence": facts.licence.markdown()}


def _body(kind: str, template: str | None, values: Mapping[str, Any]) -> str:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {
        "code": as_code,
        "block": as_block,
        "number": as_number,
        "bytes": as_size,
        "pairs": as_pairs,
        "mean": as_mean,
        "score": as_score,
        "share": as_share,
    }
    try:
        return environment.from_string(template if template is not None else shipped_template(kind)).render(values)
    except (TemplateError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The card's template fails: {error}.", hint=f"Its names are: {', '.join(sorted(values))}."
        ) from error


def shipped_template(kind: str) -> str:
    """Return the template of a `dataset`, `model` or `recipe` card that hfsynth ships."""
    package = Path(__file__).parent
    folders = (package / "cards_data", package.parent / "cards")
    folder = next(folder for folder in folders if folder.is_dir())
    return (folder / f"{kind}.md.jinja").read_text("utf-8")
