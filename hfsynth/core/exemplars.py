"""Exemplars: human-made contexts with pairs that chains begin with, as a part of the recipe.

A recipe names where they are from; when work begins, those that are used are chosen once and pinned in it, by their
content. Which of them a chain begins with is drawn from its name. Pure; how they are read and chosen is told by
`hfsynth.quality.exemplars`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import blake2b
from typing import Any, Self

from hfsynth.core.draws import Draws
from hfsynth.core.errors import ConfigError
from hfsynth.core.records import Pair

MOST_BYTES = 500_000
"""What a recipe's exemplars may take: half of what a recipe may."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_MOST_SETS, _MOST_EACH = 1000, 8
_AGAIN = "Name the exemplars' file or data set again: --exemplars NAME (exemplars=… in Python)."

Stratum = tuple[str, str, str]
"""Kind of task, domain, language; empty where a data set does not say."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A context and the pairs that people wrote about it; `license` is what the data set says of it."""

    id: str
    context: str
    pairs: tuple[Pair, ...]
    kind: str = ""
    domain: str = ""
    language: str = ""
    license: str = ""

    @property
    def stratum(self) -> Stratum:
        """What exemplars that are shown together have in common."""
        return self.kind, self.domain, self.language


@dataclass(frozen=True, slots=True)
class Exemplars:
    """Which exemplars a recipe's chains begin with.

    `source` is a file, a folder, or a data set on the Hub, then with its `revision` (a commit, once pinned) and
    `split`. A chain begins with `per_prompt` exemplars of one stratum: one of at most `sets` such sets a language.
    `digest` stands for the content of those `chosen`, set after set.
    """

    source: str
    revision: str | None = None
    split: str = "train"
    per_prompt: int = 1
    sets: int = 8
    digest: str | None = None
    chosen: tuple[Exemplar, ...] = ()

    def __post_init__(self) -> None:
        for name in ("source", "split"):
            value = getattr(self, name)
            _require(isinstance(value, str) and bool(value.strip()), name, "a name", value)
        for name in ("revision", "digest"):
            value = getattr(self, name)
            _require(value is None or (isinstance(value, str) and bool(value)), name, "a text", value)
        for name, most in (("per_prompt", _MOST_EACH), ("sets", _MOST_SETS)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
            _require(whole, name, f"a whole number from 1 to {most:,}", value)
        object.__setattr__(self, "chosen", tuple(self.chosen))
        _require(not len(self.chosen) % self.per_prompt, "chosen", f"sets of {self.per_prompt}", len(self.chosen))

    @classmethod
    def named(cls, name: str) -> Self:
        """Read `FILE` or `user/name[@revision]`."""
        repo, at, revision = name.rpartition("@")
        if at and _HUB_NAME.fullmatch(repo):
            return cls(repo, revision)
        return cls(name)

    @classmethod
    def read(cls, value: object) -> Self | None:
        """Read what a recipe or a caller gives: nothing, a name, a mapping, or exemplars."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.named(value)
        _require(isinstance(value, Mapping), "the setting", "a name or a mapping of settings", value)
        given = dict(value) if isinstance(value, Mapping) else {}
        known = [own.name for own in fields(cls)]
        if unknown := [str(name) for name in given if name not in known]:
            raise ConfigError(f"{unknown[0]!r} is no setting of exemplars.", hint=f"Known are: {', '.join(known)}.")
        _require("source" in given, "source", "a name", None)
        chosen = given.pop("chosen", ())
        _require(isinstance(chosen, (list, tuple)), "chosen", "a list", chosen)
        return cls(**given, chosen=tuple(_exemplar(one) for one in chosen))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `read` reads them back."""
        return {**asdict(self), "chosen": [_plain(one) for one in self.chosen]}

    @property
    def are_on_hub(self) -> bool:
        """Whether they can be had from the Hub as they were."""
        return self.revision is not None and _HUB_NAME.fullmatch(self.source) is not None

    def require_whole(self) -> None:
        """Raise ConfigError where the exemplars in a recipe are not those that it was made with."""
        if self.chosen and self.digest != digest_of(self.chosen):
            raise ConfigError(
                f"The recipe's exemplars, from {self.source}, are not those that it was made with.", hint=_AGAIN
            )


@dataclass(frozen=True)
class ExemplarSets:
    """The sets that chains begin with, and the draw of one of them."""

    sets: tuple[tuple[Exemplar, ...], ...]

    @classmethod
    def of(cls, exemplars: Exemplars) -> Self:
        """Return the sets of a pinned recipe."""
        chosen, size = exemplars.chosen, exemplars.per_prompt
        return cls(tuple(chosen[at : at + size] for at in range(0, len(chosen), size)))

    @cached_property
    def languages(self) -> frozenset[str]:
        """The languages that exemplars are known to be in."""
        return frozenset(one[0].language for one in self.sets if one[0].language)

    @cached_property
    def _strata(self) -> Mapping[str, Mapping[Stratum, Sequence[int]]]:
        """The numbers of the sets, by language and stratum; under no language those of all."""
        found: dict[str, dict[Stratum, list[int]]] = {"": {}}
        for number, one in enumerate(self.sets):
            for language in {"", one[0].language}:
                found.setdefault(language, {}).setdefault(one[0].stratum, []).append(number)
        return found

    def drawn(self, name: str, *, seed: int, language: str = "") -> int:
        """Draw the set of the chain called `name`: of those in its language, where there are any, else of all.

        Every stratum is equally likely, however many sets it has.
        """
        strata = self._strata.get(language, self._strata[""])
        draws = Draws(f"exemplars/{seed}/{name}")
        return draws.pick(strata[draws.pick(sorted(strata))])


def public_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's values without the content of exemplars that are on the Hub, which a revision names."""
    exemplars = Exemplars.read(values.get("exemplars"))
    if exemplars is None or not exemplars.are_on_hub:
        return dict(values)
    return {**values, "exemplars": {**values["exemplars"], "chosen": []}}


def digest_of(chosen: Sequence[Exemplar]) -> str:
    """Return 32 hex digits that stand for exemplars in their order: what they show, and what they are called."""
    written = json.dumps([_plain(one) for one in chosen], ensure_ascii=False, sort_keys=True)
    return blake2b(written.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _plain(one: Exemplar) -> dict[str, Any]:
    values = {own.name: getattr(one, own.name) for own in fields(one) if getattr(one, own.name)}
    return {**values, "pairs": [{"instruction": pair.instruction, "response": pair.response} for pair in one.pairs]}


def _exemplar(value: object) -> Exemplar:
    """Read one exemplar of a recipe, which somebody else may have written."""
    given = dict(value) if isinstance(value, Mapping) else {}
    pairs = given.pop("pairs", None)
    texts = all(isinstance(name, str) and isinstance(text, str) for name, text in given.items())
    known = {"id", "context"} <= {*given} <= {own.name for own in fields(Exemplar)}
    whole = isinstance(pairs, list) and bool(pairs) and all(_is_pair(pair) for pair in pairs)
    _require(texts and known and whole, "chosen", "contexts with pairs", value)
    return Exemplar(**given, pairs=tuple(Pair(pair["instruction"], pair["response"]) for pair in pairs or ()))


def _is_pair(value: object) -> bool:
    if not isinstance(value, Mapping) or {*value} != {"instruction", "response"}:
        return False
    return all(isinstance(text, str) and bool(text.strip()) for text in value.values())


def _require(fine: bool, name: str, expected: str, got: object) -> None:
    if not fine:
        raise ConfigError(f"exemplars: {name} must be {expected}, not {str(got)[:200]!r}.")
