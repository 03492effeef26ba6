"""`ductaflow prune`: remove instances that are no longer wanted."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("prune")
@click.option("--step", help="Only those of this step.")
@click.option("-n", "--dry-run", is_flag=True, help="Remove nothing; say what would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.root_option
@options.json_option
def command(step: str | None, dry_run: bool, yes: bool, root: str | None, as_json: bool) -> int:
    """Remove the folders of instances that are no longer wanted, with all that is in them.

    Those are: instances that an earlier table of their step had, and the last one has not; those
    whose flow is gone; those of a step that was renamed. What runs stays, and so does what was
    never in a table. It ends with 1 if something could not be removed.
    """
    from ductaflow.project.names import check_name
    from ductaflow.project.root import project_root
    from ductaflow.upkeep.pruning import leftovers, remove

    project = project_root(root)
    found = leftovers(project, None if step is None else check_name(step, "step"))
    if found and not as_json:
        say("\n".join(map(str, found)))
    going = [each for each in found if not each.kept]
    if going and not dry_run:
        if not yes:
            question = f"Remove {len(going)} folders in {project}, with all that is in them?"
            click.confirm(question, abort=True, err=True)
        found = [each for each in found if each.kept] + remove(going, project)
        for each in found[-len(going) :]:
            if each.kept and not as_json:
                say(str(each))
    if as_json:
        dump(
            [
                {
                    "step": each.run.step,
                    "instance": each.run.instance,
                    "reason": each.reason,
                    "kept": each.kept,
                }
                for each in found
            ]
        )
    else:
        count = sum(not each.kept for each in found)
        say(f"{count} {'would be' if dry_run else 'are'} removed." if found else "All is wanted.")
    return 1 if any(each.kept for each in found) and not dry_run else 0
