"""`ductaflow clean`: remove what ductaflow wrote of runs, and nothing else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say
from ductaflow.text.escapes import harmless

if TYPE_CHECKING:
    from ductaflow.history.run import Run

_LEFT_BESIDE = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")  # `jsonio.write_atomic`, cut off


@click.command("clean")
@options.instances_argument
@click.option("--step", help="Only those of this step.")
@click.option("--failed", is_flag=True, help="Only those that did not succeed.")
@click.option("-n", "--dry-run", is_flag=True, help="Remove nothing; say what would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.root_option
@options.json_option
def command(
    instances: tuple[str, ...],
    step: str | None,
    failed: bool,
    dry_run: bool,
    yes: bool,
    root: str | None,
    as_json: bool,
) -> None:
    """Remove notebooks, reports, logs, configs and records of INSTANCES, or of all runs.

    What flows wrote stays, and so does the folder that it lies in. Runs that go on are left alone.
    """
    from ductaflow.history.standing import is_live
    from ductaflow.project.layout import instance_dir
    from ductaflow.project.root import project_root

    project = project_root(root)
    found = options.find_runs(project, instances, step)
    runs = [run for run in found if not is_live(run) and (run.status.bad or not failed)]
    for run in runs:
        instance_dir(project, run.dir.parent.name, run.dir.name)  # refuses a link out of runs/
    files = [file for run in runs for file in _own_files(run)]
    if not files:
        dump([]) if as_json else say("There is nothing to remove.")
        return
    if dry_run:
        dump(list(map(str, files))) if as_json else say("\n".join(map(str, files)))
        return
    if not yes:
        click.confirm(
            harmless(f"Remove {len(files)} files of {len(runs)} runs in {project}?"),
            abort=True,
            err=True,
        )
    for run in runs:
        for file in _own_files(run):
            file.unlink(missing_ok=True)
        for folder in (run.dir, run.dir.parent):
            with contextlib.suppress(OSError):  # it has files of the flow, or other instances
                folder.rmdir()
    dump(list(map(str, files))) if as_json else say(f"{len(files)} files are removed.")


def _own_files(run: Run) -> Iterator[Path]:
    """The files of a run that ductaflow wrote."""
    yield from (path for path in run.paths.all() if path.is_file())
    for path in sorted(run.dir.iterdir()):
        if _LEFT_BESIDE.fullmatch(path.name) and path.is_file():
            yield path
