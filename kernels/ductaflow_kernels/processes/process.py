"""A kernel's process: its end, its signals, its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Collection, Iterator
from typing import IO, NamedTuple, Protocol, final

import attrs

_lifelines: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()


def hold_lifeline(popen: subprocess.Popen[bytes]) -> None:
    """See to it that no child that this process forks holds a process's lifeline, its stdin, too.

    It would keep the kernels alive after us. A child that execs has none of our descriptors anyway.

    Args:
        popen: The process, started with an unbuffered pipe.
    """
    assert popen.stdin is not None
    _lifelines.add(popen.stdin)


def _drop_lifelines() -> None:
    for pipe in list(_lifelines):
        pipe.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_lifelines)

UNKNOWN_EXIT = 255  # of a process whose exit code went to somebody else


class KernelProcess(Protocol):
    """A process that runs one kernel, in a process group of its own.

    Attributes:
        pid: Its process id, which is its group's too.
    """

    pid: int

    @property
    def sentinel(self) -> int | None:
        """A file descriptor that becomes readable when the process ends, where there is one."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal's number; None while it lives."""

    def signal(self, signum: int) -> None:
        """Send a signal to its whole group; nothing happens if it has ended."""

    def kill(self) -> None:
        """End it and its group at once, and take its exit code."""

    def peak_memory(self) -> int | None:
        """Its peak resident memory in bytes as last known, or None."""

    def close(self) -> None:
        """Give up the sentinel and the pipes; the process has ended."""


@final
@attrs.define(eq=False)
class SpawnedProcess:
    """A kernel's process that is a direct child of this one."""

    popen: subprocess.Popen[bytes]
    pid: int = attrs.field(init=False)
    sentinel: int | None = attrs.field(init=False, default=None)
    _peak: int | None = None

    def __attrs_post_init__(self) -> None:
        self.pid = self.popen.pid
        self.sentinel = open_pidfd(self.pid)
        hold_lifeline(self.popen)

    def poll(self) -> int | None:
        if self.popen.returncode is None and hasattr(os, "wait4"):
            self._reap(os.WNOHANG)
        return self.popen.poll()

    def signal(self, signum: int) -> None:
        if self.poll() is None:
            signal_group(self.pid, signum)

    def kill(self) -> None:
        if self.poll() is None:
            self.peak_memory()
        signal_group(self.pid, KILL)
        if sys.platform == "win32":
            self.popen.kill()
        if self.popen.returncode is None and hasattr(os, "wait4"):
            self._reap(0)
        self.popen.wait()

    def _reap(self, flags: int) -> None:
        """Take the exit code, and with it the peak memory, which nobody can ask for later."""
        with self.popen._waitpid_lock:  # type: ignore[attr-defined]
            if self.popen.returncode is not None:
                return
            try:
                pid, status, usage = os.wait4(self.pid, flags)
            except ChildProcessError:  # somebody else's wait took it
                self.popen.returncode = UNKNOWN_EXIT
                return
            if pid:
                self.popen.returncode = os.waitstatus_to_exitcode(status)
                self._peak = max(self._peak or 0, _own_peak(usage.ru_maxrss)) or None

    def peak_memory(self) -> int | None:
        if self.popen.returncode is None:
            self._peak = max(self._peak or 0, read_peak_memory(self.pid) or 0) or None
        return self._peak

    def close(self) -> None:
        if self.sentinel is not None:
            os.close(self.sentinel)
            self.sentinel = None
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()


def _own_peak(ru_maxrss: int) -> int:
    """A dead child's peak in bytes; 0 where it cannot be told from ours.

    On Linux a child begins with its parent's peak and keeps it through exec (see getrusage(2)).
    """
    import resource

    if ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        return 0
    return ru_maxrss if sys.platform == "darwin" else ru_maxrss * 1024


KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def signal_group(pid: int, signum: int) -> None:
    """Signal the group that `pid` leads; a group that is gone is no error."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(pid, signum)
        else:
            os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return


def open_pidfd(pid: int) -> int | None:
    """A descriptor that is readable once `pid` has ended (Linux 5.3), or None."""
    if hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(pid)
        except OSError:
            return None
    return None


def read_peak_memory(pid: int) -> int | None:
    """Peak resident memory of a live process in bytes, or None (proc(5), VmHWM)."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


