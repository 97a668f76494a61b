"""A walk through the page in a real browser: rows, a chain, a trial, a running job, hostile texts, many rows.

Needs a Chromium on the PATH. With HFSYNTH_AXE (the file axe.min.js of axe-core) accessibility is looked at too;
HFSYNTH_SCREENSHOTS names a folder that keeps the pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_corpora import HOSTILE, everything, large_corpus, let, opened, slow_job

from hfsynth.core.config import SynthesizerConfig
from hfsynth.documents.source import Source
from hfsynth.engine.scripted import ScriptedEngine
from hfsynth.job.run import synthesize
from hfsynth.texts.calls import render

pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
from page_visits import CHROMIUM, Visit, browsing, expect  # noqa: E402 - it needs both

pytestmark = [pytest.mark.long, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")]
EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "corpus.jsonl"
VIEWS = ((1440, "light"), (390, "dark"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as made:
        yield made


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("demo") / "corpus"
    synthesize(Source(str(EXAMPLES)), root, SynthesizerConfig(model="scripted", shots=3), engine=ScriptedEngine())
    render(root, seed=0)
    with opened(str(root), "--engine", "scripted") as address:
        yield address


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
            visit.accessible(tab)


def test_a_row_and_its_chain_without_a_mouse(browser: Any, demo: str) -> None:  # noqa: ANN401
    with Visit(browser, demo) as visit:
        page = visit.page
        visit.has("#hs-chain", "Row 1")  # the chain of a row is there at first sight
        assert page.locator("#hs-chain details").count() == 3
        visit.focus("button", "Figures, and what was lost")
        page.keyboard.press("Enter")
        visit.has("#hs-plots", "Training texts by style")
        page.locator("#hs-rows input:checked").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        visit.has("#hs-document", "potato")
        visit.focus("button", "Try these documents")
        page.keyboard.press("Enter")
        expect(page.get_by_role("tab", name="Try")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_label("Document", exact=True)).to_have_value(re.compile("lighthouse"))
        page.get_by_role("tab", name="Try").focus()
        visit.focus("button", "Write pairs")
        page.keyboard.press("Enter")
        visit.has("#hs-trial", "Done.")
        visit.accessible("a trial")
        assert not visit.faults


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


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_a_running_job_is_followed_to_its_end(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:  # noqa: ANN401
    with (
        slow_job(tmp_path / "corpus", documents=60, shard_rows=20, latency=0.1, up_to=30) as root,
        opened(str(root), "--engine", "scripted") as address,
        Visit(browser, address, width, scheme) as visit,
    ):
        page = visit.page
        visit.has("#hs-summary", "running")
        visit.has("#hs-said", "rows under way, the newest first")
        visit.has("#hs-document", "is about the tides")
        visit.has("#hs-plots", "Documents by what became of them")
        parts = {name: page.locator(name) for name in ("#hs-said", "#hs-document", "#hs-plots table >> nth=0")}
        page.wait_for_timeout(5000)  # the job waits
        before = {name: part.inner_text() for name, part in parts.items()}
        let(root, 38)
        for name, part in parts.items():
            expect(part).not_to_have_text(before[name], timeout=30_000, use_inner_text=True)
        page.locator("#hs-rows input").nth(2).press("Space")
        expect(page.get_by_label("Follow the newest rows")).not_to_be_checked()
        visit.has("#hs-chain", "after the shot before")
        page.wait_for_timeout(2000)
        document = page.locator("#hs-document .hs-facts")  # beside it there is a clock while the page asks
        chosen, counted = document.inner_text(), parts["#hs-plots table >> nth=0"].inner_text()
        visit.keep(f"running-{width}")
        visit.accessible("a running job")
        let(root, 50)
        expect(parts["#hs-plots table >> nth=0"]).not_to_have_text(counted, timeout=30_000, use_inner_text=True)
        page.wait_for_timeout(2000)
        assert document.inner_text() == chosen
        page.get_by_label("Rows of").click()
        page.get_by_role("option", name="finished shards").click()
        visit.has("#hs-said", "looked at rows 1 to 20 of 40")
        let(root, 60)
        visit.has("#hs-summary", "finished")
        visit.has("#hs-said", "rows 1 to 20 of 60")
        assert not visit.faults


def test_ten_million_rows(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    root = large_corpus(tmp_path / "corpus", 10_000_000, files=100)
    with opened(str(root), "--engine", "scripted") as address, Visit(browser, address) as visit:
        visit.has("#hs-said", "of 10,000,000")
        visit.page.get_by_label("Status").click()
        visit.page.get_by_role("option", name="no_pairs").click()
        visit.has("#hs-said", "looked at rows 1 to 20,000 of 10,000,000")
        assert not visit.faults
