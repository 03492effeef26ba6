"""`ductaflow update`: bring an instance, a step or all runs up to date."""

from __future__ import annotations

import time

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, run_line, say


@click.command("update")
@click.argument("target", required=False)
@click.option("-w", "--workers", type=int, metavar="N", help="How many at once.")
@click.option("--dry-run", is_flag=True, help="Only say what would run, and why.")
@options.force_option
@options.root_option
@options.json_option
def command(
    target: str | None,
    workers: int | None,
    dry_run: bool,
    force: bool,
    root: str | None,
    as_json: bool,
) -> int:
    """Run again what is out of date: of TARGET, an instance or a step, or of all runs.

    Each is listed after those that it reads from.
    """
    from ductaflow.updates import update

    began = time.monotonic()
    runs = list(
        update(
            target, root=root, workers=workers, force=force, dry_run=dry_run, progress=not as_json
        )
    )
    if as_json:
        dump([run_facts(run) for run in runs])
    else:
        for run in runs:
            if dry_run and run.reused:
                continue
            say(run_line(run))
            if run.reasons and not run.reused:
                say(f"    {'; '.join(map(str, run.reasons))}")
        again = sum(not run.reused for run in runs)
        seconds = f"{time.monotonic() - began:.2f} s"
        if dry_run:
            say(f"{again} of {len(runs)} would run again, {len(runs) - again} are up to date.")
            say(f"Looked for {seconds}.")
        else:
            say(f"{again} of {len(runs)} were run again, in {seconds}.")
    return 1 if any(run.status.bad for run in runs) else 0
