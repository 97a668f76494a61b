"""The pages that people read, taken apart: code blocks, links, headings.

A block that is not run says so in a comment above it: `<!-- not run: the reason -->`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RUN = ("python", "pycon", "sh", "console", "toml")

_NOT_RUN = re.compile(r"<!-- not run: (.+) -->\s*\Z")
_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A block of code: its language, and why it is not run (None where it is)."""

    page: str
    line: int
    language: str
    code: str
    not_run: str | None

    @property
    def commands(self) -> list[str]:
        """The lines that a shell would run, without prompts and comments."""
        lines = (line.removeprefix("$ ") for line in self.code.splitlines() if line.strip())
        return [line for line in lines if not line.startswith("#")] if self.language in ("sh", "console") else []

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every command of hfsynth."""
        split = (shlex.split(command, comments=True) for command in self.commands)
        return [words[1:] for words in split if words[0] == "hfsynth"]


def pages() -> list[Path]:
    """Return every page of the documentation, in the order of its navigation."""
    listed = re.findall(r"[\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), flags=re.M)
    return [DOCS / name for name in listed]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    found, before = [], ""
    for token in _MARKDOWN.parse(page.read_text("utf-8")):
        if token.type == "fence":
            reason = _NOT_RUN.search(before)
            line = (token.map or [0])[0] + 1
            found.append(Block(name(page), line, token.info.strip(), token.content, reason and reason.group(1)))
        before = token.content if token.type == "html_block" else ""
    return found


def links(page: Path) -> Iterator[str]:
    """Yield the addresses of a page's links and pictures."""
    for token in _inline(page):
        for attribute in ("href", "src"):
            if (address := token.attrGet(attribute)) is not None:
                yield str(address)


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as GitHub and MkDocs write them in links."""
    tokens = _MARKDOWN.parse(page.read_text("utf-8"))
    headings = [after.content for token, after in zip(tokens, tokens[1:], strict=False) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _inline(page: Path) -> Iterator[Token]:
    for token in _MARKDOWN.parse(page.read_text("utf-8")):
        yield from token.children or ()
