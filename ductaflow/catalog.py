"""Find the runs that are there. The folders are the truth."""

from __future__ import annotations

import os
from pathlib import Path

from ductaflow.artifacts import read_record
from ductaflow.layout import ArtifactPaths, check_name, iter_instances, project_root
from ductaflow.model import Status
from ductaflow.run import Run


def get_all_instances(
    step: str,
    *,
    status: Status | str | None = Status.SUCCEEDED,
    root: str | os.PathLike[str] | None = None,
) -> list[Run]:
    """The instances of a step, sorted by name.

    Args:
        step: The step's name: a folder of `runs/`.
        status: Only runs that stand so; None for all that have a record.
        root: The project root; found from where the caller is, if left out.

    Returns:
        The runs; none if the step has never run.

    Raises:
        NameRefused: The step's name is no folder name.
        ValueError: There is no such status.
    """
    wanted = Status.of(status) if isinstance(status, str) else status
    runs = []
    for folder in iter_instances(project_root(root), check_name(step, "step")):
        run = load_run(folder)
        if run is not None and wanted in (None, run.status):
            runs.append(run)
    return runs


def load_run(folder: Path) -> Run | None:
    """The run that a folder holds; None if it has no record."""
    record = read_record(folder / "run.json")
    if record is None:
        return None
    return Run(record, ArtifactPaths.of(folder, Path(record.flow).stem))
