"""Which environment variables are asked for, and by whom: an `os.environ` that notes it.

    os.environ["X"], .get, `in`, getenv, expandvars, Template.substitute ──▶ a name, and who asked
    dict(os.environ), a loop over it                                     ──▶ who took all there is

Who asks is the first on the stack that is neither the standard library nor IPython. What counts of
it is for the conductor to say. For templates, too: what an import asks there, each
kernel that is forked from it has asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ductaflow_inside.packages import HERE, package_folders

BY_THE_WAY, BY_NAME = 1, 2  # by a library or a function that has other work; by the project's code

asked: dict[str, int] = {}  # name, or `PREFIX_*` → how
taken: dict[str, None] = {}  # files of the project that took all; empty for a cell

_PROJECT, _LIBRARY, _STANDARD, _SHELL, _OURS, _NOBODY = range(6)
_SHELLS = frozenset({
    "IPython", "ipykernel", "traitlets", "tornado", "zmq", "jupyter_client", "jupyter_core",
    "debugpy", "comm", "decorator", "prompt_toolkit", "pexpect", "ptyprocess",
})  # fmt: skip
# Of the standard library, whose answers are made of what they read: modules, functions.
_ANSWERING = frozenset({
    "os", "posixpath", "ntpath", "genericpath", "pathlib", "pathlib._local", "pathlib._abc",
    "pathlib._os", "string", "string.templatelib", "getpass", "collections", "collections.abc",
    "_collections_abc", "configparser", "locale", "copy", "operator", "functools", "contextlib",
    "threading", "concurrent.futures.thread", "concurrent.futures.process", "concurrent.futures",
    "multiprocessing.process", "multiprocessing.popen_fork", "multiprocessing.pool",
    "multiprocessing.context", "runpy", "importlib", "timeit",
})  # fmt: skip
_ANSWERING_FUNCTIONS = frozenset({
    ("shutil", "get_terminal_size"), ("tempfile", "gettempdir"), ("tempfile", "gettempdirb"),
})  # fmt: skip
# They take all of it to hand it on, or to put it back.
_HANDING_ON = ("subprocess", "unittest", "multiprocessing", "concurrent", "asyncio", "urllib")
# Imported by multiprocessing, and by joblib's loky, when they first start such a process.
_LOKY = ("joblib.externals.loky.backend", "loky.backend")
_SPAWNING = (
    *(f"{name}.popen_{how}" for name in ("multiprocessing", "multiprocess", "billiard")
      for how in ("spawn_posix", "spawn_win32", "forkserver")),
    *(f"{name}.popen_loky_{system}" for name in _LOKY for system in ("posix", "win32")),
)  # fmt: skip
_MAPPINGS = ("collections.abc", "_collections_abc")
_PREFIX = re.compile(r"[A-Z][A-Z0-9_]*_")
_NAME = re.compile(r"[A-Z][A-Z0-9_]+[A-Z0-9]")

_kinds: dict[str, int] = {}
_given: dict[str, str] = {}  # the environment as the flow, or the first import, has found it
_set_here: dict[str, bool] = {}  # by the flow itself: whether it is another value
_settled: set[Any] = set()  # about which there is nothing more to note
_seen: set[tuple[Any, Any]] = set()  # what code of libraries has asked before
_copying: dict[int, tuple[int, int]] = {}  # thread → frame and instruction that copy all
_takers: set[Any] = set()  # code that has gone through all names
_children = ""  # the file to which a forked child adds what it asks


class NotingEnviron(os._Environ):  # type: ignore[type-arg]
    """`os.environ`, which notes what is asked of it; `os.environb` likewise."""

    def __getitem__(self, key: Any) -> Any:
        if key not in _settled:
            _note_read(key, sys._getframe(1))
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        _note_set(key)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        _note_set(key)

    def __iter__(self) -> Iterator[Any]:
        frame: Any = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__name__") in _MAPPINGS:
            frame = frame.f_back
        _copying[threading.get_ident()] = (id(frame), frame.f_lasti)
        _note_taking(frame)
        return iter(list(super().__iter__()))

    def __len__(self) -> int:
        frame = sys._getframe(1)
        if _kind(frame) == _PROJECT:
            _note_taking(frame)
        return super().__len__()

    def __repr__(self) -> str:
        _note_taking(sys._getframe(1))
        return super().__repr__()


def watch() -> None:
    """Note from now on what is asked."""
    _given.clear()
    _given.update(_now())
    _settled.clear()
    _seen.clear()
    os.environ.__class__ = NotingEnviron
    if hasattr(os, "environb"):
        os.environb.__class__ = NotingEnviron


def begin(folder: str) -> None:
    """Note what a flow asks, beside what was asked by what was imported for it.

    Args:
        folder: A private folder, where forked children leave word.
    """
    watch()
    path = os.path.join(folder, "asked")

    def in_child() -> None:
        global _children
        _children = path

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=in_child)
    _hear[:] = [path]


@contextlib.contextmanager
def unnoted() -> Iterator[None]:
    """Forget what is asked within: no flow asks it."""
    before = dict(asked), dict(taken)
    try:
        yield
    finally:
        asked.clear()
        taken.clear()
        asked.update(before[0])
        taken.update(before[1])


def stop() -> None:
    """Note nothing any more."""
    for environ in (os.environ, getattr(os, "environb", None)):
        if environ is not None:
            environ.__class__ = os._Environ


def impose(name: str, value: str | None) -> None:
    """Give a variable a value, or take it away, as if it had been so from the beginning."""
    if value is None:
        os._Environ.__delitem__(os.environ, name)
    else:
        os._Environ.__setitem__(os.environ, name, value)


_hear: list[str] = []  # where forked children have left word


def report() -> dict[str, Any]:
    """What was asked, in JSON's types, also by children that were forked.

    Returns:
        `variables`: names, or prefixes with `*`, each with how it was asked; `taken`: files of the
        project whose code took all there is, empty for cells; `spawned`: whether code of this
        process may have run in new ones that were not forked.
    """
    for path in _hear:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
            for line in file:
                name, how = json.loads(line)
                if how:
                    asked[name] = max(how, asked.get(name, 0))
                else:
                    taken.setdefault(name)
    spawned = any(name in sys.modules for name in _SPAWNING)
    return {"variables": sorted(asked.items()), "taken": sorted(taken), "spawned": spawned}


def _tell(name: str, how: int) -> None:
    """Let the parent of a forked child know; one write, whole beside those of others."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with contextlib.suppress(OSError):
        descriptor = os.open(_children, flags, 0o600)
        try:
            os.write(descriptor, json.dumps([name, how]).encode() + b"\n")
        finally:
            os.close(descriptor)


