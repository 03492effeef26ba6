"""Execute one planned instance: plan in, record out, everything saved on the way.

    plan ──▶ lease a kernel ──▶ send the cells ahead ──▶ messages ──fold──▶ notebook, log ──▶ record

Failure is a value here: a run that went wrong is a record that says how. Only artifacts that cannot
be written, and a kernel that is asked for by a wrong name, raise.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Protocol

import attrs
from ductaflow_kernels.errors import KernelStartError, LeaseCancelled
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.spec import KernelRequest, KernelSpec

from ductaflow._version import __version__
from ductaflow.documents.notebook import Notebook, failure_cells
from ductaflow.errors import ArtifactError
from ductaflow.execution.artifacts import Artifacts
from ductaflow.execution.cellrun import CellRun
from ductaflow.execution.outcome import Outcome, Stop
from ductaflow.execution.runsecrets import RunSecrets
from ductaflow.files.mounts import silent
from ductaflow.flows.commands import hint
from ductaflow.flows.imports import imports
from ductaflow.flows.papermeta import failure_metadata, parameters_metadata
from ductaflow.flows.syntax import check_syntax
from ductaflow.history.events import Audience, Watch
from ductaflow.history.recordfile import write_record
from ductaflow.model.ages import format_limit
from ductaflow.model.facts import Reason
from ductaflow.model.kinds import FailureKind, NoteKind
from ductaflow.model.plans import Note
from ductaflow.model.records import ErrorInfo, RunRecord, Status
from ductaflow.model.thisrun import THIS_RUN
from ductaflow.plans.options import options_summary
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.artifacts import NOTEBOOK
from ductaflow.project.environment import kernel_environment
from ductaflow.project.layout import ArtifactPaths
from ductaflow.reuse import observation
from ductaflow.reuse.hosts import listed


class Kernels(Protocol):
    """Where kernels come from, as a pool is."""

    def lease(
        self, request: KernelRequest, cancelled: Callable[[], bool] | None = None
    ) -> KernelSession:
        """A kernel that nobody has used."""

    def retire(self, session: KernelSession) -> None:
        """Take back a kernel that is done with."""


def execute(
    plan: InstancePlan,
    paths: ArtifactPaths,
    spec: KernelSpec,
    pool: Kernels,
    stop: Stop,
    audience: Audience | None = None,
    reasons: tuple[Reason, ...] = (),
    watch: Watch | None = None,
    *,
    check: bool = True,
) -> RunRecord:
    """Run an instance in its folder, which the caller has locked.

    Args:
        plan: What to run.
        paths: Where its artifacts go.
        spec: The kernel to run it on.
        pool: Where that kernel comes from.
        stop: Set by the caller, from any thread, to end the run early.
        audience: Told of cells and output as they come.
        reasons: Why it runs, for the record.
        watch: Told where the run is.
        check: Whether cells must compile before the first one runs.

    Returns:
        The record, as saved in `run.json`.

    Raises:
        ArtifactError: An artifact could not be written; the kernel is ended.
        ConfigError: A secret cannot be had; nothing is written.
    """
    began = time.monotonic()
    secrets = RunSecrets.of(plan)
    record = _first_record(plan, spec, reasons)
    notebook = Notebook(plan.cells, _metadata(plan, spec, record))
    artifacts = Artifacts.begin(plan, paths, notebook, record)
    try:
        artifacts.log.say(f"run of {record.flow} as {plan.label} in {plan.directory}")
        outcome = _attempt(plan, spec, pool, artifacts, stop, audience, watch, secrets, check=check)
        outcome = attrs.evolve(
            outcome,
            notes=(*secrets.notes_masked(outcome.notes), *secrets.notes),
            observed=attrs.evolve(
                outcome.observed, hosts=tuple(map(secrets.masker.text, outcome.observed.hosts))
            ),
        )
        record = secrets.masked(_last_record(record, outcome, time.monotonic() - began))
        _conclude(plan, record, outcome, notebook, artifacts)
        record = artifacts.finish(record)
    except BaseException as e:
        if not isinstance(e, ArtifactError):  # after that, what an earlier run left is worth more
            with contextlib.suppress(ArtifactError):
                artifacts.save_notebook()
        _record_failure(paths, record, e)
        raise
    finally:
        with contextlib.suppress(ArtifactError):  # it has been raised for the first write
            artifacts.log.close()
    return record


def _record_failure(paths: ArtifactPaths, record: RunRecord, error: BaseException) -> None:
    """Let `run.json` say that the run did not end well, if that much can still be written."""
    kind, status = FailureKind.INTERNAL, Status.FAILED
    if isinstance(error, ArtifactError):
        kind = FailureKind.ARTIFACT
    elif isinstance(error, KeyboardInterrupt):
        kind, status = FailureKind.INTERRUPTED, Status.INTERRUPTED
    info = ErrorInfo(kind, type(error).__name__, str(error))
    finished = datetime.now(timezone.utc).isoformat()
    failed = attrs.evolve(record, status=status, finished=finished, error=info)
    with contextlib.suppress(ArtifactError):  # the caller hears of the first one
        write_record(paths.record, failed)


def _attempt(
    plan: InstancePlan,
    spec: KernelSpec,
    pool: Kernels,
    artifacts: Artifacts,
    stop: Stop,
    audience: Audience | None,
    watch: Watch | None,
    secrets: RunSecrets,
    *,
    check: bool,
) -> Outcome:
    """The run itself, whatever comes of it."""
    # Another interpreter may be of another version: its own compiler will say.
    error = _syntax_error(plan) if check and spec.argv[0] == sys.executable else None
    if error is not None:
        return Outcome(Status.FAILED, error)
    extra = plan.options.preload
    ahead = () if extra is None else (*imports(plan.flow), *extra)
    environment = kernel_environment(plan.root, plan.options.nested_workers)
    observe = plan.root if plan.step else None
    request = KernelRequest(spec, plan.directory, environment, ahead, observe)
    began_ns = time.time_ns()

    def cancelled() -> bool:
        if watch is not None:
            watch("waiting for a kernel", 0.0)
        return bool(stop.requests)

    try:
        session = pool.lease(request, cancelled)
    except LeaseCancelled:
        return _INTERRUPTED
    except KernelStartError as e:
        return Outcome(Status.FAILED, ErrorInfo(FailureKind.START, type(e).__name__, str(e)))
    try:
        if stop.requests:
            return _INTERRUPTED
        artifacts.notebook.metadata["language_info"] = session.info.get("language_info", {})
        outcome = CellRun(session, plan, artifacts, stop, audience, watch, secrets).run()
        if observe is not None:
            uses = session.uses()
            told = silent(use.path for use in uses or ())
            if uses is None and session.observer:
                outcome = _without_observer(outcome)
            elif told:
                note = Note(NoteKind.SILENT, f"it is not known what it depends on: {told}")
                outcome = attrs.evolve(outcome, notes=(*outcome.notes, note))
            else:
                found = observation.observe(plan, outcome.noted, uses, environment, began_ns)
                if not outcome.whole or session.plain:  # not all that it did is known
                    found = attrs.evolve(found, how="")
                outcome = attrs.evolve(outcome, observed=found)
        plain = [Note(NoteKind.KERNEL, session.plain)] if session.plain else _preload_notes(session)
        notes = (*plain, *outcome.notes, *_network_notes(plan, outcome.observed))
        return attrs.evolve(outcome, notes=notes)
    finally:
        pool.retire(session)


def _without_observer(outcome: Outcome) -> Outcome:
    """How a run came out whose observer was killed: then no file can be opened any more."""
    if outcome.error is None:
        return outcome  # it needed no more files; what it depends on is not known
    told = silent()
    cause = f"because {told}" if told else "by somebody or because it hung"
    why = (
        f"the process that observes its files was killed, {cause}, and then: "
        f"{outcome.error.message}"
    )
    error = attrs.evolve(outcome.error, kind=FailureKind.DIED, type="ObserverDied", message=why)
    return attrs.evolve(outcome, status=Status.DIED, error=error)


_INTERRUPTED = Outcome(
    Status.INTERRUPTED, ErrorInfo(FailureKind.INTERRUPTED, "Interrupted", "before its first cell")
)
_reported: set[str] = set()


def _preload_notes(session: KernelSession) -> list[Note]:
    """What could not be imported ahead, told once in the life of this process."""
    new = {name: why for name, why in session.left_out.items() if name not in _reported}
    _reported.update(new)
    return [
        Note(NoteKind.PRELOAD, f"{name.replace(':', '.')} is not imported in advance: {why}")
        for name, why in new.items()
    ]


def _network_notes(plan: InstancePlan, observed: observation.Observation) -> list[Note]:
    """That a run depends on other hosts, and for how long it is reused nevertheless."""
    if not observed.hosts:
        return []
    limit = plan.options.max_age
    till = (
        "it is reused for ever unless max_age is set"
        if limit is None
        else f"it is reused until it is {format_limit(limit)} old (max_age)"
    )
    told = f"It read from {listed(observed.hosts)}, which cannot be asked whether it would answer"
    return [Note(NoteKind.NETWORK, f"{told} the same again: {till}.")]


def _syntax_error(plan: InstancePlan) -> ErrorInfo | None:
    problem = check_syntax(plan.flow)
    if problem is None:
        return None
    return ErrorInfo(
        kind=FailureKind.SYNTAX,
        type="SyntaxError",
        message=f"{problem.message}: {problem.text.strip()}"
        + hint(plan.flow.uncommented, problem.line),
        cell=problem.cell,
        line=problem.line,
    )


# --- records ------------------------------------------------------------------------------------


def _first_record(plan: InstancePlan, spec: KernelSpec, reasons: tuple[Reason, ...]) -> RunRecord:
    return RunRecord(
        status=Status.RUNNING,
        flow=plan.flow_display,
        step=plan.step,
        instance=plan.instance,
        started=datetime.now(timezone.utc).isoformat(),
        notes=plan.notes,
        reasons=reasons,
        fingerprints=plan.fingerprints,
        given=plan.given,
        options=options_summary(plan.options),
        conductor={"pid": os.getpid(), "host": socket.gethostname()},
        kernel={"name": spec.name, "interpreter": spec.argv[0]},
        environment={"ductaflow": __version__, "platform": platform.platform()},
    )


def _last_record(record: RunRecord, outcome: Outcome, duration: float) -> RunRecord:
    return attrs.evolve(
        record,
        status=outcome.status,
        finished=datetime.now(timezone.utc).isoformat(),
        duration=round(duration, 6),
        cells=outcome.cells,
        error=outcome.error,
        notes=(*record.notes, *outcome.notes),
        kernel={**record.kernel, **outcome.kernel},
        environment={**record.environment, **outcome.environment},
        peak_memory=outcome.peak_memory,
        metrics=outcome.metrics,
        observed=outcome.observed.how,
        inputs=outcome.observed.inputs,
        outputs=outcome.observed.outputs,
        packages=outcome.observed.packages,
        package_folders=outcome.observed.folders,
        variables=outcome.observed.variables,
        hosts=outcome.observed.hosts,
        warnings=outcome.warnings,
    )


def _metadata(plan: InstancePlan, spec: KernelSpec, record: RunRecord) -> dict[str, Any]:
    """The executed notebook's metadata: the flow's own, its kernel, and what made it."""
    kernelspec = {
        "name": spec.name or "python3",
        "display_name": spec.display_name,
        "language": spec.language,
    }
    header = plan.flow.metadata.get("ductaflow")
    own = header if isinstance(header, Mapping) else {}
    return {
        **plan.flow.metadata,
        **_parameters(plan, record),
        "kernelspec": kernelspec,
        "ductaflow": {
            **own,
            "version": __version__,
            "flow": record.flow,
            "step": plan.step,
            "instance": plan.instance,
            "status": record.status.value,
            THIS_RUN: {"started": record.started},
        },
    }


def _parameters(plan: InstancePlan, record: RunRecord) -> dict[str, Any]:
    """Where readers of papermill's notebooks look for parameters and whether it failed."""
    if plan.config is None:
        return {}
    told = parameters_metadata(plan.config, record.flow, NOTEBOOK.name(plan.flow.name))
    return {"papermill": {**told, **failure_metadata(record)}}


