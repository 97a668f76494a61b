"""Look for what must never be published: tokens and keys in texts, files that hold credentials. Pure but for reading.

Documents inside of Parquet files are not searched: they are the corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from hfsynth.errors import OutputError

_SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "an OpenAI key": re.compile(r"\bsk-[A-Za-z0-9_-]{32,}\b"),
    "a GitHub token": re.compile(r"\b(?:ghp|gho|ghs)_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{40,}\b"),
    "an AWS key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
_NAMES = re.compile(r"(?:^|/)(?:id_(?:rsa|ed25519|ecdsa)|credentials(?:\.json)?|token|[^/]*\.(?:pem|key|p12|pfx))$")
_TEXTS = (".md", ".json", ".jsonl", ".yaml", ".yml", ".txt", ".py", ".toml", ".ini", ".cfg", ".svg", ".csv", ".log")
_SEARCHED = 20_000_000


def refuse_leaks(root: Path, paths: Iterable[str], *, token: str | None) -> None:
    """Raise OutputError for the first file that holds a credential; `token` is the caller's own."""
    for path in paths:
        found = "a file of credentials, by its name" if _NAMES.search(path) else _secret_in(root / path, token)
        if found:
            raise OutputError(
                f"{path} holds what looks like a secret ({found}); nothing was published.",
                hint="Remove it from the folder. If it was ever published, revoke it.",
            )


def _secret_in(path: Path, token: str | None) -> str | None:
    if path.suffix.lower() not in _TEXTS and path.suffix:
        return None
    with path.open("rb") as file:
        text = file.read(_SEARCHED).decode("utf-8", "replace")
    return secret_in(text, token)


def secret_in(text: str, token: str | None = None) -> str | None:
    """Say which kind of secret a text holds, without showing it; None where there is none."""
    if token and token in text:
        return "your own Hugging Face token"
    return next((kind for kind, pattern in _SECRETS.items() if pattern.search(text)), None)
