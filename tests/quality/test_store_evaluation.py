"""A corpus on an object store is measured where it lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import needs
from corpus_folders import corpus_folder, stored, upload
from typer.testing import CliRunner

from hfsynth.cli.app import app
from hfsynth.core.errors import OutputError
from hfsynth.quality.corpus_evaluation import evaluate_corpus, save_corpus_evaluation

pytestmark = needs("rensa", "py3langid")


def test_a_corpus_on_a_store_is_measured_as_the_same_folder_is(bucket: str, tmp_path: Path) -> None:
    folder, url = corpus_folder(tmp_path / "corpus", {"pairs": {"train": 3, "validation": 1}}), f"{bucket}/corpus"
    upload(folder, url)
    values = evaluate_corpus(url, sample=5)
    assert values == evaluate_corpus(folder, sample=5) and values["documents"] == 5
    save_corpus_evaluation(url, values)
    stats = json.loads(stored(url)["stats.json"])
    assert stats["evaluation"]["documents"] == 5 and stats["total_documents"] == 4
    with pytest.raises(OutputError, match=f"{url} has no pairs in split 'test'"):
        evaluate_corpus(url, split="test")
    with pytest.raises(OutputError, match=f"{bucket}/nothing holds no finished pairs"):
        evaluate_corpus(f"{bucket}/nothing")


def test_the_command_takes_an_address(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/corpus"
    upload(corpus_folder(tmp_path / "corpus", {"pairs": {"train": 1}}), url)
    ran = CliRunner().invoke(app, ["evaluate", url, "--quiet"])
    assert ran.exit_code == 0 and f"For its card: hfsynth card {url}" in ran.output
    assert json.loads(stored(url)["stats.json"])["evaluation"]["documents"] == 2
