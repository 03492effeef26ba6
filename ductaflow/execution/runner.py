"""Run a plan: find its kernel, hold its folder, execute; what `conductor` and `sweeps` share."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import attrs
from ductaflow_kernels.errors import KernelStartError, LeaseCancelled
from ductaflow_kernels.pool import KernelPool, shared_pool
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.spec import KernelRequest, KernelSpec

from ductaflow.errors import (
    CellFailed,
    DuctaflowError,
    FlowError,
    FlowSyntaxError,
    KernelFailed,
    RunFailed,
    RunTimedOut,
)
from ductaflow.execution.engine import execute
from ductaflow.execution.outcome import Stop
from ductaflow.execution.refresh import refreshed
from ductaflow.flowkit.declarations import depends_on
from ductaflow.flows.syntax import language
from ductaflow.history.events import (
    Audience,
    Audiences,
    InstanceFinished,
    InstanceStarted,
    Listener,
    Publisher,
    Watch,
)
from ductaflow.history.index import Index
from ductaflow.history.lock import instance_lock
from ductaflow.history.recordfile import damage, read_record
from ductaflow.history.run import Run
from ductaflow.model.facts import CacheDecision, Reason
from ductaflow.model.flows import Flow
from ductaflow.model.kinds import FailureKind, ReasonKind
from ductaflow.model.records import RunRecord
from ductaflow.plans.languages import TRANSLATORS
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.environment import kernel_environment
from ductaflow.project.layout import ArtifactPaths
from ductaflow.reuse.interpreters import Interpreters, kernel_spec
from ductaflow.reuse.moves import paths_left, remove_left

_FAILURES: dict[FailureKind, type[RunFailed]] = {
    FailureKind.CELL: CellFailed,
    FailureKind.SYNTAX: FlowSyntaxError,
    FailureKind.TIMEOUT: RunTimedOut,
    FailureKind.DIED: KernelFailed,
    FailureKind.START: KernelFailed,
}


def run_to_end(
    plan: InstancePlan,
    paths: ArtifactPaths | None = None,
    audience: Audience | None = None,
    listen: Listener | None = None,
    watch: Watch | None = None,
) -> Run:
    """Run a plan, however it ends; Ctrl-C ends it tidily.

    Args:
        plan: What to run.
        paths: Where its artifacts go, if not to its folder.
        audience: Who hears of cells and output as they come.
        listen: Told of all events of the run.
        watch: Told where it is, on this thread.

    Raises:
        KeyboardInterrupt: It was interrupted.
    """
    stop = Stop()
    instance = plan.instance or plan.flow.name
    tell: Listener = listen if listen is not None else lambda _: None
    if listen is not None:
        publisher = Publisher(plan.step, instance, listen)
        audience = publisher if audience is None else Audiences((audience, publisher))
    begun = False

    def begins() -> None:
        nonlocal begun
        begun = True
        tell(InstanceStarted(plan.step, instance))

    try:
        with interruptible(stop):
            run = run_plan(plan, stop, audience, paths=paths, watch=watch, begins=begins)
    except DuctaflowError:
        place = paths or ArtifactPaths.of(plan.directory, plan.flow.name)
        left = read_record(place.record) if begun else None
        if left is not None:
            tell(InstanceFinished(plan.step, instance, Run(left, place)))
        raise
    tell(InstanceFinished(plan.step, instance, run))
    if stop.requests:
        raise KeyboardInterrupt(f"{plan.label} was interrupted; what it left is in {run.dir}")
    return run


def find_reusable(
    plan: InstancePlan, interpreters: Interpreters, index: Index | None = None
) -> tuple[Run | None, CacheDecision]:
    """The last run of a plan's instance, and whether it can be reused.

    Args:
        plan: What is wanted.
        interpreters: What a new run would have.
        index: Where records are found faster, or None.
    """
    paths = ArtifactPaths.of(plan.directory, plan.flow.name)
    record = index.record(plan.step, plan.instance) if index else read_record(paths.record)
    decision = interpreters.decide(plan, record)
    if record is None and (why := damage(paths.record)):
        decision = CacheDecision(
            False, (Reason(ReasonKind.DAMAGED, f"its run.json does not count: {why}"),)
        )
    if record is not None and decision.reuse:
        depends_on(record, str(plan.flow.path), plan.root)
    last = None if record is None else Run(record, paths_left(plan, record), reused=True)
    return last, decision


def run_plan(
    plan: InstancePlan,
    stop: Stop,
    audience: Audience | None = None,
    *,
    begins: Callable[[], object] = lambda: None,
    paths: ArtifactPaths | None = None,
    watch: Watch | None = None,
) -> Run:
    """Run a plan, unless its instance's last run can be reused; see `run_now`."""
    if not plan.step:
        return run_now(plan, stop, (), audience, begins=begins, paths=paths, watch=watch)
    interpreters = Interpreters(kernel_environment(plan.root, plan.options.nested_workers))
    last, decision = find_reusable(plan, interpreters)
    if last is not None and decision.reuse:
        return refreshed(plan, last, interpreters)
    return run_now(plan, stop, decision.reasons, audience, begins=begins, paths=paths, watch=watch)


