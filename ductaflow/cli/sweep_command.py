"""`ductaflow sweep FLOW`: run a flow once for each row of a table or grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, say, say_notes


@click.command("sweep")
@options.flow_argument
@click.option(
    "-t",
    "--table",
    "table_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The control table, a .csv, .parquet or .xlsx file: a row is an instance.",
)
@click.option(
    "-g",
    "--grid",
    "axes",
    multiple=True,
    metavar="KEY=A,B,…",
    help="Values of a key; of several keys, every combination is an instance.",
)
@click.option("-i", "--instance", help="What names them: a column, or as '{region}_{year}'.")
@click.option(
    "--columns",
    multiple=True,
    metavar="COLUMN,…",
    help="Only these columns go into the config.  [default: all but what only names instances]",
)
@options.config_option
@options.params_option
@options.defaults_option
@options.step_option
@click.option("-w", "--workers", type=int, metavar="N", help="How many at once.")
@click.option("--only", multiple=True, metavar="GLOB", help="Only instances of such names.")
@click.option("--limit", type=int, metavar="N", help="At most so many.")
@click.option("--retries", type=int, default=0, metavar="N", help="Tries more after a crash.")
@click.option("--stop-on-error", is_flag=True, help="Start no more after one has failed.")
@click.option("--export-to", metavar="TEMPLATE", help="Deliver each that succeeds; see `export`.")
@click.option("-n", "--dry-run", is_flag=True, help="Run nothing; say what would run.")
@click.option("--verify", type=float, metavar="FRACTION", help="Verify so many of the reused.")
@options.run_options
@options.force_option
@options.root_option
@options.json_option
def command(
    flow: str,
    table_file: Path | None,
    axes: tuple[str, ...],
    instance: str | None,
    columns: tuple[str, ...],
    config_file: Path | None,
    params: tuple[str, ...],
    step: str | None,
    workers: int | None,
    only: tuple[str, ...],
    limit: int | None,
    retries: int,
    stop_on_error: bool,
    export_to: str | None,
    dry_run: bool,
    verify: float | None,
    root: str | None,
    as_json: bool,
    **how: Any,
) -> int:
    """Run FLOW once for each row of --table, or each combination of --grid.

    A row's values go over those of -p, these over those of --config, and all over the flow's
    default; an empty cell leaves them.
    """
    from ductaflow.errors import SweepFailed
    from ductaflow.flow import read_flow, resolve_flow
    from ductaflow.grids import grid
    from ductaflow.layout import project_root
    from ductaflow.sweeps import sweep
    from ductaflow.tasks import columns_for, naming_columns, selected_columns
    from ductaflow.values import given_config, grid_values

    if (table_file is None) == (not axes):
        raise click.UsageError("give either --table FILE or --grid KEY=A,B (once for each key)")
    if verify is not None and not 0 <= verify <= 1:
        raise click.UsageError(f"--verify must be from 0 to 1, as 0.02 for 2 %, not {verify}")
    if verify and dry_run:
        raise click.UsageError("--dry-run runs nothing, so --verify has nothing to compare")
    project = project_root(root, flow)
    path = resolve_flow(flow, project, Path.cwd())
    parsed = read_flow(path)
    chosen = [column for text in columns for column in text.split(",")]
    config = _over(
        given_config(config_file, params),
        partial(columns_for, instance=instance, left_out=naming_columns(instance, parsed))
        if not chosen
        else partial(selected_columns, columns=chosen),
    )
    table = table_file if table_file is not None else grid(**grid_values(axes))
    named_by: Any = instance
    if instance is None and table_file is not None:
        named_by = _own_name
    try:
        runs = sweep(
            path,
            table,
            step=step,
            instance=named_by,
            config=config,
            workers=workers,
            only=list(only) or None,
            limit=limit,
            retries=retries,
            on_error="stop" if stop_on_error else "continue",
            export_to=export_to,
            dry_run=dry_run,
            verify=verify or 0,
            progress=not as_json,
            root=project,
            **options.as_arguments(how),
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


def _over(base: dict[str, Any], chosen: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Any:
    """A function that puts a row's values over a config.

    Args:
        base: The config.
        chosen: Which of a row's values.
    """
    from ductaflow.config import merged
    from ductaflow.table import is_empty

    def config_of(row: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for key, value in chosen(row).items():
            if is_empty(value):
                continue
            inner = given
            *above, last = str(key).split(".")
            for part in above:
                inner = inner.setdefault(part, {})
            inner[last] = value
        return merged(base, given)

    return config_of


def _own_name(row: Mapping[str, Any]) -> Any:
    """What names a row that says so itself, or else what it says."""
    from ductaflow.table import is_empty
    from ductaflow.tasks import NAME_COLUMNS, name_from

    for column in NAME_COLUMNS:
        if column in row:
            return row[column]
    return name_from({key: value for key, value in row.items() if not is_empty(value)})
