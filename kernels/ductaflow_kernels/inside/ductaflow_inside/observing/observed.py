"""What a kernel notes of its own run, beside what an observer sees of it from without.

`attach` has the files that it and its children open reported to `observer`. Python alone
knows which folders a flow lists and which paths it looks for (`noting`), which variables
it asks for (`variables`), and which modules it has imported.
"""

from __future__ import annotations

import array  # noqa: F401  (send_fds imports it, when no file can be opened yet)
import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ductaflow_inside.observing import asked, imports, network, noting, syscalls, variables
from ductaflow_inside.observing.noting import Notes
from ductaflow_inside.packages import HERE, executable_folders, installed, package_folders

_ANSWER_TIMEOUT = 5.0  # seconds
_UNSEEN = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/dev/tty", "/dev/pts/", "/dev/fd/")

_attached = False  # whether an observer sees what is opened


def attach(address: str, token: str) -> None:
    """Have every file that this process and its children open reported to an observer.

    To be called before the process has a second thread.

    Args:
        address: The observer's socket.
        token: Under which it is to note them.
    """
    global _attached
    ignore = [*(folder + os.sep for folder in package_folders()), *_UNSEEN]
    request = {"do": "watch", "token": token, "pid": os.getpid(), "ignore": ignore}
    syscalls.be_traceable()
    with socket.socket(socket.AF_UNIX) as channel:
        try:
            channel.connect(address)
        except OSError:  # it has been killed: the audit hook has to do
            return
        try:
            listener = syscalls.install()
        except OSError as e:
            taken = syscalls.taken(e)
        else:
            _attached = True
            socket.send_fds(channel, [json.dumps(request).encode() + b"\n"], [listener])
            os.close(listener)
            return
    # A kernel within a kernel has a filter already. Its observer may be this one.
    _attached = taken and _share(address, request)


def _share(address: str, request: dict[str, Any]) -> bool:
    """Whether the observer sees this process by the filter of one that started it.

    It is told of this one, then something is opened, then it is asked whether it has seen that.
    """
    probe = os.path.join(request["token"], "is this seen")
    try:
        _ask(address, {**request, "do": "share"})
        with contextlib.suppress(OSError):
            os.close(os.open(probe, os.O_RDONLY))
        return _ask(address, {"do": "seen", "token": request["token"], "path": probe}) is True
    except (OSError, ValueError):
        return False


def _ask(address: str, request: dict[str, Any]) -> Any:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(_ANSWER_TIMEOUT)
        channel.connect(address)
        channel.sendall(json.dumps(request).encode() + b"\n")
        with channel.makefile("rb") as answer:
            return json.loads(answer.readline())


_notes: Notes | None = None


def begin(root: str, folder: str) -> None:
    """Begin to note.

    Args:
        root: The project root, absolute; what lies elsewhere is not looked for by flows.
        folder: The kernel's private folder.
    """
    global _notes
    _notes = Notes(os.path.realpath(root), native=_attached)
    noting.install(_notes)
    imports.begin()
    network.install()
    variables.begin(folder)


def declare(
    path: str, role: str = "data", *, answer: str = "", size: bool = False, time: bool = False
) -> None:
    """Note that the flow depends on a path, as if it had used it.

    Args:
        path: The path.
        role: `data`, `module`, `folder`, `present`, `missing`, `link`, `metadata` or `imports`;
            `host` of a host's name, `package` of an installed module's.
        answer: What was answered, of `metadata` and `imports`, as records have it.
        size: Whether its size was asked, likewise.
        time: Whether its modification time was asked, likewise.
    """
    if _notes is None:
        return
    if role == "host":
        network.note(path)
        return
    if role == "package":
        imports.declare_package(path)
        return
    full = _notes.links.walk(os.path.join(os.getcwd(), path))
    if role == "data":
        _notes.declared[full] = None
    elif role == "module":
        _notes.modules[full] = None
    elif role == "folder":
        _notes.listed[full] = None
    elif role == "imports":
        imports.declare(full, answer)
    elif role in ("metadata", "present"):
        noting.note_state(_notes, full, answer.split(), size=size, time=time)
    elif role != "link":  # which was noted on the way
        _notes.looked_for.setdefault(full, False)


def report(ahead: Iterable[str], newer: Sequence[str]) -> dict[str, Any]:
    """What was noted, in JSON's types.

    Args:
        ahead: Names of top-level modules that were imported for the flow before it began.
        newer: Names of the modules that it has imported itself.

    Returns:
        Nothing where nothing is observed; else `native`, `opened`, `listed`, `quiet`, `looked_for`,
        `asked`, `access`, `links`, `declared`, `modules` (files of the project's modules),
        `imports` (see `imports.places`), `packages` (the names of installed top-level
        modules), `absent` (of those that were found nowhere), `folders` (where the interpreter's
        own files lie), `network` (see `network.report`), and what
        `variables.report` has.
    """
    if _notes is None:
        return {}
    for path, there in asked.inputs():  # by what was imported ahead
        declare(path, "data" if there else "missing")
    modules, packages = _modules(newer)
    # Where imports are looked for outside the project, as of what is being developed, is listed by
    # each interpreter that a flow starts.
    quiet = _notes.quiet.union(path for path in sys.path if not path.startswith(_notes.root))
    packages.update(name for name in ahead if name not in sys.stdlib_module_names)
    return {
        "native": _notes.native,
        "opened": [[path, *facts] for path, facts in _notes.opened.items()],
        "listed": list(_notes.listed),
        "quiet": sorted(f for f in quiet.difference(_notes.listed) if not installed(f)),
        "looked_for": list(_notes.looked_for.items()),
        "asked": [[path, *answer] for path, answer in _notes.asked.items()],
        "access": [[path, mode, found] for (path, mode), found in _notes.access.items()],
        "links": _notes.links.found,
        **variables.report(),
        "declared": list(_notes.declared),
        "modules": list({**modules, **_notes.modules}),
        "imports": {_notes.links.walk(path): names for path, names in imports.places().items()},
        "packages": sorted(packages.union(imports.packages())),
        "absent": sorted(imports.absent()),
        "folders": list(
            dict.fromkeys(
                [
                    *(*package_folders(), sys.prefix, sys.base_prefix, sys.exec_prefix),
                    *executable_folders(),
                ]
            )
        ),
        "network": network.report(),
    }


def _modules(names: Sequence[str]) -> tuple[dict[str, None], set[str]]:
    """Files of the project's modules among these, and the packages that the others are of.

    Those that were there before the flow are not touched: each would be a page copied after a fork.
    """
    modules: dict[str, None] = {}
    packages: set[str] = set()
    for name in names:
        # Not getattr: a lazy module would import what it stands for.
        file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
        if not isinstance(file, str) or name == "__main__":
            continue
        top = name.partition(".")[0]
        if not installed(file):
            if not os.path.abspath(file).startswith(HERE):
                modules[_notes.links.walk(os.path.abspath(file)) if _notes else file] = None
        elif top not in sys.stdlib_module_names:
            packages.add(top)
    return modules, packages
