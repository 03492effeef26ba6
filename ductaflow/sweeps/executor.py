"""A sweep at work: threads that run its tasks, and the one thread on which its caller hears of it.

    tasks ──▶ worker threads, one kernel each ──queue──▶ the caller's thread: progress, events, runs

Workers take the tasks in their order, and deliver what they ran. All that callers see happens on
their own thread. The queue is short: a caller that is slow makes the workers wait.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, final

import attrs
from ductaflow_kernels.pool import shared_pool
from ductaflow_kernels.processes.machine import start_thread

from ductaflow.delivery.delivery import export_run
from ductaflow.errors import DuctaflowError, InstanceBusy
from ductaflow.execution.outcome import Stop
from ductaflow.execution.runner import interruptible
from ductaflow.history.entries import Entry
from ductaflow.history.events import Event, InstanceFinished, InstanceStarted, Publisher
from ductaflow.history.index import Index
from ductaflow.history.run import Run
from ductaflow.model.facts import CacheDecision
from ductaflow.model.kinds import FailureKind
from ductaflow.model.records import ErrorInfo, Status
from ductaflow.plans.notes import LOOKED_AT, for_people
from ductaflow.plans.plan import InstancePlan
from ductaflow.progress.sweepprogress import REFRESH, Tally, choose_display, failure_line
from ductaflow.project.lasttable import write_last_table
from ductaflow.sweeps.planning import Candidate, SweepPlan
from ductaflow.sweeps.sweepoptions import SweepOptions
from ductaflow.sweeps.tasks import Task
from ductaflow.upkeep.pruning import left_by_table, remove

if TYPE_CHECKING:
    from ductaflow.report.live import LiveIndex

LONGEST_WAIT = 60.0  # seconds between two attempts
_AHEAD = 64  # events that wait for the caller before workers wait for it


@final
@attrs.frozen
class _Ended:
    """A task is over, or could not be begun."""

    entry: Entry
    run: Run


@final
@attrs.frozen
class _Left:
    """A worker has nothing more to do, or cannot go on."""

    error: BaseException | None = None


@final
@attrs.define(eq=False)
class SweepExecutor:
    """The workers of one sweep, and what its caller does with what they send.

    Attributes:
        sweep: What is to be done.
        options: How.
        workers: How many work at once.
        stop: Asks all that run to end.
        late: Of a sweep that was cut short, what ended after the caller had stopped listening.
    """

    sweep: SweepPlan
    options: SweepOptions
    workers: int
    stop: Stop = attrs.field(factory=Stop)
    late: list[Entry] = attrs.field(factory=list)
    _source: Iterator[Candidate] = attrs.field(init=False)
    _queue: queue.Queue[Event | list[_Ended] | _Left] = attrs.field(
        factory=lambda: queue.Queue(_AHEAD)
    )
    _next_lock: threading.Lock = attrs.field(factory=threading.Lock)
    _no_more: threading.Event = attrs.field(factory=threading.Event)
    _threads: list[threading.Thread] = attrs.field(factory=list)
    _live: LiveIndex | None = None
    _looked_at: int = 0  # runs for what is odd about their configs
    _noted: set[str] = attrs.field(factory=set)

    def work(self) -> Iterator[tuple[Entry, Run]]:
        """Run it all; each run as it ends. Closing the iterator ends those that still run."""
        sweep = self.sweep
        try:
            with Index(sweep.root) as index:
                index.refresh(sweep.step)
                self._source = sweep.candidates(index)
                self._open_page()
                self._note_table(sweep.tasks.every)
                names, failed = [], False
                for entry, run in self._work_through():
                    names.append(entry.instance)
                    failed = failed or entry.failed
                    yield entry, run
                if failed and self.options.on_error == "stop":
                    return
                whole = self.options.only is None and self.options.limit is None
                if sweep.tasks.every is None and whole:  # a generator's are known only now
                    self._note_table(names)
                if self.options.prune:
                    remove(left_by_table(sweep.root, sweep.step), sweep.root)
        finally:
            if self._live is not None:
                self._live.close()
            with Index(sweep.root) as index:  # anew: its folder may not have been there
                index.refresh(sweep.step)

    def _note_table(self, names: Iterable[str] | None) -> None:
        if names is not None and not self.options.part:
            sweep = self.sweep
            write_last_table(
                sweep.root,
                sweep.step,
                sweep.flow_display,
                names,
                alone=self.options.prune,
            )

    def _open_page(self) -> None:
        sweep = self.sweep
        if self.options.live:
            from ductaflow.report.live import LiveIndex

            names = (sweep.tasks.names or {}).values()
            self._live = LiveIndex.open(
                self.options.live, sweep.root, sweep.step, sweep.flow, names
            )

    def _work_through(self) -> Iterator[tuple[Entry, Run]]:
        tally = Tally(self.sweep.tasks.count, time.monotonic())
        display = choose_display(self.options.progress)
        with shared_pool().reserve(self.workers):
            errors: list[BaseException] = []
            over: deque[_Ended] = deque()
            atexit.register(self._abandon)  # daemon threads do not outlive the interpreter's end
            try:
                working = self._start()
                while working:
                    item = self._hear(tally, display.update)
                    if isinstance(item, _Left):
                        working -= 1
                        if item.error is not None:
                            errors.append(item.error)
                            self._no_more.set()
                    elif isinstance(item, list):
                        over.extend(item)
                        while over:
                            ended = over[0]
                            tally.finished(ended.entry)
                            for line in self._told_of(ended):
                                display.say(line)
                            self._tell(
                                InstanceFinished(self.sweep.step, ended.entry.instance, ended.run)
                            )
                            over.popleft()
                            yield ended.entry, ended.run
                    else:
                        if isinstance(item, InstanceStarted):
                            tally.started(item.instance, time.monotonic())
                        self._tell(item)
                for thread in self._threads:
                    thread.join()
            finally:
                self.late += [ended.entry for ended in over]
                self._abandon()
                atexit.unregister(self._abandon)
                display.close(tally, time.monotonic())
        if errors:
            raise errors[0]
        if self.stop.requests:
            raise KeyboardInterrupt(f"the sweep of {self.sweep.step} was interrupted")

    def _told_of(self, ended: _Ended) -> Iterator[str]:
        """What people see at once of a run that has ended."""
        if self._looked_at < LOOKED_AT:
            self._looked_at += 1
            for line in for_people(ended.run.notes):
                if line not in self._noted:
                    self._noted.add(line)
                    yield line
        if ended.entry.failed:
            yield failure_line(ended.entry)

    # --- on the caller's thread ---------------------------------------------------------------

    def _start(self) -> int:
        """Let the workers begin; how many there are."""
        for number in range(self.workers):
            name = f"ductaflow-sweep-{number + 1}"
            thread = start_thread(name, self._work)
            if thread is None:
                break
            self._threads.append(thread)
        if not self._threads:
            raise DuctaflowError(
                "not a single thread can be started: this process may use too little memory "
                "(`ulimit -v`) or too few threads (`ulimit -u`)"
            )
        return len(self._threads)

    def _hear(
        self, tally: Tally, update: Callable[[Tally, float], None]
    ) -> Event | list[_Ended] | _Left:
        """Wait for what a worker says; Ctrl-C meanwhile asks them all to stop."""
        with interruptible(self.stop):
            while True:
                tally.stopping = bool(self.stop.requests)
                update(tally, time.monotonic())
                try:
                    return self._queue.get(timeout=REFRESH)
                except queue.Empty:
                    continue

    def _tell(self, event: Event) -> None:
        if self._live is not None:
            self._live(event)
        if self.options.on_event is not None:
            self.options.on_event(event)

    def _abandon(self) -> None:
        """The caller goes on without us: end what still runs, and wait for it."""
        self._no_more.set()
        if self._at_work():
            self.stop.request()
        with interruptible(self.stop):  # a second Ctrl-C kills what the first has not ended
            while self._at_work() or not self._queue.empty():
                with contextlib.suppress(queue.Empty):
                    item = self._queue.get(timeout=0.05)
                    if isinstance(item, list):
                        self.late += [ended.entry for ended in item]

    def _at_work(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    # --- on a worker's thread -----------------------------------------------------------------

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            while (candidate := self._next()) is not None:
                run, attempts = self._one(candidate)
                task = candidate.task
                entry = self._deliver(task, run, Entry.of(run, task.number, attempts))
                if self.options.on_error == "stop" and entry.failed:
                    self._no_more.set()
                self._queue.put([_Ended(entry, run)])
        except BaseException as e:  # it is the caller's, whatever it is
            error = e
        self._queue.put(_Left(error))

    def _next(self) -> Candidate | None:
        """The next task for which there is something to do; those before it are over.

        One thread looks at a time: nearly all of it is Python's own work.
        """
        reusable: list[_Ended] = []
        with self._next_lock:
            try:
                while not (self.stop.requests or self._no_more.is_set()):
                    candidate = next(self._source, None)
                    if candidate is None or candidate.reusable is None or candidate.outdated:
                        return candidate
                    if self.options.export_to is not None:
                        return candidate
                    entry = Entry.of(candidate.reusable, candidate.task.number, attempts=0)
                    reusable.append(_Ended(entry, candidate.reusable))
                    if len(reusable) >= self.sweep.at_once:
                        self._queue.put(reusable)
                        reusable = []
                return None
            finally:
                if reusable:
                    self._queue.put(reusable)

    def _one(self, candidate: Candidate) -> tuple[Run, int]:
        """Run a task unless its last run is reused, again if need be; with how many attempts."""
        task, plan = candidate.task, candidate.plan
        reusable = self.sweep.reused(candidate)
        if reusable is not None:
            return reusable, 0
        attempt = 1
        while True:
            self._queue.put(InstanceStarted(self.sweep.step, task.instance, attempt))
            if isinstance(plan, DuctaflowError):
                return self._failed(task, plan), attempt
            run = self._attempt(task, plan, candidate.decision)
            if attempt > self.options.retries or not self.options.retried(run.error):
                return run, attempt
            self._pause(min(LONGEST_WAIT, self.options.retry_wait * 2 ** (attempt - 1)))
            if self.stop.requests:
                return run, attempt
            attempt += 1

    def _attempt(self, task: Task, plan: InstancePlan, decision: CacheDecision) -> Run:
        try:
            listened = self.options.on_event is not None or self._live is not None
            audience = Publisher(plan.step, plan.instance, self._queue.put) if listened else None
            return self.options.executor.run(plan, self.stop, decision.reasons, audience)
        except DuctaflowError as e:
            return self._failed(task, e)

    def _failed(self, task: Task, error: DuctaflowError) -> Run:
        """A run that did not come about."""
        kind = FailureKind.BUSY if isinstance(error, InstanceBusy) else FailureKind.ARTIFACT
        info = ErrorInfo(kind, type(error).__name__, str(error))
        return self.sweep.not_run(task, Status.FAILED, error=info)

    def _deliver(self, task: Task, run: Run, entry: Entry) -> Entry:
        template = self.options.export_to
        if template is None or not run.ok:
            return entry
        target = task.target or ""
        try:
            export_run(run, target, self.options.export_files, self.sweep.root)
        except DuctaflowError as e:
            error = ErrorInfo(FailureKind.EXPORT, type(e).__name__, str(e))
            return attrs.evolve(entry, exported=target, error=error)
        return attrs.evolve(entry, exported=target)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.stop.requests:
            time.sleep(min(0.1, seconds))
