"""`execute_notebook`, as papermill has it."""

from __future__ import annotations

import keyword
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import nbformat
from ductaflow_kernels.spec import KernelSpec

from ductaflow.documents.notebook import Notebook
from ductaflow.execution.runner import run_cells
from ductaflow.flows.commands import command_notes
from ductaflow.flows.papermeta import parameters_metadata
from ductaflow.flows.reading import as_written
from ductaflow.flows.syntax import language as language_of
from ductaflow.history.recordfile import read_record
from ductaflow.model.flows import Cell, Flow, Tag
from ductaflow.model.kinds import FailureKind
from ductaflow.model.options import RunOptions
from ductaflow.model.plans import Config
from ductaflow.model.records import RunRecord
from ductaflow.papermill import metadata
from ductaflow.papermill.console import Console, Writable, progress_bar
from ductaflow.papermill.exceptions import PapermillException, PapermillExecutionError
from ductaflow.papermill.inspection import logger, parameters_of
from ductaflow.papermill.notebooks import (
    Source,
    check_reachable,
    filled,
    local_target,
    read_notebook,
    write_notebook,
)
from ductaflow.plans.config import normalise
from ductaflow.plans.languages import TRANSLATORS
from ductaflow.plans.literal import to_python
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.layout import ArtifactPaths
from ductaflow.project.root import check_encodable, project_root
from ductaflow.reuse.interpreters import kernel_spec
from ductaflow.secrets.references import expression

PathLike = str | os.PathLike[str]

_ENGINES = (None, "nbclient")
_NOT_OURS = "is none of its options; leave it out, or run this notebook with papermill itself"


def execute_notebook(
    input_path: Source,
    output_path: PathLike | None,
    parameters: Mapping[str, Any] | None = None,
    engine_name: str | None = None,
    request_save_on_cell_execute: bool = True,
    prepare_only: bool = False,
    kernel_name: str | None = None,
    language: str | None = None,
    progress_bar: bool | Mapping[str, Any] = True,
    log_output: bool = False,
    stdout_file: Writable | None = None,
    stderr_file: Writable | None = None,
    start_timeout: float = 60,
    report_mode: bool = False,
    cwd: PathLike | None = None,
    **engine_kwargs: Any,
) -> Any:
    """Run a notebook with parameters, and save it where the caller says.

    The modern way is `ductaflow.run_notebook(flow, config, cwd=..., output=...)`, or
    `run_step_flow` and `sweep`, which run only what has changed.

    Args:
        input_path: The notebook: a path of anything that jupytext reads, a URL for fsspec, a
            notebook object, its JSON text, or `-` for standard input. Fields, as `{region}`, are
            filled in from the parameters.
        output_path: The file or URL to save it at, likewise; `-` is standard output, None none. A
            file grows while the notebook runs; a URL is written when it has ended, failed or not.
        parameters: What its injected cell assigns, after the cell tagged `parameters`.
        engine_name: None or `nbclient`: there are no other engines here.
        request_save_on_cell_execute: Whether the file grows; if not, it is written at the end.
        prepare_only: Inject the parameters and save, without running anything.
        kernel_name: A kernelspec's name; the one that the notebook names if left out.
        language: The notebook's language, where it does not say it.
        progress_bar: Whether to show progress, or tqdm's options.
        log_output: Whether outputs go to the logger `papermill`, standard error as warnings.
        stdout_file: A file that gets what the notebook prints.
        stderr_file: One that gets its standard error.
        start_timeout: Seconds for the kernel to start.
        report_mode: Whether cells' inputs are marked as hidden.
        cwd: The folder it runs in; the current one if left out.
        **engine_kwargs: `execution_timeout` (or `timeout`): seconds for any one cell.
            `autosave_cell_every`: the file is saved every second at most in any case.

    Returns:
        The executed notebook, an `nbformat.NotebookNode`.

    Raises:
        PapermillExecutionError: A cell raised. The notebook is saved.
        nbclient.exceptions.CellTimeoutError: A cell took too long; saved likewise.
        nbclient.exceptions.DeadKernelError: The kernel died or did not start; saved likewise.
        PapermillException: An engine, a parameter or a field that cannot be.
        FileNotFoundError: There is no such notebook, or no folder for the output.
        TypeError: An option that this engine has not.
    """
    if engine_name not in _ENGINES:
        raise PapermillException(
            f"engine_name is {engine_name!r}; notebooks run on ductaflow's kernels here, so leave "
            "it out, or run this one with papermill itself"
        )
    cell_timeout = _cell_timeout(engine_kwargs)
    given = dict(parameters or {})
    is_path = isinstance(input_path, (str, os.PathLike))
    name = filled(input_path, given) if is_path else ""  # type: ignore[arg-type]
    target = None if output_path is None else filled(output_path, given)
    place = local_target(target)
    if target is not None:
        check_reachable(target)
    flow = read_notebook(input_path, name)
    if language is not None:
        meta = {**flow.metadata.get("kernelspec", {}), "language": language}
        flow = attrs.evolve(flow, metadata={**flow.metadata, "kernelspec": meta})
    cells, values = _with_parameters(flow, given, report_mode=report_mode)
    flow = attrs.evolve(
        flow,
        metadata={**flow.metadata, "papermill": parameters_metadata(values, name or None, target)},
    )
    for note in command_notes(flow):
        logger.warning("%s", note.message)
    logger.info("Input Notebook:  %s", name)
    logger.info("Output Notebook: %s", target)
    if prepare_only:
        return _saved(_node(Notebook(cells, dict(flow.metadata)).dumps()), target)
    plan = _plan(flow, cells, cwd, cell_timeout, values)
    spec = _kernel(flow, kernel_name)
    bar = _progress(progress_bar, len(cells))
    files = {"stdout": stdout_file, "stderr": stderr_file}
    console = Console({k: f for k, f in files.items() if f is not None}, log_output, bar)
    with _artifacts(plan, place if request_save_on_cell_execute else None) as paths:
        try:
            record = run_cells(plan, paths, spec, console, start_timeout)
        except KeyboardInterrupt:
            if (told := read_record(paths.record)) is not None:
                _finished(paths, told, target)
            raise
        finally:
            console.close()
        node, failing = _finished(paths, record, target)
    _raise_if_failed(node, record, failing)
    return node


