"""Facts in, `croissant.json` out: Croissant 1.1, with PROV-O for where a corpus comes from. Pure.

The Hub makes a Croissant file of its own from the card and the data. It cannot know the source's revision, the model,
the recipe or the steps: this one says them. Format: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hfsynth.core.config import digest
from hfsynth.core.steps import LATER, SYNTHESIZE, Step, steps_of
from hfsynth.corpus.readme import is_web, printable
from hfsynth.models.mined import MINED
from hfsynth.publishing.card import CorpusFacts
from hfsynth.publishing.card_reuse import citation, hub_id
from hfsynth.publishing.config_facts import ConfigFacts
from hfsynth.publishing.licences import terms_of

FILE = "croissant.json"
_CONFORMS = "http://mlcommons.org/croissant/1.1"
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{
        name: f"cr:{name}"
        for name in (
            *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field"),
            *("fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath"),
            *("key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace"),
            *("samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}
_TYPES = {"string": "sc:Text", "large_string": "sc:Text", "bool": "sc:Boolean", "binary": "sc:Text"}
_REPO = "repo"
_HUB = "https://huggingface.co"
_PYPI = "https://pypi.org/project/hfsynth/"


def croissant(facts: CorpusFacts, *, published: str) -> dict[str, Any]:
    """Return the Croissant description of a corpus; `published` is the day of its publication, as 2026-11-27."""
    url = f"{_HUB}/datasets/{facts.repo}" if facts.repo else None
    creator = facts.creator or (facts.repo or "").rpartition("/")[0]
    values = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS,
        "name": printable(facts.title),
        "description": _description(facts),
        "url": url,
        "license": [_licence_address(one, facts.licence.link) for one in facts.licence.ids],
        "creator": {"@type": "Person" if facts.creator else "Organization", "name": creator} if creator else None,
        "datePublished": published,
        "inLanguage": list(facts.language) or None,
        "keywords": ["synthetic", "hfsynth", "instruction pre-training"],
        "citeAs": citation(facts.name, facts.title, facts.repo),
        "distribution": [
            *_repo(facts, url),
            *(_file_set(facts, config) for config in facts.configs),
        ],
        "recordSet": [_record_set(config) for config in facts.configs],
        **_provenance(facts, creator),
    }
    return {name: value for name, value in values.items() if value not in (None, [])}


def croissant_text(values: Mapping[str, Any]) -> str:
    """Return the file's content."""
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def _description(facts: CorpusFacts) -> str:
    if facts.recipe is None:
        return "Texts to train a language model on, mixed or brought together with hfsynth."
    source = facts.recipe["source"].get("location") or "a source that is not stated"
    writer = "rules" if facts.recipe.get("model") == MINED else f"the model {facts.recipe.get('model')}"
    return printable(
        f"Documents of {source} with instruction-response pairs about them, written by {writer}. Synthetic."
    )


def _licence_address(license: str, link: str | None) -> str:
    terms = terms_of(license)
    return link or (terms.source if terms else f"https://spdx.org/licenses/{quote(license)}.html")


def _repo(facts: CorpusFacts, url: str | None) -> Iterator[dict[str, Any]]:
    if url:
        yield {
            "@type": "cr:FileObject",
            "@id": _REPO,
            "name": _REPO,
            "description": "The repository on the Hugging Face Hub.",
            "contentUrl": f"{url}/tree/main",
            "encodingFormat": "git+https",
            "sha256": "https://github.com/mlcommons/croissant/issues/80",  # what the Hub writes: a repository has none
        }


def _file_set(facts: CorpusFacts, config: ConfigFacts) -> dict[str, Any]:
    """Return the files of a config, those of all its splits."""
    splits = ", ".join(f"{split.name}: {split.rows} rows in {split.files} files" for split in config.splits)
    return {
        "@type": "cr:FileSet",
        "@id": _files_of(config),
        "name": _files_of(config),
        "description": splits,
        "encodingFormat": "application/x-parquet",
        "includes": [path for split in config.splits for path in split.paths],
        **({"containedIn": {"@id": _REPO}} if facts.repo else {}),
    }


def _files_of(config: ConfigFacts) -> str:
    return f"files-{config.name}"


def _record_set(config: ConfigFacts) -> dict[str, Any]:
    """Return the columns of a config, which all its splits have."""
    files = {"@id": _files_of(config)}
    return {
        "@type": "cr:RecordSet",
        "@id": config.name,
        "name": config.name,
        "description": config.about,
        "field": [_field(config.name, column, files, ()) for column in config.features],
    }


def _field(parent: str, column: Mapping[str, Any], files: Mapping[str, str], path: Sequence[str]) -> dict[str, Any]:
    """Return a column, or a field within one: `path` are the names that lead to it from the column's own."""
    name = str(column["name"])
    kind, inner, listed = _shape(column)
    here = (*path, name)
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"{parent}/{name}", "name": name}
    if listed:
        field |= {"isArray": True, "arrayShape": "-1"}
    if inner:
        return field | {"subField": [_field(f"{parent}/{name}", one, files, here) for one in inner]}
    source: dict[str, Any] = {"fileSet": files, "extract": {"column": here[0]}}
    if len(here) > 1:
        source["transform"] = [{"jsonPath": step} for step in here[1:]]
    return field | {"dataType": _TYPES.get(kind, _number(kind)), "source": source}


