"""What a new run would have: its environment, its interpreter, and that one's packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs
from ductaflow_kernels.errors import UnknownKernelspec
from ductaflow_kernels.interpreters import interpreter_facts
from ductaflow_kernels.spec import KernelSpec, find_spec, own_interpreter

from ductaflow.errors import UnknownKernel
from ductaflow.flows.syntax import language
from ductaflow.model.facts import CacheDecision, Interpreter
from ductaflow.model.flows import Flow
from ductaflow.model.records import RunRecord
from ductaflow.plans.plan import InstancePlan
from ductaflow.reuse.decision import decide


def kernel_spec(flow: Flow, kernel_name: str | None) -> KernelSpec:
    """The kernel asked for, else the one that the flow's header names, else our own.

    Raises:
        UnknownKernel: There is none of that name.
    """
    try:
        if kernel_name is not None:
            return find_spec(kernel_name)
        if language(flow) == "python":
            return own_interpreter()
        return find_spec(flow.metadata.get("kernelspec", {}).get("name"))
    except UnknownKernelspec as e:
        raise UnknownKernel(f"{flow.path}: {e}") from None


@final
@attrs.define(eq=False)
class Interpreters:
    """What new runs would have, each interpreter asked once.

    Attributes:
        environment: The environment of all of them.
    """

    environment: Mapping[str, str]
    _known: dict[tuple[str, str | None], Interpreter] = attrs.field(factory=dict)

    def of(self, plan: InstancePlan) -> Interpreter:
        """The interpreter that would run a plan."""
        name = plan.options.kernel_name
        if name is None and language(plan.flow) != "python":
            name = str(plan.flow.metadata.get("kernelspec", {}).get("name"))
        key = str(plan.root), name
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._ask(plan)
        return known

    def decide(self, plan: InstancePlan, record: RunRecord | None) -> CacheDecision:
        """Whether a recorded run can be reused for a plan; see `decision.decide`."""
        return decide(plan, record, self.environment, self.of(plan))

    def _ask(self, plan: InstancePlan) -> Interpreter:
        try:
            spec = kernel_spec(plan.flow, plan.options.kernel_name)
        except UnknownKernel as e:
            return Interpreter(problem=str(e))
        if not spec.managed:  # of what it uses nothing is known anyway
            return Interpreter()
        try:
            facts = interpreter_facts(spec.argv, {**self.environment, **spec.env})
        except OSError as e:
            return Interpreter(problem=str(e))
        return Interpreter(facts.python, facts.folders)
