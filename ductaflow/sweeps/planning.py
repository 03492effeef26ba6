"""The work of a sweep: each task with its plan, and whether its last run can be reused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.errors import DuctaflowError
from ductaflow.execution.refresh import is_outdated, refreshed
from ductaflow.execution.runner import find_reusable
from ductaflow.history.entries import Entry
from ductaflow.history.index import Index
from ductaflow.history.run import Run
from ductaflow.model.facts import CacheDecision
from ductaflow.model.flows import Flow
from ductaflow.model.options import RunOptions
from ductaflow.model.records import RunRecord, Status
from ductaflow.plans.parameters import complete
from ductaflow.plans.plan import InstancePlan, plan_given
from ductaflow.project.environment import kernel_environment
from ductaflow.project.layout import ArtifactPaths, instance_in, step_dir
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.sweeps.tasks import Task, Tasks

_AT_ONCE = 64  # tasks whose records are looked up together


@final
@attrs.frozen
class Candidate:
    """A task, and what is known of it before it is begun.

    Attributes:
        task: The task.
        plan: Its plan, or the error for which there is none.
        decision: Whether its last run can be reused.
        last: That run, or None.
    """

    task: Task
    plan: InstancePlan | DuctaflowError
    decision: CacheDecision
    last: Run | None = None

    @property
    def reusable(self) -> Run | None:
        """The run that can be reused, or None."""
        return self.last if self.decision.reuse else None

    @property
    def outdated(self) -> bool:
        """Whether the reusable run shows another text than that of its flow as it is now."""
        reusable = self.reusable
        return (
            reusable is not None
            and isinstance(self.plan, InstancePlan)
            and is_outdated(self.plan, reusable)
        )


@final
@attrs.define(eq=False)
class SweepPlan:
    """The instances of one sweep as they stand.

    Attributes:
        flow: The flow.
        step: The step's name.
        root: The project root.
        tasks: What is to be done.
        options: How each instance runs.
    """

    flow: Flow
    step: str
    root: Path
    tasks: Tasks
    options: RunOptions
    _interpreters: Interpreters = attrs.field(init=False)
    _folder: Path = attrs.field(init=False)  # of the step's instances

    def __attrs_post_init__(self) -> None:
        environment = kernel_environment(self.root, self.options.nested_workers)
        self._interpreters = Interpreters(environment)
        self._folder = step_dir(self.root, self.step)

    @property
    def flow_display(self) -> str:
        """The flow's path as records have it."""
        path, root = self.flow.path, self.root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    @property
    def at_once(self) -> int:
        """How many tasks may be looked at before the first is reported.

        One where the rows come from a generator: the next may depend on what became of the last.
        """
        return 1 if self.tasks.count is None else _AT_ONCE

    def candidates(self, index: Index) -> Iterator[Candidate]:
        """Each task as it stands when its turn comes."""
        tasks = iter(self.tasks)
        while some := list(itertools.islice(tasks, self.at_once)):
            index.read_ahead(self.step, [task.instance for task in some])
            yield from (self._candidate(task, index) for task in some)

    def planned(self) -> list[Entry]:
        """The runs as they would be; nothing is run."""
        with Index(self.root) as index:
            index.refresh(self.step)
            return [self._planned(candidate) for candidate in self.candidates(index)]

    def reused(self, candidate: Candidate) -> Run | None:
        """The run that is reused for a task, showing its flow as it is now, or None."""
        if candidate.reusable is None or isinstance(candidate.plan, DuctaflowError):
            return None
        return refreshed(candidate.plan, candidate.reusable, self._interpreters)

    def not_run(self, task: Task, status: Status, **facts: Any) -> Run:
        """A run that there is not, or not yet.

        Args:
            task: Its task.
            status: How it stands.
            **facts: More of its record.
        """
        record = RunRecord(status, self.flow_display, self.step, task.instance, started="", **facts)
        paths = ArtifactPaths.of(self._folder / task.instance, self.flow.name)
        planned = status is Status.PLANNED
        config = (
            complete(self.flow, task.config, defaults=self.options.defaults) if planned else None
        )
        return Run(record, paths, planned=config)

    def _candidate(self, task: Task, index: Index) -> Candidate:
        try:
            directory = instance_in(self._folder, task.instance)
            plan = plan_given(
                self.flow, task.config, self.step, task.instance, directory, self.root, self.options
            )
        except DuctaflowError as e:
            return Candidate(task, e, CacheDecision(reuse=False))
        last, decision = find_reusable(plan, self._interpreters, index)
        return Candidate(task, plan, decision, last)

    def _planned(self, candidate: Candidate) -> Entry:
        if isinstance(candidate.plan, DuctaflowError):
            raise candidate.plan
        reasons = candidate.decision.reasons
        run = candidate.reusable or self.not_run(candidate.task, Status.PLANNED, reasons=reasons)
        return Entry.of(run, candidate.task.number, attempts=0)