# --- one variable -------------------------------------------------------------------------------


def _note_read(key: Any, frame: Any) -> None:
    if not isinstance(key, (str, bytes)):
        return
    name = os.fsdecode(key)
    if name in _set_here or _is_copying(frame):
        return
    while frame.f_back is not None and frame.f_globals.get("__name__") in _MAPPINGS:
        frame = frame.f_back
    if (key, frame.f_code) in _seen:
        return
    if _kind(frame) in (_LIBRARY, _OURS):
        _seen.add((key, frame.f_code))
    how = _how(frame)
    if frame.f_code in _takers:  # it goes through all names
        how = min(how, BY_THE_WAY)
    if how > asked.get(name, 0):
        asked[name] = how
        if _children:
            _tell(name, how)
    if how == BY_NAME:
        _settled.add(key)


def _is_copying(frame: Any) -> bool:
    """Whether it is read as a part of all there is."""
    if _copying.get(threading.get_ident()) == (id(frame), frame.f_lasti):
        return True
    code = frame.f_code
    return frame.f_globals.get("__name__") in _MAPPINGS and (
        code.co_name in ("__iter__", "update", "popitem")
    )


def _note_set(key: Any) -> None:
    """A variable that was set by the flow is no question any more, until it is put back."""
    name = os.fsdecode(key)
    now, before = _now_of(name), _given.get(name)
    if now == before and _set_here.get(name):
        del _set_here[name]
    else:
        _set_here[name] = _set_here.get(name, False) or now != before


def _now() -> dict[str, str]:
    behind = os.environ._data  # type: ignore[attr-defined]
    decode = os.environ.decodevalue
    return {decode(name): decode(dict.__getitem__(behind, name)) for name in dict.__iter__(behind)}


def _now_of(name: str) -> str | None:
    found = dict.get(os.environ._data, os.environ.encodekey(name))  # type: ignore[attr-defined]
    return None if found is None else os.environ.decodevalue(found)


