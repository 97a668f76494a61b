"""What the documentation shows is run, what it links to is there, and every public name is in it.

All blocks are run in one process, against the loopback Hub and the scripted engine; `test_readme` runs those of the
README with the real embedded model.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from conftest import _save_tokenizer
from loopback_hub.server import Hub
from pages import DOCS, ROOT, RUN, Block, anchors, blocks, links, name, pages

import hfsynth
from hfsynth.cli import app
from hfsynth.core import errors
from hfsynth.core.config import ENGINES, PROMPT_FORMATS
from hfsynth.quality.measures import MEASURES

OUTSIDE = [ROOT / file for file in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
OUTSIDE += [ROOT / "benchmarks" / "README.md", ROOT / "dataset_scripts" / "README.md"]
CLI = typer.main.get_command(app.app)
SHOWN = [block for page in (ROOT / "README.md", *pages()) for block in blocks(page)]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.mark.long
def test_what_the_pages_show_runs(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    _save_tokenizer(tmp_path / "tokenizer")
    raw = [json.loads(line)["text"] for line in (ROOT / "examples" / "corpus.jsonl").read_text("utf-8").splitlines()]
    with Hub() as hub:
        for split, texts in (("train", raw[:6]), ("validation", raw[6:8])):
            rows = "".join(json.dumps({"id": f"{split}-{n}", "text": text}) + "\n" for n, text in enumerate(texts))
            hub.commit("user/raw", {f"{split}.jsonl": rows.encode()})
        runner = [sys.executable, str(ROOT / "tests" / "scripts_pages.py"), str(tmp_path), str(tmp_path / "tokenizer")]
        search = os.pathsep.join([str(ROOT / "tests"), *sys.path])
        done = hub.run(runner, {**hub.env(tmp_path), "PYTHONPATH": search})
        outcomes = json.loads(done.stdout.splitlines()[-1])
        published = {repo for _, repo in hub.store.repos}
    failed = [f"{page}: {outcome}" for page, outcome in outcomes.items() if outcome]
    assert not failed, "\n\n".join(failed)
    assert len(outcomes) > len(pages()) / 2
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == {
        file.name for file in (DOCS / "pictures").glob("*.svg")
    }
    assert {"user/raw-instruct", "user/ten-minutes", "user/name", "user/recipe"} <= published


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    assert block.language in (*RUN, "text", "yaml"), "a block without a language is neither run nor shown in colour"
    for command in block.commands:
        words = command.split()
        assert words[0] in ("hfsynth", "make", "pip"), f"what is {words[0]}? The tests would not run it"
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)
        for extra in re.findall(r"hfsynth\[(\w+)\]", command):
            assert extra in PYPROJECT["project"]["optional-dependencies"]
    for call in block.calls:
        CLI.commands[call[0]].make_context(call[0], list(call[1:]), resilient_parsing=True)


@pytest.mark.parametrize("page", [*OUTSIDE, *pages()], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for address in links(page):
        if re.match(r"[a-z]+:", address):
            assert address.startswith("https://"), address
            continue
        path, _, anchor = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), f"{name(page)} links to {address}"
        assert not (page.is_relative_to(DOCS) and not target.is_relative_to(DOCS)), f"{address} is not on the site"
        assert not anchor or anchor in anchors(target), f"{name(page)} links to {address}"


def test_every_page_and_picture_has_its_place() -> None:
    assert sorted(pages()) == sorted(DOCS.rglob("*.md"))
    shown = {
        (page.parent / address).resolve()
        for page in pages()
        for address in links(page)
        if address.endswith(("svg", "png"))
    }
    drawn = {*DOCS.glob("pictures/*.svg"), *DOCS.glob("pictures/*.png")}
    assert shown == drawn and all(path.stat().st_size < 100_000 for path in drawn)


def test_every_public_name_is_described() -> None:
    described = re.findall(r"^::: hfsynth\.(\w+)$", (DOCS / "reference.md").read_text("utf-8"), flags=re.M)
    assert sorted(described) == sorted({*hfsynth.__all__, *hfsynth._HOMES})


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == hfsynth.__version__ and citation["license"] == PYPROJECT["project"]["license"]
    (paper,) = citation["references"]
    assert paper["url"] in (ROOT / "README.md").read_text("utf-8") and paper["title"].startswith("Instruction Pre-Tr")


def test_the_workflow_calls_the_commands_of_the_readme() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))
    ran = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    readme = next(block for block in blocks(ROOT / "README.md") if block.language == "sh")
    assert ran == [command.partition("#")[0].strip() for command in readme.commands]


def test_every_error_is_in_the_tree() -> None:
    (tree,) = (block.code for block in blocks(DOCS / "reference.md") if block.language == "text")
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.HfsynthError)]
    assert re.findall(r"\b\w+Error\b|EngineStopped", tree) == [kind.__name__ for kind in kinds]
    assert all(line in (errors.__doc__ or "") for line in tree.splitlines())


def test_every_measure_and_format_is_described() -> None:
    filters = (DOCS / "filters.md").read_text("utf-8")
    assert all(f"`{measure}`" in filters for measure in MEASURES)
    assert all(f"`{one}`" in (DOCS / "extend" / "prompt-format.md").read_text("utf-8") for one in PROMPT_FORMATS)
    assert len(ENGINES) == 3  # docs/extend/engine.md counts them
