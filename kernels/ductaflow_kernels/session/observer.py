"""The observer of this process's kernels, which notes the files that they use.

One process serves all kernels; see `ductaflow_inside.observing.observer`. A conductor that itself
runs in an observed kernel uses the observer of that kernel.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow_kernels.interpreters import START
from ductaflow_kernels.processes.connection import home
from ductaflow_kernels.processes.machine import has_proc
from ductaflow_kernels.processes.process import Patience, hold_lifeline

VARIABLE = "DUCTAFLOW_OBSERVER"
"""Environment variable with the address of the observer, in kernels that have one.

Set to `off` it keeps kernels from being observed from without: a process that is may not become
root by `sudo` unless it is root already.
"""

OFF = "off"

CONNECTED = "connect:"
"""Before an address: what `Use.path` is of a host that was connected to."""

ANSWER_TIMEOUT = 60.0  # seconds; a run may have used a hundred thousand files
HANGS_AFTER = 10.0  # seconds in which it neither answers nor does anything
_PIECE = 1 << 16


@attrs.frozen
class Use:
    """What was made of a path by a kernel or a process that it started.

    Attributes:
        path: Absolute, links kept, without `..`; or `CONNECTED` and a host's address.
        read: Whether it was opened for reading, or run.
        written: Whether it was opened for writing, or made by a rename or link.
        updated: Whether it was opened for both at once, as databases are.
        listed: Whether it is a folder that was opened.
        gone: Whether it was removed or moved to elsewhere.
        fresh: Whether its first use left nothing of what was there, if anything was.
        arrived: Whether it was moved here, and not made by the kernel.
        tied: Whether it has got another name, which changes its change time.
        size: Bytes before its first use; -1 if it was not there.
        mtime_ns: When it was last changed before that.
        inode: Its number in its file system.
        ctime_ns: When anything about it was last changed before that, which nobody can set.
        link: Where it led, if it is a link that was followed; its path is without links.
        named: Whether it was itself made, moved or removed, rather than the file it leads to.
    """

    path: str
    read: bool
    written: bool
    updated: bool
    listed: bool
    gone: bool
    fresh: bool
    arrived: bool
    tied: bool
    size: int
    mtime_ns: int
    inode: int = 0
    ctime_ns: int = 0
    link: str = ""
    named: bool = False

    @classmethod
    def of(cls, noted: Sequence[Any]) -> Use:
        """From what an observer or a kernel has noted: path, bits, state before, and any link."""
        path, bits, *state = noted
        facts: list[Any] = [path, *(bool(bits & bit) for bit in _BITS), *state[:4]]
        use = cls(*facts)
        link, named = "".join(state[4:]), bool(bits & _NAMED)
        return attrs.evolve(use, link=link, named=named) if link or named else use


_BITS = (1, 2, 8, 4, 16, 32, 64, 128)  # in the order of the attributes
_NAMED = 1024


def observer_address() -> str:
    """The socket of the observer for this process's kernels, which is started if need be.

    Returns:
        Its path; empty where nothing can be observed from without.
    """
    given = os.environ.get(VARIABLE)
    if given == OFF or not sys.platform.startswith("linux") or not has_proc():
        return ""
    if given and _answers(given):
        return given
    global _own
    with _lock:
        if _own is not None and (_own.pid != os.getpid() or _own.popen.poll() is not None):
            if _own.pid == os.getpid():
                _own.close()
            _own = None
        if _own is None:
            _own = _start()
        _own.go_on()
        return _own.address


def mind_observer(address: str) -> None:
    """See to it that the observer answers, or is no more.

    Kernels wait for it whenever they open a file, so one that hangs would hang them all. One that
    somebody has stopped goes on; one that does not answer is killed, and the next kernel gets
    another. That of another conductor is left to it.

    Args:
        address: The observer's socket.
    """
    own = _own_at(address)
    if own is not None and own.popen.poll() is None:
        _asked(address, {"do": "seen", "token": "", "path": ""}, own)


def _own_at(address: str) -> _Observer | None:
    """This process's own observer, if it has this address."""
    with _lock:
        own = _own
    return own if own is not None and (own.pid, own.address) == (os.getpid(), address) else None


def _asked(address: str, request: dict[str, str], own: _Observer | None) -> bytes | None:
    """What an observer answers; None if it does not, and then one of our own is killed.

    It may take as long as it works.
    """
    patience = None
    if own is not None:
        own.go_on()
        patience = Patience(own.popen.pid, HANGS_AFTER)
    try:
        return _answer(address, request, patience)
    except OSError:
        if own is not None:
            own.popen.kill()
        return None


def _answer(address: str, request: dict[str, str], patience: Patience | None) -> bytes:
    said = b""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(HANGS_AFTER)
        channel.connect(address)
        channel.sendall(json.dumps(request).encode() + b"\n")
        while not said.endswith(b"\n"):
            piece = _receive(channel, patience)
            if not piece:
                raise ConnectionError("it has hung up")
            said += piece
    return said


def _receive(channel: socket.socket, patience: Patience | None) -> bytes:
    if patience is None:
        channel.settimeout(ANSWER_TIMEOUT)
        return channel.recv(_PIECE)
    while seconds := patience.left():
        channel.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            return channel.recv(_PIECE)
    raise TimeoutError("it hangs")


def uses(address: str, token: str) -> list[Use] | None:
    """What a kernel has used; nothing is noted of it any more.

    Args:
        address: The observer's socket.
        token: The name of the kernel's private folder.

    Returns:
        One for each path, in order of first use; None if the observer knows nothing of it.
    """
    said = _asked(address, {"do": "take", "token": token}, _own_at(address))
    noted = None if said is None else json.loads(said)
    return None if noted is None else [Use.of(item) for item in noted]


def close_observer() -> None:
    """End this process's own observer; its kernels have ended."""
    global _own
    with _lock:
        if _own is not None and _own.pid == os.getpid():
            _own.close()
        _own = None


@final
@attrs.frozen
class _Observer:
    pid: int  # of the process that started it
    popen: subprocess.Popen[bytes]
    address: str

    def go_on(self) -> None:
        """Let it go on if it has been stopped: by a debugger, or a shell's job control."""
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{self.popen.pid}/stat").read_bytes()
            if stat.rpartition(b")")[2].split()[0] in (b"T", b"t"):
                self.popen.send_signal(signal.SIGCONT)

    def close(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        self.popen.kill()
        self.popen.wait()
        with contextlib.suppress(OSError):
            Path(self.address).unlink()


_own: _Observer | None = None
_lock = threading.Lock()
_numbers = itertools.count()


def _start() -> _Observer:
    # Each has an address of its own: a kernel of one that was killed is of no use to the next.
    address = str(home() / f"o{next(_numbers)}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(128)  # kernels may come before it is up
        popen = subprocess.Popen(
            [sys.executable, "-S", "-E", str(START), "observer", str(server.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=[server.fileno()],
            start_new_session=True,
        )
    hold_lifeline(popen)
    return _Observer(os.getpid(), popen, address)


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as channel:
        channel.connect(address)
        return True
    return False


def _forget() -> None:
    """In a forked child: the observer is its parent's."""
    global _own, _lock
    _own, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

atexit.register(close_observer)
