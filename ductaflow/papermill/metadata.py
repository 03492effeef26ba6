"""What papermill's readers look for in a notebook: the `papermill` metadata of it and its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ductaflow.flows.papermeta import times_metadata
from ductaflow.model.flows import NbCell, Tag
from ductaflow.model.records import RunRecord
from ductaflow.model.thisrun import cell_times

ERROR_TAG = "papermill-error-cell-tag"
"""What papermill tags the cells with that tell of a failure, and drops them by."""


def cell_before_run() -> dict[str, Any]:
    """A cell's metadata as it is before the first cell runs."""
    times = dict.fromkeys(("exception", "start_time", "end_time", "duration"))
    return {**times, "status": "pending"}


def after_run(notebook: Any, record: RunRecord, failing: int | None) -> None:
    """Tell in an executed notebook how it went.

    Args:
        notebook: The notebook, changed in place.
        record: The record of its run.
        failing: The index of the cell that ended it, or None.
    """
    notebook["metadata"]["papermill"].update(times_metadata(record))
    now = record.started
    for index, cell in enumerate(notebook["cells"]):
        if is_banner(cell):
            cell["metadata"]["tags"] = [*cell["metadata"]["tags"], ERROR_TAG]
            cell["metadata"]["papermill"] = cell_before_run()
            continue
        if times := cell_times(notebook["metadata"], cell):
            cell["metadata"]["execution"] = times  # where papermill has them
        now = _tell_cell(cell, index, failing, now)


def is_banner(cell: Mapping[str, Any]) -> bool:
    """Whether a cell tells of a failure."""
    return Tag.BANNER in cell["metadata"].get("tags", ())


def failing_index(cells: Sequence[NbCell]) -> int | None:
    """The index of the cell whose outputs have an error that counts; None if there is none."""
    for index, cell in enumerate(cells):
        if Tag.RAISES not in cell["metadata"].get("tags", ()) and error_output(cell):
            return index
    return None


def error_output(cell: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A cell's traceback, or None; leaving by `sys.exit()` is no error."""
    for output in cell.get("outputs", ()):
        if output["output_type"] == "error" and not (
            output["ename"] == "SystemExit" and output["evalue"] in ("", "0")
        ):
            found: Mapping[str, Any] = output
            return found
    return None


def _tell_cell(cell: NbCell, index: int, failing: int | None, now: str) -> str:
    """Tell of one cell; returns when it was over. One without code takes no time."""
    own = cell["metadata"].setdefault("papermill", cell_before_run())
    if failing is not None and index > failing:
        return now
    times = cell["metadata"].get("execution", {})
    start = times.get("iopub.execute_input")
    runs = cell["cell_type"] == "code" and cell["source"].strip()
    if runs and not start and index != failing and Tag.SKIP not in cell["metadata"]["tags"]:
        return now  # never reached
    start = start or now
    end = times.get("shell.execute_reply") or start
    failed = index == failing
    own.update(
        start_time=start,
        end_time=end,
        duration=(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(),
        exception=failed,
        status="failed" if failed else "completed",
    )
    return str(end)