def _cell_timeout(options: Mapping[str, Any]) -> float | None:
    """The one option of papermill's own engine that counts here."""
    for option, value in options.items():
        if option == "autosave_cell_every":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise TypeError(f"autosave_cell_every must be a number of seconds, not {value!r}")
        elif option not in ("execution_timeout", "timeout"):
            raise TypeError(f"execute_notebook on ductaflow's kernels: {option}= {_NOT_OURS}")
    limit = options.get("execution_timeout") or options.get("timeout")
    if limit is None or limit == math.inf or limit == -1:
        return None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or limit <= 0:
        raise TypeError(
            f"execution_timeout must be a number of seconds greater than 0, not {limit!r}"
        )
    return limit


_progress = progress_bar  # the parameter of that name hides it


# --- before the run --------------------------------------------------------------------------


def _with_parameters(
    flow: Flow, parameters: Mapping[str, Any], *, report_mode: bool
) -> tuple[tuple[Cell, ...], dict[str, Any]]:
    """The cells that will run, with what papermill's readers expect of each, and the parameters."""
    values = normalise(parameters)
    if not parameters:
        cells = as_written(flow).cells
    else:
        known = parameters_of(flow)
        for name in values:
            if name not in known:
                logger.warning("Passed unknown parameter: %s", name)
        injected = Cell(
            "code",
            _assignments(flow, values),
            id=_free_id(flow),
            metadata={"tags": [Tag.INJECTED]},
        )
        after = 0 if flow.parameters is None else flow.parameters + 1
        cells = (*flow.cells[:after], injected, *flow.cells[after:])
    return tuple(_with_metadata(cell, report_mode=report_mode) for cell in cells), values


def _free_id(flow: Flow) -> str:
    taken, wanted = {cell.id for cell in flow.cells}, str(Tag.INJECTED)
    while wanted in taken:
        wanted += "-"
    return wanted


def _assignments(flow: Flow, values: Mapping[str, Any]) -> str:
    """The source of the injected cell."""
    spoken = language_of(flow)
    translator = TRANSLATORS.get(spoken)
    if spoken != "python" and translator is None:
        raise PapermillException(
            f"parameters cannot be written in {spoken}; there are python, {', '.join(TRANSLATORS)}"
        )
    lines = ["# Parameters" if translator is None else f"{translator.comment} Parameters"]
    for name, value in values.items():
        if translator is not None:
            fits = translator.name.fullmatch(name) and name not in translator.reserved
            lines.append(translator.assign(name, translator.value(value)))
        else:
            fits = name.isidentifier() and not keyword.iskeyword(name)
            lines.append(f"{name} = {to_python(value, expression)}")
        if not fits:
            raise PapermillException(f"the parameter {name!r} cannot be the name of a variable")
    return "\n".join(lines) + "\n"


