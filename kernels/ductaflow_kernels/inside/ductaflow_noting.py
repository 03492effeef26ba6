"""How a kernel notes what Python does in it: wrappers of `os`, an audit hook, and an `os.environ`.

Where an observer sees the files, all that is left for Python is which folders are listed and which
paths are looked for. Elsewhere an audit hook notes at least what Python opens.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import FileFinder
from typing import Any

READ, WRITE, UPDATE = 1, 2, 8  # as the observer has them, and the next
GONE, FRESH, ARRIVED, TIED, MAKE = 16, 32, 64, 128, 256


class Notes:
    """What was noted in this process.

    Attributes:
        root: The project root, absolute and without links; what lies elsewhere is not looked for.
        native: Whether an observer sees what is opened.
        opened: path → purpose, and size, time, inode, change time before; only where nobody sees it
            from without.
        listed: Folders whose names were read.
        quiet: Folders whose names only the import system has read.
        looked_for: path → whether it was there.
        variables: Names of environment variables that the project's code has read.
        declared: Paths that the flow has declared.
        modules: Modules that runs within this one have imported.
    """

    def __init__(self, root: str, *, native: bool) -> None:
        self.root = root
        self.native = native
        self.opened: dict[str, list[int]] = {}
        self.listed: dict[str, None] = {}
        self.quiet: set[str] = set()
        self.looked_for: dict[str, bool] = {}
        self.variables: dict[str, None] = {}
        self.declared: dict[str, None] = {}
        self.modules: dict[str, None] = {}


_notes: Notes  # of this process: there from `install` on


def install(notes: Notes) -> None:
    """Have noted from now on what is done, once in a process."""
    global _notes
    _notes = notes
    if notes.native and hasattr(FileFinder, "_fill_cache"):
        # All that is missing is who lists folders. An audit hook would be called for much else.
        for name in ("listdir", "scandir"):
            _replace(name, _listing)
        FileFinder._fill_cache = _importing(FileFinder._fill_cache)
    else:
        sys.addaudithook(_audit)
    for name in ("stat", "lstat", "access"):
        _replace(name, _looking)
    os.environ.__class__ = _NotingEnviron


# --- files and folders --------------------------------------------------------------------------


def _audit(event: str, args: tuple[Any, ...]) -> None:
    note = _EVENTS.get(event)
    if note is not None:
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
        with contextlib.suppress(OSError, ValueError, TypeError, UnicodeError):
            _note_listing(_notes, path, sys._getframe(1))
        return original(path, *args, **kwargs)

    return listed


def _importing(original: Callable[..., None]) -> Callable[..., None]:
    """The way in which the import system lists a folder, which is noted as that."""

    def fill(finder: Any) -> None:
        with contextlib.suppress(OSError):
            _notes.quiet.add(os.path.abspath(finder.path))
        original(finder)

    return fill


def _is_importing(frame: Any) -> bool:
    """Whether it is the import system that asks, what reads packages' metadata, or the kernel."""
    file = frame.f_code.co_filename
    return file.startswith(("<frozen importlib", HERE)) or f"{os.sep}importlib{os.sep}" in file


HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def _note_open(notes: Notes, path: Any, _: Any, flags: Any) -> None:
    if notes.native or isinstance(path, int):
        return
    bits = READ
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        bits = UPDATE if flags & os.O_RDWR else WRITE
        bits = WRITE | FRESH if flags & os.O_TRUNC else bits
    _note_file(notes, path, bits)


def _note_database(notes: Notes, path: Any) -> None:
    text = _text(path)
    if not notes.native and not text.startswith(":"):
        _note_file(notes, text.removeprefix("file:").partition("?")[0], UPDATE)


def _note_rename(notes: Notes, source: Any, path: Any, *_: Any) -> None:
    if notes.native:
        return
    old, new = (os.path.abspath(_text(each)) for each in (source, path))
    moved = [old]
    if os.path.isdir(old) and not os.path.islink(old):
        moved += [other for other in notes.opened if other.startswith(old + os.sep)]
    for each in moved:
        made = each in notes.opened and notes.opened[each][0] & FRESH
        _note_file(notes, each, READ | GONE)
        _note_file(notes, new + each[len(old) :], WRITE | FRESH | (0 if made else ARRIVED))


def _note_link(notes: Notes, source: Any, path: Any, *_: Any) -> None:
    if not notes.native:
        _note_file(notes, source, READ | TIED)
        _note_file(notes, path, WRITE | FRESH)


def _note_symlink(notes: Notes, _: Any, path: Any, *__: Any) -> None:
    if not notes.native:
        _note_file(notes, path, WRITE | FRESH)


def _note_removal(notes: Notes, path: Any, folder: Any = -1, *_: Any) -> None:
    if notes.native:
        return
    text = _text(path)
    if isinstance(folder, int) and folder >= 0:  # as `shutil.rmtree` does
        text = os.path.join(_text(folder), text)
    _note_file(notes, text, GONE)


def _note_folder(notes: Notes, path: Any, *_: Any) -> None:
    if not notes.native:
        _note_file(notes, path, MAKE)


def _note_cut(notes: Notes, path: Any, *_: Any) -> None:
    if not notes.native:
        _note_file(notes, path, UPDATE)


def _note_command(notes: Notes, _: Any, arguments: Any, *__: Any) -> None:
    """Arguments that are files may be read by the command."""
    if notes.native:
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
        known[0] |= bits & ~FRESH
        return
    try:
        found = _stat(full)
    except OSError:
        notes.opened[full] = [bits | FRESH, -1, 0, 0, 0]
        return
    notes.opened[full] = [
        bits, found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns
    ]  # fmt: skip


_EVENTS: dict[str, Callable[..., None]] = {
    "os.listdir": _note_listing,
    "os.scandir": _note_listing,
    "open": _note_open,
    "sqlite3.connect": _note_database,
    "os.rename": _note_rename,
    "os.link": _note_link,
    "os.symlink": _note_symlink,
    "os.remove": _note_removal,
    "os.rmdir": _note_removal,
    "os.truncate": _note_cut,
    "os.mkdir": _note_folder,
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
    if isinstance(path, int):
        return
    with contextlib.suppress(OSError, ValueError, TypeError):
        full = os.fsdecode(path)
        if not os.path.isabs(full) or "/." in full:
            full = os.path.abspath(full)
        if full.startswith(_notes.root):
            _notes.looked_for[full] = there  # the last answer: it may have waited for it


# --- the environment ----------------------------------------------------------------------------


class _NotingEnviron(os._Environ):  # type: ignore[type-arg]
    """`os.environ`, which notes what the project's code reads."""

    def __getitem__(self, key: str) -> str:
        known = key in _set_here or _is_copying(key)
        if not known and _asked_by_project():
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
    return file.startswith(_notes.root) and f"{os.sep}site-packages{os.sep}" not in file
