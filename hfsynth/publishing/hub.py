"""Publish a folder: check it, send the contents, make one visible commit, look at the result.

Contents are sent first and are invisible. Then one commit on top of the state that was looked at makes all of it
visible; where others were quicker the push is planned anew on top of theirs. What has happened is never remembered
here: it is read from the repo, so a push that was killed goes on with the same command.

Each step is logged, in the folder's own `.hfsynth/log/push.log` where it has such a place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub.errors import HfHubHTTPError

from hfsynth.core.errors import ConfigError, HfsynthError, HubError
from hfsynth.core.files import read_json
from hfsynth.core.logs import logging_into
from hfsynth.core.remote_calls import OnRetry, explained, no_right, no_token, retrying
from hfsynth.core.store_paths import AnyPath
from hfsynth.core.stores import any_path
from hfsynth.corpus.folder import Corpus
from hfsynth.corpus.readme import Card
from hfsynth.publishing.card_reuse import hub_id
from hfsynth.publishing.facts import CardSettings, own_block, read_card
from hfsynth.publishing.licences import OTHER
from hfsynth.publishing.plan import Plan, Publication, Snapshot, push_plan, refuse_conflicts
from hfsynth.publishing.prepare import prepare, publication_summary
from hfsynth.publishing.replacing import Replaced, refuse_replacing, replaced_by
from hfsynth.publishing.repo import HubRepo, PullRequest, card_metadata, no_bars
from hfsynth.publishing.verify import verify

_log = logging.getLogger(__name__)

COMMIT_LIMIT = 1000
"""Changes in one commit. More go through a pull request in several commits and are merged at once: the Hub answers a
commit within a minute or not at all, and one of a thousand pointers takes it a few seconds."""

KINDS = ("dataset", "model")
OnProgress = Callable[[int, int], None]
_NAME = re.compile(r"\w[\w./-]*", re.ASCII)
_NO_NAME = re.compile(r"\.\.|//|/\.|\.lock(?:/|$)|[./]$|^refs/|^HEAD$")


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push. `timeout` is for how many seconds a step that fails is tried again.

    `allow_secrets` are kinds or ids of what looks like a secret and is published all the same. `replace` puts a corpus
    in the place of one that somebody else published, or that was made from another source.
    """

    kind: str = "dataset"
    private: bool = False
    revision: str = "main"
    create_pr: bool = False
    tag: str | None = None
    message: str | None = None
    timeout: float = 300.0
    commit_limit: int = COMMIT_LIMIT
    template: str | None = None
    allow_secrets: tuple[str, ...] = ()
    replace: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"A repo's type is dataset or model, not {self.kind!r}.", hint="Use --type dataset.")
        for what, name in (("branch", self.revision), ("tag", self.tag)):
            if name is not None and not _is_name(name):
                flag = "--revision" if what == "branch" else "--tag"
                raise ConfigError(
                    f"{name[:100]!r} is no name of a {what}.",
                    hint=f"Use letters, digits, dots, dashes, underscores, single slashes: {flag} v1.0",
                )
        if self.create_pr and self.revision != "main":
            raise ConfigError("A pull request is always one to main.", hint="Leave out --revision or --create-pr.")
        if self.create_pr and self.tag:
            raise ConfigError("A pull request cannot be tagged.", hint="Leave out --tag, and tag after merging.")
        if not self.timeout > 0:
            raise ConfigError(f"The timeout must be some seconds, not {self.timeout!r}.", hint="Use --timeout 300.")


def _is_name(name: str) -> bool:
    """Say whether git and the Hub take a name for a branch or a tag."""
    return len(name) <= 200 and bool(_NAME.fullmatch(name)) and not _NO_NAME.search(name)


@dataclass(frozen=True, slots=True)
class PushResult:
    """A push that has been checked: where it is, its commit, and whether anything had to change.

    `left` are the files of the folder that were not published, `replaced` is what was in the repo in their place.
    """

    repo: str
    url: str
    commit: str
    changed: bool
    left: tuple[str, ...] = ()
    replaced: tuple[Replaced, ...] = ()


def push_folder(
    folder: str | AnyPath,
    repo: str,
    options: PushOptions | None = None,
    *,
    settings: CardSettings | None = None,
    on_progress: OnProgress = lambda done, total: None,
    on_retry: OnRetry = lambda reason: None,
) -> PushResult:
    """Publish a corpus folder, or a synthesizer's, as one visible change of `repo`; create the repo where it is new.

    Everything is checked before anything is sent. Configs and splits of the repo that the folder does not have stay,
    as do everybody's own words in its card; files of an earlier version go. What somebody else published, or what was
    made from another source, is replaced only where the options say `replace`. The folder's card is brought up to date
    first. Raise OutputError and ConfigError for a folder that cannot be published, HubError for everything the Hub
    refuses; the visible state of the repo is then what it was.
    """
    options, root = options or PushOptions(), any_path(folder)
    settings = completed(root, replace(settings or CardSettings(), repo=repo))
    with _logged(root, repo):
        publication = prepare(
            root, repo, options.kind, settings, template=options.template, allowed=options.allow_secrets
        )
        remote = HubRepo(repo, options.kind, timeout=options.timeout, on_retry=on_retry)
        if remote.token is None:
            raise no_token()
        with explained(repo, remote.token), no_bars():
            _open(remote, options)
            remote.validate(publication.card.text())
            return _Push(remote, publication, options, on_progress, on_retry).run()


