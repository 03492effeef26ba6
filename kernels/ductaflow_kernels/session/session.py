"""Drive one kernel: send requests, read messages, notice its end. One thread at a time owns one.

There is no event loop here: the sockets and the process are polled together, so it makes no
difference whether the caller runs a loop of its own.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import zmq

from ductaflow_kernels.errors import KernelDied, KernelStartError, UnmanagedKernel
from ductaflow_kernels.jupyterclient import import_jupyter_client
from ductaflow_kernels.processes.connection import Connection
from ductaflow_kernels.processes.process import (
    KILL,
    KernelProcess,
    Patience,
    describe_exit,
    read_work,
)
from ductaflow_kernels.session.journal import LastWords
from ductaflow_kernels.session.messages import Message
from ductaflow_kernels.session.observer import VARIABLE as OBSERVER_VARIABLE
from ductaflow_kernels.session.observer import Use, mind_observer, uses
from ductaflow_kernels.spec import KernelSpec

if TYPE_CHECKING:
    from jupyter_client.session import Session

FOREVER = 3600.0
PROCESS_POLL = 0.1  # seconds, where the process has no sentinel
ASK_AGAIN = 0.05  # seconds between questions to a kernel that is coming up
DELIM = b"<IDS|MSG>"  # ends the routing ids of a message
SILENT_LONG = 5.0  # seconds without a message, after which its observer is looked at
LEFT = "left"  # the parent of text that is found in a kernel's pipes: nobody has said what it is
PIPES = {"stdout": "1", "stderr": "2"}  # stream and file of what is written below Python
LAST_REQUEST = "r"  # the file in which a kernel says at which request it is
PIPE_FULL = 60_000  # bytes, of 65,536
PIECE, PIECES = 1 << 16, 64
STUCK_FOR = 20  # milliseconds for which to wait for more from a kernel that is stuck
LAST_WORDS = 0.2  # seconds to read on after the process has ended


_context: tuple[int, zmq.Context[Any]] | None = None


def zmq_context() -> zmq.Context[Any]:
    """This process's ZeroMQ context; a forked child gets its own."""
    global _context
    if _context is None or _context[0] != os.getpid():
        context: zmq.Context[Any] = zmq.Context()
        context.max_sockets = 8192
        _context = (os.getpid(), context)
    return _context[1]


