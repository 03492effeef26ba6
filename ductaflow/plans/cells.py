"""What an instance's notebook gets beside its flow's own cells: table, config, variables.

A change of what the two code cells do raises the version of `config` in `rules`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

from ductaflow.errors import ConfigError
from ductaflow.flows.reading import require_parameters
from ductaflow.flows.syntax import language
from ductaflow.model.records import Cell, Config, Flow, Note, Tag
from ductaflow.plans.config import dotted, quoted, to_python, variables
from ductaflow.plans.languages import TRANSLATORS
from ductaflow.plans.parameters import left_alone, read_defaults
from ductaflow.secrets.references import SECRET, expression, is_reference, shown, sources

MAX_ASSIGNMENTS = 200
"""Up to so many variables are assigned one by one; more of them by one expression."""

MAX_LITERAL = 100_000
"""Characters of a config that is written as Python; of a longer one IPython looks at each token."""

MAX_ROWS = 100
MAX_TABLES = 50
MAX_VALUE = 200
"""What the table at the top shows at most: rows a table, tables, characters a value."""


def prepare(flow: Flow, config: Config | None, notes: Sequence[Note] = ()) -> tuple[Cell, ...]:
    """The cells of one instance: the flow's own with the config's put in place.

    Args:
        flow: The flow.
        config: The normalised config; None leaves the flow as it is.
        notes: What the table at the top should also tell.

    Returns:
        A table of the config at the top, then the flow's cells, the injected config and the
        cell that makes variables of it following the parameters cell, both in the flow's
        language. In one that is not known here a flow reads `config.json` itself.

    Raises:
        ParametersCellError: The flow has no parameters cell, or more than one.
        ConfigError: The flow's language cannot hold a value.
    """
    if config is None:
        return flow.cells
    table = _inserted(flow, "markdown", config_table(config, notes), Tag.CONFIG_TABLE)
    sources = _sources(flow, config)
    if sources is None:
        return (table, *flow.cells)
    after = require_parameters(flow) + 1
    injected = _inserted(flow, "code", sources[0], Tag.INJECTED)
    flattening = _inserted(flow, "code", sources[1], Tag.FLATTEN)
    return (table, *flow.cells[:after], injected, flattening, *flow.cells[after:])


def _sources(flow: Flow, config: Config) -> tuple[str, str] | None:
    """The sources of the two code cells; None for a language that is not known here."""
    if language(flow) == "python":
        known = read_defaults(flow)
        source = flatten_source(config, left_alone(known.own, config))
        if known.is_parameter and "config" in config:
            source += '\nconfig = config["config"]'  # the flow's own meaning of the name
        return config_source(config), source
    if (held := next(sources(config), None)) is not None:
        raise ConfigError(
            f"{flow.path} is in {language(flow)}, and its config has the secret {held!r}; only "
            "Python flows are given secrets"
        )
    translator = TRANSLATORS.get(language(flow))
    if translator is None:
        return None
    return translator.config_source(config), translator.flatten_source(config)


def _inserted(flow: Flow, kind: str, source: str, tag: str) -> Cell:
    taken = {cell.id for cell in flow.cells}
    ids = chain([tag], (f"{tag}-{n}" for n in count(2)))
    cell_id = next(i for i in ids if i not in taken)
    return Cell(kind=kind, source=source, id=cell_id, metadata={"tags": [tag]})


# --- the two code cells ----------------------------------------------------------------------


def flatten(config: Config) -> dict[str, Any]:
    """The variables that a flow gets from its config, `config` itself apart.

    The rule is `ductaflow.plans.config.variables`; the flattening cell gives exactly these.
    """
    return {name: _look_up(config, path) for name, path in variables(config).items()}


def config_source(config: Config) -> str:
    """Source of the injected cell."""
    text = to_python(config, expression)
    if len(text) > MAX_LITERAL and not any(sources(config)):
        data = json.dumps(config).replace("'", "\\u0027")  # it stands only in strings
        text = f"__import__('json').loads(r'''{data}''')"
    return f"# This instance's config, in place of the default above.\nconfig = {text}"


def flatten_source(config: Config, left_alone: Collection[str] = ()) -> str:
    """Source of the flattening cell, for which `config` is all it needs.

    It leaves no name behind but the variables.

    Args:
        config: The config.
        left_alone: Names to which it gives no value; see `ductaflow.plans.config.variables`.
    """
    paths = variables(config, left_alone)
    if not paths:
        return "# No key of this config becomes a variable."
    if len(paths) > MAX_ASSIGNMENTS and (source := _flatten_at_once(config, paths)):
        return source
    lines = [
        f"{name} = config{''.join(f'[{quoted(key)}]' for key in path)}"
        for name, path in paths.items()
    ]
    return "\n".join(["# The config's keys as variables.", *lines])


def _flatten_at_once(config: Config, paths: Mapping[str, tuple[str, ...]]) -> str:
    """The same as one expression; empty where that would not give the same."""
    if any(name != path[-1] for name, path in paths.items()):
        return ""  # Python's normal form of an identifier, which a string key does not get
    if not {"globals", "isinstance", "dict"}.isdisjoint(paths):
        return ""  # run a second time by hand, it would call what it has just replaced
    parts = [value for value in config.values() if isinstance(value, dict)]
    keys = {key for part in [*parts, config] for key in part}
    left_out = sorted(key for key in keys if key.isidentifier() and key not in paths)
    unless = f" and key not in {{{', '.join(map(quoted, left_out))}}}" if left_out else ""
    return f"""\
# The config's keys as variables: those of its dicts, then its own, which win.
globals().update(
    {{
        key: value
        for part in [*(v for v in config.values() if isinstance(v, dict)), config]
        for key, value in part.items()
        if key.isidentifier(){unless}
    }}
)"""


def _look_up(config: Config, path: Sequence[str]) -> Any:
    value: Any = config
    for key in path:
        value = value[key]
    return value


# --- the table at the top --------------------------------------------------------------------

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
