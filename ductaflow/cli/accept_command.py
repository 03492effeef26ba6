"""`ductaflow accept INSTANCE…`: count what has changed as harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, run_line, say
from ductaflow.model.kinds import NoteKind

if TYPE_CHECKING:
    from ductaflow.history.run import Run


@click.command("accept")
@options.instances_argument
@options.root_option
@options.json_option
def command(instances: tuple[str, ...], root: str | None, as_json: bool) -> int:
    """Mark what has changed since the last runs of INSTANCES as harmless, without running them.

    `ductaflow explain` says what has changed. Their records note what was accepted. What cannot be
    accepted is told on stderr, and the others are accepted.
    """
    from ductaflow.errors import DuctaflowError
    from ductaflow.project.root import project_root
    from ductaflow.reuse.moves import flow_of
    from ductaflow.sweeps.updates import accept

    if not instances:
        raise click.UsageError("name the instances, as step/instance")
    project = project_root(root)

    def accepted(run: Run) -> Run | None:
        try:
            return accept(flow_of(run.record, project), run.step, run.instance, root=project)
        except DuctaflowError as e:
            click.echo(f"ductaflow: {e}", err=True)
            return None

    asked = [accepted(run) for run in options.find_runs(project, instances)]
    runs = [run for run in asked if run is not None]
    if as_json:
        dump([run_facts(run) for run in runs])
    for run in () if as_json else runs:
        say(f"{run_line(run)}")
        marks = [n.message for n in run.notes[-1:] if n.kind is NoteKind.ACCEPTED]
        nothing = "nothing has changed, so there was nothing to accept"
        say(f"    {''.join(marks) or nothing}")
    return 0 if len(runs) == len(asked) else 1
