"""Which versions of installed packages are there, told from their folders alone.

As `importlib.metadata.packages_distributions`, but for any interpreter's folders, and only as far
as it is asked: that function reads the file list of every package, which takes half a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_TOP = re.compile(
    rb"^([^/,.\n]+)(?:/__init__\.pyc?|\.(?:py|so|pyd|abi3[^,]*|cpython[^,]*)),", re.MULTILINE
)


def versions(modules: Iterable[str], folders: Iterable[str]) -> dict[str, str]:
    """The version of the package that each top-level module comes from.

    Args:
        modules: Names of top-level modules.
        folders: Where packages are installed; the first that has one counts.

    Returns:
        module → version, for those that come from a package.
    """
    states = tuple((folder, stamp) for folder in folders if (stamp := _stamp(folder)))
    return dict(_versions(tuple(modules), states))


@lru_cache(maxsize=256)
def _versions(
    modules: tuple[str, ...], states: tuple[tuple[str, int], ...]
) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for module in modules:
        for folder, stamp in states:
            version = _named(folder, stamp).get(_normal(module))
            if version is None:
                version = _by_content(folder, stamp).get(module)
            if version is not None:
                found[module] = version
                break
    return tuple(found.items())


def _stamp(folder: str) -> int:
    """When a package was last installed there or removed; 0 if there is no such folder."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@lru_cache(maxsize=32)
def _named(folder: str, stamp: int) -> dict[str, str]:
    """Version by the package's own name, which most modules share."""
    return {_normal(name): version for name, version, _ in _infos(folder, stamp)}


@lru_cache(maxsize=32)
def _by_content(folder: str, stamp: int) -> dict[str, str]:
    """Version by the names of the modules that packages of another name bring."""
    found: dict[str, str] = {}
    for name, version, info in _infos(folder, stamp):
        tops = _tops(info)
        if {_normal(top) for top in tops} != {_normal(name)}:
            found.update(dict.fromkeys(tops, version))
    return found


@lru_cache(maxsize=32)
def _infos(folder: str, _stamp: int) -> list[tuple[str, str, Path]]:
    infos = []
    for entry in Path(folder).iterdir():
        match = _INFO.fullmatch(entry.name)
        if match is not None:
            infos.append((match["name"], match["version"], entry))
    return infos


def _tops(info: Path) -> list[str]:
    try:
        return (info / "top_level.txt").read_text("utf-8", "replace").split()
    except OSError:  # only some tools write it
        pass
    try:
        listed = (info / "RECORD").read_bytes()
    except OSError:
        return []
    return sorted({top.decode("utf-8", "replace") for top in _TOP.findall(listed)})
