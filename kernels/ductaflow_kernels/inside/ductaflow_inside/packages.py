"""Where the interpreter and its packages lie: what is found there belongs to no project.

As a script it tells this of the interpreter that runs it, as JSON.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import site
import sys
import sysconfig
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep  # where this package's own files lie
_PACKAGES = ("site-packages", "dist-packages")


def installed(path: str) -> bool:
    """Whether a file belongs to the interpreter or its packages, not to a project."""
    if path in ("built-in", "frozen"):
        return True
    return any(path.startswith(folder + os.sep) for folder in package_folders())


@functools.lru_cache(maxsize=1)
def package_folders() -> tuple[str, ...]:
    """The folders of the standard library and of installed packages, in the path's order.

    To be called before anybody has changed `sys.path`.
    """
    library = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    own = _own_folders()
    named = [folder for folder in sys.path if _is_named(folder)]
    found = {os.path.abspath(f) for f in (*library, *own, *added_folders(own), *named) if f}
    places = {os.path.abspath(folder): at for at, folder in reversed(list(enumerate(sys.path)))}
    return tuple(sorted(found, key=lambda folder: (places.get(folder, len(places)), folder)))


@functools.lru_cache(maxsize=1)
def executable_folders() -> tuple[str, ...]:
    """The folders through which links lead from the interpreter's name to its file."""
    found: list[str] = []
    path = sys.executable
    while path and os.path.dirname(path) not in found:
        found.append(os.path.dirname(path))
        if os.path.islink(path):
            path = os.path.abspath(os.path.join(found[-1], os.readlink(path)))
    return tuple(found)


def _own_folders() -> list[str]:
    """Where this interpreter looks for packages by itself, and for the user's."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    folders += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return list(dict.fromkeys(filter(None, folders)))


def _is_named(folder: str) -> bool:
    return os.path.basename(folder.rstrip(os.sep)) in _PACKAGES


def added_folders(folders: list[str]) -> list[str]:
    """What `.pth` files add to the path and has installed packages in it.

    What is being developed is added so, too: it has no `.dist-info`, and is a project's code.
    """
    lines = (line for file in path_files(folders) for line in _lines(file))
    found = (os.path.join(folder, line) for folder, line in lines)
    return [path for path in dict.fromkeys(found) if _is_named(path) or _has_packages(path)]


def path_files(folders: list[str]) -> list[str]:
    """The `.pth` files in these folders."""
    found = []
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        found += [os.path.join(folder, name) for name in sorted(names) if name.endswith(".pth")]
    return found


def _lines(file: str) -> list[tuple[str, str]]:
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            lines = [line.strip() for line in text]
    except OSError:
        return []
    folder = os.path.dirname(file)
    return [(folder, ln) for ln in lines if ln and not ln.startswith(("#", "import ", "import\t"))]


def _has_packages(folder: str) -> bool:
    try:
        return any(name.endswith(".dist-info") for name in os.listdir(folder))
    except OSError:
        return False


def told() -> dict[str, Any]:
    """What is compared between two interpreters, and what it hangs on.

    Returns:
        `python`, the version; `folders`, where packages lie, in the path's order; `read`, the
        files and folders that told it.
    """
    own = _own_folders()
    folders = package_folders()
    read = [os.path.join(sys.prefix, "pyvenv.cfg"), *own, *path_files(own), *folders]
    return {
        "python": platform.python_version(),
        "folders": folders,
        "read": list(dict.fromkeys(read)),
    }


def as_started(pythonpath: str) -> bool:
    """Whether this process looks for packages where a new one of its interpreter would.

    Args:
        pythonpath: What PYTHONPATH would be.
    """
    flags = sys.flags
    if flags.isolated or flags.no_user_site or flags.ignore_environment or flags.no_site:
        return False
    own = _own_folders()
    given = {folder for folder in pythonpath.split(os.pathsep) if _is_named(folder)}
    named = {folder for folder in sys.path if _is_named(folder)}
    return given <= named <= {*own, *added_folders(own), *given}


if __name__ == "__main__":
    print(json.dumps(told()))
