"""Where a planned instance runs: on this process's kernels, or wherever an `Executor` takes it.

A sweep has one, and calls it from as many threads as it has workers. Single runs, updates and
verifications run here.
"""

from __future__ import annotations

from typing import Protocol, final

import attrs

from ductaflow.execution.outcome import Stop
from ductaflow.execution.runner import run_now
from ductaflow.history.events import Audience
from ductaflow.history.run import Run
from ductaflow.model.facts import Reason
from ductaflow.plans.plan import InstancePlan


class Executor(Protocol):
    """Runs instances, one a call; several threads may call it at once."""

    def run(
        self,
        plan: InstancePlan,
        stop: Stop,
        reasons: tuple[Reason, ...],
        audience: Audience | None = None,
    ) -> Run:
        """Run a plan to its end; its artifacts then lie in its folder, its record among them.

        Args:
            plan: What to run; it can be pickled, and so be sent elsewhere.
            stop: Set by the caller, from any thread, to end the run early.
            reasons: Why it runs, for the record.
            audience: Who hears of cells and output as they come, on this thread.

        Returns:
            The run, however it ended: a flow that fails is not an error here.

        Raises:
            DuctaflowError: It could not be run: the instance is busy, there is no such kernel, or
                an artifact cannot be written.
        """


@final
@attrs.frozen
class LocalExecutor(Executor):
    """Runs instances on this process's shared pool of kernels."""

    def run(
        self,
        plan: InstancePlan,
        stop: Stop,
        reasons: tuple[Reason, ...],
        audience: Audience | None = None,
    ) -> Run:
        """See `Executor.run`."""
        return run_now(plan, stop, reasons, audience)


LOCAL = LocalExecutor()
