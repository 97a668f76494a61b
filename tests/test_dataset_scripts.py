"""Each recipe as it is run: a real process on tiny data, against the loopback Hub, and its result loaded afresh."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_hub.server import Hub

import hfsynth
from hfsynth.version import __version__

FOLDER = Path(__file__).parent.parent / "dataset_scripts"
SCRIPTS = sorted(FOLDER.glob("*.py"))
RAW = [f"Lighthouse {n} was lit every evening. Its keeper wrote down the weather of day {n}." for n in range(20)]
SCRIPTED = ("--model", "scripted", "--engine", "scripted", "--license", "cc-by-4.0", "--language", "en")
LOAD = """
import json, sys
from datasets import load_dataset
repo, *configs = sys.argv[1:]
print(json.dumps({config: load_dataset(repo, config, split="train").to_list() for config in configs}))
"""

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(scope="module")
def general(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Publish user/general once, and return the arguments that did."""
    folder = tmp_path_factory.mktemp("general")
    raw = jsonl(folder / "raw.jsonl", [{"text": text} for text in RAW])
    arguments = [raw, "user/general", *SCRIPTED, "--folder", folder / "corpus"]
    run(hub, folder, "general_corpus", *arguments)
    return arguments


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "raw.jsonl", [{"text": text} for text in RAW])


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def run(
    hub: Hub, tmp_path: Path, script: str, *arguments: object, check: bool = True
) -> subprocess.CompletedProcess[str]:
    folder = () if "--folder" in arguments else ("--folder", tmp_path / "corpus")
    argv = [sys.executable, FOLDER / f"{script}.py", *arguments, *folder]
    return hub.run([str(one) for one in argv], hub.env(tmp_path), check=check)


def loaded(hub: Hub, tmp_path: Path, repo: str, *configs: str) -> dict[str, Rows]:
    done = hub.run([sys.executable, "-c", LOAD, repo, *configs], hub.env(tmp_path))
    rows: dict[str, Rows] = json.loads(done.stdout.splitlines()[-1])
    return rows


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_says_what_it_needs_and_how_to_run_it(script: Path) -> None:
    text = script.read_text("utf-8")
    blocks = re.findall(r"(?m)^# /// script$\n((?:^#(?: .*)?$\n)+)^# ///$", text)
    assert len(blocks) == 1
    metadata = tomllib.loads("".join(line[2:] + "\n" for line in blocks[0].splitlines()))
    assert metadata["requires-python"] == ">=3.11"
    assert any(re.fullmatch(rf"hfsynth(\[.+\])?=={re.escape(__version__)}", one) for one in metadata["dependencies"])
    doc = ast.get_docstring(ast.parse(text)) or ""
    for start in ("uv run ", "hf jobs uv run "):
        assert re.search(rf"(?m)^\s*{start}.*dataset_scripts/{script.name}", doc), f"no line `{start}…`"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_uses_public_names_alone(script: Path) -> None:
    tree = ast.parse(script.read_text("utf-8"))
    imported = [one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names]
    taken_from = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in (*imported, *taken_from) if name.startswith("hfsynth.")]
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    names = {node.attr for node in attributes if ast.unparse(node.value) == "hfsynth"}
    assert names and names <= set(hfsynth._HOMES)


def test_an_option_that_scripts_do_not_share_is_refused() -> None:
    with pytest.raises(hfsynth.HfsynthError, match="share no option 'colour'"):
        hfsynth.script_parser("A recipe.", "colour", input="texts")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_readme_lists_a_script(script: Path) -> None:
    assert f"[{script.name}]({script.name})" in (FOLDER / "README.md").read_text("utf-8")


def test_a_general_corpus_holds_every_text_once_a_fifth_of_them_converted(
    hub: Hub, tmp_path: Path, general: list[object]
) -> None:
    found = loaded(hub, tmp_path, "user/general", "default", "pairs")
    assert [row["text"] for row in found["pairs"]] == RAW[:4]
    assert [row["synthesis"]["shot"] for row in found["pairs"]] == [0, 1, 0, 1]
    sources = [row["source"] for row in found["default"]]
    assert (sources.count("augmented"), sources.count("raw")) == (2, 16)
    assert sorted(row["text"] for row in found["default"] if row["source"] == "raw") == sorted(RAW[4:])
    augmented = [row["text"] for row in found["default"] if row["source"] == "augmented"]
    assert all(any(text in one for one in augmented) for text in RAW[:4])
    assert all(row["pairs"][0]["response"] in "\n".join(augmented) for row in found["pairs"])


