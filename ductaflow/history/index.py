"""A fast way to what the `run.json` files say: one SQLite file below `runs/`.

The folders are the truth. A row counts only while its `run.json` has the size and the time stamp
that it had when the row was made; anything else is read again. The file may go at any time: it is
made anew when it is missing, damaged or of another layout, and where it cannot be used the folders
are read into memory instead.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, final, overload

from ductaflow.files import jsonio
from ductaflow.flowkit.declarations import is_observed, reads
from ductaflow.history.briefs import from_brief, to_brief
from ductaflow.history.listing import listed, listed_html
from ductaflow.history.recordfile import read_config, read_record
from ductaflow.history.run import Run, RunSummary
from ductaflow.model.plans import Config
from ductaflow.model.records import RunRecord, Status
from ductaflow.project.artifacts import CONFIG, RECORD
from ductaflow.project.layout import ArtifactPaths, iter_instance_names, runs_dir

FILE = ".ductaflow.sqlite"
LAYOUT = 3
_RECORD = RECORD.name("")
_CONFIG = CONFIG.name("")
_WRITTEN_AT_ONCE = 1000  # rows
BUSY = 2.0  # seconds to wait for another conductor

_TABLES = """
drop table if exists runs;
drop table if exists briefs;
create table runs (
    step text, instance text, mtime_ns integer, size integer,
    status text, flow text, started text, finished text, duration real, peak_memory integer,
    error text, config text, metrics text,
    primary key (step, instance)
) without rowid;
create table briefs (
    step text, instance text, mtime_ns integer, size integer, own text, shared text,
    primary key (step, instance)
) without rowid;
"""
_STAMPS = "select instance, mtime_ns, size from runs where step = ? order by instance"
_OUTLINE = """
select instance, mtime_ns, size, status, flow, started, duration
from runs where step = ? order by instance
"""
_BRIEF = "select instance, step, mtime_ns, size, own, shared from briefs where step = ?"
COLUMNS = (
    "step", "instance", "status", "flow", "started", "finished", "duration", "peak_memory", "error",
)  # fmt: skip


@final
class RunSummaries(Sequence[Run]):
    """Runs told of in outline; there may be very many, so each is made when it is asked for."""

    def __init__(self, rows: Sequence[tuple[Any, ...]], step: str, folder: str) -> None:
        self._rows = rows  # `_OUTLINE`
        self._step = step
        self._folder = folder

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> RunSummaries: ...
    def __getitem__(self, index: int | slice) -> Run | RunSummaries:
        if isinstance(index, slice):
            return RunSummaries(self._rows[index], self._step, self._folder)
        instance, _, _, status, flow, started, duration = self._rows[index]
        told = RunSummary(Status.of(status), flow, self._step, instance, started, duration)
        paths = ArtifactPaths(self._folder + instance, PurePosixPath(flow).stem)
        return Run(told, paths)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return listed(self)

    def _repr_html_(self) -> str:
        return listed_html(self)


@final
class Index:
    """The index of one project's runs, as a context; threads take turns with it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runs = str(runs_dir(root))
        self._connection = _open(root)
        self._ahead: dict[str, tuple[Any, ...]] = {}  # rows of one step, by instance
        self._steps: dict[str, None] = {}  # that are up to date

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connection."""
        self._connection.close()

    def read_ahead(self, step: str, instances: Sequence[str]) -> None:
        """Look up what `record` will be asked for, all at once; at most a few hundred."""
        marks = ", ".join("?" * len(instances))
        query = f"{_BRIEF} and instance in ({marks})"
        self._ahead = {row[0]: row for row in self._all(query, (step, *instances))}

    def record(self, step: str, instance: str) -> RunRecord | None:
        """An instance's record, without its longer parts if the index has it.

        None if there is none.
        """
        file = f"{self._runs}{os.sep}{step}{os.sep}{instance}{os.sep}{_RECORD}"
        try:
            stamp = os.stat(file)
        except OSError:
            return None
        found = (stamp.st_mtime_ns, stamp.st_size)
        row = self._ahead.pop(instance, None)
        if row is None or row[1] != step:
            rows = self._all(f"{_BRIEF} and instance = ?", (step, instance))
            row = rows[0] if rows else None
        if row is not None and (row[2], row[3]) == found:
            if is_observed():
                reads(file)
            return from_brief(row[4], row[5])
        return read_record(Path(file))

    def refresh(self, step: str) -> None:
        """Bring a step's rows up to date with its folders, so that `record` is fast.

        Not in a run's kernel: the run would depend on all that is looked at.
        """
        if not is_observed():
            self._current(step)

    def read(self, step: str, query: str = _STAMPS) -> list[tuple[Any, ...]]:
        """Bring a step's rows up to date, and read them all: a run that does has read the files.

        Args:
            step: The step's name.
            query: What to read of them: `_STAMPS`, and what may follow these columns.
        """
        rows = self._current(step, query)
        if is_observed():
            folder = self._folder(step)
            reads(*(f"{folder}{row[0]}{os.sep}{_RECORD}" for row in rows))
        return rows

    def runs(self, step: str, status: Status | None = None) -> RunSummaries:
        """The runs of a step as they are now, by name.

        Args:
            step: The step's name.
            status: Only those that stand so.
        """
        rows = self.read(step, _OUTLINE)
        if status is not None:
            rows = [row for row in rows if row[3] == status.value]
        return RunSummaries(rows, step, self._folder(step))

    def recorded(self, step: str) -> Iterator[Run]:
        """As `runs`, but with their records, without the longer parts."""
        self.read(step)
        folder = self._folder(step)
        for instance, _, _, _, own, shared in self._connection.execute(
            f"{_BRIEF} order by instance", (step,)
        ):
            record = from_brief(own, shared)
            yield Run(record, ArtifactPaths(folder + instance, PurePosixPath(record.flow).stem))

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

    def _folder(self, step: str) -> str:
        return f"{self._runs}{os.sep}{step}{os.sep}"

    def _all(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error:
            self._start_over()
            return self._connection.execute(query, values).fetchall()

    def _current(self, step: str, query: str = _STAMPS) -> list[tuple[Any, ...]]:
        """What a query gives of a step's rows, once they are up to date with its folders."""
        try:
            rows = self._connection.execute(query, (step,)).fetchall()
            if self._update(step, rows):
                rows = self._connection.execute(query, (step,)).fetchall()
        except sqlite3.Error:
            self._start_over()
            for each in [*self._steps, step]:
                self._update(each, [])
            rows = self._connection.execute(query, (step,)).fetchall()
        self._steps[step] = None
        return rows

    def _update(self, step: str, known: Sequence[tuple[Any, ...]]) -> bool:
        """Make rows of what is not known as it is.

        Args:
            step: The step's name.
            known: Its rows: `_STAMPS`, and what may follow.

        Returns:
            Whether there was anything to do.
        """
        changed, gone = _differences(self._root, step, known)
        if not (changed or gone):
            return False
        rows: list[_Rows] = []
        for instance, stamp in changed.items():
            file = Path(f"{self._folder(step)}{instance}{os.sep}{_RECORD}")
            record = read_record(file)
            if record is None:
                gone.append(instance)  # damaged: as if it were not there
                continue
            config = read_config(file.with_name(_CONFIG))
            rows.append(_Rows.of((step, instance, *stamp), record, config))
            if len(rows) == _WRITTEN_AT_ONCE:
                self._write(rows)
                rows = []
        self._write(rows, [(step, instance) for instance in gone])
        return True

    def _write(self, rows: Sequence[_Rows], gone: Sequence[tuple[str, str]] = ()) -> None:
        with self._connection:
            for table in ("runs", "briefs"):
                delete = f"delete from {table} where step = ? and instance = ?"  # noqa: S608
                self._connection.executemany(delete, gone)
                for row in (getattr(row, table) for row in rows):
                    marks = ", ".join("?" * len(row))
                    insert = f"insert or replace into {table} values ({marks})"  # noqa: S608
                    self._connection.execute(insert, row)

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
        jsonio.create(file)
        return _usable(sqlite3.connect(file, timeout=BUSY, check_same_thread=False))
    except (OSError, sqlite3.OperationalError):  # it is locked, or cannot be written
        return _in_memory()
    except sqlite3.DatabaseError:  # it is damaged
        with contextlib.suppress(OSError):
            file.unlink()
    try:
        jsonio.create(file)
        return _usable(sqlite3.connect(file, timeout=BUSY, check_same_thread=False))
    except (OSError, sqlite3.Error):
        return _in_memory()


