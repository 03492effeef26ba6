"""What an import depends on beside its own code: variables, packages, modules of the same name.

A variable counts if an import looked it up in Python, which the template notes, or if its name
stands in a native library that was loaded, which is how `getenv` is called.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# They change with the terminal or the folder, and no import makes more of them than that.
VOLATILE = frozenset(
    {"PWD", "OLDPWD", "SHLVL", "_", "TERM", "COLUMNS", "LINES", "JPY_PARENT_PID"}
    | {"DUCTAFLOW_ROOT", "DUCTAFLOW_WORKERS", "DUCTAFLOW_OBSERVER"}
)
EVERY = "*"  # among the names looked up: all there are, as a loop over the environment does


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> set[str]:
    """Names of the variables that differ between two environments, but for volatile ones."""
    if before == now:
        return set()
    names = before.keys() | now.keys()
    return {name for name in names if before.get(name) != now.get(name)} - VOLATILE


def matter(names: set[str], looked_up: Set[str], libraries: Iterable[str]) -> bool:
    """Whether an import can have seen one of these variables.

    Args:
        names: The variables.
        looked_up: Those that were looked up in Python; may hold `EVERY`.
        libraries: Files of the native libraries that are loaded.
    """
    if not names:
        return False
    if EVERY in looked_up or not names.isdisjoint(looked_up):
        return True
    return any(_mentions(library, name) for library in libraries for name in names)


@lru_cache(maxsize=1 << 16)
def _mentions(library: str, name: str) -> bool:
    """Whether a name stands in a library as a C string, or as the end of one."""
    try:
        with (
            Path(library).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(name.encode("utf-8", "surrogateescape") + b"\0") >= 0
    except (OSError, ValueError):  # gone, or empty
        return False


def stamps(folders: Iterable[str]) -> dict[str, int]:
    """When each folder of packages was last changed: installing or upgrading one changes it."""
    found = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            found[folder] = Path(folder).stat().st_mtime_ns
    return found


def as_before(reads: Mapping[str, list[int]]) -> bool:
    """Whether files are as an import found them.

    Args:
        reads: path → time, size and inode, or nothing where there was no file.
    """
    return all(_stamp(path) == before for path, before in reads.items())


def _stamp(path: str) -> list[int]:
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_mtime_ns, found.st_size, found.st_ino]


def shadowed(folder: Path, modules: frozenset[str]) -> bool:
    """Whether a folder has a module or package that is named as one of these.

    It comes before the installed packages on the path of a kernel that works there.

    Args:
        folder: The working directory.
        modules: Top-level names.
    """
    if not modules:
        return False
    try:
        entries = [entry.name for entry in folder.iterdir()]
    except OSError:  # the kernel will tell
        return False
    named = [entry for entry in entries if entry.partition(".")[0] in modules]
    return any(
        entry.endswith((".py", ".pyc", *EXTENSION_SUFFIXES))
        or (folder / entry / "__init__.py").is_file()
        for entry in named
    )
