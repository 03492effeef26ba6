"""What is computed from a file's bytes, once for each version of the file.

A version is told by size, time, inode and change time: the first two may be the same after a
`cp -p` or a rename, the last cannot be set. Time stamps are coarse, though: a file that was changed
just now may be changed again and get the same ones, so nothing is remembered of it yet. (Git calls
such files racy.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, final

import attrs

from ductaflow.errors import ArtifactError
from ductaflow.files import jsonio
from ductaflow.files.databases import HEAD, has_log, log_suffix, logged_hash

FILE = ".ductaflow-hashes"
"""Below the folder of all runs: hashes that other processes can use, one a line."""

_FINE, _COARSE = 50_000_000, 2_500_000_000  # ns: a system's clock tick, and FAT's 2 s
_MAX_KNOWN = 1 << 16  # files
_MAX_KEPT = 1 << 17
_SPARE = 1000  # lines that are out of date, beside as many as are not

Version = tuple[int, int, int, int]
T = TypeVar("T")


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        sha256: Hash of its bytes; of a database, with what its log adds to it.
        log: What is to be added to its path for that of its log, if it is a database with one.
        settled: Whether as long as its version is the same, so is this.
    """

    sha256: str
    log: str
    settled: bool


def version_of(found: os.stat_result) -> Version:
    """What tells a file's version: size, time, inode, change time."""
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


def is_settled(version: Version, now_ns: int) -> bool:
    """Whether a change from now on would make another version.

    Args:
        version: A file's version.
        now_ns: A time before the file was read.
    """
    _, mtime_ns, _, ctime_ns = version
    if ctime_ns > now_ns:  # another machine's clock
        return False
    return not any(0 <= now_ns - stamp < _grain(stamp) for stamp in (mtime_ns, ctime_ns))


def _grain(stamp_ns: int) -> int:
    """How long another change may get the same time stamp."""
    return _FINE if stamp_ns % 1_000_000 else _COARSE


def once(
    what: str, path: str, found: os.stat_result, compute: Callable[[str], T]
) -> tuple[T, bool]:
    """What is computed from a file, and whether it holds for all files of this version.

    Args:
        what: What it is.
        path: The file.
        found: What `os.stat` says of it.
        compute: Computes it, from the path.
    """
    version = version_of(found)
    known = _known.get((what, path))
    if known is not None and known[0] == version:
        return known[1], True
    settled = is_settled(version, time.time_ns())
    value = compute(path)
    settled = settled and version_of(os.stat(path)) == version
    if settled:
        _learn((what, path), version, value)
    return value, settled


def content(path: str, found: os.stat_result, *, kept: bool = False) -> Content:
    """What a file holds.

    Args:
        path: The file.
        found: What `os.stat` says of it.
        kept: Whether the hash is looked for, and put, where other processes find it: `keep_in`.

    Raises:
        OSError: It cannot be read.
    """
    key = "bytes", path
    version = version_of(found)
    if kept and _kept is not None and _known.get(key, (None,))[0] != version:
        kept_hash = _kept.get(path, version)
        if kept_hash is not None:
            _learn(key, version, kept_hash)
    unknown = kept and _known.get(key, (None,))[0] != version
    (sha256, log), settled = once("bytes", path, found, _hashed)
    if unknown and settled and _kept is not None:
        _kept.put(path, version, (sha256, log))
    if has_log(path, log):
        return Content(logged_hash(path, log), log, settled=False)
    return Content(sha256, log, settled)


def _hashed(path: str) -> tuple[str, str]:
    digest = hashlib.sha256()
    log = ""
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            log = log or log_suffix(piece[:HEAD])
            digest.update(piece)
    return digest.hexdigest(), log


_known: dict[tuple[str, str], tuple[Version, Any]] = {}
_lock = threading.Lock()


def _learn(key: tuple[str, str], version: Version, value: object) -> None:
    with _lock:
        _known.pop(key, None)
        if len(_known) >= _MAX_KNOWN:
            del _known[next(iter(_known))]
        _known[key] = version, value


# --- between processes ---------------------------------------------------------------------------


def keep_in(folder: str) -> None:
    """From now on keep hashes in a file of this folder."""
    global _kept
    if _kept is None or _kept.folder != folder:
        _kept = _Kept(folder, Path(folder, FILE))


@final
@attrs.define(eq=False)
class _Kept:
    """Hashes of files in a file. It may go at any time, and a line may be damaged."""

    folder: str
    file: Path
    _hashes: dict[str, tuple[Version, tuple[str, str]]] | None = None

    def get(self, path: str, version: Version) -> tuple[str, str] | None:
        if self._hashes is None:
            self._hashes = self._read()
        known = self._hashes.get(path)
        return known[1] if known is not None and known[0] == version else None

    def put(self, path: str, version: Version, value: tuple[str, str]) -> None:
        if self._hashes is not None:
            self._hashes[path] = version, value
        # Each line begins and ends on its own: what another process was writing may be torn.
        line = f"\n{json.dumps([path, *version, *value])}\n".encode()
        with contextlib.suppress(OSError):  # a folder that cannot be written to: hashed again
            fd = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)

    def _read(self) -> dict[str, tuple[Version, tuple[str, str]]]:
        try:
            lines = self.file.read_bytes().splitlines()
        except OSError:
            return {}
        hashes = {}
        for line in filter(None, lines):
            with contextlib.suppress(ValueError, TypeError):  # damaged: hashed again
                path, size, mtime_ns, inode, ctime_ns, sha256, log = json.loads(line)
                hashes[path] = (size, mtime_ns, inode, ctime_ns), (sha256, log)
        if len(lines) > 2 * len(hashes) + _SPARE or len(hashes) > _MAX_KEPT:
            self._tidy(hashes)
        return hashes

    def _tidy(self, hashes: dict[str, tuple[Version, tuple[str, str]]]) -> None:
        """Write it anew without what is out of date."""
        while len(hashes) > _MAX_KEPT // 2:
            del hashes[next(iter(hashes))]
        lines = [json.dumps([p, *version, *value]) + "\n" for p, (version, value) in hashes.items()]
        with contextlib.suppress(ArtifactError):
            jsonio.write_atomic(self.file, "".join(lines))


_kept: _Kept | None = None
