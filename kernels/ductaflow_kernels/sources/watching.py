"""Whether files in the folders of packages have been changed, which Linux tells at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from typing import final

_CODE = (".py", ".so", ".pyd")
_EVENT = struct.Struct("iIII")  # inotify(7): watch, mask, cookie, length of the name
# Modified, moved from and to, created, deleted, the folder itself deleted.
_MASK = 0x2 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400
_OVERFLOW = 0x4000
_BUFFER = 1 << 16


@final
class Watch:
    """Watches folders for changed code, from before until after it was read.

    Where inotify is not to be had, the files are looked at each time, which takes milliseconds.

    Args:
        folders: Absolute.
        files: Files in them that count although they are no code.
        since: When the files were first read, in nanoseconds by the file system's clock.
    """

    def __init__(self, folders: Iterable[str], files: Iterable[str], since: int) -> None:
        self._files = frozenset(files)
        self._folders: dict[int, str] = {}
        self._all = tuple(folders)
        self._lock = threading.Lock()
        self._fd = self._open()
        # After the watch has begun: so nothing can happen in between.
        self._changed = any(change > since for change in self._changes().values())
        self._before = self._changes() if self._fd is None else {}

    def changed(self) -> bool:
        """Whether any file has been changed, made or removed."""
        with self._lock:
            if not self._changed:
                if self._fd is None:
                    self._changed = self._changes() != self._before
                else:
                    self._changed = any(self._counts(*event) for event in self._events())
            return self._changed

    def close(self) -> None:
        """Watch no longer."""
        with self._lock:
            self._changed = True
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _open(self) -> int | None:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            return None
        fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:  # this user has too many already
            return None
        for folder in self._all:
            watch = libc.inotify_add_watch(fd, os.fsencode(folder), _MASK)
            if watch < 0 and os.path.isdir(folder):
                os.close(fd)
                return None
            self._folders[watch] = folder
        return fd

    def _events(self) -> Iterator[tuple[int, int, str]]:
        assert self._fd is not None
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                yield watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
                at += length

    def _counts(self, watch: int, mask: int, name: str) -> bool:
        if mask & _OVERFLOW:
            return True
        return self._is_code(os.path.join(self._folders.get(watch, ""), name))

    def _is_code(self, path: str) -> bool:
        return path.endswith(_CODE) or path in self._files

    def _changes(self) -> dict[str, int]:
        """When each file was last changed; a copy may keep its time, but not that of its inode."""
        found = {}
        for folder in self._all:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if self._is_code(entry.path):
                        with contextlib.suppress(OSError):
                            found[entry.path] = entry.stat().st_ctime_ns
        return found
