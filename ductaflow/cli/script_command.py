"""`ductaflow script FLOW`: a script that runs a flow."""

from __future__ import annotations

from pathlib import Path

import click

from ductaflow.cli import options
from ductaflow.cli.output import say


@click.command("script")
@options.flow_argument
@click.option("--out", type=click.Path(path_type=Path), help="The folder.  [default: the flow's]")
@click.option("--force", is_flag=True, help="Overwrite it even if it was edited by hand.")
@options.root_option
def command(flow: str, out: Path | None, force: bool, root: str | None) -> None:
    """Make FLOW_run.py, a short script that runs FLOW as an instance."""
    from ductaflow.convert.runscript import create_flow_run_script

    say(str(create_flow_run_script(flow, output_dir=out, force=force, root=root)))