def _with_metadata(cell: Cell, *, report_mode: bool) -> Cell:
    own = {**cell.metadata, "papermill": metadata.cell_before_run()}
    own["tags"] = list(cell.tags)
    if report_mode and cell.kind == "code":
        own["jupyter"] = {**own.get("jupyter", {}), "source_hidden": True}
    return attrs.evolve(cell, metadata=own)


def _plan(
    flow: Flow,
    cells: Sequence[Cell],
    cwd: PathLike | None,
    cell_timeout: float | None,
    values: Config,
) -> InstancePlan:
    folder = check_encodable((Path.cwd() / Path(cwd or "").expanduser()).resolve())
    if not folder.is_dir():
        raise FileNotFoundError(f"cwd is {cwd}, and there is no such folder")
    return InstancePlan(
        flow=attrs.evolve(flow, cells=tuple(cells)),
        config=None,
        step="",
        instance="",
        directory=folder,
        root=project_root(None),
        options=RunOptions(cell_timeout=cell_timeout, html=False),
        given=values,
    )


def _kernel(flow: Flow, kernel_name: str | None) -> KernelSpec:
    """The kernel that is asked for, or that the notebook names; `python3` is this interpreter."""
    name = kernel_name or flow.metadata.get("kernelspec", {}).get("name")
    if kernel_name is None and name == "python3" and language_of(flow) == "python":
        name = None
    return kernel_spec(flow, name)


@contextmanager
def _artifacts(plan: InstancePlan, place: Path | None) -> Iterator[ArtifactPaths]:
    """Where the run leaves what it leaves: the notebook in its place, all else for a while."""
    with tempfile.TemporaryDirectory(prefix="ductaflow-") as folder:
        yield ArtifactPaths(folder, plan.flow.name, executed=str(place or ""))


# --- after it --------------------------------------------------------------------------------


def _finished(
    paths: ArtifactPaths, record: RunRecord, target: str | None
) -> tuple[Any, int | None]:
    """The executed notebook, saved, with what came of it; and the index of the failing cell."""
    node = _node(paths.notebook.read_bytes())
    failing = _failing(node, record)
    metadata.after_run(node, record, failing)
    return _saved(node, target), failing


def _node(data: bytes) -> Any:
    return nbformat.reads(data.decode("utf-8"), as_version=4)


def _saved(notebook: Any, target: str | None) -> Any:
    """The notebook, saved; all dicts in it are nodes."""
    node = nbformat.from_dict(notebook)
    if target is not None:
        write_notebook((nbformat.writes(node) + "\n").encode("utf-8", "surrogatepass"), target)
    return node


def _failing(notebook: Any, record: RunRecord) -> int | None:
    """The index of the cell that ended the run, in the notebook with the banners."""
    if record.status.ok:
        return None
    cells = notebook["cells"]
    found = metadata.failing_index(cells)
    if found is None:  # none has a traceback: it stands after the anchor
        found = next((i + 1 for i, c in enumerate(cells) if i and metadata.is_banner(c)), None)
    return found


def _raise_if_failed(node: Any, record: RunRecord, failing: int | None) -> None:
    error = record.error
    if error is None:
        return
    told = f"{error.type}: {error.message}"
    if error.kind == FailureKind.TIMEOUT:
        from nbclient.exceptions import CellTimeoutError

        raise CellTimeoutError(f"A cell timed out: {error.message}")
    if error.kind != FailureKind.CELL or failing is None:
        from nbclient.exceptions import DeadKernelError

        raise DeadKernelError(told)
    cell = node["cells"][failing]
    output = metadata.error_output(cell) or {}
    banners = sum(map(metadata.is_banner, node["cells"][:failing]))
    raise PapermillExecutionError(
        cell_index=failing - banners,
        exec_count=cell.get("execution_count"),
        source=cell["source"],
        ename=output.get("ename", error.type),
        evalue=output.get("evalue", error.message),
        traceback=list(output.get("traceback", error.traceback)),
    )
