"""Licences of several things put together, by the table that hfsynth ships."""

from __future__ import annotations

import json
import re
from itertools import permutations
from pathlib import Path

import pytest
from corpus_folders import corpus_folder
from hypothesis import given
from hypothesis import strategies as st

from hfsynth.core.errors import ConfigError
from hfsynth.corpus.readme import Card, is_web
from hfsynth.documents.hf_datasets import open_texts
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.licences import Part, canonical, combined, is_on_hub, sentences, table, terms_of
from hfsynth.publishing.licensing import Licence, corpus_parts
from hfsynth.publishing.prepare import check_folder_card, write_card
from hfsynth.texts.corpus_folder import mix_folder
from hfsynth.texts.layouts import Kind
from hfsynth.texts.mixture_parts import Part as MixturePart

DATA = [terms.id for terms in table().values() if terms.of != "model"]
MODELS = list(table())


def source(license: str | None) -> Part:
    return Part("the source", license, option="--source-license ID")


def model(license: str | None) -> Part:
    return Part("the model", license, is_model=True, option="--model-license ID")


def test_every_row_says_where_it_is_from() -> None:
    assert len(table()) >= 40
    for terms in table().values():
        assert terms.name and terms.section and is_web(terms.source), terms.id
        assert terms.of in ("data", "software", "model"), terms.id
        assert terms.of != "model" or terms.outputs, f"{terms.id}: what may be done with its outputs?"
        assert set(terms.onward) <= set(table()) and (terms.share_alike or not terms.onward), terms.id
        assert terms.derivatives or terms.of == "data", terms.id
        assert all(terms_of(name) is terms for name in (terms.id, terms.id.upper(), *terms.names)), terms.id


def test_the_page_shows_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "licences.md").read_text("utf-8")
    rows = re.findall(
        r"^\| `([^`]+)` \| (\w+) \| (yes|no) \| (yes|no) \| (yes|no) \| (yes|no) \| (.*) \| \[", page, re.M
    )
    shown = {name: (of, *(one == "yes" for one in flags), said) for name, of, *flags, said in rows}
    for terms in table().values():
        said = f"{terms.outputs} {terms.naming}".strip() + (" Compared." if terms.compared else "")
        flags = (terms.commercial, terms.derivatives, terms.share_alike, terms.attribution)
        assert shown.pop(terms.id) == (terms.of, *flags, said)
    assert not shown


@pytest.mark.parametrize(
    ("given_parts", "license"),
    [
        ([source("cc-by-4.0"), model("apache-2.0")], "cc-by-4.0"),
        ([source("CC0-1.0"), model("llama3.1")], "cc0-1.0"),
        ([source("cc-by-4.0"), model("qwen-research")], "cc-by-nc-4.0"),
        ([source("cc-by-nc-3.0"), model("apache-2.0")], "cc-by-nc-3.0"),
        ([source("cc-by-4.0"), model("mrl")], "cc-by-nc-4.0"),
        ([source("cc-by-sa-4.0"), model("apache-2.0")], "cc-by-sa-4.0"),
        ([source("cc-by-sa-3.0"), Part("the part web of the mixture", "cc-by-sa-4.0")], "cc-by-sa-4.0"),
        ([source("cc-by-4.0"), Part("the part web of the mixture", "cc-by-nc-sa-4.0")], "cc-by-nc-sa-4.0"),
        ([source("odc-by"), model("gpl-3.0")], "odc-by"),  # a program's licence does not go over to what it writes
        ([source("cc0-1.0"), Part("the part web of the mixture", "odc-by")], "odc-by"),
        ([source("odc-by"), Part("the exemplars", None, needed=False), model("mit")], "odc-by"),
    ],
)
def test_what_follows_from_the_parts(given_parts: list[Part], license: str) -> None:
    assert {combined(order) for order in permutations(given_parts)} == {(license,)}


