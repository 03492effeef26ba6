"""A fast way to what the `run.json` files say: one SQLite file below `runs/`.

The folders are the truth. A row counts only while its `run.json` has the size and the time stamp
that it had when the row was made; anything else is read again. The file may go at any time: it is
made anew when it is missing, damaged or of another layout, and where it cannot be used the folders
are read into memory instead.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, final

from ductaflow import jsonio
from ductaflow.facts import FileFact
from ductaflow.layout import ArtifactPaths, iter_instance_names, runs_dir
from ductaflow.model import ErrorInfo, RunRecord, Status
from ductaflow.records import read_config, read_record
from ductaflow.run import Run

FILE = ".ductaflow.sqlite"
LAYOUT = 1
BUSY = 2.0  # seconds to wait for another conductor

_TABLE = """
create table if not exists runs (
    step text, instance text, mtime_ns integer, size integer,
    status text, flow text, started text, finished text, duration real, peak_memory integer,
    error text, config text, metrics text, brief text, files text,
    primary key (step, instance)
) without rowid;
"""
COLUMNS = (
    "step", "instance", "status", "flow", "started", "finished", "duration", "peak_memory", "error",
)  # fmt: skip
_LEFT_OUT = ("cells", "notes", "reasons", "inputs", "outputs", "conductor")
_FILES = ("inputs", "packages", "package_folders")


@final
class Index:
    """The index of one project's runs; one thread uses it, as a context."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runs = str(runs_dir(root))
        self._connection = _open(root)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connection."""
        self._connection.close()

    def record(self, step: str, instance: str) -> RunRecord | None:
        """An instance's record, without its cells, notes and reasons if the index has it.

        None if there is none.
        """
        file = self._file(step, instance)
        found = _stamp(file)
        if found is None:
            return None
        row = self._row(step, instance)
        if row is not None and (row[0], row[1]) == found:
            return _from_brief(row[2], row[3])
        return read_record(Path(file))

    def refresh(self, step: str) -> None:
        """Bring a step's rows up to date with its folders."""
        known = {
            instance: (mtime_ns, size)
            for instance, mtime_ns, size in self._all(
                "select instance, mtime_ns, size from runs where step = ?", (step,)
            )
        }
        changed: list[tuple[Any, ...]] = []
        for instance in iter_instance_names(self._root, step):
            file = self._file(step, instance)
            found = _stamp(file)
            if found is not None and known.pop(instance, None) != found:
                record = read_record(Path(file))
                if record is not None:
                    changed.append(_row(step, instance, found, record, Path(file)))
                    continue
                known[instance] = found  # damaged: as if it were not there
        gone = [(step, instance) for instance in known]
        if changed or gone:
            self._write(changed, gone)

    def runs(self, step: str, status: Status | None = None) -> Iterator[Run]:
        """The runs of a step, by name, as the last `refresh` found them.

        Args:
            step: The step's name.
            status: Only those that stand so.
        """
        query = "select instance, flow, brief, files from runs where step = ?"
        values = [step] if status is None else [step, status.value]
        query += " order by instance" if status is None else " and status = ? order by instance"
        folder = f"{self._runs}{os.sep}{step}{os.sep}"
        for instance, flow, brief, files in self._connection.execute(query, values):
            paths = ArtifactPaths(folder + instance, PurePosixPath(flow).stem)
            yield Run(_from_brief(brief, files), paths)

    def select(
        self, columns: Sequence[str], where: str, values: Sequence[object]
    ) -> Iterator[tuple[Any, ...]]:
        """Rows, as an SQL condition chooses them.

        Raises:
            sqlite3.Error: The condition is no such thing, or would do more than read.
        """
        self._connection.set_authorizer(_only_read)
        try:
            yield from self._connection.execute(
                f"select {', '.join(columns)} from runs where {where} order by step, instance",  # noqa: S608
                tuple(values),
            )
        finally:
            self._connection.set_authorizer(None)

    # --- the file -----------------------------------------------------------------------------

    def _file(self, step: str, instance: str) -> str:
        return f"{self._runs}{os.sep}{step}{os.sep}{instance}{os.sep}run.json"

    def _row(self, step: str, instance: str) -> tuple[Any, ...] | None:
        rows = self._all(
            "select mtime_ns, size, brief, files from runs where step = ? and instance = ?",
            (step, instance),
        )
        return rows[0] if rows else None

    def _all(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error:
            self._start_over()
            return self._connection.execute(query, values).fetchall()

    def _write(self, changed: list[tuple[Any, ...]], gone: list[tuple[str, str]]) -> None:
        try:
            self._write_once(changed, gone)
        except sqlite3.Error:
            self._start_over()
            self._write_once(changed, gone)

    def _write_once(self, changed: list[tuple[Any, ...]], gone: list[tuple[str, str]]) -> None:
        with self._connection:
            self._connection.executemany("delete from runs where step = ? and instance = ?", gone)
            marks = ", ".join("?" * 15)
            self._connection.executemany(f"insert or replace into runs values ({marks})", changed)  # noqa: S608

    def _start_over(self) -> None:
        """The file is damaged, locked or not to be written: go on in memory, without it."""
        self._connection.close()
        self._connection = _in_memory()


def _open(root: Path) -> sqlite3.Connection:
    folder = runs_dir(root)
    if not folder.is_dir():
        return _in_memory()
    file = folder / FILE
    try:
        return _usable(sqlite3.connect(file, timeout=BUSY))
    except sqlite3.OperationalError:  # it is locked, or cannot be written
        return _in_memory()
    except sqlite3.DatabaseError:  # it is damaged
        with contextlib.suppress(OSError):
            file.unlink()
    try:
        return _usable(sqlite3.connect(file, timeout=BUSY))
    except sqlite3.Error:
        return _in_memory()


def _usable(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("pragma synchronous = off")  # it can be made anew
        (layout,) = connection.execute("pragma user_version").fetchone()
        with connection:
            if layout != LAYOUT:
                connection.execute("drop table if exists runs")
                connection.execute(_TABLE)
                connection.execute(f"pragma user_version = {LAYOUT}")
        connection.execute("select count(*) from runs where step = ''").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _in_memory() -> sqlite3.Connection:
    return _usable(sqlite3.connect(":memory:"))


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})


