"""The last steps of a kernel of ours, after the last cell: threads, exit handlers, open files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs
from ductaflow_kernels.processes.process import read_work
from ductaflow_kernels.session.session import KernelSession

IDLE_FOR = 10.0  # seconds for which what is waited for after the last cell may do nothing
IDLE_TICKS = 10  # the CPU time that is nothing
LOOK_EVERY = 0.2  # seconds between looks at what is waited for


@final
@attrs.define(eq=False)
class Wait:
    """A wait for the end of a kernel: for as long as what it waits for does something.

    Attributes:
        since: When it last did something, by the monotonic clock.
        threads: Ids and names of the flow's threads that the kernel waits for.
        looked: When it was last looked at.
        ticks: The CPU time that had been used at `since`.
        every_thread: Whether it waits for all threads of the process, whichever they are.
    """

    since: float
    threads: Mapping[str, str] = attrs.field(factory=dict)
    looked: float = 0.0
    ticks: int = 0
    every_thread: bool = False

    def idle(self, pid: int, now: float) -> bool:
        """Whether nothing has been done for too long; who waits for a CPU is not idle."""
        if now - self.looked >= LOOK_EVERY:
            self.looked = now
            known = [*map(int, self.threads), pid]  # without threads the main one matters
            work = read_work(pid, None if self.every_thread else known)
            if work is not None and (work[1] or abs(work[0] - self.ticks) >= IDLE_TICKS):
                self.since, self.ticks = now, work[0]
        return now - self.since > IDLE_FOR


@final
class Finish:
    """Asks a kernel for its last steps, and waits for them as long as they go on.

    Attributes:
        request: The request that asks for them; empty until then.
        given_up: Whether the kernel was asked to wait no longer.
    """

    def __init__(self, session: KernelSession) -> None:
        self._session = session
        self._replied = self._idle = self._has_last_words = False
        self._wait: Wait | None = None
        self.request = ""
        self.given_up = False

    def ask(self) -> None:
        """Ask for them."""
        self.request = self._session.finish()

    @property
    def begun(self) -> bool:
        """Whether the kernel has begun with them."""
        return self._wait is not None

    @property
    def over(self) -> bool:
        """Whether all has been said."""
        return self._replied and self._idle

    def replied(self) -> None:
        """Take note that the kernel has answered."""
        self._replied = True

    def status(self, busy: bool, now: float) -> None:
        """Take note that the kernel begins, or is done."""
        if busy:
            self._wait = Wait(now)
            self._say_heard()
        else:
            self._idle = True

    def waits_for(self, threads: Mapping[str, str]) -> None:
        """Take note of the threads, ids and names, that the kernel waits for."""
        if self._wait is not None:
            self._wait.threads = threads

    def last_words(self) -> None:
        """Take note that the kernel wants to be heard before its exit handlers may end it."""
        self._has_last_words = True
        self._say_heard()

    def _say_heard(self) -> None:
        """Let a kernel that waits for it go on to its exit handlers: both channels are read."""
        if self._has_last_words and self._wait is not None:
            self._session.heard()

    def mind(self, now: float) -> str:
        """If nothing has been done for too long, have the kernel go on; if it cannot, end it.

        Returns:
            What was given up, for a note; empty if nothing was.
        """
        wait = self._wait
        if wait is None or not wait.idle(self._session.process.pid, now):
            return ""
        names = ", ".join(sorted(set(wait.threads.values())))
        what = f"threads of the flow ({names})" if names else "exit handlers or open files"
        if self.given_up:
            self._replied = self._idle = True
            return f"{what} kept the kernel from its end; it was killed"
        self.given_up, wait.since = True, now
        self._session.give_up()
        if not names:  # they run in the main thread
            self._session.interrupt()
        remedy = "; join them, or make them daemons" if names else ""
        return (
            f"{what} had done nothing for {IDLE_FOR:g} s after the last cell, and were not waited "
            f"for any longer{remedy}"
        )
