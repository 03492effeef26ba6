"""The observer: a process that notes which files the kernels of a conductor open, write and run.

Kernels hand it the listener of their filter (`syscalls`). It answers every call with "go
on" and notes path and purpose, so it must never wait for anything else. A file's size, times and
inode are taken before its first use, for it may be changed by it.

Requests come over a Unix socket, one JSON line a connection:

    {"do": "watch", "token": …, "pid": …, "ignore": [prefix, …]}  with the listener beside it
    {"do": "share", "token": …, "pid": …, "ignore": […]}  of a kernel within a watched one
    {"do": "seen", "token": …, "path": …}  answer: whether it has used that
    {"do": "take", "token": …}   answer: what was noted, or null:
                                 [[path, bits, size, mtime_ns, inode, ctime_ns], …]; the links
                                 that were followed first, [[path, 512, -1, 0, 0, 0, target], …]

Paths are noted as they were given, but without `.` and `..`; links on the way are kept in them and
noted beside them (`links`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct

from ductaflow_inside.lifeline import arm_lifeline, take_standard_pipes
from ductaflow_inside.observing.links import Links
from ductaflow_inside.observing.network import MARK, remote
from ductaflow_inside.observing.syscalls import (
    AT_FDCWD,
    CONNECT,
    CUT,
    FOLDER,
    LINKED,
    MADE,
    MOVED,
    OPEN_HOW,
    REMOVED,
    SYMLINKED,
    WALKED,
    Call,
    calls,
)

READ, WRITE, LIST, UPDATE = 1, 2, 4, 8  # UPDATE: opened for both; what came of it, time tells
GONE = 16  # removed, or moved to elsewhere
FRESH = 32  # its first use left nothing of what was there, if anything was
ARRIVED = 64  # moved here, and not made by the kernel
TIED = 128  # it has got another name, which changes its change time
MAKE = 256  # a folder
LINK = 512  # a link that was followed
NAMED = 1024  # the name itself was made, moved or removed: the last link was not followed

MAX_REQUEST = 1 << 16
MAX_MEMORIES = 64
ANSWER_WITHIN = 60.0  # seconds for a caller to take a long answer
MAX_ANCESTORS = 32

# See seccomp_unotify(2).
_RECEIVE, _ANSWER, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = 1
_NOTICE = struct.Struct("=QII iIQ 6Q")
_REPLY = struct.Struct("=QqiI")

_BITS = {
    MADE: WRITE | FRESH,
    LINKED: WRITE | FRESH | NAMED,
    SYMLINKED: WRITE | FRESH | NAMED,
    REMOVED: GONE | NAMED,
    CUT: UPDATE,
    FOLDER: MAKE,
    WALKED: 0,
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_NAMELESS = 0o20000000  # O_TMPFILE, without O_DIRECTORY, which it has in it
_PAGE = 4096
_SOCKET_ADDRESS = 28  # bytes of the longest that has a host in it: sockaddr_in6


class Watch:
    """What is noted of one kernel and all that it starts."""

    def __init__(self, token: str, pid: int, ignore: list[str], listener: int | None) -> None:
        self.token = token
        self.pid = pid
        self.ignore = tuple(ignore)
        self.listener = listener
        self.noted: dict[str, list[int]] | None = {}
        self.links = Links()

    def note(self, path: str, bits: int) -> None:
        """Note a use of a path, and the links on its way."""
        plain = "/." not in path and "//" not in path
        if self.noted is None or (plain and path.startswith(self.ignore)):
            return
        known = self.noted.get(path) if plain else None
        if known is None or self.links.again or (bits | known[0]) & NAMED:
            path = self.links.walk(path, last=not bits & NAMED)
        if not bits or path.startswith(self.ignore):
            return
        known = self.noted.get(path)
        if known is not None:
            known[0] |= bits & ~FRESH
            return
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            self.noted[path] = [bits | FRESH, -1, 0, 0, 0]
            return
        self.noted[path] = [
            bits, found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns
        ]  # fmt: skip

    def move(self, source: str, path: str) -> None:
        """Note that a path is about to get another name, and with it what lies below."""
        source, path = self.links.walk(source, last=False), self.links.walk(path, last=False)
        noted = self.noted or {}
        below = f"{source}/"
        moved = [source]
        if os.path.isdir(source) and not os.path.islink(source):
            moved += [other for other in noted if other.startswith(below)]
        for old in moved:
            made = old in noted and noted[old][0] & FRESH
            self.note(old, READ | GONE | NAMED)
            self.note(path + old[len(source) :], WRITE | FRESH | NAMED | (0 if made else ARRIVED))


class Caller:
    """A connection, and what has come over it so far."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.said = b""
        self.fds: list[int] = []


