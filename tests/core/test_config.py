"""Configs and recipes: what is impossible is refused, what is written is read back, engine flags stay outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hfsynth.core.config import ChatOptions, EngineConfig, Sampling, SynthesizerConfig, digest
from hfsynth.core.errors import ConfigError
from hfsynth.core.recipes import config_from, read_recipe

samplings = st.builds(
    Sampling,
    max_tokens=st.integers(1, 5000),
    temperature=st.floats(0, 5),
    top_p=st.floats(0, 1, exclude_min=True),
    repetition_penalty=st.floats(0, 5, exclude_min=True),
    frequency_penalty=st.floats(-2, 2),
)
kinds = st.lists(st.sampled_from(["free_form", "multiple_choice", "chain_of_thought"]), min_size=1, unique=True)
configs = st.builds(
    SynthesizerConfig,
    model=st.text(min_size=1).filter(str.strip),
    model_revision=st.none() | st.text(min_size=1),
    prompt_format=st.sampled_from(["instruction-pretrain", "chat"]),
    shots=st.integers(1, 64),
    seed=st.integers(-(2**63), 2**63),
    window=st.none() | st.integers(5001, 10**6),
    long_documents=st.sampled_from(["skip", "truncate", "split"]),
    sampling=samplings,
    chat=st.builds(ChatOptions, max_pairs=st.integers(1, 50), kinds=kinds.map(tuple)),
)


@given(configs)
def test_a_config_survives_json(config: SynthesizerConfig) -> None:
    assert SynthesizerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs, st.booleans())
def test_a_config_survives_a_recipe_file(
    tmp_path_factory: pytest.TempPathFactory, config: SynthesizerConfig, as_yaml: bool
) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe"
    values = config.to_dict()
    path.write_text(yaml.safe_dump(values) if as_yaml else json.dumps(values, indent="\t"), "utf-8")
    assert config_from(read_recipe(path), {}) == config


def test_defaults_are_those_of_the_published_corpora() -> None:
    config = SynthesizerConfig("m")
    assert (config.sampling.max_tokens, config.sampling.temperature) == (400, 0.0)
    assert (config.prompt_format, config.shots, config.window) == ("instruction-pretrain", 1, None)


def test_whole_numbers_and_fractions_name_the_same_sampling() -> None:
    whole = SynthesizerConfig.from_dict({"model": "m", "sampling": {"temperature": 0, "top_p": 1}})
    assert json.dumps(whole.to_dict()) == json.dumps(SynthesizerConfig("m").to_dict())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model": ""}, "model"),
        ({"model": " "}, "model"),
        ({"model": 7}, "model"),
        ({"model_revision": 1234567}, "model_revision"),
        ({"model_revision": ""}, "model_revision"),
        ({"shots": 0}, "shots"),
        ({"shots": True}, "shots"),
        ({"shots": 2.0}, "shots"),
        ({"seed": "0"}, "seed"),
        ({"window": 1}, "window"),
        ({"window": 400}, "max_tokens"),
        ({"prompt_format": "alpaca"}, "prompt_format"),
        ({"prompt_format": ["chat"]}, "prompt_format"),
        ({"long_documents": None}, "long_documents"),
        ({"format_version": 999}, "format_version"),
        ({"sampling": None}, "sampling"),
        ({"sampling": {"max_tokens": 0}}, "max_tokens"),
        ({"sampling": {"temperature": float("nan")}}, "temperature"),
        ({"sampling": {"temperature": "hot"}}, "temperature"),
        ({"sampling": {"top_p": 0}}, "top_p"),
        ({"sampling": {"repetition_penalty": 0}}, "repetition_penalty"),
        ({"sampling": {"frequency_penalty": 2.1}}, "frequency_penalty"),
        ({"sampling": {"best_of": 2}}, "best_of"),
        ({"chat": []}, "chat"),
        ({"chat": {"max_pairs": 0}}, "max_pairs"),
        ({"chat": {"kinds": []}}, "kinds"),
        ({"chat": {"kinds": ["essay"]}}, "kinds"),
        ({"chat": {"kinds": "chain_of_thought"}}, "kinds"),
        ({"chat": {"kinds": 5}}, "kinds"),
        ({"chat": {"kinds": [["free_form"]]}}, "kinds"),
        ({"batch_size": 8}, "batch_size"),
    ],
)
def test_impossible_values_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SynthesizerConfig.from_dict({"model": "m", **values})


@pytest.mark.parametrize("name", ["sampling", "chat"])
def test_a_plain_mapping_is_no_part_of_a_config(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        SynthesizerConfig("m", **{name: {}})


def test_kinds_may_be_given_as_a_list() -> None:
    assert ChatOptions(kinds=["free_form"]) == ChatOptions(kinds=("free_form",))
    assert hash(SynthesizerConfig("m", chat=ChatOptions(kinds=["free_form"])))


def test_a_recipe_without_a_model_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="names no model") as caught:
        SynthesizerConfig.from_dict({})
    assert "--model" in caught.value.hint


# --- engines --------------------------------------------------------------------------------------------------------


def test_engine_arguments_are_equal_whatever_their_order() -> None:
    one = EngineConfig("scripted", {"b": [1], "a": {"y": 1, "x": None}})
    other = EngineConfig("scripted", {"a": {"x": None, "y": 1}, "b": [1]})
    assert one == other
    assert hash(one) == hash(other)
    assert one.arguments == {"a": {"x": None, "y": 1}, "b": [1]}


@pytest.mark.parametrize("name", ["max_model_len", "model", "revision", "trust_remote_code", "seed"])
def test_an_argument_that_changes_the_result_is_no_engine_argument(name: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        EngineConfig("vllm", {name: 1})
    assert "--" in caught.value.hint


def test_an_engine_argument_must_be_a_plain_value() -> None:
    with pytest.raises(ConfigError, match="dtype"):
        EngineConfig("vllm", {"dtype": object()})


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match="engine"):
        EngineConfig("llama.cpp")


def test_a_digest_depends_on_values_alone() -> None:
    assert digest({"a": 1, "b": "ü"}) == digest({"b": "ü", "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": "\ud800"})


# --- recipes --------------------------------------------------------------------------------------------------------


def test_settings_are_laid_over_a_recipe() -> None:
    recipe = {"model": "m", "shots": 3, "sampling": {"temperature": 0.5}}
    config = config_from(recipe, {"shots": 2, "seed": None, "sampling.max_tokens": 100, "chat.max_pairs": 2})
    assert (config.shots, config.seed, config.sampling) == (2, 0, Sampling(max_tokens=100, temperature=0.5))
    assert config.chat.max_pairs == 2
    assert recipe == {"model": "m", "shots": 3, "sampling": {"temperature": 0.5}}


@pytest.mark.parametrize(("model", "revision"), [("other", None), ("m", "abc"), (None, "abc")])
def test_another_model_drops_the_recipes_revision(model: str | None, revision: str | None) -> None:
    config = config_from({"model": "m", "model_revision": "abc"}, {"model": model})
    assert config.model_revision == revision


def test_a_published_config_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "synthesizer_config.json"
    published = {**SynthesizerConfig("m").to_dict(), "source": {"path": "x"}, "hfsynth_version": "0.1.0"}
    path.write_text(json.dumps(published))
    assert config_from(read_recipe(path), {}) == SynthesizerConfig("m")


@pytest.mark.parametrize("number", ["1e-05", "1E-5"])
def test_small_numbers_in_json_are_numbers(tmp_path: Path, number: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(f'{{"model": "m", "sampling": {{"temperature": {number}}}}}')
    assert config_from(read_recipe(path), {}).sampling.temperature == 1e-5


@pytest.mark.parametrize(
    "content",
    [b"", b"- a\n- b\n", b"model: [", b"\xff\xfe\x00", b"just words", b"[" * 100_000, b"a: !!python/name:os.system x"],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="recipe"):
        read_recipe(path)


def test_a_missing_recipe_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_recipe(path)


def test_a_part_of_a_recipe_must_be_a_mapping() -> None:
    with pytest.raises(ConfigError, match="sampling"):
        config_from({"model": "m", "sampling": 3}, {"sampling.max_tokens": 5})
