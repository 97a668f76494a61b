"""Column types: inferred from plain values, checked against later ones, and made such that Parquet can hold them.

Knows nothing of files. A kind is the type of plain values: a name for a scalar, a tuple of one for a list, a dict for
an object.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import pyarrow as pa
from datasets import Features, List, Value

from hfsynth.core.errors import ColumnError

PlainType: TypeAlias = "str | tuple[PlainType] | dict[str, PlainType]"

NOTHING: PlainType = "null"
_SCALARS: dict[type, PlainType] = {type(None): "null", bool: "bool", int: "int64", float: "float64", str: "string"}
_LIMIT = 2**63
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")


def kind_of(value: Any) -> PlainType | None:  # noqa: ANN401
    """Return the kind of a plain value, or None where its parts are of different kinds."""
    if isinstance(value, list):
        return _kind_of_list(value)
    if isinstance(value, dict):
        fields = {name: kind_of(part) for name, part in value.items()}
        known = {name: kind for name, kind in fields.items() if kind is not None}
        return known if len(known) == len(fields) else None
    if type(value) is int and not -_LIMIT <= value < _LIMIT:
        return None
    return _SCALARS[type(value)]


def _kind_of_list(values: list[Any]) -> PlainType | None:
    merged: PlainType | None = NOTHING
    for value in values:
        kind = kind_of(value)
        merged = None if merged is None or kind is None else merge(merged, kind)
    return None if merged is None else (merged,)


def merge(one: PlainType, other: PlainType) -> PlainType | None:
    """Return the kind that holds values of both, or None where there is none."""
    if one == other or other == NOTHING:
        return one
    if one == NOTHING:
        return other
    if {str(one), str(other)} == {"int64", "float64"}:
        return "float64"
    if isinstance(one, tuple) and isinstance(other, tuple):
        part = merge(one[0], other[0])
        return None if part is None else (part,)
    if isinstance(one, dict) and isinstance(other, dict):
        fields = {name: merge(one.get(name, NOTHING), other.get(name, NOTHING)) for name in {**one, **other}}
        known = {name: kind for name, kind in fields.items() if kind is not None}
        return known if len(known) == len(fields) else None
    return None


def holds(kind: PlainType, value: Any) -> bool:  # noqa: ANN401
    """Tell whether a column of this settled kind can hold a value without losing any of it."""
    if value is None:
        return True
    if type(value) is str or type(value) is bool:
        return kind == _SCALARS[type(value)]
    found = kind_of(value)
    return found is not None and merge(kind, found) == kind


def settled(kind: PlainType) -> PlainType:
    """Return the kind of a column: what was None throughout is taken for a string."""
    if isinstance(kind, tuple):
        return (settled(kind[0]),)
    if isinstance(kind, dict):
        return {name: settled(part) for name, part in kind.items()}
    return "string" if kind == NOTHING else kind


def kind_of_cell(cell: str) -> PlainType:
    """Return the kind of a value that stands in a text, such as a field of a CSV file."""
    if not cell:
        return NOTHING
    if cell.lower() in ("true", "false"):
        return "bool"
    if _WHOLE_NUMBER.fullmatch(cell):
        return "int64"
    # Digits behind a leading zero, or too many of them, are a code and not a quantity.
    is_number = _NUMBER.fullmatch(cell) and not _LEADING_ZERO.match(cell) and sum(map(str.isdigit, cell)) <= 17
    return "float64" if is_number else "string"


def truth(cell: str) -> bool:
    """Return the truth value that stands in a text."""
    return cell.lower() == "true"


def described_type(kind: PlainType | None) -> str:
    """Return the name of a kind for people."""
    if isinstance(kind, tuple):
        return f"list of {described_type(kind[0])}"
    if isinstance(kind, dict):
        return "object with " + (
            ", ".join(f"{name}: {described_type(part)}" for name, part in kind.items()) or "no keys"
        )
    return kind or "mixture of types"


def feature_of(kind: PlainType, column: str) -> Any:  # noqa: ANN401
    """Return the `datasets` feature for a kind, settled; raise ColumnError for objects without keys."""
    if isinstance(kind, tuple):
        return List(feature_of(kind[0], column))
    if isinstance(kind, dict):
        if not kind:
            raise ColumnError(
                f"The column {column!r} holds objects without any keys, and Parquet cannot hold those.",
                hint="Leave the column out, or give null instead of {}.",
            )
        return {name: feature_of(part, column) for name, part in kind.items()}
    return Value("string" if kind == NOTHING else kind)


def storable(schema: pa.Schema) -> pa.Schema:
    """Return an Arrow schema with the types of plain values instead of encodings, and strings for columns of nulls."""
    return pa.schema([field.with_type(_storable(field.type)) for field in schema], metadata=schema.metadata)


def _storable(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return _storable(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_storable(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_storable(kind.value_type)))
    return kind


def features_of(schema: pa.Schema) -> Features:
    """Return the `datasets` features of an Arrow schema; raise ColumnError for a type that they cannot express."""
    try:
        return Features.from_arrow_schema(storable(schema))
    except ValueError as error:
        raise ColumnError(
            f"A column has a type that datasets cannot hold: {error}", hint="Leave the column out, or convert it."
        ) from error
