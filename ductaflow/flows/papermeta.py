"""The notebook metadata in which papermill's readers look for parameters and times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ductaflow._version import __version__
from ductaflow.model.records import RunRecord


def parameters_metadata(
    parameters: Mapping[str, Any], source: str | None, target: str | None
) -> dict[str, Any]:
    """What is known before the first cell runs.

    Args:
        parameters: What the notebook gets.
        source: Where it was read.
        target: Where it is written.
    """
    return {
        "default_parameters": {},
        "environment_variables": {},
        "parameters": dict(parameters),
        "input_path": source,
        "output_path": target,
        "version": __version__,
    }


def times_metadata(record: RunRecord) -> dict[str, Any]:
    """How a run goes: its times, and once it has ended whether it failed."""
    return {
        "start_time": record.started,
        "end_time": record.finished,
        "duration": record.duration,
        **failure_metadata(record),
    }


def failure_metadata(record: RunRecord) -> dict[str, Any]:
    """Whether a run has failed; None while it runs, and if it has not."""
    return {"exception": None if record.finished is None or record.status.ok else True}