def _only_read(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


# --- rows ----------------------------------------------------------------------------------------


def _row(
    step: str, instance: str, stamp: tuple[int, int], record: RunRecord, file: Path
) -> tuple[Any, ...]:
    data = record.to_json()
    files = {name: data[name] for name in _FILES}
    brief = {name: value for name, value in data.items() if name not in (*_LEFT_OUT, *_FILES)}
    brief["outputs"] = data["outputs"]
    if brief["error"]:
        brief["error"]["traceback"] = ()
    error = f"{record.error.type}: {record.error.message}" if record.error else None
    return (
        step, instance, *stamp, record.status.value, record.flow, record.started, record.finished,
        record.duration, record.peak_memory, error,
        _sql_json(read_config(file.with_name("config.json")) or {}),
        _sql_json(record.metrics), json.dumps(brief), json.dumps(files),
    )  # fmt: skip


def _sql_json(value: Any) -> str:
    """JSON as SQLite reads it: it knows no NaN."""
    text = jsonio.canonical(value)
    if "NaN" in text or "Infinity" in text:
        text = jsonio.canonical(_finite(value))
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _from_brief(brief: str, files: str) -> RunRecord:
    values = json.loads(brief)
    values["status"] = Status.of(values["status"])
    values["outputs"] = tuple(map(FileFact.from_json, values["outputs"]))
    if values["error"]:
        values["error"] = ErrorInfo(**values["error"])
    inputs, packages, folders = _read_files(files)
    return RunRecord(
        **values, inputs=inputs, packages=packages, package_folders=folders, partial=True
    )


@lru_cache(maxsize=256)
def _read_files(text: str) -> tuple[tuple[FileFact, ...], dict[str, str], tuple[str, ...]]:
    """What the instances of one flow have in common, most often."""
    data = json.loads(text)
    inputs = tuple(map(FileFact.from_json, data["inputs"]))
    return inputs, data["packages"], tuple(data["package_folders"])
