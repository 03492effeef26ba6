"""What a run has on disk about itself: `run.json`, `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from ductaflow.files import jsonio
from ductaflow.model.plans import Config
from ductaflow.model.records import RECORD_SCHEMA, RunRecord
from ductaflow.model.thisrun import apart, together


def write_record(path: Path, record: RunRecord) -> None:
    """Write `run.json`; what is of this run only is its last value (`thisrun`).

    Raises:
        ArtifactError: It cannot be written.
    """
    record = attrs.evolve(record, schema=RECORD_SCHEMA)  # it may have been read from an older one
    jsonio.write_atomic(path, _lines(apart(record.to_json())))


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
    """The record in a `run.json`; None if it is not there or is damaged."""
    try:
        return load_record(path)[0]
    except (OSError, DamagedRecord):
        return None


class DamagedRecord(ValueError):
    """What stands in a `run.json` is not a record; the message says why not."""


def load_record(path: Path) -> tuple[RunRecord, dict[str, Any]]:
    """The record in a `run.json`, and the JSON it was made of, as `RunRecord.to_json` gives it.

    Raises:
        OSError: It cannot be read.
        DamagedRecord: It is not a record.
    """
    try:
        data = together(json.loads(path.read_bytes()))
        return RunRecord.from_json(data), data
    except RecursionError:
        raise DamagedRecord("it is nested too deeply") from None
    except KeyError as e:
        raise DamagedRecord(f"{e.args[0]!r} is missing") from None
    except (ValueError, TypeError, AttributeError) as e:
        raise DamagedRecord(str(e)) from None


def damage(path: Path) -> str:
    """Why a `run.json` does not count; empty if it is not there, or is a record."""
    try:
        load_record(path)
    except OSError as e:
        return "" if isinstance(e, FileNotFoundError) else str(e)
    except DamagedRecord as e:
        return str(e)
    return ""
