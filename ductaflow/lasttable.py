"""Which instances the last table of a step had, and which only earlier ones: kept in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import final

import attrs

from ductaflow import jsonio
from ductaflow.layout import step_dir

FILE = ".ductaflow-table.json"
NOT_IN_TABLE = "not in the last table"
"""What lists say of a run whose row has left the table."""


@final
@attrs.frozen
class LastTable:
    """The instances that sweeps of a step were asked for.

    Attributes:
        flow: The flow of the last sweep, as records have it.
        instances: Those in the last table, in its order.
        left: Those that were in an earlier one only.
    """

    flow: str = ""
    instances: tuple[str, ...] = ()
    left: frozenset[str] = frozenset()


def read_last_table(root: Path, step: str) -> LastTable:
    """The last table of a step; an empty one if none is known.

    Raises:
        NameRefused: `step` is no step's name.
    """
    path = step_dir(root, step) / FILE
    try:
        found = path.stat()
    except OSError:
        return LastTable()
    return _read(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=64)
def _read(path: Path, *_: int) -> LastTable:
    try:
        data = json.loads(path.read_bytes())
        instances, left = data["instances"], data["left"]
        if all(isinstance(name, str) for name in (*instances, *left)):
            return LastTable(str(data["flow"]), tuple(instances), frozenset(left))
    except (OSError, ValueError, KeyError, TypeError):
        return LastTable()  # nothing is then marked, missed or removed
    return LastTable()


def write_last_table(root: Path, step: str, flow: str, names: Iterable[str]) -> None:
    """Note the instances of the table that is now a step's.

    Args:
        root: The project root.
        step: The step's name.
        flow: The flow, as records have it.
        names: The instances, in the table's order.

    Raises:
        ArtifactError: It cannot be written.
    """
    before, now = read_last_table(root, step), tuple(names)
    left = {*before.instances, *before.left} - set(now)
    folder = step_dir(root, step)
    left = {name for name in left if (folder / name / "run.json").exists()}
    table = LastTable(flow, now, frozenset(left))
    if table == before:
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, table)


def has_left(root: Path, step: str, instance: str) -> bool:
    """Whether an instance was in a table of its step, but not in the last one."""
    return instance in read_last_table(root, step).left


def forget(root: Path, step: str, names: Iterable[str]) -> None:
    """Instances are removed: no table misses them. A step without any has no folder any more.

    Raises:
        ArtifactError: The file cannot be written.
    """
    folder, gone = step_dir(root, step), set(names)
    table = read_last_table(root, step)
    if gone & {*table.instances, *table.left}:
        rest = tuple(name for name in table.instances if name not in gone)
        _write(folder, attrs.evolve(table, instances=rest, left=table.left - gone))
    wanted = gone <= table.left and table.instances  # they have not run yet
    if gone and not wanted and {path.name for path in folder.iterdir()} <= {FILE}:
        (folder / FILE).unlink(missing_ok=True)
        folder.rmdir()


def _write(folder: Path, table: LastTable) -> None:
    data = attrs.asdict(attrs.evolve(table, left=frozenset()))
    data = {"schema": 1, **data, "left": sorted(table.left)}
    jsonio.write_atomic(folder / FILE, jsonio.dumps(data) + "\n")
