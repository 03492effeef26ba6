"""What every executor must do; one, which runs each instance in another process, is here."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from subprocess import PIPE
from typing import Any

import attrs
import pytest
from conftest import Project

from ductaflow.errors import DuctaflowError, InstanceBusy, UnknownKernel
from ductaflow.execution.executors import LOCAL, Executor
from ductaflow.execution.outcome import Stop
from ductaflow.flows.reading import read_flow
from ductaflow.history.events import Audience
from ductaflow.history.lock import instance_lock
from ductaflow.history.run import Run
from ductaflow.model.facts import Reason
from ductaflow.model.kinds import ReasonKind
from ductaflow.model.options import RunOptions
from ductaflow.model.records import Status
from ductaflow.plans.plan import InstancePlan, plan_instance
from ductaflow.project.layout import ArtifactPaths
from ductaflow.sweeps.calls import sweep_part

THERE = """
import pickle, sys
from ductaflow.errors import DuctaflowError
from ductaflow.execution.executors import LOCAL
from ductaflow.execution.outcome import Stop
plan, reasons = pickle.load(sys.stdin.buffer)
try:
    result = LOCAL.run(plan, Stop(), reasons)
except DuctaflowError as e:
    result = e
pickle.dump(result, sys.stdout.buffer)
"""


@attrs.frozen
class ElsewhereExecutor(Executor):
    """Runs each instance in a process of its own; it cannot be stopped, nor heard of."""

    def run(
        self,
        plan: InstancePlan,
        stop: Stop,
        reasons: tuple[Reason, ...],
        audience: Audience | None = None,
    ) -> Run:
        """See `Executor.run`."""
        sent = pickle.dumps((plan, reasons))
        there = subprocess.run([sys.executable, "-c", THERE], input=sent, stdout=PIPE, check=True)
        result = pickle.loads(there.stdout)
        if isinstance(result, DuctaflowError):
            raise result
        assert isinstance(result, Run)
        return result


@pytest.fixture(params=[LOCAL, ElsewhereExecutor()], ids=["local", "elsewhere"])
def executor(request: pytest.FixtureRequest) -> Executor:
    made: Executor = request.param
    return made


REASONS = (Reason(ReasonKind.NEW, "it has not run yet"),)


def planned(project: Project, name: str, instance: str = "a", **options: Any) -> InstancePlan:
    flow = read_flow(project.root / "flow" / f"{name}.py")
    folder = project.root / "runs" / name / instance
    how = RunOptions(**options)
    return plan_instance(
        flow, {"x": 1}, name, instance, folder, project.root, how, with_config=True
    )


def test_a_plan_can_be_sent(project: Project) -> None:
    project.write("step", "print(config)", parameters="config = {'x': 0}")
    plan = planned(project, "step", timeout=3)
    cells = plan.cells
    sent = pickle.loads(pickle.dumps(plan))
    assert sent == plan
    assert sent.cells == cells
    assert sent.notes == plan.notes


def test_it_leaves_a_run_with_its_artifacts(executor: Executor, project: Project) -> None:
    project.write("step", "print(config)\nopen('out.txt', 'w').write('there')")
    run = executor.run(planned(project, "step"), Stop(), REASONS)
    assert run.ok
    assert run.reasons == REASONS
    assert all(path.is_file() for path in (run.notebook, run.html, run.log, run.dir / "out.txt"))


def test_a_flow_that_fails_is_a_run(executor: Executor, project: Project) -> None:
    project.write("step", "1 / 0")
    run = executor.run(planned(project, "step"), Stop(), REASONS)
    assert run.status is Status.FAILED
    assert run.error is not None
    assert (run.error.kind, run.error.type, run.error.cell) == ("cell", "ZeroDivisionError", 2)


def test_options_count(executor: Executor, project: Project) -> None:
    project.write("step", "import time; time.sleep(600)")
    run = executor.run(planned(project, "step", cell_timeout=0.3), Stop(), REASONS)
    assert run.status is Status.TIMED_OUT


def test_what_does_not_come_about_is_raised(executor: Executor, project: Project) -> None:
    project.write("step", "pass")
    with pytest.raises(UnknownKernel):
        executor.run(planned(project, "step", kernel_name="no-such"), Stop(), REASONS)
    plan = planned(project, "step")
    plan.directory.mkdir(parents=True)
    with (
        instance_lock(ArtifactPaths.of(plan.directory, plan.flow.name)),
        pytest.raises(InstanceBusy),
    ):
        executor.run(plan, Stop(), REASONS)


def test_a_sweep_runs_where_its_executor_does(executor: Executor, project: Project) -> None:
    project.write("step", "1 / x", parameters="config = {'x': 0}")
    table = [{"x": 0}, {"x": 1}, {"x": 2}]
    again = {"root": project.root, "executor": executor, "progress": False}
    runs = sweep_part("step", table, **again)
    assert [run.status.value for run in runs] == ["failed", "success", "success"]
    here = {run.record.conductor["pid"] == os.getpid() for run in runs}
    assert here == {executor is LOCAL}
    assert [run.reused for run in sweep_part("step", table, **again)] == [False, True, True]
