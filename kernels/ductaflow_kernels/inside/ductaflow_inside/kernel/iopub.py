"""The thread through which a flow's kernel publishes, without an event loop.

    any thread ──schedule(f)──▶ queue ──one wake-up──▶ IOPub thread ──▶ socket ──▶ conductor
                                                            ▲
                     control requests, forked children ─────┘

ipykernel's own runs tornado over asyncio, and a second such thread for the control channel. Both
take milliseconds to set up, and for each message a good part of what running a small cell takes,
while they hold the GIL. Here one thread polls its few sockets itself. Front ends get ipykernel's.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import heapq
import itertools
import os
import socket as sockets
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import zmq
from ipykernel.iostream import BackgroundSocket, IOPubThread

from ductaflow_inside.kernel.descriptors import REST
from ductaflow_inside.kernel.journal import Journal

FLUSH_EVERY = 0.2  # seconds, as ipykernel's OutStream.flush_interval


class _Timers:
    """What streams ask of an event loop: to call something later, in the IOPub thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._due: list[tuple[float, int, functools.partial[object]]] = []
        self._number = itertools.count()

    def call_later(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        """Call something in so many seconds; from any thread."""
        task = functools.partial(call, *args)
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._number), task))
        self._wake()

    def add_callback(self, call: Callable[..., object], *args: Any) -> None:
        """Call something soon; from any thread."""
        self.call_later(0.0, call, *args)

    def seconds(self) -> float | None:
        """Until the next is due; None if there is none."""
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def run(self) -> None:
        """Call those that are due."""
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()


