"""What a database holds together with its write-ahead log.

A program that writes to a database may leave what it wrote in a file beside it, from where it goes
into the database later: the database's own bytes say nothing of it. SQLite's format is described at
https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import BinaryIO

HEAD = 20  # bytes at a file's beginning that tell whether it is a database with a log
_SQLITE, _DUCKDB = b"SQLite format 3\0", b"DUCK"
_WAL_MODE = 2
_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_MAGIC = 0x377F0682  # and the next number, for checksums in the other byte order
_BESIDE = ("-wal", "-shm", "-journal", ".wal")


def log_suffix(head: bytes) -> str:
    """What is to be added to a database's path for that of its log; empty if it has none.

    Args:
        head: The first `HEAD` bytes of the file.
    """
    if head.startswith(_SQLITE):
        return "-wal" if _WAL_MODE in head[18:20] else ""
    return ".wal" if head[8:12] == _DUCKDB else ""


def belongs_to_database(path: str) -> bool:
    """Whether a file is the log, the journal or the lock of a database beside it."""
    if not path.endswith(_BESIDE):
        return False
    ending = next(end for end in _BESIDE if path.endswith(end))
    try:
        with open(path.removesuffix(ending), "rb", buffering=0) as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return head[8:12] == _DUCKDB if ending == ".wal" else head.startswith(_SQLITE)


def has_log(path: str, suffix: str) -> bool:
    """Whether there is something in a database's log."""
    try:
        return bool(suffix) and os.stat(path + suffix).st_size > 0
    except OSError:
        return False


def logged_hash(path: str, suffix: str) -> str:
    """SHA-256 of a database as it is with what its log adds to it.

    What it is once the log has gone into it has the same hash, if it is SQLite's.

    Args:
        path: The database.
        suffix: Its log's, see `log_suffix`.

    Raises:
        OSError: One of them cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file, open(path + suffix, "rb") as log:
        pages, count, size = _committed(log) if suffix == "-wal" else ({}, 0, 0)
        if not pages:
            pieces = [file] if suffix == "-wal" else [file, log]
            for piece in pieces:
                while data := piece.read(1 << 20):
                    digest.update(data)
            return digest.hexdigest()
        for number in range(1, count + 1):
            source, offset = (
                (log, pages[number]) if number in pages else (file, (number - 1) * size)
            )
            source.seek(offset)
            digest.update(source.read(size))
    return digest.hexdigest()


def _committed(log: BinaryIO) -> tuple[dict[int, int], int, int]:
    """Where a log has the pages that were committed last, how many the database has, their size."""
    header = log.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return {}, 0, 0
    magic, _, size, _, *salt, _, _ = _HEADER.unpack(header)
    if magic not in (_MAGIC, _MAGIC + 1):
        return {}, 0, 0
    pages: dict[int, int] = {}
    open_pages: dict[int, int] = {}  # of a transaction whose end has not been read yet
    count, offset = 0, _HEADER.size
    while len(frame := log.read(_FRAME.size)) == _FRAME.size:
        number, count_after, *rest = _FRAME.unpack(frame)
        if rest[:2] != salt:  # from before the log was begun anew
            break
        open_pages[number] = offset + _FRAME.size
        if count_after:
            count = count_after
            pages.update(open_pages)
            open_pages = {}
        offset += _FRAME.size + size
        log.seek(offset)
    return pages, count, size
