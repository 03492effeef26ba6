"""How a sweep shows that it goes on: one line that changes, or lines that add up in a log."""

from __future__ import annotations

import html
import os
import shutil
import sys
import time
from enum import Enum
from typing import Any, Protocol, final

import attrs

from ductaflow.history.entries import Entry
from ductaflow.model.records import ErrorInfo, Status
from ductaflow.text.escapes import one_line

REFRESH = 0.5  # seconds between refreshes of a display
LOG_EVERY = 30.0  # seconds between lines in a log
LOG_SHARE = 10  # and at most so many of them for what is done
_SHOWN_LINES = 20  # in a notebook


@final
@attrs.define(eq=False)
class Tally:
    """How far a sweep is.

    Attributes:
        total: How many instances there are; None if that is not known.
        began: When it began, as all times here by the monotonic clock in seconds.
        counts: How many have ended in each way.
        reused: For how many an earlier run was reused.
        running: When each that runs now began.
        stopping: Whether those that run have been told to end.
    """

    total: int | None
    began: float
    counts: dict[Status, int] = attrs.field(factory=dict)
    reused: int = 0
    running: dict[str, float] = attrs.field(factory=dict)
    stopping: bool = False

    @property
    def done(self) -> int:
        """How many have ended."""
        return sum(self.counts.values())

    def started(self, instance: str, now: float) -> None:
        """An instance begins."""
        self.running.setdefault(instance, now)

    def finished(self, entry: Entry) -> None:
        """An instance has ended."""
        self.running.pop(entry.instance, None)
        self.counts[entry.status] = self.counts.get(entry.status, 0) + 1
        self.reused += entry.reused

    def line(self, now: float) -> str:
        """It all in one line."""
        parts = [f"{self.done}/{self.total}" if self.total is not None else str(self.done)]
        parts += [
            f"{status.symbol} {count} {status.label}" for status, count in self.counts.items()
        ]
        if self.reused:
            parts.append(f"{self.reused} reused")
        if self.running:
            parts.append(f"{Status.RUNNING.symbol} {len(self.running)} running")
            if self.stopping:
                return " · ".join([*parts, "stopping; Ctrl-C again to kill them"])
        executed, elapsed = self.done - self.reused, now - self.began
        if executed and elapsed > 0:
            rate = executed / elapsed
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            if self.total is not None and self.running:
                parts.append(f"{clock((self.total - self.done) / rate)} left")
        if self.running:
            slowest, since = min(self.running.items(), key=lambda item: item[1])
            if now - since >= 1:
                parts.append(f"slowest: {slowest} {clock(now - since)}")
        return " · ".join(parts)


def clock(seconds: float) -> str:
    """A duration as people read it: `41 s`, `3:07`, `2:03:07`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def failure_line(entry: Entry) -> str:
    """A failed run in one line: what, and where."""
    error = entry.error or ErrorInfo(entry.status.value, entry.status.label, "")
    text = f"{entry.status.symbol} {entry.instance}: {error.sentence(entry.flow)}"
    return " ".join(text.split())[:500]


class Display(Protocol):
    """Where progress is shown."""

    def update(self, tally: Tally, now: float) -> None:
        """Show how far it is."""

    def say(self, line: str) -> None:
        """Show at once what is to stay."""

    def close(self, tally: Tally, now: float) -> None:
        """Show how it ended."""


@final
@attrs.define(eq=False)
class TerminalDisplay:
    """One line at the bottom of a terminal."""

    stream: Any
    _shown: float = 0.0

    def update(self, tally: Tally, now: float) -> None:
        if now - self._shown >= REFRESH / 2:
            self._shown = now
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r{one_line(tally.line(now))[:width]}\x1b[K")

    def say(self, line: str) -> None:
        self._write(f"\r\x1b[K{one_line(line)}\n")
        self._shown = 0.0

    def close(self, tally: Tally, now: float) -> None:
        self._write(f"\r\x1b[K{one_line(tally.line(now))} · {clock(now - tally.began)}\n")

    def _write(self, text: str) -> None:
        self.stream = written(self.stream, text)


def written(stream: Any, text: str) -> Any:
    """Write to a terminal; the stream, or None once that is gone, which ends no run."""
    if stream is None:
        return None
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return None
    return stream


@final
@attrs.define(eq=False)
class LogDisplay:
    """Plain lines, for a file or a pipe."""

    stream: Any
    _shown: float = attrs.field(factory=time.monotonic)
    _done: int = 0

    def update(self, tally: Tally, now: float) -> None:
        if tally.done == tally.total:
            return  # `close` says it
        step = max(1, (tally.total or 0) // LOG_SHARE)
        much = tally.total is not None and tally.done - self._done >= step and now - self._shown > 1
        if much or now - self._shown >= LOG_EVERY:
            self._shown, self._done = now, tally.done
            self.say(tally.line(now))

    def say(self, line: str) -> None:
        self.stream = written(self.stream, f"{one_line(line)}\n")

    def close(self, tally: Tally, now: float) -> None:
        self.say(f"{tally.line(now)} · {clock(now - tally.began)}")


@final
@attrs.define(eq=False)
class NotebookDisplay:
    """An output of a cell in Jupyter, brought up to date in its place."""

    _lines: list[str] = attrs.field(factory=list)
    _handle: Any = None
    _shown: float = 0.0

    def update(self, tally: Tally, now: float) -> None:
        if now - self._shown >= REFRESH:
            self._shown = now
            self._show(tally, now)

    def say(self, line: str) -> None:
        self._lines.append(line)
        self._shown = 0.0

    def close(self, tally: Tally, now: float) -> None:
        self._show(tally, now)

    def _show(self, tally: Tally, now: float) -> None:
        line = f"{tally.line(now)} · {clock(now - tally.began)}"
        shown = self._lines[-_SHOWN_LINES:]
        lines = "".join(f"<li>{html.escape(text)}</li>" for text in shown)
        bar = f'<progress value="{tally.done}" max="{tally.total}"></progress> ' * bool(tally.total)
        page = f"<div>{bar}<code>{html.escape(line)}</code><ul>{lines}</ul></div>"
        bundle = {"text/html": page, "text/plain": "\n".join([line, *shown])}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


@final
class NoDisplay:
    """Nothing is shown."""

    def update(self, tally: Tally, now: float) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def close(self, tally: Tally, now: float) -> None:
        """Nothing."""


class Surface(Enum):
    """Where what a program shows is seen."""

    NOTEBOOK = "notebook"
    TERMINAL = "terminal"
    LOG = "log"


def surface() -> Surface:
    """Where what this program shows is seen."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        return Surface.NOTEBOOK
    stream = terminal()
    if stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb":
        return Surface.TERMINAL
    return Surface.LOG


def terminal() -> Any:
    """The stream for what is shown beside a program's own output; None if there is none."""
    return sys.stderr


def choose_display(wanted: bool) -> Display:
    """The display that is right for where this program runs."""
    if not wanted or sys.stderr is None:
        return NoDisplay()
    where = surface()
    if where is Surface.NOTEBOOK:
        return NotebookDisplay()
    return TerminalDisplay(sys.stderr) if where is Surface.TERMINAL else LogDisplay(sys.stderr)