# --- all of them --------------------------------------------------------------------------------


def _note_taking(frame: Any) -> None:
    while frame is not None:
        kind = _kind(frame)
        if kind == _STANDARD:
            if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _HANDING_ON:
                return
        elif kind == _PROJECT:
            _takers.add(frame.f_code)
            _take(_file(frame))
            return
        elif kind == _LIBRARY:
            _takers.add(frame.f_code)
            for name in _named(frame):
                _ask_by_the_way(name)
            return
        elif kind == _SHELL:
            if frame.f_code.co_name == "env" and frame.f_globals.get("__name__", "").endswith(
                "magics.osm"
            ):
                _take("%env")
            return
        elif kind == _OURS:
            return
        frame = frame.f_back


def _take(file: str) -> None:
    if file not in taken:
        taken[file] = None
        if _children:
            _tell(file, 0)


def _ask_by_the_way(name: str) -> None:
    if name not in asked:
        asked[name] = BY_THE_WAY
        if _children:
            _tell(name, BY_THE_WAY)


def _file(frame: Any) -> str:
    if frame.f_globals.get("__name__") == "__main__":
        return ""
    return os.path.abspath(str(frame.f_code.co_filename))


def _named(frame: Any) -> Iterator[str]:
    """Variables, and their prefixes, that stand in the code of a library that takes all of them."""
    yield from _constants(frame.f_code, whole=frame.f_code.co_name != "<module>")
    package = _package(frame)
    frame = frame.f_back
    while frame is not None and _package(frame) == package:  # it was given the prefix
        yield from _constants(frame.f_code, whole=False)
        frame = frame.f_back


def _package(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _constants(code: Any, *, whole: bool) -> Iterator[str]:
    """Prefixes among the constants of code, and whole names with those of the functions in it."""
    for const in code.co_consts:
        for text in const if isinstance(const, (tuple, frozenset)) else (const,):
            if isinstance(text, str):
                if _PREFIX.fullmatch(text):
                    yield f"{text}*"
                elif whole and _NAME.fullmatch(text):
                    yield text
        if hasattr(const, "co_consts") and (whole or const.co_name.startswith("<")):
            yield from _constants(const, whole=whole)


# --- who asks -----------------------------------------------------------------------------------


def _how(frame: Any) -> int:
    """How a frame asks for a variable; 0 if it is neither the project nor a library."""
    module = name = ""
    by_shell = answers = False
    while frame is not None:
        kind = _kind(frame)
        if kind == _PROJECT:
            break
        if kind == _LIBRARY:
            return BY_THE_WAY
        if kind == _OURS:
            return 0
        code = frame.f_code
        if kind == _SHELL:
            by_shell = True
            answers = answers or code.co_name in ("env", "set_env")  # the magics
        elif kind == _STANDARD and not code.co_filename.startswith("<"):
            module, name = frame.f_globals.get("__name__", ""), code.co_name
        frame = frame.f_back
    if by_shell:  # what IPython asks for itself is nobody's question
        return BY_NAME if answers and frame is not None else 0
    # A thread may run nothing of the project's own, as in `pool.map(os.getenv, names)`.
    known = not module or module in _ANSWERING or (module, name) in _ANSWERING_FUNCTIONS
    return BY_NAME if known else BY_THE_WAY


def _kind(frame: Any) -> int:
    if frame.f_globals.get("__name__") == "__main__":
        return _PROJECT
    file = frame.f_code.co_filename
    known = _kinds.get(file)
    if known is None:
        known = _kinds[file] = _kind_of(file, frame.f_globals)
    return known


def _kind_of(file: str, names: dict[str, Any]) -> int:
    if file.startswith("<frozen"):
        return _STANDARD
    if file.startswith("<"):  # made by exec(): of whose module it is
        file = str(names.get("__file__") or "")
        if not file:
            return _NOBODY
    if file.startswith(HERE):
        return _OURS
    package = str(names.get("__name__", "")).partition(".")[0]
    if package in ("ductaflow", "ductaflow_kernels"):
        return _OURS
    if f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file:
        return _SHELL if package in _SHELLS else _LIBRARY
    if file.startswith(tuple(folder + os.sep for folder in package_folders())):
        return _STANDARD
    return _PROJECT
