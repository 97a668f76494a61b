"""The model that names and the like are looked for with: which one, and which kinds of what it knows.

Pure; how it is asked is told by `hfsynth.quality.token_classifier`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from hfsynth.core.addresses import public_location
from hfsynth.core.errors import ConfigError

DEFAULT_KINDS = ("person",)
"""What is looked for where nothing else is asked for."""

_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")
_PREFIX = re.compile(r"^[BIESLU]-")
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_SAME = MappingProxyType(
    {
        "per": "person",
        "pers": "person",
        "name": "person",
        "private_person": "person",
        "loc": "location",
        "gpe": "location",
        "org": "organization",
        "organisation": "organization",
        "private_address": "address",
    }
)


@dataclass(frozen=True, slots=True)
class IdentifierModel:
    """A token classifier: a folder or a name on the Hub, its revision once that is settled, and the kinds to look for.

    Kinds are words such as `person`; see `kind_of`. Raise ConfigError for what is none.
    """

    name: str
    revision: str | None = None
    kinds: tuple[str, ...] = DEFAULT_KINDS

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(f"A model of identifiers is a name or a folder, not {self.name!r}.")
        kinds = tuple(dict.fromkeys(self.kinds)) if isinstance(self.kinds, list | tuple) else ()
        wrong = [kind for kind in kinds if not isinstance(kind, str) or not _KIND.fullmatch(kind)]
        if not kinds or wrong:
            raise ConfigError(
                f"Kinds of identifiers are words such as person, not {wrong[0] if wrong else self.kinds!r}.",
                hint="Choose them: --pii-kinds person,location",
            )
        object.__setattr__(self, "kinds", tuple(sorted(kinds)))

    @classmethod
    def named(cls, name: str, kinds: str | None = None) -> Self:
        """Read a folder's name, or `user/model[@revision]`, and kinds between commas."""
        plain, at, revision = name.rpartition("@")
        asked = tuple(kind.strip() for kind in kinds.split(",")) if kinds else DEFAULT_KINDS
        return cls(plain, revision, asked) if at and not Path(name).exists() else cls(name, None, asked)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` reads them back."""
        return {"name": self.name, "revision": self.revision, "kinds": list(self.kinds)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(values["name"], values["revision"], tuple(values["kinds"]))

    @property
    def told(self) -> dict[str, Any]:
        """What is recorded of it, without the folders of this machine."""
        return {"model": public_location(self.name), "revision": self.revision, "model_kinds": list(self.kinds)}


def kind_of(label: str) -> str | None:
    """Return the kind of a classifier's label: `B-PER` and `PERSON` are `person`; None for `O`, outside of any."""
    plain = _NOT_WORD.sub("_", _PREFIX.sub("", label).lower()).strip("_")
    return None if plain in ("o", "") else _SAME.get(plain, plain)


def begins(label: str) -> bool:
    """Return whether a label says that something new begins."""
    return label.startswith(("B-", "S-", "U-"))


def kinds_of(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds of a classifier's labels."""
    return tuple(sorted({kind for label in labels if (kind := kind_of(label)) is not None}))
