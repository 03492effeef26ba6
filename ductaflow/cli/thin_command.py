"""`ductaflow thin`: let runs take less room, without running them again."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say
from ductaflow.project.artifacts import compressible, readable


@click.command("thin")
@options.instances_argument
@click.option("--step", help="Only those of this step.")
@click.option("--older-than", metavar="AGE", help="Only those that ended longer ago: 12h, 30d, 8w.")
@click.option(
    "--delete",
    multiple=True,
    type=click.Choice(list(readable())),
    help="Delete this of each.",
)
@click.option(
    "--compress",
    multiple=True,
    type=click.Choice(list(compressible())),
    help="Compress this of each.",
)
@click.option(
    "--share", is_flag=True, help="Let reports share their styles, which lie once in runs/ then."
)
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing; say what would be done.")
@options.root_option
@options.json_option
def command(
    instances: tuple[str, ...],
    step: str | None,
    older_than: str | None,
    delete: tuple[str, ...],
    compress: tuple[str, ...],
    share: bool,
    dry_run: bool,
    root: str | None,
    as_json: bool,
) -> None:
    """Delete reports of INSTANCES, or of all runs, and compress their notebooks and logs.

    With --delete, --compress or --share only what these name. Thinned runs are still reused, and
    `ductaflow report` makes a report anew.
    """
    from ductaflow.project.root import project_root
    from ductaflow.upkeep.thinning import thin

    runs = options.find_runs(project_root(root), instances, step)
    named = bool(delete or compress or share)
    try:
        done = thin(
            runs,
            delete=delete if named else None,
            compress=compress if named else None,
            share=share,
            older_than=older_than,
            dry_run=dry_run,
        )
    except ValueError as e:
        raise click.UsageError(str(e)) from None
    if as_json:
        dump([{"run": t.run.label, **{what: getattr(t, what) for what in _TOLD}} for t in done])
        return
    for each in done:
        parts = [
            ("delete", each.deleted),
            ("compress", each.compressed),
            ("share", each.shared),
        ]
        told = "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)
        say(f"{each.run.label}: {told}")
    if not done:
        say("There is nothing to thin.")
        return
    runs_told = "1 run" if len(done) == 1 else f"{len(done)} runs"
    verb = "would be" if dry_run else "is" if len(done) == 1 else "are"
    say(f"{runs_told} {verb} thinned.")


_TOLD = ("deleted", "compressed", "shared")
