"""Names of steps and instances: what they may be, so that they never lead out of `runs/`."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from ductaflow.errors import NameRefused

INDEX_PAGE = "index.html"

SUMMARY = "bulk_summary.json"

INDEX_FILES = "index_files"
"""The folder beside a page about many runs, which may lie in `runs/` itself."""

MAX_NAME = 120
"""Bytes of a name in UTF-8. A file system takes 255 for one name and Windows by default 260
characters for a whole path, and `runs/{step}/{instance}/{flow}.ipynb` holds three of them."""

_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE)

_STRANGE = re.compile('[<>:"|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')


def check_name(name: object, what: str) -> str:
    """The name of a step or an instance, if it is one folder's name on every system.

    Args:
        name: The name.
        what: What it names, for the message: `step` or `instance`.

    Returns:
        The name in Unicode's composed form (NFC), so that it is one folder on macOS too.

    Raises:
        NameRefused: It is not; the message says why.
    """
    if not isinstance(name, str):
        raise NameRefused(
            f"the {what} name {name!r} is of type {type(name).__name__}; give a string, "
            f"as {str(name)!r}"
        )
    composed = unicodedata.normalize("NFC", str.__str__(name))
    reason = _unfit(composed)
    if not reason and what == "step" and composed.casefold() == INDEX_FILES:
        reason = f"is that of the folder where {INDEX_PAGE} keeps its files"
    if reason:
        raise NameRefused(
            f"the {what} name {name!r} {reason}; it becomes a folder and must be one on Linux, "
            "macOS and Windows: use letters, digits, `-`, `_` and inner dots"
        )
    return composed


@lru_cache(maxsize=1024)
def _unfit(name: str) -> str:
    """Why `name` cannot be a folder's name somewhere; empty if it can."""
    if not name.strip():
        return "is empty"
    if name in (".", ".."):
        return "means a folder that is already there"
    if "/" in name or "\\" in name:
        return "has a path separator"
    if strange := sorted(set(_STRANGE.findall(name))):
        if any(unicodedata.category(c) == "Cc" for c in strange):
            return "has a control character"
        if strange[-1] >= "\ud800":
            return "has half of a surrogate pair, which no UTF-8 name can hold"
        return f"has {' '.join(strange)}, which Windows refuses"
    if name[0] == ".":
        return "begins with a dot: hidden names are ductaflow's own"
    if name[0].isspace():
        return "begins with a space"
    if name[-1] == "." or name[-1].isspace():
        return "ends in a dot or space, which Windows drops"
    if _DEVICE.fullmatch(name.partition(".")[0].rstrip()):
        return f"is a device on Windows ({name.partition('.')[0].rstrip()})"
    size = len(name.encode())
    if size > MAX_NAME:
        return f"takes {size} bytes where {MAX_NAME} are allowed, so that paths stay usable"
    return ""