class FlowThread(IOPubThread):  # type: ignore[misc]
    """The IOPubThread of a flow's kernel; it serves the control channel too."""

    folder = ""  # where the socket lies over which forked children print
    control: Any = None  # the control channel's socket
    on_control: Callable[[list[bytes]], None] | None = None
    in_cell = False  # the thread then looks by itself whether a stream has something to say
    journal: Journal | None = None
    lazy = False  # what is sent may wait for what will be sent right after it

    def __init__(self, socket: Any, pipe: bool = False, session: Any = False) -> None:
        # Not the base's: it makes the event loop, and streams on it.
        self.socket, self.session = socket, session
        self.background_socket = BackgroundSocket(self)
        self.io_loop = _Timers(self.wake_up)
        self.streams: list[Any] = []
        self._stopped = False
        self._master_pid = os.getpid()
        self._pipe_flag = pipe
        self._events: collections.deque[Callable[[], object]] = collections.deque()
        self._event_pipes: dict[Any, Any] = {}  # the base's stop() closes them
        self._poller = zmq.Poller()
        self._readers: dict[Any, Callable[[], None]] = {}
        self._waking = False
        self._make_order()
        os.register_at_fork(after_in_child=self._make_order)  # nobody holds it there
        self._wake, self._woken = sockets.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._pipe_in = self._bind_pipe() if pipe else None
        self.thread = threading.Thread(target=self._thread_main, name="IOPub", daemon=True)

    # --- for any thread ---------------------------------------------------------------------

    def schedule(self, f: Callable[[], object]) -> None:
        """Queue `f` for the thread; one wake-up serves all that is queued until it is up."""
        if self.thread.is_alive():
            self._events.append(f)
            self.wake_up()
        else:
            f()

    def send_multipart(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Queue a message for the thread; a crash that follows at once does not lose it."""
        with self._order:
            if self.journal is not None and os.getpid() == self._master_pid:
                self.journal.note(msg)
            if self.lazy and self.thread.is_alive():
                self._events.append(lambda: self._really_send(msg, *args, **kwargs))
            else:
                super().send_multipart(msg, *args, **kwargs)

    def _make_order(self) -> None:
        self._order = threading.RLock()

    def wake_if_needed(self) -> None:
        """Wake the thread if something waits in the queue."""
        if self._events:
            self.wake_up()

    def wake_up(self) -> None:
        """Have the thread look at its queue and its streams."""
        if self._waking:
            return
        self._waking = True
        try:
            self._wake.send(b"w")
        except BlockingIOError:
            pass  # it has more wake-ups before it than it can take
        except OSError:
            if not self._stopped:
                raise

    def stop(self) -> None:
        """End the thread, after all that is queued."""
        self.schedule(self._stop)
        if self.thread.is_alive() and self.thread is not threading.current_thread():
            self.thread.join(timeout=30)

    def _stop(self) -> None:
        self._stopped = True

    # --- in the thread ----------------------------------------------------------------------

    def _thread_main(self) -> None:
        poller = self._poller
        readers = self._readers
        readers[self._woken.fileno()] = self._run_events
        if self.socket.type == zmq.XPUB:
            readers[self.socket] = self._reader(self.socket, self._handle_subscription)
        if self._pipe_in is not None:
            readers[self._pipe_in] = self._reader(self._pipe_in, self._handle_pipe_msg)
        if self.control is not None:
            readers[self.control] = self._reader(self.control, self._handle_control)
        for reader in readers:
            poller.register(reader, zmq.POLLIN)
        while not self._stopped:
            for ready, _ in poller.poll(self._wait()):
                self._safely(readers[ready])
            self._safely(self.io_loop.run)
            self._safely(self._flush_streams)

    def _wait(self) -> int | None:
        waits = [s for s in (self.io_loop.seconds(),) if s is not None]
        if self.in_cell or any(stream._flush_pending for stream in self.streams):
            waits.append(FLUSH_EVERY)
        return int(min(waits) * 1000) + 1 if waits else None

    def _run_events(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        self._waking = False  # before the queue is read: what comes later wakes again
        for _ in range(len(self._events)):
            self._safely(self._events.popleft())

    def _flush_streams(self) -> None:
        now = time.monotonic()
        for stream in self.streams:
            if stream._flush_pending and now - stream.pending_since >= FLUSH_EVERY:
                stream._flush()

    def _reader(self, socket: Any, handle: Callable[[Any], None]) -> Callable[[], None]:
        def read() -> None:
            while True:
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    return
                handle(frames)

        return read

    def read_below(self, stream: Any, pipe: int) -> None:
        """Read what is written below a stream whenever there is something; in any thread."""
        self._readers[pipe] = functools.partial(self._read_below, stream, pipe)
        self.schedule(functools.partial(self._poller.register, pipe, zmq.POLLIN))

    def _read_below(self, stream: Any, pipe: int) -> None:
        # Not at once: often a crash follows, and what is in the pipe then outlives it.
        self._poller.unregister(pipe)
        self.io_loop.call_later(REST, self._take_below, stream, pipe)

    def _take_below(self, stream: Any, pipe: int) -> None:
        more = stream.take_below()
        stream._flush()
        if more:
            self.io_loop.call_later(0, self._take_below, stream, pipe)
        else:
            self._poller.register(pipe, zmq.POLLIN)

    def _handle_control(self, frames: list[bytes]) -> None:
        if self.on_control is not None:
            self.on_control(frames)

    def _safely(self, call: Callable[[], object]) -> None:
        """Call something; the thread survives what goes wrong in it."""
        try:
            call()
        except Exception:
            traceback.print_exc(file=sys.__stderr__)

    # --- forked children --------------------------------------------------------------------

    def _bind_pipe(self) -> Any:
        self._pipe_uuid = os.urandom(16)
        pipe = self.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        if os.name == "posix":
            self._pipe_address = "ipc://" + os.path.join(self.folder, "p")
            pipe.bind(self._pipe_address)
        else:
            port = pipe.bind_to_random_port("tcp://127.0.0.1")
            self._pipe_address = f"tcp://127.0.0.1:{port}"
        return pipe

    def _setup_pipe_out(self) -> tuple[Any, Any]:
        context: Any = zmq.Context()  # a context does not survive a fork
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000
        pipe.connect(self._pipe_address)
        return context, pipe
