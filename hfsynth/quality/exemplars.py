"""Choose the exemplars that chains begin with: read task data, sort it into strata, keep a few of each.

A stratum is a kind of task in a domain and a language, as the data set's columns say; what they do not say is told by
the rules that measure pairs. What is chosen depends on the data alone. Knows nothing of chains or engines.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hfsynth.core.addresses import public_location
from hfsynth.core.errors import ConfigError
from hfsynth.core.exemplars import MOST_BYTES, Exemplar, Exemplars, Stratum, digest_of
from hfsynth.core.records import Pair, content_id
from hfsynth.core.text import encodable
from hfsynth.documents.examples import Example, read_examples
from hfsynth.documents.hf_datasets import commit_of
from hfsynth.documents.locate import locate
from hfsynth.quality.task_categories import category_of
from hfsynth.quality.words import UNKNOWN, language_of

Flagged = Callable[[str], bool]
"""Whether a text must not be shown to a model: a benchmark holds it, or it holds a personal identifier."""

_log = logging.getLogger(__name__)

_AT_LEAST = 8  # so small a stratum is looked at as a whole
_ENOUGH_PAIRS = 5


@dataclass(frozen=True, slots=True)
class Chosen:
    """The exemplars that were chosen, set after set, and how many were left out, by reason.

    Reasons: those of `read_examples`, `flagged` (a text that must not be shown), `small_stratum`.
    """

    exemplars: tuple[Exemplar, ...]
    left_out: Counter[str] = field(default_factory=Counter)


def choose_exemplars(source: str | Exemplars, *, flagged: Flagged | None = None) -> Exemplars:
    """Choose exemplars now: of a file, a data set `user/name[@revision]`, or as many as `hfsynth.Exemplars` says.

    The result is given wherever exemplars can be named. `flagged` is asked about every context and every pair, and says
    whether a benchmark holds it: such exemplars are not chosen. Raise what `settled_exemplars` raises.
    """
    wanted = Exemplars.read(source)
    if wanted is None:
        raise ConfigError("There are no exemplars to choose from.", hint="Name a file or a data set on the Hub.")
    return settled_exemplars(wanted, flagged)


def settled_exemplars(wanted: Exemplars, flagged: Flagged | None = None) -> Exemplars:
    """Return exemplars with their content: those in the recipe, else chosen anew from where they come from.

    A revision on the Hub becomes its commit, a path the name of its file. Raise ConfigError where they are not those
    that the recipe was made with, or too few, or too large, SourceError and ColumnError for data that cannot be read,
    and where `flagged` knows one of those in the recipe.
    """
    if wanted.chosen:
        wanted.require_whole()
        _refuse_flagged(wanted.chosen, flagged)
        return wanted
    revision = wanted.revision
    if revision is not None or locate(wanted.source) is None:
        revision = commit_of(wanted.source, revision)
    examples = read_examples(wanted.source, split=wanted.split, revision=revision)
    chosen = choose(examples.rows, wanted, flagged)
    told = {reason: count for reason, count in (examples.left_out + chosen.left_out).items() if count}
    _log.info("chose %d exemplars of %d; left out: %s", len(chosen.exemplars), len(examples.rows), told or "none")
    name = wanted.source if revision else public_location(wanted.source)
    made = replace(wanted, source=name, revision=revision, chosen=chosen.exemplars, digest=digest_of(chosen.exemplars))
    _require_small(made)
    if wanted.digest not in (None, made.digest):
        raise ConfigError(
            f"The recipe's exemplars cannot be had from {wanted.source} any more: other ones are chosen there.",
            hint="Install the version of hfsynth that the recipe names, or name exemplars: --exemplars NAME.",
        )
    return made


def choose(examples: Iterable[Example], wanted: Exemplars, flagged: Flagged | None = None) -> Chosen:
    """Choose `sets` of `per_prompt` exemplars for each language, of as many kinds and domains as there are.

    Of a stratum the short contexts are taken, which leave room for documents, with many pairs. Raise ConfigError where
    no stratum has enough exemplars for a set.
    """
    left_out: Counter[str] = Counter()
    strata = _strata(examples)
    clean = {name: _Clean(ranked(found), flagged, left_out) for name, found in strata.items()}
    languages = sorted({language for _, _, language in strata})
    chosen = [
        one
        for language in languages
        for one in _of_language({name: c for name, c in clean.items() if name[2] == language}, wanted)
    ]
    left_out["small_stratum"] += sum(len(found) for found in strata.values() if len(found) < wanted.per_prompt)
    if not chosen:
        raise _too_few(strata, wanted, left_out)
    return Chosen(tuple(chosen), left_out)


class _Clean:
    """The exemplars of a stratum in their order, without those that are flagged, which are counted."""

    def __init__(self, ranked: Sequence[Exemplar], flagged: Flagged | None, left_out: Counter[str]) -> None:
        self.size = len(ranked)
        self._rest, self._flagged, self._left_out = iter(ranked), flagged, left_out

    def take(self, count: int) -> list[Exemplar]:
        """Return the next so many, none where there are fewer."""
        taken: list[Exemplar] = []
        for one in self._rest:
            if self._flagged is not None and is_flagged(one, self._flagged):
                self._left_out["flagged"] += 1
                continue
            taken.append(one)
            if len(taken) == count:
                return taken
        return []


def is_flagged(one: Exemplar, flagged: Flagged) -> bool:
    """Return whether an index knows the context, or a question with its answer."""
    return flagged(one.context) or any(flagged(f"{pair.instruction}\n{pair.response}") for pair in one.pairs)


def _of_language(strata: Mapping[Stratum, _Clean], wanted: Exemplars) -> Iterator[Exemplar]:
    """Yield set after set: of the kinds and domains that were used least so far, the largest strata first."""
    used: Counter[str] = Counter()
    left, sets = dict(strata), 0
    while left and sets < wanted.sets:
        name = min(left, key=lambda one: (used[f"kind {one[0]}"], used[f"domain {one[1]}"], -left[one].size, one))
        taken = left[name].take(wanted.per_prompt)
        if not taken:
            del left[name]
            continue
        used.update((f"kind {name[0]}", f"domain {name[1]}"))
        sets += 1
        yield from taken


def ranked(stratum: Sequence[Exemplar]) -> list[Exemplar]:
    """Return the exemplars of a stratum in the order in which they are taken: the short ones, rich in pairs first."""
    by_length = sorted(stratum, key=lambda one: (len(one.context), one.id))
    short = max(_AT_LEAST, len(by_length) // 4)
    return [*sorted(by_length[:short], key=_rank), *by_length[short:]]


def _rank(one: Exemplar) -> tuple[int, str]:
    return -min(len(one.pairs), _ENOUGH_PAIRS), content_id(one.context)


def _strata(examples: Iterable[Example]) -> dict[Stratum, list[Exemplar]]:
    """Sort examples into strata; each context is there once."""
    found: dict[Stratum, list[Exemplar]] = {}
    seen: set[str] = set()
    for example in examples:
        if example.context not in seen:
            seen.add(example.context)
            one = exemplar_of(example)
            found.setdefault(one.stratum, []).append(one)
    return found


def exemplar_of(example: Example) -> Exemplar:
    """Return an example as an exemplar, with what its data set does not say of it told by rules."""
    about, context = example.about, encodable(example.context)
    language = about.language or language_of(context)
    return Exemplar(
        id=encodable(about.id) or content_id("\0".join((context, *(pair.instruction for pair in example.pairs)))),
        context=context,
        pairs=tuple(Pair(encodable(pair.instruction), encodable(pair.response)) for pair in example.pairs),
        kind=about.kind or Counter(map(category_of, example.pairs)).most_common(1)[0][0].value,
        domain=about.domain or (example.source if not about.kind else ""),
        language="" if language == UNKNOWN else language,
        license=about.license,
    )


def _refuse_flagged(chosen: Sequence[Exemplar], flagged: Flagged | None) -> None:
    found = [one.id for one in chosen if flagged is not None and is_flagged(one, flagged)]
    if found:
        raise ConfigError(
            f"{len(found)} of the recipe's {len(chosen)} exemplars must not be shown, for a benchmark holds "
            f"them or they hold personal identifiers: {', '.join(found[:5])}.",
            hint="Name other exemplars: --exemplars NAME.",
        )


def _require_small(made: Exemplars) -> None:
    size = sum(len(one.context) + sum(len(p.instruction) + len(p.response) for p in one.pairs) for one in made.chosen)
    if size > MOST_BYTES:
        raise ConfigError(
            f"The {len(made.chosen)} exemplars from {made.source} have {size:,} characters; a recipe holds "
            f"{MOST_BYTES:,} at most.",
            hint="Use fewer (--exemplar-sets, --exemplars-per-prompt), or shorter contexts.",
        )


def _too_few(
    strata: Mapping[Stratum, Sequence[Exemplar]], wanted: Exemplars, left_out: Mapping[str, int]
) -> ConfigError:
    largest = max(strata, key=lambda name: len(strata[name]))
    flagged = f", {left_out['flagged']} of them in a benchmark" if left_out.get("flagged") else ""
    return ConfigError(
        f"{Path(wanted.source).name} has no stratum of {wanted.per_prompt} exemplars: the largest of {len(strata)} "
        f"({', '.join(filter(None, largest)) or 'without labels'}) has {len(strata[largest])}{flagged}.",
        hint="Show fewer (--exemplars-per-prompt 1), or give more of one kind, domain and language.",
    )
