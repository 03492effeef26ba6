"""How a kernel notes what Python does in it: wrappers of `os`, and an audit hook.

Where an observer sees the files, all that is left for Python is which folders are listed and which
paths are looked for. Elsewhere an audit hook notes at least what Python opens.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Callable
from importlib.machinery import FileFinder
from typing import Any

from ductaflow_inside.observing import asking
from ductaflow_inside.observing.links import Links
from ductaflow_inside.packages import HERE, package_folders

READ, WRITE, UPDATE = 1, 2, 8  # as the observer has them, and the next
GONE, FRESH, ARRIVED, TIED, MAKE, NAMED = 16, 32, 64, 128, 256, 1024

_UNASKED = ("/proc/", "/sys/", "/usr/lib/", "/usr/share/", "/usr/include/")


class Notes:
    """What was noted in this process.

    Attributes:
        root: The project root, absolute and without links.
        native: Whether an observer sees what is opened.
        opened: path → purpose, and size, time, inode, change time before; only where nobody sees it
            from without.
        listed: Folders whose names were read.
        quiet: Folders whose names only the import system has read.
        looked_for: path → whether it was there.
        asked: path → what else was asked about it (`asking`), and the answer: size, time,
            kind (`folder`, `file` or `other`).
        access: path, permissions asked for → whether it had them.
        links: The links on the way of all these.
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
        self.asked: dict[str, list[Any]] = {}
        self.access: dict[tuple[str, int], bool] = {}
        self.links = Links()
        self.declared: dict[str, None] = {}
        self.modules: dict[str, None] = {}
        self._elsewhere = (*(folder + os.sep for folder in package_folders()), *_UNASKED)

    def kept(self, path: Any) -> str:
        """A path, absolute and without `..`; the links on its way are noted.

        Returns:
            It, links kept; empty for a descriptor, and for what is the interpreter's own.
        """
        if isinstance(path, int):
            return ""
        full = os.fsdecode(path)
        if not full.startswith("/"):
            full = os.path.join(os.getcwd(), full)
        if "/." not in full and "//" not in full:
            if full.startswith(self._elsewhere):
                return ""
            if full in self.looked_for and not self.links.again:
                return full
        kept = self.links.walk(full)
        return "" if kept.startswith(self._elsewhere) else kept


_notes: Notes  # of this process: there from `install` on


def install(notes: Notes) -> None:
    """Have noted from now on what is done, once in a process."""
    global _notes
    _notes = notes
    if notes.native and hasattr(FileFinder, "_fill_cache"):
        # All that is missing is who lists folders. An audit hook would be called for much else.
        for name in ("listdir", "scandir"):
            _replace(name, _listing)
        glob = getattr(sys.modules.get("glob"), "_StringGlobber", None)
        if glob is not None:  # Python 3.13 keeps its own
            glob.scandir = staticmethod(os.scandir)
        FileFinder._fill_cache = _importing(FileFinder._fill_cache)
    else:
        _replace("scandir", _listing)  # for what its entries are asked
        for name in ("chdir", "readlink"):
            _replace(name, _walking)
        sys.addaudithook(_audit)
    for name in ("symlink", "rename", "replace"):
        _replace(name, _relinking)
    for name in ("stat", "lstat", "access"):
        _replace(name, _looking)


# --- files and folders --------------------------------------------------------------------------


def _audit(event: str, args: tuple[Any, ...]) -> None:
    note = _EVENTS.get(event)
    if note is not None:
        with contextlib.suppress(OSError, ValueError, TypeError, UnicodeError):
            note(_notes, *args)


def _note_listing(notes: Notes, path: Any, frame: Any = None) -> None:
    folder = notes.links.walk(_absolute(_text("." if path is None else path)))
    frame = frame or sys._getframe(2)
    # A run within this one looks for what others have left in the folder for temporary files.
    beside = not folder.startswith(notes.root) and asking.is_ours(frame)
    if beside or _is_importing(frame):
        notes.quiet.add(folder)
    else:
        notes.listed[folder] = None


