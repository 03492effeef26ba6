"""`ductaflow update`: bring an instance, a step or all runs up to date."""

from __future__ import annotations

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
    """Run again what is out of date: of TARGET, an instance or a step, or of all runs."""
    from ductaflow.updates import update

    runs = list(
        update(
            target, root=root, workers=workers, force=force, dry_run=dry_run, progress=not as_json
        )
    )
    if as_json:
        dump([run_facts(run) for run in runs])
    else:
        for run in runs:
            say(run_line(run))
            if run.reasons and not run.reused:
                say(f"    {'; '.join(map(str, run.reasons))}")
        again = sum(not run.reused for run in runs)
        say(f"{again} of {len(runs)} {'would run' if dry_run else 'were run'} again.")
    return 1 if any(run.status.bad for run in runs) else 0
