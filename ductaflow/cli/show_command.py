"""`ductaflow show INSTANCE`: all about one run."""

from __future__ import annotations

from typing import Any

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, run_line, say
from ductaflow.text.quoting import visible


@click.command("show")
@options.instance_argument
@options.root_option
@options.json_option
def command(instance: str, root: str | None, as_json: bool) -> None:
    """Show the run INSTANCE: `step/instance`, its folder, or a name that one step alone has."""
    from ductaflow.errors import ArtifactError
    from ductaflow.project.artifacts import ARTIFACTS
    from ductaflow.project.root import project_root
    from ductaflow.tables.template import leaves
    from ductaflow.text.times import local_time

    (run,) = options.find_runs(project_root(root), (instance,))
    try:
        config: Any = run.config
    except ArtifactError:
        config = None
    if as_json:
        record = {**run.record.to_json(), "status": run.status.value}
        artifacts = {kind: str(file) for kind, file in run.artifacts.items()}
        dump({**run_facts(run), "artifacts": artifacts, "config": config, "record": record})
        return
    record = run.record
    say(run_line(run))
    facts = {
        "flow": record.flow,
        "started": local_time(record.started, zone=True),
        "because": "; ".join(map(str, record.reasons)),
        "kernel": record.kernel.get("interpreter"),
        "memory": None if record.peak_memory is None else f"{record.peak_memory / 2**20:.0f} MiB",
        **{ARTIFACTS[kind].text: file for kind, file in run.artifacts.items()},
        "thinned": ", ".join(f"{name} deleted" for name in record.thinned),
    }
    _section("", {name: value for name, value in facts.items() if value})
    _section("config", leaves(config or {}))
    _section("metrics", record.metrics)
    cells = {}
    for cell in record.cells:
        if cell.number and cell.duration is not None:
            line = "" if cell.line is None else f", line {cell.line}"
            cells[f"cell {cell.number}{line}"] = f"{cell.status}, {cell.duration:.2f} s"
    _section("cells", cells)
    for note in record.notes:
        say(f"note: {note.message}")
    if record.error is not None:
        error = record.error
        line = "" if error.line is None else f" ({record.flow}:{error.line})"
        say(f"\n{error.type}: {error.message}{line}")
        if error.traceback:
            say("\n".join(error.traceback))
    say()


def _section(title: str, facts: Any) -> None:
    if not facts:
        return
    if title:
        say(f"\n{title}")
    lines = [(visible(str(name)), visible(str(value))) for name, value in facts.items()]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        say(f"  {name:<{width}}  {value}")
