"""`ductaflow index`: the page that leads to all runs."""

from __future__ import annotations

from pathlib import Path

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("index")
@click.argument("steps", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="Where to make it.")
@options.root_option
@options.json_option
def command(steps: tuple[str, ...], out: Path | None, root: str | None, as_json: bool) -> None:
    """Make the page that leads to all runs, or to those of STEPS."""
    import ductaflow
    from ductaflow.project.root import project_root

    collate = ductaflow.__getattr__("collate")
    page = collate(list(steps) or None, out=out, root=project_root(root))
    if as_json:
        dump({"index": str(page)})
    else:
        say(str(page))
