"""How tokens and keys look: the kinds of secrets in `secrets.toml`, ready to be looked for. Knows nothing of files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

_WORD = re.compile(rb"[A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of secret: see `secrets.toml`."""

    name: str
    about: str
    marks: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    example: re.Pattern[bytes] | None
    whole: bool

    def secrets(self, content: bytes) -> Iterator[bytes]:
        """Yield the secrets of this kind in a content."""
        return (match.group() for match in self.matches(content))

    def matches(self, content: bytes) -> Iterator[re.Match[bytes]]:
        """Yield where the secrets of this kind lie in a content."""
        if not any(mark in content for mark in self.marks):
            return
        for match in self.pattern.finditer(content):
            before, after = content[match.start() - 1 : match.start()], content[match.end() : match.end() + 1]
            cut = _WORD.match(before) or (self.whole and _WORD.match(after))
            if not cut and not (self.example and self.example.search(match.group())):
                yield match


@lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """Return the kinds of secrets that are looked for."""
    found = tomllib.loads(files("hfsynth.core").joinpath("secrets.toml").read_text("utf-8"))
    return tuple(
        Rule(
            name,
            rule["about"],
            tuple(mark.encode() for mark in rule["marks"]),
            re.compile(rule["pattern"].encode()),
            re.compile(rule["except"].encode()) if "except" in rule else None,
            rule.get("whole", False),
        )
        for name, rule in found.items()
    )
