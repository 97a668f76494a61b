"""Look at a repo after a push: every file in place, the footers' rows, and what `datasets` makes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from datasets import load_dataset_builder
from datasets.exceptions import DatasetsError

from hfsynth.core.errors import HubError
from hfsynth.core.remote_calls import is_transient
from hfsynth.publishing.card import CorpusFacts
from hfsynth.publishing.config_facts import ConfigFacts
from hfsynth.publishing.plan import Plan, Publication
from hfsynth.publishing.repo import HubRepo

_ATTEMPTS = 3


def verify(remote: HubRepo, publication: Publication, plan: Plan, commit: str) -> None:
    """Raise HubError where the commit does not hold what was to be published.

    A file's digest in the repo's listing is its content; footers are read back from one file of every split. At last
    `datasets` is asked which splits and rows it sees in each config.
    """
    tree = remote.tree(commit)
    wrong = [path for path, file in plan.desired.items() if not file.is_at(tree.get(path))]
    wrong += [path for path in plan.deletes if path in tree]
    if wrong:
        raise _failed(publication.repo, commit, f"{', '.join(sorted(wrong)[:5])} is not as it was sent")
    if isinstance(publication.facts, CorpusFacts):
        _check_footers(remote, publication, plan, commit)
        for config in publication.facts.configs:
            _check_config(remote, config, commit)


def _check_footers(remote: HubRepo, publication: Publication, plan: Plan, commit: str) -> None:
    for path in _last_of_each_split(publication):
        here, there = publication.rows[path], remote.footer(path, plan.desired[path].size, commit).num_rows
        if here != there:
            raise _failed(publication.repo, commit, f"{path} has {there} rows there and {here} here")


def _last_of_each_split(publication: Publication) -> Iterator[str]:
    last: dict[str, str] = {}
    for path in sorted(publication.files):
        if path.endswith(".parquet"):
            last[path.rpartition("-of-")[0].rpartition("-")[0]] = path
    yield from last.values()


def _check_config(remote: HubRepo, config: ConfigFacts, commit: str) -> None:
    wanted = {split.name: split.rows for split in config.splits}
    seen: dict[str, int] | str = ""
    for _ in range(_ATTEMPTS):
        seen = remote.call(lambda: _seen(remote, config.name, commit))
        if isinstance(seen, dict) and wanted.items() <= seen.items():
            return
    raise _failed(remote.repo, commit, f"datasets sees {seen} in config {config.name!r}, not {wanted}")


def _seen(remote: HubRepo, config: str, commit: str) -> dict[str, int] | str:
    """Return the rows of each split as `datasets` sees them, or what it says instead."""
    with tempfile.TemporaryDirectory() as cache:  # an old cache would answer for the Hub
        try:
            builder = load_dataset_builder(remote.repo, config, revision=commit, token=remote.token, cache_dir=cache)
        except (OSError, ValueError, DatasetsError) as error:
            if is_transient(error):
                raise
            return f"{type(error).__name__}: {error}"
    return {str(name): int(split.num_examples) for name, split in (builder.info.splits or {}).items()}


def _failed(repo: str, commit: str, reason: str) -> HubError:
    return HubError(
        f"{repo} was pushed as {commit[:10]}, and does not check out: {reason}.",
        hint="Give the same command again; if it says the same, look at the repo's files.",
    )
