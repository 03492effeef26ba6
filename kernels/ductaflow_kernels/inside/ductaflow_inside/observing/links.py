"""The symbolic links on the way of a path, each noted with where it led when it was first followed.

A path is walked part by part, as the system does it: `..` behind a link leads elsewhere than its
text says. Folders that were walked are remembered: a file in a known one costs a look-up.
"""

from __future__ import annotations

import os
import stat

MAX_LINKS = 40  # on the way of one path, as in Linux
MAX_FOLDERS = 1 << 16

_POSIX = os.name == "posix"
_lstat, _readlink = os.lstat, os.readlink  # as they are before anybody notes what they are asked


class Links:
    """The links that were met, and the folders that were walked.

    Attributes:
        found: Path of a link, itself without links → where it leads, as its text says.
        again: Whether a link may have been given another target: then nothing that was walked tells
            where its path leads now.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.again = False
        self._changed = False  # whether a link has been given another target
        self._folders: dict[str, tuple[str, str]] = {"": ("", "")}

    def forget(self) -> None:
        """Walk anew from now on: a link was made or moved."""
        self._folders = {"": ("", "")}
        self.again = bool(self.found)

    def walk(self, path: str, *, last: bool = True) -> str:
        """The path without `.`, `..` and `//`, links kept; those on its way are noted.

        Where a link has been given another target since it was noted, links are replaced by where
        they lead: one name cannot stand for two files.

        Args:
            path: Absolute.
            last: Whether it is followed if it is a link itself.
        """
        if not _POSIX:
            return os.path.abspath(path)
        folder, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            kept, real = self._folder(path)
        else:
            kept, real = self._folder(folder)
            if not last:
                return f"{real}/{name}"
            kept, real = self._step(kept, real, name, [0])
        return (real if self._changed and kept != real else kept) or "/"

    def _folder(self, path: str) -> tuple[str, str]:
        """A folder's path with the links on its way kept, and without any."""
        known = self._folders.get(path)
        if known is not None:
            return known
        if len(self._folders) >= MAX_FOLDERS:
            self._folders = {"": ("", "")}
        return self._walk(path, [0])

    def _walk(self, path: str, followed: list[int]) -> tuple[str, str]:
        begin = path
        while begin not in self._folders:
            begin = begin.rpartition("/")[0]
        kept, real = self._folders[begin]
        if begin == path:
            return kept, real
        for name in path[len(begin) + 1 :].split("/"):
            begin = f"{begin}/{name}"
            if name == "..":
                # Behind a link its text does not tell where that is.
                up = real.rpartition("/")[0]
                kept = kept.rpartition("/")[0] if kept == real else up
                real = up
            elif name not in ("", "."):
                kept, real = self._step(kept, real, name, followed)
            self._folders[begin] = kept, real
        return kept, real

    def _step(self, kept: str, real: str, name: str, followed: list[int]) -> tuple[str, str]:
        kept, path = f"{kept}/{name}", f"{real}/{name}"
        try:
            if not stat.S_ISLNK(_lstat(path).st_mode):
                return kept, path
            target = _readlink(path)
        except (OSError, ValueError):  # no link, or not there
            return kept, path
        known = self.found.setdefault(path, target)
        self._changed = self._changed or known != target
        followed[0] += 1
        if followed[0] > MAX_LINKS:
            return kept, path  # a loop, which leads nowhere
        whole = target if target.startswith("/") else f"{real}/{target}"
        return kept, self._walk(whole.rstrip("/"), followed)[1]
