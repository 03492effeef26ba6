"""The plan that repeats an earlier run: its flow as it is now, its config, its options."""

from __future__ import annotations

from pathlib import Path

from ductaflow.errors import DuctaflowError
from ductaflow.flows.reading import read_flow
from ductaflow.flows.syntax import language
from ductaflow.history.run import Run
from ductaflow.model.facts import CacheDecision, Reason
from ductaflow.model.kinds import ReasonKind
from ductaflow.model.options import RunOptions
from ductaflow.plans.options import recorded_options
from ductaflow.plans.plan import InstancePlan, plan_instance
from ductaflow.project.settings import load_settings
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.moves import flow_of


def plan_again(run: Run, root: Path, *, force: bool = False) -> InstancePlan:
    """The plan that makes a run again: its flow as it is now, its config, its options.

    Raises:
        DuctaflowError: The flow is gone or does not parse, or the config is gone.
    """
    path = flow_of(run.brief, root)
    values = recorded_options(run.brief.options)
    flow = read_flow(path)
    now = load_settings(root).of(language(flow), flow.metadata, path).options.get("max_age")
    ages = [age for age in (values.get("max_age"), now) if age is not None]
    # What it was called with, or what is said now: by neither is it to be too old.
    values["max_age"] = min(ages, default=None)
    options = RunOptions(**{**values, "force": force})
    return plan_instance(
        flow, run.given, run.step, run.instance, run.dir, root, options,
        with_config=True,
    )  # fmt: skip


def standing_of(
    run: Run, root: Path, interpreters: Interpreters, *, force: bool = False
) -> CacheDecision:
    """Whether a run is up to date, and if not, why not.

    Args:
        run: The run.
        root: The project root.
        interpreters: What it would have now.
        force: Whether it is to run in any case.
    """
    try:
        plan = plan_again(run, root, force=force)
    except DuctaflowError as e:
        return CacheDecision(reuse=False, reasons=(Reason(ReasonKind.FLOW, str(e)),))
    return interpreters.decide(plan, run.brief)
