"""What an interpreter must have for kernels of ours, and what it says if it has not.

Any Python can read this file, back to 2.7. It looks at versions without importing ipykernel: what
that does is still to be observed.
"""

import json
import os
import re
import sys

PYTHON = (3, 10)  # the oldest whose kernels are ours
IPYKERNEL = (6, 29)
UNFIT_EXIT = 3


def unfit(why):  # type: (str) -> bytes
    """What tells a conductor that this interpreter's kernels can only be plain ones.

    Args:
        why: What is missing or too old, as the end of a sentence that begins with the interpreter.
    """
    told = {
        "unfit": why,
        "interpreter": sys.executable,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "ipykernel": ipykernel_version(),
        "folders": [path for path in sys.path if os.path.isdir(path)],
        "needs": "Python " + _text(PYTHON) + " and ipykernel " + _text(IPYKERNEL) + " or later",
    }
    return (json.dumps(told) + "\n").encode("utf-8")


def too_old():  # type: () -> str
    """Why the versions of this interpreter and of its ipykernel do not do; empty if they do."""
    version = ipykernel_version()
    if not version:
        return "has no ipykernel"
    if sys.version_info[:2] < PYTHON:
        return "is older than Python " + _text(PYTHON)
    if tuple(int(part) for part in re.findall("[0-9]+", version)[:2]) < IPYKERNEL:
        return "has an ipykernel older than " + _text(IPYKERNEL)
    return ""


def ipykernel_version():  # type: () -> str
    """The version of this interpreter's ipykernel, read from its file; empty if there is none."""
    for folder in _places():
        try:
            with open(os.path.join(folder, "_version.py")) as file:
                text = file.read()
        except IOError:
            continue
        found = re.search("__version__ *= *['\"]([0-9][^'\"]*)", text)
        parts = re.search(r"version_info *= *\(([^)]*)\)", text)  # ipykernel 5
        numbers = re.findall("[0-9]+", parts.group(1)) if parts else ["0"]
        return found.group(1) if found else ".".join(numbers)
    return ""


def _places():  # type: () -> list[str]
    try:
        from importlib.util import find_spec
    except ImportError:  # Python 2
        return [os.path.join(folder, "ipykernel") for folder in sys.path]
    spec = find_spec("ipykernel")
    return list(spec.submodule_search_locations or ()) if spec else []


def _text(version):  # type: (tuple[int, ...]) -> str
    return ".".join(str(part) for part in version)
