"""A config as Markdown tables, for the top of a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ductaflow.model.plans import Config, Note
from ductaflow.plans.config import dotted
from ductaflow.secrets.references import SECRET, is_reference, shown

MAX_ROWS = 100
MAX_TABLES = 50
MAX_VALUE = 200
"""What the table at the top shows at most: rows a table, tables, characters a value."""

_ENTITIES = {ord(c): f"&#{ord(c)};" for c in "&<>|`*_[]$\\~!#:@\"'"}


def config_table(config: Config, notes: Sequence[Note] = ()) -> str:
    """Markdown with the notes as a list and the config as tables, a heading for each dict.

    Values are shown, never interpreted: neither as markdown, HTML nor mathematics. Long values,
    tables and many tables are shortened, and say so.
    """
    parts = ["## Configuration"]
    if notes:
        parts.append("\n".join(["**⚠ Notes**\n", *(f"- ⚠ {_as_prose(n.message)}" for n in notes)]))
    groups = list(_groups(config, ()))
    parts += [_group_table(path, rows) for path, rows in groups[:MAX_TABLES]]
    if not groups:
        parts.append("*The config is empty.*")
    if len(groups) > MAX_TABLES:
        parts.append(f"… and {len(groups) - MAX_TABLES:,} more dicts: see `config.json`.")
    return "\n\n".join(parts)


def titled_table(config: Config, title: str) -> str:
    """The same under a title of its own, given as plain text."""
    return f"## {plain_markdown(title)}\n{config_table(config).partition(chr(10))[2]}"


def _groups(config: Config, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Config]]:
    """Each dict that is not empty, with the keys that lead there, without the dicts inside."""
    rows = {
        key: v for key, v in config.items() if not (isinstance(v, dict) and v) or is_reference(v)
    }
    if rows:
        yield path, rows
    for key, value in config.items():
        if key not in rows:
            yield from _groups(value, (*path, key))


def _group_table(path: tuple[str, ...], rows: Config) -> str:
    heading = [f"### {_as_code(_shortened(dotted(path)))}"] if path else []
    shown = list(rows.items())[:MAX_ROWS]
    lines = [f"| {_as_code(_shortened(key))} | {_as_code(_shown(v))} |" for key, v in shown]
    table = "\n".join(["| key | value |", "| --- | --- |", *lines])
    more = len(rows) - len(shown)
    rest = [f"… and {more:,} more: see `config.json`."] if more else []
    return "\n\n".join([*heading, table, *rest])


def _shown(value: Any) -> str:
    """A value as a person reads it: strings bare unless that would mislead."""
    if is_reference(value):
        return shown(value[SECRET])
    if isinstance(value, str):
        return _shortened(repr(value) if _reads_otherwise(value) else value)
    if isinstance(value, list):
        text = repr(value[:MAX_VALUE])
        if len(value) > MAX_VALUE or len(text) > MAX_VALUE:
            return f"{text[:MAX_VALUE]}… ({len(value):,} items)"
        return text
    return _shortened(repr(value))


def _reads_otherwise(text: str) -> bool:
    """Whether a bare string would be taken for nothing, a number or another literal."""
    if text != text.strip() or text in ("", "None", "True", "False", "[]", "{}"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shortened(text: str) -> str:
    if len(text) <= MAX_VALUE:
        return text
    return f"{text[:MAX_VALUE]}… ({len(text):,} characters)"


def _as_code(text: str) -> str:
    """`text` in a fixed-width face: MathJax and link finders keep out of `<code>`."""
    return f"<code>{_as_text(text)}</code>"


def _as_prose(text: str) -> str:
    """A sentence, what stands in backticks as code."""
    parts = text.split("`")
    return "".join(_as_code(part) if i % 2 else _as_text(part) for i, part in enumerate(parts))


def plain_markdown(text: str) -> str:
    """Text as markdown that shows it as it is, on one line."""
    return _as_text(text)


def _as_text(text: str) -> str:
    """`text` with everything that markdown or HTML could act on as entities, on one line."""
    printable = "".join(c if c.isprintable() else _escaped(c) for c in text)
    return printable.translate(_ENTITIES)


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]
