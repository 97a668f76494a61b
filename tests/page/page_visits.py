"""Visits of the page in a real browser. Needs Playwright, and a Chromium on the PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import expect, sync_playwright

__all__ = ["CHROMIUM", "Visit", "browsing", "expect"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def browsing() -> Iterator[Any]:
    """Lend a browser."""
    with sync_playwright() as library:
        made = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


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

    def has(self, place: str, text: str, seconds: float = 30) -> None:
        """Wait until a place says something."""
        expect(self.page.locator(place)).to_contain_text(text, timeout=1000 * seconds)

    def choose(self, row: int) -> None:
        self.page.locator("#hs-rows label").nth(row).click()

    def accessible(self, what: str) -> None:
        """Look for serious faults of accessibility, where axe-core is named by HFSYNTH_AXE."""
        if path := os.environ.get("HFSYNTH_AXE"):
            self.page.evaluate(Path(path).read_text("utf-8"))
            found = self.page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], what

    def focus(self, role: str, name: str, most: int = 60) -> None:
        """Press Tab until something is focused, as somebody without a mouse does."""
        told = "[document.activeElement.getAttribute('role') ?? document.activeElement.localName, "
        told += "(document.activeElement.ariaLabel || document.activeElement.innerText || '').trim()]"
        for _ in range(most):
            self.page.keyboard.press("Tab")
            own, text = self.page.evaluate(told)
            if own == role and text.startswith(name):
                return
        raise AssertionError(f"no {role} {name} is reached by Tab")

    def keep(self, name: str) -> None:
        """Keep a picture where a folder for them is named."""
        if folder := os.environ.get("HFSYNTH_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=f"{folder}/{name}.png", full_page=True)
