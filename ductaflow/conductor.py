"""The calls that conductors make: run a flow as an instance, or in any folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ductaflow_kernels.errors import UnknownKernelspec
from ductaflow_kernels.pool import shared_pool
from ductaflow_kernels.spec import KernelRequest, KernelSpec, find_spec, own_interpreter

from ductaflow import jsonio
from ductaflow.cellrun import Stop
from ductaflow.config import normalise
from ductaflow.engine import describe, execute, kernel_environment
from ductaflow.errors import (
    CellFailed,
    ConfigError,
    FlowError,
    FlowSyntaxError,
    KernelFailed,
    RunFailed,
    RunTimedOut,
    UnknownKernel,
)
from ductaflow.flow import default_config, read_flow, require_parameters, resolve_flow
from ductaflow.inject import prepare
from ductaflow.layout import ArtifactPaths, check_name, instance_dir, project_root
from ductaflow.lock import instance_lock
from ductaflow.model import Config, Flow, InstancePlan, RunOptions, RunRecord
from ductaflow.notes import config_notes
from ductaflow.run import Run
from ductaflow.syntax import language

PathLike = str | os.PathLike[str]

_FAILURES: dict[str, type[RunFailed]] = {
    "cell": CellFailed,
    "syntax": FlowSyntaxError,
    "timeout": RunTimedOut,
    "died": KernelFailed,
    "start": KernelFailed,
}


def run_step_flow(
    notebook_path: PathLike | None = None,
    step_name: str | None = None,
    instance_name: str | Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    root: PathLike | None = None,
    timeout: float | None = None,
    cell_timeout: float | None = None,
    kernel_name: str | None = None,
    html: bool = True,
    preload: Sequence[str] | bool = True,
) -> Run:
    """Run a flow as the instance `runs/{step_name}/{instance_name}/` of the project.

    Also in the short form `run_step_flow("generate_vector_inputs", "L2_dwellings_am", config)`: the
    flow of that name in `flow/` or `flows/` names the step as well.

    Args:
        notebook_path: The flow file, relative to the current folder or the project root, or the
            bare name of one in `flow/` or `flows/`. Left out, the step's name is that name.
        step_name: The step's name; the flow's own in the short form.
        instance_name: The instance's name.
        config: What the flow gets; the literal default in its parameters cell if left out.
        root: The project root; found from where the conductor is, if left out.
        timeout: Seconds for the whole instance, from its first cell on.
        cell_timeout: Seconds for any one cell.
        kernel_name: A kernelspec's name; the conductor's own interpreter if left out.
        html: Whether to write the HTML report.
        preload: Kernels have the installed modules that the flow imports before it asks for them;
            names add to these, False turns it off.

    Returns:
        The finished run.

    Raises:
        RunFailed: A cell raised, or does not compile; a time limit was reached; the kernel died.
            All that the run left is saved, and the error's `run` leads to it.
        FlowError: The flow file is not there, or is no flow with one parameters cell.
        ConfigError: A value in the config is nothing that JSON can hold.
        NameRefused: The step's or the instance's name is no portable folder name.
        UnknownKernel: There is no kernelspec of that name.
        InstanceBusy: The instance is being run already.
        ArtifactError: The instance's folder cannot be written.
    """
    if isinstance(instance_name, Mapping) and config is None:
        instance_name, config = None, instance_name
    if notebook_path is None:
        notebook_path = step_name
    if notebook_path is None:
        raise TypeError("run_step_flow needs notebook_path, the flow to run")
    project = project_root(root)
    path = resolve_flow(notebook_path, project, Path.cwd())
    _get_ready(project, kernel_name)
    if instance_name is None:
        step_name, instance_name = path.stem, step_name
    step = check_name(step_name if step_name is not None else path.stem, "step")
    instance = check_name(instance_name, "instance")
    options = RunOptions(timeout, cell_timeout, kernel_name, html, _preload(preload))
    plan = _plan(
        read_flow(path), config, step, instance, instance_dir(project, step, instance), project,
        options, with_config=True,
    )  # fmt: skip
    return _run(plan)


def run_notebook(
    flow: PathLike,
    config: Mapping[str, Any] | None = None,
    execution_dir: PathLike | None = None,
    *,
    root: PathLike | None = None,
    timeout: float | None = None,
    cell_timeout: float | None = None,
    kernel_name: str | None = None,
    html: bool = True,
    preload: Sequence[str] | bool = True,
) -> Run:
    """Run any text notebook in any folder, its artifacts beside what it writes.

    Args:
        flow: The notebook file; see `run_step_flow`.
        config: What to inject after its parameters cell; with None nothing is, and it needs none.
        execution_dir: The folder to run it in, made if need be; the current one if left out.
        root: See `run_step_flow`, as for the rest.
        timeout: Seconds for the whole run.
        cell_timeout: Seconds for any one cell.
        kernel_name: A kernelspec's name.
        html: Whether to write the HTML report.
        preload: Kernels have the installed modules that the flow imports before it asks for them;
            names add to these, False turns it off.

    Returns:
        The finished run.

    Raises:
        RunFailed, FlowError, ConfigError, UnknownKernel, InstanceBusy, ArtifactError: See
            `run_step_flow`.
    """
    project = project_root(root)
    path = resolve_flow(flow, project, Path.cwd())
    _get_ready(project, kernel_name)
    parsed = read_flow(path)
    folder = Path.cwd() / (execution_dir if execution_dir is not None else "")
    folder = folder.resolve()
    options = RunOptions(timeout, cell_timeout, kernel_name, html, _preload(preload))
    plan = _plan(parsed, config, "", "", folder, project, options, with_config=config is not None)
    paths = ArtifactPaths.of(folder, parsed.name)
    if paths.notebook == parsed.path and "ductaflow" not in parsed.metadata:
        raise FlowError(
            f"running {parsed.path} in its own folder would overwrite it with its executed copy; "
            "give execution_dir="
        )
    return _run(plan)


# --- planning -----------------------------------------------------------------------------------


def _plan(
    flow: Flow,
    config: Mapping[str, Any] | None,
    step: str,
    instance: str,
    directory: Path,
    root: Path,
    options: RunOptions,
    *,
    with_config: bool,
) -> InstancePlan:
    values: Config | None = None
    if with_config:
        require_parameters(flow)
        values = normalise(config if config is not None else _default(flow))
    notes = config_notes(flow, values) if values is not None else ()
    fingerprints = {"flow": flow.sha256}
    if values is not None:
        fingerprints["config"] = hashlib.sha256(jsonio.canonical(values).encode()).hexdigest()
    return InstancePlan(
        flow=flow,
        cells=prepare(flow, values, notes),
        config=values,
        step=step,
        instance=instance,
        directory=directory,
        root=root,
        options=options,
        notes=notes,
        fingerprints=fingerprints,
    )


def _preload(preload: Sequence[str] | bool) -> tuple[str, ...] | None:
    if isinstance(preload, bool):
        return () if preload else None
    if isinstance(preload, str):
        raise TypeError(f"preload takes a list of module names, as [{preload!r}]")
    return tuple(preload)


def _default(flow: Flow) -> Mapping[str, Any]:
    default = default_config(flow)
    if default is None:
        raise ConfigError(
            f"no config was given, and the parameters cell of {flow.path} has none that can be "
            "read without running it (`config = {...}` with literal values); give config="
        )
    return default


def _spec(flow: Flow, kernel_name: str | None) -> KernelSpec:
    """The kernel asked for, else the one that the flow's header names, else our own."""
    try:
        if kernel_name is not None:
            return find_spec(kernel_name)
        if language(flow) == "python":
            return own_interpreter()
        return find_spec(flow.metadata.get("kernelspec", {}).get("name"))
    except UnknownKernelspec as e:
        raise UnknownKernel(f"{flow.path}: {e}") from None


