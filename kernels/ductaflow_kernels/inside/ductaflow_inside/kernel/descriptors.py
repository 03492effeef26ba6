"""What is written below Python, to file descriptors 1 and 2: by C code, by children, by a crash.

    os.write(1, …), printf, a child ──▶ named pipe ──the IOPub thread──▶ OutStream ──▶ conductor
                                            └──after the kernel's death, or if it is stuck ──▶──┘

What is in a pipe outlives the process that wrote it, as long as somebody has it open: the conductor
does. In ipykernel a thread for each descriptor reads it, whenever it comes to it. Here what is read
from the pipe lies in a file, which the conductor can read as well, until it has been published.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import mmap
import os
import select
from collections.abc import Callable
from typing import Any

POSSIBLE = hasattr(os, "mkfifo") and hasattr(select, "poll")
PIECE = 1 << 16  # bytes, as much as a pipe holds
PIECES = 4  # that are read at once
REST = 0.005  # seconds for which little pieces may gather in the pipe, where they are safe

NAMES = {"stdout": (1, "1"), "stderr": (2, "2")}  # descriptor, and name of the pipe


class Pipe:
    """A descriptor of this process as a named pipe, and the end to read it from.

    Attributes:
        descriptor: Which descriptor it is.
        original: What it was before.
        reading: The end to read from.
    """

    def __init__(self, name: str, folder: str) -> None:
        self.descriptor, file = NAMES[name]
        path = os.path.join(folder, file)
        os.mkfifo(path, 0o600)
        # For writing, too: so it has a writer, whatever the flow does with the descriptor.
        self.reading = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        writing = os.open(path, os.O_WRONLY)
        self._taken = Taken(path + TAKEN)
        self.original = os.dup(self.descriptor)
        os.dup2(writing, self.descriptor)
        os.close(writing)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def ready(self) -> bool:
        """Whether something is there to be read; from any thread."""
        poll = select.poll()  # for itself: one that two threads use at once raises
        poll.register(self.reading, select.POLLIN)
        return bool(poll.poll(0))

    def read(self, write: Callable[[str], object]) -> bool:
        """Hand on what is in it, without waiting; whether there may be more."""
        for _ in range(PIECES):
            if not self.ready():
                return False
            with contextlib.suppress(BlockingIOError):  # the conductor has been faster
                write(self._decode(self._taken.take(self.reading)))
        return True

    def mark(self) -> int:
        """How far it has been read, for `published`."""
        return self._taken.size

    def published(self, mark: int) -> None:
        """What had been read then is safe."""
        self._taken.forget(mark)


TAKEN = "t"  # what the names of the files of `Taken` end in
_HEAD = 8  # bytes of such a file with how many of those after it are published


class Taken:
    """What was read from a pipe, in a file until it is published: a crash cannot come between.

    Attributes:
        size: How many bytes it holds.
    """

    def __init__(self, path: str) -> None:
        self.size = 0
        self._splices = hasattr(os, "splice")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600) if self._splices else -1

    def take(self, pipe: int) -> bytes:
        """Move what is in a pipe to the file; a piece of it.

        Raises:
            BlockingIOError: There is nothing.
        """
        at = _HEAD + self.size
        if self._splices:
            try:
                moved = os.splice(pipe, self._file, PIECE, None, at, os.SPLICE_F_NONBLOCK)
                self.size += moved
                return os.pread(self._file, moved, at)
            except BlockingIOError:
                raise
            except OSError:  # not with this kind of file system, or it is full
                self._splices = False
        return os.read(pipe, PIECE)

    def forget(self, mark: int) -> None:
        """Leave out what was taken before the file had so many bytes."""
        with contextlib.suppress(OSError):  # the flow has closed it
            if self.size != mark:
                os.pwrite(self._file, mark.to_bytes(_HEAD, "little"), 0)
                return
            os.ftruncate(self._file, 0)
        self.size = 0


class LastRequest:
    """Which request the kernel is at, in a file: a crash may take the replies before it along."""

    SIZE = 128  # bytes; a request's id is half as long
    FILE = "r"

    def __init__(self, folder: str) -> None:
        with open(os.path.join(folder, self.FILE), "wb+") as file:
            file.truncate(self.SIZE)
            self._map = mmap.mmap(file.fileno(), self.SIZE)

    def note(self, request: str) -> None:
        """It begins."""
        self._map[:] = request.encode()[: self.SIZE].ljust(self.SIZE, b"\0")


def _c_flush() -> Callable[[], object]:
    """What has C's own buffer of standard output written, where C has one that can be found."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        library = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(library, "stdout")
        flush: Any = library.fflush
        flush.argtypes = [ctypes.c_void_p]
        return lambda: flush(stdout)
    return lambda: None


flush_c = _c_flush()