def test_a_mixture_of_several_keeps_them_all() -> None:
    parts = [source("odc-by"), Part("the part web of the mixture", "cc-by-4.0"), model("apache-2.0")]
    assert combined(parts) == ("cc-by-4.0", "odc-by")


@pytest.mark.parametrize(
    ("given_parts", "message"),
    [
        ([source(None), model("mit")], "that of the source is not known"),
        ([source("mit"), model("unknown")], "that of the model is not known"),
        ([source("cc-by-sa-3.0, gfdl"), model("mit")], r"what that of the source asks \(cc-by-sa-3.0, gfdl\)"),
        ([source("mit"), model("my-terms")], r"what that of the model asks \(my-terms\)"),
        ([source("cc-by-nd-4.0"), model("mit")], "allows no changed copies"),
        ([source("cc-by-sa-4.0"), Part("the part web of the mixture", "odbl")], "cannot be under two"),
        ([source("cc-by-sa-4.0"), Part("the part web of the mixture", "cc-by-nc-sa-4.0")], "cannot be under two"),
        ([source("cc-by-sa-4.0"), model("qwen-research")], "allows no commercial use, and that of the source"),
        ([source("odbl"), Part("the part web of the mixture", "cc-by-nc-4.0")], "lets nobody add this"),
    ],
)
def test_what_does_not_go_together_is_refused(given_parts: list[Part], message: str) -> None:
    for order in permutations(given_parts):
        with pytest.raises(ConfigError, match=message if len(given_parts) == 1 else ".") as caught:
            combined(order)
        assert "--license" in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        combined(given_parts)


@given(st.lists(st.sampled_from(DATA), min_size=1, max_size=3), st.sampled_from(MODELS))
def test_nothing_that_one_part_forbids_is_allowed_by_the_whole(licences: list[str], of_model: str) -> None:
    parts = [*(source(license) for license in licences), model(of_model)]
    try:
        made = [table()[one] for one in combined(parts)]
    except ConfigError:
        return
    terms = [part.terms for part in parts if part.terms]
    if not all(one.commercial for one in terms):
        assert not any(one.commercial for one in made)
    if any(part.share_alike for part in parts):
        assert len(made) == 1 and made[0].share_alike
    if any(part.terms and part.terms.attribution for part in parts[:-1]):
        assert all(one.attribution for one in made)


@pytest.mark.parametrize(
    ("license", "ids"),
    [
        ("CC-BY-4.0", ("cc-by-4.0",)),
        ("ODC-By-1.0", ("odc-by",)),
        ("GPL-3.0-or-later", ("gpl-3.0",)),
        (" mit ", ("mit",)),
        ("MIT-0", ("MIT-0",)),
        ("mrl", ("mistral-research",)),
        ("other", ("other",)),
        ("cc-by-4.0 AND odc-by", ("cc-by-4.0", "odc-by")),
    ],
)
def test_names_of_licences(license: str, ids: tuple[str, ...]) -> None:
    assert canonical(license) == ids


