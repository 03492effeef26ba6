"""What a run's cells print, printed again where its conductor is, while they run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO, final

import attrs

from ductaflow.history.events import Audience
from ductaflow.model.records import CellRecord
from ductaflow.text.escapes import harmless


@final
@attrs.frozen(eq=False)
class Echo(Audience):
    """An audience that prints what it hears: streams as they come, results as text.

    Attributes:
        out: Where it prints, but for standard error; standard output as it is now if left out.
    """

    out: TextIO | None = None

    def cell_started(self, number: int, line: int | None) -> None:
        """A cell begins."""

    def cell_finished(self, record: CellRecord) -> None:
        """A cell is over."""

    def stream(self, name: str, text: str) -> None:
        """The flow has printed some text."""
        file = sys.stderr if name == "stderr" else self.out or sys.stdout
        # Jupyter takes no commands but colours and what moves within a line.
        in_jupyter = type(file).__module__.startswith("ipykernel.")
        file.write(text if in_jupyter else harmless(text, live=True))
        file.flush()

    def output(self, kind: str, content: Mapping[str, Any]) -> None:
        """A cell has shown something; an error is raised by the run itself."""
        text = content.get("data", {}).get("text/plain")
        if kind != "error" and text:
            self.stream("stdout", f"{text}\n")

    def close(self) -> None:
        """The run is over."""
