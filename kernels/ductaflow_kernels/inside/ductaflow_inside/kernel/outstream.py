"""The OutStream of ipykernel, with less waiting, and with what is written below Python."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any

from ipykernel import iostream

from ductaflow_inside.kernel.descriptors import POSSIBLE, Pipe
from ductaflow_inside.kernel.earlystream import reused
from ductaflow_inside.kernel.naming import named_as
from ductaflow_inside.names import one_thread


@named_as(iostream.OutStream)
class FlowOutStream(reused(iostream.OutStream)):  # type: ignore[misc]
    """An OutStream that waits for nothing after a cell."""

    pending_since = 0.0  # by the monotonic clock
    _flush_pending: bool
    _below: Pipe | None = None
    _order: Any  # a lock, as the next
    _buffer_lock: Any
    _mark = 0  # of the pipe, when what is being sent was taken

    def __init__(self, session: Any, pub_thread: Any, name: str, *args: Any, **kwargs: Any) -> None:
        if one_thread() and POSSIBLE:
            kwargs["watchfd"] = False
        self._order = threading.RLock()
        super().__init__(session, pub_thread, name, *args, **kwargs)
        os.register_at_fork(after_in_child=self._make_locks)  # nobody holds them there
        if one_thread():
            pub_thread.streams.append(self)
            with contextlib.suppress(FileExistsError):  # the kernel's own is there already
                self._below = Pipe(name, pub_thread.folder) if POSSIBLE else None
        if self._below is not None:
            self._original_stdstream_copy = self._below.original
            pub_thread.read_below(self, self._below.reading)

    def fileno(self) -> int:
        """The descriptor whose text is published; ipykernel's own is that of a terminal."""
        if self._below is not None:
            return self._below.descriptor
        watched = getattr(self, "_original_stdstream_fd", None)
        return int(super().fileno() if watched is None else watched)

    def _make_locks(self) -> None:
        self._order, self._buffer_lock = threading.RLock(), threading.RLock()

    def _flush(self) -> None:
        """Send what is buffered, in the order in which it was taken; from any thread."""
        with self._order:
            self._mark = 0
            super()._flush()
            if self._below and self._mark and self._is_master_process():
                with self._buffer_lock:
                    self._below.published(self._mark)

    def _rotate_buffers(self) -> Any:
        """Take what is buffered, and note up to where the pipe had been read for it."""
        with self._buffer_lock:
            self._mark = self._below.mark() if self._below else 0
            return super()._rotate_buffers()

    def take_below(self) -> bool:
        """Take in what has been written to the descriptor; whether there may be more."""
        if self._below is None or not self._is_master_process() or self.closed:
            return False
        with self._buffer_lock:
            return self._below.read(super().write)

    def write(self, string: str) -> int | None:
        """Write text, after what was written to the descriptor before."""
        if self._below is not None and self._below.ready():
            self.take_below()
        written: int | None = super().write(string)
        return written

    def _schedule_flush(self) -> None:
        if not one_thread():
            super()._schedule_flush()
        elif not self._flush_pending:
            self.pending_since = time.monotonic()
            self._flush_pending = True
            if not self.pub_thread.in_cell:  # else it looks by itself
                self.pub_thread.wake_up()

    def flush(self) -> None:
        """Send what is buffered; in a cell, wait until it has left: a crash may follow.

        After a cell ipykernel flushes both streams twice. All messages leave in the order in
        which they are queued, so there is nothing to wait for.
        """
        self.take_below()
        if self.pub_thread is None or self.pub_thread.in_cell:
            super().flush()
        elif self._buffers:
            self._flush()
