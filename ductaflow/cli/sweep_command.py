"""`ductaflow sweep FLOW`: run a flow once for each row of a table or grid."""

from __future__ import annotations

from typing import Any

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, say, say_notes


@click.command("sweep")
@options.flow_argument
@options.table_options
@click.option("-w", "--workers", type=int, metavar="N", help="How many at once.")
@click.option("--retries", type=int, default=0, metavar="N", help="Tries more after a crash.")
@click.option("--stop-on-error", is_flag=True, help="Start no more after one has failed.")
@click.option("--export-to", metavar="TEMPLATE", help="Deliver each that succeeds; see `export`.")
@click.option("-n", "--dry-run", is_flag=True, help="Run nothing; say what would run.")
@click.option("--verify", type=float, metavar="FRACTION", help="Verify so many of the reused.")
@click.option("--prune", is_flag=True, help="Remove instances whose rows have left the table.")
@options.run_options
@options.force_option
@options.root_option
@options.json_option
def command(
    flow: str,
    workers: int | None,
    retries: int,
    stop_on_error: bool,
    export_to: str | None,
    dry_run: bool,
    verify: float | None,
    prune: bool,
    root: str | None,
    as_json: bool,
    **how: Any,
) -> int:
    """Run FLOW once for each row of --table, or each combination of --grid.

    A row's values go over those of -p, these over those of --config, and all over the flow's
    default; an empty cell leaves them.
    """
    from ductaflow.cli.tables import table_given
    from ductaflow.errors import SweepFailed
    from ductaflow.project.root import project_root
    from ductaflow.sweeps.calls import sweep

    if verify is not None and not 0 <= verify <= 1:
        raise click.UsageError(f"--verify must be from 0 to 1, as 0.02 for 2 %, not {verify}")
    if verify and dry_run:
        raise click.UsageError("--dry-run runs nothing, so --verify has nothing to compare")
    if prune and dry_run:
        raise click.UsageError("--dry-run removes nothing; `ductaflow prune -n` says what would go")
    project = project_root(root, flow)
    asked = table_given(flow, project, **how)
    try:
        runs = sweep(
            **asked,
            workers=workers,
            retries=retries,
            on_error="stop" if stop_on_error else "continue",
            export_to=export_to,
            dry_run=dry_run,
            verify=verify or 0,
            prune=prune,
            progress=not as_json,
            root=project,
        )
    except SweepFailed as e:
        runs = e.runs
    if as_json or dry_run:  # else progress has said it
        say_notes(runs)
    if as_json:
        dump([run_facts(run) for run in runs])
    else:
        if dry_run:
            for run in runs:
                say(f"{run.label}  {'reused' if run.reused else 'would run'}")
        say(runs.summary())
    return 1 if runs.failed or runs.verified.differing else 0
