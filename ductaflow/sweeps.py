"""Run a flow once for each row of a table: in parallel, watched, and to the end.

    table ──▶ tasks ──▶ worker threads, one kernel each ──queue──▶ the caller's thread:
                                                                   progress, events, export, runs

Workers take the rows in the order of the table. All that callers see happens on their own thread.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
from ductaflow_kernels.pool import KernelPool, shared_pool
from ductaflow_kernels.spec import KernelRequest

from ductaflow.cellrun import Stop
from ductaflow.delivery import export_run, target_of
from ductaflow.errors import (
    DuctaflowError,
    FlowError,
    InstanceBusy,
    SweepFailed,
    SweepInterrupted,
)
from ductaflow.events import Event, InstanceFinished, InstanceStarted, Listener
from ductaflow.flow import read_flow, require_parameters, resolve_flow
from ductaflow.layout import (
    WORKERS_VARIABLE,
    ArtifactPaths,
    check_name,
    instance_dir,
    kernel_environment,
    project_root,
)
from ductaflow.model import ErrorInfo, Flow, RunOptions, RunRecord, Status
from ductaflow.options import HtmlOptions
from ductaflow.plan import make_options, plan_instance
from ductaflow.preload import imports
from ductaflow.progress import REFRESH, Tally, choose_display
from ductaflow.resume import SweepMark
from ductaflow.run import Run
from ductaflow.runner import interruptible, kernel_spec, run_plan
from ductaflow.runs import Entry, Runs
from ductaflow.syntax import check_syntax
from ductaflow.table import Row, nearest, read_table
from ductaflow.tasks import ConfigSpec, NameSpec, OnlySpec, Task, Tasks, plan_tasks

if TYPE_CHECKING:
    from ductaflow.report.live import LiveIndex

PathLike = str | os.PathLike[str]

RETRIED = ("died", "start")
LONGEST_WAIT = 60.0  # seconds between two attempts
_AHEAD = 64  # events that wait for the caller before workers wait for it


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
    retry_on: Sequence[str] = RETRIED,
    retry_wait: float = 1.0,
    resume: bool = True,
    export_to: str | None = None,
    export_files: str | Sequence[str] = "*",
    progress: bool = True,
    on_event: Listener | None = None,
    live: bool | PathLike = False,
    root: PathLike | None = None,
    timeout: float | None = None,
    cell_timeout: float | None = None,
    kernel_name: str | None = None,
    html: bool | HtmlOptions = True,
    preload: Sequence[str] | bool = True,
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
            the row that returns the config. Dotted keys make nested ones. All columns but the
            instance's name if left out.
        workers: How many kernels at once; if left out as many as there are cores, and in a flow
            that is itself one of a sweep, its share of them.
        only: Only these: names or globs, or a function of the row.
        limit: At most so many.
        dry_run: Run nothing: the result has the runs as they would be, with `status` `planned` or
            `reused`.
        on_error: `continue` with the others, or `stop` starting any.
        retries: How often to try an instance again that failed in a way of `retry_on`.
        retry_on: Kinds of failure, as `died`, `start`, `timeout` and `cell`, or names of exceptions
            that a cell raises, as `ConnectionError`.
        retry_wait: Seconds before the second attempt; twice as many before each further one.
        resume: Whether to go on with a sweep of this flow that was cut off, rather than anew.
        export_to: Where to deliver each run that succeeds; see `export`.
        export_files: Globs of the files to deliver.
        progress: Whether to show how far it is.
        on_event: Called on this thread with each event, of the types in `ductaflow.events`. What it
            raises ends the sweep.
        live: Whether `runs/index.html` follows the sweep while it runs; or the folder for a page
            about this sweep alone, relative to the project root. See `collate`.
        root: The project root; see `run_step_flow`, as for the rest.
        timeout: Seconds for each instance, from its first cell on.
        cell_timeout: Seconds for any one cell.
        kernel_name: A kernelspec's name.
        html: Whether to write HTML reports, or how they are to look.
        preload: See `run_step_flow`.

    Returns:
        The runs, in the order of the table; those that failed are among them.

    Raises:
        TableError: The table has no rows, or not what is asked of it.
        FlowError: The flow is not there, does not parse, or has not one parameters cell.
        NameRefused: A name is no portable folder name.
        ConfigError: A value in a config is nothing that JSON can hold.
        UnknownKernel: There is no kernelspec of that name.
        ExportError: A run could not be delivered.
        SweepFailed: With `on_error="stop"`, an instance failed.
        SweepInterrupted: Ctrl-C; it has the runs there are.
    """
    prepared = _prepare(
        flow, table, root,
        SweepOptions(
            step=step, instance=instance, config=config, workers=workers, only=only, limit=limit,
            on_error=on_error, retries=retries, retry_on=retry_on, retry_wait=retry_wait,
            resume=resume, export_to=export_to, export_files=export_files, progress=progress,
            on_event=on_event, live=live, timeout=timeout, cell_timeout=cell_timeout,
            kernel_name=kernel_name, html=html, preload=preload,
        ),
    )  # fmt: skip
    if dry_run:
        return prepared.planned()
    entries: list[Entry] = []
    try:
        with interruptible(prepared.stop):
            entries.extend(entry for entry, _ in prepared.execute())
    except KeyboardInterrupt as e:
        runs = prepared.runs(entries)
        raise SweepInterrupted(f"{e or 'interrupted'}: {runs!r}", runs) from None
    runs = prepared.runs(entries)
    if on_error == "stop" and runs.failed:
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
    known = [field.name for field in attrs.fields(SweepOptions)]
    for name in options:
        if name not in known:
            raise TypeError(f"sweep_iter has no option {name!r}; {nearest(name, known)}")
    prepared = _prepare(flow, table, root, SweepOptions(**options))
    return (run for _, run in prepared.execute())


