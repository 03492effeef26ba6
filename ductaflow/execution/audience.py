"""An audience hears of one cell after the other, though a kernel's answers come over two channels.

That a cell begins, and what it shows, may be here before the reply to the cell before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, final

from ductaflow.execution.cellstates import CellState
from ductaflow.history.events import Audience


@final
class OrderedAudience:
    """Passes on to an audience what a run does; what is said of a cell waits for the one before.

    Args:
        audience: Who hears it; None for nobody.
    """

    def __init__(self, audience: Audience | None) -> None:
        self._audience = audience
        self._current: CellState | None = None
        self._waiting: deque[tuple[CellState | None, Callable[[Audience], None]]] = deque()

    def cell_started(self, state: CellState) -> None:
        """A cell begins."""
        cell = state.cell
        self._pass_on(lambda hears: hears.cell_started(cell.number, cell.line), begins=state)

    def cell_finished(self, state: CellState) -> None:
        """A cell is over."""
        if self._audience is None:
            return
        record = state.record()

        def finish(hears: Audience) -> None:
            self._current = None
            hears.cell_finished(record)

        self._pass_on(finish, first=state is self._current)

    def stream(self, name: str, text: str) -> None:
        """The flow has printed some text."""
        self._pass_on(lambda hears: hears.stream(name, text))

    def output(self, kind: str, content: Mapping[str, Any]) -> None:
        """A cell has shown something."""
        self._pass_on(lambda hears: hears.output(kind, content))

    def close(self) -> None:
        """The run is over: nothing more will come."""
        if self._audience is not None:
            for _, call in self._waiting:
                call(self._audience)
            self._waiting.clear()
            self._audience.close()

    def _pass_on(
        self,
        call: Callable[[Audience], None],
        *,
        begins: CellState | None = None,
        first: bool = False,
    ) -> None:
        """Tell the audience something, once it is its turn."""
        if self._audience is None:
            return
        if first:
            self._waiting.appendleft((begins, call))
        else:
            self._waiting.append((begins, call))
        while self._waiting:
            begins, call = self._waiting[0]
            if begins is not None:
                if self._current is not None:
                    return
                self._current = begins
            self._waiting.popleft()
            call(self._audience)
