"""`ductaflow report INSTANCE ...`: make reports anew from notebooks."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("report")
@options.instances_argument
@click.option("--step", help="Those of this step whose report is not there.")
@options.root_option
@options.json_option
def command(instances: tuple[str, ...], step: str | None, root: str | None, as_json: bool) -> None:
    """Make the HTML reports of INSTANCES anew from their notebooks; nothing runs.

    Without INSTANCES, those that are missing, or lack the styles that they share.
    """
    from ductaflow.documents.html import lacks_parts
    from ductaflow.files.compression import kept
    from ductaflow.history.standing import is_live
    from ductaflow.project.root import project_root
    from ductaflow.upkeep.thinning import make_report

    project = project_root(root)
    found = options.find_runs(project, instances, step)
    if not instances:
        found = [
            run
            for run in found
            if (not run.html.exists() or lacks_parts(run.html, project))
            and kept(run.paths.notebook).exists()
            and not is_live(run)
        ]
    pages = [str(make_report(run)) for run in found]
    if as_json:
        dump(pages)
    else:
        say("\n".join(pages) or "No report is missing.")
