"""Where a kernel and its conductor meet: private sockets and a key, one folder a kernel."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import attrs

from ductaflow_kernels.errors import KernelStartError

CHANNELS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
PREFIX = "dfk-"
MAX_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux

_lock = threading.Lock()
_numbers = itertools.count()
_home: _Home | None = None


@attrs.frozen
class Connection:
    """One kernel's addresses and key.

    Attributes:
        folder: A folder of mode 0700 for its sockets, connection file and IPython profile.
        key: The HMAC key that signs every message.
        transport: `ipc`; `tcp` where there are no local sockets.
        ports: Channel name → number: a TCP port, or the socket file's suffix.
    """

    folder: Path
    key: str = attrs.field(repr=False)
    transport: str
    ports: dict[str, int] = attrs.field(hash=False)

    @property
    def ip(self) -> str:
        """The `ip` of the connection file: for `ipc` the socket files' common prefix."""
        return str(self.folder / "s") if self.transport == "ipc" else "127.0.0.1"

    @property
    def file(self) -> Path:
        """The connection file."""
        return self.folder / "kernel.json"

    def address(self, channel: str) -> str:
        """The ZeroMQ address of a channel."""
        separator = "-" if self.transport == "ipc" else ":"
        return f"{self.transport}://{self.ip}{separator}{self.ports[channel]}"

    def info(self) -> dict[str, object]:
        """The connection file's content.

        Source: https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files
        """
        return {
            "transport": self.transport,
            "ip": self.ip,
            "key": self.key,
            "signature_scheme": "hmac-sha256",
            **{f"{channel}_port": port for channel, port in self.ports.items()},
        }

    def write(self) -> None:
        """Write the connection file, for the owner's eyes only."""
        fd = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(self.info(), file)

    def remove(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def new_connection() -> Connection:
    """A fresh folder, key and addresses for one kernel.

    Raises:
        KernelStartError: There is no room for them.
    """
    try:
        folder = home() / format(next(_numbers), "x")
        folder.mkdir(mode=0o700)
    except OSError as e:
        raise KernelStartError(f"cannot make a private folder for a kernel: {e}") from e
    if sys.platform == "win32":
        return Connection(folder, secrets.token_hex(32), "tcp", _free_ports())
    return Connection(folder, secrets.token_hex(32), "ipc", dict(CHANNELS))


@attrs.frozen
class _Home:
    pid: int
    path: Path
    lock: int  # an open, locked file: the kernel drops the lock when this process ends


def home() -> Path:
    """This process's private folder for sockets; a forked child gets its own."""
    global _home
    with _lock:
        # Whoever cleans temporary folders may have taken it.
        if _home is None or _home.pid != os.getpid() or not (_home.path / "alive").exists():
            base = _base()
            _sweep(base)
            _home = _new_home(base)
        return _home.path


def _new_home(base: Path) -> _Home:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        alive = path / "alive"
        try:
            fd = os.open(alive, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:
            continue
        # Between these lines another conductor may have taken it for one that was left behind.
        if _try_lock(fd) and alive.exists():
            return _Home(os.getpid(), path, fd)
        os.close(fd)


def remove_home() -> None:
    """Remove the private folder, once no kernel is left that uses it."""
    global _home
    with _lock:
        if _home is not None and _home.pid == os.getpid():
            os.close(_home.lock)
            shutil.rmtree(_home.path, ignore_errors=True)
            _home = None


def _forget_home() -> None:
    """In a forked child: the folder is its parent's, and so must be the lock."""
    global _home, _lock
    _lock = threading.Lock()
    if _home is not None:
        os.close(_home.lock)
        _home = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_home)


# Registered before any pool's exit handler can be, so it runs after the kernels are ended.
atexit.register(remove_home)


def _base() -> Path:
    """The shortest usable folder for temporary files: a socket's path must stay short."""
    for candidate in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108  (mkdtemp is private)
        longest = candidate / f"{PREFIX}12345678" / "ffffff" / "s-5"
        if len(os.fsencode(longest)) <= MAX_SOCKET_PATH and os.access(candidate, os.W_OK):
            return candidate
    return Path(tempfile.gettempdir())


def _sweep(base: Path) -> None:
    """Remove what conductors that were killed have left behind: nobody holds their lock."""
    if sys.platform == "win32":
        return
    for left in base.glob(f"{PREFIX}*"):
        try:
            if left.is_symlink() or left.stat().st_uid != os.getuid():
                continue
            fd = os.open(left / "alive", os.O_RDWR)
        except OSError:  # being made or removed by its owner right now
            continue
        try:
            if _try_lock(fd):
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(fd)


def _try_lock(fd: int) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _free_ports() -> dict[str, int]:
    import socket

    sockets = {channel: socket.socket() for channel in CHANNELS}
    try:
        for held in sockets.values():
            held.bind(("127.0.0.1", 0))
        return {channel: held.getsockname()[1] for channel, held in sockets.items()}
    finally:
        for held in sockets.values():
            held.close()
