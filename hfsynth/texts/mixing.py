"""Mix augmented text, raw text and general instructions by tokens. Knows nothing of files, models or trainers.

Three ways to say how much:

* shares and a budget: every part gives its share of the budget, to one document (the last one may reach beyond). A part
  that holds less is a BudgetError, or starts again where it may repeat.
* shares alone: the largest mixture in which no part runs out; it ends where the first part that may not repeat does.
* neither: every part whole, once. Parts are interleaved by the number of their rows. A budget ends it earlier.

Splits are mixed one by one: those of the first part that has any. Every part gives to the splits that it has, by the
same shares among those that do. Data without splits go to the split to train on, `train` or the first one; the budget
is that split's, and parts repeat only there. The other splits, held out, are as large as their parts allow.

The next document always comes from the part that is furthest behind its share, so every prefix of the mixture has
nearly the right shares. Memory does not grow with the parts: a few hundred documents of each are held at a time.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypedDict
from uuid import uuid4

from datasets import Dataset, DatasetDict, Features, IterableDataset

from hfsynth.core.errors import BudgetError, ConfigError
from hfsynth.core.private_names import fingerprint_of
from hfsynth.corpus.folder import main_split, split_order
from hfsynth.corpus.parquet import FEATURES, to_dataset
from hfsynth.models.tokenizers import TextTokenizer, Tokenizing, load_tokenizer
from hfsynth.texts.layouts import layout_for
from hfsynth.texts.mixture_parts import Feed, Part, PartReport, columns_of, together
from hfsynth.texts.pair_spans import PAIR_SPANS, spans_column, with_spans
from hfsynth.texts.presets import shares_of_preset, shares_of_ratios, shares_of_weights

_log = logging.getLogger(__name__)


class MixedRow(TypedDict, total=False):
    """A row of a mixture: the text, the part it is from, the documents it was made of, its tokens.

    Where a part says where its pairs lie, every row does.
    """

    text: str
    source: str
    source_ids: list[str]
    tokens: int
    pair_spans: list[dict[str, int]]


@dataclass(frozen=True, slots=True)
class MixReport:
    """What a mixture is made of. Tokens are those of the texts, without BOS and EOS.

    Of several splits these are sums, the budget is that of the split to train on, and `splits` has the report of each.
    """

    documents: int
    tokens: int
    budget_tokens: int | None
    tokenizer: str
    seed: int
    parts: tuple[PartReport, ...]
    splits: Mapping[str, MixReport] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return plain values that `json` takes, `splits` where there are several."""
        values = {name: value for name, value in asdict(self).items() if name != "splits"}
        return (
            {**values, "splits": {name: one.to_dict() for name, one in self.splits.items()}} if self.splits else values
        )


