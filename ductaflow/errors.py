"""The error tree: every error says what happened, where, and what to do next.

All of them pickle: each is built from its positional arguments alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ductaflow.history.run import Run
    from ductaflow.history.runs import Runs


class DuctaflowError(Exception):
    """Base of everything ductaflow raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """Its traceback in IPython, which asks for it: without what is inside this library."""
        from ductaflow.tracebacks import rendered

        return rendered(self)


class FlowError(DuctaflowError):
    """The flow file is missing, unreadable, or not a valid flow."""


class FlowNotFound(FlowError):
    """No flow file where one was named."""


class ParametersCellError(FlowError):
    """The flow has no `parameters` cell, or more than one."""


class ConfigError(DuctaflowError):
    """A config value that cannot be normalised; the message names its dotted key."""


class NameRefused(DuctaflowError):
    """A step or instance name that is not one portable folder name."""


class TableError(DuctaflowError):
    """The control table, or something asked of it, is invalid; nothing has started."""


class ExportError(DuctaflowError):
    """A run's files could not be delivered; what the target held before is intact."""


class SettingsError(DuctaflowError):
    """A setting that does not exist or has an unfit value; the message says where it stands."""


class ConversionError(DuctaflowError):
    """A flow cannot be made into a script, or the file to write is not ours to overwrite."""


class UnknownKernel(DuctaflowError):
    """No kernelspec of that name; the message lists those there are."""


class InstanceBusy(DuctaflowError):
    """Another live run holds the instance's folder."""


class ArtifactError(DuctaflowError):
    """An artifact could not be written; what was there before is intact."""


class RunFailed(DuctaflowError):
    """A run ended without success; everything it left is saved.

    Attributes:
        run: The failed run, with its status, record and the paths of its artifacts.
    """

    def __init__(self, message: str, run: Run) -> None:
        super().__init__(message, run)
        self.run = run

    def __str__(self) -> str:
        return str(self.args[0])

    def _render_traceback_(self) -> list[str]:
        """Its traceback in IPython: where it was called for, and the flow's own."""
        from ductaflow.tracebacks import of_flow, rendered

        error = self.run.error
        if error is None or not error.traceback:
            return rendered(self)
        return rendered(self, of_flow(self.run.record.flow, error.traceback, self.run.dir))


class CellFailed(RunFailed):
    """A cell raised."""


class FlowSyntaxError(RunFailed):
    """A cell does not compile; no kernel was taken."""


class RunTimedOut(RunFailed):
    """A cell or the whole run took longer than it may."""


class KernelFailed(RunFailed):
    """The kernel did not start, or died during the run."""


class SweepFailed(DuctaflowError):
    """Some instances of a sweep did not succeed.

    Attributes:
        runs: All that the sweep has run.
    """

    def __init__(self, message: str, runs: Runs) -> None:
        super().__init__(message, runs)
        self.runs = runs

    def __str__(self) -> str:
        return str(self.args[0])


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a sweep; the same call goes on where it stopped.

    Attributes:
        runs: What had been run by then.
    """

    def __init__(self, message: str, runs: Runs) -> None:
        super().__init__(message, runs)
        self.runs = runs

    def __str__(self) -> str:
        return str(self.args[0])

    def _render_traceback_(self) -> list[str]:
        """Its traceback in IPython: see `DuctaflowError`."""
        from ductaflow.tracebacks import rendered

        return rendered(self)
