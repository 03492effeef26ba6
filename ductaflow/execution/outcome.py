"""What a run is asked to do early, and what it hands back: a request to stop, an outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import attrs

from ductaflow.model.plans import Note
from ductaflow.model.records import CellRecord, ErrorInfo, Status
from ductaflow.reuse.observation import NOTHING, Observation


@final
@attrs.define(eq=False)
class Stop:
    """Asks a run to end early. Set from a signal handler or another thread."""

    requests: int = 0

    def request(self) -> None:
        """Ask; a second time means at once."""
        self.requests += 1


@attrs.frozen
class Outcome:
    """How a run came out.

    Attributes:
        status: How it ended.
        error: Why it did not succeed, or None.
        failing: Index in the notebook of the cell at which it ended, or None.
        cells: A record a code cell.
        notes: What running noticed.
        kernel: Facts about the kernel for the record.
        environment: Versions for the record.
        peak_memory: Bytes, or None.
        metrics: What the flow published with `record()`.
        noted: What the kernel has noted of its run.
        observed: What the run depends on and has left.
        warnings: How often it warned.
        whole: Whether its end was that of an interpreter: threads, exit handlers, files, notes.
    """

    status: Status
    error: ErrorInfo | None = None
    failing: int | None = None
    cells: tuple[CellRecord, ...] = ()
    notes: tuple[Note, ...] = ()
    kernel: Mapping[str, Any] = attrs.field(factory=dict)
    environment: Mapping[str, str] = attrs.field(factory=dict)
    peak_memory: int | None = None
    metrics: Mapping[str, Any] = attrs.field(factory=dict)
    noted: Mapping[str, Any] = attrs.field(factory=dict)
    observed: Observation = NOTHING
    warnings: int = 0
    whole: bool = True