BUSY_FACTOR = 4
"""How many times the seconds for which it may be idle a process may keep a processor busy."""

LOOKS = 4  # at a process, in the time for which it may be idle


@final
class Patience:
    """Tells a process that works, however slowly, from one that hangs.

    A starved machine makes everything late, so the clock alone says nothing. A process hangs if it
    has done nothing for a while and does not even wait for a processor, or if it has used one for
    very long. Where the system does not say what a process does, the clock has to do.

    Args:
        pid: The process; its descendants count too.
        idle: Seconds for which it may do nothing.
    """

    def __init__(self, pid: int, idle: float) -> None:
        self._pid = pid
        self._idle = idle
        self._began: Progress | None = None
        self._last: Progress | None = None
        now = time.monotonic()
        self._until, self._look = now + idle, now + idle / LOOKS

    def left(self) -> float:
        """Seconds after which to ask again; 0 if it hangs."""
        now = time.monotonic()
        if now < self._look:  # nearly all are done before anybody has to look
            return self._look - now
        self._look = now + self._idle / LOOKS
        progress = read_progress(self._pid)
        if progress is not None:
            self._began = self._began or progress
            if progress.runnable or progress != self._last:
                self._last, self._until = progress, now + self._idle
            if progress.seconds - self._began.seconds > self._idle * BUSY_FACTOR:
                return 0.0
        return max(0.0, min(self._until, self._look) - now)


class Progress(NamedTuple):
    """What a process and its descendants have used so far.

    Attributes:
        seconds: Of processor time.
        moved: Bytes that they have read and written.
        runnable: Whether one of them runs, or waits for nothing but a processor.
    """

    seconds: float
    moved: int
    runnable: bool


def read_progress(pid: int) -> Progress | None:
    """What a live process has used; None where the system does not say (proc(5): stat, io)."""
    processes = (pid, *_descendants(pid))
    read = list(filter(None, (_read_stat(f"/proc/{each}/stat") for each in processes)))
    if not read:
        return None
    return Progress(
        sum(ticks for ticks, _ in read) / _TICKS,
        sum(map(_read_moved, processes)),
        any(state == "R" for _, state in read),
    )


def _read_moved(pid: int) -> int:
    """The bytes that a process has read and written."""
    try:
        with open(f"/proc/{pid}/io", "rb") as io:
            return sum(int(line.split()[1]) for line in io if line[:5] in (b"rchar", b"wchar"))
    except (OSError, IndexError, ValueError):
        return 0


_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def read_work(
    pid: int, threads: Collection[int] | None = None, *, children: bool = True
) -> tuple[int, bool] | None:
    """What threads of a process, and all processes that it has started, have done (proc(5)).

    Args:
        pid: The process.
        threads: Ids of the threads that matter; None for all.
        children: Whether those processes matter.

    Returns:
        The CPU time that they have used, in clock ticks, and whether one of them is at work now: it
        runs, waits for a CPU or for a disk. None where that cannot be known.
    """
    own = _entries(f"/proc/{pid}/task") if threads is None else threads
    stats = [f"/proc/{pid}/task/{thread}/stat" for thread in own]
    for child in _descendants(pid) if children else ():
        stats += [f"/proc/{child}/task/{task}/stat" for task in _entries(f"/proc/{child}/task")]
    read = list(filter(None, map(_read_stat, stats)))
    if not read:
        return None
    return sum(ticks for ticks, _ in read), any(state in "RD" for _, state in read)


def _descendants(pid: int) -> Iterator[int]:
    for task in _entries(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                found = children.read().split()
        except OSError:  # it is gone, or this Linux does not tell
            continue
        for child in found:
            yield int(child)
            yield from _descendants(int(child))


def _entries(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []


def _read_stat(file: str) -> tuple[int, str] | None:
    """The CPU time, in ticks, and the state of a thread or process."""
    try:
        with open(file, encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12]), fields[0]
    except (OSError, IndexError, ValueError):
        return None


def describe_exit(code: int | None) -> str:
    """An exit code in words, as `killed by SIGKILL; often out of memory`."""
    if code is None:
        return "ended with an unknown exit code"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    often = {"SIGKILL": "; often out of memory", "SIGSEGV": "; a crash in native code"}
    return f"killed by {name}{often.get(name, '')}"
