"""`croissant.json`: what it says of where a corpus comes from. tests/trainers reads it with Croissant's library."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from corpus_folders import corpus_folder

from hfsynth.core.errors import OutputError
from hfsynth.core.steps import steps_of
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import check_folder_card, prepare, write_card

SHAPE = {"default": {"train": 2, "validation": 1}, "pairs": {"train": 2}}
STATED = CardSettings(license="cc-by-4.0", language=("en",), repo="user/corpus", model_license="apache-2.0")
REQUIRED = ("@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = corpus_folder(tmp_path / "corpus", SHAPE)
    path = root / "synthesizer_config.json"
    config = json.loads(path.read_text())
    source = {**config["source"], "location": "org/source", "revision": "abc123"}
    later = {
        "render": {"seed": 3, "styles": {"classic": 1.0}, "tokenizer": None},
        "verify": {"judge": {"model": "org/judge", "model_revision": "77"}, "keep": ["accuracy>=0.5"], "seed": 0},
    }
    path.write_text(json.dumps({**config, "model": "org/model", "model_revision": "42", "source": source, **later}))
    return root


def described(folder: Path, settings: CardSettings = STATED) -> dict[str, Any]:
    write_card(folder, settings)
    values: dict[str, Any] = json.loads((folder / "croissant.json").read_text("utf-8"))
    return values


def test_it_says_from_what_by_what_and_in_which_order(folder: Path) -> None:
    values = described(folder)
    assert all(values[name] for name in REQUIRED) and values["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    (source,) = values["prov:wasDerivedFrom"]
    assert source["@id"] == "https://huggingface.co/datasets/org/source/tree/abc123" and source["version"] == "abc123"
    steps = values["prov:wasGeneratedBy"]
    assert [step["prov:label"] for step in steps] == ["hfsynth synthesize", "hfsynth verify", "hfsynth render"]
    assert [step.get("prov:wasInformedBy", {}).get("@id") for step in steps] == [None, *(s["@id"] for s in steps[:-1])]
    used = [{entity["@id"] for entity in step["prov:used"]} for step in steps]
    assert {source["@id"], "https://huggingface.co/org/model/tree/42"} <= used[0]
    assert "https://huggingface.co/org/judge/tree/77" in used[1]
    assert all(step["prov:wasAssociatedWith"]["prov:label"] == "hfsynth 0.1.0" for step in steps)
    told = {one["propertyID"]: one["value"] for one in steps[0]["additionalProperty"]}
    assert told["shots"] == 2 and json.loads(told["sampling"])["max_tokens"] == 400
    assert json.loads(steps[1]["additionalProperty"][-2]["value"]) == ["accuracy>=0.5"]
    licence = next(one for one in steps[0]["prov:used"] if one["@id"].endswith("/org/model/tree/42"))["license"]
    assert licence == "https://www.apache.org/licenses/LICENSE-2.0"


def test_who_had_it_made_is_said_where_it_is_stated(folder: Path) -> None:
    assert described(folder)["creator"] == {"@type": "Organization", "name": "user"}
    values = described(folder, CardSettings(license="cc-by-4.0", creator="Ada Lovelace"))
    assert values["creator"]["name"] == "Ada Lovelace" == values["prov:wasAttributedTo"]["prov:label"]
    assert "| who had it made | Ada Lovelace |" in (folder / "README.md").read_text()
    again = described(folder)
    assert again["creator"]["name"] == "Ada Lovelace"


def test_it_is_checked_and_published_with_the_card(folder: Path) -> None:
    values = described(folder)
    check_folder_card(folder)
    path = folder / "croissant.json"
    path.write_text(path.read_text().replace('"datePublished": "', '"datePublished": "1999-12-31", "was": "'))
    with pytest.raises(OutputError, match=r"croissant.json .*stale.*\n.*hfsynth card"):
        check_folder_card(folder)
    write_card(folder)
    assert json.loads(path.read_text())["datePublished"] == "1999-12-31"  # the first day stays
    path.unlink()
    with pytest.raises(OutputError, match="stale"):
        check_folder_card(folder)
    publication = prepare(folder, "user/other", "dataset", STATED, write=False)
    assert not path.exists() and "croissant.json" in publication.own
    sent = json.loads(publication.files["croissant.json"].source)
    assert sent["url"] == values["url"] and sent["prov:wasDerivedFrom"] == values["prov:wasDerivedFrom"]


def test_identifiers_are_unique_and_files_are_named(folder: Path) -> None:
    values = described(folder)
    sets = [one for one in values["distribution"] if one["@type"] == "cr:FileSet"]
    assert {one["@id"]: one["includes"] for one in sets} == {
        "files-default": ["data/train-*.parquet", "data/validation-*.parquet"],
        "files-pairs": ["pairs/train-*.parquet"],
    }
    names = re.findall(r'"@type": "cr:\w+",\s+"@id": "([^"]+)"', (folder / "croissant.json").read_text())
    assert len(names) == len({*names}) >= 6
    fields = {field["@id"] for one in values["recordSet"] for field in one["field"]}
    assert fields == {"default/text", "pairs/text", "pairs/pairs"}


def test_a_source_of_this_machine_is_told_by_its_content(folder: Path, tmp_path: Path) -> None:
    path = folder / "synthesizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "source": {**config["source"], "location": str(tmp_path / "my docs.jsonl")}}))
    (source,) = described(folder)["prov:wasDerivedFrom"]
    assert source["@id"] == "urn:hfsynth:abc123" and source["prov:label"] == "my docs.jsonl"
    assert str(tmp_path) not in (folder / "croissant.json").read_text()


def test_steps_are_read_in_their_order() -> None:
    config = {"render": {"seed": 1}, "model": "m", "verify": {"seed": 2}, "source": {}, "hfsynth_version": "1"}
    assert [(step.name, dict(step.settings)) for step in steps_of(config)] == [
        ("synthesize", {"model": "m"}),
        ("verify", {"seed": 2}),
        ("render", {"seed": 1}),
    ]
    assert [step.name for step in steps_of({"mix": {"seed": 0}})] == ["mix"] and steps_of(None) == ()
