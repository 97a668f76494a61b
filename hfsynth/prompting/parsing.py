"""Read pairs out of what a synthesizer said. Total: any text gives pairs and counted rejections, never an error.

Knows nothing of models, prompts or documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from hfsynth.core.records import Pair, Parsed, Reason, Rejected
from hfsynth.core.text import ANSWER, CONTEXT, END_CONTEXT, END_PAIR, FORMAT_DELIMITERS, QUESTION, Escape, encodable
from hfsynth.prompting.pair_layout import laid_out

ESCAPE = Escape.of(FORMAT_DELIMITERS)

_PARTS = re.compile("|".join(re.escape(token) for token in FORMAT_DELIMITERS))


def render_pairs(pairs: Iterable[Pair]) -> str:
    """Write pairs in the `instruction-pretrain` form, delimiters inside them escaped; `parse_pairs` reads them back."""
    return "\n\n".join(
        f"{QUESTION} {ESCAPE.escape(pair.instruction)} {ANSWER} {ESCAPE.escape(pair.response)} {END_PAIR}"
        for pair in pairs
    )


def render_question(instruction: str) -> str:
    """Write a pair up to where its answer begins, as `render_pairs` does."""
    return f"{QUESTION} {ESCAPE.escape(instruction)} {ANSWER}"


def parse_answer(text: str) -> str:
    """Return the answer that follows `render_question`: the text up to the first delimiter, or all of it."""
    stop = _PARTS.search(text)
    return encodable(_restored(text if stop is None else text[: stop.start()]))


def parse_pairs(text: str, *, cut_off: bool = False) -> Parsed:
    """Read `<QUE> question <ANS> answer </END>` blocks, forgiving what can be forgiven.

    A missing `</END>` before the next question or at the natural end is forgiven; text outside a pair, a second
    `<ANS>` and a foreign delimiter end the pair and are counted, the pair before them is kept. `cut_off` says that
    the token limit ended the text: then an open last pair is `unfinished`.
    """
    return _settle(_blocks(text, cut_off))


def _blocks(text: str, cut_off: bool) -> Iterator[Pair | Rejected]:
    """Yield each candidate pair, its contents still unchecked, and each rejection, in the order of the text."""
    preamble, *blocks = text.split(QUESTION)
    yield from _leftover(preamble, Reason.UNFINISHED if cut_off and not blocks else Reason.NO_QUESTION)
    for number, block in enumerate(blocks, start=1):
        yield from _block(block, unfinished=cut_off and number == len(blocks))


def _block(block: str, unfinished: bool) -> Iterator[Pair | Rejected]:
    question, answer_mark, rest = block.partition(ANSWER)
    if not answer_mark:
        yield Rejected(Reason.UNFINISHED if unfinished else Reason.NO_ANSWER, block.strip())
        return
    if _PARTS.search(question):
        yield Rejected(Reason.STRAY_DELIMITER, block.strip())
        return
    stop = _PARTS.search(rest)
    if stop is None and unfinished:
        yield Rejected(Reason.UNFINISHED, block.strip())
        return
    answer, left = (rest, "") if stop is None else (rest[: stop.start()], rest[stop.start() :])
    yield Pair(_restored(question), _restored(answer))
    yield from _leftover(left.removeprefix(END_PAIR), Reason.STRAY_DELIMITER)


def _leftover(text: str, reason: Reason) -> Iterator[Rejected]:
    """Count text outside any pair; a lone repeated end mark is harmless."""
    words = text.replace(END_PAIR, " ").strip()
    if words:
        strays = any(token in text for token in (CONTEXT, END_CONTEXT, ANSWER))
        plain = reason is Reason.STRAY_DELIMITER and not strays
        yield Rejected(Reason.NO_QUESTION if plain else reason, text.strip())


def _restored(text: str) -> str:
    return ESCAPE.unescape(text.strip())


def _settle(found: Iterable[Pair | Rejected]) -> Parsed:
    """Keep the pairs that have both halves and a question not asked before."""
    pairs: list[Pair] = []
    rejected: list[Rejected] = []
    asked: set[str] = set()
    for item in map(_storable, found):
        reason = None if isinstance(item, Rejected) else _fault(item, asked)
        if isinstance(item, Rejected):
            rejected.append(item)
        elif reason is not None:
            rejected.append(Rejected(reason, f"{item.instruction}\n{item.response}".strip()))
        else:
            asked.add(folded_question(item.instruction))
            pairs.append(item)
    return Parsed(tuple(pairs), tuple(rejected))


def _storable(item: Pair | Rejected) -> Pair | Rejected:
    """Replace lone surrogates, which JSON escapes can hold and no file can."""
    if isinstance(item, Rejected):
        return Rejected(item.reason, encodable(item.text))
    return Pair(encodable(item.instruction), encodable(item.response))


def _fault(pair: Pair, asked: set[str]) -> Reason | None:
    if not pair.instruction:
        return Reason.EMPTY_QUESTION
    if not pair.response:
        return Reason.EMPTY_ANSWER
    return Reason.DUPLICATE_QUESTION if folded_question(pair.instruction) in asked else None


def folded_question(question: str) -> str:
    """Return a question as it is compared with others about the same document: in lower case, with single spaces."""
    return " ".join(question.casefold().split())


def parse_json_pairs(text: str, *, cut_off: bool = False) -> Parsed:
    """Read the object of the `chat` format; whole pairs in front of a cut or a slip are kept.

    Words or code fences around the object are forgiven. Options and reasoning are written into the pair in the
    published layout (`Options:` and `Let's think step by step.`), as `hfsynth.prompting.pair_layout` reads them.
    """
    return _settle(_json_items(text, cut_off))


def _json_items(text: str, cut_off: bool) -> Iterator[Pair | Rejected]:
    start = re.search(r'"pairs"\s*:\s*\[', text)
    position = start.end() if start else _array_start(text)
    if position is None:
        if text.strip():
            yield Rejected(Reason.UNFINISHED if cut_off else Reason.INVALID_JSON, text.strip())
        return
    decoder = json.JSONDecoder(strict=False)
    while (opening := _next_item(text, position)) is not None:
        try:
            item, position = decoder.raw_decode(text, opening)
        except (ValueError, RecursionError):  # ValueError: not JSON, or a number of thousands of digits
            yield Rejected(Reason.UNFINISHED if cut_off else Reason.INVALID_JSON, text[opening:].strip())
            return
        yield pair_of(item) or Rejected(Reason.INVALID_JSON, text[opening:position])


def _array_start(text: str) -> int | None:
    bracket = re.search(r"\[\s*\{", text)
    return bracket.start() + 1 if bracket else None


def _next_item(text: str, position: int) -> int | None:
    """Return where the array's next item starts, None where the array or the text ends."""
    item = re.compile(r"[\s,]*").match(text, position)
    start = item.end() if item else position
    return None if start >= len(text) or text[start] == "]" else start


def pair_of(item: object) -> Pair | None:
    """Return the pair that an item of the `chat` format holds, its halves unchecked; None for another shape."""
    if not isinstance(item, dict):
        return None
    question, answer = _scalar(item.get("instruction")), _scalar(item.get("response"))
    reasoning, options = _scalar(item.get("reasoning") or ""), _options(item.get("options") or [])
    if question is None or answer is None or reasoning is None or options is None:
        return None
    return laid_out(question, answer, options=options, reasoning=reasoning)


def _options(values: object) -> list[str] | None:
    """Return each option as one line; None where one is neither text nor a number."""
    texts = [_scalar(value) for value in values] if isinstance(values, list) else [None]
    lines = [" ".join(text.split()) for text in texts if text is not None]
    return [line for line in lines if line] if len(lines) == len(texts) else None


def _scalar(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value) if isinstance(value, (bool, int, float)) else None
