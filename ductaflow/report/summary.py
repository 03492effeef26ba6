"""`bulk_summary.json`: all that the page tells, for programs. README.md has its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ductaflow._version import __version__
from ductaflow.files import jsonio
from ductaflow.history.entries import Entry
from ductaflow.history.run import Run
from ductaflow.history.runs import Cause, Runs
from ductaflow.model.records import ErrorInfo
from ductaflow.project.artifacts import ARTIFACTS
from ductaflow.report.facts import InstanceFacts, Light, shown
from ductaflow.report.graph import Graph
from ductaflow.report.links import Links
from ductaflow.report.media import Media

SUMMARY_SCHEMA = 1
TAIL = 12  # lines of a traceback that are shown with a cause


def summarise(
    instances: Sequence[InstanceFacts],
    *,
    title: str,
    root: Path,
    links: Links,
    graph: Graph,
    media: Mapping[str, Media],
) -> dict[str, Any]:
    """All that is known of some instances, in strict JSON's types.

    Args:
        instances: The instances, in the order of the table.
        title: What the collection is called.
        root: The project root.
        links: Makes paths relative to the page.
        graph: Who read whose files.
        media: What lies beside the page, by the instance's id.
    """
    return {
        "schema": SUMMARY_SCHEMA,
        "generator": f"ductaflow {__version__}",
        "generated": jsonio.now(),
        "title": title,
        "root": links.above(root),
        "counts": counts(instances),
        "steps": {
            step: counts([facts for facts in instances if facts.step == step])
            for step in dict.fromkeys(facts.step for facts in instances)
        },
        "times": times(instances),
        "instances": [instance_json(facts, links, media.get(facts.id)) for facts in instances],
        "causes": causes(instances, root),
        "lineage": graph.to_json(),
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary as JSON: a line for each instance, edge and cause, for there may be many."""
    parts = [f'"{key}": {_lines(value)}' for key, value in summary.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(_json, value)) + "\n]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def counts(instances: Sequence[InstanceFacts]) -> dict[str, int]:
    """How many there are, and how many stand in each way."""
    found = {light.value: 0 for light in Light}
    for facts in instances:
        found[facts.light.value] += 1
    return {"total": len(instances), **found}


def times(instances: Sequence[InstanceFacts]) -> dict[str, Any]:
    """When it all began and ended, and how long it took; times are ISO, durations seconds."""
    durations = [f.record.duration for f in instances if f.record.duration is not None]
    started = [f.record.started for f in instances if f.record.started]
    finished = [f.record.finished for f in instances if f.record.finished]
    return {
        "first_started": min(started, default=None),
        "last_finished": max(finished, default=None),
        "run_seconds": round(sum(durations), 3),
        "longest_seconds": max(durations, default=None),
    }


def instance_json(facts: InstanceFacts, links: Links, media: Media | None) -> dict[str, Any]:
    """One instance as the summary has it."""
    record, paths = facts.record, facts.paths
    error = None
    if record.error is not None:
        error = {
            "kind": record.error.kind,
            "type": record.error.type,
            "message": record.error.message,
            "cell": record.error.cell,
            "line": record.error.line,
            "traceback": list(record.error.traceback),
        }
    return {
        "step": facts.step,
        "instance": facts.instance,
        "light": facts.light.value,
        "status": record.status.value,
        "warnings": facts.warnings,
        "stale": list(facts.stale),
        "flow": record.flow,
        "config": strict(facts.config),
        "metrics": facts.metrics,
        "started": record.started or None,
        "finished": record.finished,
        "duration": record.duration,
        "peak_memory": record.peak_memory,
        "error": error,
        "notes": list(facts.notes),
        "not_in_last_table": facts.not_in_last_table,
        "hashes": dict(record.fingerprints),
        "links": {
            "folder": links.to(paths.directory),
            **{kind: links.to(paths.path(artifact)) for kind, artifact in ARTIFACTS.items()},
        },
        "figures": [
            {"image": f.image, "thumbnail": f.thumbnail, "cell": f.cell, "label": f.label}
            for f in (media.figures if media is not None else ())
        ],
    }


def strict(value: Any) -> Any:
    """JSON's types without NaN and infinities, which become their names."""
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return shown(value)


def causes(instances: Sequence[InstanceFacts], root: Path) -> list[dict[str, Any]]:
    """What failed, by cause, the most frequent first."""
    failed = {facts.id: facts for facts in instances if facts.light is Light.ERROR}
    entries = [
        Entry.of(Run(facts.record, facts.paths), number)
        for number, facts in enumerate(failed.values())
    ]
    found = []
    for cause in Runs(tuple(entries), root, None).causes():
        ids = [f"{entry.step}/{entry.instance}" for entry in cause.runs.entries]
        found.append(_cause(cause, ids, failed[ids[0]].record.error))
    return found


def _cause(cause: Cause, ids: list[str], error: ErrorInfo | None) -> dict[str, Any]:
    first = cause.runs.entries[0]
    return {
        "kind": cause.error.kind,
        "type": cause.error.type,
        "message": cause.error.message,
        "flow": first.flow,
        "cell": cause.error.cell,
        "line": cause.error.line,
        "traceback": list(error.traceback[-TAIL:]) if error is not None else [],
        "command": cause.command,
        "instances": ids,
    }
