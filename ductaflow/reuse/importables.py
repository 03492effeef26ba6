"""What modules can be imported from a folder, as far as a run has looked for them there.

In a record it is a word a name, `zones=module`, with a slash where the name would also have been
found as a folder without an `__init__` (a namespace package): `zones/=`. Nothing stands for no such
module, and `?` for one that came or went while the run looked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

PACKAGE, EXTENSION, MODULE, BYTECODE, FOLDER = (
    "package",
    "extension",
    "module",
    "bytecode",
    "folder",
)
UNKNOWN = "?"
_SUFFIXES = {".so": EXTENSION, ".pyd": EXTENSION, ".py": MODULE, ".pyc": BYTECODE}
_ORDER = (EXTENSION, MODULE, BYTECODE)  # in which the import system takes them


def found_in(folder: str, asked: Iterable[str]) -> dict[str, str]:
    """What there is of modules in a folder.

    Args:
        folder: Its path; it may be missing.
        asked: The modules' names, with a slash as above.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        names = []
    tops: dict[str, list[str]] = {}
    for name in names:
        tops.setdefault(name.partition(".")[0], []).append(name)
    return {each: _answer(folder, each, tops) for each in asked}


def _answer(folder: str, asked: str, tops: Mapping[str, list[str]]) -> str:
    name = asked.rstrip("/")
    there = tops.get(name.partition(".")[0])
    if there is None:
        return ""
    is_folder = name in there and os.path.isdir(os.path.join(folder, name))
    if is_folder and "__init__" in _kinds(os.path.join(folder, name)):
        return PACKAGE
    kinds = {_SUFFIXES.get(os.path.splitext(n)[1]) for n in there if n.startswith(f"{name}.")}
    kind = next((kind for kind in _ORDER if kind in kinds), "")
    return kind or (FOLDER if is_folder and asked.endswith("/") else "")


def _kinds(folder: str) -> set[str]:
    """The names of the modules in a folder."""
    with os.scandir(folder) as entries:
        names = [os.path.splitext(entry.name) for entry in entries]
    return {stem.partition(".")[0] for stem, suffix in names if suffix in _SUFFIXES}


def describe(found: Mapping[str, str]) -> str:
    """Answers as a record has them."""
    return " ".join(f"{name}={found[name]}" for name in sorted(found))


def renewed(answer: str, folder: str) -> str:
    """What a record would have now of what was asked."""
    return describe(found_in(folder, [name for name, _ in _parsed(answer)[0]]))


def changes(answer: str, folder: str) -> Iterator[str]:
    """What has changed of what a record has of a folder, as the end of a sentence."""
    words, tops = _parsed(answer)
    if tops is not None and tops.isdisjoint(_tops(folder)):
        return  # as mostly: there was nothing, and is not
    now = found_in(folder, [name for name, _ in words])
    for name, was in words:
        if now[name] != was:
            yield _change(name.rstrip("/"), was, now[name])


def _tops(folder: str) -> list[str]:
    try:
        return [name.partition(".")[0] for name in os.listdir(folder)]
    except OSError:
        return []


@lru_cache(maxsize=1024)
def _parsed(answer: str) -> tuple[tuple[tuple[str, str], ...], frozenset[str] | None]:
    """Names with what they were; where all were nothing, also how a file would begin."""
    parts = [word.partition("=") for word in answer.split()]
    words = tuple((name, was) for name, _, was in parts)
    tops = frozenset(name.rstrip("/").partition(".")[0] for name, _ in words)
    return words, None if any(was for _, was in words) else tops


def _change(name: str, was: str, now: str) -> str:
    if was == UNKNOWN:
        return f"had the module {name} for a part of its last run only"
    if not was:
        return f"has the module {name} now"
    if not now:
        return f"has no module {name} any more"
    return f"has {name} as {_SHOWN[now]} now, not as {_SHOWN[was]}"


_SHOWN = {
    PACKAGE: "a package", EXTENSION: "an extension module", MODULE: "a module",
    BYTECODE: "bytecode", FOLDER: "a plain folder",
}  # fmt: skip
