"""What a page is built of, and where it is shown. Knows no widgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from hfsynth.page.looking import CorpusLook
from hfsynth.page.mixing import NamedPart
from hfsynth.page.trying import Engines

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Page(Protocol):
    """A page that can be shown."""

    def launch(self, *, host: str = "127.0.0.1", port: int | None = None, wait: bool = True) -> str:
        """Show the page and return its address; with `wait`, return when it is closed."""

    def wait(self) -> None:
        """Show the page until the keyboard's interrupt, or the end of the process."""

    def close(self) -> None:
        """Show the page no more."""


@dataclass(frozen=True, slots=True)
class PageSettings:
    """A corpus, where there is one; the models that can be tried, the first by default; and the parts of mixtures."""

    look: CorpusLook | None
    models: tuple[str, ...]
    engines: Engines
    parts: tuple[NamedPart, ...]
    tokenizer: str


def trusting(host: str) -> dict[str, Any]:
    """Return the settings of a server that refuses, on this machine's own address, names of others that lead here."""
    if host not in ("127.0.0.1", "localhost"):
        return {}
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return {"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])]}
