"""How commands speak: tables and colours on a terminal, plain text in a pipe, JSON if asked for."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from ductaflow.files import jsonio
from ductaflow.history.run import Run
from ductaflow.model.records import Status
from ductaflow.text.escapes import harmless, one_line
from ductaflow.text.quoting import visible


def on_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line that cannot command a terminal; colours are left out where no terminal is.

    Args:
        text: The line, or several.
        err: Whether it goes to standard error.
    """
    click.echo(harmless(text), err=err)


def dump(data: Any) -> None:
    """Print JSON, in which all that could command a terminal is escaped as JSON has it."""
    click.echo("".join(map(_in_json, jsonio.dumps(data))))


def _in_json(character: str) -> str:
    plain = character == "\n" or character.isprintable()
    return character if plain else json.dumps(character)[1:-1]


def width() -> int:
    """How many columns the terminal has; `COLUMNS` says otherwise."""
    return shutil.get_terminal_size().columns


def table(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    names: Collection[str] = (),
    texts: Collection[str] = (),
) -> None:
    """Print rows: as a table on a terminal; in a pipe a line each, cells parted by tabs.

    In a pipe, cells have line ends, tabs and the like as Python writes them, and a spreadsheet
    takes none for a formula.

    Args:
        columns: Their keys in order, which are their headings too.
        rows: A `Status` is shown in its colour.
        names: Columns that are shortened in their middle where the terminal is narrow.
        texts: Columns that are shortened at their end there.
    """
    if not on_terminal():
        for row in [{c: c for c in columns}, *rows]:
            say("\t".join(_inert(_text(row.get(column))) for column in columns))
        return
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ductaflow.cli.widths import fitted, shortened

    lines = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(cell_len, cells)) for cells in zip(columns, *lines, strict=True)]
    room = width() - 3 * (len(columns) - 1) - 2  # what is between columns, and at the edges
    flexible = [column in names or column in texts for column in columns]
    fits = fitted(widths, flexible, room)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, size in zip(columns, fits, strict=True):
        if size:
            shown.add_column(column, min_width=size, no_wrap=True)
    for row, line in zip(rows, lines, strict=True):
        cells = []
        for column, cell, size in zip(columns, line, fits, strict=True):
            value = row.get(column)
            style = value.colour if isinstance(value, Status) else ""
            if size:
                cells.append(Text(shortened(cell, size, middle=column in names), style=style))
        shown.add_row(*cells)
    Console(width=width()).print(shown)


def _cell(value: Any) -> str:
    return (f"{value.symbol} " if isinstance(value, Status) else "") + _plain(value)


def _plain(value: Any) -> str:
    return one_line(_text(value))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Status):
        return value.label
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _inert(text: str) -> str:
    """A cell for a spreadsheet; the apostrophe tells it that text follows."""
    cell = visible(text)
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def styled(status: Status) -> str:
    """A status with its symbol and colour."""
    red, green, blue = (int(status.colour[i : i + 2], 16) for i in (1, 3, 5))
    return click.style(f"{status.symbol} {status.label}", fg=(red, green, blue))


def run_line(run: Run) -> str:
    """A run in one line."""
    ran = run.duration is not None and run.status is not Status.PLANNED
    seconds = f" in {run.duration:.2f} s" if ran else ""
    reused = " (reused)" if run.reused else ""
    return f"{styled(run.status)} {run.label}{seconds}{reused}"


def say_notes(runs: Sequence[Run]) -> None:
    """What is odd about configs and flows of some runs, each thing once, where people see it."""
    from ductaflow.plans.notes import LOOKED_AT, for_people

    for line in for_people(note for run in runs[:LOOKED_AT] for note in run.notes):
        say(line, err=True)


def run_facts(run: Run) -> dict[str, Any]:
    """A run as JSON."""
    error = run.error
    return {
        "step": run.step,
        "instance": run.instance,
        "status": run.status.value,
        "reused": run.reused,
        "reasons": [str(reason) for reason in run.reasons],
        "started": run.record.started or None,
        "duration": run.duration,
        "flow": run.record.flow,
        "error": None if error is None else f"{error.type}: {error.message}",
        "metrics": dict(run.record.metrics),
        "dir": str(run.dir),
        "notebook": str(run.notebook),
        "html": str(run.html),
    }
