"""`ductaflow update`: bring an instance, a step or all runs up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, run_line, say
from ductaflow.model.records import Status

if TYPE_CHECKING:
    from ductaflow.history.runs import Runs


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
    from ductaflow.sweeps.updates import update

    began = time.monotonic()
    done = update(
        target, root=root, workers=workers, force=force, dry_run=dry_run, progress=not as_json
    )
    runs = list(done)
    if as_json:
        dump([run_facts(run) for run in runs])
    else:
        for run in runs:
            if dry_run and run.reused:
                continue
            say(run_line(run))
            if run.error is not None:
                say(f"    {run.error.type}: {run.error.message}")
            elif run.reasons and not run.reused:
                say(f"    {'; '.join(map(str, run.reasons))}")
        say(_told(done, dry_run, f"{time.monotonic() - began:.2f} s"))
    return 1 if done.failed else 0


def _told(runs: Runs, dry_run: bool, seconds: str) -> str:
    """How many were run, or would be, and how many of them all are not well."""
    if dry_run:
        again = sum(entry.status is Status.PLANNED for entry in runs.entries)
        told = f"{again} of {len(runs)} would run again, {len(runs.reused)} are up to date"
        return f"{told}{_bad(runs, 'cannot run')}.\nLooked for {seconds}."
    again = sum(entry.attempts > 0 for entry in runs.entries)
    told = f"{again} of {len(runs)} were run again, in {seconds}"
    return f"{told}{_bad(runs, 'did not succeed')}."


def _bad(runs: Runs, words: str) -> str:
    return f"; {len(runs.failed)} {words}" if runs.failed else ""
