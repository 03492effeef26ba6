"""`ductaflow status`: how all steps stand, and what runs now."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, on_terminal, say, table

if TYPE_CHECKING:
    from ductaflow.history.run import Run


@click.command("status")
@options.step_option
@click.option("-w", "--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=1.0, metavar="S", help="How often."
)
@options.root_option
@options.json_option
def command(step: str | None, watch: bool, interval: float, root: str | None, as_json: bool) -> int:
    """Show how many runs of each step stand how, and what runs now."""
    from ductaflow.project.root import project_root

    project = project_root(root)
    shown: Any = None
    try:
        while True:
            facts = _facts(project, step)
            compared = {**facts, "running": [r["label"] for r in facts["running"]]}
            if on_terminal() or compared != shown:  # a pipe gets no line twice
                if watch and on_terminal():
                    sys.stdout.write("\x1b[2J\x1b[H")
                _show(project, facts, as_json)
                sys.stdout.flush()
            shown = compared
            if not watch:
                return 0
            time.sleep(interval)
    except KeyboardInterrupt:
        if not watch:
            raise
        return 0  # the way out


def _facts(root: Path, step: str | None) -> dict[str, Any]:
    from ductaflow.history.standing import standing_runs
    from ductaflow.model.records import Status

    counts: dict[str, Counter[str]] = {}
    running: list[dict[str, Any]] = []
    for run in standing_runs(root, step):
        counts.setdefault(run.step, Counter())[run.status.value] += 1
        if run.status is Status.RUNNING:
            running.append(
                {"label": run.label, "seconds": _seconds(run), "pid": run.record.conductor["pid"]}
            )
    return {"steps": {name: dict(count) for name, count in counts.items()}, "running": running}


def _seconds(run: Run) -> float | None:
    try:
        began = datetime.fromisoformat(run.record.started)
    except ValueError:
        return None
    return round((datetime.now(timezone.utc) - began).total_seconds(), 1)


def _show(root: Path, facts: dict[str, Any], as_json: bool) -> None:
    from ductaflow.model.records import Status

    if as_json:
        dump(facts)
        return
    if not facts["steps"]:
        say(f"No run in {root} yet.")
        return
    seen = [s for s in Status if any(s.value in counts for counts in facts["steps"].values())]
    rows = [
        {"step": name, **{s.label: counts.get(s.value) for s in seen}}
        for name, counts in facts["steps"].items()
    ]
    table(["step", *(s.label for s in seen)], rows)
    for run in facts["running"]:
        seconds = "" if run["seconds"] is None else f" for {run['seconds']:.0f} s"
        say(f"{Status.RUNNING.symbol} {run['label']}{seconds}, by process {run['pid']}")
