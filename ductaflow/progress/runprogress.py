"""What people see of a single run: where it is while it runs, then a line with the way to it.

A terminal has one line at its bottom for all that run in this process, and Jupyter one output for
all that one cell runs. In a log there is nothing, and in the notebook of a flow that runs flows
only what they came to.
"""

from __future__ import annotations

import contextlib
import html
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, final

import attrs

from ductaflow.flowkit.declarations import is_observed
from ductaflow.history.run import Run
from ductaflow.plans.notes import for_people
from ductaflow.progress.sweepprogress import REFRESH, Surface, clock, surface, terminal, written
from ductaflow.text.escapes import one_line

_PATIENCE = 0.2  # seconds for which a run goes on before it is shown
_LINES = 20  # of what has ended, in one output of a notebook


@final
@attrs.define(eq=False)
class _At:
    """Where one run is."""

    label: str
    began: float
    patience: float
    where: str = ""
    share: float = 0.0

    def line(self, now: float) -> str:
        return f"{self.label} · {self.where} · {clock(now - self.began)}"


class _Screen(Protocol):
    """Where runs are shown; threads take turns with it."""

    def update(self, running: list[_At], now: float) -> None:
        """Show where they are."""

    def ended(self, run: Run, running: list[_At], now: float) -> None:
        """Show how one has ended."""

    def gone(self, running: list[_At]) -> None:
        """One is over, and there is nothing to say of it."""


@final
@attrs.define(eq=False)
class View:
    """What one run tells of itself.

    Attributes:
        label: What it is called.
    """

    label: str
    _board: _Board
    _at: _At

    def watch(self, where: str, share: float) -> None:
        """The run goes on."""
        self._at.where, self._at.share = where, share
        self._board.update()

    def ended(self, run: Run) -> None:
        """It is over."""
        self._board.ended(self._at, run)

    def close(self) -> None:
        """It will say no more."""
        self._board.forget(self._at)


@final
@attrs.define(eq=False)
class _Board:
    """All runs that one screen shows."""

    screen: _Screen
    _opened: bool  # the first run of a process takes the longest to begin
    _running: list[_At] = attrs.field(factory=list)
    _shown: float = 0.0
    _lock: threading.RLock = attrs.field(factory=threading.RLock)

    def open(self, label: str) -> View:
        at = _At(label, time.monotonic(), _PATIENCE if self._opened else 0.0)
        with self._lock:
            self._opened = True
            self._running.append(at)
        return View(label, self, at)

    def update(self) -> None:
        now = time.monotonic()
        if now - self._shown < REFRESH:
            return
        with self._lock:
            told = [at for at in self._running if at.where and now - at.began >= at.patience]
            if told and now - self._shown >= REFRESH:
                self._shown = now
                self.screen.update(told, now)

    def ended(self, at: _At, run: Run) -> None:
        with self._lock:
            self._running.remove(at)
            self.screen.ended(run, self._running, time.monotonic())
            self._shown = 0.0

    def forget(self, at: _At) -> None:
        with self._lock:
            if at in self._running:
                self._running.remove(at)
                self.screen.gone(self._running)
                self._shown = 0.0


# --- a terminal ---------------------------------------------------------------------------------


