"""What a kernel has published last, in two files that outlive it.

A message that is handed to ZeroMQ leaves a little later, from a thread of its own; a crash takes
along what has not left yet. Written to a file, it is the operating system's. The conductor reads
these files, `ductaflow_kernels/session/journal.py`, if the process ends before its time.

A file has eight bytes with a number that counts the turns, then for each message the number of its
frames, the length of each, four bytes each, and the frames.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from typing import Any

FILES = ("j0", "j1")  # taken in turns, so that there is always at least half of what they may hold
MOST = 4 << 20  # bytes of one file
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
TO_HEADER = 4  # frames up to the header of a message: topic, delimiter, signature, header


class Journal:
    """The two files of one kernel, in its folder; one thread at a time writes."""

    def __init__(self, folder: str) -> None:
        self._files = [os.open(os.path.join(folder, name), _FLAGS, 0o600) for name in FILES]
        self._turns = 0
        self._used = MOST

    def note(self, frames: Sequence[Any]) -> None:
        """Write down a message that is about to be sent; of one that is too long, its header."""
        if not self._files:
            return
        if sum(memoryview(frame).nbytes for frame in frames) > MOST // 2:
            frames = frames[:TO_HEADER]
        entry = _packed(frames)
        if self._used + len(entry) > MOST:
            self._turn()
        if self._files:
            self._write(entry)

    def _turn(self) -> None:
        self._files.reverse()
        with contextlib.suppress(OSError):  # the flow has closed it: so writing fails, too
            os.ftruncate(self._files[0], 0)
        self._turns, self._used = self._turns + 1, 0
        self._write(self._turns.to_bytes(8, "little"))

    def _write(self, data: bytes) -> None:
        try:
            complete = os.write(self._files[0], data) == len(data)
        except OSError:  # no room is left
            complete = False
        self._used += len(data)
        if not complete:  # what is there is older than what was sent: of no use
            for file in self._files:
                with contextlib.suppress(OSError):  # the flow has closed it
                    os.ftruncate(file, 0)
                    os.close(file)
            self._files.clear()


def _packed(frames: Sequence[Any]) -> bytes:
    views = [memoryview(frame) for frame in frames]
    lengths = [view.nbytes for view in views]
    return struct.pack(f"<{len(views) + 1}I", len(views), *lengths) + b"".join(views)
