"""The pipe that ends a process when its conductor is gone, however it went: its standard input."""

from __future__ import annotations

import os
import signal
import threading


def arm_lifeline(fd: int) -> None:
    """Kill this process group as soon as the pipe behind `fd` loses its last writer.

    On Linux the kernel itself sends SIGKILL (fcntl(2): F_SETSIG, F_SETOWN, O_ASYNC), so it works
    while the GIL is held in native code. Elsewhere, and on a Linux without `/proc`, a thread waits
    for the end of file.
    """
    if not os.path.isdir("/proc/self/fd"):
        threading.Thread(target=_wait_for_eof, args=(fd,), name="lifeline", daemon=True).start()
        return
    import fcntl

    # O_ASYNC and its owner belong to the open file description, which a fork shares: take our own.
    own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
    os.set_inheritable(own, True)  # survives the exec of a foreign kernel
    if _at_eof(own):  # the conductor went before we were armed
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _at_eof(fd: int) -> bool:
    try:
        return os.read(fd, 1) == b""
    except BlockingIOError:
        return False


def _wait_for_eof(fd: int) -> None:
    while os.read(fd, 4096):
        pass
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def take_standard_pipes() -> tuple[int, int]:
    """Move the lifeline and the ready pipe off fds 0 and 1, which the flow may use.

    Returns:
        The file descriptors of the lifeline and of the ready pipe.
    """
    lifeline, ready = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return lifeline, ready