def _shape(column: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]], bool]:
    """Return a column's type, the fields within it, and whether it holds several, as `dataset_info` writes them."""
    if "dtype" in column:
        dtype = column["dtype"]
        return (dtype if isinstance(dtype, str) else "string"), [], False
    listed = "struct" not in column
    found = next((value for name, value in column.items() if name != "name"), "string")
    if isinstance(found, list):
        return "", [one for one in found if "name" in one], listed
    return (found if isinstance(found, str) else "string"), [], listed


def _number(kind: str) -> str:
    return "sc:Integer" if kind.startswith(("int", "uint")) else "sc:Float" if kind.startswith("float") else "sc:Text"


def _provenance(facts: CorpusFacts, creator: str) -> dict[str, Any]:
    """Return where the corpus comes from, what made it, and who had it made."""
    steps = steps_of(facts.recipe) or steps_of({"mix": facts.mix} if facts.mix else None)
    sources = list(_sources(facts))
    return {
        "prov:wasDerivedFrom": sources,
        "prov:wasGeneratedBy": [_activity(facts, step, steps, sources) for step in steps],
        "prov:wasAttributedTo": {"@type": "prov:Agent", "prov:label": creator} if creator else None,
    }


def _sources(facts: CorpusFacts) -> Iterator[dict[str, Any]]:
    if facts.recipe is not None:
        yield _source(facts.recipe["source"], facts.source_license)
    for part in ((facts.mix or {}).get("sources") or {}).values():
        yield _source({"location": part.get("source"), "revision": part.get("revision")}, part.get("license"))


def _source(source: Mapping[str, Any], license: str | None) -> dict[str, Any]:
    location, revision = source.get("location"), source.get("revision")
    kept = {name: source[name] for name in ("config", "split", "limit") if source.get(name)}
    return _entity(_address(location, revision, "datasets/"), location or "not stated", revision, license, kept)


def _address(location: object, revision: object, kind: str) -> str:
    """Return what names a source or a model everywhere: its page, or what stands for its content."""
    text = str(location or "")
    if hub_id(text):
        return f"{_HUB}/{kind}{text}" + (f"/tree/{quote(str(revision))}" if revision else "")
    return text if is_web(text) else f"urn:hfsynth:{quote(str(revision or text or 'unknown'), safe='')}"


def _entity(
    address: str, label: object, version: object, license: str | None, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    values = {
        "@type": "prov:Entity",
        "@id": address,
        "prov:label": printable(str(label)),
        "version": str(version) if version else None,
        "license": license and _licence_address(license, None),
        "additionalProperty": _properties(more or {}),
    }
    return {name: value for name, value in values.items() if value not in (None, [])}


def _activity(
    facts: CorpusFacts, step: Step, steps: Sequence[Step], sources: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return one step: what it used, with which settings, after which other, and what carried it out."""
    version = (facts.recipe or {}).get("hfsynth_version")
    software = {
        "@type": "prov:SoftwareAgent",
        "@id": f"{_PYPI}{version}/" if version else _PYPI,
        "prov:label": f"hfsynth {version}" if version else "hfsynth",
    }
    place = steps.index(step)
    plan = {"@type": ["prov:Entity", "prov:Plan"], "@id": f"urn:hfsynth:recipe:{digest(step.settings)}"}
    values = {
        "@type": "prov:Activity",
        "@id": f"urn:hfsynth:step:{step.name}:{digest(step.settings)}",
        "prov:label": f"hfsynth {step.name}",
        "prov:used": [*_used(facts, step, sources), {**plan, "prov:label": "synthesizer_config.json"}],
        "prov:wasInformedBy": (
            {"@id": f"urn:hfsynth:step:{steps[place - 1].name}:{digest(steps[place - 1].settings)}"} if place else None
        ),
        "prov:wasAssociatedWith": software,
        "additionalProperty": _properties(step.settings),
    }
    return {name: value for name, value in values.items() if value not in (None, [])}


def _used(facts: CorpusFacts, step: Step, sources: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what a step read besides what the step before left: sources, and the model that wrote or judged."""
    if step.name in (SYNTHESIZE, "mix"):
        first = 1 if facts.recipe is not None else 0
        yield from ({"@id": one["@id"]} for one in (sources[:first] if step.name == SYNTHESIZE else sources[first:]))
    model, revision, license = step.settings.get("model"), step.settings.get("model_revision"), facts.model_license
    judge = step.settings.get("judge")
    if isinstance(judge, Mapping):
        model, revision, license = judge.get("model"), judge.get("model_revision"), None
    if step.name == SYNTHESIZE and model == MINED:
        yield _entity(f"{_PYPI}#rules", "rules that mine pairs, no model", revision, None)
    elif model and step.name != "mix":
        yield _entity(_address(model, revision, ""), model, revision, license)


def _properties(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return settings as schema.org's PropertyValue: plain ones as they are, others as JSON."""
    plain = {name: value for name, value in values.items() if value is not None and name not in LATER}
    return [
        {
            "@type": "PropertyValue",
            "propertyID": name,
            "value": value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False),
        }
        for name, value in plain.items()
    ]