class MixedRows:
    """The rows of a mixture; iterate to make them, then read `report`. Every iteration starts again."""

    def __init__(
        self,
        parts: Sequence[Part],
        shares: Sequence[float] | None,
        *,
        budget_tokens: int | None,
        tokenizer: TextTokenizer,
        seed: int,
    ) -> None:
        self._parts = tuple(parts)
        self._shares: Sequence[float | None] = shares or [None] * len(parts)
        columns = [columns_of(part) for part in parts]
        self._layouts = [layout_for(part.kind, own, part=part.name) for part, own in zip(parts, columns, strict=True)]
        self._spans = any(PAIR_SPANS in own for own in columns)
        self._budget = budget_tokens
        self._tokenizer = tokenizer
        self._seed = seed
        self._feeds: list[Feed] = []

    @property
    def features(self) -> Features:
        """Return the columns of the rows."""
        return with_spans(FEATURES) if self._spans else FEATURES

    @property
    def report(self) -> MixReport:
        """Return what the latest iteration has given so far."""
        total = sum(feed.tokens for feed in self._feeds)
        return MixReport(
            documents=sum(feed.documents for feed in self._feeds),
            tokens=total,
            budget_tokens=self._budget,
            tokenizer=self._tokenizer.name,
            seed=self._seed,
            parts=tuple(feed.report(total) for feed in self._feeds),
        )

    @property
    def identity(self) -> str:
        """Return a name for the mixture that depends on nothing but what goes into it; a stream has a new one."""
        parts = [(_fingerprint(part), part.name, part.kind.value, part.repeat) for part in self._parts]
        settings = (parts, self._shares, self._budget, self._tokenizer.identity, self._seed)
        return hashlib.blake2b(repr(settings).encode(), digest_size=8).hexdigest()

    def __iter__(self) -> Iterator[MixedRow]:
        self._feeds = [
            Feed(part, layout, self._tokenizer, self._seed, share)
            for part, layout, share in zip(self._parts, self._layouts, self._shares, strict=True)
        ]
        return self._interleave(self._feeds)

    def _interleave(self, feeds: Sequence[Feed]) -> Iterator[MixedRow]:
        while (feed := self._furthest_behind(feeds)) is not None:
            document = feed.take()
            if document is not None:
                row = MixedRow(
                    text=document.text, source=feed.part.name, source_ids=document.source_ids, tokens=document.tokens
                )
                if self._spans:
                    row["pair_spans"] = spans_column(document.pairs)
                yield row
                continue
            self._check_owed(feed)
            if feed.share is not None:
                return
            feed.closed = True
        self._check_total(feeds)

    def _furthest_behind(self, feeds: Sequence[Feed]) -> Feed | None:
        """Choose the part that gives the next document; None where every part has given what it must."""
        if self._budget is not None and self._shares[0] is None and sum(f.tokens for f in feeds) >= self._budget:
            return None
        waiting = (feed for feed in feeds if not feed.closed and not self._satisfied(feed))
        return min(waiting, key=Feed.progress, default=None)

    def _satisfied(self, feed: Feed) -> bool:
        return self._budget is not None and feed.share is not None and feed.tokens >= feed.share * self._budget

    def _check_owed(self, feed: Feed) -> None:
        """Raise where a part that has run out owes more, or never had anything."""
        if feed.documents and (self._budget is None or feed.share is None):
            return
        asked = "some" if self._budget is None or feed.share is None else f"{round(feed.share * self._budget):,}"
        skipped = f" (rows skipped: {feed.skips()})" if feed.skipped else ""
        raise BudgetError(
            f"Part {feed.part.name!r} has {feed.tokens:,} tokens in {feed.documents:,} documents; {asked} were asked"
            f"{skipped}.",
            hint=_remedy(feed),
        )

    def _check_total(self, feeds: Sequence[Feed]) -> None:
        tokens = sum(feed.tokens for feed in feeds)
        if self._budget is not None and self._shares[0] is None and tokens < self._budget:
            names = ", ".join(repr(feed.part.name) for feed in feeds)
            raise BudgetError(
                f"The parts {names} have {tokens:,} tokens together; {self._budget:,} were asked.",
                hint="Lower the budget (--budget-tokens), or leave it out to use every part whole.",
            )


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture with the columns `text`, `source`, `source_ids` and `tokens`, and what it is made of.

    `dataset` is a DatasetDict where one of the parts has splits.
    """

    dataset: Dataset | DatasetDict
    report: MixReport


def mix_datasets(
    parts: Sequence[Part],
    *,
    tokenizer: Tokenizing,
    seed: int = 0,
    budget_tokens: int | None = None,
    ratios: Mapping[str, float] | Sequence[float] | None = None,
    preset: str | None = None,
) -> Mixture:
    """Mix parts by tokens into one dataset, interleaved evenly; see the module and `mix_rows` for the rules.

    Where a part has splits, the mixture has them too. The rows are written to the datasets cache, under the same name
    for the same mixture; the parts are not changed.
    """
    made = mix_splits(parts, tokenizer=tokenizer, seed=seed, budget_tokens=budget_tokens, ratios=ratios, preset=preset)
    datasets = {
        name: to_dataset(rows, name=f"mixture-{rows.identity}", features=rows.features) for name, rows in made.items()
    }
    report = report_of({name: rows.report for name, rows in made.items()})
    several = any(part.splits for part in parts)
    return Mixture(DatasetDict(datasets) if several else next(iter(datasets.values())), report)


def mix_splits(
    parts: Sequence[Part],
    *,
    tokenizer: Tokenizing,
    seed: int = 0,
    budget_tokens: int | None = None,
    ratios: Mapping[str, float] | Sequence[float] | None = None,
    preset: str | None = None,
) -> dict[str, MixedRows]:
    """Prepare the mixture of every split of the parts, `train` where they have none; see the module and `mix_rows`.

    Raise SourceError where a part has splits, but not the one to train on.
    """
    shares = _shares(parts, budget_tokens, ratios, preset)
    loaded = load_tokenizer(tokenizer)
    splits = sorted(next((part.splits for part in parts if part.splits), ("train",)), key=split_order)
    main = main_split(splits)
    _tell_left_out(parts, splits)
    made = {}
    for split in splits:
        given = [(part.of(split, main=split == main), place) for place, part in enumerate(parts)]
        chosen = [(part, place) for part, place in given if part is not None]
        if chosen:
            own, budget = _among(shares, [place for _, place in chosen]), budget_tokens if split == main else None
            made[split] = _mixed([part for part, _ in chosen], own, budget_tokens=budget, tokenizer=loaded, seed=seed)
    return made


def _among(shares: Sequence[float] | None, places: Sequence[int]) -> Sequence[float] | None:
    """Return the shares of some parts among themselves."""
    if shares is None or len(places) == len(shares):
        return shares
    kept = [shares[place] for place in places]
    return [share / sum(kept) for share in kept]


def _tell_left_out(parts: Sequence[Part], splits: Sequence[str]) -> None:
    for part in parts:
        left = [name for name in part.splits if name not in splits]
        if left:
            _log.warning(
                "Of part %r the splits %s are left out: the mixture has %s.",
                part.name,
                ", ".join(left),
                ", ".join(splits),
            )


def report_of(reports: Mapping[str, MixReport]) -> MixReport:
    """Return the report of a mixture from those of its splits."""
    first = reports[main_split(reports)]
    if len(reports) == 1:
        return first
    return MixReport(
        documents=sum(report.documents for report in reports.values()),
        tokens=sum(report.tokens for report in reports.values()),
        budget_tokens=first.budget_tokens,
        tokenizer=first.tokenizer,
        seed=first.seed,
        parts=together([report.parts for report in reports.values()]),
        splits=dict(reports),
    )


def mix_rows(
    parts: Sequence[Part],
    *,
    tokenizer: Tokenizing,
    seed: int = 0,
    budget_tokens: int | None = None,
    ratios: Mapping[str, float] | Sequence[float] | None = None,
    preset: str | None = None,
) -> MixedRows:
    """Prepare a mixture whose rows are made as they are read, in constant memory.

    Shares come from `ratios` (by part name or position, summing to 1), else from a `preset`, else from the parts'
    weights; see the module for what happens without. Rows hold `text`, `source`, `source_ids` and `tokens`.

    `tokenizer` is a Hub id, a folder, or a tokenizer of transformers.

    Raises ConfigError for ratios, weights, a budget or a preset that cannot work and ColumnError for columns that fit
    no known layout, both at once; BudgetError while reading, when a part runs out.
    """
    shares = _shares(parts, budget_tokens, ratios, preset)
    return _mixed(parts, shares, budget_tokens=budget_tokens, tokenizer=load_tokenizer(tokenizer), seed=seed)


def _shares(
    parts: Sequence[Part],
    budget_tokens: int | None,
    ratios: Mapping[str, float] | Sequence[float] | None,
    preset: str | None,
) -> Sequence[float] | None:
    """Check what was asked, and return the share of every part; None where every part is used whole."""
    _check_parts(parts, budget_tokens)
    names, weights = [part.name for part in parts], [part.weight for part in parts]
    if ratios is not None and preset is not None:
        raise ConfigError("Give ratios or a preset, not both.", hint=f"Leave out ratios or preset={preset!r}.")
    if ratios is not None:
        return shares_of_ratios(names, ratios)
    if preset is not None:
        return shares_of_preset(preset, [part.kind for part in parts], weights)
    return shares_of_weights(names, weights)


def _mixed(
    parts: Sequence[Part],
    shares: Sequence[float] | None,
    *,
    budget_tokens: int | None,
    tokenizer: TextTokenizer,
    seed: int,
) -> MixedRows:
    _check_end(parts, shares, budget_tokens)
    return MixedRows(parts, shares, budget_tokens=budget_tokens, tokenizer=tokenizer, seed=seed)


def _check_parts(parts: Sequence[Part], budget_tokens: int | None) -> None:
    if not parts:
        raise ConfigError("A mixture needs at least one part.", hint="Give Part(name, data, kind).")
    twice = [name for name, count in Counter(part.name for part in parts).items() if count > 1]
    if twice:
        raise ConfigError(f"Two parts are named {twice[0]!r}.", hint="The name is the `source` of a row: choose two.")
    if budget_tokens is not None and budget_tokens < 1:
        raise ConfigError(f"budget_tokens must be 1 or more; got {budget_tokens}.", hint="Leave it out for all.")


def _check_end(parts: Sequence[Part], shares: Sequence[float] | None, budget_tokens: int | None) -> None:
    """Refuse a mixture that would never end, or whose parts cannot be interleaved."""
    streams = [part.name for part in parts if isinstance(part.rows, IterableDataset)]
    if shares is None and streams and len(parts) > 1:
        raise ConfigError(
            f"Part {streams[0]!r} is a stream of unknown length, so it can only be mixed by shares.",
            hint="Give ratios, weights or a preset with shares.",
        )
    repeating = [part.name for part in parts if part.repeat]
    if shares is None and repeating:
        raise ConfigError(f"Part {repeating[0]!r} may repeat, but no share says how much.", hint="Give ratios.")
    if shares is not None and budget_tokens is None and len(repeating) == len(parts):
        raise ConfigError("Every part may repeat, so the mixture has no end.", hint="Give budget_tokens.")


def _fingerprint(part: Part) -> str:
    return fingerprint_of(part.rows) if isinstance(part.rows, Dataset) else uuid4().hex


def _remedy(feed: Feed) -> str:
    if not feed.tokens or feed.share is None:
        return "Check that its columns hold text."
    return (
        f"Lower the budget to {int(feed.tokens / feed.share):,} tokens or the share of this part, "
        "or let it repeat (repeat=True, --repeat)."
    )