@contextmanager
def _logged(root: AnyPath, repo: str) -> Iterator[None]:
    """Log a push, in the folder itself where hfsynth made it: a log makes no corpus folder of any other.

    A store can append nothing, and gets none.
    """
    journal = Corpus(root).journal if isinstance(root, Path) else None
    with logging_into(journal / "log" / "push.log") if journal and journal.is_dir() else nullcontext():
        _log.info("push of %s to %s begins", root, repo)
        try:
            yield
        except HfsynthError as error:
            _log.error("push to %s ended: %s", repo, error.message)
            raise


def completed(root: AnyPath, settings: CardSettings) -> CardSettings:
    """Add what the cards of the corpus's source, model and parts state, where nobody has and the Hub answers."""
    recipe, card = read_json(root / "synthesizer_config.json"), read_card(root)
    known = own_block(card)
    if not recipe:
        return settings
    settings = _with_parts(settings, recipe.get("mix") or {}, known.get("part_licenses") or {})
    if "source" not in recipe:
        return settings
    source, model = hub_id(str(recipe["source"]["location"])), hub_id(str(recipe["model"]))
    if source and not (settings.source_license or known.get("source_license")):
        settings = _from_source(settings, card, _asked(source, "dataset", None))
    if settings.model_license or known.get("model_license"):
        return settings
    folder = Path(str(recipe["model"])).expanduser()
    found = {**read_card(folder).metadata} if folder.is_dir() else {}
    if model and not folder.exists():
        found = _asked(model, "model", recipe.get("model_revision"))
    return replace(settings, model_license=_licence_of(found))


def _with_parts(settings: CardSettings, mix: Mapping[str, Any], known: Mapping[str, str]) -> CardSettings:
    """Add the licences of those parts of a mixture that are datasets on the Hub."""
    stated = {**known, **settings.part_licenses}
    for name, part in (mix.get("sources") or {}).items():
        source = hub_id(str(part.get("source") or ""))
        if source and name not in stated and not part.get("license"):
            found = _licence_of(_asked(source, "dataset", part.get("revision")))
            stated |= {name: found} if found else {}
    return replace(settings, part_licenses=stated)


def _from_source(settings: CardSettings, card: Card, found: Mapping[str, Any]) -> CardSettings:
    """Take over the source's licence, and its languages where the user and the folder's card state none."""
    language = found.get("language") or ()
    languages = (language,) if isinstance(language, str) else tuple(language)
    return replace(
        settings,
        source_license=_licence_of(found),
        language=settings.language or (() if card.metadata.get("language") else languages),
    )


def _licence_of(found: Mapping[str, Any]) -> str | None:
    """Return the licence that a card's metadata state, by its own name where it is `other`; several in a row."""
    stated = found.get("license")
    listed = [str(one) for one in stated] if isinstance(stated, list) else [str(stated)] if stated else []
    name = found.get("license_name")
    return str(name) if listed == [OTHER] and name else ", ".join(listed) or None


def _asked(repo: str, kind: str, revision: str | None) -> dict[str, Any]:
    """Return a card's metadata; nothing where the repo cannot be read, for the card then says that it is not known."""
    try:
        return card_metadata(repo, kind, revision)
    except (HfHubHTTPError, httpx2.HTTPError, ConnectionError, ValueError):
        return {}


def _open(remote: HubRepo, options: PushOptions) -> None:
    """Make sure that the repo is there and may be written to."""
    if remote.role() == "read":
        raise no_right(remote.repo)
    visibility = remote.visibility()
    if visibility is None:
        _create(remote, options)
    elif options.private and visibility == "public":
        raise HubError(
            f"{remote.repo} is there already, and public.", hint="Leave out --private, or make it private on the Hub."
        )
    elif not options.create_pr:
        remote.check_write()
    if options.revision != "main":
        remote.ensure_branch(options.revision)


def _create(remote: HubRepo, options: PushOptions) -> None:
    for kind in KINDS:
        if kind != remote.kind and remote.visibility(kind):
            raise HubError(
                f"{remote.repo} is there already, as a {kind} and not as a {remote.kind}.",
                hint=f"Choose another name, or push with --type {kind}.",
            )
    remote.create(private=options.private)


