"""What is written below Python, to file descriptors 1 and 2: by C code, by children, by a crash.

Beside `ductaflow_boot.py`; as that, it needs the interpreter's own ipykernel and nothing else.

    os.write(1, …), printf, a child ──▶ named pipe ──the IOPub thread──▶ OutStream ──▶ conductor
                                            └──after the kernel's death, or if it is stuck ──▶──┘

What is in a pipe outlives the process that wrote it, as long as somebody has it open: the conductor
does. In ipykernel a thread for each descriptor reads it, whenever it comes to it.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
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
                write(self._decode(os.read(self.reading, PIECE)))
        return True


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
