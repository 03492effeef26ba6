"""Set up an instance's folder as for a run, and run nothing: for people who step through it."""

from __future__ import annotations

import json
from pathlib import Path

from ductaflow._version import __version__
from ductaflow.documents.notebook import Notebook
from ductaflow.errors import ArtifactError
from ductaflow.files import jsonio
from ductaflow.history.lock import instance_lock
from ductaflow.history.run import Run
from ductaflow.model.records import RunRecord, Status
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.layout import ArtifactPaths


def set_up(plan: InstancePlan, paths: ArtifactPaths) -> Run:
    """Write the config and the notebook that a run would execute.

    Args:
        plan: What would be run.
        paths: Where.

    Returns:
        The run as it is planned.

    Raises:
        InstanceBusy: It is being run.
        ArtifactError: There is an executed notebook already, which stays; or a file cannot be
            written.
    """
    with instance_lock(paths):
        if paths.notebook.exists() and not _is_set_up(paths.notebook):
            raise ArtifactError(
                f"{paths.notebook} is there and may have been executed, so it stays; set this up "
                "in another folder, or use debug_flow, which writes files of other names"
            )
        write_notebook(plan, paths.notebook)
        if plan.config is not None:
            jsonio.write_atomic(paths.config, jsonio.dumps(plan.config) + "\n")
    record = RunRecord(Status.PLANNED, plan.flow_display, plan.step, plan.instance, started="")
    return Run(record, paths, planned=plan.config)


def write_notebook(plan: InstancePlan, path: Path) -> None:
    """Write the notebook that a run would execute, ready to be opened in its folder.

    Raises:
        ArtifactError: It cannot be written.
    """
    own = {"version": __version__, "flow": plan.flow_display, "status": Status.PLANNED.value}
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernelspec, **plan.flow.metadata, "ductaflow": own}
    jsonio.write_atomic(path, Notebook(plan.cells, metadata).dumps())


def _is_set_up(notebook: Path) -> bool:
    """Whether a notebook was only set up, and no cell of it has been executed."""
    try:
        content = json.loads(notebook.read_bytes())
        executed = any(cell.get("execution_count") for cell in content["cells"])
        status = content["metadata"]["ductaflow"]["status"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return status == Status.PLANNED.value and not executed
