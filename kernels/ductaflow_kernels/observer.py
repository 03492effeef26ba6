"""The observer of this process's kernels, which notes the files that they use.

One process serves all kernels; see `inside/ductaflow_observer.py`. A conductor that itself runs in
an observed kernel uses the observer of that kernel.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import final

import attrs

from ductaflow_kernels.connection import home
from ductaflow_kernels.process import hold_lifeline

OBSERVER = Path(__file__).with_name("inside") / "ductaflow_observer.py"
VARIABLE = "DUCTAFLOW_OBSERVER"
"""Environment variable with the address of the observer, in kernels that have one.

Set to `off` it keeps kernels from being observed from without: a process that is may not become
root by `sudo` unless it is root already.
"""

OFF = "off"

CONNECTED = "connect:"
"""Before an address: what `Use.path` is of a host that was connected to."""

ANSWER_TIMEOUT = 60.0  # seconds; a run may have used a hundred thousand files


@attrs.frozen
class Use:
    """What was made of a path by a kernel or a process that it started.

    Attributes:
        path: Absolute, links kept; or `CONNECTED` and a host's address.
        read: Whether it was opened for reading, or run.
        written: Whether it was opened for writing, or made by a rename or link.
        updated: Whether it was opened for both at once, as databases are.
        listed: Whether it is a folder that was opened.
        size: Bytes before its first use; -1 if it was not there.
        mtime_ns: When it was last changed before that.
    """

    path: str
    read: bool
    written: bool
    updated: bool
    listed: bool
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, noted: tuple[str, int, int, int]) -> Use:
        """From what an observer or a kernel has noted: path, bits, size, time."""
        path, bits, size, mtime_ns = noted
        read, written, listed, updated = (bool(bits & bit) for bit in (1, 2, 4, 8))
        return cls(path, read, written, updated, listed, size, mtime_ns)


def observer_address() -> str:
    """The socket of the observer for this process's kernels, which is started if need be.

    Returns:
        Its path; empty where nothing can be observed from without.
    """
    given = os.environ.get(VARIABLE)
    if given == OFF or not sys.platform.startswith("linux"):
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
        return _own.address


def uses(address: str, token: str) -> list[Use] | None:
    """What a kernel has used; nothing is noted of it any more.

    Args:
        address: The observer's socket.
        token: The name of the kernel's private folder.

    Returns:
        One for each path, in order of first use; None if the observer knows nothing of it.
    """
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(ANSWER_TIMEOUT)
        channel.connect(address)
        channel.sendall(json.dumps({"do": "take", "token": token}).encode() + b"\n")
        with channel.makefile("rb") as answer:
            noted = json.loads(answer.readline())
        return None if noted is None else [Use.of(tuple(item)) for item in noted]
    return None


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
            [sys.executable, "-S", "-E", str(OBSERVER), str(server.fileno())],
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
