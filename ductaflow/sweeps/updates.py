"""Bring what is there up to date, explain why it is not, accept that it need not be.

`update` reruns what is stale among the runs that are there, each after those that it reads from:

    runs/ ──▶ graph of who reads from whom ──▶ those asked for and all they depend on
          ──▶ as soon as all above one are done: decide, run ──▶ again, until nothing is stale
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, final

import attrs
from ductaflow_kernels.pool import shared_pool

from ductaflow.errors import ArtifactError, DuctaflowError, InstanceBusy, SweepInterrupted
from ductaflow.execution.executors import LOCAL
from ductaflow.execution.outcome import Stop
from ductaflow.execution.refresh import refreshed
from ductaflow.execution.runner import find_reusable, interruptible
from ductaflow.flows.finding import resolve_flow
from ductaflow.flows.reading import read_flow
from ductaflow.flows.syntax import language
from ductaflow.history.catalog import all_runs, load_run
from ductaflow.history.entries import Entry
from ductaflow.history.lineage import Graph, Label
from ductaflow.history.lock import instance_lock
from ductaflow.history.recordfile import read_record, write_record
from ductaflow.history.run import Run
from ductaflow.history.runs import Runs
from ductaflow.model.ages import Age
from ductaflow.model.facts import CacheDecision, Reason
from ductaflow.model.kinds import FailureKind, NoteKind, ReasonKind
from ductaflow.model.options import RunOptions
from ductaflow.model.plans import Note
from ductaflow.model.records import ErrorInfo, RunRecord, Status
from ductaflow.plans.options import make_options, recorded_options
from ductaflow.plans.plan import InstancePlan, names_of, plan_instance
from ductaflow.progress.sweepprogress import REFRESH, Tally, choose_display, failure_line
from ductaflow.project.environment import kernel_environment
from ductaflow.project.layout import instance_dir, runs_dir
from ductaflow.project.root import project_root
from ductaflow.project.settings import load_settings
from ductaflow.project.workers import worker_count
from ductaflow.reuse.decision import renewed
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.repeat import plan_again
from ductaflow.sweeps.turns import Turns, in_turn

PathLike = str | os.PathLike[str]
Target = Run | str | None

_MAX_ROUNDS = 20  # a run may come to read from others than before; then once more


# --- one instance --------------------------------------------------------------------------------


def explain(
    flow: PathLike,
    step: str | None = None,
    instance: str | Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    root: PathLike | None = None,
    ignore: Sequence[str] = (),
    max_age: Age | None = None,
    defaults: bool = True,
) -> CacheDecision:
    """Whether `run_step_flow` would run an instance, and why; nothing is run.

    Args:
        flow: As for `run_step_flow`, its short form `explain("step", "instance", config)` too.
        step: The step's name.
        instance: The instance's name.
        config: What the flow would get; if left out, what its last run had.
        root: The project root; see `run_step_flow`.
        ignore: Changes that do not count; see `run_step_flow`.
        max_age: For how long runs that connected to other hosts are reused; likewise.
        defaults: Whether the flow's default counts beside a config that is given; likewise.

    Raises:
        DuctaflowError: There is no such flow, or its config or a name is not fit; see
            `run_step_flow`.
    """
    options = RunOptions(ignore=tuple(ignore), defaults=defaults)
    plan = _plan(flow, step, instance, config, root, options, max_age)
    last, decision = find_reusable(plan, Interpreters(kernel_environment(plan.root)))
    report = last.html if last is not None and last.html.is_file() else None
    return attrs.evolve(decision, label=plan.label, root=plan.root, report=report)


def accept(
    flow: PathLike,
    step: str | None = None,
    instance: str | None = None,
    *,
    root: PathLike | None = None,
) -> Run:
    """Mark what has changed since an instance's last run as harmless, without running it.

    From now on it counts as if it had run with what is there now; its record notes what was
    accepted.

    Args:
        flow: As for `run_step_flow`, its short form `accept("step", "instance")` too.
        step: The step's name.
        instance: The instance's name.
        root: The project root; see `run_step_flow`.

    Returns:
        The run, with its new record.

    Raises:
        DuctaflowError: There is a reason to run it that cannot be accepted: it has not run, did not
            succeed, or lacks files.
        InstanceBusy: It is running.
    """
    plan = _plan(flow, step, instance, None, root, RunOptions())
    interpreters = Interpreters(kernel_environment(plan.root))
    last, _ = find_reusable(plan, interpreters)
    if last is None:
        raise DuctaflowError(f"{plan.label} has not run yet, so there is nothing to accept; run it")
    with instance_lock(last.paths):
        record = read_record(last.paths.record) or last.record
        decision = interpreters.decide(plan, record)
        hard = [reason for reason in decision.reasons if not reason.kind.acceptable]
        if hard:
            raise DuctaflowError(f"{plan.label} must run: {'; '.join(map(str, hard))}")
        if decision.reasons:
            record = renewed(record, plan, interpreters.environment, interpreters.of(plan))
            note = Note(NoteKind.ACCEPTED, f"accepted without running: {decision}")
            record = attrs.evolve(record, notes=(*record.notes, note))
            write_record(last.paths.record, record)
    return Run(record, last.paths, reused=True)


def _plan(
    flow: PathLike,
    step: str | None,
    instance: str | Mapping[str, Any] | None,
    config: Mapping[str, Any] | None,
    root: PathLike | None,
    options: RunOptions,
    max_age: Age | None = None,
) -> InstancePlan:
    project = project_root(root, flow)
    path = resolve_flow(flow, project, Path.cwd())
    step, instance, config = names_of(path, step, instance, config)
    directory = instance_dir(project, step, instance)
    last = load_run(directory)
    if last is not None:
        recorded = recorded_options(last.brief.options)
        options = attrs.evolve(options, html=recorded.get("html", True))
        if config is None:
            config = last.given
            options = attrs.evolve(options, defaults=bool(recorded.get("defaults", True)))
    parsed = read_flow(path)
    settings = load_settings(project).of(language(parsed), parsed.metadata, path)
    age = make_options({"max_age": max_age}, settings).max_age
    options = attrs.evolve(options, max_age=age)
    return plan_instance(
        parsed, config, step, instance, directory, project, options, with_config=True
    )


# --- many ----------------------------------------------------------------------------------------


def update(
    target: Target | Iterable[Target] = None,
    *,
    root: PathLike | None = None,
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: bool = True,
) -> Runs:
    """Rerun what is stale among the runs that are there, each after those that it reads from.

    Args:
        target: What to bring up to date: a run, an instance as `step/instance`, a step, several of
            these, or all there is if left out. What they depend on comes with them.
        root: The project root; found from where the caller is, if left out.
        workers: How many kernels at once; if left out as the project's settings say, else as many
            as there are cores.
        force: Rerun those asked for, changed or not.
        dry_run: Run nothing: those that would run because of a change of their own have `status`
            `planned`, and so have those below them, which run if the files they read come out
            other than before.
        progress: Whether to show how far it is.

    Returns:
        The runs, each after those that it reads from. What cannot be run, as where its flow is
        gone, has the status `failed`; those above which one failed have the status `blocked` and
        an error that names it.

    Raises:
        DuctaflowError: There is no such run or step.
        SweepInterrupted: Ctrl-C; it has the runs there are.
    """
    project = project_root(root)
    count = worker_count(workers, os.environ, load_settings(project).workers)
    graph = Graph.of(all_runs(project), project)
    asked = _asked(graph, target, project)
    job = _Update(project, graph, asked, count, force)
    return job.planned() if dry_run else job.execute(progress=progress)


def _asked(graph: Graph, target: Target | Iterable[Target], root: Path) -> list[Label]:
    if target is None:
        return sorted(graph.runs)
    if not isinstance(target, str | Run):
        return list(dict.fromkeys(x for each in target for x in _asked(graph, each, root)))
    label = target if isinstance(target, str) else target.label
    found = [each for each in sorted(graph.runs) if each == label or each.startswith(f"{label}/")]
    if not found:
        raise DuctaflowError(
            f"there is no run or step {label!r} in {runs_dir(root)}: name a step, or step/instance"
        )
    return found


@final
@attrs.define(eq=False)
class _Update:
    """One update: the graph, and how far it is."""

    root: Path
    graph: Graph
    asked: list[Label]
    workers: int
    force: bool
    stop: Stop = attrs.field(factory=Stop)
    _entries: dict[Label, Entry] = attrs.field(factory=dict)

    def planned(self) -> Runs:
        """What would run."""
        interpreters = Interpreters(kernel_environment(self.root))
        stale: set[Label] = set()
        for label in in_turn(self._wanted(), self.graph.parents):
            run = self.graph.runs[label]
            blocked = self._blocked(label)
            if blocked is not None:
                self._entries[label] = Entry.of(blocked, 0, attempts=0)
                continue
            above = [p for p in self.graph.parents[label] if p in stale]
            forced = self.force and label in self.asked
            try:
                plan = plan_again(run, self.root, force=forced)
            except DuctaflowError as e:
                self._entries[label] = Entry.of(_failed(run, e), 0, attempts=0)
                continue
            decision = interpreters.decide(plan, run.brief)
            reasons = (
                *decision.reasons,
                *(Reason(ReasonKind.DATA, f"{p} would run") for p in above),
            )
            if reasons:
                stale.add(label)
                run = Run(
                    attrs.evolve(run.record, status=Status.PLANNED, reasons=reasons, error=None),
                    run.paths,
                )
            self._entries[label] = Entry.of(attrs.evolve(run, reused=not reasons), 0)
        return self._runs()

    def execute(self, *, progress: bool) -> Runs:
        """Run what is stale, in rounds, until nothing is."""
        forced = set(self.asked) if self.force else set()
        with shared_pool().reserve(self.workers):
            for _ in range(_MAX_ROUNDS):
                wanted = self._wanted()
                executed = self._round(wanted, forced, progress=progress)
                if self.stop.requests:
                    runs = self._runs()
                    raise SweepInterrupted(f"the update was interrupted: {runs!r}", runs)
                forced, before = set(), self.graph
                self.graph = Graph.of(all_runs(self.root), self.root)
                if not executed or self.graph.parents == before.parents:
                    break
        return self._runs()

    def _wanted(self) -> list[Label]:
        return [*self.asked, *self.graph.above(self.asked)]

    def _round(self, wanted: list[Label], forced: set[Label], *, progress: bool) -> bool:
        """Decide on each once all above it are done; whether any was executed."""
        tally = Tally(len(wanted), time.monotonic())
        display = choose_display(progress)
        turns = Turns(in_turn(wanted, self.graph.parents), self.graph.parents)
        executed = False
        futures: dict[Future[Run], Label] = {}
        interpreters = Interpreters(kernel_environment(self.root))

        def take(label: Label, run: Run, attempts: int) -> None:
            entry = Entry.of(run, 0, attempts)
            # What ran in an earlier round and is reused in this one has run.
            if attempts or run.status.bad or label not in self._entries:
                self._entries[label] = entry
            tally.finished(attrs.evolve(entry, instance=label))
            if entry.status.bad:
                display.say(failure_line(entry))
            turns.end(label)

        with interruptible(self.stop), ThreadPoolExecutor(self.workers) as threads:
            while turns or futures:
                if self.stop.requests:
                    turns.clear()
                label = turns.begin() if len(futures) < self.workers else None
                if label is None and not futures:
                    label = turns.begin_anyway()
                if label is not None:
                    decided = self._decided(label, label in forced, interpreters)
                    if isinstance(decided, Run):
                        take(label, decided, 0)
                    else:
                        tally.started(label, time.monotonic())
                        futures[threads.submit(self._run, label, *decided)] = label
                ended = wait(futures, 0 if label else REFRESH, FIRST_COMPLETED)[0]
                display.update(tally, time.monotonic())
                for job in ended:
                    run = job.result()
                    did_run = run.record.started != ""
                    executed = executed or did_run
                    take(futures.pop(job), run, int(did_run))
        display.close(tally, time.monotonic())
        return executed

    def _decided(
        self, label: Label, forced: bool, interpreters: Interpreters
    ) -> Run | tuple[InstancePlan, tuple[Reason, ...]]:
        """The run, if it is reused or cannot be run again; else what is to run, and why."""
        run = self.graph.runs[label]
        blocked = self._blocked(label)
        if blocked is not None:
            return blocked
        try:
            plan = plan_again(run, self.root, force=forced)
            if not interpreters.decide(plan, run.brief).reuse:
                return plan, interpreters.decide(plan, run.record).reasons  # with all that it says
            return refreshed(plan, attrs.evolve(run, reused=True), interpreters)
        except DuctaflowError as e:
            return _failed(run, e)

    def _run(self, label: Label, plan: InstancePlan, reasons: tuple[Reason, ...]) -> Run:
        """Run one; one that does not come about has failed."""
        try:
            return LOCAL.run(plan, self.stop, reasons)
        except DuctaflowError as e:
            return _failed(self.graph.runs[label], e)

    def _blocked(self, label: Label) -> Run | None:
        """One above which another failed, as it stands; None if none did."""
        for parent in self.graph.parents[label]:
            above = self._entries.get(parent)
            if above is not None and above.status.bad:
                error = ErrorInfo(FailureKind.BLOCKED, "Blocked", f"{parent} {above.status.label}")
                return _not_run(self.graph.runs[label], Status.BLOCKED, error)
        return None

    def _runs(self) -> Runs:
        entries = [
            attrs.evolve(self._entries[label], number=number)
            for number, label in enumerate(in_turn(self._entries, self.graph.parents))
        ]
        return Runs(tuple(entries), self.root)


def _failed(run: Run, error: DuctaflowError) -> Run:
    kind = FailureKind.FLOW
    if isinstance(error, InstanceBusy | ArtifactError):
        kind = FailureKind.BUSY if isinstance(error, InstanceBusy) else FailureKind.ARTIFACT
    return _not_run(run, Status.FAILED, ErrorInfo(kind, type(error).__name__, str(error)))


def _not_run(run: Run, status: Status, error: ErrorInfo) -> Run:
    record = RunRecord(status, run.record.flow, run.step, run.instance, started="", error=error)
    return Run(record, run.paths)
