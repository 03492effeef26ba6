"""Where a run's artifacts have what differs between two equal runs: one block of each.

`run.json` has it under `this_run`, the executed notebook under `metadata.ductaflow.this_run`, and
`config.json` has none. The rest of these files is the same, byte for byte, whenever the same flow
runs on the same inputs with the same config and comes to the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

THIS_RUN: Final = "this_run"
"""The key of the block, in a record and in a notebook's `ductaflow` metadata."""

_WHOLE = ("started", "finished", "duration", "reasons", "conductor", "peak_memory", "notebook")
"""What of a record is of one run as a whole."""

_OF_ITEMS: Mapping[str, frozenset[str]] = {
    "cells": frozenset({"started", "finished", "duration"}),
    "inputs": frozenset({"mtime_ns", "inode", "ctime_ns"}),
    "outputs": frozenset({"mtime_ns", "inode", "ctime_ns"}),
}
"""What is of one run in the items of a record's lists; the block has a list of the same length."""

_OF_RECORDS = frozenset({"size"})
"""What else is of one run in a record that a run has read: it is as long as its times are."""

_OF_KERNELS = frozenset({"source", "pid"})
_NOTES_OF_PROCESS = frozenset({"preload"})
"""Kinds of notes that a process gives to one of its runs only."""


def apart(data: Mapping[str, Any]) -> dict[str, Any]:
    """A record as `run.json` has it.

    Args:
        data: What `RunRecord.to_json` gives.

    Returns:
        The same with what is of this run only in one block, its last value.
    """
    rest = {name: value for name, value in data.items() if name not in _WHOLE}
    block = {name: data[name] for name in _WHOLE}
    for name, keys in _OF_ITEMS.items():
        own = [keys | _OF_RECORDS if _is_record(item) else keys for item in data[name]]
        pairs = list(zip(data[name], own, strict=True))
        rest[name] = [{k: v for k, v in item.items() if k not in of} for item, of in pairs]
        block[name] = [{k: v for k, v in item.items() if k in of} for item, of in pairs]
    kernel = data["kernel"]
    rest["kernel"] = {k: v for k, v in kernel.items() if k not in _OF_KERNELS}
    block["kernel"] = {k: v for k, v in kernel.items() if k in _OF_KERNELS}
    rest["notes"] = [n for n in data["notes"] if n["kind"] not in _NOTES_OF_PROCESS]
    block["notes"] = [n for n in data["notes"] if n["kind"] in _NOTES_OF_PROCESS]
    return {**rest, THIS_RUN: block}


def _is_record(item: Mapping[str, Any]) -> bool:
    return str(item.get("path", "")).endswith("/run.json")


def together(data: Any) -> Any:
    """What `apart` was given, of what it gave; a record of an earlier version as it is.

    Where a list is edited and no longer as long as the block's, nothing is known of its times.

    Raises:
        TypeError: The block is of another shape.
    """
    if not isinstance(data, dict) or THIS_RUN not in data:
        return data
    rest = dict(data)
    block = rest.pop(THIS_RUN)
    if not isinstance(block, dict):
        raise TypeError(f"{THIS_RUN} must be an object, not {block!r:.40}")
    whole = {**block, **rest}
    for name in _OF_ITEMS:
        items, times = rest.get(name, []), block.get(name, [])
        fits = len(items) == len(times)
        whole[name] = [{**t, **i} for t, i in zip(times, items, strict=True)] if fits else items
    whole["kernel"] = {**block.get("kernel", {}), **rest.get("kernel", {})}
    whole["notes"] = [*rest.get("notes", []), *block.get("notes", [])]
    return whole


def cell_times(metadata: Mapping[str, Any], cell: Mapping[str, Any]) -> Mapping[str, str]:
    """When a cell of an executed notebook ran, under JupyterLab's keys; empty if it did not.

    Args:
        metadata: The notebook's metadata.
        cell: The cell, which has its times itself in notebooks of earlier versions and of others.
    """
    found: Any = metadata
    for key in ("ductaflow", THIS_RUN, "cells", cell.get("id")):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        found = cell["metadata"].get("execution")
    return found if isinstance(found, Mapping) else {}
