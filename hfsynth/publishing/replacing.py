"""Whose configs a push would put its own in the place of, and whether it may.

A new version of a corpus by the same user may always; what somebody else published, or what was made from another
source, only where that is asked for. Knows nothing of what happens during a push: that is refused elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfsynth.core.errors import HubError
from hfsynth.core.recipes import MOST_BYTES
from hfsynth.corpus.readme import as_number, printable
from hfsynth.publishing.card import CorpusFacts
from hfsynth.publishing.plan import Plan, Publication
from hfsynth.publishing.repo import Change, HubRepo

_RECIPE = "synthesizer_config.json"
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Replaced:
    """A `config/split` of a repo that a push puts another in the place of: how many files, who published it, when.

    `source` is what its corpus was made from, where that is another source than the one of what is published.
    """

    part: str
    files: int
    change: Change | None
    source: str | None = None

    def __str__(self) -> str:
        """Return it in words: whose it was, and when."""
        files = f"{as_number(self.files)} file{'' if self.files == 1 else 's'}"
        made = f", made from {self.source}" if self.source else ""
        if self.change is None:
            return f"{self.part} ({files}{made})"
        who = printable(" and ".join(self.change.authors)) or "somebody"
        when = f"{self.change.time:%Y-%m-%d %H:%M} UTC"
        return f"{self.part} ({files}{made}), published by {who} on {when} in commit {self.change.commit[:10]}"


def replaced_by(remote: HubRepo, publication: Publication, plan: Plan) -> tuple[list[Replaced], bool]:
    """Return what a plan replaces, and whether any of it is another's."""
    found = plan.replaced
    if not found:
        return [], False
    changes = remote.changes_of(sorted({path for paths in found.values() for path in paths}), plan.base.commit)
    user, source = remote.user(), _other_source(remote, publication, plan)
    told = [Replaced(part, len(paths), _whose(changes, paths, user), source) for part, paths in found.items()]
    return told, source is not None or any(one.change is None or user not in one.change.authors for one in told)


def refuse_replacing(repo: str, url: str, replaced: Sequence[Replaced]) -> HubError:
    """Return the error of a push that would replace what is another's."""
    return HubError(
        f"{repo} holds what another push published: {'; '.join(map(str, replaced))}. Nothing was changed.",
        hint=f"Look at {url}. To put this folder in its place: --replace (from Python: replace=True); to propose it: "
        "--create-pr; or push to another repo.",
    )


def _whose(changes: Mapping[str, Change], paths: Sequence[str], user: str) -> Change | None:
    """Return the last change of some files, rather one by somebody else; None where the Hub does not know one."""
    known = [changes.get(path) for path in paths]
    if None in known:
        return None
    found = [change for change in known if change is not None]
    return max(found, key=lambda change: (user not in change.authors, change.time))


def _other_source(remote: HubRepo, publication: Publication, plan: Plan) -> str | None:
    """Return what the repo's corpus was made from, where both recipes name a source and it is not the same."""
    path = f"{plan.home}{_RECIPE}"
    there = plan.base.tree.get(path)
    if there is None or there.size > MOST_BYTES or not isinstance(publication.facts, CorpusFacts):
        return None
    theirs, ours = _source(_parsed(remote.read(path, plan.base.commit))), _source(publication.facts.recipe)
    return printable(" ".join(theirs))[:_SHOWN] if theirs and ours and theirs != ours else None


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _source(recipe: object) -> tuple[str, ...]:
    """Return the location and the config of a recipe's source; nothing where it names none."""
    source: Any = recipe.get("source") if isinstance(recipe, Mapping) else None
    if not isinstance(source, Mapping) or not source.get("location"):
        return ()
    return tuple(str(source[name]) for name in ("location", "config") if source.get(name))
