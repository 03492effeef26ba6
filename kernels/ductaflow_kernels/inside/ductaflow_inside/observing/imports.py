"""What the import system was asked, and where it looked: modules, packages' versions, entry points.

A module that is imported from an installed package was looked for in the folders before it, and one
that is found nowhere in all of them. It counts what was asked since `watch`: in a template by what
is imported in advance, in a kernel by its flow. What a library asks for and does not find counts
as a package that is not installed, not by the folders.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import PathFinder
from typing import Any

from ductaflow_inside.observing import asking
from ductaflow_inside.packages import HERE, installed

ENTRY_POINTS = "entry points of "  # before a group's name, where packages' names are
DISTRIBUTIONS = "all packages"

Answers = dict[str, "bool | None"]  # by name: whether it was found there; None: to be looked at

_places: dict[str, Answers] = {}  # folder → what was asked there, with `/` if as a namespace too
# Top-level name → the entry of the path that had it; empty if something else had it, else None.
_found: dict[str, str | None] = {}
_ahead: dict[str, str | None] = {}  # the same of what was imported in advance
_named: dict[str, None] = {}  # packages whose presence was asked for, and groups of entry points
_path_at_start: list[str] = []
_is_ahead = True
_watching = _installed = False

# What belongs to a kernel itself, and asks for what may be there on its own behalf.
_KERNEL = frozenset({
    "IPython", "_distutils_hack", "_pydevd_bundle", "asttokens", "comm", "debugpy", "decorator",
    "ductaflow", "ductaflow_kernels", "executing", "ipykernel", "jedi", "jupyter_client",
    "jupyter_core", "jupytext", "matplotlib_inline", "nbconvert", "nbformat", "nest_asyncio",
    "parso", "prompt_toolkit", "psutil", "pure_eval", "pydevd", "pygments", "stack_data", "tornado",
    "traitlets", "zmq",
})  # fmt: skip
_FLOW, _LIBRARY, _KERNEL_ITSELF = range(3)


def watch() -> None:
    """Note from now on what is asked."""
    global _watching, _installed
    if not _installed:
        bootstrap = sys.modules["importlib._bootstrap"]
        for module in (bootstrap, importlib.util):  # which has taken its own
            module._find_spec = _noting(module._find_spec)  # type: ignore[attr-defined]
        found = PathFinder.find_distributions
        PathFinder.find_distributions = staticmethod(_noting_packages(found))  # type: ignore[method-assign]
    _watching = _installed = True


def pause() -> None:
    """Note nothing until `watch`, of what is done for no flow."""
    global _watching
    _watching = False


def begin() -> None:
    """Take what comes from now on for the flow's own, in its folder and with its path."""
    global _is_ahead
    watch()
    _ahead.update(_found)
    _found.clear()
    _places.clear()
    _is_ahead = False
    _path_at_start[:] = _entries(sys.path)


# --- modules ------------------------------------------------------------------------------------


def _noting(original: Callable[..., Any]) -> Callable[..., Any]:
    def find_spec(name: str, path: Any, target: Any = None) -> Any:
        spec = original(name, path, target)
        if _watching:
            # A path or a spec may be of somebody's own making.
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                _note(name, path, spec, sys._getframe(1))
        return spec

    return find_spec


def _note(name: str, path: Any, spec: Any, frame: Any) -> None:
    if path is not None:
        first = next(iter(path), "")
        if not _is_installed(first):  # what is in an installed package goes by its version
            _note_places(name.rpartition(".")[2], path, spec)
        return
    if getattr(spec, "origin", None) in ("built-in", "frozen"):
        return
    where = None if spec is None else _entry_of(spec, name)
    ours = bool(where) and _is_installed(where)
    standard = name in sys.stdlib_module_names
    who = _who(frame)
    if who == _KERNEL_ITSELF and (_is_ahead or ours or spec is None):
        return
    if ours or spec is None:
        if standard and (who == _LIBRARY or spec is None):
            return
        if who == _LIBRARY and spec is None:
            _found[name] = None
            return
    _found[name] = where
    _note_places(name, sys.path, spec)


def _note_places(name: str, path: Iterable[Any], spec: Any) -> None:
    """That a name was looked for in folders, up to the one where it was found."""
    if _is_ahead or not _is_askable(name):
        return
    where = None if spec is None else _entry_of(spec, name)
    plain = bool(where) or not (spec is None or _is_namespace(spec))
    asked = name if plain else f"{name}/"
    for folder in _entries(path):
        if not _is_installed(folder):
            parts = not plain and os.path.isdir(os.path.join(folder, name))
            _places.setdefault(folder, {})[asked] = folder == where or parts
        if folder == where:
            return


