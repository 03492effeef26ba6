"""`ductaflow runner FLOW`: files to double-click."""

from __future__ import annotations

from pathlib import Path

import click

from ductaflow.cli import options
from ductaflow.cli.output import say


@click.command("runner")
@options.flow_argument
@click.option("--out", type=click.Path(path_type=Path), help="The folder.  [default: the flow's]")
@click.option("--force", is_flag=True, help="Overwrite files even if they were edited by hand.")
@options.root_option
def command(flow: str, out: Path | None, force: bool, root: str | None) -> None:
    """Make run_FLOW.bat, .sh and .command, which run FLOW as a script that they clean up."""
    from ductaflow.convert.runners import create_flow_bat_runner

    bat = create_flow_bat_runner(flow, output_dir=out, force=force, root=root)
    for file in (bat, bat.with_suffix(".sh"), bat.with_suffix(".command")):
        say(str(file))
