"""What a sweep keeps of each run in memory: little, for there may be many."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.files import jsonio
from ductaflow.history.recordfile import read_config, read_record
from ductaflow.history.run import Run
from ductaflow.model.facts import Reason
from ductaflow.model.plans import Config
from ductaflow.model.records import ErrorInfo, RunRecord, Status
from ductaflow.project.layout import ArtifactPaths
from ductaflow.text.hrefs import href

FACTS = (
    "instance", "status", "reused", "reasons", "duration", "peak_memory", "error", "dir",
    "notebook", "html",
)  # fmt: skip
"""What a table over many runs says of each, whatever it published."""


@final
@attrs.frozen
class Entry:
    """One run, without what can be read again from its folder.

    Attributes:
        number: The row's position in the control table.
        step: Its step.
        instance: Its name.
        flow: The flow's path as people see it.
        directory: Its folder.
        status: How it ended.
        started: ISO time at which it began.
        reused: Whether an earlier run was reused.
        attempts: How often it was tried; 0 if an earlier run was reused.
        duration: Seconds, or None.
        peak_memory: Bytes, or None.
        error: Why it failed, or could not be delivered, without the traceback; or None.
        metrics: What it published with `record()`.
        exported: Where it was delivered, or could not be, or None.
        planned: The config of a run that is planned only, or None.
        reasons: Why it was executed, or would be.
    """

    number: int
    step: str
    instance: str
    flow: str
    directory: str
    status: Status
    started: str
    reused: bool = False
    attempts: int = 1
    duration: float | None = None
    peak_memory: int | None = None
    error: ErrorInfo | None = None
    metrics: Any = attrs.field(factory=dict, hash=False)
    exported: str | None = None
    planned: Config | None = attrs.field(default=None, hash=False)
    reasons: tuple[Reason, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it did not succeed, or could not be delivered."""
        return self.status.bad or self.error is not None

    @property
    def paths(self) -> ArtifactPaths:
        """Where its artifacts lie."""
        return ArtifactPaths.of(Path(self.directory), Path(self.flow).stem)

    @classmethod
    def of(cls, run: Run, number: int, attempts: int = 1) -> Entry:
        """What to keep of a run."""
        record = run.brief
        error = attrs.evolve(record.error, traceback=()) if record.error is not None else None
        return cls(
            number,
            run.step,
            run.instance,
            record.flow,
            run.paths.folder,
            record.status,
            record.started,
            run.reused,
            attempts,
            record.duration,
            record.peak_memory,
            error,
            dict(record.metrics),
            planned=run.planned,
            reasons=run.reasons,
        )

    def run(self) -> Run:
        """The run itself: its record is read again, and made of this if it is no longer there."""
        unrun = self.status in (Status.PLANNED, Status.BLOCKED)
        record = None if unrun else read_record(self.paths.record)
        if record is None or record.started != self.started or record.status != self.status:
            record = RunRecord(
                status=self.status,
                flow=self.flow,
                step=self.step,
                instance=self.instance,
                started=self.started,
                duration=self.duration,
                error=self.error,
                peak_memory=self.peak_memory,
                metrics=self.metrics,
                reasons=self.reasons,
            )
        elif record.error is None and self.error is not None:  # it could not be delivered
            record = attrs.evolve(record, error=self.error)
        return Run(record, self.paths, self.reused, self.planned)

    def config(self) -> Config:
        """Its config, as far as it can be read."""
        if self.planned is not None:
            return self.planned
        return read_config(self.paths.config) or {}

    def facts(self) -> dict[str, Any]:
        """The run as a row of a table: `FACTS`, where it was delivered, and what it published."""
        paths, error = self.paths, self.error
        values = (
            self.instance,
            self.status.value,
            self.reused,
            "; ".join(map(str, self.reasons)),
            self.duration,
            self.peak_memory,
            f"{error.type}: {error.message}" if error is not None else None,
            str(paths.directory),
            str(paths.notebook),
            str(paths.html),
        )
        facts: dict[str, Any] = dict(zip(FACTS, values, strict=True))
        if self.exported is not None:
            facts["exported"] = self.exported
        published = {f"record.{n}" if n in facts else n: v for n, v in self.metrics.items()}
        return {**facts, **published}


def html_row(entry: Entry) -> str:
    """The run as a row of a table in a notebook, with a link to its report."""
    status = entry.status
    link = html.escape(href(entry.paths.html), quote=True)
    error = f"{entry.error.type}: {entry.error.message}" if entry.error else ""
    report = f'<a href="{link}">report</a>'
    if entry.planned is not None:
        report, error = "", jsonio.canonical(entry.planned)
    seconds = "" if entry.duration is None else f"{entry.duration:.2f}"
    label = f"{status.symbol} {status.label}" + (", reused" if entry.reused else "")
    cells = [
        f'<td style="color:{status.colour}">{html.escape(label)}</td>',
        f"<td>{html.escape(entry.instance)}</td>",
        f"<td>{seconds}</td>",
        f"<td>{report}</td>",
        f"<td>{html.escape(error[:200])}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"