def _is_askable(name: str) -> bool:
    """Whether a record can hold a name: it may be any text."""
    return not any(each.isspace() or each in "=/" for each in name)


@functools.lru_cache(maxsize=4096)
def _is_installed(folder: str) -> bool:
    return installed(folder + os.sep)


def _entries(path: Iterable[Any]) -> list[str]:
    """The folders of a path, absolute."""
    return [os.path.abspath(entry) for entry in path if isinstance(entry, str)]


def _is_namespace(spec: Any) -> bool:
    return spec.origin is None and spec.submodule_search_locations is not None


def _entry_of(spec: Any, name: str) -> str:
    """The entry of the path in which a module was found, or empty.

    The parts of a namespace are found in several; it counts as a package if all are installed.
    """
    if _is_namespace(spec):
        folders = [os.path.dirname(part) for part in spec.submodule_search_locations]
        return folders[0] if folders and all(map(_is_installed, folders)) else ""
    if not isinstance(spec.origin, str):
        return ""
    folder = os.path.dirname(os.path.abspath(spec.origin))
    package = spec.submodule_search_locations is not None
    return os.path.dirname(folder) if package and os.path.basename(folder) == name else folder


def _who(frame: Any) -> int:
    """On whose behalf is asked: the flow's, a library's, or the kernel's own."""
    while frame is not None and _is_between(frame):
        frame = frame.f_back
    if frame is None:
        return _KERNEL_ITSELF
    top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if top in _KERNEL or frame.f_code.co_filename.startswith(HERE):
        return _KERNEL_ITSELF
    return _LIBRARY if asking.is_library(frame) else _FLOW


_BETWEEN = frozenset({"importlib", "pkgutil", "runpy"})


def _is_between(frame: Any) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in _BETWEEN


# --- packages -----------------------------------------------------------------------------------


def _noting_packages(original: Callable[..., Any]) -> Callable[..., Any]:
    def find_distributions(*args: Any, **kwargs: Any) -> Any:
        if _watching:
            _note_packages(args[0] if args else kwargs.get("context"), sys._getframe(1))
        return original(*args, **kwargs)

    return find_distributions


def _note_packages(context: Any, frame: Any) -> None:
    """That packages' metadata was asked for: of one by its name, of a group, or of all."""
    group = None
    while frame is not None and _is_between(frame):
        if frame.f_code.co_name == "entry_points" and "params" in frame.f_locals:
            group = frame.f_locals["params"].get("group", "")
        frame = frame.f_back
    who = _who(frame)
    name = getattr(context, "name", None)
    if who == _KERNEL_ITSELF:
        return
    if name is not None:
        _named[str(name)] = None
    elif group:
        _named[f"{ENTRY_POINTS}{group}"] = None
    elif who == _FLOW:  # a library looks for some of them, which only it knows
        _named[DISTRIBUTIONS] = None


# --- the report ---------------------------------------------------------------------------------


def declare_package(name: str) -> None:
    """Note that an installed module was used, or that it is not there, as if it had been imported.

    Args:
        name: Its name, or a package's; or a question about all packages.
    """
    _named[name] = None


def declare(folder: str, answer: str) -> None:
    """Note that modules were looked for in a folder, as if they had been imported.

    Args:
        folder: The folder, absolute.
        answer: What was asked and found, as records have it.
    """
    for word in answer.split():
        _places.setdefault(folder, {}).setdefault(word.partition("=")[0], None)


def places() -> dict[str, Answers]:
    """By folder, what was looked for there: name → whether it was there.

    What was imported ahead would have been looked for in the folders before its own.
    """
    found = {folder: dict(names) for folder, names in _places.items()}
    for path in (_path_at_start, _entries(sys.path)):
        for name, where in _ahead.items():
            if where in path and name not in _found:
                for folder in path[: path.index(where)]:
                    if not _is_installed(folder):
                        found.setdefault(folder, {}).setdefault(name, None)
    return found


def absent() -> list[str]:
    """Top-level modules that were found nowhere, and packages of which it is not known."""
    found = {**_ahead, **_found}
    missing = [n for n, where in found.items() if where is None and n not in sys.modules]
    return [*missing, *_named]


def packages() -> list[str]:
    """Installed modules that were found, imported or not, and what was asked of all packages."""
    found = {**_ahead, **_found}
    tops = [name for name, where in found.items() if where and _is_installed(where)]
    return [*(name for name in tops if name not in sys.stdlib_module_names), *_named]
