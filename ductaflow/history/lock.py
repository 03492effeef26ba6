"""One live run per instance folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ductaflow.errors import ArtifactError, InstanceBusy
from ductaflow.files import jsonio
from ductaflow.history.recordfile import read_record
from ductaflow.model.records import Status
from ductaflow.project.layout import ArtifactPaths

LONGEST_WAIT = 2.0  # seconds
_POLL = 0.02


@contextlib.contextmanager
def instance_lock(paths: ArtifactPaths) -> Iterator[None]:
    """Hold an instance's folder for one run; the lock goes with the process, however it ends.

    Raises:
        InstanceBusy: Another run holds it; the message names its process and host.
        ArtifactError: The folder cannot be made or written.
    """
    folder: Path = paths.lock.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mode = jsonio.create(paths.lock)
        lock = FileLock(paths.lock, timeout=0, mode=mode, thread_local=False)
        _acquire(lock, paths)
    except Timeout:
        raise InstanceBusy(
            f"{folder} is in use by a run {_holder(paths)}. Wait for it, stop it, or give this run "
            "another instance name."
        ) from None
    except OSError as e:
        raise ArtifactError(
            f"cannot write in {folder}: {e.strerror or e}. Make it writable, or choose another "
            "folder."
        ) from e
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, paths: ArtifactPaths) -> None:
    """Take the lock; who holds it without a run only writes a few files, and is waited for.

    Raises:
        Timeout: A run holds it, or whoever does is taking too long.
    """
    end = time.monotonic() + LONGEST_WAIT
    while not _acquired(lock):
        record = read_record(paths.record)
        if record is None or record.status is Status.RUNNING or time.monotonic() > end:
            raise Timeout(lock.lock_file)
        time.sleep(_POLL)


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire()
    except Timeout:
        return False
    return True


def _holder(paths: ArtifactPaths) -> str:
    record = read_record(paths.record)
    if record is None or not record.conductor:
        return "that has only just begun"
    by = record.conductor
    return f"of process {by.get('pid')} on {by.get('host')}, begun {record.started}"
