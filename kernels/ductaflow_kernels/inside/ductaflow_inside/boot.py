"""Make a process that was started for it a kernel of ours.

It gets three pipes: stdin is the lifeline, stdout carries one line when the kernel is ready, stderr
goes to a file that the conductor quotes if the start fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
from typing import Any

from ductaflow_inside import names
from ductaflow_inside.lifeline import arm_lifeline, take_standard_pipes
from ductaflow_inside.observing import asked, observed
from ductaflow_inside.packages import package_folders
from ductaflow_inside.requirements import UNFIT_EXIT, unfit

STARTED = "started.json"


def import_without_debugger() -> None:
    """Import ipykernel as if debugpy were not installed.

    It takes a quarter of a second, and serves front ends with a debugger only. A flow can import it
    as ever.
    """
    if "debugpy" in sys.modules:
        return
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    try:
        with contextlib.suppress(ImportError):  # another version of it
            import ipykernel.debugger  # noqa: F401
    finally:
        del sys.modules["debugpy"]


def _note_start(folder: str) -> None:
    """Leave word of what the interpreter has read: that may change while the kernel waits."""
    asked.note_start(folder)
    stamps = {path: asked.stamp(path) for path in package_folders()}
    with open(os.path.join(folder, STARTED), "w", encoding="utf-8") as file:
        json.dump({**asked.reads(), **stamps}, file)


def main(args: list[str]) -> None:
    """Entry point. Arguments: FOLDER OBSERVER FILE, where the observer may be empty."""
    folder, observer, file = args
    lifeline, ready = take_standard_pipes()
    arm_lifeline(lifeline)
    random.seed()
    _note_start(folder)
    import_without_debugger()
    app = _prepared(folder, ready)
    if observer:
        observed.attach(observer, folder)  # what the kernel itself has read is no flow's input
    from ductaflow_inside.kernel.assembly import serve

    serve(app, file, folder, ready)


def _prepared(folder: str, ready: int) -> Any:
    why = names.unknown()
    if not why:
        try:
            from ductaflow_inside.kernel.assembly import prepare

            return prepare(folder)
        except names.OF_ANOTHER_VERSION:
            why = names.failed()
    os.write(ready, unfit(why))
    sys.exit(UNFIT_EXIT)
