"""One part of a mixture: its data, and its documents in their order. Knows nothing of the other parts or of budgets."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from datasets import Dataset, IterableDataset

from hfsynth.core.errors import ConfigError, SourceError
from hfsynth.core.records import content_id
from hfsynth.documents.dataset_splits import Rows, splits_of
from hfsynth.models.tokenizers import TextTokenizer
from hfsynth.texts.layouts import Kind, Layout, Row, Skip, read_row, source_ids
from hfsynth.texts.pair_spans import Span, read_spans

BATCH = 256
SHUFFLE_BUFFER = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a mixture.

    `data` is a dataset, a stream, or a dict of splits of either. It is shuffled from the seed and `name`; a stream is
    shuffled within a buffer of 1,000 rows. `weight` is relative to the other parts' weights, in tokens. A part that may
    `repeat` starts again, in another order, when it runs out. `origin` says where the data were read: a folder, a file
    or a dataset on the Hub. A mixture's folder records it, with its revision and licence.
    """

    name: str
    data: Rows | Mapping[str, Rows]
    kind: Kind
    weight: float | None = None
    repeat: bool = False
    origin: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in tuple(Kind):
            raise ConfigError(f"Part {self.name!r} has the kind {self.kind!r}.", hint=f"Kinds: {', '.join(Kind)}.")
        object.__setattr__(self, "kind", Kind(self.kind))
        splits_of(self.data, what=f"part {self.name!r}")

    @property
    def splits(self) -> Mapping[str, Rows]:
        """The data by split; empty for data without splits."""
        return self.data if isinstance(self.data, Mapping) else {}

    @property
    def rows(self) -> Rows:
        """The data of a part without splits; raise SourceError for one that has them."""
        if isinstance(self.data, Mapping):
            raise SourceError(
                f"Part {self.name!r} has splits: {', '.join(self.data)}.",
                hint="Choose one split of it, for example ds['train'], or let hfsynth.mix mix every split.",
            )
        return self.data

    def of(self, split: str, *, main: bool) -> Part | None:
        """Return what this part gives to a split; None where it has nothing for it.

        Data without splits are for the `main` one, to train on, and only there a part may repeat. Raise SourceError
        where a dict lacks the main split.
        """
        if not isinstance(self.data, Mapping):
            return self if main else None
        rows = self.data.get(split)
        if main and rows is None:
            raise SourceError(
                f"Part {self.name!r} has no split {split!r}; it has {', '.join(self.data)}.",
                hint="Give the split that is to be mixed alone, for example ds['train'], or name one that all parts "
                "have (--split).",
            )
        if rows is None or (not main and isinstance(rows, Dataset) and not len(rows)):
            return None
        return replace(self, data=rows, repeat=self.repeat and main)


@dataclass(frozen=True, slots=True)
class PartReport:
    """What a part gave. `repeats` counts documents that were given before; `skipped` rows by reason, each row once."""

    name: str
    kind: str
    documents: int
    tokens: int
    share_asked: float | None
    share_got: float
    repeats: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MixedDocument:
    """A text, the ids of the documents it was made of, its tokens without BOS and EOS, and where its pairs lie.

    A general instruction is a pair as a whole.
    """

    text: str
    source_ids: list[str]
    tokens: int
    pairs: Sequence[Span] = ()


