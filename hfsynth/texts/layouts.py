"""Read the text out of a row, whatever columns it has. Knows nothing of shares, tokens or files.

General instructions become "{question} {response}", one space, the system prompt dropped (facts on pre-training:
the published setting for general data).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hfsynth.core.errors import ColumnError
from hfsynth.core.text import encodable

Row = Mapping[str, object]


class Kind(StrEnum):
    """What a part of a mixture holds."""

    AUGMENTED = "augmented"  # rendered text, documents with their pairs
    RAW = "raw"  # unchanged documents
    GENERAL = "general"  # general instructions and responses


class Skip(StrEnum):
    """Why a row was left out."""

    EMPTY_TEXT = "empty_text"
    NO_QUESTION = "no_question"
    NO_RESPONSE = "no_response"
    MALFORMED_MESSAGES = "malformed_messages"  # no list of role and content, or a role other than the known ones
    NO_PAIRS = "no_pairs"
    BROKEN_CHAIN = "broken_chain"  # its prompt showed a document that is no longer right before it
    INVALID_UNICODE = "invalid_unicode"  # a lone surrogate, which no file and no tokenizer takes


@dataclass(frozen=True, slots=True)
class Layout:
    """A set of columns that is understood: how it is named, what it needs and may have, and how it is read.

    `read` takes a row and its number and returns the text, or why there is none.
    """

    name: str
    needs: tuple[str, ...]
    read: Callable[[Row, int], str | Skip]
    may_have: tuple[str, ...] = ()

    def columns(self, present: Iterable[str]) -> list[str]:
        """Return those of the `present` columns that are read, ids included."""
        wanted = {*self.needs, *self.may_have, "id", "source_ids"}
        return [column for column in present if column in wanted]


def layout_for(kind: Kind, columns: Iterable[str], *, part: str) -> Layout:
    """Choose the layout that fits the columns of `part`; the first that fits is taken, in the order of the message.

    Raises ColumnError that names the columns found and the layouts known.
    """
    present = list(columns)
    known = _GENERAL if kind is Kind.GENERAL else (_TEXT,)
    for layout in known:
        if set(layout.needs) <= set(present):
            return layout
    wanted = "; or ".join(f"{layout.name} ({', '.join(layout.needs)})" for layout in known)
    raise ColumnError(
        f"Part {part!r} has the columns {', '.join(present) or 'none'}; expected {wanted}.",
        hint="Rename the columns with datasets' rename_columns, or correct the kind of the part.",
    )


def read_row(layout: Layout, row: Row, number: int) -> str | Skip:
    """Return the text of a row, or the reason why it has none that can be used."""
    text = layout.read(row, number)
    return text if isinstance(text, Skip) or encodable(text) == text else Skip.INVALID_UNICODE


def source_ids(row: Row) -> list[str]:
    """Return the ids of the documents a row was made of: `source_ids`, else `id`, else none."""
    ids = row.get("source_ids")
    if isinstance(ids, list) and ids:
        return [str(one) for one in ids]
    return [] if row.get("id") is None else [str(row["id"])]


def read_text(row: Row, number: int) -> str | Skip:
    """Return the column `text` of a row as it is, or the reason why it cannot be used."""
    return read_row(_TEXT, row, number)


def _read_plain(row: Row, number: int) -> str | Skip:
    text = _string(row, "text", number)
    return text if text.strip() else Skip.EMPTY_TEXT


def _read_question(row: Row, number: int) -> str | Skip:
    return _joined(_string(row, "question", number), _string(row, "response", number))


def _read_alpaca(row: Row, number: int) -> str | Skip:
    instruction, given = _string(row, "instruction", number).strip(), _string(row, "input", number).strip()
    question = f"{instruction}\n{given}" if instruction and given else instruction
    return _joined(question, _string(row, "output", number))


def _read_messages(row: Row, number: int) -> str | Skip:
    """Join every question with its response by a space and the exchanges by an empty line.

    The system prompt is dropped, and so is a last question that nobody answered.
    """
    turns = _turns(row.get("messages"))
    if turns is None:
        return Skip.MALFORMED_MESSAGES
    if turns and turns[-1][0] == "user":
        turns = turns[:-1]
    if not turns:
        return Skip.NO_RESPONSE
    exchanges = [_exchange(turns, at) for at in range(0, len(turns), 2)]
    skipped = [exchange for exchange in exchanges if isinstance(exchange, Skip)]
    return skipped[0] if skipped else "\n\n".join(exchanges)


def _exchange(turns: list[tuple[str, str]], at: int) -> str | Skip:
    if turns[at][0] != "user":
        return Skip.NO_QUESTION
    return _joined(turns[at][1], turns[at + 1][1])


def _turns(messages: object) -> list[tuple[str, str]] | None:
    """Return (role, content) alternating between user and assistant, or None where messages are not understood."""
    if not isinstance(messages, list):
        return [] if messages is None else None
    turns: list[tuple[str, str]] = []
    for message in messages:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if role == "system":
            continue
        if role not in ("user", "assistant") or not isinstance(content, str | None):
            return None
        text = content or ""
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n{text}")
        else:
            turns.append((role, text))
    return turns


def _joined(question: str, response: str) -> str | Skip:
    question, response = question.strip(), response.strip()
    if not question:
        return Skip.NO_QUESTION
    return f"{question} {response}" if response else Skip.NO_RESPONSE


def _string(row: Row, column: str, number: int) -> str:
    """Return what a column holds; None and an absent optional column count as empty."""
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ColumnError(
            f"Column {column!r} must hold strings; row {number} holds {type(value).__name__}.",
            hint=f"Cast it first, for example with ds.cast_column({column!r}, Value('string')).",
        )
    return value


_TEXT = Layout("text", ("text",), _read_plain, may_have=("pair_spans",))
_GENERAL = (
    Layout("questions", ("question", "response"), _read_question),
    Layout("chat messages", ("messages",), _read_messages),
    Layout("alpaca", ("instruction", "output"), _read_alpaca, may_have=("input",)),
    _TEXT,
)
