"""Which shards a worker tries first: a share of a job, given or found in what a scheduler says of the process.

A share is an order and no limit: whoever has done its own shards goes on with what the others have left. Knows nothing
of leases, nor of what is in a shard.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Self

from hfsynth.core.errors import ConfigError

VARIABLE = "HFSYNTH_SHARE"
"""Names a share, I/N, before any scheduler is asked."""

COMPLETIONS = "HFSYNTH_SHARES"
"""Says how many completions an indexed Job of Kubernetes has: it tells its pods their index alone."""

_SHARE = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Share:
    """The share number `index`, counted from 0, of `of` that a job is dealt into; `origin` says who dealt it."""

    index: int = 0
    of: int = 1
    origin: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ConfigError(
                f"There is no share {self.index}/{self.of}.",
                hint="Shares are written I/N and counted from 0: of four they are 0/4, 1/4, 2/4 and 3/4.",
            )

    @classmethod
    def parse(cls, text: str, origin: str = "") -> Self:
        """Read a share that is written I/N; raise ConfigError for anything else."""
        found = _SHARE.fullmatch(text.strip())
        if found is None:
            raise ConfigError(
                f"A share is written I/N, not {text!r}.", hint="Of four shares the first is 0/4 and the last 3/4."
            )
        return cls(int(found[1]), int(found[2]), origin)

    @classmethod
    def settled(cls, given: str | None, environment: Mapping[str, str] | None = None) -> Self:
        """Return the share that was given, else the one that the environment tells of, else the whole job."""
        if given is not None:
            return cls.parse(given)
        return cls.found(os.environ if environment is None else environment) or cls()

    @classmethod
    def found(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the share that the environment tells of, None where it tells of none.

        Asked are HFSYNTH_SHARE, then what Slurm, an indexed Job of Kubernetes and SkyPilot say. What a scheduler says
        that makes no share is passed over: all that it decides is an order. Raise ConfigError for a HFSYNTH_SHARE that
        is none.
        """
        if given := environment.get(VARIABLE):
            return cls.parse(given, VARIABLE)
        ranks = _slurm(environment) or _kubernetes(environment) or _skypilot(environment)
        if not ranks:
            return None
        index, of, origin = 0, 1, []
        for rank in ranks:
            index, of = index * rank.of + rank.index % rank.of, of * rank.of
            origin.append(rank.origin)
        return cls(index, of, " and ".join(origin))

    def order(self, first: int, end: int | None) -> Iterator[int]:
        """Yield the shards from `first` to before `end`, those of this share first and then what comes after them.

        A share is a run of neighbours, for these are read in one go. Where the end is not known there are no shares.
        """
        if end is None:
            return count(first)
        own = first + (end - first) * self.index // self.of
        return chain(range(own, end), range(first, own))


@dataclass(frozen=True, slots=True)
class _Rank:
    """One of several alike, which need not be in range: an array may have gaps."""

    index: int
    of: int
    origin: str


def _slurm(environment: Mapping[str, str]) -> list[_Rank]:
    """Return which task of an array this is, and which process of a step that `srun` began."""
    task = _rank(environment, "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN")
    step = max(1, _number(environment, "SLURM_ARRAY_TASK_STEP") or 1)
    tasks = [_Rank(rank.index // step, rank.of, rank.origin) for rank in task]
    return [*tasks, *_rank(environment, "SLURM_PROCID", "SLURM_NTASKS")]


def _kubernetes(environment: Mapping[str, str]) -> list[_Rank]:
    return _rank(environment, "JOB_COMPLETION_INDEX", COMPLETIONS)


def _skypilot(environment: Mapping[str, str]) -> list[_Rank]:
    """Return which of several jobs this is, and which node of it."""
    jobs = _rank(environment, "SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS")
    return [*jobs, *_rank(environment, "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES")]


def _rank(environment: Mapping[str, str], index: str, of: str, least: str | None = None) -> list[_Rank]:
    """Return the rank that two variables tell of, nothing where it is the only one or they do not."""
    here, number = _number(environment, index), _number(environment, of)
    from_ = _number(environment, least) or 0 if least else 0
    if here is None or number is None or number < 2 or here < from_:
        return []
    return [_Rank(here - from_, number, index)]


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "").strip()
    return int(value) if _NUMBER.fullmatch(value) else None
