"""The IOPubThread of ipykernel, with fewer wake-ups and no TCP port: for front ends."""

from __future__ import annotations

import os
from typing import Any

import zmq
from ipykernel.iostream import IOPubThread
from zmq.eventloop.zmqstream import ZMQStream


class FrontEndThread(IOPubThread):  # type: ignore[misc]
    """An IOPubThread that front ends can use as they know it."""

    folder = ""  # where the socket lies over which forked children print
    in_cell = False
    _waking = False

    def schedule(self, f: Any) -> None:
        """Queue `f` for the thread; one wake-up serves all that is queued until it is up."""
        if not self.thread.is_alive():
            f()
            return
        self._events.append(f)
        if not self._waking:
            self._waking = True
            self._event_pipe.send(b"")

    def _handle_event(self, msg: Any) -> None:
        self._waking = False  # before the queue is read: what comes later wakes again
        try:
            super()._handle_event(msg)
        finally:
            if self._events:  # one of them raised
                self.schedule(lambda: None)

    if os.name == "posix":

        def _setup_pipe_in(self) -> None:
            self._pipe_uuid = os.urandom(16)
            pipe_in = self.socket.context.socket(zmq.PULL)
            pipe_in.linger = 0
            pipe_in.bind("ipc://" + os.path.join(self.folder, "p"))
            self._pipe_in = ZMQStream(pipe_in, self.io_loop)
            self._pipe_in.on_recv(self._handle_pipe_msg)

        def _setup_pipe_out(self) -> tuple[Any, Any]:
            context: Any = zmq.Context()  # a context does not survive a fork
            pipe_out = context.socket(zmq.PUSH)
            pipe_out.linger = 3000
            pipe_out.connect("ipc://" + os.path.join(self.folder, "p"))
            return context, pipe_out
