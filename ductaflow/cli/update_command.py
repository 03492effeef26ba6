"""`ductaflow update`: bring an instance, a step or all runs up to date."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, run_line, say


@click.command("update")
@click.argument("target", required=False)
@options.root_option
@options.json_option
def command(target: str | None, root: str | None, as_json: bool) -> int:
    """Run again what is out of date: of TARGET, an instance or a step, or of all runs."""
    import ductaflow
    from ductaflow.layout import project_root

    update = ductaflow.__getattr__("update")
    runs = list(update(target, root=project_root(root)))
    if as_json:
        dump([run_facts(run) for run in runs])
    else:
        for run in runs:
            say(run_line(run))
        say(f"{sum(not run.reused for run in runs)} of {len(runs)} were run again.")
    return 1 if any(run.status.bad for run in runs) else 0