def _conclude(
    plan: InstancePlan,
    record: RunRecord,
    outcome: Outcome,
    notebook: Notebook,
    artifacts: Artifacts,
) -> None:
    """Put the end of the run into the notebook and the log."""
    if outcome.observed.hosts and plan.config is not None:
        artifacts.tell((*plan.notes, *_network_notes(plan, outcome.observed)))
    notebook.metadata["ductaflow"].update(status=record.status.value)
    notebook.metadata["ductaflow"][THIS_RUN].update(duration=record.duration)
    if plan.config is not None:
        notebook.metadata["papermill"].update(failure_metadata(record))
    for note in (*(n for n in plan.notes if n.kind == NoteKind.COMMAND), *outcome.notes):
        artifacts.log.say(f"note: {note.message}")
    if record.error is not None:
        failing = _failing_index(plan, outcome)
        banner, anchor = failure_cells(record.error, record.status, record.flow)
        if anchor is not None and failing is not None:
            artifacts.insert(failing, anchor)
        artifacts.insert(0, banner)
        artifacts.log.say(record.error.sentence(record.flow))
    artifacts.log.say(f"{record.status.label} in {record.duration:.2f} s")


def _failing_index(plan: InstancePlan, outcome: Outcome) -> int | None:
    """Where in the notebook the failing cell stands."""
    if outcome.failing is not None or outcome.error is None or outcome.error.cell is None:
        return outcome.failing
    numbers = [cell.number for cell in plan.cells]
    return numbers.index(outcome.error.cell)
