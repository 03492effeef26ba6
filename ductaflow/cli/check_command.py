"""`ductaflow check [TARGET]`: whether all is up to date, for a person or CI."""

from __future__ import annotations

from typing import Any

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("check")
@click.argument("target", required=False)
@options.table_options
@options.run_options
@options.root_option
@options.json_option
def command(target: str | None, root: str | None, as_json: bool, **given: Any) -> int:
    """Check that TARGET, an instance or a step, or all runs are up to date; nothing is run.

    With --table or --grid, TARGET is a flow, and what `ductaflow sweep` with the same arguments
    would run is not up to date. What is stale, failed or missing is listed. It ends with 0 if all
    is up to date, else with 1.
    """
    from ductaflow.cli.tables import table_given
    from ductaflow.project.root import project_root
    from ductaflow.sweeps.currency import check

    project = project_root(root, target)
    if given["table_file"] is None and not given["axes"]:
        if any(value not in (None, (), True) for value in given.values()):
            raise click.UsageError("options of a table need --table FILE or --grid KEY=A,B")
        found = check(target, root=project)
    else:
        if target is None:
            raise click.UsageError("name the flow that the table is for")
        asked = table_given(target, project, **given)
        found = check(asked.pop("flow"), root=project, **asked)
    dump(found.to_json()) if as_json else say(str(found))
    return 0 if found.ok else 1
