"""The calls that conductors make: run a flow as an instance, or in any folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ductaflow_kernels.jupyterclient import import_jupyter_client
from ductaflow_kernels.pool import shared_pool
from ductaflow_kernels.spec import KernelRequest, own_interpreter

from ductaflow.errors import FlowError, RunFailed
from ductaflow.flowkit.dualmode import PROJECT_ROOT_KEY
from ductaflow.flows.finding import resolve_flow
from ductaflow.flows.reading import read_flow
from ductaflow.flows.syntax import language
from ductaflow.history.events import Listener
from ductaflow.model.flows import Flow
from ductaflow.model.htmloptions import HtmlOptions
from ductaflow.model.options import NotebookKeywords, RunKeywords, check_keywords, takes
from ductaflow.plans.options import make_options
from ductaflow.plans.plan import InstancePlan, names_of, plan_instance
from ductaflow.progress.echo import Echo
from ductaflow.project.environment import kernel_environment
from ductaflow.project.layout import ArtifactPaths, instance_dir
from ductaflow.project.names import check_name
from ductaflow.project.root import check_encodable, local_folder
from ductaflow.project.root import project_root as find_project_root
from ductaflow.project.settings import load_settings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ductaflow.history.run import Run

PathLike = str | os.PathLike[str]


@takes(RunKeywords)
def run_step_flow(
    notebook_path: PathLike | None = None,
    step_name: str | None = None,
    instance_name: str | Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    root: PathLike | None = None,
    progress: bool = True,
    echo: bool = False,
    on_event: Listener | None = None,
    suffix: str = "",
    **options: Unpack[RunKeywords],
) -> Run:
    """Run a flow as the instance `runs/{step_name}/{instance_name}/` of the project.

    If its last run succeeded, and nothing has changed that went into it, that run is returned and
    nothing is executed: see `explain`.

    Also in the short form `run_step_flow("generate_vector_inputs", "L2_dwellings_am", config)`: the
    flow of that name in `flow/` or `flows/` names the step as well.

    Args:
        notebook_path: The flow file, relative to the current folder or the project root, or the
            bare name of one in `flow/` or `flows/`. Left out, the step's name is that name.
        step_name: The step's name; the flow's own in the short form.
        instance_name: The instance's name.
        config: What the flow gets: the literal default in its parameters cell, updated by this,
            nested dicts too; see `defaults`. A `Run` in it becomes its folder, relative to the
            instance's.
        root: The project root; if left out, found from where the conductor is, or from where the
            flow lies if its path is absolute and of another project.
        progress: Whether to show, in a terminal or in Jupyter, where it is and then where it lies.
        echo: Print what cells print, while they run; nothing where the last run is reused.
        on_event: Called on this thread with each event, of the types in `ductaflow.events`. What it
            raises ends the run.
        suffix: What the instance's name ends in; better in the name itself.
        **options: How to run; what is left out of these is as the project's settings say.

    Returns:
        The finished run; its `reused` and `reasons` say whether and why it was executed.

    Raises:
        RunFailed: A cell raised, or does not compile; a time limit was reached; the kernel died.
            All that the run left is saved, and the error's `run` leads to it.
        FlowError: The flow file is not there, or is not a flow with one parameters cell.
        ConfigError: The config contains a value that JSON cannot represent.
        NameRefused: The step's or the instance's name is no portable folder name.
        UnknownKernel: There is no kernelspec of that name.
        InstanceBusy: The instance is being run already.
        ArtifactError: The instance's folder cannot be written.
    """
    check_keywords(run_step_flow, options, RunKeywords)
    if notebook_path is None:
        notebook_path = step_name
    if notebook_path is None:
        raise TypeError("run_step_flow needs notebook_path, the flow to run")
    project = find_project_root(root, notebook_path)
    settings = load_settings(project)
    path = resolve_flow(notebook_path, project, Path.cwd())
    step, instance, config = names_of(path, step_name, instance_name, config)
    instance = check_name(f"{instance}{suffix}", "instance")
    directory = instance_dir(project, step, instance)
    if options.get("force") or not directory.exists():  # else its last run may be reused
        _get_ready(project, options.get("kernel_name") or settings.options.get("kernel"))
    flow = read_flow(path)
    how = make_options(options, settings.of(language(flow), flow.metadata, path))
    plan = plan_instance(flow, config, step, instance, directory, project, how, with_config=True)
    run = _run(plan, echo=echo, on_event=on_event, progress=progress)
    if run.error is not None:
        raise _failure(run)  # here, so that a traceback has one frame of ours
    return run


@takes(NotebookKeywords)
def run_notebook(
    flow: PathLike | None = None,
    config: Mapping[str, Any] | None = None,
    execution_dir: PathLike | None = None,
    *,
    root: PathLike | None = None,
    progress: bool = True,
    project_root: PathLike | None = None,
    no_execute: bool = False,
    export_html: bool | HtmlOptions | None = None,
    cwd: PathLike | None = None,
    output: PathLike | None = None,
    echo: bool = False,
    on_event: Listener | None = None,
    notebook_file: PathLike | None = None,
    notebooks_dir: PathLike | None = None,
    output_suffix: str | None = None,
    **options: Unpack[NotebookKeywords],
) -> Run:
    """Run any text notebook in any folder, its artifacts beside what it writes.

    Args:
        flow: The notebook file; see `run_step_flow`.
        config: What to inject after its parameters cell, over its default there; with None nothing
            is, and it needs none.
        execution_dir: The folder to run it in, made if need be, from the current one on; that
            itself if left out.
        root: See `run_step_flow`.
        progress: See `run_step_flow`.
        project_root: Like `root`, and the flow finds it in its config as `_project_root`.
        no_execute: Set up the folder, with config and notebook, and run nothing.
        export_html: Another name of `html`.
        cwd: The folder that cells run in; `execution_dir` if left out.
        output: The executed notebook's file; the report, log and record lie beside it, under its
            name. `{flow}.ipynb` in the folder if left out.
        echo: Print what cells print, while they run.
        on_event: See `run_step_flow`; the events' `instance` is the flow's name.
        notebook_file: Another name of `flow`.
        notebooks_dir: The folder in which `flow` lies; better in its path.
        output_suffix: What the executed notebook's name ends in, as `_executed`; better `output`.
        **options: How to run; what is left out of these is as the project's settings say.

    Returns:
        The finished run; with `no_execute`, one whose status is `planned`.

    Raises:
        RunFailed, FlowError, ConfigError, UnknownKernel, InstanceBusy, ArtifactError: See
            `run_step_flow`.
    """
    check_keywords(run_notebook, options, NotebookKeywords)
    flow = _named(flow, notebook_file, notebooks_dir)
    project = find_project_root(root if project_root is None else project_root, flow)
    if project_root is not None:
        config = {**(config or {}), PROJECT_ROOT_KEY: str(project.resolve())}
    if options.get("html") is None:
        options["html"] = export_html
    settings = load_settings(project)
    path = resolve_flow(flow, project, Path.cwd())
    _get_ready(project, options.get("kernel_name") or settings.options.get("kernel"))
    parsed = read_flow(path)
    folder = local_folder(execution_dir if execution_dir is not None else "", "execution_dir")
    if output_suffix is not None and output is None:
        output = folder / f"{parsed.name}{output_suffix}.ipynb"
    paths = _paths(check_encodable(folder.resolve()), parsed, output)
    works_in = check_encodable((folder if cwd is None else local_folder(cwd, "cwd")).resolve())
    how = make_options(options, settings.of(language(parsed), parsed.metadata, path))
    plan = plan_instance(
        parsed, config, "", "", works_in, project, how, with_config=config is not None
    )
    if paths.notebook == parsed.path and not _is_executed_copy(parsed):
        raise FlowError(
            f"running {parsed.path} in its own folder would overwrite it with its executed copy; "
            "give execution_dir= or output="
        )
    works_in.mkdir(parents=True, exist_ok=True)
    if no_execute:
        from ductaflow.execution.workbench import set_up

        return set_up(plan, paths)
    run = _run(plan, paths, echo=echo, on_event=on_event, progress=progress)
    if run.error is not None:
        raise _failure(run)  # here, so that a traceback has one frame of ours
    return run


def _named(
    flow: PathLike | None, notebook_file: PathLike | None, notebooks_dir: PathLike | None
) -> PathLike:
    """The flow, by whichever name it is given."""
    if (flow is None) == (notebook_file is None):
        raise TypeError("run_notebook takes one notebook: give flow")
    found = flow if flow is not None else notebook_file
    assert found is not None
    return found if notebooks_dir is None else Path(notebooks_dir) / found


def _paths(folder: Path, flow: Flow, output: PathLike | None) -> ArtifactPaths:
    """Where the artifacts of a run go: to its folder, or beside a notebook of the caller's name."""
    if output is None:
        return ArtifactPaths.of(folder, flow.name)
    file = check_encodable(local_folder(output, "output").resolve())
    if file.suffix != ".ipynb" or (file.exists() and not file.is_file()):
        raise FlowError(f"output is {file}; it names the executed notebook, a file *.ipynb")
    return ArtifactPaths(str(file.parent), file.stem, prefix=f"{file.stem}.")


