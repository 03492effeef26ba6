"""What a flow says that it depends on, where nobody can see it: `reads("path")`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ductaflow.model.records import RunRecord

_OBSERVED = "ductaflow_inside.observing.observed"  # a module that is there in kernels only


def depends_on(run: RunRecord, flow: str, root: Path) -> None:
    """Declare that this run depends on all that a run depends on which it has called for.

    Args:
        run: That run's record.
        flow: Its flow's file.
        root: Its project's root.
    """
    observed = sys.modules.get(_OBSERVED)
    if observed is not None:
        observed.declare(flow)
        for fact in run.inputs:
            observed.declare(
                os.path.join(root, fact.path),
                fact.role,
                answer=fact.answer,
                size=fact.size >= 0,
                time=bool(fact.mtime_ns),
            )
        for host in run.hosts:
            observed.declare(host, "host")
        for module in run.packages:
            observed.declare(module, "package")


def is_observed() -> bool:
    """Whether this is a run's kernel, where it counts what is read."""
    return _OBSERVED in sys.modules


def reads(*paths: str | os.PathLike[str]) -> None:
    """Declare that this run depends on files, as if it had opened them.

    For what cannot be observed, as a file that a database server reads. Outside a run, as in a
    plain script, nothing happens.

    Args:
        *paths: Files, there or not, and folders, which stand for all files below them; relative to
            the current folder.
    """
    observed = sys.modules.get(_OBSERVED)
    if observed is None:
        return
    for path in [os.fspath(path) for path in paths]:
        if not os.path.isdir(path):
            observed.declare(path)
            continue
        for folder, _, names in os.walk(path):
            for name in names:
                observed.declare(os.path.join(folder, name))
