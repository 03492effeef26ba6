"""Run a flow once for each row of a table: in parallel, watched, and to the end.

The calls, and all that is looked at before the first instance starts; `executor` does the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ductaflow.delivery.delivery import placed, target_of
from ductaflow.errors import FlowError, SweepFailed, SweepInterrupted
from ductaflow.execution.executors import LOCAL, Executor
from ductaflow.execution.runner import check_language, interruptible
from ductaflow.flows.commands import hint
from ductaflow.flows.finding import resolve_flow
from ductaflow.flows.parameterscell import require_parameters
from ductaflow.flows.reading import read_flow
from ductaflow.flows.syntax import check_syntax, language
from ductaflow.history.entries import Entry
from ductaflow.history.events import Listener
from ductaflow.history.run import Run
from ductaflow.history.runs import Call, Runs
from ductaflow.model.options import RunKeywords, check_keywords, takes
from ductaflow.plans.options import make_options
from ductaflow.project.layout import instance_dir, step_dir
from ductaflow.project.names import check_name
from ductaflow.project.root import project_root
from ductaflow.project.settings import load_settings
from ductaflow.project.workers import share, worker_count
from ductaflow.reuse.interpreters import kernel_spec
from ductaflow.sweeps.audits import checked_fraction, sampled, verify_runs
from ductaflow.sweeps.executor import SweepExecutor
from ductaflow.sweeps.planning import SweepPlan
from ductaflow.sweeps.sweepoptions import RETRIED, RetrySpec, SweepOptions
from ductaflow.sweeps.tasks import ConfigSpec, NameSpec, OnlySpec, plan_tasks
from ductaflow.tables.table import Row, read_table
from ductaflow.text.nearest import nearest

if TYPE_CHECKING:
    from typing_extensions import Unpack

PathLike = str | os.PathLike[str]


@takes(RunKeywords)
def sweep(
    flow: PathLike,
    table: Any,
    *,
    step: str | None = None,
    instance: NameSpec = None,
    config: ConfigSpec = None,
    workers: int | None = None,
    only: OnlySpec = None,
    limit: int | None = None,
    dry_run: bool = False,
    on_error: str = "continue",
    retries: int = 0,
    retry_on: RetrySpec = RETRIED,
    retry_wait: float = 1.0,
    export_to: str | None = None,
    export_files: str | Sequence[str] = "*",
    progress: bool = True,
    on_event: Listener | None = None,
    live: bool | PathLike = False,
    root: PathLike | None = None,
    verify: float = 0,
    prune: bool = False,
    **options: Unpack[RunKeywords],
) -> Runs:
    """Run a flow once for each row of a table, each as an instance of one step.

    Everything is looked at before the first instance starts: names, columns, configs, the flow. A
    sweep that was cut off, by Ctrl-C or worse, goes on where it stopped when it is called again.

    Args:
        flow: The flow; see `run_step_flow`.
        table: A row is an instance: a pandas or polars data frame, a list of dicts, `grid(...)`, a
            generator of dicts (read as workers are free), or a `.csv`, `.parquet` or `.xlsx` file.
        step: The step's name; the flow's own if left out.
        instance: What names the instances: a column, a format string as `{region}_{year}`, or a
            function of the row. If left out: a column `instance_name` or `instance`, the index of
            a data frame, a grid's varying keys, or the config's values if they are few.
        config: What the flow gets: the names of columns (or of what dotted columns begin with), a
            mapping of config keys to columns, constants or functions of the row, or a function of
            the row that returns the config. Dotted keys make nested ones. If left out, all columns
            but those that only name the instance: which the flow neither has in its default nor
            mentions. An empty cell of a file gives nothing. All goes over the flow's
            default; see `defaults`.
        workers: How many kernels at once; if left out as the project's settings say, else as many
            as there are cores, and in a flow that is itself one of a sweep, its share of them.
        only: Only these: names or globs, or a function of the row.
        limit: At most so many.
        dry_run: Run nothing: the result has the runs as they would be, with `status` `planned` or
            `reused`.
        on_error: `continue` with the others, or `stop`: start no further instances.
        retries: How often to try an instance again that failed in a way of `retry_on`.
        retry_on: Kinds of failure (`died`, `start`, `timeout`, `cell`, `busy`), and exceptions that
            a cell raises, by name or as classes: `ConnectionError`.
        retry_wait: Seconds before the second attempt; twice as many before each further one.
        export_to: Where to deliver each run that succeeds; see `export`. One that cannot be
            delivered counts as failed.
        export_files: Globs of the files to deliver.
        progress: Whether to show how far it is.
        on_event: Called on this thread with each event, of the types in `ductaflow.events`. What
            it raises ends the sweep.
        live: Whether `runs/index.html` follows the sweep while it runs; or the folder for a page
            about this sweep alone. See `collate`.
        root: The project root; see `run_step_flow`.
        verify: Which fraction of the runs that were reused, as 0.02, is run again in a scratch
            folder and compared, at least one if there is one; chosen at random, so that in time
            all have their turn. What came of it is in the runs' `verified`. See `ductaflow.verify`.
        prune: Whether the step's instances that were in an earlier table, but are not in this one,
            are removed in the end, whatever `only` and `limit` say. See `ductaflow.prune`.
        **options: How to run each; what is left out of these is as the project's settings say.

    Returns:
        The runs, in the order of the table; those that failed are among them.

    Raises:
        TableError: The table has no rows, or not what is asked of it.
        FlowError: The flow is not there, does not parse, or has not one parameters cell.
        NameRefused: A name is no portable folder name.
        ConfigError: A config contains a value that JSON cannot represent.
        UnknownKernel: There is no kernelspec of that name.
        ExportError: `export_to` would lead a row out of its root.
        SweepFailed: With `on_error="stop"`, an instance failed.
        SweepInterrupted: Ctrl-C; it has the runs there are.
    """
    check_keywords(sweep, options, RunKeywords)
    fraction = checked_fraction(verify)
    if fraction and dry_run:
        raise ValueError("dry_run runs nothing, so verify has nothing to compare")
    if prune and dry_run:
        raise ValueError("dry_run removes nothing; prune(dry_run=True) says what would go")
    executor = _prepare(
        flow, table, root,
        SweepOptions(
            step=step, instance=instance, config=config, workers=workers, only=only, limit=limit,
            on_error=on_error, retries=retries, retry_on=retry_on, retry_wait=retry_wait,
            export_to=export_to, export_files=export_files, progress=progress, on_event=on_event,
            live=live, prune=prune, each=options,
        ),
    )  # fmt: skip
    if dry_run:
        return _runs(executor, executor.sweep.planned())
    return _done(executor, fraction)


def sweep_part(
    flow: PathLike, table: Any, *, root: Path, executor: Executor = LOCAL, **options: Any
) -> Runs:
    """Run some instances of a step as `sweep` does; they are not the table that the step now has.

    Args:
        flow: The flow.
        table: The instances.
        root: The project root.
        executor: Where they run.
        **options: As for `sweep_iter`.

    Raises:
        DuctaflowError: See `sweep`.
        SweepInterrupted: Ctrl-C; it has the runs there are.
    """
    return _done(_prepare(flow, table, root, _options(options, part=True, executor=executor)), 0)


def _done(executor: SweepExecutor, fraction: float) -> Runs:
    """The runs of a sweep, brought to its end."""
    entries: list[Entry] = []
    try:
        with interruptible(executor.stop):
            for entry, _ in executor.work():
                entries.append(entry)
    except KeyboardInterrupt as e:
        runs = _runs(executor, [*entries, *executor.late])
        raise SweepInterrupted(
            f"{e or 'interrupted'}: {runs!r}; the same call goes on where it stopped", runs
        ) from None
    runs = _runs(executor, entries)
    if fraction:
        runs = _verified(executor, runs, fraction)
    if executor.options.on_error == "stop" and runs.failed:
        raise SweepFailed(runs.summary(), runs)
    return runs


def sweep_iter(flow: PathLike, table: Any, **options: Any) -> Iterator[Run]:
    """Like `sweep`, but gives each run as it ends; leaving the loop ends those that still run.

    Args:
        flow: The flow.
        table: The control table.
        **options: As for `sweep`, but for `dry_run`.

    Returns:
        An iterator over the runs. The flow, the table and the options are looked at before it is
        returned; nothing starts before it is asked for the first run.

    Raises:
        TypeError: There is no such option.
        DuctaflowError: See `sweep`.
    """
    root = options.pop("root", None)
    executor = _prepare(flow, table, root, _options(options))
    return (run for _, run in executor.work())


def _options(given: Mapping[str, Any], **ours: Any) -> SweepOptions:
    """The options of a sweep, those of each run apart, with some that callers do not give."""
    fields = [field.name for field in attrs.fields(SweepOptions)]
    own = [name for name in fields if name not in ("part", "each", "executor")]
    known = [*own, *RunKeywords.__annotations__]
    for name in given:
        if name not in known:
            raise TypeError(f"sweep_iter() has no option {name!r}; {nearest(name, known)}")
    each: Any = {name: value for name, value in given.items() if name not in own}
    return SweepOptions(**{n: v for n, v in given.items() if n in own}, each=each, **ours)


# --- before anything starts ---------------------------------------------------------------------


def _prepare(
    flow: PathLike, table: Any, root: PathLike | None, options: SweepOptions
) -> SweepExecutor:
    project = project_root(root, flow)
    settings = load_settings(project)
    workers = worker_count(options.workers, os.environ, settings.workers)
    budget = share(os.environ, settings.workers)
    make_options(options.each, settings)  # is it all in order?
    parsed = read_flow(resolve_flow(flow, project, Path.cwd()))
    settings = settings.of(language(parsed), parsed.metadata, parsed.path)
    each = make_options(options.each, settings)
    require_parameters(parsed)
    spec = kernel_spec(parsed, each.kernel_name)
    check_language(parsed, spec)
    problem = check_syntax(parsed) if spec.argv[0] == sys.executable else None
    if problem is not None:
        raise FlowError(
            f"{parsed.path}:{problem.line}: cell {problem.cell} does not compile: "
            f"{problem.message}: {problem.text.strip()}{hint(parsed.uncommented, problem.line)}"
        )
    step = check_name(options.step if options.step is not None else parsed.name, "step")
    instance_dir(project, step, "any")  # no link leads runs/{step} elsewhere
    tasks = plan_tasks(
        read_table(table, Path.cwd()),
        instance=options.instance,
        config=options.config,
        only=options.only,
        limit=options.limit,
        target=_target(options.export_to, step, parsed.name, project),
        flow=parsed,
        folder=step_dir(project, step),
    )
    if tasks.count is not None:
        workers = max(1, min(workers, tasks.count))
    each = attrs.evolve(each, nested_workers=max(1, budget // workers))
    return SweepExecutor(SweepPlan(parsed, step, project, tasks, each), options, workers)


def _target(
    template: str | None, step: str, flow: str, root: Path
) -> Callable[[str, Row], str] | None:
    if template is None:
        return None
    place = placed(root)
    return lambda name, row: place(target_of(template, row, step=step, instance=name, flow=flow))


def _verified(executor: SweepExecutor, runs: Runs, fraction: float) -> Runs:
    """The runs, some of those reused verified."""
    chosen = sampled(runs.reused, fraction)
    options = executor.sweep.options
    found = verify_runs(
        chosen, executor.sweep.root, options, min(executor.workers, max(1, len(chosen)))
    )
    return attrs.evolve(runs, verified=found)


def _runs(executor: SweepExecutor, entries: Sequence[Entry]) -> Runs:
    ordered = sorted(entries, key=lambda entry: entry.number)
    sweep_plan = executor.sweep
    files = executor.options.export_files
    call = Call(files if isinstance(files, str) else tuple(files))
    return Runs(tuple(ordered), sweep_plan.root, sweep_plan.tasks.table, call)
