"""Which instances the tables of a step have, and which have left them; kept in `runs/`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.files import jsonio
from ductaflow.project.layout import runs_dir, step_dir

FOLDER = ".ductaflow-tables"
NOT_IN_TABLE = "not in the last table"
"""What lists say of a run whose row has left the table."""


@final
@attrs.frozen
class LastTable:
    """The instances that sweeps of a step were asked for.

    Attributes:
        flow: The flow of the last sweep, as records have it.
        tables: Those of each table, in its order. A table takes the place of those with which it
            has instances in common; others, as those of sweeps within flows, stand beside it.
        left: When each left that was in an earlier table only, as records have times.
    """

    flow: str = ""
    tables: tuple[tuple[str, ...], ...] = ()
    left: Mapping[str, str] = attrs.field(factory=dict, hash=False)

    @property
    def instances(self) -> tuple[str, ...]:
        """All that a table has."""
        return tuple(dict.fromkeys(name for table in self.tables for name in table))

    def has_left(self, instance: str, started: str) -> bool:
        """Whether an instance is in none of them any more, and has not run since it left.

        Args:
            instance: The instance's name.
            started: When its last run began, as its record has it.
        """
        at = self.left.get(instance)
        try:
            return at is not None and datetime.fromisoformat(started) < datetime.fromisoformat(at)
        except (ValueError, TypeError):
            return False


def read_last_table(root: Path, step: str) -> LastTable:
    """The tables of a step; an empty one if none is known.

    Raises:
        NameRefused: `step` is not a valid step name.
    """
    path = _file(root, step)
    try:
        found = path.stat()
    except OSError:
        return LastTable()
    return _read(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=64)
def _read(path: Path, *_: int) -> LastTable:
    try:
        data = json.loads(path.read_bytes())
        tables = tuple(tuple(map(_text, table)) for table in data["tables"])
        left = {name: _text(at) for name, at in data["left"].items()}
        return LastTable(_text(data["flow"]), tables, left)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return LastTable()  # nothing is then marked, missed or removed


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def write_last_table(
    root: Path, step: str, flow: str, names: Iterable[str], *, alone: bool = False
) -> None:
    """Note the instances of a table of a step.

    Args:
        root: The project root.
        step: The step's name.
        flow: The flow, as records have it.
        names: The instances, in the table's order.
        alone: Whether it takes the place of all others.

    Raises:
        ArtifactError: It cannot be written.
    """
    before, now = read_last_table(root, step), tuple(names)
    others = () if alone else tuple(t for t in before.tables if set(t).isdisjoint(now))
    tables = (*others, now)
    wanted = {name for table in tables for name in table}
    moment = datetime.now(timezone.utc).isoformat()
    left = {n: before.left.get(n, moment) for n in (*before.left, *before.instances)}
    table = LastTable(flow, tables, {n: at for n, at in left.items() if n not in wanted})
    if table != before:
        _write(root, step, table)


def has_left(root: Path, step: str, instance: str, started: str) -> bool:
    """Whether an instance has left the tables of its step, and has not run since.

    Args:
        root: The project root.
        step: The step's name.
        instance: The instance's name.
        started: When its last run began, as its record has it.
    """
    return read_last_table(root, step).has_left(instance, started)


def forget(root: Path, step: str, names: Iterable[str]) -> None:
    """Instances are removed: no table misses them. A step without any has no folder any more.

    Raises:
        ArtifactError: The file cannot be written.
    """
    before, gone = read_last_table(root, step), set(names)
    tables = tuple(tuple(name for name in table if name not in gone) for table in before.tables)
    left = {name: at for name, at in before.left.items() if name not in gone}
    table = LastTable(before.flow, tuple(filter(None, tables)), left)
    if not table.tables and not table.left:
        _file(root, step).unlink(missing_ok=True)
    elif table != before:
        _write(root, step, table)
    with contextlib.suppress(OSError):  # something is left in it
        step_dir(root, step).rmdir()


def _file(root: Path, step: str) -> Path:
    return runs_dir(root) / FOLDER / f"{step_dir(root, step).name}.json"


def _write(root: Path, step: str, table: LastTable) -> None:
    path = _file(root, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    jsonio.write_atomic(path, jsonio.dumps({"schema": 1, **attrs.asdict(table)}) + "\n")
