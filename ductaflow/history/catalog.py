"""Find the runs that are there. The folders are the truth; an index makes it fast."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ductaflow.errors import TableError
from ductaflow.history.index import COLUMNS, Index
from ductaflow.history.recordfile import read_record
from ductaflow.history.run import Run
from ductaflow.model.records import Status
from ductaflow.project.lasttable import has_left
from ductaflow.project.layout import ArtifactPaths, iter_steps, record_in, step_dir
from ductaflow.project.names import check_name
from ductaflow.project.root import project_root
from ductaflow.tables.template import leaves
from ductaflow.text.nearest import nearest

PathLike = str | os.PathLike[str]


def get_all_instances(
    step: str,
    *,
    status: Status | str | None = Status.SUCCEEDED,
    root: PathLike | None = None,
) -> Sequence[Run]:
    """The instances of a step, sorted by name.

    Args:
        step: The step's name: a folder of `runs/`.
        status: Only runs that stand so; None for all that have a record.
        root: The project root; found from where the caller is, if left out.

    Returns:
        The runs; none if the step has never run.

    Raises:
        NameRefused: The step's name is not a valid folder name.
        ValueError: There is no such status.
    """
    wanted = Status.of(status) if isinstance(status, str) else status
    project = project_root(root)
    with Index(project) as index:
        return index.runs(check_name(step, "step"), wanted)


def all_runs(root: Path) -> Iterator[Run]:
    """Every run below `runs/` that has a record, by step and name."""
    with Index(root) as index:
        for step in iter_steps(root):
            yield from index.recorded(step)


def load_run(folder: Path) -> Run | None:
    """The run that a folder holds; None if it has no record."""
    record = read_record(record_in(folder))
    if record is None:
        return None
    return Run(record, ArtifactPaths.of(folder, Path(record.flow).stem))


def runs_table(
    where: str | Mapping[str, object] | None = None,
    *,
    step: str | None = None,
    root: PathLike | None = None,
) -> Any:
    """The runs that are there as a table: how each ended, its config, what it published.

    Args:
        where: Which of them: values by column, as `{"status": "failed", "config.mode": "am"}`, or
            a condition in SQLite's language, as `"status = 'success' and metrics.loss < 0.1"`. The
            columns are those of the result.
        step: A step's name; all of them if left out.
        root: The project root; found from where the caller is, if left out.

    Returns:
        A pandas data frame, by step and instance, with the columns `step`, `instance`, `status`,
        `flow`, `started`, `finished` (ISO times), `duration` (seconds), `peak_memory` (bytes),
        `error`, `dir`, `not_in_last_table` (whether the step's last table
        has lost its row), and one for each value in a config (`config.…`) and each scalar that was
        published (`metrics.…`).

    Raises:
        TableError: The condition cannot be understood.
        NameRefused: The step's name is not a valid folder name.
        ImportError: pandas is not installed.
    """
    import pandas

    project = project_root(root)
    steps = list(iter_steps(project)) if step is None else [check_name(step, "step")]
    condition, values = _condition(where)
    condition = f"step in ({', '.join('?' * len(steps))}) and ({condition})"
    with Index(project) as index:
        for each in steps:
            index.read(each)
        try:
            rows = list(index.select([*COLUMNS, "config", "metrics"], condition, [*steps, *values]))
        except sqlite3.Error as e:
            raise TableError(f"where={where!r} cannot be understood: {_explained(e)}") from None
    facts = [_facts(project, row) for row in rows]
    names = dict.fromkeys(name for row in facts for name in row)
    return pandas.DataFrame(facts, columns=[*names] or [*COLUMNS, "dir", "not_in_last_table"])


def _facts(root: Path, row: tuple[Any, ...]) -> dict[str, Any]:
    *plain, config, metrics = row
    facts = dict(zip(COLUMNS, plain, strict=True))
    facts["dir"] = str(step_dir(root, facts["step"]) / facts["instance"])
    facts["not_in_last_table"] = has_left(root, facts["step"], facts["instance"], facts["started"])
    facts.update(leaves(json.loads(config), "config."))
    facts.update(leaves(json.loads(metrics), "metrics."))
    return facts


_TOKEN = re.compile(r"'(?:[^']|'')*'|\b(config|metrics)((?:\.\w+)+)")


def _condition(where: str | Mapping[str, object] | None) -> tuple[str, list[object]]:
    """An SQL condition and its values."""
    if where is None:
        return "1", []
    if isinstance(where, str):
        return _TOKEN.sub(_extract, where), []
    parts, values = [], []
    for column, value in where.items():
        if column.partition(".")[0] not in ("config", "metrics") and column not in COLUMNS:
            raise TableError(f"where has no column {column!r}; {nearest(column, COLUMNS)}")
        parts.append(f"{_TOKEN.sub(_extract, column)} is ?")
        values.append(value.value if isinstance(value, Status) else value)
    return " and ".join(parts) or "1", values


def _extract(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[0]  # a text in quotes
    path = "".join(f'."{part}"' for part in match[2][1:].split("."))
    return f"json_extract({match[1]}, '${path}')"


def _explained(error: sqlite3.Error) -> str:
    missing = re.search(r"no such column: (\S+)", str(error))
    if missing is None:
        return str(error)
    known = [*COLUMNS, "config.…", "metrics.…"]
    return f"there is no column {missing[1]!r}; {nearest(missing[1], known)}"
