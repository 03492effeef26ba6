"""`ductaflow run FLOW`: run a flow as an instance."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, on_terminal, run_facts, run_line, say, say_notes


@click.command("run")
@options.flow_argument
@click.option("-i", "--instance", default="default", show_default=True, help="Its name.")
@options.config_option
@options.params_option
@options.defaults_option
@options.step_option
@options.run_options
@options.force_option
@click.option("--echo", is_flag=True, help="Print what cells print, while they run.")
@options.root_option
@options.json_option
def command(
    flow: str,
    instance: str,
    config_file: Path | None,
    params: tuple[str, ...],
    step: str | None,
    echo: bool,
    root: str | None,
    as_json: bool,
    **how: Any,
) -> int:
    """Run FLOW, a file or the bare name of one in flow/, as an instance.

    It ends with 0 only if the run succeeds; whatever happens, all is saved.
    """
    from ductaflow.errors import RunFailed
    from ductaflow.execution.conductor import run_step_flow
    from ductaflow.flows.finding import resolve_flow
    from ductaflow.plans.values import given_config
    from ductaflow.progress.sweepprogress import Surface, surface
    from ductaflow.project.root import project_root

    project = project_root(root, flow)
    path = resolve_flow(flow, project, Path.cwd())
    config = given_config(config_file, params) or None
    arguments = options.as_arguments(how)
    arguments["progress"] = not as_json
    # Then progress says what is to be said.
    shown = not as_json and not echo and on_terminal() and surface() is Surface.TERMINAL
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():  # JSON stands alone
            run = run_step_flow(
                path, step or path.stem, instance, config, root=project, echo=echo, **arguments
            )
    except RunFailed as e:
        if not shown:
            say_notes([e.run])
        if as_json:
            dump(run_facts(e.run))
        raise
    if not shown:
        say_notes([run])
    if as_json:
        dump(run_facts(run))
    elif not shown:
        say(run_line(run))
        say(f"  {run.opened}")
    return 0
