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
        if self.revision is not None and (not isinstance(self.revision, str) or not self.revision):
            raise ConfigError(f"The revision of a model of identifiers is a word, not {self.revision!r}.")
        object.__setattr__(self, "kinds", tuple(sorted(kinds)))

    @classmethod
    def named(cls, name: str, kinds: str | None = None) -> Self:
        """Read a folder's name, or `user/model[@revision]`, and kinds between commas."""
        plain, at, revision = name.rpartition("@")
        asked = tuple(kind.strip() for kind in kinds.split(",")) if kinds else DEFAULT_KINDS
        return cls(plain, revision, asked) if at and not Path(name).exists() else cls(name, None, asked)

    @classmethod
    def read(cls, value: object) -> Self | None:
        """Read what a recipe or a caller gives: nothing, a name, a mapping, or itself."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.named(value)
        if not isinstance(value, Mapping) or not set(value) <= {"name", "revision", "kinds"} or "name" not in value:
            raise ConfigError(f"pii_model must be a name, or a mapping of name, revision and kinds, not {value!r}.")
        return cls(value["name"], value.get("revision"), value.get("kinds", DEFAULT_KINDS))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `read` reads them back."""
        return {"name": self.name, "revision": self.revision, "kinds": list(self.kinds)}

    @property
    def told(self) -> dict[str, Any]:
        """What is recorded of it, without the folders of this machine."""
        return {"model": public_location(self.name), "revision": self.revision, "model_kinds": list(self.kinds)}


def public_model(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's values without the folder of this machine in which its model of identifiers lies."""
    found = IdentifierModel.read(values.get("pii_model"))
    if found is None:
        return dict(values)
    return {**values, "pii_model": {**found.to_dict(), "name": public_location(found.name)}}


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
