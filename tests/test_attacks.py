"""The attack list: what hostile recipes, folders, sources and documents must not do. Add a row to extend it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub

from hfsynth.config import EngineConfig, SynthesizerConfig
from hfsynth.errors import ConfigError
from hfsynth.models import pinned
from hfsynth.recipes import MOST_BYTES, config_from, read_recipe

# --- recipes --------------------------------------------------------------------------------------------------------

SCRIPTS = ["yaml:unsafe_load", "subprocess:getoutput", "os:system", "evil:run", "builtins:exec", "evil", ""]
PATHS = ["/etc", "~/models/x", "../../x", "./model", "a/../../b", "file:///etc", "C:\\models", "x/..", "hf://u/m"]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)
HOSTILE_RECIPES = {
    "an alias bomb": f"model: m\n{BOMB}chat:\n  kinds: *j\n",
    "an anchor and one alias": "model: m\nkeep: &k ['grounding>0']\nchat: *k",
    "a merge key": "x: &x {model: m}\n<<: *x",
    "a number of 5,000 digits": json.dumps({"model": "m"})[:-1] + ', "seed": ' + "9" * 5000 + "}",
    "a number of 5,000 digits in YAML": "model: m\nseed: " + "9" * 5000,
    "a number in base 60": "model: m\nseed: " + ":".join(["59"] * 5000),
    "more shots than documents": '{"model": "m", "shots": 1000000000000000000000000000000}',
    "more tokens than there are": '{"model": "m", "sampling": {"max_tokens": 1e30}}',
    "a window without an end": '{"model": "m", "window": 1000000000000000000000000000000}',
    "a seed of 65 bits": '{"model": "m", "seed": 18446744073709551616}',
    "too many bytes": json.dumps({"model": "m", "keep": ["x" * MOST_BYTES]}),
    "a Python object": "model: !!python/object/apply:os.system ['true']",
    "an engine": '{"model": "m", "engine": "scripted"}',
    "engine arguments": '{"model": "m", "engine_args": {"x": 1}}',
    "code from a model's repo": '{"model": "m", "trust_remote_code": true}',
    "no number": '{"model": "m", "sampling": {"temperature": NaN}}',
    "nesting without an end": '{"model": "m", "chat": ' + "[" * 100_000,
    "a model that is no name": '{"model": ["os:system"]}',
}


def recipe(folder: Path, text: str) -> Path:
    path = folder / "synthesizer_config.json"
    path.write_text(text)
    return path


@pytest.mark.parametrize("attack", HOSTILE_RECIPES)
def test_a_hostile_recipe_is_refused_in_a_few_words(tmp_path: Path, attack: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from(read_recipe(recipe(tmp_path, HOSTILE_RECIPES[attack])), {})
    assert len(str(caught.value)) < 1000


def test_a_value_that_is_endless_is_shown_in_short() -> None:
    kinds: list[Any] = ["x"] * 10
    for _ in range(9):
        kinds = [kinds] * 9  # what the alias bomb makes: a few lists, and a thousand million items to show
    with pytest.raises(ConfigError, match="kinds must be") as caught:
        SynthesizerConfig.from_dict({"model": "m", "chat": {"kinds": kinds}})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("script", SCRIPTS[:-1])
def test_no_recipe_names_code(tmp_path: Path, script: str, published: bool) -> None:
    fields = read_recipe(recipe(tmp_path, json.dumps({"model": script})), published=published)
    for config in (config_from(fields, {}), SynthesizerConfig.from_dict(fields)):
        again = SynthesizerConfig.from_dict(config.to_dict())
        for way in (config, again):
            with pytest.raises(ConfigError, match="cannot choose the script") as caught:
                pinned(way, EngineConfig("scripted"))
            assert "--model" in caught.value.hint


@pytest.mark.parametrize("path", PATHS)
def test_a_published_recipe_names_no_file_of_this_machine(tmp_path: Path, path: str) -> None:
    fields = read_recipe(recipe(tmp_path, json.dumps({"model": path})), published=True)
    for engine in (EngineConfig("vllm"), EngineConfig("server")):
        with pytest.raises(ConfigError, match="file of somebody's machine"):
            pinned(config_from(fields, {}), engine)


def test_what_the_user_names_herself_is_taken(tmp_path: Path) -> None:
    fields = read_recipe(recipe(tmp_path, '{"model": "os:system"}'), published=True)
    mine = pinned(config_from(fields, {"model": "json:dumps"}), EngineConfig("scripted"))
    assert mine.model == "json:dumps"
    built_in = read_recipe(recipe(tmp_path, '{"model": "scripted"}'), published=True)
    settled = pinned(config_from(built_in, {}), EngineConfig("scripted"))
    assert type(settled.model) is str and settled == SynthesizerConfig("scripted")


PWN = 'import hfsynth, sys\nhfsynth.Synthesizer.from_hub(sys.argv[1], engine="scripted")([{"text": "x"}])'


def test_published_recipes_run_nothing_and_are_not_downloaded_whole(tmp_path: Path) -> None:
    """The reproduction: a document that a YAML loader runs, a module on the path, an alias bomb, a large recipe."""
    mark, source = tmp_path / "ran", tmp_path / "docs.jsonl"
    (tmp_path / "evilmod.py").write_text(f"open({str(mark)!r}, 'w')\n")
    source.write_text(json.dumps({"text": f'a: !!python/object/apply:os.system ["id > {mark}"]\nb: x'}) + "\n")
    with Hub() as hub:
        env = hub.env(tmp_path) | {"PYTHONPATH": str(tmp_path)}
        hub.commit("user/yaml", {"synthesizer_config.json": b'{"model": "yaml:unsafe_load"}'})
        hub.commit("user/cwd", {"synthesizer_config.json": b'{"model": "evilmod:run"}'})
        hub.commit("user/bomb", {"synthesizer_config.json": HOSTILE_RECIPES["an alias bomb"].encode()})
        hub.commit("user/large", {"synthesizer_config.json": b"#" * (MOST_BYTES + 1)})
        for name, said in {"yaml": "script", "bomb": "aliases", "large": "at most 1,000,000"}.items():
            command = [sys.executable, "-m", "hfsynth", "synthesize", str(source), str(tmp_path / "out")]
            done = hub.run([*command, "--recipe", f"user/{name}", "--engine", "scripted"], env, check=False)
            assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
        done = hub.run([sys.executable, "-c", PWN, "user/cwd"], env, check=False)
        assert done.returncode and "cannot choose the script" in done.stderr
        assert not hub.lines(r"^GET .*user/large/resolve")
    assert not mark.exists()
