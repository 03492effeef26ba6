"""What a caller of `os.stat` and the like asks about a path, told from who calls.

`exists` asks less than `isfile`, and that less than `getmtime`. A caller that takes a whole
`os.stat_result` asks what its code names of it, as `st_size`, and anything if it names nothing.
"""

from __future__ import annotations

import dis
import os
from typing import Any

from ductaflow_inside.packages import HERE, package_folders

PRESENCE = 0
KIND, SIZE, TIME = 1, 2, 4
FOLDER_TIME = 8  # asked in so many words, so that it counts for a folder as well
UNLINKED = 16  # whether it is a link: it is none
# Asked by a library: does not count of a file whose bytes count anyway.
LIBRARY_SIZE, LIBRARY_TIME = 64, 128
BY_PROJECT = 256  # asked by the project's code, and about this path for its own sake

_PATHS = frozenset({
    "genericpath", "posixpath", "ntpath", "os", "pathlib", "pathlib._local", "pathlib._abc",
})  # fmt: skip
_ANSWERS = {
    "exists": PRESENCE, "lexists": PRESENCE, "samefile": PRESENCE, "touch": PRESENCE,
    "owner": PRESENCE, "group": PRESENCE, "getatime": PRESENCE,
    "getsize": KIND | SIZE,
    "getmtime": TIME | FOLDER_TIME, "getctime": TIME | FOLDER_TIME,
}  # fmt: skip
_TIMES = frozenset({"st_mtime", "st_mtime_ns", "st_ctime", "st_ctime_ns", "ST_MTIME", "ST_CTIME"})
_SIZES = frozenset({"st_size", "ST_SIZE", "st_blocks"})
# What these are told ends up in what they make or answer.
_TELLING = frozenset({"zipfile", "zipfile._path", "tarfile", "filecmp"})
_OURS = ("ductaflow", "ductaflow_kernels")

_names: dict[Any, frozenset[str]] = {}
_libraries: dict[str, bool] = {}


def asked(frame: Any, name: str) -> int:
    """What is asked about a path.

    Args:
        frame: Of the caller.
        name: The function of `os` that it has called, or the method of a folder's entry.

    Returns:
        `KIND`, `SIZE`, …, or'ed; `PRESENCE` if no more than whether it is there.
    """
    answers, resolved = -1, False
    while frame is not None and frame.f_globals.get("__name__") in _PATHS:
        by = frame.f_code.co_name
        if answers < 0 and by not in ("stat", "lstat"):
            answers = _ANSWERS.get(by, KIND)
        resolved = resolved or by in ("realpath", "resolve")
        name = by
        frame = frame.f_back
    if frame is None:
        return max(answers, PRESENCE)
    if resolved:
        return KIND
    if is_library(frame):
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in _OURS or frame.f_code.co_filename.startswith(HERE):
            return PRESENCE
        what = KIND | SIZE | TIME if answers < 0 else answers
        if name in _named(frame.f_code) and module not in _TELLING:
            return (what & KIND) | (what & SIZE and LIBRARY_SIZE) | (what & TIME and LIBRARY_TIME)
        return what | BY_PROJECT  # it was given the function
    return (answers if answers >= 0 else _of_result(frame)) | BY_PROJECT


def is_library(frame: Any) -> bool:
    """Whether a frame runs an installed module's code, the interpreter's own, or ours."""
    file = frame.f_code.co_filename
    known = _libraries.get(file)
    if known is None:
        places = (HERE, "<frozen", *(folder + os.sep for folder in package_folders()))
        known = _libraries[file] = file.startswith(places)
    return known or frame.f_globals.get("__name__", "").partition(".")[0] in _OURS


def is_ours(frame: Any) -> bool:
    """Whether it is ductaflow that asks, also by a function of the standard library."""
    while frame is not None and frame.f_globals.get("__name__") in _PATHS:
        frame = frame.f_back
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in _OURS


def _of_result(frame: Any) -> int:
    """What the project's code asks of a whole result."""
    names = _named(frame.f_code)
    if any(name.startswith(("st_", "ST_")) for name in names):
        times = TIME | FOLDER_TIME if names & _TIMES else 0
        return KIND | (SIZE if names & _SIZES else 0) | times
    if _is_dropped(frame):
        return KIND
    return KIND | SIZE | TIME | FOLDER_TIME


def _named(code: Any) -> frozenset[str]:
    """Names that code uses, with those of the functions in it."""
    known = _names.get(code)
    if known is None:
        inner = [_named(const) for const in code.co_consts if hasattr(const, "co_names")]
        known = _names[code] = frozenset(code.co_names).union(*inner)
    return known


def _is_dropped(frame: Any) -> bool:
    """Whether the result of the call that a frame is making is not used."""
    at = frame.f_lasti
    after = (each for each in dis.get_instructions(frame.f_code) if each.offset > at)
    following = next((each.opname for each in after if each.opname != "CACHE"), "")
    return following == "POP_TOP"
