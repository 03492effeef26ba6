"""Run a plan: find its kernel, hold its folder, execute; what `conductor` and `sweeps` share."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping

from ductaflow_kernels.errors import UnknownKernelspec
from ductaflow_kernels.pool import shared_pool
from ductaflow_kernels.spec import KernelSpec, find_spec, own_interpreter

from ductaflow.cache import decide
from ductaflow.cellrun import Stop
from ductaflow.declarations import depends_on
from ductaflow.engine import describe, execute
from ductaflow.errors import (
    CellFailed,
    FlowError,
    FlowSyntaxError,
    KernelFailed,
    RunFailed,
    RunTimedOut,
    UnknownKernel,
)
from ductaflow.events import Listener, Teller
from ductaflow.facts import CacheDecision, Reason
from ductaflow.index import Index
from ductaflow.languages import TRANSLATORS
from ductaflow.layout import ArtifactPaths, kernel_environment
from ductaflow.lock import instance_lock
from ductaflow.model import Flow, InstancePlan
from ductaflow.plan import lay_out
from ductaflow.records import damage, read_record
from ductaflow.refresh import refreshed
from ductaflow.run import Run
from ductaflow.syntax import language

_FAILURES: dict[str, type[RunFailed]] = {
    "cell": CellFailed,
    "syntax": FlowSyntaxError,
    "timeout": RunTimedOut,
    "died": KernelFailed,
    "start": KernelFailed,
}


def run_to_end(plan: InstancePlan) -> Run:
    """Run a plan, and raise if it does not succeed; Ctrl-C ends it tidily.

    Raises:
        RunFailed: It did not succeed.
        KeyboardInterrupt: It was interrupted.
    """
    stop = Stop()
    with interruptible(stop):
        run = run_plan(plan, stop)
    if stop.requests:
        raise KeyboardInterrupt(f"{plan.label} was interrupted; what it left is in {run.dir}")
    if run.error is not None:
        raise failure(run)
    return run


def look(
    plan: InstancePlan, environment: Mapping[str, str], index: Index | None = None
) -> tuple[Run | None, CacheDecision]:
    """The last run of a plan's instance, and whether it serves in the place of a new one.

    Args:
        plan: What is wanted.
        environment: What a new run would have as environment.
        index: Where records are found faster, or None.
    """
    paths = ArtifactPaths.of(plan.directory, plan.flow.name)
    record = index.record(plan.step, plan.instance) if index else read_record(paths.record)
    decision = decide(plan, record, environment)
    if record is None and (why := damage(paths.record)):
        decision = CacheDecision(False, (Reason("damaged", f"its run.json does not count: {why}"),))
    if record is not None and decision.reuse:
        depends_on(record, str(plan.flow.path), plan.root)
    return (Run(record, paths, reused=True) if record is not None else None), decision


def run_plan(plan: InstancePlan, stop: Stop, listen: Listener | None = None) -> Run:
    """Run a plan, unless its instance's last run serves; see `run_now`."""
    if not plan.step:
        return run_now(plan, stop, (), listen)
    environment = kernel_environment(plan.root, plan.options.nested_workers)
    last, decision = look(plan, environment)
    if last is not None and decision.reuse:
        return refreshed(plan, last, environment)
    return run_now(plan, stop, decision.reasons, listen)


def run_now(
    plan: InstancePlan, stop: Stop, reasons: tuple[Reason, ...], listen: Listener | None = None
) -> Run:
    """Run a plan in its folder, which no other run may hold.

    Args:
        plan: What to run.
        stop: Set by the caller, from any thread, to end it early.
        reasons: Why it runs.
        listen: Told of cells and output as they come, on this thread.

    Raises:
        InstanceBusy: Another run holds it.
        UnknownKernel, FlowError, ArtifactError: See `run_step_flow`.
    """
    spec = kernel_spec(plan.flow, plan.options.kernel_name)
    if plan.config is not None:
        check_language(plan.flow, spec)
    paths = ArtifactPaths.of(plan.directory, plan.flow.name)
    teller = Teller(plan.step, plan.instance, listen) if listen is not None else None
    with instance_lock(paths):
        record = execute(lay_out(plan), paths, spec, shared_pool(), stop, teller, reasons)
    depends_on(record, str(plan.flow.path), plan.root)
    return Run(record, paths)


def failure(run: Run) -> RunFailed:
    """The typed error that a run's record amounts to."""
    error = run.record.error
    assert error is not None
    message = (
        f"{run.label}: {describe(error, run.record.flow)}\n  executed notebook: {run.notebook}"
    )
    return _FAILURES.get(error.kind, RunFailed)(message, run)


def kernel_spec(flow: Flow, kernel_name: str | None) -> KernelSpec:
    """The kernel asked for, else the one that the flow's header names, else our own."""
    try:
        if kernel_name is not None:
            return find_spec(kernel_name)
        if language(flow) == "python":
            return own_interpreter()
        return find_spec(flow.metadata.get("kernelspec", {}).get("name"))
    except UnknownKernelspec as e:
        raise UnknownKernel(f"{flow.path}: {e}") from None


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
