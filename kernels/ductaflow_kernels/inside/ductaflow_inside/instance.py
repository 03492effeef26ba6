"""What makes a waiting kernel one instance's: folder, environment, what it has imported."""

from __future__ import annotations

import atexit
import importlib.machinery
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from ductaflow_inside import warned
from ductaflow_inside.ahead import chance
from ductaflow_inside.observing import asked, observed
from ductaflow_inside.observing import variables as asked_variables


def adopt(content: dict[str, Any]) -> dict[str, Any]:
    """Give a kernel that was started in advance the folder and environment of its instance."""
    take_environment(content["env"])
    os.chdir(content["cwd"])
    chance.restore()
    asked.put_right()
    _start_history(content["cwd"])
    _accept_path()  # the conductor has looked whether anything there would come first
    warned.begin()
    _note_exit_handlers()
    if content.get("observe"):
        observed.begin(content["observe"], folder)
    else:
        asked_variables.stop()
    return {}


def _start_history(folder: str) -> None:
    """Let IPython's history of folders begin with the instance's own (`_dh`, `%cd -`)."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.starting_dir = folder
    visited = shell.user_ns["_dh"]
    visited[:] = [type(visited[0])(folder)] if visited else []


folder = ""  # the kernel's private one
_given: dict[str, str] = dict(os.environ)  # the environment as it was given last
_imposed: dict[str, str | None] = {}  # what ipykernel and imports have made of it; None: removed


def take_environment(env: dict[str, str]) -> None:
    """Make the environment what it is said to be, and what has been imported would make of it.

    ipykernel sets variables when it starts, and some libraries when they are imported.
    """
    note_imposed()
    wanted = {**env, **{name: value for name, value in _imposed.items() if value is not None}}
    for name in [name for name, value in _imposed.items() if value is None]:
        wanted.pop(name, None)
    now = variables()
    for name in set(now) - set(wanted):
        asked_variables.impose(name, None)
    for name, value in wanted.items():
        if now.get(name) != value:
            asked_variables.impose(name, value)
    _given.clear()
    _given.update(env)


def note_imposed() -> None:
    """Take what is now different from the environment that was given for a work of imports."""
    now = variables()
    imposed = {**_given, **_imposed}
    for name in now.keys() | imposed.keys():
        if now.get(name) != imposed.get(name):
            _imposed[name] = now.get(name)


def variables() -> dict[str, str]:
    """The environment, without looking any variable up in `os.environ`: that may be noted."""
    behind = os.environ._data  # type: ignore[attr-defined]
    decode = os.environ.decodevalue
    return {decode(name): decode(dict.__getitem__(behind, name)) for name in dict.__iter__(behind)}


ahead: set[str] = set()  # packages that are not a kernel's own, but were imported for the flow
_own: set[str] = set()  # a kernel's own
_modules_at_start: set[str] = set()
_path_seen: tuple[object, ...] = ()


def note_own_modules() -> None:
    """Take what is imported now for what a kernel needs itself."""
    _modules_at_start.update(sys.modules)
    _own.update(name.partition(".")[0] for name in sys.modules)


def note_modules() -> None:
    """Take what is imported now for what a flow did not ask for itself.

    Only the newest are looked at: each that is touched is a page copied in a forked process.
    """
    new = list(newer_modules())
    _modules_at_start.update(new)
    ahead.update({name.partition(".")[0] for name in new} - _own)
    _accept_path()


def newer_modules() -> Iterator[str]:
    """Names of the modules that the flow made it import, the newest first."""
    for name in reversed(sys.modules):
        if name in _modules_at_start:
            return
        yield name


def _accept_path() -> None:
    """Take what was imported ahead for what the path, as it is now, would give."""
    global _path_seen
    _path_seen = (os.getcwd(), *sys.path)


def look_at_path() -> None:
    """If the path has changed, forget modules imported ahead that it now finds elsewhere.

    The flow would have imported those. One that something loaded holds stays: the flow has imported
    it already, or another module that was imported ahead has.
    """
    global _path_seen
    try:
        here = os.getcwd()
    except OSError:  # its folder is gone
        return
    seen = (here, *sys.path)
    if seen == _path_seen:
        return
    before, _path_seen = set(_path_seen), seen
    for folder in [entry or here for entry in sys.path if (entry or here) not in before]:
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for top in {entry.partition(".")[0] for entry in entries} & ahead:
            loaded = sys.modules.get(top)
            spec = importlib.machinery.PathFinder.find_spec(top)
            if loaded is None or spec is None or spec.origin is None:
                continue
            if spec.origin != getattr(loaded.__spec__, "origin", None) and not _held(top):
                for name in [n for n in sys.modules if n.partition(".")[0] == top]:
                    del sys.modules[name]


def _held(top: str) -> bool:
    """Whether a module, or what it defines, is held by a module outside it."""
    inside = {id(m) for n, m in sys.modules.items() if n.partition(".")[0] == top}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != top:
            for value in list(getattr(module, "__dict__", {}).values()):
                if id(value) in inside:
                    return True
                # Of classes and functions only: other objects may do anything when they are asked.
                if issubclass(type(value), (type, types.FunctionType, types.BuiltinFunctionType)):
                    owner = value.__module__
                    if isinstance(owner, str) and owner.partition(".")[0] == top:
                        return True
    return False


_handlers_at_start = 0


def _note_exit_handlers() -> None:
    global _handlers_at_start
    _handlers_at_start = atexit._ncallbacks()


def has_exit_handlers() -> bool:
    """Whether the flow, or what it has imported, has registered exit handlers."""
    return atexit._ncallbacks() > _handlers_at_start


forked = False  # whether this process has run no other program before


def peak_memory() -> int | None:
    """This process's peak resident memory in bytes, or None where it cannot be known."""
    if forked:  # else `ru_maxrss` counts the program before (getrusage(2))
        return _maximum()
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _maximum()


def _maximum() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