def test_the_same_command_again_changes_nothing(hub: Hub, tmp_path: Path, general: list[object]) -> None:
    run(hub, tmp_path, "general_corpus", *general)
    assert hub.commits("user/general") == 1


def test_too_few_texts_to_leave_any_unchanged_are_refused(hub: Hub, tmp_path: Path) -> None:
    short = jsonl(tmp_path / "short.jsonl", [{"text": "One."}, {"text": "Two."}])
    done = run(hub, tmp_path, "general_corpus", short, "user/general", *SCRIPTED, check=False)
    assert done.returncode == 1 and "has 2 rows" in done.stderr and "Traceback" not in done.stderr


def test_a_domain_corpus_is_half_general_instructions(hub: Hub, tmp_path: Path, raw: Path) -> None:
    rows = [{"system_prompt": "Be brief.", "question": f"What is {n} + 1?", "response": f"{n + 1}"} for n in range(400)]
    general = jsonl(tmp_path / "general.jsonl", rows)
    run(hub, tmp_path, "domain_corpus", raw, "user/domain", "--general", general, *SCRIPTED)
    found = loaded(hub, tmp_path, "user/domain", "default", "pairs")
    assert [row["text"] for row in found["pairs"]] == RAW
    assert [row["synthesis"]["shot"] for row in found["pairs"]][:6] == [0, 1, 2, 0, 1, 2]
    tokens = {
        source: sum(row["tokens"] for row in found["default"] if row["source"] == source)
        for source in ("augmented", "general")
    }
    longest = max(row["tokens"] for row in found["default"])
    assert min(tokens.values()) > 0 and abs(tokens["augmented"] - tokens["general"]) <= longest
    instructions = {f"What is {n} + 1? {n + 1}" for n in range(400)}
    assert {row["text"] for row in found["default"] if row["source"] == "general"} <= instructions


def test_a_published_recipe_runs_on_new_text(hub: Hub, tmp_path: Path, general: list[object]) -> None:
    new = jsonl(tmp_path / "new.jsonl", [{"text": f"Potato {n} was grown in the Andes."} for n in range(3)])
    options = ("--engine", "scripted", "--license", "mit", "--language", "en")
    run(hub, tmp_path, "rerun_recipe", new, "user/again", "--recipe", "user/general", *options)
    found = loaded(hub, tmp_path, "user/again", "default", "pairs")
    assert [row["text"] for row in found["pairs"]] == [f"Potato {n} was grown in the Andes." for n in range(3)]
    assert [row["synthesis"]["shot"] for row in found["pairs"]] == [0, 1, 0]
    first, again = (json.loads(hub.files(repo)["synthesizer_config.json"]) for repo in ("user/general", "user/again"))
    applied = {"source", "render", "mix", "hfsynth_version"}
    assert {k: v for k, v in first.items() if k not in applied} == {k: v for k, v in again.items() if k not in applied}
    assert len(found["default"]) == 2


def put(hub: Hub, name: str, shards: dict[str, list[Any]]) -> None:
    """Publish shards as the authors of the paper have: one JSON value a line, and lists of the shards beside them."""
    files = {path: "".join(json.dumps(row) + "\n" for row in rows).encode() for path, rows in shards.items()}
    listing = [{"source": list(shards), "source_lang": "en", "weight": 1.0}]
    hub.commit(name, {**files, "json/train.json": json.dumps(listing).encode()})


CONVERT = ("--license", "odc-by", "--language", "en")


def test_published_training_texts_become_the_default_config(hub: Hub, tmp_path: Path) -> None:
    put(
        hub,
        "authors/general",
        {
            "part-0/shard/00000.txt": ["Tides rise.\nWhat rises? Tides.", ["In two", "pieces."]],
            "part-1/shard/00000.jsonl": [{"text": "An object."}, {"text": ["Its", "pieces."]}, {"text": " "}],
        },
    )
    arguments = ("authors/general", "user/texts", *CONVERT)
    run(hub, tmp_path, "convert_published_corpora", *arguments, "--limit", 1)
    assert len(loaded(hub, tmp_path, "user/texts", "default")["default"]) == 1
    run(hub, tmp_path, "convert_published_corpora", *arguments)
    found = loaded(hub, tmp_path, "user/texts", "default")["default"]
    assert sorted((row["source"], row["text"]) for row in found) == [
        ("part-0", "In two\npieces."),
        ("part-0", "Tides rise.\nWhat rises? Tides."),
        ("part-1", "An object."),
        ("part-1", "Its\npieces."),
    ]


