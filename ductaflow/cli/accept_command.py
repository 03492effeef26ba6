"""`ductaflow accept INSTANCE…`: count what has changed as harmless."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, run_line, say


@click.command("accept")
@options.instances_argument
@options.root_option
@options.json_option
def command(instances: tuple[str, ...], root: str | None, as_json: bool) -> None:
    """Mark what has changed since the last runs of INSTANCES as harmless, without running them.

    `ductaflow explain` says what has changed. Their records note what was accepted.
    """
    from ductaflow.layout import project_root
    from ductaflow.updates import accept

    if not instances:
        raise click.UsageError("name the instances, as step/instance")
    project = project_root(root)
    runs = [
        accept(project / run.record.flow, run.step, run.instance, root=project)
        for run in options.find_runs(project, instances)
    ]
    if as_json:
        dump([run_facts(run) for run in runs])
        return
    for run in runs:
        say(f"{run_line(run)}")
        last = run.notes[-1] if run.notes else None
        nothing = "nothing has changed, so there was nothing to accept"
        say(f"    {last.message if last is not None and last.kind == 'accepted' else nothing}")
