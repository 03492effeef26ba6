"""`ductaflow lineage INSTANCE`: what a run depends on, and what depends on it."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("lineage")
@options.instance_argument
@options.root_option
@options.json_option
def command(instance: str, root: str | None, as_json: bool) -> None:
    """Show which runs INSTANCE has read from, and which have read from it, at any distance."""
    from ductaflow.history.lineage import lineage
    from ductaflow.project.root import project_root

    project = project_root(root)
    (run,) = options.find_runs(project, (instance,))
    found = lineage(run.label, root=project)
    if as_json:
        sides = ("upstream", "downstream", "ancestors", "descendants")
        dump({"run": run.label, **{s: [r.label for r in getattr(found, s)] for s in sides}})
    else:
        say(repr(found))
