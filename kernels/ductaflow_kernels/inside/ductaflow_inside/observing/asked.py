"""What imports in a template ask of what is not decided yet, or may change: folder, process, files.

The folder and the process of a kernel are not known when its template imports. What a module has
kept of them is put right at adoption. Files that were read or looked for are told to the conductor,
which replaces the template when they change.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import random
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from types import FrameType
from typing import Any

from ductaflow_inside.packages import package_folders

Stamp = list[int]  # time, size and inode of a file; empty: it is not there
UNKNOWN: Stamp = [-1]  # like no other: it changed while it was read

_used: dict[str, Stamp | None] = {}  # what was opened or looked for, as it was then
_start_files: dict[str, Stamp] = {}
_listed: dict[str, Stamp | None] = {}
_askers: list[dict[str, Any]] = []  # namespaces of modules that asked for folder or process
_written: set[str] = set()  # by the imports themselves
_problems: list[str] = []
_kept: list[tuple[dict[str, Any], str, Any, bool]] = []  # namespace, name, value; of the folder?
_originals: list[tuple[Any, str, Any]] = []

_stat, _getcwd, _getpid = os.stat, os.getcwd, os.getpid


def watch() -> None:
    """Note from now on what is asked, until `stop`."""
    for name in ("stat", "lstat", "access", "open"):
        _replace(os, name, _with_path(_used))
    for name in ("listdir", "scandir"):
        _replace(os, name, _with_path(_listed))
    _replace(builtins, "open", _with_path(_used))
    _replace(io, "open", _with_path(_used))
    for name in ("getcwd", "getpid"):
        _replace(os, name, _by_module)
    _replace(os, "urandom", _chance)
    _replace(random, "_urandom", _chance)


def stop() -> None:
    """Note nothing any more: a kernel has its own way."""
    while _originals:
        owner, name, original = _originals.pop()
        setattr(owner, name, original)


def _replace(owner: Any, name: str, noting: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    noted = functools.wraps(original)(noting(original))
    for supports in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if original in supports:
            supports.add(noted)
    _originals.append((owner, name, original))
    setattr(owner, name, noted)


def _with_path(notes: dict[str, Stamp | None]) -> Callable[[Any], Any]:
    def noting(original: Any) -> Any:
        def noted(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if not _originals:  # a module has kept this
                return original(path, *args, **kwargs)
            if isinstance(path, (str, bytes, os.PathLike)) and kwargs.get("dir_fd") is None:
                full = os.path.normpath(os.path.join(_getcwd(), os.fsdecode(path)))
                if full not in notes:
                    notes[full] = stamp(full)
                if _writes(args[0] if args else kwargs.get("mode")):
                    _written.add(full)
            return original(path, *args, **kwargs)

        return noted

    return noting


def _writes(how: Any) -> bool:
    """Whether the mode of open(), or the flags of os.open(), are for writing."""
    if isinstance(how, str):
        return not set("wax+").isdisjoint(how)
    return isinstance(how, int) and bool(how & (os.O_WRONLY | os.O_RDWR))


def stamp(path: str) -> Stamp | None:
    """What tells that a file is another one; None if it is a folder or no file at all."""
    try:
        found = _stat(path)
    except (OSError, ValueError):
        return []
    if stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode):
        return [found.st_mtime_ns, found.st_size, found.st_ino]
    return None


# --- folder, process and chance -----------------------------------------------------------------

_BETWEEN = frozenset({"os", "posixpath", "genericpath", "pathlib", "pathlib._local", "random"})
_BETWEEN |= {"secrets", "uuid", "functools", __name__}
# Their own is made anew after the fork.
_RENEWED = ("numpy", "multiprocessing.process", "ductaflow_inside")


def _asker(frame: FrameType | None) -> FrameType | None:
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return frame


def _by_module(original: Any) -> Any:
    def noted() -> Any:
        frame = _asker(sys._getframe(1))
        if (
            _originals
            and frame is not None
            and not any(frame.f_globals is known for known in _askers)
        ):
            _askers.append(frame.f_globals)
        return original()

    return noted


def _chance(original: Any) -> Any:
    def noted(size: int) -> bytes:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
            if frame.f_code.co_name == "_noted_randbits":  # see `chance`
                return bytes(original(size))
            frame = frame.f_back
        name = str(frame.f_globals.get("__name__")) if frame is not None else "ductaflow_inside"
        if _originals and not name.startswith(_RENEWED):
            _problems.append(f"{name} draws random bytes when it is imported")
        return bytes(original(size))

    return noted


def problem() -> str:
    """What was asked since the last time that cannot be answered ahead; mostly nothing."""
    found, _problems[:] = list(_problems), []
    return found[0] if found else ""


def find_kept() -> None:
    """Find, before the fork, what modules have kept of the folder and of the process."""
    folder, process = _getcwd(), _getpid()
    for namespace in _askers:
        for name, value in list(namespace.items()):
            if type(value) is int and value == process:
                _kept.append((namespace, name, value, False))
            elif (type(value) is str or isinstance(value, PurePath)) and str(value) == folder:
                _kept.append((namespace, name, value, True))
    _askers.clear()


def put_right() -> None:
    """Give modules the folder and process of this kernel, where they have kept the template's."""
    for namespace, name, value, is_folder in _kept:
        if namespace.get(name) == value:
            namespace[name] = type(value)(_getcwd() if is_folder else _getpid())
    _kept.clear()
    _looked_for_here[:] = [os.path.join(_getcwd(), name) for name in _near]