@pytest.mark.parametrize(
    ("license", "hint"),
    [
        ("CC BY 4.0", "Near it: cc-by-4.0"),
        ("lama3.1", "Near it: llama3.1"),
        ("appache-2.0", "Near it: apache-2.0"),
        ("mit or apache-2.0", "Choose"),
        ("gpl-2.0 with classpath-exception-2.0", "Choose"),
        ("(mit", "--license apache-2.0"),
        ("mit AND nothing-like-it", "--license apache-2.0"),
        ("mit\n---\n", "--license apache-2.0"),
    ],
)
def test_a_licence_that_does_not_exist_is_refused_with_those_near_it(license: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        canonical(license)
    assert hint in str(caught.value)


def test_the_card_tells_what_the_model_asks(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", {"pairs": {"train": 1}})
    config = folder / "synthesizer_config.json"
    config.write_text(config.read_text().replace('"scripted"', '"org/model"'))
    text = write_card(folder, CardSettings(source_license="cc-by-4.0", model_license="llama3.1")).path.read_text()
    assert Card.parse(text).metadata["license"] == "cc-by-4.0"
    told = text.partition("## Licence\n")[2].partition("\n## ")[0]
    assert 'has a name that begins with "Llama"' in told.replace("\\", "") and "no legal advice" in told
    assert "Attribution: the source (cc-by-4.0) must be named." in told.replace("\\", "")
    check_folder_card(folder)
    text = write_card(folder, CardSettings(model_license="qwen-research")).path.read_text()
    assert Card.parse(text).metadata["license"] == "cc-by-nc-4.0" and "No commercial use" in text
    text = write_card(folder, CardSettings(license="mit")).path.read_text()
    assert Card.parse(text).metadata["license"] == "mit" and "from those of the parts follows cc-by-nc-4.0" in text
    with pytest.raises(ConfigError, match="is not known here|no licence identifier"):
        write_card(folder, CardSettings(license="my-own"))


def test_an_unknown_licence_of_the_model_is_asked_for(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", {"pairs": {"train": 1}})
    config = folder / "synthesizer_config.json"
    config.write_text(config.read_text().replace('"scripted"', '"org/model"'))
    with pytest.raises(ConfigError, match="that of the model is not known") as caught:
        write_card(folder, CardSettings(source_license="cc-by-4.0"))
    assert "--model-license" in str(caught.value)
    text = write_card(folder, CardSettings(license="cc-by-4.0", source_license="cc-by-4.0")).path.read_text()
    assert "what the licence of the model asks is not known here" in text


def test_a_licence_that_the_hub_does_not_take_is_other_there() -> None:
    assert not is_on_hub("qwen-research") and is_on_hub("gemma") and not is_on_hub("MIT-0")
    parts = corpus_parts({"model": "mined", "source": {}}, None, "qwen", None)
    assert [part.what for part in parts] == ["the source"] and combined(parts) == ("qwen",)
    assert Licence("a", also=("b",)).metadata() == {"license": ["a", "b"]}
    assert sentences((), ("mit",)) == []


def test_a_mixture_is_under_what_its_parts_ask(tmp_path: Path, tiny_llama: Path) -> None:
    made = corpus_folder(tmp_path / "made", {"default": {"train": 1}, "pairs": {"train": 1}})
    config = made / "synthesizer_config.json"
    config.write_text(config.read_text().replace('"scripted"', '"org/model"'))
    write_card(made, CardSettings(source_license="cc-by-4.0", model_license="llama3.1"))
    (tmp_path / "chat.jsonl").write_text('{"question": "What is it?", "response": "It is a test."}\n')
    parts = [
        MixturePart("augmented", open_texts(made), Kind.AUGMENTED, origin=str(made)),
        MixturePart("general", open_texts(tmp_path / "chat.jsonl"), Kind.GENERAL, origin=str(tmp_path / "chat.jsonl")),
    ]
    mix_folder(parts, tmp_path / "mixed", tokenizer=str(tiny_llama))
    told = json.loads((tmp_path / "mixed" / "synthesizer_config.json").read_text())["mix"]["sources"]
    assert told["augmented"]["license"] == "cc-by-4.0" and told["augmented"]["model_license"] == "llama3.1"
    assert told["general"]["source"] == "chat.jsonl" and len(told["general"]["revision"]) == 64
    with pytest.raises(
        ConfigError, match="the part general of the mixture is not known.*\n.*--part-license general=ID"
    ):
        write_card(tmp_path / "mixed")
    text = write_card(tmp_path / "mixed", CardSettings(part_licenses={"general": "cc-by-sa-4.0"})).path.read_text()
    assert Card.parse(text).metadata["license"] == "cc-by-sa-4.0" and "begins with" in text
    check_folder_card(tmp_path / "mixed")
