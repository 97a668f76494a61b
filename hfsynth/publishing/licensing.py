"""The licence of a corpus: stated, or what those of its source, its model and the parts of its mixture give together.

Pure: the values of a folder's JSON files and of its card in, a licence out. What licences ask is in licences.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfsynth.core.errors import ConfigError
from hfsynth.core.recipes import SCRIPTED
from hfsynth.corpus.readme import as_code, is_web, printable
from hfsynth.models.adapters import EMBEDDED
from hfsynth.models.mined import MINED
from hfsynth.publishing.licences import OTHER, Part, canonical, combined, is_on_hub, terms_of

_SCRIPT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OURS = {EMBEDDED: "apache-2.0"}
DERIVED = "derived_license"
"""The key under which a card remembers the licence that nobody stated, so that it is asked for anew."""


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence by the Hub's name of it, or several that all hold (`also`); `other` has a name of its own and a link.

    `derived` says that nobody stated it: it follows from those of the corpus's parts.
    """

    id: str
    name: str | None = None
    link: str | None = None
    also: tuple[str, ...] = ()
    derived: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """Every identifier; the own name of an `other` licence."""
        return (self.name or self.id, *self.also)

    def metadata(self) -> dict[str, Any]:
        """Return the keys of a card's metadata."""
        named = {"license_name": self.name and printable(self.name), "license_link": self.link}
        ids = [self.id, *self.also] if self.also else self.id
        return {"license": ids, **{key: value for key, value in named.items() if value}}

    def markdown(self) -> str:
        """Return the licence as shown text."""
        shown = " and ".join(as_code(one) for one in self.ids)
        return f"{shown}, {as_code(self.link)}" if self.link else shown


def corpus_parts(
    recipe: Mapping[str, Any] | None,
    mix: Mapping[str, Any] | None,
    source_license: str | None,
    model_license: str | None,
    part_licenses: Mapping[str, str] | None = None,
) -> tuple[Part, ...]:
    """Return what a corpus is made of, each with its licence where it is known.

    The recipe says of source, model and exemplars, the mixture of its parts and the models that wrote in them;
    `part_licenses` are those of parts by name where the mixture does not know them.
    """
    return (*_made(recipe, source_license, model_license), *_mixed(mix, part_licenses or {}))


def model_licence(model: str, stated: str | None) -> str | None:
    """Return the licence of a model: as stated, or that of the one that comes with hfsynth."""
    return stated or _OURS.get(model)


def licence_of(
    stated: Licence | None,
    metadata: Mapping[str, Any],
    parts: Sequence[Part] = (),
    *,
    derived: Sequence[str] = (),
) -> Licence:
    """Return the licence that was stated, that the card had, or that follows from the parts, in this order.

    `derived` is what followed the last time: the card's metadata then state nothing. Raise ConfigError where there is
    none, where it does not exist, and where `other` comes without a name and a link.
    """
    if stated is not None and stated.link and not is_web(stated.link):
        raise ConfigError(
            f"{stated.link!r} is no link that a reader can follow: it must begin with https:// or http://.",
            hint="Give the address of the licence's text: --license-link https://…",
        )
    found = stated if stated is not None and stated.id else None
    if found is None:
        found = _of_card(metadata, derived)
    if found is None:
        return _derived(parts)
    name = (stated and stated.name) or found.name or metadata.get("license_name")
    link = (stated and stated.link) or found.link or metadata.get("license_link")
    return _named(canonical(found.id), str(name) if name else None, str(link) if is_web(str(link)) else None)


def _of_card(metadata: Mapping[str, Any], derived: Sequence[str]) -> Licence | None:
    """Return the licence that a card's metadata state; what followed from the parts before is no statement."""
    found = metadata.get("license")
    listed = [str(one) for one in found] if isinstance(found, list) else [str(found)] if found else []
    name = metadata.get("license_name")
    shown = [str(name)] if listed == [OTHER] and name else listed
    if not listed or sorted(shown) == sorted(derived):
        return None
    return Licence(listed[0] if len(listed) == 1 else f"({' AND '.join(listed)})")


def _derived(parts: Sequence[Part]) -> Licence:
    if not parts:
        raise ConfigError(
            "The card needs a licence, and none was stated.",
            hint="Name it: --license cc-by-4.0 (or another identifier of the Hub, or `other`).",
        )
    found = _named(combined(parts), None, None)
    return Licence(found.id, found.name, found.link, found.also, derived=True)


def _named(ids: tuple[str, ...], name: str | None, link: str | None) -> Licence:
    """Return the licence with its name and link, which only `other` has and needs."""
    first, *also = ids
    if also:
        return Licence(first, also=tuple(also))
    if first != OTHER and is_on_hub(first):
        return Licence(first)
    if first != OTHER:
        terms = terms_of(first)
        return Licence(OTHER, name or first, link or (terms.source if terms else f"https://spdx.org/licenses/{first}"))
    if not (name and link):
        raise ConfigError(
            "A licence of `other` needs its name and a link.",
            hint="Add them: --license other --license-name NAME --license-link URL.",
        )
    return Licence(OTHER, name, link)


def _made(recipe: Mapping[str, Any] | None, source_license: str | None, model_license: str | None) -> Iterator[Part]:
    if recipe is None:
        return
    yield Part("the source", source_license, option="--source-license ID")
    model = str(recipe.get("model"))
    if model not in (MINED, SCRIPTED) and not _SCRIPT.fullmatch(model):
        yield Part("the model", model_licence(model, model_license), is_model=True, option="--model-license ID")
    chosen = (recipe.get("exemplars") or {}).get("chosen") or ()
    for license in sorted({str(one["license"]) for one in chosen if one.get("license")}):
        yield Part("the exemplars", license, needed=False)


def _mixed(mix: Mapping[str, Any] | None, stated: Mapping[str, str]) -> Iterator[Part]:
    """Yield the parts of a mixture; one of an earlier version says nothing of them but their names."""
    told = (mix or {}).get("sources") or {}
    for name in told or [str(part["name"]) for part in (mix or {}).get("parts") or ()]:
        part = told.get(name) or {}
        licenses = str(stated.get(name) or part.get("license") or "").split(" AND ")
        for license in licenses:
            what, option = f"the part {name} of the mixture", f"--part-license {name}=ID"
            yield Part(what, license or None, option=option)
        if part.get("model_license"):
            yield Part(f"the model of the part {name}", part["model_license"], is_model=True, needed=False)
