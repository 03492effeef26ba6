"""A folder to run an instance in again, with all around it that relative paths lead to.

    {root}/runs/prep/am/…            {root}/.ductaflow-verify-x/prep → ../runs/prep
    {root}/runs/model/a/…     ──▶    {root}/.ductaflow-verify-x/model/b → ../../runs/model/b
    {root}/runs/model/b/…            {root}/.ductaflow-verify-x/model/a/   the new run's own

It lies beside the folder of all runs, as deep as that, so `../../prep/am` and `../../../inputs` are
what they were, and the instance and its step have their names.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ductaflow.errors import ArtifactError
from ductaflow.files import jsonio
from ductaflow.project.layout import runs_dir

PREFIX = ".ductaflow-verify-"
_LOCK = ".ductaflow.lock"


@contextlib.contextmanager
def scratch_tree(
    root: Path, step: str, instance: str, listed: Collection[str]
) -> Iterator[tuple[Path, Path]]:
    """The scratch folder of an instance, removed at the end; what killed processes left goes first.

    Args:
        root: The project root.
        step: The step's name.
        instance: The instance's.
        listed: Folders below the folder of all runs whose names count, with `/` and from there on:
            they are no links, for a walk does not follow these.

    Yields:
        The folder that stands for the folder of all runs, and the instance's in it.

    Raises:
        ArtifactError: It cannot be made.
    """
    runs = Path(os.path.realpath(runs_dir(root)))
    try:
        with _clearing(runs):
            _clear(runs.parent)
            base = Path(tempfile.mkdtemp(prefix=PREFIX, dir=runs.parent))
            lock = FileLock(base / _LOCK, thread_local=False)
            lock.acquire(timeout=0)
        try:
            _mirror(runs, base, "", {f"{step}/{instance}", *listed}, f"{step}/{instance}")
        except OSError:
            _remove(base)
            raise
    except OSError as e:
        raise ArtifactError(
            f"cannot make a scratch folder in {runs.parent}: {e.strerror or e}. Verifying needs a "
            "folder beside the runs, and symbolic links."
        ) from e
    try:
        yield base, base / step / instance
    finally:
        with _clearing(runs):  # or another clears it between the two
            lock.release()
            _remove(base)


def _clearing(runs: Path) -> FileLock:
    """Held by who makes or removes a scratch folder: what nobody holds is anyone's to remove."""
    path = runs / f"{PREFIX}lock"
    return FileLock(path, mode=jsonio.create(path))


def _mirror(source: Path, target: Path, name: str, real: Collection[str], own: str) -> None:
    """Make a folder of links to all that another has, but for folders that are to be real."""
    for entry in os.scandir(source):
        if entry.name.startswith(".ductaflow"):
            continue
        below = f"{name}/{entry.name}" if name else entry.name
        if below == own:
            continue
        if entry.is_dir() and any(each == below or each.startswith(f"{below}/") for each in real):
            (target / entry.name).mkdir()
            _mirror(Path(entry.path), target / entry.name, below, real, own)
        else:
            (target / entry.name).symlink_to(entry.path, target_is_directory=entry.is_dir())
    if own.rpartition("/")[0] == name:
        (target / own.rpartition("/")[2]).mkdir()


def _clear(parent: Path) -> None:
    """Remove scratch folders that nobody holds."""
    for left in parent.glob(f"{PREFIX}*"):
        if left.is_dir():
            lock = FileLock(left / _LOCK, thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            lock.release()
            _remove(left)


def _remove(folder: Path) -> None:
    """Remove a folder with what a flow may have protected in it; links are not followed."""
    for path, _, _ in os.walk(folder):
        with contextlib.suppress(PermissionError):
            Path(path).chmod(0o700)
    shutil.rmtree(folder)
