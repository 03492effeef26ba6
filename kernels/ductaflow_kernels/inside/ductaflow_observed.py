"""What a kernel notes of its own run, beside what an observer sees of it from without.

`attach` has the files that it and its children open reported to `ductaflow_observer`. Where that is
not possible, an audit hook notes at least what Python opens. Either way Python alone knows which
folders a flow lists, which paths it looks for, which variables it reads, and which modules it has
imported.
"""

from __future__ import annotations

import array  # noqa: F401  (send_fds imports it, when no file can be opened yet)
import contextlib
import functools
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.machinery import FileFinder
from typing import Any

import ductaflow_syscalls as syscalls  # beside this file
from ductaflow_packages import installed, package_folders

READ, WRITE, UPDATE = 1, 2, 8  # as the observer has them

_ANSWER_TIMEOUT = 5.0  # seconds
_UNSEEN = ("/proc/", "/sys/", "/dev/")

_attached = False  # whether an observer sees what is opened


def attach(address: str, token: str) -> None:
    """Have every file that this process and its children open reported to an observer.

    To be called before the process has a second thread.

    Args:
        address: The observer's socket.
        token: Under which it is to note them.
    """
    global _attached
    ignore = [*(folder + os.sep for folder in package_folders()), *_UNSEEN]
    request = {"do": "watch", "token": token, "pid": os.getpid(), "ignore": ignore}
    syscalls.be_traceable()
    with socket.socket(socket.AF_UNIX) as channel:
        try:
            channel.connect(address)
        except OSError:  # it has been killed: the audit hook has to do
            return
        try:
            listener = syscalls.install()
        except OSError as e:
            taken = syscalls.taken(e)
        else:
            _attached = True
            socket.send_fds(channel, [json.dumps(request).encode() + b"\n"], [listener])
            os.close(listener)
            return
    # A kernel within a kernel has a filter already. Its observer may be this one.
    _attached = taken and _share(address, request)


def _share(address: str, request: dict[str, Any]) -> bool:
    """Whether the observer sees this process by the filter of one that started it.

    It is told of this one, then something is opened, then it is asked whether it has seen that.
    """
    probe = os.path.join(request["token"], "is this seen")
    try:
        _ask(address, {**request, "do": "share"})
        with contextlib.suppress(OSError):
            os.close(os.open(probe, os.O_RDONLY))
        return _ask(address, {"do": "seen", "token": request["token"], "path": probe}) is True
    except (OSError, ValueError):
        return False


def _ask(address: str, request: dict[str, Any]) -> Any:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(_ANSWER_TIMEOUT)
        channel.connect(address)
        channel.sendall(json.dumps(request).encode() + b"\n")
        with channel.makefile("rb") as answer:
            return json.loads(answer.readline())


class Notes:
    """What was noted in this process.

    Attributes:
        opened: path → purpose, size before, time before; only where nobody sees it from without.
        listed: Folders whose names were read.
        quiet: Folders whose names only the import system has read.
        looked_for: path → whether it was there.
        variables: Names of environment variables that the project's code has read.
        declared: Paths that the flow has declared.
        modules: Modules that runs within this one have imported.
    """

    def __init__(self) -> None:
        self.opened: dict[str, list[int]] = {}
        self.listed: dict[str, None] = {}
        self.quiet: set[str] = set()
        self.looked_for: dict[str, bool] = {}
        self.variables: dict[str, None] = {}
        self.declared: dict[str, None] = {}
        self.modules: dict[str, None] = {}


_notes: Notes | None = None
_root = ""


def begin(root: str) -> None:
    """Begin to note.

    Args:
        root: The project root, absolute; what lies elsewhere is not looked for by flows.
    """
    global _notes, _root
    _notes = Notes()
    _root = os.path.realpath(root)
    if _attached and hasattr(FileFinder, "_fill_cache"):
        # All that is missing is who lists folders. An audit hook would be called for much else.
        for name in ("listdir", "scandir"):
            _replace(name, _listing)
        FileFinder._fill_cache = _importing(FileFinder._fill_cache)
    else:
        sys.addaudithook(_audit)
    for name in ("stat", "lstat", "access"):
        _replace(name, _looking)
    os.environ.__class__ = _NotingEnviron


