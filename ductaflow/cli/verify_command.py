"""`ductaflow verify [INSTANCE …]`: run again what would be reused, and compare."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("verify")
@options.instances_argument
@click.option("--step", help="Only those of this step.")
@click.option("--sample", type=float, metavar="FRACTION", help="Only some, chosen anew each time.")
@click.option("-w", "--workers", type=int, metavar="N", help="How many at once.")
@options.root_option
@options.json_option
def command(
    instances: tuple[str, ...],
    step: str | None,
    sample: float | None,
    workers: int | None,
    root: str | None,
    as_json: bool,
) -> int:
    """Run INSTANCES again, or all, in a scratch folder, and compare with what is there.

    Only those that would be reused are run; what is there stays as it is. It ends with 0 if all
    that were named, or all that could be verified, reproduce; with 1 if one differs, or one that
    was named, or all, could not be verified.
    """
    import os

    from ductaflow.project.root import project_root
    from ductaflow.project.settings import load_settings
    from ductaflow.project.workers import worker_count
    from ductaflow.sweeps.audits import checked_fraction, sampled, verify_runs

    project = project_root(root)
    count = worker_count(workers, os.environ, load_settings(project).workers)
    runs = options.find_runs(project, instances, step)
    if sample is not None:
        try:
            fraction = checked_fraction(sample, "--sample")
        except ValueError as e:
            raise click.UsageError(str(e)) from None
        runs = sampled([run for run in runs if run.ok], fraction)
    found = verify_runs(runs, project, workers=min(count, max(1, len(runs))))
    if as_json:
        dump([item.to_json() for item in found])
    else:
        say(str(found))
    well = len(found.ok) == len(found) if instances else bool(found.ok)
    return 0 if well and not found.differing else 1
