"""Photograph the page for the documentation: `python docs/pictures/photograph.py [FOLDER]`.

Needs a Chromium on the PATH. It shows the example corpus with pairs that rules have mined, so that no model is needed.
Pictures of a browser differ from machine to machine by their fonts.
"""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

import hfsynth

FOLDER = Path(__file__).parent
EXAMPLE = FOLDER.parent.parent / "examples" / "corpus.jsonl"
WIDTH, HEIGHT = 1440, 1000
COLOURS = 48


def main() -> None:
    into = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "corpus"
        hfsynth.synthesize(hfsynth.Source(str(EXAMPLE)), made, hfsynth.SynthesizerConfig(model="mined"))
        hfsynth.render(made)
        command = [sys.executable, "-m", "hfsynth", "page", "corpus", "--model", "mined"]
        process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            photograph(process.stdout.readline().strip(), into)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def photograph(address: str, into: Path) -> None:
    """Write the pictures of the page at an address."""
    with sync_playwright() as library:
        browser = library.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        page.wait_for_selector("#hs-document")
        page.locator("#hs-rows label").nth(5).click()
        take(page, into / "page-corpus.png")
        page.get_by_role("button", name="Try these documents").click()
        page.get_by_role("button", name="Write pairs").click()
        page.get_by_text("Done.").wait_for()
        take(page, into / "page-try.png")
        browser.close()


def take(page: Page, path: Path) -> None:
    """Write a picture of what is seen when everything has come to rest."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    page.evaluate("document.querySelectorAll('*').forEach(one => one.scrollTop = 0)")
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main()