# --- running ------------------------------------------------------------------------------------


def _is_executed_copy(flow: Flow) -> bool:
    """Whether a notebook is what a run has left; a flow's header may have settings there, too."""
    own = flow.metadata.get("ductaflow")
    return isinstance(own, Mapping) and "version" in own


def _run(
    plan: InstancePlan,
    paths: ArtifactPaths | None = None,
    *,
    echo: bool,
    on_event: Listener | None,
    progress: bool,
) -> Run:
    from ductaflow.progress.runprogress import shown

    with shown(plan.label, wanted=progress and not echo) as view:
        # Slow to import, and the first kernel is on its way.
        from ductaflow.execution.runner import run_to_end

        run = run_to_end(plan, paths, Echo() if echo else None, on_event, view and view.watch)
        if view is not None:
            view.ended(run)
    return run


def _failure(run: Run) -> RunFailed:
    from ductaflow.execution.runner import failure

    return failure(run)


@lru_cache(maxsize=1)
def _get_ready(root: Path, kernel_name: str | None) -> None:
    """Start what the first run will need while its flow is read, once in a process's life."""
    if kernel_name is None:
        request = KernelRequest(own_interpreter(), root, kernel_environment(root), observe=root)
        shared_pool().expect(request)
        import_jupyter_client()  # it takes a while