@final
@attrs.frozen(kw_only=True)
class SweepOptions:
    """The options of a sweep, as `sweep` explains them."""

    step: str | None = None
    instance: NameSpec = None
    config: ConfigSpec = None
    workers: int | None = None
    only: OnlySpec = None
    limit: int | None = attrs.field(default=None)
    on_error: str = attrs.field(default="continue")
    retries: int = attrs.field(default=0)
    retry_on: Sequence[str] = RETRIED
    retry_wait: float = 1.0
    resume: bool = True
    export_to: str | None = None
    export_files: str | Sequence[str] = "*"
    progress: bool = True
    on_event: Listener | None = None
    live: bool | PathLike = False
    timeout: float | None = None
    cell_timeout: float | None = None
    kernel_name: str | None = None
    html: bool | HtmlOptions = True
    preload: Sequence[str] | bool = True

    @on_error.validator
    def _check_on_error(self, _: object, value: object) -> None:
        if value not in ("continue", "stop"):
            raise ValueError(f"on_error is {value!r}; it is 'continue' or 'stop'")

    @limit.validator
    @retries.validator
    def _check_count(self, field: attrs.Attribute[Any], value: object) -> None:
        if value is not None and (type(value) is not int or value < 0):
            raise ValueError(f"{field.name} is {value!r}; it is a whole number from 0 on")

    def run_options(self, workers: int) -> RunOptions:
        """Those that count for each instance."""
        return make_options(
            timeout=self.timeout,
            cell_timeout=self.cell_timeout,
            kernel_name=self.kernel_name,
            html=self.html,
            preload=self.preload,
            nested_workers=max(1, cores() // workers),
        )


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_count(asked: int | None, environment: Mapping[str, str]) -> int:
    """How many workers to have.

    Args:
        asked: As the caller says, or None.
        environment: The environment, which may hold the share of a sweep within a sweep.

    Raises:
        ValueError: It is not a whole number from 1 on.
    """
    where, value = "workers", asked
    if asked is None and (text := environment.get(WORKERS_VARIABLE)):
        where = WORKERS_VARIABLE
        value = int(text) if text.isascii() and text.isdigit() else None
        if value is None:
            raise ValueError(f"{where} is {text!r}; it is a whole number from 1 on")
    if value is None:
        return cores()
    if type(value) is not int or value < 1:
        raise ValueError(f"{where} is {value!r}; it is a whole number from 1 on")
    return value


# --- before anything starts ---------------------------------------------------------------------


def _prepare(flow: PathLike, table: Any, root: PathLike | None, options: SweepOptions) -> _Sweep:
    workers = worker_count(options.workers, os.environ)
    project = project_root(root)
    parsed = read_flow(resolve_flow(flow, project, Path.cwd()))
    require_parameters(parsed)
    spec = kernel_spec(parsed, options.kernel_name)
    problem = check_syntax(parsed) if spec.argv[0] == sys.executable else None
    if problem is not None:
        raise FlowError(
            f"{parsed.path}:{problem.line}: cell {problem.cell} does not compile: "
            f"{problem.message}: {problem.text.strip()}"
        )
    step = check_name(options.step if options.step is not None else parsed.name, "step")
    export_to = options.export_to

    def check(name: str, row: Row) -> None:
        if export_to is not None:
            target_of(export_to, row, step=step, instance=name, flow=parsed.name)

    tasks = plan_tasks(
        read_table(table, Path.cwd()),
        instance=options.instance,
        config=options.config,
        only=options.only,
        limit=options.limit,
        check=check,
    )
    if tasks.count is not None:
        workers = max(1, min(workers, tasks.count))
    return _Sweep(parsed, step, project, tasks, options, workers, options.run_options(workers))


@final
@attrs.frozen
class _Ended:
    """A task is over, or could not be begun."""

    task: Task
    run: Run
    attempts: int


@final
@attrs.frozen
class _Left:
    """A worker has nothing more to do, or cannot go on."""

    error: BaseException | None = None


@final
@attrs.define(eq=False)
class _Sweep:
    """One sweep: its workers, and what their caller does with what they send."""

    flow: Flow
    step: str
    root: Path
    tasks: Tasks
    options: SweepOptions
    workers: int
    run_options: RunOptions
    stop: Stop = attrs.field(factory=Stop)
    _source: Iterator[Task] = attrs.field(init=False)
    _queue: queue.Queue[Event | _Ended | _Left] = attrs.field(factory=lambda: queue.Queue(_AHEAD))
    _next_lock: threading.Lock = attrs.field(factory=threading.Lock)
    _no_more: threading.Event = attrs.field(factory=threading.Event)
    _live: LiveIndex | None = None

    def __attrs_post_init__(self) -> None:
        self._source = iter(self.tasks)

    def runs(self, entries: Sequence[Entry]) -> Runs:
        """The runs of these entries, in the order of the table."""
        ordered = sorted(entries, key=lambda entry: entry.number)
        return Runs(tuple(ordered), self.root, self.tasks.table)

    def planned(self) -> Runs:
        """The runs as they would be."""
        mark = SweepMark.find(self.root, self.step, self.flow, resume=self.options.resume)
        return self.runs([self._planned(task, mark) for task in self.tasks])

    def _planned(self, task: Task, mark: SweepMark) -> Entry:
        done = self._done(task, mark)
        if done is not None:
            return Entry.of(done, task.number, 0)
        record = self._record(task, Status.PLANNED)
        run = Run(record, self._paths(task), planned=task.config)
        return Entry.of(run, task.number, 0)

    def execute(self) -> Iterator[tuple[Entry, Run]]:
        """Run it all; each run as it ends."""
        mark = SweepMark.find(self.root, self.step, self.flow, resume=self.options.resume)
        mark.set()
        if self.options.live:
            from ductaflow.report.live import LiveIndex

            names = (self.tasks.names or {}).values()
            self._live = LiveIndex.open(self.options.live, self.root, self.step, self.flow, names)
        try:
            yield from self._execute(mark)
        finally:
            if self._live is not None:
                self._live.close()

    def _execute(self, mark: SweepMark) -> Iterator[tuple[Entry, Run]]:
        tally = Tally(self.tasks.count, time.monotonic())
        display = choose_display(self.options.progress)
        pool = shared_pool()
        with pool.reserve(self.workers):
            self._expect(pool)
            names = iter(self._work_names())
            alive = [
                threading.Thread(target=self._work, args=(mark,), name=next(names), daemon=True)
                for _ in range(self.workers)
            ]
            for thread in alive:
                thread.start()
            left = 0
            errors: list[BaseException] = []
            try:
                while left < len(alive):
                    item = self._hear(tally, display.update)
                    if isinstance(item, _Left):
                        left += 1
                        if item.error is not None:
                            errors.append(item.error)
                            self._no_more.set()
                    elif isinstance(item, _Ended):
                        entry = self._deliver(
                            Entry.of(item.run, item.task.number, item.attempts), item
                        )
                        tally.finished(entry)
                        if not entry.status.ok:
                            display.failed(entry)
                        self._tell(InstanceFinished(self.step, entry.instance, item.run))
                        yield entry, item.run
                    else:
                        if isinstance(item, InstanceStarted):
                            tally.started(item.instance, time.monotonic())
                        self._tell(item)
            finally:
                if left < len(alive):
                    self._abandon(len(alive) - left)
                display.close(tally, time.monotonic())
        if errors:
            raise errors[0]
        if self.stop.requests:
            raise KeyboardInterrupt(f"the sweep of {self.step} was interrupted")
        if self.options.on_error == "continue" or not self._no_more.is_set():
            mark.remove()

    # --- on the caller's thread ---------------------------------------------------------------

    def _expect(self, pool: KernelPool) -> None:
        spec = kernel_spec(self.flow, self.options.kernel_name)
        environment = kernel_environment(self.root, self.run_options.nested_workers)
        extra = self.run_options.preload
        ahead = () if extra is None else (*imports(self.flow), *extra)
        pool.expect(KernelRequest(spec, self.root, environment, ahead))

    def _work_names(self) -> Iterator[str]:
        return (f"ductaflow-sweep-{number}" for number in range(1, self.workers + 1))

    def _hear(self, tally: Tally, update: Callable[[Tally, float], None]) -> Event | _Ended | _Left:
        """Wait for what a worker says; Ctrl-C meanwhile asks them all to stop."""
        with interruptible(self.stop):
            while True:
                update(tally, time.monotonic())
                try:
                    return self._queue.get(timeout=REFRESH)
                except queue.Empty:
                    continue

    def _tell(self, event: Event) -> None:
        if self._live is not None:
            self._live(event)
        if self.options.on_event is not None:
            self.options.on_event(event)

    def _deliver(self, entry: Entry, ended: _Ended) -> Entry:
        export_to = self.options.export_to
        if export_to is None or not entry.status.ok:
            return entry
        delivery = export_run(
            ended.run, ended.task.row, export_to, self.options.export_files, self.root
        )
        return attrs.evolve(entry, exported=delivery.target)

    def _abandon(self, workers: int) -> None:
        """The caller goes on without us: end what runs, and wait for it."""
        self._no_more.set()
        self.stop.request()
        with interruptible(self.stop):  # a second Ctrl-C kills what the first has not ended
            while workers:
                workers -= isinstance(self._queue.get(), _Left)

    # --- on a worker's thread -----------------------------------------------------------------

    def _work(self, mark: SweepMark) -> None:
        error: BaseException | None = None
        try:
            while (task := self._next()) is not None:
                ended = self._one(task, mark)
                if self.options.on_error == "stop" and ended.run.status.bad:
                    self._no_more.set()
                self._queue.put(ended)
        except BaseException as e:  # it is the caller's, whatever it is
            error = e
        self._queue.put(_Left(error))

    def _next(self) -> Task | None:
        with self._next_lock:
            if self.stop.requests or self._no_more.is_set():
                return None
            return next(self._source, None)

    def _one(self, task: Task, mark: SweepMark) -> _Ended:
        """Run a task, again if need be."""
        done = self._done(task, mark)
        if done is not None:
            return _Ended(task, done, 0)
        attempt = 1
        while True:
            self._queue.put(InstanceStarted(self.step, task.instance, attempt))
            run = self._attempt(task)
            if attempt > self.options.retries or not self._to_be_retried(run.error):
                return _Ended(task, run, attempt)
            self._pause(min(LONGEST_WAIT, self.options.retry_wait * 2 ** (attempt - 1)))
            if self.stop.requests:
                return _Ended(task, run, attempt)
            attempt += 1

    def _attempt(self, task: Task) -> Run:
        try:
            plan = plan_instance(
                self.flow,
                task.config,
                self.step,
                task.instance,
                instance_dir(self.root, self.step, task.instance),
                self.root,
                self.run_options,
                with_config=True,
            )
            listened = self.options.on_event is not None or self._live is not None
            listen = self._queue.put if listened else None
            return run_plan(plan, self.stop, listen)
        except DuctaflowError as e:
            kind = "busy" if isinstance(e, InstanceBusy) else "artifact"
            info = ErrorInfo(kind, type(e).__name__, str(e))
            record = attrs.evolve(self._record(task, Status.FAILED), error=info)
            return Run(record, self._paths(task))

    def _to_be_retried(self, error: ErrorInfo | None) -> bool:
        return error is not None and not {error.kind, error.type}.isdisjoint(self.options.retry_on)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.stop.requests:
            time.sleep(min(0.1, seconds))

    def _done(self, task: Task, mark: SweepMark) -> Run | None:
        directory = instance_dir(self.root, self.step, task.instance)
        return mark.done(directory, self.flow, task.config, self.run_options)

    def _paths(self, task: Task) -> ArtifactPaths:
        return ArtifactPaths.of(instance_dir(self.root, self.step, task.instance), self.flow.name)

    def _record(self, task: Task, status: Status) -> RunRecord:
        path = self.flow.path
        inside = path.is_relative_to(self.root)
        flow = path.relative_to(self.root).as_posix() if inside else str(path)
        return RunRecord(status, flow, self.step, task.instance, started="")
