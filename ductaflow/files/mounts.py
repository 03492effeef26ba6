"""File systems of other machines, and whether they answer.

A call to one whose server is gone waits for ever. So, before files on it are looked at, a thread
asks the file system itself, and is left alone if it gets no answer.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterable
from typing import Final, final

import attrs

BOUND: Final = 10.0  # seconds for which an answer is waited for
FRESH: Final = 5.0  # seconds for which an answer counts, and the list of mounts

# Types whose files are elsewhere, or come from a process that can be gone (proc_pid_mountinfo(5)).
_REMOTE: Final = re.compile(
    r"nfs.*|cifs|smb.*|9p|ceph|afs|lustre|gpfs|beegfs.*|glusterfs|orangefs|davfs.*|autofs|virtiofs"
    r"|fuse(\..*)?"
)


@final
@attrs.define(eq=False)
class _Mount:
    path: str
    kind: str
    source: str
    asked: float = -FRESH
    asking: threading.Thread | None = None

    def answers(self) -> bool:
        """Whether it has answered within the last seconds, or does so within the bound."""
        thread = self.asking
        if thread is None and time.monotonic() - self.asked < FRESH:
            return True
        if thread is None:
            thread = self.asking = threading.Thread(target=self._ask, daemon=True)
            thread.start()
            thread.join(BOUND)
        return not thread.is_alive()  # one that has waited that long before is not waited for again

    def _ask(self) -> None:
        with contextlib.suppress(OSError):  # that is an answer, too
            os.statvfs(self.path)
        self.asked, self.asking = time.monotonic(), None


_lock = threading.Lock()
_known: dict[tuple[str, str, str], _Mount] = {}
_listed = -FRESH


def silent(paths: Iterable[str] | None = None) -> str:
    """A file system that does not answer, in words; empty if all do.

    Args:
        paths: Absolute paths of files, of which those on a remote file system count; None for all
            remote file systems that there are.
    """
    with _lock:
        _list_mounts()
        mounts = list(_known.values())
        if paths is not None and mounts:
            looked_at = set(paths)
            mounts = [m for m in mounts if any(_lies_in(path, m.path) for path in looked_at)]
        for mount in mounts:
            if not mount.answers():
                return (
                    f"{mount.path} ({mount.kind} from {mount.source}) has not answered for "
                    f"{BOUND:g} s"
                )
    return ""


def _lies_in(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _list_mounts() -> None:
    """Read what is mounted, unless that was done just now."""
    global _listed
    if time.monotonic() - _listed < FRESH:
        return
    there = set()
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            before, _, after = os.fsdecode(line).partition(" - ")
            kind, source, *_ = after.split()
            if _REMOTE.fullmatch(kind):
                there.add((_unescaped(before.split()[4]), kind, _unescaped(source)))
    for gone in _known.keys() - there:
        del _known[gone]
    for new in sorted(there - _known.keys()):
        _known[new] = _Mount(*new)
    _listed = time.monotonic()


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
