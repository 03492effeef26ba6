"""`ductaflow export TEMPLATE`: deliver what runs left."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("export")
@click.argument("template")
@options.instances_argument
@click.option("--step", help="Those of this step.")
@click.option("--files", multiple=True, metavar="GLOB", help="Only such files.  [default: all]")
@options.root_option
@options.json_option
def command(
    template: str,
    instances: tuple[str, ...],
    step: str | None,
    files: tuple[str, ...],
    root: str | None,
    as_json: bool,
) -> int:
    """Copy the files of INSTANCES, or all of a step, to TEMPLATE.

    TEMPLATE is a folder or URL with fields for the config's keys and for step, instance and flow,
    as 'deliveries/{client}/{instance}'. Only runs that succeeded are delivered, only what has
    changed is copied. It ends with 1 if a run did not succeed.
    """
    from ductaflow.delivery.delivery import export
    from ductaflow.history.entries import Entry
    from ductaflow.history.runs import Runs
    from ductaflow.project.root import project_root

    project = project_root(root)
    found = options.find_runs(project, instances, step)
    runs = [run for run in found if run.ok]
    left_out = [run for run in found if not run.ok]
    entries = tuple(Entry.of(run, number) for number, run in enumerate(runs))
    done = export(Runs(entries, project), template, files=list(files) or "*")
    for run in left_out:
        click.echo(f"ductaflow: {run.label} is not delivered: {run.status.label}", err=True)
    if as_json:
        dump(
            [
                {
                    "target": each.target,
                    "copied": list(each.copied),
                    "unchanged": list(each.unchanged),
                    "removed": list(each.removed),
                }
                for each in done
            ]
        )
    for each in () if as_json else done:
        say(
            f"{each.target}: {len(each.copied)} copied, {len(each.unchanged)} unchanged, "
            f"{len(each.removed)} removed"
        )
    if not done and not as_json:
        say("No run that succeeded was found.")
    return 1 if left_out else 0
