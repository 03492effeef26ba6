"""Which versions of installed packages are there, told from their folders alone.

As `importlib.metadata.packages_distributions`, but for any interpreter's folders, and only as far
as it is asked: that function reads the file list of every package, which takes half a second.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_POINTS = "entry_points.txt"
_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_TOP = re.compile(
    rb"^([^/,.\n]+)(?:/__init__\.pyc?|\.(?:py|so|pyd|abi3[^,]*|cpython[^,]*)),", re.MULTILINE
)

UNVERSIONED = "there, of no known version"
ENTRY_POINTS, DISTRIBUTIONS = "entry points of ", "all packages"  # as in `observing.imports`


def versions(modules: Iterable[str], folders: Iterable[str]) -> dict[str, str]:
    """The version of the package that each top-level module comes from.

    Args:
        modules: Names of top-level modules, or of packages; or `entry points of {group}` or
            `all packages`, of which the version is a hash.
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
        if is_question(module):
            found[module] = _answer(module, states)
            continue
        for folder, stamp in states:
            version = _named(folder, stamp).get(_normal(module))
            if version is None:
                version = _by_content(folder, stamp).get(module)
            if version is None and module in _bare(folder, stamp):
                version = UNVERSIONED
            if version is not None:
                found[module] = version
                break
    return tuple(found.items())


def is_question(name: str) -> bool:
    """Whether a name stands for what a run asked about all packages, not for one of them."""
    return name.startswith(ENTRY_POINTS) or name == DISTRIBUTIONS


def _answer(question: str, states: tuple[tuple[str, int], ...]) -> str:
    """A hash of what is answered now."""
    if question == DISTRIBUTIONS:
        told = sorted((name, version) for name, version, _ in _first(states))
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    group = question.removeprefix(ENTRY_POINTS)
    points = [
        point
        for *_, info in _first(states)
        for point in _points(info, _stamp(info / _POINTS)).get(group, ())
    ]
    return hashlib.sha256(repr(sorted(points)).encode()).hexdigest()[:16]


def _first(states: tuple[tuple[str, int], ...]) -> list[tuple[str, str, Path]]:
    """All packages, those of one name from the first folder that has it."""
    found: dict[str, tuple[str, str, Path]] = {}
    for folder, stamp in states:
        for name, version, info in _infos(folder, stamp):
            found.setdefault(_normal(name), (name, version, info))
    return list(found.values())


@lru_cache(maxsize=4096)
def _points(info: Path, _: int) -> dict[str, list[tuple[str, str]]]:
    """A package's entry points by group: name and value."""
    try:
        text = (info / _POINTS).read_text("utf-8", "replace")
    except OSError:
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    group = ""
    for line in map(str.strip, text.splitlines()):
        name, is_point, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif is_point and not line.startswith(("#", ";")):
            found.setdefault(group, []).append((name.strip(), value.strip()))
    return found


def _stamp(folder: str | Path) -> int:
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


@lru_cache(maxsize=32)
def _bare(folder: str, _stamp: int) -> frozenset[str]:
    """The modules that lie there, of a package or not."""
    if not folder.endswith("-packages"):  # the standard library's, of which the version is Python's
        return frozenset()
    names = os.listdir(folder)
    suffixes = (".py", ".pyc", ".so", ".pyd")
    modules = {name.partition(".")[0] for name in names if name.endswith(suffixes)}
    return frozenset(modules | {n for n in names if "." not in n and n != "__pycache__"})


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
