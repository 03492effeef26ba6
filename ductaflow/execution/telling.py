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
class Teller:
    """Tells an audience, or nobody, what a run does.

    What is said of a cell waits until the one before it is over.
    """

    def __init__(self, audience: Audience | None) -> None:
        self._audience = audience
        self._current: CellState | None = None
        self._waiting: deque[tuple[CellState | None, Callable[[Audience], None]]] = deque()

    def cell_started(self, state: CellState) -> None:
        """A cell begins."""
        cell = state.cell
        self._waiting.append((state, lambda hears: hears.cell_started(cell.number, cell.line)))
        self._tell()

    def cell_finished(self, state: CellState) -> None:
        """A cell is over."""
        record = state.record()

        def finish(hears: Audience) -> None:
            self._current = None
            hears.cell_finished(record)

        if state is self._current:
            self._waiting.appendleft((None, finish))
        else:
            self._waiting.append((None, finish))
        self._tell()

    def stream(self, name: str, text: str) -> None:
        """The flow has printed some text."""
        self._waiting.append((None, lambda hears: hears.stream(name, text)))
        self._tell()

    def output(self, kind: str, content: Mapping[str, Any]) -> None:
        """A cell has shown something."""
        self._waiting.append((None, lambda hears: hears.output(kind, content)))
        self._tell()

    def close(self) -> None:
        """The run is over: nothing more will come."""
        self._tell(all_of_it=True)
        if self._audience is not None:
            self._audience.close()

    def _tell(self, *, all_of_it: bool = False) -> None:
        if self._audience is None:
            self._waiting.clear()
            return
        while self._waiting:
            begins, call = self._waiting[0]
            if begins is not None:
                if self._current is not None and not all_of_it:
                    return
                self._current = begins
            self._waiting.popleft()
            call(self._audience)
