"""How a run ends: well, with an error, at a limit, or with the death of its kernel."""

from __future__ import annotations

from collections.abc import Mapping
from signal import SIGTERM
from typing import Any, final

import attrs
from ductaflow_kernels.errors import KernelDied
from ductaflow_kernels.processes.process import describe_exit
from ductaflow_kernels.session.session import KernelSession

from ductaflow.documents.runlog import RunLog, strip_ansi
from ductaflow.execution.cellstates import CellState
from ductaflow.execution.hints import hint
from ductaflow.flows.tracebacks import annotate_traceback, failing_line
from ductaflow.model.flows import Cell
from ductaflow.model.kinds import FailureKind, NoteKind
from ductaflow.model.plans import Note
from ductaflow.model.records import ErrorInfo, Status
from ductaflow.plans.plan import InstancePlan

INTERRUPT_AGAIN = 1.0  # seconds: the first signal may fall between two cells
TERMINATE_AFTER = 5.0  # seconds after the interrupt
KILL_AFTER = 7.0  # seconds after the interrupt


@final
@attrs.define(eq=False)
class Interruption:
    """A run that must end: asked politely first, then less so.

    Attributes:
        status: How it ends.
        began: When it was asked first, by the monotonic clock.
        stage: How far it has gone.
    """

    status: Status
    began: float
    stage: int = 0

    def escalate(
        self, session: KernelSession, log: RunLog, now: float, *, running: bool, at_once: bool
    ) -> None:
        """Interrupt again, then terminate, then kill.

        Args:
            session: The kernel's.
            log: Of the run; it says what was done.
            now: The time, by the monotonic clock.
            running: Whether a cell runs.
            at_once: Whether to wait no longer.
        """
        since = now - self.began
        if self.stage == 0 and since > INTERRUPT_AGAIN and running:
            self.stage = 1
            session.interrupt()
        elif self.stage <= 1 and since > TERMINATE_AFTER:
            self.stage = 2
            log.say("the kernel goes on; terminating it")
            session.process.signal(SIGTERM)
        elif since > KILL_AFTER or at_once:
            log.say("the kernel goes on; killing it")
            session.process.kill()


@final
class RunEnd:
    """How one run ends, as far as is known.

    Attributes:
        error: Why it does not succeed, or None.
        failing: Index in the notebook of the cell at which it ends, or None.
        interruption: Set if it has been asked to end early.
        died: The death of its kernel, or None.
        whole: Whether its end was that of an interpreter: threads, exit handlers, files, notes.
        notes: What running noticed.
    """

    def __init__(self, plan: InstancePlan, *, whole: bool) -> None:
        self._plan = plan
        self._lost: tuple[str, ...] = ()
        self.error: ErrorInfo | None = None
        self.failing: int | None = None
        self.interruption: Interruption | None = None
        self.died: KernelDied | None = None
        self.whole = whole
        self.notes: list[Note] = []

    @property
    def decided(self) -> bool:
        """Whether no more cells are to run."""
        return self.error is not None or self.interruption is not None

    def note(self, kind: NoteKind, message: str) -> None:
        """Add a note."""
        self.notes.append(Note(kind, message))

    def fail(
        self, state: CellState, reply: Mapping[str, Any], by_count: Mapping[int, Cell]
    ) -> None:
        """Take an error in a cell for that of the run, if it is the first.

        Args:
            state: The cell.
            reply: The error as the kernel tells it: `ename`, `evalue`, `traceback`.
            by_count: Cells by their prompt numbers.
        """
        if not self.decided:
            self.failing = state.index
            self.error = _cell_error(state.cell, reply, by_count, self._plan)

    def interrupt(self, status: Status, why: str, running: CellState | None, now: float) -> None:
        """End the run early.

        Args:
            status: How it ends.
            why: In words.
            running: The cell that runs, or None.
            now: The time, by the monotonic clock.
        """
        self.interruption = Interruption(status, now)
        self.failing = running.index if running else None
        self.error = ErrorInfo(
            kind=FailureKind(status.value),
            type={Status.TIMED_OUT: "Timeout"}.get(status, "Interrupted"),
            message=why,
            cell=running.cell.number or None if running else None,
            line=running.cell.line if running else None,
        )

    def take(self, finish: Mapping[str, Any], *, given_up: bool) -> None:
        """Take in how a kernel of ours came to its end.

        Args:
            finish: What it says of that.
            given_up: Whether it was asked to wait no longer.
        """
        self.whole = bool(finish.get("whole")) and not given_up
        self._lost = tuple(finish.get("lost", ()))
        problems = list(finish.get("problems", ()))
        if finish.get("status") != "ok":
            problems.append(f"ending the kernel: {finish.get('ename')}: {finish.get('evalue')}")
        for problem in problems:
            self.note(NoteKind.UNFINISHED, f"at the run's end: {problem}")

    def decide(self, running: CellState | None, peak: int | None) -> Status:
        """How it ended, now that it has; `error` and `failing` are set accordingly.

        Args:
            running: The first cell without a reply, or None.
            peak: The most memory that the kernel had, in bytes, or None.
        """
        if self.interruption is not None:
            return self.interruption.status
        if self.died is not None and self.error is None:
            self.failing = running.index if running else None
            self.error = _death(self.died, running, peak)
            return Status.DIED
        if self.error is None and self._lost:
            self.error = _lost_error(self._lost)
        return Status.SUCCEEDED if self.error is None else Status.FAILED


def _cell_error(
    cell: Cell, reply: Mapping[str, Any], by_count: Mapping[int, Cell], plan: InstancePlan
) -> ErrorInfo:
    name, message = str(reply.get("ename", "")), str(reply.get("evalue", ""))
    if name == "StdinNotImplementedError":
        message = "a run has nobody to answer input(); take the value from the config"
    message += hint(name, message, plan)
    raw = [str(line) for line in reply.get("traceback", ())]
    lines = annotate_traceback(raw, by_count, plan.flow_display)
    return ErrorInfo(
        kind=FailureKind.CELL,
        type=name,
        message=message,
        cell=cell.number or None,
        line=failing_line(raw, by_count) or cell.line,
        traceback=tuple(strip_ansi("\n".join(lines)).splitlines()),
    )


def _lost_error(lost: tuple[str, ...]) -> ErrorInfo:
    return ErrorInfo(
        kind=FailureKind.END,
        type="OutputLost",
        message=f"what the flow had written could not be saved at its end: {'; '.join(lost)}",
    )


def _death(died: KernelDied, running: CellState | None, peak: int | None) -> ErrorInfo:
    parts = [describe_exit(died.exit_code)]
    if peak:
        parts.append(f"peak {format_bytes(peak)}")
    number = running.cell.number if running else 0
    if number:
        parts.append(f"during cell {number}")
    else:
        parts.append("in an inserted cell" if running else "at its end")
    return ErrorInfo(
        kind=FailureKind.DIED,
        type="KernelDied",
        message="; ".join(parts),
        cell=number or None,
        line=running.cell.line if running else None,
    )


def format_bytes(count: int) -> str:
    """Bytes for people, as `3.1 GiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
