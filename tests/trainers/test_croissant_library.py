"""Croissant's own library finds nothing wrong with a corpus's description, and reads its rows by it.

What it requires has no wheel, so it is in no lock: `make trainers TRAINERS=croissant` makes it an environment.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from corpus_folders import corpus_folder

from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.prepare import write_card

PLACE = Path(os.environ.get("HFSYNTH_TRAINERS", Path(__file__).parents[2] / "build" / "trainers"))
PYTHON = PLACE / "croissant" / "bin" / "python"
SHAPE = {"default": {"train": 2, "validation": 1}, "pairs": {"train": 2}}
STEPS = {
    "render": {"seed": 3, "styles": {"classic": 1.0}, "tokenizer": None},
    "verify": {"judge": {"model": "org/judge", "model_revision": "77"}, "keep": ["accuracy>=0.5"], "seed": 0},
    "screen": [{"measure": "identifiers", "mode": "mark"}],
}
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="mlcroissant is not there: make trainers TRAINERS=croissant"
)


@pytest.mark.parametrize("repo", ["user/corpus", None])
def test_croissants_own_library_finds_nothing_wrong_and_reads_the_rows(tmp_path: Path, repo: str | None) -> None:
    folder = corpus_folder(tmp_path / "corpus", SHAPE)
    path = folder / "synthesizer_config.json"
    config = json.loads(path.read_text())
    source = {**config["source"], "location": "org/source", "revision": "abc123"}
    path.write_text(json.dumps({**config, "model": "org/model", "model_revision": "42", "source": source, **STEPS}))
    write_card(folder, CardSettings(license="cc-by-4.0", language=("en",), repo=repo, creator="Ada"))
    found = read(folder / "croissant.json", *(() if repo else ("default", "pairs")))  # a repo's rows would be fetched
    assert not found["errors"]
    assert {"version" in warning for warning in found["warnings"]} <= {repo is not None, True}
    if repo is None:
        texts = [row["default/text"] for row in found["rows"]["default"]]
        assert len(texts) == 6 and texts[0] == "one default train 0 0"
        (pair,) = found["rows"]["pairs"][0]["pairs/pairs"]
        assert pair["pairs/pairs/instruction"] == "What?"


def test_it_tells_what_is_no_description(tmp_path: Path) -> None:
    (tmp_path / "croissant.json").write_text(json.dumps({"@type": "sc:Dataset", "name": "nothing"}))
    with pytest.raises(subprocess.CalledProcessError):
        read(tmp_path / "croissant.json")


def read(description: Path, *names: str) -> dict[str, Any]:
    """Return what the library says of a description, and the rows that it reads."""
    program = Path(__file__).with_name("read_croissant.py")
    ran = subprocess.run([PYTHON, program, description, *names], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told
