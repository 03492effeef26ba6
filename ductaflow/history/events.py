"""What happens while instances run, as typed facts for whoever embeds ductaflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, final

import attrs

from ductaflow.documents.runlog import strip_ansi
from ductaflow.history.run import Run
from ductaflow.model.records import CellRecord

LONGEST_LINE = 10_000  # characters; a longer one is told in pieces


@attrs.frozen
class InstanceStarted:
    """An instance begins.

    Attributes:
        step: Its step.
        instance: Its name.
        attempt: 1, or more where it is tried again.
    """

    step: str
    instance: str
    attempt: int = 1


@attrs.frozen
class CellStarted:
    """A cell of an instance begins.

    Attributes:
        step: The instance's step.
        instance: Its name.
        number: The cell's number in the flow file; 0 for an inserted cell.
        line: The flow file's line where it begins, or None.
    """

    step: str
    instance: str
    number: int
    line: int | None


@attrs.frozen
class CellFinished:
    """A cell of an instance is over.

    Attributes:
        step: The instance's step.
        instance: Its name.
        cell: How the cell went.
    """

    step: str
    instance: str
    cell: CellRecord


@attrs.frozen
class OutputLine:
    """A line that an instance printed.

    Attributes:
        step: The instance's step.
        instance: Its name.
        stream: `stdout` or `stderr`.
        text: The line, without its end and without terminal escape sequences.
    """

    step: str
    instance: str
    stream: str
    text: str


@attrs.frozen
class InstanceFinished:
    """An instance has ended, or need not run.

    Attributes:
        step: Its step.
        instance: Its name.
        run: Its run, however it ended.
    """

    step: str
    instance: str
    run: Run


Event: TypeAlias = InstanceStarted | CellStarted | CellFinished | OutputLine | InstanceFinished
Listener: TypeAlias = Callable[[Event], object]
Watch: TypeAlias = Callable[[str, float], object]
"""Told again and again where a run is: in words, as `cell 3 of 9`, and how much of it is done."""


class Audience(Protocol):
    """Who hears, while one instance runs and on its thread, of its cells and what they print.

    What a method raises ends the run, and is raised by the call that made it.
    """

    def cell_started(self, number: int, line: int | None) -> None:
        """A cell begins: its number in the flow file, 0 for an inserted one, and its line."""

    def cell_finished(self, record: CellRecord) -> None:
        """A cell is over."""

    def stream(self, name: str, text: str) -> None:
        """The flow has printed some text, maybe a part of a line."""

    def output(self, kind: str, content: Mapping[str, Any]) -> None:
        """A cell has shown a result, a display or an error, as a kernel's message has it."""

    def close(self) -> None:
        """The run is over."""


@final
@attrs.frozen
class Audiences(Audience):
    """Several, each of which hears everything.

    Attributes:
        members: They, in the order in which they hear it.
    """

    members: Sequence[Audience]

    def cell_started(self, number: int, line: int | None) -> None:
        """See `Audience`, as for the rest."""
        for member in self.members:
            member.cell_started(number, line)

    def cell_finished(self, record: CellRecord) -> None:
        """A cell is over."""
        for member in self.members:
            member.cell_finished(record)

    def stream(self, name: str, text: str) -> None:
        """The flow has printed some text."""
        for member in self.members:
            member.stream(name, text)

    def output(self, kind: str, content: Mapping[str, Any]) -> None:
        """A cell has shown something."""
        for member in self.members:
            member.output(kind, content)

    def close(self) -> None:
        """The run is over."""
        for member in self.members:
            member.close()


@final
@attrs.define(eq=False)
class Publisher(Audience):
    """Tells a listener what one instance does, as events.

    Attributes:
        step: The instance's step.
        instance: Its name.
        listen: The listener.
    """

    step: str
    instance: str
    listen: Listener
    _partial: dict[str, str] = attrs.field(factory=dict)

    def cell_started(self, number: int, line: int | None) -> None:
        """A cell begins."""
        self.listen(CellStarted(self.step, self.instance, number, line))

    def cell_finished(self, record: CellRecord) -> None:
        """A cell is over."""
        self.listen(CellFinished(self.step, self.instance, record))

    def stream(self, name: str, text: str) -> None:
        """The flow has printed some text."""
        *whole, rest = (self._partial.pop(name, "") + text).split("\n")
        if len(rest) > LONGEST_LINE:
            whole, rest = [*whole, rest], ""
        for line in whole:
            self._line(name, line)
        if rest:
            self._partial[name] = rest

    def output(self, kind: str, content: Mapping[str, Any]) -> None:
        """A cell has shown something; no event is sent for it."""

    def close(self) -> None:
        """The run is over: tell lines that have no end."""
        for name, line in self._partial.items():
            self._line(name, line)
        self._partial.clear()

    def _line(self, name: str, line: str) -> None:
        shown = strip_ansi(line).removesuffix("\r").rpartition("\r")[2]
        self.listen(OutputLine(self.step, self.instance, name, shown))