def _listing(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `os` that lists a folder, and notes it."""

    def listed(path: Any = None, *args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        try:
            found = original(path, *args, **kwargs)
        except FileNotFoundError:
            _note_missing("." if path is None else path)
            raise
        with contextlib.suppress(OSError, ValueError, TypeError, UnicodeError):
            _note_listing(_notes, path, frame)
        if isinstance(found, list) or asking.is_library(frame):
            return found
        return _Entries(found)

    return listed


class _Entries:
    """What `os.scandir` gives the project's code, to note what it asks each entry."""

    def __init__(self, entries: Any) -> None:
        self._entries = entries

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> _Entry:
        return _Entry(next(self._entries))

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()


class _Entry:
    """An `os.DirEntry`, which notes what it is asked; kinds go with the names in the folder."""

    __slots__ = ("_entry",)
    __class__ = os.DirEntry  # type: ignore[assignment]  # nothing can be derived from it

    def __init__(self, entry: Any) -> None:
        self._entry = entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    def __fspath__(self) -> Any:
        return self._entry.__fspath__()

    def __repr__(self) -> str:
        return repr(self._entry)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        found: os.stat_result = self._entry.stat(follow_symlinks=follow_symlinks)
        _note_asked(self._entry.path, found, sys._getframe(1), "stat", follow=follow_symlinks)
        return found


def _walking(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `os` that goes along a path: the links on it count."""

    def walked(path: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("dir_fd") is None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                _notes.kept(path)
        return original(path, *args, **kwargs)

    return walked


def _relinking(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `os` after which a link may lead elsewhere."""

    def relinked(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            _notes.links.forget()

    return relinked


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
    old, new = (notes.links.walk(_absolute(_text(each)), last=False) for each in (source, path))
    moved = [old]
    if os.path.isdir(old) and not os.path.islink(old):
        moved += [other for other in notes.opened if other.startswith(old + os.sep)]
    for each in moved:
        made = each in notes.opened and notes.opened[each][0] & FRESH
        _note_file(notes, each, READ | GONE | NAMED)
        _note_file(notes, new + each[len(old) :], WRITE | FRESH | NAMED | (0 if made else ARRIVED))


def _note_link(notes: Notes, source: Any, path: Any, *_: Any) -> None:
    if not notes.native:
        _note_file(notes, source, READ | TIED)
        _note_file(notes, path, WRITE | FRESH | NAMED)


def _note_symlink(notes: Notes, _: Any, path: Any, *__: Any) -> None:
    if not notes.native:
        _note_file(notes, path, WRITE | FRESH | NAMED)


def _note_removal(notes: Notes, path: Any, folder: Any = -1, *_: Any) -> None:
    if notes.native:
        return
    text = _text(path)
    if isinstance(folder, int) and folder >= 0:  # as `shutil.rmtree` does
        text = os.path.join(_text(folder), text)
    _note_file(notes, text, GONE | NAMED)


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
    full = notes.links.walk(_absolute(_text(path)), last=not bits & NAMED)
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


def _absolute(path: str) -> str:
    return os.path.join(os.getcwd(), path)


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
    """A function of `os` that looks for a path, and notes what it was asked and has found."""
    name = original.__name__

    def looked(path: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            found = original(path, *args, **kwargs)
        except (FileNotFoundError, NotADirectoryError):
            if kwargs.get("dir_fd") is None:
                _note_missing(path)
            raise
        if kwargs.get("dir_fd") is None:
            frame = sys._getframe(1)
            if found is True or found is False:
                _note_access(path, args[0] if args else kwargs.get("mode", 0), found, frame)
            else:
                follow = name != "lstat" and kwargs.get("follow_symlinks", True)
                _note_asked(path, found, frame, name, follow=follow)
        return found

    return looked


def _note_missing(path: Any) -> None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        full = _notes.kept(path)
        if full:
            _notes.looked_for[full] = False  # the last answer: it may have waited for it


def _note_asked(
    path: Any, found: os.stat_result, frame: Any, name: str, *, follow: bool = True
) -> None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        full = _notes.kept(path)
        if not full:
            return
        if stat.S_ISLNK(found.st_mode):  # where it leads is all that it tells
            return
        _notes.looked_for[full] = True
        what = asking.asked(frame, name)
        if what:
            unlinked = not follow and what & asking.KIND
            _note_answer(_notes, full, found, what | asking.UNLINKED if unlinked else what)


def note_state(notes: Notes, path: str, words: list[str], *, size: bool, time: bool) -> None:
    """Note what a path is, as if that had been asked about it.

    Args:
        notes: Where.
        path: The path, as `Notes.kept` has it.
        words: What was answered when it was asked, as records have it.
        size: Whether its size counts.
        time: Whether its modification time counts.
    """
    what = asking.BY_PROJECT
    for word in words:
        if word.startswith("access"):
            mode = int(word.removeprefix("access").partition("=")[0])
            notes.access[path, mode] = os.access(path, mode)
        else:
            what |= asking.UNLINKED if word == "unlinked" else asking.KIND
    what |= asking.SIZE if size else 0
    what |= asking.TIME | asking.FOLDER_TIME if time else 0
    try:
        found = _stat(path)
    except OSError:
        notes.looked_for.setdefault(path, False)
    else:
        notes.looked_for.setdefault(path, True)
        _note_answer(notes, path, found, what)


def _note_answer(notes: Notes, path: str, found: os.stat_result, what: int) -> None:
    known = notes.asked.get(path)
    if known is not None:
        what |= known[0]
    folder = stat.S_ISDIR(found.st_mode)
    kind = "folder" if folder else "file" if stat.S_ISREG(found.st_mode) else "other"
    notes.asked[path] = [what, found.st_size, found.st_mtime_ns, kind]


def _note_access(path: Any, mode: int, found: bool, frame: Any) -> None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        full = _notes.kept(path)
        if not full:
            return
        there = found or os.path.lexists(full)
        _notes.looked_for[full] = there
        if there and mode and not asking.is_library(frame):
            _notes.access[full, mode] = found
