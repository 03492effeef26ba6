"""A record as the index keeps it: what is its own, and what it shares with others of its flow.

The runs of one flow differ in little: the longer part is the same text for them all, which is
parsed once.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from ductaflow.model.facts import FileFact
from ductaflow.model.records import ErrorInfo, RunRecord, Status

_LEFT_OUT = ("schema", "cells", "notes", "reasons", "conductor", "notebook")
_SHARED = (
    "flow", "step", "observed", "inputs", "packages", "package_folders", "variables", "options",
    "environment", "kernel",
)  # fmt: skip
_KERNEL = ("name", "interpreter", "source")


def to_brief(data: dict[str, Any]) -> tuple[str, str]:
    """A record's own part and its shared one.

    Args:
        data: What `RunRecord.to_json` gives.
    """
    hashes = dict(data["fingerprints"])
    own = {k: v for k, v in data.items() if k not in (*_LEFT_OUT, *_SHARED, "fingerprints")}
    own["config"] = hashes.pop("config", None)
    if own["error"]:
        own["error"] = {**own["error"], "traceback": ()}
    shared = {name: data[name] for name in _SHARED}
    shared["kernel"] = {k: v for k, v in shared["kernel"].items() if k in _KERNEL}
    return json.dumps(own), json.dumps({**shared, "fingerprints": hashes})


def from_brief(own: str, shared: str) -> RunRecord:
    """The record, without its cells, notes, reasons, conductor and the kernel's number and end."""
    values = json.loads(own)
    common = _common(shared)
    config = values.pop("config")
    if config is not None:
        values["fingerprints"] = {**common["fingerprints"], "config": config}
    values["status"] = Status.of(values["status"])
    values["outputs"] = tuple(map(FileFact.from_json, values["outputs"]))
    for name in ("hosts", "thinned"):
        values[name] = tuple(values.get(name, ()))
    if values["error"]:
        values["error"] = ErrorInfo(**values["error"])
    return RunRecord(**{**common, **values}, partial=True)


@lru_cache(maxsize=256)
def _common(shared: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(shared)
    values["inputs"] = tuple(map(FileFact.from_json, values["inputs"]))
    values["package_folders"] = tuple(values["package_folders"])
    return values
