"""What a run has on disk about itself: `run.json`, `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ductaflow import jsonio
from ductaflow.model import Config, RunRecord


def write_record(path: Path, record: RunRecord) -> None:
    """Write `run.json`.

    Raises:
        ArtifactError: It cannot be written.
    """
    jsonio.write_atomic(path, _lines(record.to_json()))


def _lines(data: dict[str, Any]) -> str:
    """JSON with a line for each value, and for each item of a list: to be read, and made fast.

    `json` indents in Python alone, which takes as long as all else that a short run writes.
    """
    parts = []
    for name, value in data.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, (list, tuple)) and value:
            items = ",\n    ".join(json.dumps(item, ensure_ascii=False) for item in value)
            text = f"[\n    {items}\n  ]"
        parts.append(f"  {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_config(path: Path) -> Config | None:
    """The config in a `config.json`; None if it is not there or is none."""
    try:
        config = json.loads(path.read_text("utf-8", "surrogatepass"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def read_record(path: Path) -> RunRecord | None:
    """The record in a `run.json`; None if it is not there or is no record."""
    try:
        return RunRecord.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