def declare(path: str, role: str = "data") -> None:
    """Note that the flow depends on a path, as if it had used it.

    Args:
        path: The path.
        role: `data`, `module`, `folder`, `present` or `missing`.
    """
    if _notes is None:
        return
    full = os.path.abspath(path)
    if role == "data":
        _notes.declared[full] = None
    elif role == "module":
        _notes.modules[full] = None
    elif role == "folder":
        _notes.listed[full] = None
    else:
        _notes.looked_for.setdefault(full, role == "present")


def report(ahead: Iterable[str], newer: Sequence[str]) -> dict[str, Any]:
    """What was noted, in JSON's types.

    Args:
        ahead: Names of top-level modules that were imported for the flow before it began.
        newer: Names of the modules that it has imported itself.

    Returns:
        Nothing where nothing is observed; else `native`, `opened`, `listed`, `quiet`, `looked_for`,
        `variables`, `declared`, `modules` (files of the project's modules), `packages` (the names
        of installed top-level modules), and `folders` (where the interpreter's own files lie).
    """
    if _notes is None:
        return {}
    modules, packages = _modules(newer)
    packages.update(name for name in ahead if name not in sys.stdlib_module_names)
    return {
        "native": _attached,
        "opened": [[path, *facts] for path, facts in _notes.opened.items()],
        "listed": list(_notes.listed),
        "quiet": sorted(f for f in _notes.quiet.difference(_notes.listed) if not installed(f)),
        "looked_for": list(_notes.looked_for.items()),
        "variables": list(_notes.variables),
        "declared": list(_notes.declared),
        "modules": list({**modules, **_notes.modules}),
        "packages": sorted(packages),
        "folders": sorted({sys.prefix, sys.base_prefix, sys.exec_prefix, *package_folders()}),
    }


def _modules(names: Sequence[str]) -> tuple[dict[str, None], set[str]]:
    """Files of the project's modules among these, and the packages that the others are of.

    Those that were there before the flow are not touched: each would be a page copied after a fork.
    """
    modules: dict[str, None] = {}
    packages: set[str] = set()
    for name in names:
        # Not getattr: a lazy module would import what it stands for.
        file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
        if not isinstance(file, str) or name == "__main__":
            continue
        top = name.partition(".")[0]
        if not installed(file):
            if not os.path.abspath(file).startswith(_HERE):
                modules[os.path.abspath(file)] = None
        elif top not in sys.stdlib_module_names:
            packages.add(top)
    return modules, packages


# --- files and folders --------------------------------------------------------------------------


def _audit(event: str, args: tuple[Any, ...]) -> None:
    note = _EVENTS.get(event)
    if note is not None and _notes is not None:
        with contextlib.suppress(OSError, ValueError, TypeError, UnicodeError):
            note(_notes, *args)


def _note_listing(notes: Notes, path: Any, frame: Any = None) -> None:
    folder = os.path.abspath(_text("." if path is None else path))
    if _is_importing(frame or sys._getframe(2)):
        notes.quiet.add(folder)
    else:
        notes.listed[folder] = None


