"""Publish from Python: a folder, a saved corpus or datasets, with plain keywords; and write a folder's card.

Knows nothing of how a push is made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from dataclasses import replace as changed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, TypeVar

from hfsynth.core.errors import ConfigError
from hfsynth.core.remote_calls import OnRetry
from hfsynth.core.store_paths import AnyPath
from hfsynth.core.stores import any_path
from hfsynth.documents.dataset_splits import AnyDataset
from hfsynth.documents.source import Source
from hfsynth.publishing import hub
from hfsynth.publishing.facts import CardSettings
from hfsynth.publishing.hub import OnProgress, PushOptions, PushResult, completed
from hfsynth.publishing.prepare import CardResult, check_folder_card, check_name, write_card
from hfsynth.publishing.saving import SavedCorpus, save_corpus
from hfsynth.synthesis.synthesizer import Synthesizer
from hfsynth.texts.mixing import Mixture

Stated = TypeVar("Stated", CardSettings, PushOptions)
Folder: TypeAlias = str | os.PathLike[str]


def push(
    what: Folder | SavedCorpus | AnyDataset | None = None,
    repo: str | None = None,
    options: PushOptions | None = None,
    *,
    settings: CardSettings | None = None,
    pairs: AnyDataset | None = None,
    texts: AnyDataset | Mixture | None = None,
    synthesizer: Synthesizer | None = None,
    source: str | Source | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    language: str | Sequence[str] | None = None,
    title: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool | None = None,
    tag: str | None = None,
    message: str | None = None,
    replace: bool | None = None,
    kind: str | None = None,
    on_progress: OnProgress = lambda done, total: None,
    on_retry: OnRetry = lambda reason: None,
) -> PushResult:
    """Publish a corpus as one visible change of the repo `user/name`; create the repo where it is new.

    `what` is a corpus folder, here or on a store (`s3://bucket/corpus`), a synthesizer's with `kind="model"`, what
    `save_corpus` returned, or mapped datasets, which can also be given as `pairs`; then `synthesizer` must say what
    they were mapped with, and `texts` and `source` are those of `save_corpus`. The keywords that describe the corpus
    and the push go before the fields of `settings` (`CardSettings`) and `options` (`PushOptions`) of the same names.

    Everything is checked before anything is sent. Configs and splits of the repo that the corpus does not have stay, as
    do everybody's own words in its card. What somebody else published, or what was made from another source, is
    replaced only with `replace=True`; else HubError says whose it is, and since when. Raise OutputError and ConfigError
    for what cannot be published, HubError for everything the Hub refuses; the visible state of the repo is then what it
    was.
    """
    if repo is None:
        raise ConfigError("A push needs a repo: user/name.", hint='hfsynth.push(corpus, "user/name", license=…)')
    check_name(repo)
    stated = {"license": license, "license_name": license_name, "license_link": license_link, "title": title}
    asked = {"private": private, "revision": revision, "create_pr": create_pr, "tag": tag, "message": message}
    described = described_by(settings, language=language, **stated)
    chosen = _with(options or PushOptions(), {**asked, "replace": replace, "kind": kind})
    folder, given = _given(what, pairs)
    if folder is not None:
        return hub.push_folder(folder, repo, chosen, settings=described, on_progress=on_progress, on_retry=on_retry)
    if synthesizer is None:
        raise ConfigError(
            "Datasets are published with the synthesizer that they were mapped with.",
            hint="Add synthesizer=…, or give a folder.",
        )
    with TemporaryDirectory(prefix="hfsynth-") as place:
        made = save_corpus(Path(place) / "corpus", pairs=given, texts=texts, synthesizer=synthesizer, source=source)
        return hub.push_folder(made.root, repo, chosen, settings=described, on_progress=on_progress, on_retry=on_retry)


def card(
    folder: Folder,
    *,
    settings: CardSettings | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    language: str | Sequence[str] | None = None,
    title: str | None = None,
    repo: str | None = None,
    template: str | None = None,
    kind: str = "dataset",
) -> CardResult:
    """Write the card (README.md and plots) of a corpus folder, or of a synthesizer's with `kind="model"`.

    The keywords go before the fields of `settings` of the same names; what was stated earlier is kept where both leave
    it open, and what the cards of the source and the model state is taken over where the Hub answers. The result says
    what the card leaves out. What you write outside of hfsynth's marks stays. `template` is Jinja source in place of
    the card's own body. Raise ConfigError for a missing licence or a failing template, OutputError where the folder
    holds nothing to describe.
    """
    stated = {"license": license, "license_name": license_name, "license_link": license_link, "title": title}
    described = described_by(settings, language=language, repo=repo, **stated)
    root = any_path(folder)
    return write_card(root, completed(root, described), kind=kind, template=template)


def check_card(
    folder: Folder, *, settings: CardSettings | None = None, template: str | None = None, kind: str = "dataset"
) -> None:
    """Raise OutputError where the folder's card is not what `card` would write now, or a fact is missing."""
    check_folder_card(any_path(folder), settings, kind=kind, template=template)


def described_by(
    settings: CardSettings | None, *, language: str | Sequence[str] | None = None, **stated: str | None
) -> CardSettings:
    """Return the settings of a card with what was stated in words of its own."""
    languages = (language,) if isinstance(language, str) else tuple(language or ())
    return _with(settings or CardSettings(), {**stated, "language": languages or None})


def _with(values: Stated, changes: dict[str, Any]) -> Stated:
    """Return a dataclass with the fields that are not None."""
    known = {own.name for own in fields(values)}
    return changed(values, **{name: value for name, value in changes.items() if value is not None and name in known})


def _given(what: Any, pairs: AnyDataset | None) -> tuple[AnyPath | None, Any]:  # noqa: ANN401
    """Return the folder or the datasets that are to be published."""
    if (what is None) == (pairs is None):
        raise ConfigError(
            "A push needs one thing to publish: a folder, a saved corpus, or datasets.",
            hint='hfsynth.push(corpus, "user/name"), or hfsynth.push(ds, "user/name", synthesizer=…).',
        )
    if isinstance(what, str | os.PathLike):
        return any_path(what), None
    return None, what if pairs is None else pairs