@dataclass(slots=True)
class Feed:
    """The documents of one part in their order, and what was taken of them.

    `share` is the part's share of all tokens; None gives it whole, once.
    """

    part: Part
    layout: Layout
    tokenizer: TextTokenizer
    seed: int
    share: float | None
    documents: int = 0
    tokens: int = 0
    first_pass: int | None = None
    closed: bool = False
    skipped: Counter[Skip] = field(default_factory=Counter)
    _stream: Iterator[MixedDocument] = field(init=False)

    def __post_init__(self) -> None:
        self._stream = self._passes()

    def take(self) -> MixedDocument | None:
        """Return the next document, or None where the part has run out."""
        document = next(self._stream, None)
        if document is not None:
            self.documents += 1
            self.tokens += document.tokens
        return document

    def progress(self) -> float:
        """Say how far the part is: tokens for its share, or documents for its rows."""
        if self.share is not None:
            return self.tokens / self.share
        rows = len(self.part.rows) if isinstance(self.part.rows, Dataset) else 1
        return (self.documents + self.skipped.total()) / max(rows, 1)

    def skips(self) -> str:
        """Say how many rows were skipped, by reason; empty where none was."""
        return ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.skipped.items()))

    def report(self, total: int) -> PartReport:
        """Say what the part gave to a mixture of `total` tokens."""
        return PartReport(
            name=self.part.name,
            kind=self.part.kind.value,
            documents=self.documents,
            tokens=self.tokens,
            share_asked=self.share,
            share_got=self.tokens / total if total else 0.0,
            repeats=0 if self.first_pass is None else self.documents - self.first_pass,
            skipped={reason.value: count for reason, count in sorted(self.skipped.items())},
        )

    def _passes(self) -> Iterator[MixedDocument]:
        """Yield the documents of one pass after another where the part may repeat; a barren pass is the last."""
        number = 0
        while True:
            before = self.tokens
            yield from self._one_pass(number)
            if number == 0:
                self.first_pass = self.documents
            if not self.part.repeat or self.tokens == before:
                return
            number += 1

    def _one_pass(self, number: int) -> Iterator[MixedDocument]:
        row_number = 0
        for batch in _shuffled(self.part.rows, self.layout, _seed(self.seed, self.part.name, number)):
            kept: list[tuple[str, list[str], Sequence[Span]]] = []
            for row in _rows(batch):
                text = read_row(self.layout, row, row_number)
                if not isinstance(text, Skip):
                    kept.append((text, source_ids(row) or [content_id(text)], self._spans(row, text, row_number)))
                elif number == 0:
                    self.skipped[text] += 1
                row_number += 1
            counts = self.tokenizer.count([text for text, *_ in kept])
            together = zip(kept, counts, strict=True)
            yield from (MixedDocument(text, ids, tokens, spans) for (text, ids, spans), tokens in together)

    def _spans(self, row: Row, text: str, number: int) -> Sequence[Span]:
        return ((0, len(text)),) if self.part.kind is Kind.GENERAL else read_spans(row, text, number)


def together(splits: Sequence[Sequence[PartReport]]) -> tuple[PartReport, ...]:
    """Return what every part gave to several splits: sums, its share of all tokens, and the share it was asked for."""
    total = sum(report.tokens for reports in splits for report in reports)
    found: dict[str, list[PartReport]] = {}
    for report in (report for reports in splits for report in reports):
        found.setdefault(report.name, []).append(report)
    return tuple(
        PartReport(
            name=name,
            kind=reports[0].kind,
            documents=sum(report.documents for report in reports),
            tokens=(tokens := sum(report.tokens for report in reports)),
            share_asked=reports[0].share_asked,
            share_got=tokens / total if total else 0.0,
            repeats=sum(report.repeats for report in reports),
            skipped=dict(sum((Counter(report.skipped) for report in reports), Counter())),
        )
        for name, reports in found.items()
    )


def columns_of(part: Part) -> list[str]:
    """Return the column names of a part; a stream that does not know them is asked for its first row."""
    known = part.rows.column_names
    return list(known) if known is not None else list(next(iter(part.rows), {}))


def _shuffled(data: Dataset | IterableDataset, layout: Layout, seed: int) -> Iterator[Mapping[str, list[object]]]:
    names = data.column_names
    chosen = data.select_columns(layout.columns(names)) if names is not None else data
    if isinstance(chosen, IterableDataset):
        yield from chosen.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER).iter(batch_size=BATCH)
    else:
        yield from chosen.with_format(None).shuffle(seed=seed).iter(batch_size=BATCH)


def _rows(batch: Mapping[str, list[object]]) -> Iterator[Row]:
    return (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


def _seed(seed: int, name: str, number: int) -> int:
    """Derive the seed of one pass over one part, the same on every machine."""
    digest = hashlib.blake2b(f"{seed}\0{name}\0{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