@lru_cache(maxsize=1)
def _get_ready(root: Path, kernel_name: str | None) -> None:
    """Start what the first run will need while its flow is read, once in a process's life."""
    if kernel_name is None:
        request = KernelRequest(own_interpreter(), root, kernel_environment(root))
        shared_pool().expect(request)


# --- running ------------------------------------------------------------------------------------


def _run(plan: InstancePlan) -> Run:
    spec = _spec(plan.flow, plan.options.kernel_name)
    if spec.language != "python" and plan.config is not None:
        raise FlowError(
            f"{plan.flow.path} is in {spec.language}: a config can be injected into Python only; "
            "use run_notebook(flow, execution_dir=...) without config"
        )
    paths = ArtifactPaths.of(plan.directory, plan.flow.name)
    stop = Stop()
    with _interruptible(stop), instance_lock(paths):
        record = execute(plan, paths, spec, shared_pool(), stop)
    run = Run(record, paths)
    if stop.requests:
        raise KeyboardInterrupt(f"{plan.label} was interrupted; what it left is in {run.dir}")
    if record.error is not None:
        raise failure(run, record)
    return run


def failure(run: Run, record: RunRecord) -> RunFailed:
    """The typed error that a run's record amounts to."""
    error = record.error
    assert error is not None
    message = f"{run.label}: {describe(error, record.flow)}\n  executed notebook: {run.notebook}"
    return _FAILURES.get(error.kind, RunFailed)(message, run)


@contextlib.contextmanager
def _interruptible(stop: Stop) -> Iterator[None]:
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
