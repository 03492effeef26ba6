"""Start a kernel or a zygote, if this interpreter can: the first file that it sees of ours.

    python ductaflow_start.py kernel FOLDER OBSERVER FILE
    python ductaflow_start.py zygote FD [debugger]

Any Python can read it, back to 2.7; the files beside it need a recent one. So it looks at versions
before it imports any of them, without importing ipykernel either: what that does is still to be
observed. If they do not do, it says so in place of its first answer, and ends.
"""

import json
import os
import re
import sys

PYTHON = (3, 10)  # the oldest whose kernels are ours
IPYKERNEL = (6, 29)
UNFIT_EXIT = 3


def main():  # type: () -> None
    """Entry point."""
    here = os.path.dirname(os.path.abspath(__file__))
    if getattr(sys.flags, "safe_path", getattr(sys.flags, "isolated", False)):
        sys.path.insert(0, here)  # Python has left this folder out
    mode = sys.argv[1]
    why = too_old()
    if why:
        os.write(int(sys.argv[2]) if mode == "zygote" else 1, unfit(why))
        sys.exit(UNFIT_EXIT)
    if mode == "zygote":
        import ductaflow_zygote

        del sys.argv[1]
        ductaflow_zygote.main()
    else:
        import ductaflow_boot

        ductaflow_boot.main()


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


if __name__ == "__main__":
    main()