@final
@attrs.define(eq=False)
class KernelSession:
    """A kernel that is up, and the way to talk to it.

    Attributes:
        spec: What kind of kernel it is.
        process: Its process.
        connection: Its addresses and key.
        source: Name of the source that made it.
        left_out: Modules that could not be imported ahead, and why.
        imported: Modules that its user wants other kernels like it to have from the start.
        observer: Address of the observer that notes which files it uses, or empty.
        info: Its answer to `kernel_info_request`; if it is given, the kernel is not asked.
        plain: Why it is not one of ours, though its kernelspec is ipykernel's; else empty.
        greets: Whether it has said by itself that its outputs reach us.
    """

    spec: KernelSpec
    process: KernelProcess
    connection: Connection
    source: str
    left_out: Mapping[str, str] = attrs.field(factory=dict)
    imported: Sequence[str] = ()
    observer: str = ""
    info: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    plain: str = ""
    greets: bool = attrs.field(init=False, default=False)
    _wire: Session = attrs.field(init=False, repr=False)
    _sockets: dict[str, Any] = attrs.field(init=False, factory=dict, repr=False)
    _parent: tuple[bytes, str] = attrs.field(init=False, default=(b"", ""), repr=False)
    _poller: zmq.Poller = attrs.field(init=False, factory=zmq.Poller, repr=False)
    _pipes: dict[str, int] = attrs.field(init=False, factory=dict, repr=False)
    _words: LastWords | None = attrs.field(init=False, default=None, repr=False)
    _stuck_at: int | None = attrs.field(init=False, default=None, repr=False)  # ticks
    _gone: KernelDied | None = attrs.field(init=False, default=None, repr=False)
    _heard: str = attrs.field(init=False, default="", repr=False)  # the last id on iopub
    _silent_since: float = attrs.field(init=False, factory=time.monotonic, repr=False)

    def __attrs_post_init__(self) -> None:
        import_jupyter_client()
        from jupyter_client.session import Session

        self._wire = Session(key=self.connection.key.encode(), username="ductaflow")

    # --- opening and closing ------------------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Connect, and wait until the kernel answers and its outputs reach us.

        Args:
            timeout: Seconds for which it may do nothing.

        Raises:
            KernelStartError: It did not answer, or died.
        """
        for channel, kind in (("shell", zmq.DEALER), ("control", zmq.DEALER), ("iopub", zmq.SUB)):
            socket = zmq_context().socket(kind)
            socket.linger = 0
            socket.rcvhwm = 0  # outputs wait in memory rather than get lost
            socket.reconnect_ivl = 10
            if channel == "iopub":
                socket.subscribe(b"")
            else:
                socket.identity = self._wire.bsession
            socket.connect(self.connection.address(channel))
            self._sockets[channel] = socket
            self._poller.register(socket, zmq.POLLIN)
        if self.process.sentinel is not None:
            self._poller.register(self.process.sentinel, zmq.POLLIN)
        patience = Patience(self.process.pid, timeout)
        self._shake_hands(patience)
        if self.spec.managed:
            self._rehearse(patience)
            self._open_pipes()

    def _open_pipes(self) -> None:
        """Have what the kernel says last outlive it, and what it writes below Python, too.

        It reads these pipes itself.
        """
        self._words = LastWords(self.connection.folder, tuple(PIPES.values()))
        if hasattr(os, "mkfifo"):
            for name, file in PIPES.items():
                with contextlib.suppress(OSError):  # an older ipykernel has pipes without names
                    path = self.connection.folder / file
                    self._pipes[name] = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def _shake_hands(self, patience: Patience) -> None:
        # A SUB socket hears only what is published after its subscription has arrived. Recent
        # ipykernels greet a subscriber (`iopub_welcome`); others are asked until something comes.
        heard = False
        ask_at = time.monotonic() + ASK_AGAIN if self.info else 0.0
        while not (self.info and heard):
            if not patience.left():
                raise KernelStartError(f"{self} did not answer")
            now = time.monotonic()
            if now >= ask_at:
                self.request("kernel_info_request", {})
                ask_at = now + ASK_AGAIN
            try:
                messages = self.poll(ask_at - now)
            except KernelDied as e:
                raise KernelStartError(str(e)) from e
            for message in messages:
                heard = heard or message.channel == "iopub"
                self.greets = self.greets or message.type == "iopub_welcome"
                if message.type == "kernel_info_reply":
                    self.info = message.content

    def _rehearse(self, patience: Patience) -> None:
        """Let the kernel run a cell of nothing, unseen: the first takes twice as long."""
        asked = self.execute("pass", silent=True)
        waiting = {"execute_reply", "idle"}
        while waiting:
            seconds = patience.left()
            if not seconds:
                raise KernelStartError(f"{self} does not run code")
            try:
                messages = self.poll(seconds)
            except KernelDied as e:
                raise KernelStartError(str(e)) from e
            for message in messages:
                if message.parent == asked:
                    if message.content.get("status") == "error":
                        raise UnmanagedKernel(f"{self} runs no code: {message.content}")
                    waiting -= {message.type, message.content.get("execution_state")}

    def kill(self) -> None:
        """End the kernel at once, without waiting; `close` is still to come."""
        self.process.signal(KILL)

    def close(self) -> None:
        """End the kernel at once, if it lives, and remove its sockets and files."""
        self.process.kill()
        for socket in self._sockets.values():
            socket.close(linger=0)
        self._sockets.clear()
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()
        if self._words is not None:
            self._words.close()
        self.process.close()
        self.connection.remove()

    # --- asking -------------------------------------------------------------------------------

    def execute(
        self,
        code: str,
        *,
        cell_id: str = "",
        stop_on_error: bool = True,
        silent: bool = False,
        kept: bool = True,
    ) -> str:
        """Send code to run; several may be sent ahead, and run in order.

        Args:
            code: The cell's source.
            cell_id: Its id, which the kernel may show in tracebacks.
            stop_on_error: Whether an error keeps later requests from running.
            silent: Run without counting or publishing it.
            kept: Whether its history has it, if it is not silent.

        Returns:
            The request's `msg_id`, which every answer names as its parent.
        """
        content = {
            "code": code,
            "silent": silent,
            "store_history": kept and not silent,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": stop_on_error,
        }
        return self.request("execute_request", content, metadata={"cellId": cell_id})

    def request(
        self,
        kind: str,
        content: Mapping[str, Any],
        *,
        channel: str = "shell",
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[bytes] = (),
    ) -> str:
        """Send any request; see `execute` for what it returns."""
        message = self._wire.msg(kind, dict(content), metadata=dict(metadata or {}))
        frames = self._wire.serialize(message)
        self._sockets[channel].send_multipart([*frames, *buffers])
        return str(message["header"]["msg_id"])

    def adopt(self, cwd: Path, env: Mapping[str, str], observe: Path | None = None) -> str:
        """Give a managed kernel that was started ahead its folder and environment.

        Args:
            cwd: The folder.
            env: All of its environment.
            observe: The project root, if the kernel is to note what it uses.
        """
        given = {**env, OBSERVER_VARIABLE: self.observer} if self.observer else dict(env)
        content = {"cwd": str(cwd), "env": given, "observe": str(observe or "")}
        return self.request("adopt_request", content)

    def finish(self) -> str:
        """Ask a managed kernel to run its exit handlers and flush its files.

        If one of them may end the process, or a cell has failed, it first sends `last_words`, and
        waits for `heard`. While it waits for threads, it says for which: `ending`.
        """
        return self.request("finish_request", {})

    def heard(self) -> None:
        """Tell a kernel that its `last_words` and its status before them are here."""
        self.request("heard_request", {}, channel="control")

    def give_up(self) -> None:
        """Ask a kernel that ends to wait no longer for its flow's threads."""
        self.request("give_up_request", {}, channel="control")

    def interrupt(self) -> None:
        """Interrupt the running cell, and let no later one begin."""
        if self.spec.managed:
            self.request("abort_request", {}, channel="control")
        if self.spec.interrupt_mode == "message":
            self.request("interrupt_request", {}, channel="control")
        else:
            self.process.signal(signal.SIGINT)

    def uses(self) -> list[Use] | None:
        """The files that the kernel has used so far, of which no more is noted from now on.

        None if nobody observes it.
        """
        if not self.observer:
            return None
        return uses(self.observer, str(self.connection.folder))

    def last_request(self) -> str:
        """Which request a managed kernel was at when it ended; empty if it has not said so."""
        with contextlib.suppress(OSError):
            said = (self.connection.folder / LAST_REQUEST).read_bytes()
            return said.rstrip(b"\0").decode(errors="replace")
        return ""

    # --- listening ----------------------------------------------------------------------------

    def poll(self, timeout: float | None = None) -> list[Message]:
        """Wait for messages; all those that are there, oldest first, iopub before replies.

        Args:
            timeout: Seconds to wait for the first; None for as long as the kernel lives.

        Returns:
            The messages; none if the time is over.

        Raises:
            KernelDied: The process has ended, and all it had said was returned before.
        """
        if self._gone:
            raise self._gone
        deadline = time.monotonic() + (FOREVER if timeout is None else timeout)
        while True:
            self._mind_observer()
            wait = max(0.0, deadline - time.monotonic())
            if self.process.sentinel is None:
                wait = min(wait, PROCESS_POLL)
            ready = self._poller.poll(int(wait * 1000))
            messages = self._read(socket for socket, _ in ready) if ready else []
            if messages:
                self._silent_since = time.monotonic()
            if self._ended(ready):
                messages += self._last_words()
                self._gone = self._death()
                if not messages:
                    raise self._gone
            elif not ready:
                messages += self._relieve()
            if messages or (time.monotonic() >= deadline and timeout is not None):
                return messages

    def _mind_observer(self) -> None:
        """If the kernel has been silent for long: it may be waiting for its observer."""
        if self.observer and time.monotonic() - self._silent_since > SILENT_LONG:
            mind_observer(self.observer)
            self._silent_since = time.monotonic()

    def _ended(self, ready: list[tuple[Any, int]]) -> bool:
        sentinel = self.process.sentinel
        if sentinel is not None and not any(item == sentinel for item, _ in ready):
            return False
        return self.process.poll() is not None

    def _last_words(self) -> list[Message]:
        """What is still on its way from a kernel that has ended."""
        sockets = zmq.Poller()
        for socket in self._sockets.values():
            sockets.register(socket, zmq.POLLIN)
        messages: list[Message] = []
        end = time.monotonic() + LAST_WORDS
        while time.monotonic() < end and sockets.poll(int(LAST_WORDS / 4 * 1000)):
            messages += self._read(self._sockets.values())
        if self._words is not None:
            messages += [self._decode("iopub", m) for m in self._words.unheard(self._heard)]
        for name, pipe in self._pipes.items():
            taken = self._words.unpublished(PIPES[name]) if self._words else b""
            messages += _stream(name, taken + _drain(pipe))
        return messages

    def _relieve(self) -> list[Message]:
        """What is in a pipe that stays full: native code that writes to it may hold the GIL.

        A kernel of which a thread works, or waits for a processor, comes to it by itself, and what
        it has read already would come after this.
        """
        full = [name for name, pipe in self._pipes.items() if _waiting(pipe) > PIPE_FULL]
        before, self._stuck_at = self._stuck_at, None
        if full:
            ticks, works = read_work(self.process.pid, children=False) or (0, False)
            self._stuck_at = None if works else ticks
        if before is None or before != self._stuck_at:
            return []
        return [m for name in full for m in _stream(name, _drain(self._pipes[name], STUCK_FOR))]

    def _death(self) -> KernelDied:
        code = self.process.poll()
        peak = self.process.peak_memory()
        return KernelDied(f"{self} {describe_exit(code)}", code, peak)

    def _read(self, ready: Iterable[Any]) -> list[Message]:
        """What has come on these sockets, and before it what has come on iopub meanwhile."""
        there = set(ready)
        return [
            message
            for channel in ("iopub", "shell", "control")
            if channel == "iopub" or self._sockets[channel] in there
            for message in self._read_channel(channel)
        ]

    def _read_channel(self, channel: str) -> list[Message]:
        messages: list[Message] = []
        socket = self._sockets[channel]
        while True:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return messages
            messages.append(self._decode(channel, frames))

    def _decode(self, channel: str, frames: list[bytes]) -> Message:
        """Check and read one message.

        As `jupyter_client.session.Session.deserialize`, without the parsing of every date, which
        takes most of its time.

        Raises:
            KernelDied: The signature is wrong, so it is not our kernel that speaks.
        """
        start = frames.index(DELIM)
        signature, *parts = frames[start + 1 :]
        if not hmac.compare_digest(signature, self._wire.sign(parts[:4])):
            raise KernelDied(f"{self} sent a message with a wrong signature")
        if parts[1] != self._parent[0]:  # the answers to a request come together
            self._parent = parts[1], json.loads(parts[1]).get("msg_id", "")
        header = json.loads(parts[0])
        if channel == "iopub":
            self._heard = header["msg_id"]
        return Message(
            channel=channel,
            type=header["msg_type"],
            parent=self._parent[1],
            date=str(header.get("date", "")).replace("Z", "+00:00"),
            content=json.loads(parts[3]),
            metadata=json.loads(parts[2]),
            buffers=parts[4:],
        )

    def __str__(self) -> str:
        name = self.spec.name or self.spec.display_name
        return f"kernel {name!r} (pid {self.process.pid})"


def _stream(name: str, data: bytes) -> list[Message]:
    """The message in which a kernel would have told of it."""
    content = {"name": name, "text": data.decode(errors="replace")}
    return [Message("iopub", "stream", LEFT, "", content)] if data else []


def _waiting(pipe: int) -> int:
    """How many bytes are in a pipe."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _drain(pipe: int, wait: int = 0) -> bytes:
    """What is in a pipe, up to some megabytes, and what comes within so many milliseconds."""
    pieces: list[bytes] = []
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    while len(pieces) < PIECES and poller.poll(wait):
        try:
            piece = os.read(pipe, PIECE)
        except BlockingIOError:  # the kernel has been faster
            break
        if not piece:  # it is gone
            break
        pieces.append(piece)
    return b"".join(pieces)