def run_now(
    plan: InstancePlan,
    stop: Stop,
    reasons: tuple[Reason, ...],
    audience: Audience | None = None,
    *,
    begins: Callable[[], object] = lambda: None,
    paths: ArtifactPaths | None = None,
    watch: Watch | None = None,
) -> Run:
    """Run a plan in its folder, which no other run may hold.

    Args:
        plan: What to run.
        stop: Set by the caller, from any thread, to end it early.
        reasons: Why it runs.
        audience: Who hears of cells and output as they come, on this thread.
        begins: Called before it runs, once nothing is in its way.
        paths: Where its artifacts go, if not to its folder.
        watch: Told where it is, on this thread.

    Raises:
        InstanceBusy: Another run holds it.
        UnknownKernel, FlowError, ArtifactError: See `run_step_flow`.
    """
    if watch is not None:
        watch("beginning", 0.0)
    spec = kernel_spec(plan.flow, plan.options.kernel_name)
    if plan.config is not None:
        check_language(plan.flow, spec)
    paths = paths or ArtifactPaths.of(plan.directory, plan.flow.name)
    with instance_lock(paths):
        before = read_record(paths.record) if plan.step else None
        begins()
        record = execute(plan, paths, spec, shared_pool(), stop, audience, reasons, watch)
        if before is not None:
            remove_left(paths_left(plan, before), paths)
    depends_on(record, str(plan.flow.path), plan.root)
    return Run(record, paths)


@attrs.frozen
class _Prompt:
    """A pool whose kernels must be up in time.

    Attributes:
        pool: The pool.
        seconds: For how long a kernel is waited for.
    """

    pool: KernelPool
    seconds: float

    def lease(
        self, request: KernelRequest, cancelled: Callable[[], bool] | None = None
    ) -> KernelSession:
        end = time.monotonic() + self.seconds
        wanted = cancelled or (lambda: False)
        try:
            return self.pool.lease(request, lambda: wanted() or time.monotonic() > end)
        except LeaseCancelled:
            if wanted():
                raise
            raise KernelStartError(f"it was not up after {self.seconds:g} s") from None

    def retire(self, session: KernelSession) -> None:
        self.pool.retire(session)


def run_cells(
    plan: InstancePlan,
    paths: ArtifactPaths,
    spec: KernelSpec,
    audience: Audience | None,
    start_timeout: float,
) -> RunRecord:
    """Run the cells that a plan has, as they are: nothing is injected, checked or reused.

    Args:
        plan: A plan with its cells.
        paths: Where the artifacts go.
        spec: The kernel to run them on.
        audience: Who hears of cells and output as they come.
        start_timeout: Seconds for the kernel to come up.

    Raises:
        KeyboardInterrupt: It was interrupted.
        ArtifactError: An artifact could not be written.
    """
    stop, kernels = Stop(), _Prompt(shared_pool(), start_timeout)
    with interruptible(stop):
        record = execute(plan, paths, spec, kernels, stop, audience, check=False)
    if stop.requests:
        raise KeyboardInterrupt(f"{plan.label} was interrupted; what it left is {paths.notebook}")
    depends_on(record, str(plan.flow.path), plan.root)
    return record


def failure(run: Run) -> RunFailed:
    """The typed error that a run's record amounts to."""
    error = run.record.error
    assert error is not None
    message = f"{run.label}: {error.sentence(run.record.flow)}\n  executed notebook: {run.notebook}"
    if run.html.is_file():
        message += f"\n  report: {run.html}"
    return _FAILURES.get(error.kind, RunFailed)(message, run)


def check_language(flow: Flow, spec: KernelSpec) -> None:
    """Make sure that a config can be injected.

    Raises:
        FlowError: The flow's language is not its kernel's, or has no translator.
    """
    if spec.language != language(flow):
        raise FlowError(
            f"{flow.path} is in {language(flow)}, but its kernel {spec.name!r} speaks "
            f"{spec.language}; name another with kernel_name="
        )
    if spec.language != "python" and spec.language not in TRANSLATORS:
        known = ", ".join(("python", *TRANSLATORS))
        raise FlowError(
            f"{flow.path} is in {spec.language}: a config can be injected into {known}; use "
            "run_notebook(flow, execution_dir=...) without config"
        )


@contextlib.contextmanager
def interruptible(stop: Stop) -> Iterator[None]:
    """Turn Ctrl-C into a request to stop, so that it cannot cut a save short.

    Only in the main thread, and only in the place of Python's own handler.
    """
    before = signal.getsignal(signal.SIGINT)
    if (
        threading.current_thread() is not threading.main_thread()
        or before is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: stop.request())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
