"""Recipes by name: files and folders here, repos on the loopback Hub, and what is said where there is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from loopback_hub.server import Hub

from hfsynth.core.errors import ConfigError, HubError
from hfsynth.core.recipes import hub_recipe, open_recipe
from hfsynth.synthesis.synthesizer import Synthesizer

RECIPE = {"model": "scripted", "shots": 3, "long_documents": "split", "sampling": {"max_tokens": 200}}
PUBLISHED = {**RECIPE, "source": {"location": "docs.jsonl"}, "hfsynth_version": "0.1.0", "render": {}, "mix": {}}
CALLS = """
import json, sys
from hfsynth.core.errors import HfsynthError
from hfsynth.core.recipes import hub_recipe
from hfsynth.synthesis.synthesizer import Synthesizer

def told(name, *revision):
    try:
        return hub_recipe(name, *revision)
    except HfsynthError as error:
        return [type(error).__name__, str(error)]

out = [told(*call) for call in json.loads(sys.argv[1])]
for name in sys.argv[2:]:
    synthesizer = Synthesizer.from_hub(name, engine="scripted", engine_args={"concurrency": 2}, text_column="body")
    out.append([synthesizer.config.to_dict(), synthesizer.engine_config.arguments, synthesizer.text_column])
print(json.dumps(out))
"""


def as_bytes(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode()


def called(hub: Hub, env: dict[str, str], calls: list[list[str]], *built: str) -> list[Any]:
    found: list[Any] = json.loads(hub.run([sys.executable, "-c", CALLS, json.dumps(calls), *built], env).stdout)
    return found


def test_a_repo_gives_its_recipe_and_the_transform_that_made_it(tmp_path: Path) -> None:
    with Hub() as hub:
        old = hub.commit("user/corpus", {"synthesizer_config.json": as_bytes({**PUBLISHED, "shots": 2})}).id
        hub.commit("user/corpus", {"synthesizer_config.json": as_bytes(PUBLISHED)})
        hub.commit("user/both", {"README.md": b"a dataset of the same name"})
        trained = {name: value for name, value in RECIPE.items() if name != "model"}
        hub.commit("user/both", {"synthesizer_config.json": as_bytes(trained)}, kind="model")
        calls = [["user/corpus"], [f"user/corpus@{old}"], ["user/corpus", old], ["user/both@main"]]
        env = hub.env(tmp_path)
        *found, built = called(hub, env, calls, "user/corpus")
        assert found[:3] == [RECIPE, {**RECIPE, "shots": 2}, {**RECIPE, "shots": 2}]
        assert found[3] == {**trained, "model": "user/both", "model_revision": "main"}
        config, engine_args, column = built
        assert (config["shots"], config["long_documents"], config["sampling"]["max_tokens"]) == (3, "skip", 200)
        assert (engine_args, column) == ({"concurrency": 2}, "body")
        asked = len(hub.requests)
        assert called(hub, {**env, "HF_HUB_OFFLINE": "1"}, [["user/corpus"]]) == [RECIPE]
        assert len(hub.requests) == asked


def test_what_keeps_a_recipe_from_being_had_is_said(tmp_path: Path) -> None:
    with Hub() as hub:
        hub.commit("user/plain", {"README.md": b"no recipe"})
        hub.commit("user/broken", {"synthesizer_config.json": b"[1]"})
        calls = [["user/nobody"], ["user/plain"], ["user/plain@v9"], ["user/broken"], ["user"], ["user/plain@a", "b"]]
        nobody, plain, revision, broken, name, twice = called(hub, hub.env(tmp_path), calls)
    assert nobody[0] == "HubError" and "no dataset or model on the Hub, named user/nobody" in nobody[1]
    assert plain[0] == "HubError" and "The dataset user/plain holds no synthesizer_config.json" in plain[1]
    assert revision[0] == "HubError" and "user/plain has no revision 'v9'" in revision[1]
    assert broken[0] == "ConfigError" and "must hold fields" in broken[1]
    assert name[0] == "HubError" and "USER/NAME" in name[1]
    assert twice[0] == "ConfigError" and "names another revision" in twice[1]


def test_the_command_line_runs_a_published_recipe(tmp_path: Path) -> None:
    source, out = tmp_path / "docs.jsonl", tmp_path / "corpus"
    source.write_text("".join(json.dumps({"text": f"Lighthouse {n} is tall."}) + "\n" for n in range(4)))
    with Hub() as hub:
        hub.commit("user/corpus", {"synthesizer_config.json": as_bytes(PUBLISHED)})
        command = [sys.executable, "-m", "hfsynth", "synthesize", str(source), str(out), "--recipe", "user/corpus"]
        hub.run([*command, "--engine", "scripted", "--seed", "7", "--workers", "0", "--quiet"], hub.env(tmp_path))
    made = json.loads((out / "synthesizer_config.json").read_text())
    assert (made["shots"], made["seed"], made["sampling"]["max_tokens"], made["long_documents"]) == (3, 7, 200, "split")


def test_a_file_goes_before_a_repo_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "recipe").write_text("model: scripted\nshots: 2\n")
    (tmp_path / "user" / "corpus").mkdir()
    (tmp_path / "user" / "corpus" / "synthesizer_config.json").write_text(json.dumps(PUBLISHED))
    assert open_recipe("user/recipe") == {"model": "scripted", "shots": 2}
    assert open_recipe("user/corpus") == RECIPE


@pytest.mark.parametrize("name", ["nowhere.yaml", "some/recipe.json", "/no/such/file", "a/b/c"])
def test_what_looks_like_a_file_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        open_recipe(name)


def test_without_a_network_a_repo_never_read_is_a_clear_error() -> None:
    for read in (open_recipe, hub_recipe, Synthesizer.from_hub):
        with pytest.raises(HubError, match="cannot be reached"):
            read("user/corpus")
