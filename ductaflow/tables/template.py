"""Text with fields that a table's row fills in, as `{client}/{params.mode}_{year:04d}`."""

from __future__ import annotations

import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import attrs

from ductaflow.errors import TableError
from ductaflow.secrets.references import SECRET, is_reference, shown
from ductaflow.tables.table import Row
from ductaflow.text.nearest import nearest


def lookup(row: Mapping[str, Any], key: str) -> Any:
    """A row's value by its column's name, dotted where the row is nested.

    Raises:
        KeyError: There is none.
    """
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(key)
        value = value[part]
    return value


def leaves(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A row's values by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if is_reference(value):
            found[f"{above}{key}"] = shown(value[SECRET])
        elif isinstance(value, Mapping) and value:
            found.update(leaves(value, f"{above}{key}."))
        else:
            found[f"{above}{key}"] = value
    return found


EMPTY = ("", "None", "nan", "NaT", "<NA>")
"""The text of cells that hold nothing."""

_FORMATTER = string.Formatter()
_Parsed: TypeAlias = tuple[tuple[str, str | None, str | None, str | None], ...]


@attrs.frozen
class Piece:
    """A part of a filled-in template.

    Attributes:
        text: What stands there now.
        field: The field that it is the value of; None for the template's own text.
    """

    text: str
    field: str | None = None


def fields(template: str, what: str) -> tuple[str, ...]:
    """The names of a template's fields, in order.

    Args:
        template: The template.
        what: What it is for, for the error message.

    Raises:
        TableError: It is not a format string, or has a field without a name.
    """
    return tuple(name for _, name, _, _ in _parsed(template, what) if name is not None)


@lru_cache
def _parsed(template: str, what: str) -> _Parsed:
    try:
        parsed = tuple(_FORMATTER.parse(template))
    except ValueError as e:
        raise TableError(f"{what} {template!r} is not a format string: {e}") from None
    if any(name == "" for _, name, _, _ in parsed):
        raise TableError(f"{what} {template!r} has a field without a name: write {{column}}")
    return parsed


def pieces(template: str, row: Row, what: str) -> list[Piece]:
    """A template filled in, in pieces. A field's whole name is a column's: dots mean nothing.

    Raises:
        TableError: It has a field that the row has not, that is empty there, or that cannot be
            formatted so.
    """
    found = []
    for literal, name, spec, conversion in _parsed(template, what):
        if literal:
            found.append(Piece(literal))
        if name is None:
            continue
        try:
            value = lookup(row, name)
        except KeyError:
            raise TableError(
                f"{what} {template!r} uses the field {{{name}}}, but the table has no such column: "
                f"{nearest(name, leaves(row))}"
            ) from None
        try:
            text = format(_FORMATTER.convert_field(value, conversion), spec or "")
        except (ValueError, TypeError) as e:
            raise TableError(f"{what} {template!r}: {{{name}}} is {value!r}: {e}") from None
        if text in EMPTY:
            raise TableError(f"{what} {template!r} has the field {{{name}}}, which is empty here")
        found.append(Piece(text, name))
    return found


def fill(template: str, row: Row, what: str) -> str:
    """A template's text for a row; see `pieces`."""
    return "".join(piece.text for piece in pieces(template, row, what))