class Observer:
    """All watches, and the loop that serves them."""

    def __init__(self, server: socket.socket) -> None:
        self.server = server
        self.known: dict[int, Call] = calls()
        self.watches: dict[str, Watch] = {}
        self.listeners: dict[int, Watch] = {}
        self.sessions: dict[int, Watch] = {}  # of kernels within a watched one, by session id
        self.callers: dict[int, Caller] = {}
        self.memories: dict[int, int] = {}
        self.poll = select.epoll()
        self.poll.register(server.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        """Answer calls and requests until the conductor is gone."""
        while True:
            for fd, events in self.poll.poll():
                if fd == self.server.fileno():
                    self.accept()
                elif fd in self.callers:
                    self.hear(fd)
                elif events & select.EPOLLIN:
                    self.answer(fd)
                else:
                    self.forget(fd)

    # --- requests ---------------------------------------------------------------------------------

    def accept(self) -> None:
        """Take a new connection; it is heard when it speaks, for nothing here may wait for it."""
        connection, _ = self.server.accept()
        connection.settimeout(ANSWER_WITHIN)
        self.callers[connection.fileno()] = Caller(connection)
        self.poll.register(connection.fileno(), select.EPOLLIN)

    def hear(self, fd: int) -> None:
        """Take what a caller says, and once it is all, do what it asks for."""
        caller = self.callers[fd]
        try:
            data, fds, _, _ = socket.recv_fds(caller.connection, MAX_REQUEST, 1)
            caller.said += data
            caller.fds += fds
            if data and not data.endswith(b"\n"):
                return
            if data:
                self.serve_one(caller)
        except (OSError, ValueError, KeyError):
            pass  # it has gone, or is none of ours
        del self.callers[fd]
        self.poll.unregister(fd)
        caller.connection.close()

    def serve_one(self, caller: Caller) -> None:
        """Do what a caller asks for, and answer."""
        request = json.loads(caller.said)
        does = request["do"]
        answer: object = None
        if does == "take":
            answer = self.take(request["token"])
        elif does == "seen":
            watch = self.watches.get(request["token"])
            answer = watch is not None and request["path"] in (watch.noted or ())
        else:
            self.watch(request, caller.fds[0] if caller.fds else None)
        caller.connection.sendall(json.dumps(answer).encode() + b"\n")

    def watch(self, request: dict[str, object], listener: int | None) -> None:
        """Begin to note what a kernel does."""
        token, pid = str(request["token"]), int(str(request["pid"]))
        ignore = request["ignore"]
        assert isinstance(ignore, list)
        watch = self.watches[token] = Watch(token, pid, ignore, listener)
        if listener is None:
            self.sessions[pid] = watch
            return
        with contextlib.suppress(OSError):  # before Linux 6.6
            fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
        self.listeners[listener] = watch
        self.poll.register(listener, select.EPOLLIN)

    def take(self, token: str) -> list[list[object]] | None:
        """What was noted of a kernel, of which no more is noted."""
        watch = self.watches.pop(token, None)
        if watch is None or watch.noted is None:
            return None
        noted, watch.noted = watch.noted, None
        if watch.listener is None:
            self.sessions.pop(watch.pid, None)
        links = [[path, LINK, -1, 0, 0, 0, target] for path, target in watch.links.found.items()]
        return [*links, *([path, *facts] for path, facts in noted.items())]

    def forget(self, listener: int) -> None:
        """A kernel and all that it started have ended; what was noted stays until it is taken."""
        self.poll.unregister(listener)
        os.close(listener)
        self.listeners.pop(listener).listener = -1

    # --- calls ------------------------------------------------------------------------------------

    def answer(self, listener: int) -> None:
        """Note one call, and let it go on."""
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, notice)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EINTR):  # it was interrupted, or its process killed
                return
            raise
        number, pid, _, call, _, _, *arguments = _NOTICE.unpack(notice)
        try:
            self.note(self.listeners[listener], pid, self.known[call], arguments)
        except (OSError, ValueError, KeyError, UnicodeError):
            pass  # its process is gone, or what it gave is no path: the call itself will tell
        finally:
            with contextlib.suppress(OSError):  # it was interrupted, or its process killed
                fcntl.ioctl(listener, _ANSWER, _REPLY.pack(number, 0, 0, _CONTINUE))

    def note(self, watch: Watch, pid: int, call: Call, arguments: list[int]) -> None:
        """Note what a call is about to do."""
        does, folder, path_at, flags_at = call
        if self.sessions:
            watch = self.nested(pid) or watch
        if watch.noted is None:
            return
        if does == CONNECT:
            size = min(arguments[2], _SOCKET_ADDRESS)
            host = remote(self.memory(pid, arguments[path_at], size))
            if host:
                watch.noted.setdefault(MARK + host, [0, -1, 0, 0, 0])
            return
        path = self.text(pid, arguments[path_at])
        if not path:
            return  # a descriptor itself
        if not path.startswith("/"):
            path = self.absolute(pid, None if folder is None else arguments[folder], path)
        if does in (MOVED, LINKED, SYMLINKED) and (does == SYMLINKED or watch.links.found):
            watch.links.forget()  # what is made or moved may be a link, or have one in it
        if does in (MOVED, LINKED):
            source = self.source(pid, call, arguments)
            if does == MOVED:
                watch.move(source, path)
                return
            watch.note(source, READ | TIED)
        bits = _BITS.get(does, READ)
        if flags_at is not None:
            flags = arguments[flags_at]
            if does == OPEN_HOW:
                (flags,) = struct.unpack("=Q", self.memory(pid, flags, 8))
            bits = purpose(flags)
        watch.note(path, bits)

    def source(self, pid: int, call: Call, arguments: list[int]) -> str:
        """The first path of a call that has two."""
        _, folder, _, _ = call
        path = self.text(pid, arguments[0 if folder is None else 1])
        if not path.startswith("/"):
            path = self.absolute(pid, None if folder is None else arguments[0], path)
        return path

    def nested(self, pid: int) -> Watch | None:
        """The watch of the kernel within a kernel that a process belongs to."""
        for _ in range(MAX_ANCESTORS):
            watch = self.sessions.get(os.getsid(pid))
            if watch is not None:
                return watch
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
            if pid <= 1:
                break
        return None

    def absolute(self, pid: int, folder: int | None, path: str) -> str:
        """A relative path with the folder that it begins in."""
        number = AT_FDCWD if folder is None else ctypes.c_int(folder & 0xFFFFFFFF).value
        base = os.readlink(f"/proc/{pid}/cwd" if number == AT_FDCWD else f"/proc/{pid}/fd/{number}")
        return f"{base}/{path}"

    def text(self, pid: int, address: int) -> str:
        """The path at an address of a process."""
        found = b""
        while True:
            piece = self.memory(pid, address, _PAGE - address % _PAGE)
            end = piece.find(b"\0")
            if end >= 0:
                return os.fsdecode(found + piece[:end])
            found += piece
            address += len(piece)
            if not piece or len(found) > _PAGE:
                raise ValueError("no path")

    def memory(self, pid: int, address: int, size: int) -> bytes:
        """Some of a process's memory."""
        fd = self.memories.get(pid)
        if fd is not None:
            with contextlib.suppress(OSError):
                data = os.pread(fd, size, address)
                if data:
                    return data
            os.close(self.memories.pop(pid))  # it has ended, or runs another program now
        if len(self.memories) >= MAX_MEMORIES:
            os.close(self.memories.pop(next(iter(self.memories))))
        fd = self.memories[pid] = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        return os.pread(fd, size, address)


def purpose(flags: int) -> int:
    """What a file is opened for, of its flags."""
    if flags & os.O_PATH or flags & _NAMELESS:
        return 0
    if flags & os.O_DIRECTORY:
        return LIST
    if not flags & _WRITES:
        return READ
    if flags & os.O_TRUNC:
        return WRITE | FRESH
    return WRITE if flags & os.O_WRONLY else UPDATE


def main(args: list[str]) -> None:
    """Entry point. Argument: FD, which is a listening Unix socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the conductor's
    lifeline, nothing = take_standard_pipes()
    os.close(nothing)
    arm_lifeline(lifeline)
    Observer(socket.socket(fileno=int(args[0]))).serve()