def _usable(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("pragma synchronous = off")  # it can be made anew
        (layout,) = connection.execute("pragma user_version").fetchone()
        with connection:
            if layout != LAYOUT:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {LAYOUT}")
        connection.execute("select count(*) from runs where step = ''").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _in_memory() -> sqlite3.Connection:
    return _usable(sqlite3.connect(":memory:", check_same_thread=False))


def _differences(
    root: Path, step: str, known: Sequence[tuple[Any, ...]]
) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """What of a step is not as it is known.

    Args:
        root: The project root.
        step: The step's name.
        known: Its rows: `_STAMPS`, and what may follow.

    Returns:
        Instance → time stamp and size of its `run.json`, of those that are new or have changed, and
        the instances of which it is gone.
    """
    changed: dict[str, tuple[int, int]] = {}
    gone: list[str] = []
    folder = f"{runs_dir(root)}{os.sep}{step}{os.sep}"
    # From an open folder it takes less, but in a run's kernel a file that is missing must be noted.
    opened = None if is_observed() or os.stat not in os.supports_dir_fd else _opened(folder)
    before, after = folder if opened is None else "", f"{os.sep}{_RECORD}"
    try:
        # By name, which is often the order in which they were made: a third faster than any other.
        for name, time, size, *_ in known:
            try:
                file = os.stat(before + name + after, dir_fd=opened)
            except OSError:
                gone.append(name)
                continue
            if file.st_mtime_ns != time or file.st_size != size:
                changed[name] = (file.st_mtime_ns, file.st_size)
        new = set(iter_instance_names(root, step)).difference(row[0] for row in known)
        for name in sorted(new):
            with contextlib.suppress(OSError):  # no instance's folder
                file = os.stat(before + name + after, dir_fd=opened)
                changed[name] = (file.st_mtime_ns, file.st_size)
    finally:
        if opened is not None:
            os.close(opened)
    return changed, gone


def _opened(folder: str) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:  # there is none
        return None


_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})


def _only_read(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


# --- rows ----------------------------------------------------------------------------------------


@final
class _Rows(NamedTuple):
    """What the tables hold of one run."""

    runs: tuple[Any, ...]
    briefs: tuple[Any, ...]

    @classmethod
    def of(cls, key: tuple[str, str, int, int], record: RunRecord, config: Config | None) -> _Rows:
        error = f"{record.error.type}: {record.error.message}" if record.error else None
        facts = (
            record.status.value, record.flow, record.started, record.finished, record.duration,
            record.peak_memory, error, _sql_json(config or {}), _sql_json(record.metrics),
        )  # fmt: skip
        return cls((*key, *facts), (*key, *to_brief(record.to_json())))


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
