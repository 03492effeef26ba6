"""`ductaflow debug INSTANCE`: set up a run for a debugger."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import say


@click.command("debug")
@options.instance_argument
@click.option("--force", is_flag=True, help="Overwrite debug files that were edited by hand.")
@options.root_option
def command(instance: str, force: bool, root: str | None) -> None:
    """Set up a notebook, a script and VS Code for stepping through INSTANCE, in its own folder."""
    from ductaflow.convert.debugging import debug_flow
    from ductaflow.project.root import project_root
    from ductaflow.reuse.moves import flow_of

    project = project_root(root)
    (run,) = options.find_runs(project, (instance,))
    folder = debug_flow(flow_of(run.record, project), run.dir, force=force, root=project)
    name = run.paths.notebook.stem
    say(f"notebook  {folder / f'{name}_debug.ipynb'}")
    say(f"script    {folder / f'{name}_debug.py'}")
    say(f'VS Code   press F5 and choose "ductaflow: {run.label}"')
