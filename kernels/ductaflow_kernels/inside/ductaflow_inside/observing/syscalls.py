"""The system calls that open, name or run a file, and a filter that reports them as they are made.

Linux lets a process hand its own system calls to another for notice (seccomp(2), "user-space
notification", Linux 5.5). Native code and child processes are seen like any other, nothing is
compiled or preloaded, and what is not on the list costs nothing. The filter decides nothing: every
call goes on as it was.

Used on both sides: `observed` installs the filter in a kernel, `observer` reads
what it reports.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
import sys
from collections.abc import Callable

AT_FDCWD = -100

OPEN, OPEN_HOW, MADE, RUN = "open", "openat2", "made", "run"
MOVED, LINKED, SYMLINKED, REMOVED = "moved", "linked", "symlinked", "removed"
CUT, FOLDER, CONNECT = "cut", "folder", "connect"
WALKED = "walked"  # a path is gone along and no file opened: only the links on it count

# number → what it does; argument with the folder's descriptor or None, with the path, with flags.
# Calls with two paths have that of the source before these, in the same form.
Call = tuple[str, "int | None", int, "int | None"]

_X86_64: dict[int, Call] = {
    257: (OPEN, 0, 1, 2),  # openat
    2: (OPEN, None, 0, 1),  # open
    437: (OPEN_HOW, 0, 1, 2),
    59: (RUN, None, 0, None),  # execve
    322: (RUN, 0, 1, None),  # execveat
    85: (MADE, None, 0, None),  # creat
    82: (MOVED, None, 1, None),  # rename
    264: (MOVED, 2, 3, None),  # renameat
    316: (MOVED, 2, 3, None),  # renameat2
    86: (LINKED, None, 1, None),  # link
    265: (LINKED, 2, 3, None),  # linkat
    88: (SYMLINKED, None, 1, None),  # symlink
    266: (SYMLINKED, 1, 2, None),  # symlinkat
    87: (REMOVED, None, 0, None),  # unlink
    84: (REMOVED, None, 0, None),  # rmdir
    263: (REMOVED, 0, 1, None),  # unlinkat
    76: (CUT, None, 0, None),  # truncate
    83: (FOLDER, None, 0, None),  # mkdir
    258: (FOLDER, 0, 1, None),  # mkdirat
    80: (WALKED, None, 0, None),  # chdir
    89: (WALKED, None, 0, None),  # readlink
    267: (WALKED, 0, 1, None),  # readlinkat
    42: (CONNECT, None, 1, 2),  # connect: its address, and how long that is
}
_AARCH64: dict[int, Call] = {
    56: (OPEN, 0, 1, 2),
    437: (OPEN_HOW, 0, 1, 2),
    221: (RUN, None, 0, None),
    281: (RUN, 0, 1, None),
    38: (MOVED, 2, 3, None),
    276: (MOVED, 2, 3, None),
    37: (LINKED, 2, 3, None),
    36: (SYMLINKED, 1, 2, None),
    35: (REMOVED, 0, 1, None),
    45: (CUT, None, 0, None),
    34: (FOLDER, 0, 1, None),
    49: (WALKED, None, 0, None),
    78: (WALKED, 0, 1, None),
    203: (CONNECT, None, 1, 2),
}
# machine → the audit number of its architecture, its number of seccomp(2), its calls
_MACHINES = {
    "x86_64": (0xC000003E, 317, _X86_64),
    "aarch64": (0xC00000B7, 277, _AARCH64),
}


def calls() -> dict[int, Call]:
    """The calls that are reported on this machine; none where that is not possible."""
    if not sys.platform.startswith("linux"):
        return {}
    machine = _MACHINES.get(os.uname().machine)
    return machine[2] if machine is not None else {}


_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_SET_MODE_FILTER = 1
_NEW_LISTENER, _SPEC_ALLOW, _WAIT_KILLABLE = 1 << 3, 1 << 2, 1 << 5
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_PTRACER, _ANY = 0x59616D61, -1


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> int:
    """Have the calls of this thread, and of all that it starts from now on, reported.

    Returns:
        The listener's file descriptor, on which they are reported. Every reported call waits until
        it is answered there, and fails with ENOSYS once the listener is closed.

    Raises:
        OSError: It cannot be done here; EBUSY if somebody listens already.
    """
    if not calls():
        raise OSError(errno.ENOSYS, "no such filter on this system")
    program = _program()
    flags = _NEW_LISTENER | _SPEC_ALLOW | _WAIT_KILLABLE
    try:
        return _seccomp(flags, program)
    except OSError as e:
        if e.errno == errno.EACCES:  # not root: then nothing that it starts may become so
            _entry("prctl")(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        elif e.errno != errno.EINVAL:
            raise
    try:
        return _seccomp(flags, program)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
    return _seccomp(flags & ~_WAIT_KILLABLE, program)  # before Linux 5.19


def prepare() -> None:
    """Make ready what does not differ between processes: before a fork it costs once."""
    if calls():
        _program()
        _entry("prctl")
        _entry("syscall")


@functools.lru_cache(maxsize=1)
def _program() -> _Program:
    """The filter: those calls are reported, all others pass (bpf(4))."""
    audit, _, known = _MACHINES[os.uname().machine]
    steps = [
        (_LOAD, 0, 0, 4),  # the architecture of the call: another one has other numbers
        (_JUMP_IF_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),  # its number
    ]
    left = len(known)
    for number in known:
        steps.append((_JUMP_IF_EQUAL, left, 0, number))
        left -= 1
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = _Program(len(steps), ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p))
    program.code = code  # must live as long
    return program


def _seccomp(flags: int, program: _Program) -> int:
    _, number, _ = _MACHINES[os.uname().machine]
    listener: int = _entry("syscall")(number, _SET_MODE_FILTER, flags, ctypes.byref(program))
    if listener < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    os.set_inheritable(listener, False)
    return listener


def taken(error: OSError) -> bool:
    """Whether `install` failed because somebody listens to this process already."""
    return error.errno == errno.EBUSY


def be_traceable() -> None:
    """Let any process look into this one where only its ancestors may (Yama): the observer must."""
    _entry("prctl")(_PR_SET_PTRACER, _ANY, 0, 0, 0)


@functools.lru_cache(maxsize=2)
def _entry(name: str) -> Callable[..., int]:
    """A function of the C library, which sets errno."""
    found: Callable[..., int] = ctypes.CDLL(None, use_errno=True)[name]
    return found
