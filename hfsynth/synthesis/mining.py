"""Chains whose pairs are mined, wholly or where a model wrote none. Knows nothing of how pairs are mined."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from hfsynth.core.records import Document, Parsed, Status, Synthesis, Synthesized, Turn
from hfsynth.core.text import encodable
from hfsynth.engine.protocol import Completion, Request
from hfsynth.mining.mine import mine
from hfsynth.quality.measures import keep_pairs
from hfsynth.synthesis.chains import Chainer, Shared


@dataclass(frozen=True, slots=True)
class MiningChainer(Chainer):
    """A chainer that asks no engine: the pairs of every document are mined."""

    def _shot(
        self, document: Document, history: Sequence[Turn], shared: Shared, shot: int
    ) -> Generator[Request, Completion, tuple[Synthesized, Turn]]:
        yield from ()
        name = shared.name
        if document.text is None or not document.text.strip():
            return Synthesized((), Synthesis(Status.EMPTY, name, shot)), Turn("", ())
        text = encodable(document.text)
        if (held := self.held(document, text)) is not None:
            return Synthesized((), Synthesis(Status.SCREENED, name, shot, rejected=(held,))), Turn("", ())
        kept = self._mined(document, text)
        status = Status.OK if kept.pairs else Status.NO_PAIRS
        return Synthesized(kept.pairs, Synthesis(status, name, shot, rejected=kept.rejected)), Turn(text, kept.pairs)

    def _mined(self, document: Document, text: str) -> Parsed:
        return keep_pairs(Parsed(mine(text, seed=self.seed, name=document.id), ()), text, self.keep, self.index)


@dataclass(frozen=True, slots=True)
class FillingChainer(Chainer):
    """A chainer that mines pairs for documents about which the model wrote none; later shots do not show them."""

    def chain(self, documents: Sequence[Document]) -> Generator[Request, Completion, list[Synthesized]]:
        """Synthesize the pairs of one chain's documents, one result a document, in order."""
        documents = self.cleared(documents)
        results = yield from Chainer.chain(self, documents)
        return [self._filled(document, result) for document, result in zip(documents, results, strict=True)]

    def _filled(self, document: Document, result: Synthesized) -> Synthesized:
        if result.synthesis.status is not Status.NO_PAIRS or document.text is None:
            return result
        text = encodable(document.text)
        found = keep_pairs(Parsed(mine(text, seed=self.seed, name=document.id), ()), text, self.keep, self.index)
        rejected = result.synthesis.rejected + found.rejected
        status = Status.OK if found.pairs else Status.NO_PAIRS
        told = replace(result.synthesis, status=status, rejected=rejected, mined=bool(found.pairs))
        return Synthesized(found.pairs, told)