def _listing(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `os` that lists a folder, and notes it."""

    def listed(path: Any = None, *args: Any, **kwargs: Any) -> Any:
        if _notes is not None:
            with contextlib.suppress(OSError, ValueError, TypeError, UnicodeError):
                _note_listing(_notes, path, sys._getframe(1))
        return original(path, *args, **kwargs)

    return listed


def _importing(original: Callable[..., None]) -> Callable[..., None]:
    """The way in which the import system lists a folder, which is noted as that."""

    def fill(finder: Any) -> None:
        if _notes is not None:
            with contextlib.suppress(OSError):
                _notes.quiet.add(os.path.abspath(finder.path))
        original(finder)

    return fill


def _is_importing(frame: Any) -> bool:
    """Whether it is the import system that asks, what reads packages' metadata, or the kernel."""
    file = frame.f_code.co_filename
    return file.startswith(("<frozen importlib", _HERE)) or f"{os.sep}importlib{os.sep}" in file


_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def _note_open(notes: Notes, path: Any, _: Any, flags: Any) -> None:
    if _attached or isinstance(path, int):
        return
    bits = READ
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        bits = UPDATE if flags & os.O_RDWR and not flags & os.O_TRUNC else WRITE
    _note_file(notes, path, bits)


def _note_database(notes: Notes, path: Any) -> None:
    text = _text(path)
    if not _attached and not text.startswith(":"):
        _note_file(notes, text.removeprefix("file:").partition("?")[0], UPDATE)


def _note_rename(notes: Notes, _: Any, path: Any, *__: Any) -> None:
    if not _attached:
        _note_file(notes, path, WRITE)


def _note_command(notes: Notes, _: Any, arguments: Any, *__: Any) -> None:
    """Arguments that are files may be read by the command."""
    if _attached:
        return
    given = arguments.split() if isinstance(arguments, str) else list(arguments)
    for argument in given:
        path = _text(argument)
        if os.path.isfile(path):
            _note_file(notes, path, UPDATE)


def _note_file(notes: Notes, path: Any, bits: int) -> None:
    full = os.path.abspath(_text(path))
    known = notes.opened.get(full)
    if known is not None:
        known[0] |= bits
        return
    try:
        found = _stat(full)
        notes.opened[full] = [bits, found.st_size, found.st_mtime_ns]
    except OSError:
        notes.opened[full] = [bits, -1, 0]


_EVENTS: dict[str, Callable[..., None]] = {
    "os.listdir": _note_listing,
    "os.scandir": _note_listing,
    "open": _note_open,
    "sqlite3.connect": _note_database,
    "os.rename": _note_rename,
    "subprocess.Popen": _note_command,
}


def _text(path: Any) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    return os.fsdecode(path)


_stat = os.stat


def _replace(name: str, noting: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put a function that notes what it does in the place of one of `os`.

    The import system has its own way to them.
    """
    original = getattr(os, name)
    noted = functools.wraps(original)(noting(original))
    noted.__module__ = "os"  # where a pickle looks for it
    for supports in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if original in supports:
            supports.add(noted)
    setattr(os, name, noted)
    # Python 3.10's pathlib has taken its own when it was imported.
    accessor = getattr(sys.modules.get("pathlib"), "_NormalAccessor", None)
    if hasattr(accessor, name):
        setattr(accessor, name, staticmethod(noted))


def _looking(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `os` that looks for a path, and notes what it has found."""

    def looked(path: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            found = original(path, *args, **kwargs)
        except (FileNotFoundError, NotADirectoryError):
            if kwargs.get("dir_fd") is None:
                _note_looked_for(path, there=False)
            raise
        if kwargs.get("dir_fd") is None:
            _note_looked_for(path, there=found is not False or _is_there(path))
        return found

    return looked


def _is_there(path: Any) -> bool:
    try:
        _stat(path)
    except OSError:
        return False
    return True


def _note_looked_for(path: Any, *, there: bool) -> None:
    if _notes is None or isinstance(path, int):
        return
    with contextlib.suppress(OSError, ValueError, TypeError):
        full = os.fsdecode(path)
        if not os.path.isabs(full) or "/." in full:
            full = os.path.abspath(full)
        if full.startswith(_root):
            _notes.looked_for[full] = there  # the last answer: it may have waited for it


# --- the environment ----------------------------------------------------------------------------


class _NotingEnviron(os._Environ):  # type: ignore[type-arg]
    """`os.environ`, which notes what the project's code reads."""

    def __getitem__(self, key: str) -> str:
        known = _notes is None or key in _set_here or _is_copying(key)
        if _notes is not None and not known and _asked_by_project():
            _notes.variables[key] = None
        value: str = super().__getitem__(key)
        return value

    def __setitem__(self, key: str, value: str) -> None:
        super().__setitem__(key, value)
        _set_here.add(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        _set_here.add(key)

    def __iter__(self) -> Iterator[str]:
        names = list(super().__iter__())
        _copied[:] = reversed(names)
        return iter(names)


_set_here: set[str] = set()
_copied: list[str] = []  # the names that were last listed, but for those read since in their order


def _is_copying(key: str) -> bool:
    """Whether it is read as a part of all there is: whoever copies it depends on none of it."""
    if _copied and _copied[-1] == key:
        _copied.pop()
        return True
    return False


def _asked_by_project() -> bool:
    """Whether it is a cell, or a module of the project, that reads the environment."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") in ("os", "collections.abc"):
        frame = frame.f_back
    if frame is None:
        return False
    if frame.f_globals.get("__name__") == "__main__":
        return True
    file = frame.f_code.co_filename
    return file.startswith(_root) and f"{os.sep}site-packages{os.sep}" not in file
