"""Examples into training sequences: token ids to the token as the synthesizer sees them, and which of them count.

A sequence is what a chain shows a model: several one-shot examples of one source, one after another, up to the
window (Instruction Pre-Training, section 2.1). The loss is on the pairs and their end marks alone. Knows nothing of
files, models or trainers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from hfsynth.core.draws import Draws
from hfsynth.core.records import Turn
from hfsynth.documents.examples import Example
from hfsynth.prompting.instruction_pretrain import InstructionPretrain
from hfsynth.training.config import Packing


class OffsetTokenizer(Protocol):
    """What sequences need of a tokenizer beside what prompts do."""

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of `text`, and the characters from and to that each stands for."""


@dataclass(frozen=True, slots=True)
class TrainingSequence:
    """Token ids, and for each whether the loss is on it."""

    token_ids: tuple[int, ...]
    counts: tuple[bool, ...]
    shots: int

    def labels(self, ignored: int = -100) -> list[int]:
        """Return the ids that are to be learnt, `ignored` in place of the others."""
        return [token if counts else ignored for token, counts in zip(self.token_ids, self.counts, strict=True)]


def sequence(prompts: InstructionPretrain, tokenizer: OffsetTokenizer, shots: Sequence[Turn]) -> TrainingSequence:
    """Return the sequence of `shots`: the last one's prompt has exactly the ids that a chain would send.

    Earlier shots stand in that prompt as a chain shows them. What counts is every shot's answer: its pairs and the
    token that ends it.
    """
    *history, last = shots
    text, spans = "", []
    for shot in history:
        text += prompts.opening(shot.document)
        answer = prompts.answer(shot.pairs)
        spans.append((len(text), len(text) + len(answer)))
        text += answer
    token_ids = prompts.prompt(history, last.document)
    answer_ids = prompts.going_on(prompts.answer(last.pairs))
    _, offsets = tokenizer.encode_with_offsets(text + prompts.opening(last.document) + prompts.answer(last.pairs))
    shown = offsets[: len(token_ids)]
    counts = [any(start <= first and after <= end for start, end in spans) for first, after in shown]
    return TrainingSequence((*token_ids, *answer_ids), (*counts, *(True for _ in answer_ids)), len(shots))


def held_out(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split examples into those to train on and those to measure the loss on, by their contexts and the seed.

    An example's side depends on its own context alone, so that the same context is never on both sides.
    """
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[Draws(f"held out/{seed}/{example.context}").share() < share].append(example)
    return sides


def pack(
    examples: Sequence[Example], prompts: InstructionPretrain, tokenizer: OffsetTokenizer, packing: Packing
) -> tuple[list[TrainingSequence], Counter[str]]:
    """Return the sequences of every epoch in order, and what was left out: `too_long`, `over_cap` (examples an epoch).

    Each epoch draws its own examples, order and number of shots a sequence, 1 to `packing.shots` alike likely, so that
    prompts without and with earlier shots are both learnt. An example longer than the window is left out.
    """
    fitting, left_out = _fitting(examples, prompts, packing.window)
    packed: list[TrainingSequence] = []
    for epoch in range(packing.epochs):
        stream = Draws(f"epoch {epoch}/{packing.seed}")
        of_epoch: list[TrainingSequence] = []
        for source, found in sorted(fitting.items()):
            chosen = [found[number] for number in stream.order(len(found))][: packing.cap_of(source)]
            left_out["over_cap"] += len(found) - len(chosen) if epoch == 0 else 0
            of_epoch += (sequence(prompts, tokenizer, shots) for shots in _grouped(chosen, packing, stream))
        packed += (of_epoch[number] for number in stream.order(len(of_epoch)))
    return packed, left_out


@dataclass(frozen=True, slots=True)
class _Sized:
    turn: Turn
    tokens: int


def _fitting(
    examples: Sequence[Example], prompts: InstructionPretrain, window: int
) -> tuple[Mapping[str, list[_Sized]], Counter[str]]:
    fitting: dict[str, list[_Sized]] = {}
    left_out: Counter[str] = Counter()
    for example in examples:
        turn = Turn(example.context, example.pairs)
        tokens = len(prompts.prompt([], turn.document)) + len(prompts.going_on(prompts.answer(turn.pairs)))
        if tokens > window:
            left_out["too_long"] += 1
        else:
            fitting.setdefault(example.source, []).append(_Sized(turn, tokens))
    return fitting, left_out


def _grouped(found: Sequence[_Sized], packing: Packing, stream: Draws) -> Iterator[list[Turn]]:
    """Cut examples into runs of 1 to `packing.shots` that fit the window."""
    group: list[_Sized] = []
    wanted = 1 + stream.below(packing.shots)
    for item in found:
        # Joined, a shot may take a token or two more than alone: where two tokens meet at its edge.
        if len(group) == wanted or (group and sum(g.tokens + 2 for g in group) + item.tokens > packing.window):
            yield [g.turn for g in group]
            group, wanted = [], 1 + stream.below(packing.shots)
        group.append(item)
    if group:
        yield [g.turn for g in group]


def batched(sequences: Sequence[TrainingSequence], tokens: int, *, within: int) -> list[list[TrainingSequence]]:
    """Return batches of at most `tokens` tokens, padding included, from sequences of about the same length.

    Sequences are sorted by length among `within` neighbours only, so that the order of the whole stays as drawn; a
    sequence longer than `tokens` is a batch alone.
    """
    batches: list[list[TrainingSequence]] = []
    for _, window in groupby(enumerate(sequences), lambda numbered: numbered[0] // within):
        start = len(batches)
        for item in sorted((found for _, found in window), key=lambda found: len(found.token_ids)):
            if len(batches) > start and (len(batches[-1]) + 1) * len(item.token_ids) <= tokens:
                batches[-1].append(item)
            else:
                batches.append([item])
    return batches


def in_order(batches: Sequence[list[TrainingSequence]], seed: int) -> list[list[TrainingSequence]]:
    """Return batches in an order drawn from the seed."""
    return [batches[number] for number in Draws(f"batches/{seed}").order(len(batches))]
