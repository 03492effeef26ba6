"""All runs of a project as they stand now: a run whose process is gone does not run any more."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
from filelock import FileLock, Timeout

from ductaflow.history.catalog import load_run
from ductaflow.history.index import Index
from ductaflow.history.run import Run
from ductaflow.model.kinds import FailureKind
from ductaflow.model.records import ErrorInfo, RunRecord, Status
from ductaflow.project.layout import iter_steps
from ductaflow.project.names import check_name


def standing_runs(root: Path, step: str | None = None) -> Iterator[Run]:
    """Every run that has a record, by step and instance; see `standing` and `Run.brief`.

    Args:
        root: The project root.
        step: Only this step's.

    Raises:
        NameRefused: `step` is not a valid step name.
    """
    with Index(root) as index:
        for name in iter_steps(root) if step is None else [check_name(step, "step")]:
            yield from map(standing, index.recorded(name))


def standing(run: Run) -> Run:
    """A run as it stands: one that says it runs, but that nobody runs any more, has died."""
    if run.status is not Status.RUNNING or _is_live(run):
        return run
    now = load_run(run.dir)
    if now is not None and now.status is not Status.RUNNING:  # it has just ended
        return now
    info = ErrorInfo(
        FailureKind.DIED,
        "ConductorGone",
        f"process {run.record.conductor.get('pid')}, which ran it, ended before it did",
    )
    return attrs.evolve(run, known=attrs.evolve(run.record, status=Status.DIED, error=info))


def is_live(run: Run) -> bool:
    """Whether somebody runs it now."""
    return run.status is Status.RUNNING and _is_live(run)


def _is_live(run: Run) -> bool:
    if run.record.conductor.get("host") not in (None, socket.gethostname()):
        return True  # another machine's processes and locks cannot be seen from here
    return _process_is_there(run.record) and _lock_is_held(run)


def _process_is_there(record: RunRecord) -> bool:
    pid = record.conductor.get("pid")
    if os.name != "posix" or type(pid) is not int:
        return True  # let the lock decide
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lock_is_held(run: Run) -> bool:
    if not run.paths.lock.exists():
        return False
    lock = FileLock(run.paths.lock, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a folder that we may not write in
        return True
    lock.release()
    return False
