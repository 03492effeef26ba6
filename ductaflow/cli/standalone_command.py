"""`ductaflow standalone FLOW`: a flow as plain Python."""

from __future__ import annotations

from pathlib import Path

import click

from ductaflow.cli import options
from ductaflow.cli.output import say


@click.command("standalone")
@options.flow_argument
@click.option("--out", type=click.Path(path_type=Path), help="The folder.  [default: the flow's]")
@options.config_option
@click.option("--bundle", is_flag=True, help="Put the project's modules into the script too.")
@click.option("--force", is_flag=True, help="Overwrite files even if they were edited by hand.")
@options.root_option
def command(
    flow: str,
    out: Path | None,
    config_file: Path | None,
    bundle: bool,
    force: bool,
    root: str | None,
) -> None:
    """Make FLOW_standalone.py and FLOW_config.json: plain Python, without ductaflow or Jupyter."""
    from ductaflow.convert.standalone import create_standalone_python_script
    from ductaflow.plans.values import read_config

    config = None if config_file is None else read_config(config_file)
    script = create_standalone_python_script(
        flow, output_dir=out, config=config, bundle=bundle, force=force, root=root
    )
    say(str(script))
