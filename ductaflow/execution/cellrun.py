"""Run the cells of one plan on one kernel, and know at every moment which one is running."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from signal import SIGTERM
from typing import Any, final

import attrs
from ductaflow_kernels.errors import KernelDied
from ductaflow_kernels.processes.process import describe_exit, read_work
from ductaflow_kernels.session.messages import Message
from ductaflow_kernels.session.session import LEFT, KernelSession

from ductaflow.documents.outputs import Limits, OutputFolder
from ductaflow.documents.runlog import strip_ansi
from ductaflow.documents.warned import WarningCount
from ductaflow.execution.artifacts import Artifacts
from ductaflow.execution.hints import hint
from ductaflow.execution.nudging import Nudge
from ductaflow.execution.runsecrets import NO_SECRETS, RunSecrets
from ductaflow.flowkit.metrics import scalars, scraps
from ductaflow.flows.imports import leaves_environment_alone
from ductaflow.flows.tracebacks import annotate_traceback, failing_line
from ductaflow.history.events import Audience, Watch
from ductaflow.model.flows import Cell, Tag
from ductaflow.model.plans import InstancePlan, Note
from ductaflow.model.records import METRICS_MIME, CellRecord, ErrorInfo, Status
from ductaflow.reuse.observation import NOTHING, Observation

INTERRUPT_AGAIN = 1.0  # seconds: the first signal may fall between two cells
TERMINATE_AFTER = 5.0  # seconds after the interrupt
KILL_AFTER = 7.0  # seconds after the interrupt
IDLE_FOR = 10.0  # seconds for which what is waited for after the last cell may do nothing
IDLE_TICKS = 10  # the CPU time that is nothing
SAMPLE_EVERY = 0.5  # seconds between looks at the kernel's memory
STOP_POLL = 0.2  # seconds between looks at `Stop`


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


@final
@attrs.define(eq=False)
class _State:
    """Where one cell stands."""

    index: int
    cell: Cell
    status: str = ""  # empty until its reply
    reply: Mapping[str, Any] = attrs.field(factory=dict)
    times: dict[str, str] = attrs.field(factory=dict)
    begun: float | None = None  # monotonic
    idle: bool = False

    @property
    def ran(self) -> bool:
        """Whether it has begun to run, as one that is aborted has not."""
        return "iopub.execute_input" in self.times

    @property
    def over(self) -> bool:
        return bool(self.status) and self.idle

    @property
    def executing(self) -> bool:
        return self.begun is not None and not self.status and not self.idle


@final
@attrs.define(eq=False)
class _Ending:
    """A run that must end: asked politely first, then less so."""

    status: Status
    why: str
    began: float
    stage: int = 0


@final
@attrs.define(eq=False)
class _Wait:
    """A wait for the end of a kernel: for as long as what it waits for does something.

    Attributes:
        since: When it last did something, by the monotonic clock.
        threads: Ids and names of the flow's threads that the kernel waits for.
        asked: Whether the kernel was asked to wait no longer.
        looked: When it was last looked at.
        ticks: The CPU time that had been used at `since`.
    """

    since: float
    threads: Mapping[str, str] = attrs.field(factory=dict)
    asked: bool = False
    looked: float = 0.0
    ticks: int = 0

    def idle(self, pid: int, now: float) -> bool:
        """Whether nothing has been done for too long; who waits for a CPU is not idle."""
        if now - self.looked >= STOP_POLL:
            self.looked = now
            work = read_work(pid, [*map(int, self.threads), pid] if self.threads else [pid])
            if work is not None and (work[1] or abs(work[0] - self.ticks) >= IDLE_TICKS):
                self.since, self.ticks = now, work[0]
        return now - self.since > IDLE_FOR


@final
class CellRun:
    """Sends the cells, folds what comes back, minds the clock."""

    def __init__(
        self,
        session: KernelSession,
        plan: InstancePlan,
        artifacts: Artifacts,
        stop: Stop,
        teller: Audience | None = None,
        watch: Watch | None = None,
        secrets: RunSecrets = NO_SECRETS,
    ) -> None:
        self._session = session
        self._secrets = secrets
        self._last_streams: dict[str, Message] = {}
        self._plan = plan
        self._artifacts = artifacts
        self._stop = stop
        self._teller = teller
        self._watch = watch
        self._cells = max((cell.number for cell in plan.cells), default=0)
        self._reached = 0  # the number of the flow's cell that runs, or ran last
        self._metrics: dict[str, Any] = {}
        self._recording: _State | None = None  # the last cell that called record()
        self._noted: Mapping[str, Any] = {}
        self._warned = WarningCount()
        self._folder = OutputFolder(Limits(log=artifacts.paths.log.name))
        self._states = {
            index: _State(index, cell) for index, cell in enumerate(plan.cells) if cell.runs
        }
        self._unsent = deque(self._states.values())
        self._by_request: dict[str, _State] = {}
        self._by_count: dict[int, Cell] = {}
        self._running: _State | None = None
        self._nudge = None if session.spec.managed else Nudge(session)
        self._error: ErrorInfo | None = None
        self._failing: int | None = None
        self._ending: _Ending | None = None
        self._shown: tuple[_State, Mapping[str, Any]] | None = None  # the first traceback
        self._finish_id = ""
        self._finish_wait: _Wait | None = None
        self._whole = not session.spec.managed
        self._lost: tuple[str, ...] = ()
        self._finish: dict[str, bool] = {"reply": False, "idle": False}
        self._has_last_words = False
        self._died: KernelDied | None = None
        self._peak: int | None = None
        self._sampled = 0.0
        self._notes: list[Note] = []
        self._start = time.monotonic()

    def run(self) -> Outcome:
        """Run to the end, whichever end that is."""
        self._send()
        self._artifacts.prepare()
        while not self._done():
            now = time.monotonic()
            try:
                messages = self._session.poll(self._wait(now))
            except KernelDied as e:
                self._died = e
                self._take_lost_replies()
                break
            for message in messages:
                self._handle(message)
            self._mind_the_clock(time.monotonic())
            self._wake(time.monotonic())
            self._say_where()
        if not self._session.spec.managed and self._died is None and self._ending is None:
            self._shut_down()
        self._show_held()
        self._artifacts.follow(time.monotonic())
        if self._teller is not None:
            self._teller.close()
        return self._outcome()

    def _take_lost_replies(self) -> None:
        """Take cells for done whose replies a crash took along: the kernel was at a later one."""
        last = self._session.last_request()
        if not last or (last != self._finish_id and last not in self._by_request):
            return  # it has not said so, as a kernel that is not ours does not
        for request, state in self._by_request.items():
            if request == last:
                break
            if not state.status:
                state.status = "ok"  # or no later cell would have run

    def _say_where(self) -> None:
        if self._watch is None:
            return
        if self._running is not None:
            self._reached = self._running.cell.number or self._reached
        where = f"cell {self._reached} of {self._cells}"
        if self._stop.requests:
            where = "stopping; Ctrl-C again to kill it"
        elif self._finish_wait is not None:
            where = "ending"
        elif not self._reached:
            where = "beginning"
        self._watch(where, self._reached / max(1, self._cells))

    def _shut_down(self) -> None:
        """Let a kernel that is not ours end in its own way, so that its files are written."""
        self._session.request("shutdown_request", {"restart": False}, channel="control")
        end = time.monotonic() + IDLE_FOR
        while time.monotonic() < end:
            try:
                messages = self._session.poll(STOP_POLL)
            except KernelDied:
                return
            for message in messages:
                self._handle(message)
        self._whole = False
        self._note("unfinished", f"the kernel was still there {IDLE_FOR:g} s after its end")

    # --- sending ------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send what can be sent: all cells ahead to a managed kernel, else one at a time."""
        if self._session.spec.managed:
            while self._unsent:
                self._send_one()
            self._finish_id = self._session.finish()
        elif self._unsent and self._error is None and self._ending is None:
            self._send_one()

    def _send_one(self) -> None:
        state = self._unsent.popleft()
        request = self._session.execute(
            self._secrets.revealed(state.cell),
            kept=not self._secrets.in_cell(state.cell),
            cell_id=state.cell.id,
            stop_on_error=Tag.RAISES not in state.cell.tags,
        )
        self._by_request[request] = state
        if self._nudge is not None:
            self._nudge.heard(time.monotonic())

    def _wake(self, now: float) -> None:
        """Ask something of a kernel that is not ours and is silent though it executes nothing."""
        state = self._first_waited_for()
        if self._nudge is not None and state is not None and not state.executing:
            self._nudge.wake(now, replied=bool(state.status))

    def _first_waited_for(self) -> _State | None:
        return next((state for state in self._by_request.values() if not state.over), None)

    def _done(self) -> bool:
        if self._session.spec.managed:
            return all(self._finish.values())
        if self._unsent and self._error is None and self._ending is None:
            return False
        return all(state.over for state in self._by_request.values())

    # --- listening ----------------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        """Take in a message, without the secrets that it may have in it."""
        masker = self._secrets.masker
        if masker and message.type == "stream":
            name = str(message.content.get("name"))
            text = masker.stream(name, str(message.content.get("text")))
            message = attrs.evolve(message, content={**message.content, "text": text})
            self._last_streams[name] = message
            if not text:
                return
        elif masker:
            if message.channel == "iopub":  # replies overtake what is printed
                self._show_held(message.parent)
            buffers = [masker.binary(bytes(data)) for data in message.buffers]
            content = masker.content(message.content)
            message = attrs.evolve(message, content=content, buffers=buffers)
        self._take(message)

    def _show_held(self, parent: str | None = None) -> None:
        """Take in what of streams was held back, for it is the beginning of no secret."""
        for name, last in self._last_streams.items():
            if parent not in (None, last.parent):
                continue
            text = self._secrets.masker.rest(name)
            if not text:
                continue
            self._take(attrs.evolve(last, content={**last.content, "text": text}))

    def _take(self, message: Message) -> None:
        state = self._by_request.get(message.parent)
        if state is not None:
            self._handle_cell(state, message)
        elif message.parent == self._finish_id:
            self._handle_finish(message)
        elif self._nudge is not None and self._nudge.passed(message.parent):
            self._take_lost_idle()
        elif message.type == "adopt_reply" and message.content.get("status") != "ok":
            self._error = ErrorInfo(
                kind="start",
                type=str(message.content.get("ename")),
                message=f"the kernel cannot work in {self._plan.directory}: "
                f"{message.content.get('evalue')}",
            )
        elif message.channel == "iopub":
            left = message.parent == LEFT  # by the cell that ran when the kernel died or was stuck
            self._fold((self._first_unanswered() or self._last_run()) if left else None, message)

    def _take_lost_idle(self) -> None:
        """End a cell that was answered: the kernel has gone on to what was asked later."""
        state = self._first_waited_for()
        if state is not None and state.status:
            state.idle = True
            self._settle(state)

    def _handle_cell(self, state: _State, message: Message) -> None:
        kind = message.type
        if self._nudge is not None:
            self._nudge.heard(time.monotonic())
        if kind == "status":
            self._handle_status(state, message)
        elif kind == "execute_input":
            state.times["iopub.execute_input"] = message.date
            self._by_count[message.content.get("execution_count") or 0] = state.cell
            self._artifacts.notebook.set_execution(
                state.index, message.content.get("execution_count"), state.times
            )
        elif kind == "execute_reply":
            self._handle_reply(state, message)
        elif message.channel == "iopub":
            self._fold(state, message)
        if state.over and kind in ("execute_reply", "status"):
            self._settle(state)

    def _handle_status(self, state: _State, message: Message) -> None:
        phase = str(message.content.get("execution_state"))
        state.times[f"iopub.status.{phase}"] = message.date
        if phase == "busy":
            state.begun = time.monotonic()
            self._running = state
        elif phase == "idle":
            state.idle = True

    def _handle_reply(self, state: _State, message: Message) -> None:
        state.reply = message.content
        state.status = str(message.content.get("status"))
        state.times["shell.execute_reply"] = message.date
        started = message.metadata.get("started")
        if started:
            state.times["shell.execute_reply.started"] = str(started)
        if state.status == "error" and Tag.RAISES not in state.cell.tags:
            self._fail(state, state.reply)
        elif state.reply.get("left_early"):
            number = state.cell.number
            where = f"cell {number}" if number else "an inserted cell"
            self._note("early", f"ended early in {where}: later cells did not run")

    def _fail(self, state: _State, content: Mapping[str, Any]) -> None:
        if self._error is None and self._ending is None:
            self._failing = state.index
            self._error = self._cell_error(state, content)

    def _settle(self, state: _State) -> None:
        """A cell is over."""
        if self._running is state:
            self._running = None
        self._fail_if_shown()
        if state.status != "aborted":
            notebook = self._artifacts.notebook
            notebook.set_execution(state.index, state.reply.get("execution_count"), state.times)
            self._artifacts.changed(state.index)
            self._artifacts.settled(state.index)
            self._tell_widgets()
            if self._teller is not None:
                self._teller.cell(_cell_record(state, None))
        if not self._session.spec.managed:
            self._send()

    def _handle_finish(self, message: Message) -> None:
        if message.type == "finish_reply":
            self._finish["reply"] = True
            self._take_end(message.content)
            self._peak = message.content.get("peak_memory") or self._peak
            self._noted = message.content.get("observed", {})
            self._warned.logged(message.content.get("warnings"))
            if self._plan.options.preload is not None and leaves_environment_alone(self._plan.flow):
                self._session.imported = message.content.get("imported", ())
        elif message.type == "status":
            if message.content.get("execution_state") == "busy":
                self._finish_wait = _Wait(time.monotonic())
                self._say_heard()
            else:
                self._finish["idle"] = True
        elif message.type == "last_words":
            self._has_last_words = True
            self._say_heard()
        elif message.type == "ending" and self._finish_wait is not None:
            self._finish_wait.threads = message.content.get("threads", {})
        elif message.channel == "iopub":
            self._fold(self._last_run(), message)

    def _take_end(self, content: Mapping[str, Any]) -> None:
        """Take in how the kernel came to its end."""
        asked = self._finish_wait is not None and self._finish_wait.asked
        self._whole = bool(content.get("whole")) and not asked
        self._lost = tuple(content.get("lost", ()))
        problems = list(content.get("problems", ()))
        if content.get("status") != "ok":
            problems.append(f"ending the kernel: {content.get('ename')}: {content.get('evalue')}")
        for problem in problems:
            self._note("unfinished", f"at the run's end: {problem}")

    def _last_run(self) -> _State | None:
        """The cell that ran last: what is printed after it is printed there."""
        return next((s for s in reversed(self._states.values()) if s.ran), None)

    def _say_heard(self) -> None:
        """Let a kernel that waits for it go on to its exit handlers: both channels are read."""
        if self._has_last_words and self._finish_wait is not None:
            self._session.heard()

    def _fold(self, state: _State | None, message: Message) -> None:
        if message.type == "display_data" and METRICS_MIME in message.content.get("data", {}):
            self._metrics.update(scalars(message.content["data"][METRICS_MIME]))
            self._recording = state or self._recording
            return
        if message.type == "stream":
            name, text = str(message.content.get("name")), str(message.content.get("text"))
            self._artifacts.log.stream(name, text, time.monotonic())
            self._warned.stream(name, text)
            if self._teller is not None:
                self._teller.stream(name, text)
        elif message.type in ("error", "execute_result", "display_data"):
            if message.type == "error":
                if state is not None and Tag.RAISES not in state.cell.tags:
                    self._shown = self._shown or (state, {**message.content})
                self._annotate(message)
            self._artifacts.log.output(message.type, message.content)
            if self._teller is not None:
                self._teller.output(message.type, message.content)
        changed = self._folder.apply(state.index if state else None, message)
        for index in changed:
            self._artifacts.notebook.set_outputs(index, partial(self._folder.outputs, index))
        self._artifacts.changed(*changed)

    def _fail_if_shown(self) -> None:
        """A traceback on the page is a failure, whatever the kernel says of the cell."""
        if self._shown is not None:
            self._fail(*self._shown)

    def _tell_widgets(self) -> None:
        """Let Output widgets in the kernel know what they have captured, as a front end does."""
        for comm_id, state in self._folder.replies():
            data = {"method": "update", "state": state, "buffer_paths": []}
            self._session.request("comm_msg", {"comm_id": comm_id, "data": data})

    def _annotate(self, message: Message) -> None:
        message.content["traceback"] = annotate_traceback(
            message.content.get("traceback", ()), self._by_count, self._plan.flow_display
        )

    # --- the clock ----------------------------------------------------------------------------

    def _wait(self, now: float) -> float:
        """Seconds until something must be looked at."""
        if self._ending is not None:
            return 0.1
        waits = [STOP_POLL]
        deadline = self._deadline()
        if deadline is not None:
            waits.append(deadline[0] - now)
        return max(0.0, min(waits))

    def _deadline(self) -> tuple[float, str] | None:
        """When the next time limit is reached, and in words."""
        options, limits = self._plan.options, []
        if options.timeout is not None:
            limits.append((self._start + options.timeout, f"the run's {options.timeout:g} s"))
        running = self._running
        if options.cell_timeout is not None and running is not None and running.begun is not None:
            limits.append(
                (running.begun + options.cell_timeout, f"a cell's {options.cell_timeout:g} s")
            )
        return min(limits, default=None)

    def _mind_the_clock(self, now: float) -> None:
        self._artifacts.follow(now)
        if now - self._sampled > SAMPLE_EVERY:
            self._sampled = now
            self._peak = self._session.process.peak_memory() or self._peak
        if self._ending is None:
            deadline = self._deadline()
            if self._stop.requests:
                self._end(Status.INTERRUPTED, "interrupted", now)
            elif deadline is not None and now >= deadline[0]:
                self._end(Status.TIMED_OUT, f"it took longer than {deadline[1]}", now)
            elif self._finish_wait is not None and self._finish_wait.idle(
                self._session.process.pid, now
            ):
                self._give_up_on_finish(self._finish_wait, now)
        else:
            self._escalate(self._ending, now)

    def _give_up_on_finish(self, wait: _Wait, now: float) -> None:
        """Have the kernel go on with its end; if it cannot, end it."""
        names = ", ".join(sorted(set(wait.threads.values())))
        what = f"threads of the flow ({names})" if names else "exit handlers or open files"
        if wait.asked:
            self._note("unfinished", f"{what} kept the kernel from its end; it was killed")
            self._finish = {"reply": True, "idle": True}
            return
        wait.asked, wait.since = True, now
        remedy = "; join them, or make them daemons" if names else ""
        self._note(
            "unfinished",
            f"{what} had done nothing for {IDLE_FOR:g} s after the last cell, and were not waited "
            f"for any longer{remedy}",
        )
        self._session.give_up()
        if not names:  # they run in the main thread
            self._session.interrupt()

    def _end(self, status: Status, why: str, now: float) -> None:
        running = self._running
        self._ending = _Ending(status, why, now)
        self._failing = running.index if running else None
        self._error = ErrorInfo(
            kind=status.value,
            type={Status.TIMED_OUT: "Timeout"}.get(status, "Interrupted"),
            message=why,
            cell=running.cell.number or None if running else None,
            line=running.cell.line if running else None,
        )
        self._artifacts.log.say(f"{why}; interrupting the kernel")
        self._session.interrupt()

    def _escalate(self, ending: _Ending, now: float) -> None:
        """Interrupt again, then terminate, then kill."""
        since = now - ending.began
        if ending.stage == 0 and since > INTERRUPT_AGAIN and self._running is not None:
            ending.stage = 1
            self._session.interrupt()
        elif ending.stage <= 1 and since > TERMINATE_AFTER:
            ending.stage = 2
            self._artifacts.log.say("the kernel goes on; terminating it")
            self._session.process.signal(SIGTERM)
        elif since > KILL_AFTER or self._stop.requests > 1:
            self._artifacts.log.say("the kernel goes on; killing it")
            self._session.process.kill()

    # --- the end ------------------------------------------------------------------------------

    def _leave_scraps(self) -> None:
        """Leave what was published in the notebook, for readers of scrapbook's outputs."""
        if self._recording is not None:
            index = self._recording.index
            outputs = [*self._folder.outputs(index), *scraps(self._metrics)]
            self._artifacts.notebook.set_outputs(index, outputs)
            self._artifacts.changed(index)

    def _outcome(self) -> Outcome:
        self._leave_scraps()
        notebook = self._artifacts.notebook
        notebook.widget_state = self._folder.widget_state()
        if self._died is None:
            self._fail_if_shown()
        status, error, failing = Status.SUCCEEDED, self._error, self._failing
        if self._ending is not None:
            status = self._ending.status
        elif self._died is not None and error is not None:
            status = Status.FAILED  # it died after the error, as it ended
        elif self._died is not None:
            status = Status.DIED
            running = self._first_unanswered()
            failing = running.index if running else None
            error = self._death(self._died)
        elif error is not None:
            status = Status.FAILED
        elif self._lost:
            status, error = Status.FAILED, self._lost_error()
        kernel: dict[str, Any] = {"source": self._session.source, "pid": self._session.process.pid}
        if self._died is not None:
            kernel["exit"] = describe_exit(self._died.exit_code)
        return Outcome(
            status=status,
            error=error,
            failing=failing,
            cells=self._records(status),
            notes=tuple(self._notes),
            kernel=kernel,
            environment={"python": self._session.info.get("language_info", {}).get("version", "")},
            peak_memory=self._peak_memory(),
            metrics=self._metrics,
            noted=self._noted,
            warnings=self._warned.total,
            whole=self._whole,
        )

    def _lost_error(self) -> ErrorInfo:
        return ErrorInfo(
            kind="end",
            type="OutputLost",
            message=f"what the flow had written could not be saved at its end: "
            f"{'; '.join(self._lost)}",
        )

    def _peak_memory(self) -> int | None:
        at_death = self._died.peak_memory if self._died is not None else None
        return max(filter(None, (self._peak, at_death)), default=None)

    def _death(self, died: KernelDied) -> ErrorInfo:
        running = self._first_unanswered()
        peak = self._peak_memory()
        parts = [describe_exit(died.exit_code)]
        if peak:
            parts.append(f"peak {format_bytes(peak)}")
        number = running.cell.number if running else 0
        parts.append(
            f"during cell {number}"
            if number
            else "in an inserted cell"
            if running
            else "at its end"
        )
        return ErrorInfo(
            kind="died",
            type="KernelDied",
            message="; ".join(parts),
            cell=number or None,
            line=running.cell.line if running else None,
        )

    def _first_unanswered(self) -> _State | None:
        """The cell that a dead kernel was running: its last words may be lost, not the order."""
        return next((state for state in self._states.values() if not state.status), None)

    def _cell_error(self, state: _State, reply: Mapping[str, Any]) -> ErrorInfo:
        cell = state.cell
        name, message = str(reply.get("ename", "")), str(reply.get("evalue", ""))
        if name == "StdinNotImplementedError":
            message = "a run has nobody to answer input(); take the value from the config"
        message += hint(name, message, self._plan)
        raw = [str(line) for line in reply.get("traceback", ())]
        lines = annotate_traceback(raw, self._by_count, self._plan.flow_display)
        return ErrorInfo(
            kind="cell",
            type=name,
            message=message,
            cell=cell.number or None,
            line=failing_line(raw, self._by_count) or cell.line,
            traceback=tuple(strip_ansi("\n".join(lines)).splitlines()),
        )

    def _records(self, status: Status) -> tuple[CellRecord, ...]:
        records: list[CellRecord] = []
        running = self._first_unanswered() if status is not Status.FAILED else None
        for index, cell in enumerate(self._plan.cells):
            state = self._states.get(index)
            if cell.kind != "code" or (state is None and Tag.SKIP not in cell.tags):
                continue
            if state is None:
                records.append(CellRecord(cell.number, cell.line, "skipped"))
            else:
                records.append(_cell_record(state, status if state is running else None))
        return tuple(records)

    def _note(self, kind: str, message: str) -> None:
        self._notes.append(Note(kind, message))


def _cell_record(state: _State, ended: Status | None) -> CellRecord:
    started = state.times.get("iopub.execute_input")
    finished = state.times.get("shell.execute_reply")
    # Without a reply it was running when the run ended so, or never began.
    status = state.status or (ended.value if ended else "aborted")
    seconds = None
    if started and finished:
        with contextlib.suppress(ValueError, TypeError):  # a foreign kernel's own idea of a date
            span = datetime.fromisoformat(finished) - datetime.fromisoformat(started)
            seconds = round(span.total_seconds(), 6)
    return CellRecord(state.cell.number, state.cell.line, status, started, finished, seconds)


def format_bytes(count: int) -> str:
    """Bytes for people, as `3.1 GiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