@dataclass(frozen=True, slots=True)
class _Push:
    """One push under way."""

    remote: HubRepo
    publication: Publication
    options: PushOptions
    on_progress: OnProgress
    on_retry: OnRetry

    def run(self) -> PushResult:
        first = self.remote.snapshot(self.options.revision)
        planned = self._planned(first)
        self._refuse_taken_tag(planned)
        replaced = self._replaced(planned)
        self._upload(planned)
        planned, pull, commit = retrying(self.options.timeout, self.on_retry)(self._published, first)
        verify(self.remote, self.publication, planned, commit)
        _log.info("verified: %s holds what was to be published", commit[:10])
        if self.options.tag:
            self.remote.tag(self.options.tag, commit)
            _log.info("tagged %s as %s", commit[:10], self.options.tag)
        url = pull.url if pull else self.remote.url
        return PushResult(self.remote.repo, url, commit, commit != first.commit, self.publication.left, replaced)

    def _planned(self, now: Snapshot) -> Plan:
        planned, branch = push_plan(self.publication, now), self.options.revision
        told = "planned on top of %s of %s: %d files to add (%d bytes), %d to remove"
        size = sum(file.size for file in planned.adds.values())
        _log.info(told, now.commit[:10], branch, len(planned.adds), size, len(planned.deletes))
        return planned

    def _replaced(self, planned: Plan) -> tuple[Replaced, ...]:
        """Return what of the repo is replaced; raise HubError where it is another's, and that was not asked for."""
        if self.options.create_pr:  # it replaces nothing before somebody has looked at it
            return ()
        replaced, others = replaced_by(self.remote, self.publication, planned)
        if others and not self.options.replace:
            raise refuse_replacing(self.remote.repo, self.remote.url, replaced)
        return tuple(replaced)

    def _refuse_taken_tag(self, planned: Plan) -> None:
        tag = self.options.tag
        taken = self.remote.tags().get(tag) if tag else None
        if taken and (planned.changes or taken != planned.base.commit):
            raise HubError(f"The tag {tag!r} is taken: it stands for {taken[:10]}.", hint="Choose another --tag.")

    def _upload(self, planned: Plan) -> None:
        total = sum(file.size for file in planned.adds.values())
        done = 0

        def advance(size: int) -> None:
            nonlocal done
            done += size
            self.on_progress(done, total)

        self.on_progress(0, total)
        self.remote.upload(planned.adds, self.options.revision, pull=self.options.create_pr, on_bytes=advance)
        _log.info("uploaded the contents of %d files, which nobody sees yet", len(planned.adds))

    def _published(self, first: Snapshot) -> tuple[Plan, PullRequest | None, str]:
        """Make the change where the repo does not have it yet.

        Called again after every failure, it reads the repo anew: a commit whose answer was lost is found there, and
        one that came too late is planned on top of what was quicker.
        """
        now = self.remote.snapshot(self.options.revision)
        planned = self._planned(now)
        if not planned.changes:
            _log.info("nothing to commit: %s holds it", now.commit[:10])
            return planned, None, now.commit
        refuse_conflicts(first, planned)
        if self.options.create_pr or (planned.changes > self.options.commit_limit and self.options.revision == "main"):
            return self._through_pull_request(planned)
        commit = self.remote.commit(
            planned.adds,
            planned.deletes,
            message=self._message,
            revision=self.options.revision,
            parent=now.commit,
        )
        _log.info("committed %s", commit[:10])
        return planned, None, commit

    def _through_pull_request(self, planned: Plan) -> tuple[Plan, PullRequest | None, str]:
        """Put the change on a pull request in several commits; merge it unless the pull request is what was asked for.

        Its title names the change and the state it starts from, so that a push that was killed finds it again.
        """
        pull = self.remote.pull_request(
            f"{self._message} [hfsynth {planned.digest}]", publication_summary(self.publication)
        )
        commit = self._fill(pull, planned)
        self.remote.set_status(pull, "open")
        _log.info("committed %s to pull request %d", commit[:10], pull.number)
        if self.options.create_pr:
            return planned, pull, commit
        if self.remote.head("main") != planned.base.commit:
            self.remote.set_status(pull, "closed")
            return self._published(planned.base)
        self.remote.merge(pull)
        merged = self.remote.head("main")
        _log.info("merged pull request %d as %s", pull.number, merged[:10])
        return planned, None, merged

    def _fill(self, pull: PullRequest, planned: Plan) -> str:
        """Commit to a pull request until it holds the change; what is there already stays."""
        while True:
            commit = self.remote.head(pull.ref)
            left = Plan(Snapshot(commit, self.remote.tree(commit), None), planned.desired, planned.region)
            adds = dict(list(left.adds.items())[: self.options.commit_limit])
            deletes = left.deletes[: self.options.commit_limit - len(adds)]
            if not adds and not deletes:
                return commit
            self.remote.commit(adds, deletes, message=self._message, revision=pull.ref, parent=commit)

    @property
    def _message(self) -> str:
        return self.options.message or f"Publish {publication_summary(self.publication)}"
