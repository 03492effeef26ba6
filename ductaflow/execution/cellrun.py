"""Run the cells of one plan on one kernel, and know at every moment which one is running."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, final

from ductaflow_kernels.errors import KernelDied
from ductaflow_kernels.processes.process import describe_exit
from ductaflow_kernels.session.messages import Message
from ductaflow_kernels.session.session import LEFT, KernelSession

from ductaflow.documents.outputs import Limits, OutputFolder
from ductaflow.documents.warned import WarningCount
from ductaflow.execution.artifacts import Artifacts
from ductaflow.execution.audience import OrderedAudience
from ductaflow.execution.cellstates import CellState, CellStates
from ductaflow.execution.finish import Finish, Wait
from ductaflow.execution.nudging import Nudge
from ductaflow.execution.outcome import Outcome, Stop
from ductaflow.execution.runend import RunEnd
from ductaflow.execution.runsecrets import NO_SECRETS, MaskedMessages, RunSecrets
from ductaflow.flowkit.metrics import scalars, scraps
from ductaflow.flows.imports import leaves_environment_alone
from ductaflow.flows.tracebacks import annotate_traceback
from ductaflow.history.events import Audience, Watch
from ductaflow.model.flows import Cell
from ductaflow.model.kinds import FailureKind, NoteKind
from ductaflow.model.records import METRICS_MIME, ErrorInfo, Status
from ductaflow.plans.plan import InstancePlan

SAMPLE_EVERY = 0.5  # seconds between looks at the kernel's memory
SHUT_DOWN_WITHIN = 60.0  # seconds for which a kernel that is not ours may go on after its end
STOP_POLL = 0.2  # seconds between looks at `Stop`


@final
class CellRun:
    """Sends the cells, folds what comes back, minds the clock."""

    def __init__(
        self,
        session: KernelSession,
        plan: InstancePlan,
        artifacts: Artifacts,
        stop: Stop,
        audience: Audience | None = None,
        watch: Watch | None = None,
        secrets: RunSecrets = NO_SECRETS,
    ) -> None:
        self._session = session
        self._managed = session.spec.managed
        self._secrets = secrets
        self._masked = MaskedMessages(secrets.masker)
        self._plan = plan
        self._artifacts = artifacts
        self._stop = stop
        self._audience = OrderedAudience(audience)
        self._watch = watch
        self._number_of_cells = max((cell.number for cell in plan.cells), default=0)
        self._reached = 0  # the number of the flow's cell that runs, or ran last
        self._metrics: dict[str, Any] = {}
        self._recording: CellState | None = None  # the last cell that called record()
        self._noted: Mapping[str, Any] = {}
        self._warned = WarningCount()
        self._folder = OutputFolder(Limits(log=artifacts.paths.log.name))
        self._cells = CellStates(plan)
        self._by_count: dict[int, Cell] = {}
        self._running: CellState | None = None
        self._shown: tuple[CellState, Mapping[str, Any]] | None = None  # the first traceback
        self._nudge = None if self._managed else Nudge(session)
        self._finish = Finish(session)
        self._end = RunEnd(plan, whole=not self._managed)
        self._peak: int | None = None
        self._sampled = 0.0
        self._start = time.monotonic()

    def run(self) -> Outcome:
        """Run to the end, whichever end that is."""
        self._send()
        self._artifacts.prepare()
        while not self._done():
            try:
                messages = self._session.poll(self._wait(time.monotonic()))
            except KernelDied as e:
                self._end.died = e
                self._take_lost_replies()
                break
            for message in messages:
                self._handle(message)
            self._mind_the_clock(time.monotonic())
            self._wake(time.monotonic())
            self._say_where()
        if not self._managed and self._end.died is None and self._end.interruption is None:
            self._shut_down()
        for message in self._masked.rest():
            self._take(message)
        self._artifacts.follow(time.monotonic())
        self._audience.close()
        return self._outcome()

    def _done(self) -> bool:
        if self._managed:
            return self._finish.over
        if self._cells.unsent and not self._end.decided:
            return False
        return self._cells.first_waited_for() is None

    def _say_where(self) -> None:
        if self._watch is None:
            return
        if self._running is not None:
            self._reached = self._running.cell.number or self._reached
        where = f"cell {self._reached} of {self._number_of_cells}"
        if self._stop.requests:
            where = "stopping; Ctrl-C again to kill it"
        elif self._finish.begun:
            where = "ending"
        elif not self._reached:
            where = "beginning"
        self._watch(where, self._reached / max(1, self._number_of_cells))

    # --- sending ------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send what can be sent: all cells in advance to a managed kernel, else one at a time."""
        if self._managed:
            while self._cells.unsent:
                self._send_one()
            self._finish.ask()
        elif self._cells.unsent and not self._end.decided:
            self._send_one()

    def _send_one(self) -> None:
        state = self._cells.unsent.popleft()
        request = self._session.execute(
            self._secrets.revealed(state.cell),
            kept=not self._secrets.in_cell(state.cell),
            cell_id=state.cell.id,
            stop_on_error=state.fails,
        )
        self._cells.sent(request, state)
        if self._nudge is not None:
            self._nudge.heard(time.monotonic())

    def _wake(self, now: float) -> None:
        """Ask something of a kernel that is not ours and is silent though it executes nothing."""
        state = self._cells.first_waited_for()
        if self._nudge is not None and state is not None and not state.executing:
            self._nudge.wake(now, replied=bool(state.status))

    def _shut_down(self) -> None:
        """Let a kernel that is not ours end in its own way, so that its files are written."""
        self._session.request("shutdown_request", {"restart": False}, channel="control")
        began = now = time.monotonic()
        wait = Wait(began, every_thread=True)
        deadline = self._deadline()
        until = min(began + SHUT_DOWN_WITHIN, deadline[0] if deadline else math.inf)
        while (
            not wait.idle(self._session.process.pid, now)
            and not self._stop.requests
            and now < until
        ):
            try:
                messages = self._session.poll(STOP_POLL)
            except KernelDied:
                return
            for message in messages:
                self._handle(message)
            now = time.monotonic()
            self._artifacts.follow(now)
        self._end.whole = False
        seconds = now - began
        self._end.note(
            NoteKind.UNFINISHED,
            f"the kernel was still there {seconds:.0f} s after it was asked to end",
        )

    # --- listening ----------------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        """Take in a message, without the secrets that it may have in it."""
        for masked in self._masked.of(message):
            self._take(masked)

    def _take(self, message: Message) -> None:
        state = self._cells.of(message.parent)
        if state is not None:
            self._handle_cell(state, message)
        elif message.parent == self._finish.request:
            self._handle_finish(message)
        elif self._nudge is not None and self._nudge.asked(message.parent):
            self._handle_nudged(self._nudge, message)
        elif message.type == "adopt_reply" and message.content.get("status") != "ok":
            self._end.error = ErrorInfo(
                kind=FailureKind.START,
                type=str(message.content.get("ename")),
                message=f"the kernel cannot work in {self._plan.directory}: "
                f"{message.content.get('evalue')}",
            )
        elif message.channel == "iopub":
            left = message.parent == LEFT  # by the cell that ran when the kernel died or was stuck
            at = (self._cells.first_unanswered() or self._cells.last_run()) if left else None
            self._fold(at, message)

    def _handle_nudged(self, nudge: Nudge, message: Message) -> None:
        """Take in what is said under the id of a question: by threads of the flow, too."""
        if message.channel != "iopub":
            return
        if message.type != "status":
            self._fold(self._cells.last_run(), message)
        elif nudge.passed(message.parent):
            # The kernel has gone on to what was asked after it had answered for the cell.
            state = self._cells.first_waited_for()
            if state is not None and state.status:
                state.idle = True
                self._settle(state)

    def _take_lost_replies(self) -> None:
        """Take cells for done whose replies a crash took along."""
        last = self._session.last_request()  # a kernel that is not ours does not say so
        if last and (last == self._finish.request or self._cells.of(last) is not None):
            self._cells.take_lost_replies(last)

    def _handle_cell(self, state: CellState, message: Message) -> None:
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
            self._audience.cell_started(state)
        elif kind == "execute_reply":
            self._handle_reply(state, message)
        elif message.channel == "iopub":
            self._fold(state, message)
        if state.over and kind in ("execute_reply", "status"):
            self._settle(state)

    def _handle_status(self, state: CellState, message: Message) -> None:
        phase = str(message.content.get("execution_state"))
        state.times[f"iopub.status.{phase}"] = message.date
        if phase == "busy":
            state.begun = time.monotonic()
            self._running = state
        elif phase == "idle":
            state.idle = True

    def _handle_reply(self, state: CellState, message: Message) -> None:
        state.reply = message.content
        state.status = str(message.content.get("status"))
        state.times["shell.execute_reply"] = message.date
        started = message.metadata.get("started")
        if started:
            state.times["shell.execute_reply.started"] = str(started)
        if state.status == "error" and state.fails:
            self._end.fail(state, state.reply, self._by_count)
        elif state.reply.get("left_early"):
            number = state.cell.number
            where = f"cell {number}" if number else "an inserted cell"
            self._end.note(NoteKind.EARLY, f"ended early in {where}: later cells did not run")

    def _settle(self, state: CellState) -> None:
        """A cell is over."""
        if state.settled:
            return
        state.settled = True
        if self._running is state:
            self._running = None
        self._fail_if_shown()
        if state.status != "aborted":
            notebook = self._artifacts.notebook
            notebook.set_execution(state.index, state.reply.get("execution_count"), state.times)
            self._artifacts.changed(state.index)
            self._artifacts.settled(state.index)
            self._tell_widgets()
            self._audience.cell_finished(state)
        if not self._managed:
            self._send()

    def _handle_finish(self, message: Message) -> None:
        if message.type == "finish_reply":
            self._finish.replied()
            self._end.take(message.content, given_up=self._finish.given_up)
            self._peak = message.content.get("peak_memory") or self._peak
            self._noted = message.content.get("observed", {})
            self._warned.logged(message.content.get("warnings"))
            if self._plan.options.preload is not None and leaves_environment_alone(self._plan.flow):
                self._session.imported = message.content.get("imported", ())
        elif message.type == "status":
            busy = message.content.get("execution_state") == "busy"
            self._finish.status(busy, time.monotonic())
        elif message.type == "last_words":
            self._finish.last_words()
        elif message.type == "ending":
            self._finish.waits_for(message.content.get("threads", {}))
        elif message.channel == "iopub":
            self._fold(self._cells.last_run(), message)

    def _fold(self, state: CellState | None, message: Message) -> None:
        if message.type == "display_data" and METRICS_MIME in message.content.get("data", {}):
            self._metrics.update(scalars(message.content["data"][METRICS_MIME]))
            self._recording = state or self._recording
            return
        if message.type == "stream":
            name, text = str(message.content.get("name")), str(message.content.get("text"))
            self._artifacts.log.stream(name, text, time.monotonic())
            self._warned.stream(name, text)
            self._audience.stream(name, text)
        elif message.type in ("error", "execute_result", "display_data"):
            if message.type == "error":
                if state is not None and state.fails:
                    self._shown = self._shown or (state, {**message.content})
                self._annotate(message)
            self._artifacts.log.output(message.type, message.content)
            self._audience.output(message.type, message.content)
        changed = self._folder.apply(state.index if state else None, message)
        for index in changed:
            self._artifacts.notebook.set_outputs(index, partial(self._folder.outputs, index))
        self._artifacts.changed(*changed)

    def _fail_if_shown(self) -> None:
        """A traceback on the page is a failure, whatever the kernel says of the cell."""
        if self._shown is not None:
            self._end.fail(*self._shown, self._by_count)

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
        if self._end.interruption is not None:
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
        interruption = self._end.interruption
        if interruption is not None:
            interruption.escalate(
                self._session,
                self._artifacts.log,
                now,
                running=self._running is not None,
                at_once=self._stop.requests > 1,
            )
            return
        deadline = self._deadline()
        if self._stop.requests:
            self._interrupt(Status.INTERRUPTED, "interrupted", now)
        elif deadline is not None and now >= deadline[0]:
            self._interrupt(Status.TIMED_OUT, f"it took longer than {deadline[1]}", now)
        else:
            given_up = self._finish.mind(now)
            if given_up:
                self._end.note(NoteKind.UNFINISHED, given_up)

    def _interrupt(self, status: Status, why: str, now: float) -> None:
        self._end.interrupt(status, why, self._running, now)
        self._artifacts.log.say(f"{why}; interrupting the kernel")
        self._session.interrupt()

    # --- the outcome --------------------------------------------------------------------------

    def _leave_scraps(self) -> None:
        """Leave what was published in the notebook, for readers of scrapbook's outputs."""
        if self._recording is not None:
            index = self._recording.index
            outputs = [*self._folder.outputs(index), *scraps(self._metrics)]
            self._artifacts.notebook.set_outputs(index, outputs)
            self._artifacts.changed(index)

    def _outcome(self) -> Outcome:
        self._leave_scraps()
        self._artifacts.notebook.widget_state = self._folder.widget_state()
        end = self._end
        if end.died is None:
            self._fail_if_shown()
        at_death = end.died.peak_memory if end.died is not None else None
        peak = max(filter(None, (self._peak, at_death)), default=None)
        status = end.decide(self._cells.first_unanswered(), peak)
        kernel: dict[str, Any] = {"source": self._session.source, "pid": self._session.process.pid}
        if end.died is not None:
            kernel["exit"] = describe_exit(end.died.exit_code)
        return Outcome(
            status=status,
            error=end.error,
            failing=end.failing,
            cells=self._cells.records(status),
            notes=tuple(end.notes),
            kernel=kernel,
            environment={"python": self._session.info.get("language_info", {}).get("version", "")},
            peak_memory=peak,
            metrics=self._metrics,
            noted=self._noted,
            warnings=self._warned.total,
            whole=end.whole,
        )
