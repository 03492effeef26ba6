"""What a sweep gives back: its runs, as a sequence, a table and a summary."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final, overload

import attrs

from ductaflow.errors import SweepFailed
from ductaflow.facts import Reason
from ductaflow.layout import ArtifactPaths
from ductaflow.model import Config, ErrorInfo, RunRecord, Status
from ductaflow.records import read_record
from ductaflow.run import Run
from ductaflow.table import Kind, Row, Table
from ductaflow.template import leaves

_SHOWN = 100  # rows of a table in a notebook
_LISTED = 10  # causes of failure in a summary


@final
@attrs.frozen
class Entry:
    """What is kept in memory of one run: little, for there may be many.

    Attributes:
        number: The row's position in the control table.
        step: Its step.
        instance: Its name.
        flow: The flow's path as people see it.
        directory: Its folder.
        status: How it ended.
        started: ISO time at which it began.
        reused: Whether an earlier run served.
        attempts: How often it was tried; 0 if an earlier run served.
        duration: Seconds, or None.
        peak_memory: Bytes, or None.
        error: Why it failed, without the traceback, or None.
        metrics: What it published with `record()`.
        exported: Where it was delivered, or None.
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

    @classmethod
    def of(cls, run: Run, number: int, attempts: int = 1) -> Entry:
        """What to keep of a run."""
        record = run.told
        error = attrs.evolve(record.error, traceback=()) if record.error is not None else None
        return cls(
            number,
            run.step,
            run.instance,
            record.flow,
            str(run.dir),
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
        paths = ArtifactPaths.of(Path(self.directory), Path(self.flow).stem)
        unrun = self.status in (Status.PLANNED, Status.BLOCKED)
        record = None if unrun else read_record(paths.record)
        if record is None or record.started != self.started:
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
        return Run(record, paths, self.reused, self.planned)


@final
@attrs.frozen
class Cause:
    """Runs that failed for the same reason.

    Attributes:
        error: The first one's error.
        runs: Them all, in the order of the table.
    """

    error: ErrorInfo
    runs: Runs

    def __str__(self) -> str:
        error, first = self.error, self.runs.entries[0]
        where = f" in cell {error.cell}" if error.cell else ""
        line = f" ({first.flow}:{error.line})" if error.line else ""
        return f"{error.type}: {error.message}{where}{line}"

    @property
    def command(self) -> str:
        """A shell command, for the project's root, that runs the first of them alone."""
        first = self.runs.entries[0]
        config = Path(first.directory) / "config.json"
        if config.is_relative_to(self.runs.root):
            config = config.relative_to(self.runs.root)
        names = ", ".join(map(json.dumps, (first.flow, first.step, first.instance)))
        code = (
            "import json; from ductaflow import run_step_flow; "
            f"run_step_flow({names}, json.load(open({json.dumps(config.as_posix())})))"
        )
        return f"python -c {shlex.quote(code)}"


@final
@attrs.frozen(repr=False)
class Runs(Sequence[Run]):
    """Runs in the order of their table. Each is read from its folder when it is asked for.

    Attributes:
        entries: What is kept of each in memory.
        root: The project root.
        table: The control table, or None.
    """

    entries: tuple[Entry, ...]
    root: Path
    table: Table | None = None

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        if isinstance(index, slice):
            return attrs.evolve(self, entries=self.entries[index])
        return self.entries[index].run()

    def __iter__(self) -> Iterator[Run]:
        return (entry.run() for entry in self.entries)

    @property
    def ok(self) -> Runs:
        """Those that succeeded."""
        return self._where(lambda entry: entry.status.ok)

    @property
    def failed(self) -> Runs:
        """Those that did not."""
        return self._where(lambda entry: entry.status.bad)

    @property
    def reused(self) -> Runs:
        """Those for which an earlier run served."""
        return self._where(lambda entry: entry.reused)

    def causes(self) -> list[Cause]:
        """The failures by what made them fail, the most frequent first."""
        groups: dict[object, list[Entry]] = {}
        for entry in self.failed.entries:
            error = entry.error or ErrorInfo(entry.status.value, entry.status.label, "")
            line = error.line or (error.cell, error.message)
            groups.setdefault((entry.flow, error.kind, error.type, line), []).append(entry)
        causes = [
            Cause(
                group[0].error or ErrorInfo(group[0].status.value, group[0].status.label, ""),
                attrs.evolve(self, entries=tuple(group)),
            )
            for group in groups.values()
        ]
        return sorted(causes, key=lambda cause: -len(cause.runs))

    def summary(self) -> str:
        """How it went, and why what failed did, each with a command that runs one of them alone."""
        lines = [self._headline()]
        causes = self.causes()
        if causes:
            plural = "cause" if len(causes) == 1 else "causes"
            failed = sum(len(cause.runs) for cause in causes)
            lines.append(f"{failed} of {len(self)} failed, {len(causes)} {plural}:")
        for cause in causes[:_LISTED]:
            names = ", ".join(entry.instance for entry in cause.runs.entries[:3])
            more = ", …" if len(cause.runs) > 3 else ""
            lines += [f"  {len(cause.runs)} × {cause}", f"      {names}{more}"]
            lines.append(f"      {cause.command}")
        if len(causes) > _LISTED:
            lines.append(f"  and {len(causes) - _LISTED} causes more")
        return "\n".join(lines)

    def raise_if_failed(self) -> Runs:
        """Raise if a run did not succeed.

        Returns:
            Itself.

        Raises:
            SweepFailed: One did not; the message is the summary.
        """
        if self.failed:
            raise SweepFailed(self.summary(), self)
        return self

    def frame(self) -> Any:
        """The control table with what came of each row.

        Its columns are followed by `instance`, `status`, `reused`, `reasons`, `duration` (seconds),
        `peak_memory` (bytes), `error`, the paths `dir`, `notebook` and `html`, and what the flow
        published with `record()`. One that the control table has too is called `run.…`.

        Returns:
            A polars data frame if the control table is one, else a pandas data frame.

        Raises:
            ImportError: pandas is not installed.
        """
        facts = [self._facts(entry) for entry in self.entries]
        names = list(dict.fromkeys(name for row in facts for name in row))
        rows = [leaves(row) for row in self.rows()]
        taken = {name for row in rows for name in row}
        final = {name: f"run.{name}" if name in taken else name for name in names}
        columns = [*dict.fromkeys(name for row in rows for name in row)]
        joined = [
            {
                **{name: row.get(name) for name in columns},
                **{final[name]: fact.get(name) for name in names},
            }
            for row, fact in zip(rows, facts, strict=True)
        ]
        if self.table is not None and self.table.kind is Kind.POLARS:
            import polars

            return polars.DataFrame(joined, infer_schema_length=None)
        import pandas

        return pandas.DataFrame(joined, columns=[*columns, *final.values()])

    def rows(self) -> list[Row]:
        """The control table's row of each run; its config where the table is used up."""
        if self.table is None or self.table.length is None:
            return [_read_config(entry) for entry in self.entries]
        wanted = {entry.number for entry in self.entries}
        found = {n: row for n, row in enumerate(self.table.rows()) if n in wanted}
        return [found[entry.number] for entry in self.entries]

    def _facts(self, entry: Entry) -> dict[str, Any]:
        paths = ArtifactPaths.of(Path(entry.directory), Path(entry.flow).stem)
        return {
            "instance": entry.instance,
            "status": entry.status.value,
            "reused": entry.reused,
            "reasons": "; ".join(map(str, entry.reasons)),
            "duration": entry.duration,
            "peak_memory": entry.peak_memory,
            "error": f"{entry.error.type}: {entry.error.message}" if entry.error else None,
            "dir": str(paths.directory),
            "notebook": str(paths.notebook),
            "html": str(paths.html),
            **entry.metrics,
        }

    def _where(self, wanted: Callable[[Entry], bool]) -> Runs:
        return attrs.evolve(self, entries=tuple(filter(wanted, self.entries)))

    def _headline(self) -> str:
        counts: dict[Status, int] = {}
        for entry in self.entries:
            counts[entry.status] = counts.get(entry.status, 0) + 1
        told = [f"{status.symbol} {count} {status.label}" for status, count in counts.items()]
        reused = len(self.reused)
        noun = "run" if len(self) == 1 else "runs"
        told += [f"{reused} of them reused"] if reused else []
        return f"{len(self)} {noun}" + (f": {', '.join(told)}" if told else "")

    def __repr__(self) -> str:
        return f"<Runs: {self._headline()}>"

    def _repr_html_(self) -> str:
        order = sorted(self.entries, key=lambda entry: not entry.status.bad)  # stable
        rows = "".join(map(_html_row, order[:_SHOWN]))
        more = len(order) - _SHOWN
        foot = f"<p>and {more} more: see <code>.frame()</code></p>" if more > 0 else ""
        head = "".join(f"<th>{name}</th>" for name in ("", "instance", "seconds", "report", ""))
        return (
            f"<p>{html.escape(self._headline())}</p><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows}</tbody></table>{foot}"
        )


def _html_row(entry: Entry) -> str:
    status = entry.status
    paths = ArtifactPaths.of(Path(entry.directory), Path(entry.flow).stem)
    link = html.escape(paths.html.absolute().as_uri(), quote=True)
    error = f"{entry.error.type}: {entry.error.message}" if entry.error else ""
    seconds = "" if entry.duration is None else f"{entry.duration:.2f}"
    label = f"{status.symbol} {status.label}" + (", reused" if entry.reused else "")
    cells = [
        f'<td style="color:{status.colour}">{html.escape(label)}</td>',
        f"<td>{html.escape(entry.instance)}</td>",
        f"<td>{seconds}</td>",
        f'<td><a href="{link}">report</a></td>',
        f"<td>{html.escape(error[:200])}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _read_config(entry: Entry) -> dict[str, Any]:
    try:
        config = json.loads((Path(entry.directory) / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