SQUAD = {
    "context": "Insulin lowers the sugar in the blood.",
    "QA_list": [{"Q": "What does insulin lower?", "A": "Sugar."}, {"Q": "Where?", "A": "In the blood."}],
    "QA_type": "free-form completion",
    "rc_name": "squad",
}


def test_the_tuning_collection_becomes_pairs_and_texts(hub: Hub, tmp_path: Path) -> None:
    race = {**SQUAD, "context": "A bond is a loan.", "QA_list": [{"Q": "A bond?", "A": "A loan."}], "rc_name": "race"}
    put(hub, "authors/ft", {"squad/shard/00000.jsonl": [SQUAD], "race/shard/00000.jsonl": [race]})
    run(hub, tmp_path, "convert_published_corpora", "authors/ft", "user/collection", *CONVERT)
    found = loaded(hub, tmp_path, "user/collection", "default", "pairs")
    assert {row["source"]: (row["text"], row["task"], row["pairs"]) for row in found["pairs"]} == {
        row["rc_name"]: (
            row["context"],
            row["QA_type"],
            [{"instruction": qa["Q"], "response": qa["A"]} for qa in row["QA_list"]],
        )
        for row in (SQUAD, race)
    }
    card = hub.files("user/collection")["README.md"].decode()
    assert "source_datasets:\n- authors/ft\n" in card and "converted from [authors/ft](" in card
    texts = [row["text"] for row in found["default"]]
    assert len(texts) == 2
    assert any("Insulin lowers" in text and "Sugar" in text and "In the blood" in text for text in texts)


def test_what_would_be_lost_in_converting_is_refused(hub: Hub, tmp_path: Path) -> None:
    row = {**SQUAD, "QA_list": [{"Q": "Which?", "A": "b", "options": ["a", "b"]}]}
    jsonl(tmp_path / "ft" / "squad" / "shard" / "00000.jsonl", [SQUAD, row])
    arguments = (tmp_path / "ft", "user/refused", *CONVERT)
    done = run(hub, tmp_path, "convert_published_corpora", *arguments, check=False)
    assert done.returncode == 1 and "squad/shard/00000.jsonl, line 2" in done.stderr
    assert "not Q and A alone" in done.stderr and "Traceback" not in done.stderr
    assert not hub.lines("user/refused")


def test_scripts_run_as_jobs_of_the_hub_with_a_bucket_as_folder(tmp_path: Path, bucket: str) -> None:
    rows = "".join(json.dumps({"text": text}) + "\n" for text in RAW)
    keys = [word for name in os.environ if name.startswith("AWS_") for word in ("--secrets", name)]
    asked = ["jobs", "uv", "run", "--flavor", "cpu-basic", "--timeout", "10m", "--secrets", "HF_TOKEN", *keys]
    with Hub(xet=True) as hub:  # the scripts go through a bucket of the Hub, which is filled by Xet
        hub.commit("user/raw", {"train.jsonl": rows.encode()})
        environment = {**hub.env(tmp_path), "HF_HUB_DISABLE_EXPERIMENTAL_WARNING": "1"}

        def job(script: str, *options: str) -> None:
            call = [str(FOLDER / f"{script}.py"), "user/raw", f"user/{script}", "--folder", f"{bucket}/{script}"]
            hub.run([sys.executable, "-m", "huggingface_hub.cli.hf", *asked, *call, *options], environment)
            assert hub.jobs.all[-1].stage == "COMPLETED", hub.jobs.all[-1].log.read_text()

        job("general_corpus", *SCRIPTED)
        found = loaded(hub, tmp_path, "user/general_corpus", "default", "pairs")
        assert [row["text"] for row in found["pairs"]] == RAW[:4] and len(found["default"]) == 18
        commits = hub.commits("user/general_corpus")
        job("general_corpus", *SCRIPTED)
        assert hub.commits("user/general_corpus") == commits, "another machine found it finished"
        job("rerun_recipe", "--recipe", "user/general_corpus", *SCRIPTED[2:])
        assert [row["text"] for row in loaded(hub, tmp_path, "user/rerun_recipe", "pairs")["pairs"]] == RAW
        assert all("HF_TOKEN" in one.spec["secrets"] for one in hub.jobs.all) and not list(tmp_path.glob("*_corpus"))
