"""What a command line says of a table: of `sweep`, and of `check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from ductaflow.cli import options


def table_given(
    flow: str,
    project: Path,
    *,
    table_file: Path | None,
    axes: tuple[str, ...],
    instance: str | None,
    columns: tuple[str, ...],
    config_file: Path | None,
    params: tuple[str, ...],
    step: str | None,
    only: tuple[str, ...],
    limit: int | None,
    **how: Any,
) -> dict[str, Any]:
    """The flow and what `options.table_options` gave of its table, as arguments of `sweep`.

    Args:
        flow: The flow, as it was named.
        project: The project root.
        table_file: The table's file, or None, as for the rest.
        axes: A grid's axes, as `key=a,b`.
        instance: What names the instances.
        columns: What goes into the config.
        config_file: A config that lies below all rows.
        params: Values of it.
        step: The step's name.
        only: Names or globs of instances.
        limit: How many at most.
        **how: What `run_options` and `force_option` gave.

    Raises:
        click.UsageError: There is not either a table or a grid.
    """
    from ductaflow.flows.finding import resolve_flow
    from ductaflow.flows.reading import read_flow
    from ductaflow.plans.values import given_config, grid_values
    from ductaflow.sweeps.tasks import columns_for, naming_columns, selected_columns
    from ductaflow.tables.grids import grid

    if (table_file is None) == (not axes):
        raise click.UsageError("give either --table FILE or --grid KEY=A,B (once for each key)")
    path = resolve_flow(flow, project, Path.cwd())
    parsed = read_flow(path)
    chosen = [column for text in columns for column in text.split(",")]
    config = _over(
        given_config(config_file, params),
        partial(columns_for, instance=instance, left_out=naming_columns(instance, parsed))
        if not chosen
        else partial(selected_columns, columns=chosen),
    )
    named_by: Any = instance
    if instance is None and table_file is not None:
        named_by = _own_name
    return {
        "flow": path,
        "table": table_file if table_file is not None else grid(**grid_values(axes)),
        "step": step,
        "instance": named_by,
        "config": config,
        "only": list(only) or None,
        "limit": limit,
        **options.as_arguments(how),
    }


def _over(base: dict[str, Any], chosen: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Any:
    """A function that puts a row's values over a config.

    Args:
        base: The config.
        chosen: Which of a row's values.
    """
    from ductaflow.plans.config import merged
    from ductaflow.tables.table import is_empty

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
    from ductaflow.sweeps.tasks import NAME_COLUMNS, name_from
    from ductaflow.tables.table import is_empty

    for column in NAME_COLUMNS:
        if column in row:
            return row[column]
    return name_from({key: value for key, value in row.items() if not is_empty(value)})
