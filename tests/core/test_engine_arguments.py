"""The table of engine arguments: whole, without doubles, and read as it is meant."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import pytest
import yaml

from hfsynth.core.config import EngineConfig
from hfsynth.core.engine_arguments import EngineArgument, engine_arguments
from hfsynth.core.errors import ConfigError


def test_every_argument_stands_in_the_table_once() -> None:
    groups = yaml.safe_load((files("hfsynth.core") / "engine_arguments.yaml").read_text("utf-8"))
    names = Counter(name for group in groups for name in group["arguments"])
    assert [name for name, times in names.items() if times > 1] == []
    assert set(engine_arguments()) == set(names)


def test_a_group_has_known_keys_and_says_why() -> None:
    for group in yaml.safe_load((files("hfsynth.core") / "engine_arguments.yaml").read_text("utf-8")):
        assert set(group) <= {"kind", "why", "instead", "unless", "arguments"}, group
        assert group["kind"] in ("result", "speed", "secret"), group
        assert group["why"], group
        assert not (group["kind"] == "speed" and "instead" in group), group
        assert not (group["kind"] == "result" and "unless" in group), group


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("dtype", "precision"),
        ("quantization", "precision"),
        ("quantization_config", "precision"),
        ("kv_cache_dtype", "precision"),
        ("max_model_len", "window"),
        ("revision", "model_revision"),
        ("enable_lora", "model"),
        ("spec_method", "speculative"),
        ("spec_model", "speculative"),
        ("spec_tokens", "speculative"),
        ("tokenizer_mode", None),
        ("model_impl", None),
        ("config_format", None),
        ("logits_processors", None),
        ("chat_template", None),
        ("reasoning_parser", None),
        ("structured_outputs_config", None),
        ("skip_tokenizer_init", None),
        ("watermark_config", None),
    ],
)
def test_what_changes_the_result_is_named_with_what_to_use_instead(name: str, instead: str | None) -> None:
    found = engine_arguments()[name]
    assert (found.kind, found.instead) == ("result", instead)
    assert found.decides_result(None)


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("max_num_seqs", 64, None),
        ("tensor_parallel_size", 2, None),
        ("enable_prefix_caching", False, None),
        ("load_format", "runai_streamer", None),
        ("load_format", "dummy", "dummy"),
        ("attention_config", {"backend": "FLASHINFER"}, None),
        ("attention_config", {"backend": "FLASHINFER", "use_prefill_query_quantization": True},
         "use_prefill_query_quantization"),
        ("speculative_config", {"method": "ngram", "num_speculative_tokens": 4}, None),
        ("speculative_config", {"method": "ngram", "rejection-sample-method": "fly"}, "rejection-sample-method"),
        ("model_loader_extra_config", {"enable_multithread_load": True}, None),
        ("model_loader_extra_config", {"tensorizer_uri": "s3://other"}, "tensorizer_uri"),
    ],
)  # fmt: skip
def test_a_part_of_what_decides_the_speed_may_decide_the_result(name: str, value: object, refused: str | None) -> None:
    found = engine_arguments()[name]
    assert found.kind == "speed"
    assert (found.refused(value), found.decides_result(value)) == (refused, refused is not None)


def test_a_value_that_is_no_text_is_compared_as_one() -> None:
    assert EngineArgument("level", "speed", "a test", unless=("3",)).refused(3) == "3"


def test_a_token_is_not_written_down_with_a_jobs_arguments() -> None:
    with pytest.raises(ConfigError, match="hf_token") as refused:
        EngineConfig("vllm", {"hf_token": "hf_abcdefgh"})
    assert "HF_TOKEN" in str(refused.value.hint) and "hf_abcdefgh" not in str(refused.value)
