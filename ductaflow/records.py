"""The record of a run on disk: `run.json`."""

from __future__ import annotations

import json
from pathlib import Path

from ductaflow import jsonio
from ductaflow.model import RunRecord


def write_record(path: Path, record: RunRecord) -> None:
    """Write `run.json`.

    Raises:
        ArtifactError: It cannot be written.
    """
    jsonio.write_atomic(path, jsonio.dumps(record.to_json()) + "\n")


def read_record(path: Path) -> RunRecord | None:
    """The record in a `run.json`; None if it is not there or is no record."""
    try:
        return RunRecord.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
