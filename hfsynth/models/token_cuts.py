"""Where a text may be cut so that its ids are those of its two parts: what stands before the cut is encoded once.

Tokenizers merge neighbouring characters, so that in general the ids of a text are not those of its parts. Some places
are safe by the tokenizer's own build, whatever the texts: that is looked up here, never guessed. Knows the `tokenizers`
library by what it is handed alone.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer


Known = MutableMapping[object, "array[int]"]
"""Ids that the prompts of one chain have in common, by what they stand for."""

LINE = "\n"
_BEFORE = ("a", "é", "日", "1", ".", ">", " ", "\n", "\t", "'", "_", "\u0301", "\U0001f600", " a")
_COMPOSING = {"NFC", "NFD", "NFKC", "NFKD"}  # they change nothing across a line break
_SPACES = {"Prepend", "Replace"}
_CUTTING = {"Split", "ByteLevel", "Digits"}


@dataclass(frozen=True, slots=True)
class Cut:
    """A safe place in a text that stays the same between two that change: `at` is its distance from where it begins.

    What follows the cut is encoded behind `lead`, whose ids are then taken off: a tokenizer may put a space before a
    text, which does not belong behind a cut.
    """

    at: int
    lead: str


def stands_apart(tokenizer: Tokenizer, token: str) -> bool:
    """Return whether texts before and after `token` are encoded as though the other were not there."""
    for added in tokenizer.get_added_tokens_decoder().values():
        if added.content == token:
            return not (added.normalized or added.lstrip or added.rstrip or added.single_word)
    return False


def safe_cut(tokenizer: Tokenizer, left: str, between: str, right: str) -> Cut | None:
    """Return where every text that ends in `left` may be cut from `between`, which ends it or goes on with `right`.

    `between` begins with a line break. None where that cannot be told.
    """
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    if left in added or any(LINE in content for content in added):
        return None
    if type(tokenizer.model).__name__ != "BPE" or tokenizer.model.dropout:
        return None
    words, norms = list(_parts(tokenizer.pre_tokenizer)), list(_parts(tokenizer.normalizer))
    if (
        _types(words) <= {"Metaspace"}
        and _types(norms) <= _SPACES | _COMPOSING
        and not any(map(_replaces_lines, norms))
    ):
        return Cut(0, LINE) if _never_merged(tokenizer) else None
    if _types(words) <= _CUTTING and _types(norms) <= _COMPOSING and not any(map(_looks_back, words)):
        places = (at for at in range(len(between) + 1) if _always_cut(tokenizer, left, between, right, at))
        return next((Cut(at, "") for at in places), None)
    return None


def _never_merged(tokenizer: Tokenizer) -> bool:
    """Return whether a line break is a token of its own wherever it stands."""
    names = [name for name in tokenizer.get_vocab(with_added_tokens=False) if LINE in name or "<0x0A>" in name]
    return bool(names) and set(names) <= {LINE, "<0x0A>"}


def _always_cut(tokenizer: Tokenizer, left: str, between: str, right: str, at: int) -> bool:
    """Return whether the words that merges stay within end at the cut, whatever stands before `left`."""
    assert tokenizer.pre_tokenizer is not None
    for before in _BEFORE:
        for after in ("", f"{right} a"):
            text = f"{before}{left}{between}{after}"
            ends = {end for _, (_, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
            if len(before) + len(left) + at not in ends:
                return False
    return True


def _parts(part: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the normalizers or pre-tokenizers that one is made of, as they stand in a tokenizer.json."""
    return iter(()) if part is None else _flat(json.loads(part.__getstate__()))


def _flat(state: Any) -> Iterator[Any]:  # noqa: ANN401
    if state["type"] != "Sequence":
        yield state
    for inner in state.get("normalizers", state.get("pretokenizers", ())):
        yield from _flat(inner)


def _types(states: Iterable[Any]) -> set[str]:
    return {state["type"] for state in states}


def _replaces_lines(state: Any) -> bool:  # noqa: ANN401
    return state["type"] == "Replace" and LINE in state["pattern"].get("String", LINE) + state["content"]


def _looks_back(state: Any) -> bool:  # noqa: ANN401
    """Return whether where a word ends may depend on more than the text from its beginning."""
    return bool(state.get("add_prefix_space")) or "(?<" in str(state.get("pattern", ""))