# --- files --------------------------------------------------------------------------------------


def reads() -> dict[str, Stamp]:
    """Files outside the packages that were read or looked for, and folders that were listed."""
    found = dict(_start_files)
    # A copy: the debugger's threads, and what is asked here itself, go on opening files.
    for path, seen in list(_used.items()):
        if seen is None or path in _written or _is_left_out(path) or os.path.isdir(path):
            continue
        if path.startswith(_temporary()) and stamp(path) != seen:
            continue  # it was of the import only
        found[path] = seen
    listed = {p: s for p, s in list(_listed.items()) if p not in sys.path and not _is_left_out(p)}
    return {**found, **{path: seen for path, seen in listed.items() if seen is not None}}


def near() -> list[str]:
    """What was looked for in the working directory, by the names that it had there."""
    here = _getcwd() + os.sep
    return sorted(p[len(here) :] for p in list(_used) if p.startswith(here) and p not in _written)


def note_start(folder: str) -> None:
    """Note what the interpreter itself has read when it started, or looked for.

    Args:
        folder: One that was changed just before the process was started, and not since.
    """
    began, now = os.stat(folder).st_mtime_ns, time.time_ns()
    found = {os.path.join(sys.prefix, "pyvenv.cfg")}
    for folder in {*package_folders(), *sys.path}:
        found.update(os.path.join(folder, f"{name}customize.py") for name in ("site", "user"))
        try:
            names = os.listdir(folder)
        except OSError:  # an archive, or none
            continue
        found.update(os.path.join(folder, name) for name in names if name.endswith(".pth"))
    here = _getcwd() + os.sep
    for path in found:
        seen = None if path.startswith(here) else stamp(path)
        if seen is not None:
            _start_files[path] = UNKNOWN if _changed_between(path, began, now) else seen


def _changed_between(path: str, start: int, end: int) -> bool:
    try:
        return start <= _stat(path).st_ctime_ns <= end
    except OSError:
        return False


def module_folders() -> list[str]:
    """Where the installed modules lie that are imported, and what they have read of their own."""
    files = {getattr(module, "__dict__", {}).get("__file__") for module in sys.modules.values()}
    found = [file for file in files if isinstance(file, str) and file.startswith(package_folders())]
    linked = [os.path.realpath(file) for file in found if os.path.islink(file)]
    return sorted({os.path.dirname(file) for file in (*found, *linked, *package_files())})


def package_files() -> list[str]:
    """What of the packages' own files was read that is no module."""
    folders = package_folders()
    own = [path for path, seen in list(_used.items()) if seen and path.startswith(folders)]
    return [p for p in own if not p.endswith((".py", ".pyc")) and not os.path.isdir(p)]


def _is_left_out(path: str) -> bool:
    return (path + os.sep).startswith(_left_out())  # such a folder itself, too


@functools.lru_cache(maxsize=1)
def _left_out() -> tuple[str, ...]:
    """The system's, the interpreter's, caches, and what is of one process only."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    own = (sys.prefix, sys.base_prefix, sys.exec_prefix, *package_folders())
    places = (cache, _getcwd(), *own)
    system = ("/proc", "/sys", "/dev", "/usr", "/lib", "/lib64", "/bin", "/sbin")
    return tuple(place + os.sep for place in (*system, *places) if place != os.sep)


@functools.lru_cache(maxsize=1)
def _temporary() -> str:
    return tempfile.gettempdir() + os.sep


def inputs() -> Iterator[tuple[str, bool]]:
    """Of all that imports have read or looked for: its path, and whether it was there."""
    yield from _inputs
    yield from ((path, False) for path in _looked_for_here)


def _asked_for() -> Iterator[tuple[str, bool]]:
    for path, seen in reads().items():
        # Where the interpreter looks at its start, and finds nothing, counts for the template only.
        if path not in _listed and (seen or path not in _start_files):
            yield path, bool(seen)


_inputs: list[tuple[str, bool]] = []  # see `inputs`, but for those in the kernel's own folder
_near: list[str] = []  # see `near`
_looked_for_here: list[str] = []  # the same in the folder of this kernel


def prepare() -> None:
    """Do, before the fork, what each kernel would do."""
    find_kept()
    _near[:] = near()
    _inputs[:] = _asked_for()
    _left_out()
    _temporary()
