"""`ductaflow new NAME`: a new project."""

from __future__ import annotations

from pathlib import Path

import click

from ductaflow.cli.output import say


@click.command("new")
@click.argument("name")
@click.option(
    "--target",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder to make it in.  [default: here]",
)
@click.option(
    "--vendor/--no-vendor",
    default=True,
    help="Copy the library into the project, so that it stays on this version (the default), or "
    "use the installed one.",
)
def command(name: str, target: Path, vendor: bool) -> None:
    """Make the project folder NAME, with two example flows and a conductor."""
    from ductaflow.project.scaffold import make_new_ductaflow_instance

    folder = make_new_ductaflow_instance(name, target, vendor=vendor)
    say(f"{folder} is ready. Next:")
    say(f"  cd {folder}")
    say(f"  python cnd_{folder.name}.py")
