"""A walk through the page in a real browser: rows, a chain, a trial, a running job, hostile texts, many rows.

Needs a Chromium on the PATH. With HFSYNTH_AXE (the file axe.min.js of axe-core) accessibility is looked at too;
HFSYNTH_SCREENSHOTS names a folder that keeps the pictures.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_corpora import HOSTILE, everything, large_corpus, opened

from hfsynth.core.config import SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.texts.calls import render

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.long, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")]
AXE = os.environ.get("HFSYNTH_AXE")
EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "corpus.jsonl"
VIEWS = ((1440, "light"), (390, "dark"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as library:
        made = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("demo") / "corpus"
    synthesize(Source(str(EXAMPLES)), root, SynthesizerConfig(model="scripted", shots=3), engine=ScriptedEngine())
    render(root, seed=0)
    with opened(str(root), "--engine", "scripted") as address:
        yield address


class Visit:
    """One visitor: the tab, what went wrong in it, and which hosts it asked."""

    def __init__(self, browser: Any, address: str, width: int = 1440, scheme: str = "light") -> None:  # noqa: ANN401
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.on("dialog", lambda dialog: self.faults.append("a dialog"))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2].split(":")[0]))
        self.page.goto(address)
        self.page.wait_for_selector("#hs-summary")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def has(self, place: str, text: str) -> None:
        """Wait until a place says something."""
        playwright.expect(self.page.locator(place)).to_contain_text(text, timeout=30_000)

    def choose(self, row: int) -> None:
        self.page.locator("#hs-rows label").nth(row).click()

    def keep(self, name: str) -> None:
        """Keep a picture where a folder for them is named."""
        if folder := os.environ.get("HFSYNTH_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_from_the_rows_to_a_chain_and_a_trial(browser: Any, demo: str) -> None:  # noqa: ANN401
    with Visit(browser, demo) as visit:
        page = visit.page
        visit.has("#hs-summary", "24")
        visit.choose(2)
        visit.has("#hs-document", "An octopus has three hearts")
        assert page.locator("#hs-document mark").count() > 0
        assert page.locator("#hs-chain li details").count() == 3
        page.locator("#hs-chain summary").first.click()
        visit.has("#hs-chain", "Fresnel")
        page.locator("#hs-rows input").nth(3).press("Space")
        visit.has("#hs-document", "Spencer Silver")
        page.get_by_role("button", name="Next", exact=True).click()
        visit.has("#hs-said", "rows 21 to 24 of 24")
        page.get_by_role("button", name="Previous", exact=True).click()
        visit.has("#hs-said", "rows 1 to 20 of 24")
        page.get_by_role("button", name="More filters").click()
        page.get_by_label("Its training text in the style").click()
        page.get_by_role("option", name="next turn").click()
        visit.has("#hs-chain", "of the style next turn")
        page.get_by_role("button", name="Its training text, and every style").click()
        visit.has("#hs-texts", "The training text of the corpus")
        visit.keep("style-1440")
        page.get_by_label("Its training text in the style").click()
        page.get_by_role("option", name="any", exact=True).click()
        page.get_by_label("Text in the document or a pair").fill("haemocyanin")
        page.keyboard.press("Enter")
        visit.has("#hs-said", "1 shown")
        visit.keep("row-1440")
        page.get_by_role("button", name="Try these documents").click()
        page.get_by_role("button", name="Write pairs").click()
        visit.has("#hs-trial", "Done.")
        page.get_by_text("The prompt as it was sent").first.click()
        visit.has("#hs-trial", "<CON>")
        visit.has("#hs-trial-texts", "inline few shot")
        visit.keep("try-1440")
        assert not visit.faults and visit.hosts == {"127.0.0.1"}


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_every_view_fits_and_can_be_used_by_everybody(browser: Any, demo: str, width: int, scheme: str) -> None:  # noqa: ANN401
    with Visit(browser, demo, width, scheme) as visit:
        page = visit.page
        for tab in ("Corpus", "Try", "Mix"):
            page.get_by_role("tab", name=tab).click()
            if tab == "Corpus":
                page.get_by_role("button", name="Figures, and what was lost").click()
                visit.has("#hs-plots", "Documents by what became of them")
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
            visit.keep(f"{tab.lower()}-{width}")
            if AXE:
                page.evaluate(Path(AXE).read_text("utf-8"))
                found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
                assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], tab


def test_hostile_texts_run_nothing_and_look_like_themselves(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    root = str(everything(tmp_path / "corpus"))
    with opened(root, "--engine", "scripted") as address, Visit(browser, address, 390) as visit:
        page = visit.page
        for number, text in enumerate(HOSTILE):
            visit.choose(6 + number)
            visit.has("#hs-document", f"doc-{6 + number}")
            if text.isascii():
                assert page.locator("#hs-document .hs-text").inner_text().strip() == text.strip()
            for hidden in page.locator("details:not([open]) > summary").all():
                if hidden.is_visible():
                    hidden.click()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), text[:40]
        visit.choose(5)
        visit.has("#hs-document", "doc-5")
        direction = "getComputedStyle(document.querySelector('#hs-document .hs-text')).direction"
        assert page.evaluate(direction) == "rtl"
        visit.keep("right-to-left-390")
        assert page.title().startswith("hfsynth") and page.locator("#taken").count() == 0
        page.get_by_role("tab", name="Try").click()
        page.get_by_label("Document", exact=True).fill(" ".join(HOSTILE[:4]))
        page.get_by_role("button", name="Write pairs").click()
        visit.has("#hs-trial", "Done.")
        assert page.title().startswith("hfsynth") and page.locator("#taken").count() == 0
        assert not visit.faults


def test_a_running_job_is_followed_to_its_end(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps({"text": f"Document {n} is about the tides."}) + "\n" for n in range(6)))
    root, recipe = tmp_path / "corpus", SynthesizerConfig(model="scripted")
    synthesize(Source(str(source)), root, recipe, engine=ScriptedEngine(), shard_rows=2, shards=(0, 1))
    with opened(str(root), "--engine", "scripted") as address, Visit(browser, address) as visit:
        visit.has("#hs-summary", "unfinished")
        visit.has("#hs-plots", "Documents by what became of them")
        visit.keep("running-1440")
        synthesize(Source(str(source)), root, recipe, engine=ScriptedEngine(), shard_rows=2)
        visit.has("#hs-summary", "finished")
        visit.has("#hs-said", "rows 1 to 6 of 6")
        assert not visit.faults


def test_ten_million_rows(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    root = large_corpus(tmp_path / "corpus", 10_000_000, files=100)
    with opened(str(root), "--engine", "scripted") as address, Visit(browser, address) as visit:
        visit.has("#hs-said", "of 10,000,000")
        visit.page.get_by_label("Status").click()
        visit.page.get_by_role("option", name="no_pairs").click()
        visit.has("#hs-said", "looked at rows 1 to 20,000 of 10,000,000")
        assert not visit.faults