@final
@attrs.define(eq=False)
class _Terminal:
    """One line at the bottom of a terminal."""

    stream: Any
    _there: bool = False

    def update(self, running: list[_At], now: float) -> None:
        many = len(running) > 1
        parts = [f"▶ {len(running)} running"] if many else []
        parts += [("" if many else "▶ ") + at.line(now) for at in running]
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\r{one_line(' · '.join(parts))[:width]}\x1b[K")
        self._there = True

    def ended(self, run: Run, running: list[_At], now: float) -> None:  # noqa: ARG002
        before = "\r\x1b[K" if self._there else ""
        self._there = False
        notes = "".join(f"{one_line(line)}\n" for line in for_people(run.notes))
        told = f"{one_line(run.summary())} · {one_line(_from_here(str(run.opened)))}\n"
        self._write(f"{before}{notes}{told}")

    def gone(self, running: list[_At]) -> None:  # noqa: ARG002
        if self._there:
            self._there = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self.stream = written(self.stream, text)


def _from_here(path: str) -> str:
    """A path as short as a shell in the current folder needs it."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive
        return path
    return relative if len(relative) < len(path) else path


# --- Jupyter ------------------------------------------------------------------------------------


@final
@attrs.define(eq=False)
class _Output:
    """The output of a notebook's cell that shows what the cell runs, brought up to date in place.

    Many runs may end within a second; what is not shown at once is shown when the cell ends.
    """

    shell: Any
    live: bool
    _lines: list[tuple[str, str]] = attrs.field(factory=list)  # text, HTML
    _ended: int = 0
    _last: Run | None = None
    _handle: Any = None
    _shown: float = 0.0
    _waiting: bool = False
    _over: bool = False

    def __attrs_post_init__(self) -> None:
        self.shell.events.register("post_run_cell", self._cell_over)

    def update(self, running: list[_At], now: float) -> None:
        if self.live:
            self._show(running, now)

    def ended(self, run: Run, running: list[_At], now: float) -> None:
        plain = not self.live
        notes = for_people(run.notes)
        text = "\n".join([run.summary(plain=plain), *notes])
        page = "<br>".join([run.summary_html(plain=plain), *map(html.escape, notes)])
        self._lines = [*self._lines, (text, page)][-_LINES:]
        self._ended += 1
        self._last = run
        if self._over or now - self._shown >= REFRESH:
            self._show(running if self.live else [], now)
        else:
            self._waiting = True

    def gone(self, running: list[_At]) -> None:
        if self._handle is not None and self.live:
            self._show(running, time.monotonic())

    def _cell_over(self, cell: Any) -> None:
        self.shell.events.unregister("post_run_cell", self._cell_over)
        self._over = True
        if self._handle is not None and self._ended == 1 and cell.result is self._last:
            self._handle.update({"text/html": "", "text/plain": ""}, raw=True)  # the cell shows it
        elif self._waiting:
            self._show([], time.monotonic())

    def _show(self, running: list[_At], now: float) -> None:
        self._shown, self._waiting = now, False
        more = self._ended - len(self._lines)
        texts = [f"{more} more before"] * bool(more) + [text for text, _ in self._lines]
        pages = [f"<div>{more} more before</div>"] * bool(more)
        pages += [f"<div>{page}</div>" for _, page in self._lines]
        for at in running:
            texts.append(f"▶ {at.line(now)}")
            bar = f'<progress value="{at.share:.3f}" max="1"></progress>'
            pages.append(f"<div>{bar} <code>{html.escape(at.line(now))}</code></div>")
        bundle = {"text/html": "".join(pages), "text/plain": "\n".join(texts)}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


# --- which --------------------------------------------------------------------------------------

_boards: dict[str, tuple[object, _Board]] = {}
_choosing = threading.Lock()


@contextlib.contextmanager
def shown(label: str, *, wanted: bool) -> Iterator[View | None]:
    """Show a run, where somebody looks on.

    Args:
        label: What to call it.
        wanted: Whether the caller wants it.

    Yields:
        What to tell of the run; None where nothing is shown.
    """
    board = _board() if wanted else None
    if board is None:
        yield None
        return
    view = board.open(label)
    view.watch("beginning", 0.0)
    try:
        yield view
    finally:
        view.close()


def _board() -> _Board | None:
    """The board of the terminal, or of the cell of the notebook that is being run."""
    where = surface()
    if where is Surface.LOG:
        return None
    if where is Surface.TERMINAL:
        stream = terminal()
        return _kept("terminal", stream, lambda: _Terminal(stream))
    shell = sys.modules["IPython"].get_ipython()
    cell = getattr(shell.display_pub, "parent_header", {}).get("msg_id")
    return _kept("notebook", cell, lambda: _Output(shell, live=not is_observed()))


def _kept(name: str, key: object, make: Callable[[], _Screen]) -> _Board:
    """The board that is there for this key, or a new one in the place of that of another."""
    with _choosing:
        if name not in _boards or _boards[name][0] != key:
            _boards[name] = key, _Board(make(), bool(_boards))
        return _boards[name][1]
