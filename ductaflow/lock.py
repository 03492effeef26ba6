"""One live run per instance folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ductaflow.errors import ArtifactError, InstanceBusy
from ductaflow.layout import ArtifactPaths
from ductaflow.records import read_record


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
        lock = FileLock(paths.lock, timeout=0, thread_local=False)
        lock.acquire()
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


def _holder(paths: ArtifactPaths) -> str:
    record = read_record(paths.record)
    if record is None or not record.conductor:
        return "that has only just begun"
    by = record.conductor
    return f"of process {by.get('pid')} on {by.get('host')}, begun {record.started}"
