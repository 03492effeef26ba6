"""A config's values as Python source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from ductaflow.model.plans import Config
from ductaflow.secrets.references import SECRET, is_reference

_WIDTH = 88


def to_python(config: Config, secret: Callable[[str], str] | None = None) -> str:
    """Python source of a literal that equals the config: one key a line, no imports needed.

    Args:
        config: A normalised config.
        secret: Writes an expression for a secret's source; None to write references.

    Returns:
        Source to which `eval` gives the config back exactly, NaN, `-0.0` and lone surrogates
        included; ASCII but for letters that can be read.
    """
    return _literal(config, "", secret)


def literal(value: Any) -> str:
    """The same of a single value."""
    return _literal(value, "")


def _literal(value: Any, indent: str, secret: Callable[[str], str] | None = None) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float):
        return _float(value)
    inner = f"{indent}    "
    if secret is not None and is_reference(value):
        return secret(value[SECRET])
    if isinstance(value, dict) and value:
        items = [f"{quoted(key)}: {_literal(item, inner, secret)}" for key, item in value.items()]
        return "{\n" + "".join(f"{inner}{item},\n" for item in items) + f"{indent}}}"
    if isinstance(value, list) and value:
        items = [_literal(item, inner, secret) for item in value]
        one_line = f"[{', '.join(items)}]"
        if len(indent) + len(one_line) <= _WIDTH and "\n" not in one_line:
            return one_line
        if any(isinstance(item, (dict, list)) for item in value):
            rows = items
        else:
            rows = list(_filled(items, _WIDTH - len(inner)))
        return "[\n" + "".join(f"{inner}{row},\n" for row in rows) + f"{indent}]"
    return repr(value)


def _filled(items: list[str], width: int) -> Iterator[str]:
    """The items in rows of at most `width`, or one item that is longer."""
    row, length = [items[0]], len(items[0])
    for item in items[1:]:
        if length + len(item) + 2 >= width:
            yield ", ".join(row)
            row, length = [item], len(item)
        else:
            row.append(item)
            length += len(item) + 2
    yield ", ".join(row)


def quoted(text: str) -> str:
    """A string as Python source, in double quotes."""
    literal = repr(text)
    if literal[0] == '"':
        return literal
    body = literal[1:-1].replace("\\'", "'").replace('"', '\\"')
    return f'"{body}"'


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    if math.isnan(value):
        return 'float("nan")'
    return 'float("inf")' if value > 0 else '-float("inf")'
