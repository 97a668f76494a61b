"""Facts in, the README of a corpus or of a synthesizer out. Pure: the same facts give the same bytes.

The metadata is written here and cannot be changed by a template; the body comes from a Jinja template that fails on a
name it does not know. Knows nothing of folders, models or the Hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hfsynth.core.errors import ConfigError
from hfsynth.core.screening import screening_sentences
from hfsynth.core.steps import SYNTHESIZE, steps_of
from hfsynth.corpus.readme import (
    Block,
    Card,
    as_block,
    as_code,
    as_mean,
    as_number,
    as_pairs,
    as_rows,
    as_score,
    as_share,
    as_size,
    as_text,
    as_wrapped,
    printable,
    shortened,
)
from hfsynth.publishing.card_reuse import citation, hub_id, render_command, synthesize_command
from hfsynth.publishing.config_facts import ConfigFacts
from hfsynth.publishing.licences import Part, sentences
from hfsynth.publishing.licensing import DERIVED, Licence
from hfsynth.publishing.repeatable import require_repeatable
from hfsynth.publishing.taken_out import Outcome

PROJECT_PAGE = "https://pypi.org/project/hfsynth/"
_TOLD_ELSEWHERE = ("counts", "texts", "tokens", "wordings_used")  # of a rendering
TASKS = ["text-generation", "question-answering"]
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGE = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"))
_LARGEST = "100B<n<1T"


@dataclass(frozen=True, slots=True)
class CardSample:
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
    """What a dataset card says. `recipe`, `stats`, `render`, `mix` are the values of the folder's JSON files.

    `example` is one row of `pairs`, as JSON, `licensed` is what the corpus was made of, with the licences.
    """

    configs: tuple[ConfigFacts, ...] = ()
    samples: tuple[CardSample, ...] = ()
    example: str | None = None
    plots: tuple[Plot, ...] = ()
    recipe: Mapping[str, Any] | None = None
    stats: Mapping[str, Any] | None = None
    render: Mapping[str, Any] | None = None
    mix: Mapping[str, Any] | None = None
    source_license: str | None = None
    model_license: str | None = None
    licensed: tuple[Part, ...] = ()
    creator: str | None = None
    part_licenses: Mapping[str, str] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()

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
        known: dict[str, Any] = {name: getattr(facts, name) for name in ("source_license", "model_license", "parts")}
        known |= {"creator": facts.creator, "part_licenses": dict(facts.part_licenses)}
        known |= {DERIVED: list(facts.licence.ids)} if facts.licence.derived else {}
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
    values = {"title": repo.rpartition("/")[2], "name": repo, "recipe": recipe, "hfsynth_url": PROJECT_PAGE}
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


def _known(facts: Facts, more: Mapping[str, Any]) -> dict[str, Any]:
    known = {**more, "repo": facts.repo, "home": facts.home}
    return {key: value for key, value in known.items() if value}


def _shown(facts: CorpusFacts) -> dict[str, Any]:
    """Return the names that the dataset template may use."""
    location = facts.recipe["source"]["location"] if facts.recipe else None
    names = ("name", "title", "home", "evaluation", "configs", "samples", "example", "plots", "recipe", "stats", "mix")
    source = facts.source_id
    return {
        **{
            name: getattr(facts, name)
            for name in (*names, "source_license", "model_license", "language", "creator", "outcomes")
        },
        "licence": facts.licence.markdown(),
        "unverified": _unverified(facts),
        "licence_parts": [(part.what, as_code(part.license) if part.license else None) for part in facts.licensed],
        "licence_terms": sentences(facts.licensed, facts.licence.ids),
        "screening": screening_sentences(facts.stats) if facts.stats else [],
        "render": {key: value for key, value in (facts.render or {}).items() if key not in _TOLD_ELSEWHERE},
        "wordings_used": (facts.render or {}).get("wordings_used") or {},
        "tokens": _tokens(facts),
        "hfsynth_url": PROJECT_PAGE,
        "citation": citation(facts.name, facts.title, facts.repo),
        "source_name": as_code(location) if location else None,
        "source_url": f"https://huggingface.co/datasets/{source}" if source else None,
        "recipe_name": _recipe_name(facts),
        "reproduce": _commands(facts),
        "pairs_only": _is_made_alone(facts),
        "source_is_file": bool(location and not source and "://" not in location),
    }


def _unverified(facts: CorpusFacts) -> bool:
    """Say whether the corpus has pairs that no judge was asked about."""
    return any(config.name == "pairs" for config in facts.configs) and not (facts.stats or {}).get("verify")


def _recipe_name(facts: CorpusFacts) -> str:
    """Return what `--recipe` is given: the repo where the recipe is its own, else the file."""
    return facts.repo if facts.repo and not facts.home else f"{facts.home}synthesizer_config.json"


def _tokens(facts: CorpusFacts) -> dict[str, Any]:
    """Return the tokens of the training texts by split, and their tokenizer, where they were counted.

    A folder that has been rendered and mixed does not tell which of both its texts are.
    """
    if facts.render and facts.mix:
        return {}
    if facts.mix:
        found, counted = facts.mix, facts.mix.get("tokens")
        splits = {"train": counted} if isinstance(counted, int) else {}
    else:
        found = facts.render or {}
        splits = found.get("tokens") or {}
    return {"splits": splits, "tokenizer": found.get("tokenizer")} if splits else {}


def _commands(facts: CorpusFacts) -> str:
    """Return the commands that make the corpus again, as they are typed; empty where they are not known."""
    if not facts.recipe or not facts.recipe["source"]["location"]:
        return ""
    unreadable = bool(facts.stats and facts.stats.get("unreadable"))
    alone = _is_made_alone(facts)
    rendered = render_command(facts.render) if alone and facts.render and not facts.mix else None
    made = synthesize_command(facts.recipe, _recipe_name(facts), unreadable=unreadable, pairs_only=alone)
    return f"{made}\n{rendered}" if rendered else made


def _is_made_alone(facts: CorpusFacts) -> bool:
    """Say whether later steps were taken that nobody else can take by the recipe."""
    later = [step for step in steps_of(facts.recipe) if step.name != SYNTHESIZE]
    try:
        require_repeatable(later, "vllm", None)
    except ConfigError:
        return True
    return False


def _shown_model(facts: ModelFacts) -> dict[str, Any]:
    names = ("name", "title", "evaluation", "weights", "base_model", "size", "settings", "training", "language")
    return {
        "hfsynth_url": PROJECT_PAGE,
        **{name: getattr(facts, name) for name in names},
        "licence": facts.licence.markdown(),
    }


def _body(kind: str, template: str | None, values: Mapping[str, Any]) -> str:
    try:
        return _compiled(template if template is not None else shipped_template(kind)).render(values)
    except (TemplateError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The card's template fails: {error}.", hint=f"Its names are: {', '.join(sorted(values))}."
        ) from error


@lru_cache(maxsize=8)
def _compiled(template: str) -> Template:
    """Return a template, compiled once: a push shows a card four times, and half of its work was this."""
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {
        "code": as_code,
        "block": as_block,
        "wrapped": as_wrapped,
        "text": as_text,
        "rows": as_rows,
        "number": as_number,
        "bytes": as_size,
        "pairs": as_pairs,
        "mean": as_mean,
        "score": as_score,
        "share": as_share,
    }
    return environment.from_string(template)


def shipped_template(kind: str) -> str:
    """Return the template of a `dataset`, `model` or `recipe` card that hfsynth ships."""
    package = Path(__file__).parent.parent
    folders = (package / "cards_data", package.parent / "cards")
    folder = next(folder for folder in folders if folder.is_dir())
    return (folder / f"{kind}.md.jinja").read_text("utf-8")
