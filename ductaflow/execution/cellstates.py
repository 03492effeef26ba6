"""Where each cell of a run stands: sent, running, answered, over."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, final

import attrs

from ductaflow.model.flows import Cell, Tag
from ductaflow.model.records import CellRecord, Status
from ductaflow.plans.plan import InstancePlan


@final
@attrs.define(eq=False)
class CellState:
    """Where one cell stands.

    Attributes:
        index: Its place in the notebook.
        cell: The cell.
        status: That of its reply; empty until then.
        reply: What the kernel answered.
        times: ISO times under JupyterLab's keys.
        begun: When the kernel said that it began, by the monotonic clock.
        idle: Whether the kernel has said that it is done with it.
        settled: Whether its end has been dealt with.
    """

    index: int
    cell: Cell
    status: str = ""
    reply: Mapping[str, Any] = attrs.field(factory=dict)
    times: dict[str, str] = attrs.field(factory=dict)
    begun: float | None = None
    idle: bool = False
    settled: bool = False

    @property
    def ran(self) -> bool:
        """Whether it has begun to run; an aborted cell has not."""
        return "iopub.execute_input" in self.times

    @property
    def over(self) -> bool:
        """Whether all has been said of it."""
        return bool(self.status) and self.idle

    @property
    def executing(self) -> bool:
        """Whether the kernel is at it, as far as is known."""
        return self.begun is not None and not self.status and not self.idle

    @property
    def fails(self) -> bool:
        """Whether an error in it is one of the run."""
        return Tag.RAISES not in self.cell.tags

    def record(self, ended: Status | None = None) -> CellRecord:
        """What the run's record has of it.

        Args:
            ended: How the run ended while it ran, if it did.
        """
        started = self.times.get("iopub.execute_input")
        finished = self.times.get("shell.execute_reply")
        # Without a reply it was running when the run ended so, or never began.
        status = self.status or (ended.value if ended else "aborted")
        seconds = None
        if started and finished:
            with contextlib.suppress(ValueError, TypeError):  # a foreign kernel's idea of a date
                span = datetime.fromisoformat(finished) - datetime.fromisoformat(started)
                seconds = round(span.total_seconds(), 6)
        return CellRecord(self.cell.number, self.cell.line, status, started, finished, seconds)


@final
class CellStates:
    """All cells of one run that run."""

    def __init__(self, plan: InstancePlan) -> None:
        self._plan = plan
        self._states = {i: CellState(i, cell) for i, cell in enumerate(plan.cells) if cell.runs}
        self._by_request: dict[str, CellState] = {}
        self.unsent = deque(self._states.values())

    def sent(self, request: str, state: CellState) -> None:
        """Take note of the request by which a cell was sent."""
        self._by_request[request] = state

    def of(self, request: str) -> CellState | None:
        """The cell that was sent by a request."""
        return self._by_request.get(request)

    def first_unanswered(self) -> CellState | None:
        """The cell that a dead kernel was running: its last words may be lost, not the order."""
        return next((state for state in self._states.values() if not state.status), None)

    def first_waited_for(self) -> CellState | None:
        """The first cell that was sent and is not over."""
        return next((state for state in self._by_request.values() if not state.over), None)

    def last_run(self) -> CellState | None:
        """The cell that ran last: what is printed after it is printed there."""
        return next((s for s in reversed(self._states.values()) if s.ran), None)

    def take_lost_replies(self, last: str) -> None:
        """Take cells for done whose replies a crash took along: the kernel was at a later request.

        Args:
            last: The request that it was at.
        """
        for request, state in self._by_request.items():
            if request == last:
                break
            if not state.status:
                state.status = "ok"  # or no later cell would have run

    def records(self, status: Status) -> tuple[CellRecord, ...]:
        """A record a code cell of the plan, in a run that ended so."""
        records: list[CellRecord] = []
        running = self.first_unanswered() if status is not Status.FAILED else None
        for index, cell in enumerate(self._plan.cells):
            state = self._states.get(index)
            if cell.kind != "code" or (state is None and Tag.SKIP not in cell.tags):
                continue
            if state is None:
                records.append(CellRecord(cell.number, cell.line, "skipped"))
            else:
                records.append(state.record(status if state is running else None))
        return tuple(records)
