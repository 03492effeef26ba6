"""Several runs as people see them: lines in a terminal, a table with links in Jupyter."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ductaflow.history.run import Run

_LINES = 20
_ROWS = 100


def listed(runs: Sequence[Run], *, full: bool = False) -> str:
    """Runs as lines: how each ended, its name and the seconds that it took.

    Args:
        runs: The runs; there may be very many, and only the first are looked at.
        full: Whether names have the step.
    """
    some = runs[:_LINES]
    names = [run.label if full else run.instance for run in some]
    width = max(map(len, names), default=0)
    lines = [counted(runs)]
    for run, name in zip(some, names, strict=True):
        seconds = "" if run.duration is None else f"  {run.duration:.2f} s"
        lines.append(f"  {run.status.symbol} {name:<{width}}{seconds}".rstrip())
    if len(runs) > len(some):
        lines.append(f"  and {len(runs) - len(some)} more")
    return "\n".join(lines)


def listed_html(runs: Sequence[Run], *, full: bool = False) -> str:
    """The same as a table with links, for a notebook; see `listed`."""
    some = runs[:_ROWS]
    rows = "".join(_row(run, run.label if full else run.instance) for run in some)
    more = len(runs) - len(some)
    foot = f"<p>and {more} more</p>" if more else ""
    head = "".join(f"<th>{name}</th>" for name in ("", "run" if full else "instance", "seconds"))
    table = f"<table><thead><tr>{head}<th></th></tr></thead><tbody>{rows}</tbody></table>"
    return f"<p>{html.escape(counted(runs))}</p>{table if some else ''}{foot}"


def counted(runs: Sequence[Run]) -> str:
    """How many there are, and of which step if that is one."""
    steps = {run.step for run in (*runs[:1], *runs[-1:])}
    of_step = f" of {steps.pop()}" if len(steps) == 1 else ""
    return f"{len(runs) or 'no'} run{'' if len(runs) == 1 else 's'}{of_step}"


def _row(run: Run, name: str) -> str:
    status = run.status
    seconds = "" if run.duration is None else f"{run.duration:.2f}"
    cells = [
        f'<td style="color:{status.colour}">{html.escape(f"{status.symbol} {status.label}")}</td>',
        f"<td>{html.escape(name)}</td>",
        f"<td>{seconds}</td>",
        f"<td>{run.links()}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"
