"""A page that tells how the runs of a conductor went."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ductaflow.files import jsonio
from ductaflow.history.catalog import load_run
from ductaflow.history.run import Run
from ductaflow.model.records import Status
from ductaflow.project.root import local_folder
from ductaflow.text.times import local_time

_WORDS = {"success": Status.SUCCEEDED, "succeeded": Status.SUCCEEDED, "ok": Status.SUCCEEDED,
          "error": Status.FAILED, "failure": Status.FAILED}  # fmt: skip

_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1f2328; background: #fff; }
summary { cursor: pointer; padding: .35rem .5rem; border-radius: .3rem; }
summary:hover { background: #f3f4f6; }
details { border-bottom: 1px solid #d8dee4; }
details > :not(summary) { margin: .3rem 1.6rem .6rem; }
pre { background: #f6f8fa; padding: .6rem; overflow: auto; white-space: pre-wrap; }
.seconds { float: right; color: #57606a; }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117; } summary:hover, pre { background: #161b22; }
  details { border-color: #30363d; } a { color: #58a6ff; } .seconds { color: #9198a1; }
}
"""


@attrs.frozen
class _Line:
    name: str
    status: Status
    seconds: float | None
    error: str
    traceback: tuple[str, ...]
    notes: tuple[str, ...]
    report: Path | None


def generate_status_report(
    results: Iterable[Run | Mapping[str, Any]], root: str | os.PathLike[str] | None = None
) -> str:
    """A self-contained page with the status of every run, what failed first.

    Args:
        results: Runs, as `sweep` gives them; or dicts with `scenario` or `instance`, `status`, and
            if they are known `error`, `duration` (seconds) or `duration_minutes`.
        root: The folder that the page will lie in, from which its links lead to the reports; left
            out, they are absolute. A dict's run is looked for there too, under its name.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        ValueError: A result has no such status.
    """
    folder = local_folder(root, "root") if root is not None else None
    lines = [
        _of_run(item) if isinstance(item, Run) else _of_mapping(item, folder) for item in results
    ]
    counts: dict[Status, int] = {}
    for line in lines:
        counts[line.status] = counts.get(line.status, 0) + 1
    told = ", ".join(
        f'<span style="color:{s.colour}">{s.symbol} {count} {s.label}</span>'
        for s, count in counts.items()
    )
    ordered = sorted(lines, key=lambda line: not line.status.bad)  # stable
    made = local_time(jsonio.now(), zone=True)
    body = "\n".join(_html(line, folder) for line in ordered)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Status of all runs</title>'
        f"<style>{_CSS}</style></head><body>\n<h1>Status of all runs</h1>\n"
        f"<p>{len(lines)} runs{': ' if told else ''}{told}. Made {made}.</p>\n{body}\n"
        "</body></html>\n"
    )


def _of_run(run: Run) -> _Line:
    error = run.error
    line = "" if error is None or error.line is None else f" ({run.record.flow}:{error.line})"
    return _Line(
        run.label,
        run.status,
        run.duration,
        "" if error is None else f"{error.type}: {error.message}{line}",
        () if error is None else error.traceback,
        tuple(note.message for note in run.notes),
        run.html if run.html.is_file() else None,
    )


def _of_mapping(result: Mapping[str, Any], folder: Path | None) -> _Line:
    name = str(result.get("scenario", result.get("instance", "")))
    word = str(result.get("status", ""))
    status = _WORDS.get(word.lower()) or Status.of(word)
    seconds = result.get("duration")
    if seconds is None and result.get("duration_minutes") is not None:
        seconds = 60 * float(result["duration_minutes"])
    found = _look_for(name, folder)
    return attrs.evolve(
        _of_run(found) if found is not None else _Line(name, status, None, "", (), (), None),
        name=name,
        status=status,
        seconds=seconds if seconds is not None else found.duration if found else None,
        error=str(result.get("error") or ""),
    )


def _look_for(name: str, folder: Path | None) -> Run | None:
    if folder is None or not name or ".." in Path(name).parts or Path(name).is_absolute():
        return None
    return load_run(folder / name)


def _html(line: _Line, folder: Path | None) -> str:
    status = line.status
    seconds = "" if line.seconds is None else f'<span class="seconds">{line.seconds:.1f} s</span>'
    parts = []
    if line.error:
        parts.append(f"<p>{html.escape(line.error)}</p>")
    parts += [f"<p>{html.escape(note)}</p>" for note in line.notes]
    if line.traceback:
        parts.append(f"<pre>{html.escape(chr(10).join(line.traceback))}</pre>")
    if line.report is not None:
        parts.append(f'<p><a href="{html.escape(_link(line.report, folder))}">Report</a></p>')
    opened = " open" if status.bad else ""
    head = (
        f'<span style="color:{status.colour}">{status.symbol} {status.label}</span> '
        f"{html.escape(line.name)}{seconds}"
    )
    more = "".join(parts) or "<p>Nothing more.</p>"
    return f"<details{opened}><summary>{head}</summary>{more}</details>"


def _link(report: Path, folder: Path | None) -> str:
    from urllib.parse import quote

    if folder is not None and report.is_relative_to(folder):
        return quote(report.relative_to(folder).as_posix())
    return report.absolute().as_uri()
