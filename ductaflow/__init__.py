"""Run Jupytext flows once per row of a table, each in its own folder, on isolated kernels.

Names are imported when first used (PEP 562): flows import ductaflow inside kernels too, where every
millisecond of `import ductaflow` counts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ductaflow._version import __version__ as __version__

if TYPE_CHECKING:
    from ductaflow.convert.debugging import debug_flow as debug_flow
    from ductaflow.convert.runners import create_flow_bat_runner as create_flow_bat_runner
    from ductaflow.convert.runscript import create_flow_run_script as create_flow_run_script
    from ductaflow.convert.standalone import (
        create_standalone_python_script as create_standalone_python_script,
    )
    from ductaflow.delivery.delivery import Delivery as Delivery
    from ductaflow.delivery.delivery import export as export
    from ductaflow.errors import ArtifactError as ArtifactError
    from ductaflow.errors import CellFailed as CellFailed
    from ductaflow.errors import ConfigError as ConfigError
    from ductaflow.errors import ConversionError as ConversionError
    from ductaflow.errors import DuctaflowError as DuctaflowError
    from ductaflow.errors import ExportError as ExportError
    from ductaflow.errors import FlowError as FlowError
    from ductaflow.errors import FlowNotFound as FlowNotFound
    from ductaflow.errors import FlowSyntaxError as FlowSyntaxError
    from ductaflow.errors import InstanceBusy as InstanceBusy
    from ductaflow.errors import KernelFailed as KernelFailed
    from ductaflow.errors import NameRefused as NameRefused
    from ductaflow.errors import ParametersCellError as ParametersCellError
    from ductaflow.errors import RunFailed as RunFailed
    from ductaflow.errors import RunTimedOut as RunTimedOut
    from ductaflow.errors import SettingsError as SettingsError
    from ductaflow.errors import SweepFailed as SweepFailed
    from ductaflow.errors import SweepInterrupted as SweepInterrupted
    from ductaflow.errors import TableError as TableError
    from ductaflow.errors import UnknownKernel as UnknownKernel
    from ductaflow.execution.conductor import run_notebook as run_notebook
    from ductaflow.execution.conductor import run_step_flow as run_step_flow
    from ductaflow.flowkit.declarations import reads as reads
    from ductaflow.flowkit.dualmode import display_config_summary as display_config_summary
    from ductaflow.flowkit.dualmode import is_notebook_execution as is_notebook_execution
    from ductaflow.flowkit.dualmode import load_cli_config as load_cli_config
    from ductaflow.flowkit.dualmode import unpack_config as unpack_config
    from ductaflow.flowkit.metrics import record as record
    from ductaflow.history.catalog import get_all_instances as get_all_instances
    from ductaflow.history.catalog import runs_table as runs_table
    from ductaflow.history.lineage import Lineage as Lineage
    from ductaflow.history.lineage import lineage as lineage
    from ductaflow.history.run import Run as Run
    from ductaflow.history.runs import Cause as Cause
    from ductaflow.history.runs import Runs as Runs
    from ductaflow.migration import analyze_execution_logs as analyze_execution_logs
    from ductaflow.migration import convert_notebook_to_html as convert_notebook_to_html
    from ductaflow.migration import generate_config_markdown as generate_config_markdown
    from ductaflow.migration import setup_conductor_logging as setup_conductor_logging
    from ductaflow.migration import setup_execution_logging as setup_execution_logging
    from ductaflow.model.facts import CacheDecision as CacheDecision
    from ductaflow.model.facts import FileFact as FileFact
    from ductaflow.model.facts import Reason as Reason
    from ductaflow.model.htmloptions import HtmlOptions as HtmlOptions
    from ductaflow.model.kinds import FailureKind as FailureKind
    from ductaflow.model.kinds import NoteKind as NoteKind
    from ductaflow.model.kinds import ReasonKind as ReasonKind
    from ductaflow.model.plans import Note as Note
    from ductaflow.model.records import CellRecord as CellRecord
    from ductaflow.model.records import ErrorInfo as ErrorInfo
    from ductaflow.model.records import RunRecord as RunRecord
    from ductaflow.model.records import Status as Status
    from ductaflow.model.verification import Difference as Difference
    from ductaflow.model.verification import Verification as Verification
    from ductaflow.model.verification import VerificationOutcome as VerificationOutcome
    from ductaflow.model.verification import Verifications as Verifications
    from ductaflow.plans.inspection import FlowFacts as FlowFacts
    from ductaflow.plans.inspection import Parameter as Parameter
    from ductaflow.plans.inspection import inspect_flow as inspect_flow
    from ductaflow.project.scaffold import (
        make_new_ductaflow_instance as make_new_ductaflow_instance,
    )
    from ductaflow.report.collation import collate as collate
    from ductaflow.report.statusreport import generate_status_report as generate_status_report
    from ductaflow.secrets.references import Secret as Secret
    from ductaflow.secrets.references import secret as secret
    from ductaflow.sweeps.audits import verify as verify
    from ductaflow.sweeps.calls import sweep as sweep
    from ductaflow.sweeps.calls import sweep_iter as sweep_iter
    from ductaflow.sweeps.currency import Check as Check
    from ductaflow.sweeps.currency import Checked as Checked
    from ductaflow.sweeps.currency import Standing as Standing
    from ductaflow.sweeps.currency import check as check
    from ductaflow.sweeps.updates import accept as accept
    from ductaflow.sweeps.updates import explain as explain
    from ductaflow.sweeps.updates import update as update
    from ductaflow.tables.grids import Grid as Grid
    from ductaflow.tables.grids import grid as grid
    from ductaflow.tables.grids import zip_grid as zip_grid
    from ductaflow.upkeep.pruning import Leftover as Leftover
    from ductaflow.upkeep.pruning import prune as prune
    from ductaflow.upkeep.thinning import Thinned as Thinned
    from ductaflow.upkeep.thinning import make_report as make_report
    from ductaflow.upkeep.thinning import thin as thin

_HOMES = {
    "ductaflow.sweeps.audits": ("verify",),
    "ductaflow.history.catalog": ("get_all_instances", "runs_table"),
    "ductaflow.execution.conductor": ("run_notebook", "run_step_flow"),
    "ductaflow.errors": (
        "ArtifactError", "CellFailed", "ConfigError", "ConversionError", "DuctaflowError",
        "ExportError", "FlowError", "FlowNotFound", "FlowSyntaxError", "InstanceBusy",
        "KernelFailed", "NameRefused", "ParametersCellError", "RunFailed", "RunTimedOut",
        "SettingsError", "SweepFailed", "SweepInterrupted", "TableError", "UnknownKernel",
    ),
    "ductaflow.flowkit.declarations": ("reads",),
    "ductaflow.delivery.delivery": ("Delivery", "export"),
    "ductaflow.model.facts": ("CacheDecision", "FileFact", "Reason"),
    "ductaflow.convert.runners": ("create_flow_bat_runner",),
    "ductaflow.convert.runscript": ("create_flow_run_script",),
    "ductaflow.convert.standalone": ("create_standalone_python_script",),
    "ductaflow.sweeps.currency": ("Check", "Checked", "Standing", "check"),
    "ductaflow.convert.debugging": ("debug_flow",),
    "ductaflow.flowkit.dualmode": (
        "display_config_summary", "is_notebook_execution", "load_cli_config", "unpack_config",
    ),
    "ductaflow.tables.grids": ("Grid", "grid", "zip_grid"),
    "ductaflow.history.lineage": ("Lineage", "lineage"),
    "ductaflow.plans.inspection": ("FlowFacts", "Parameter", "inspect_flow"),
    "ductaflow.flowkit.metrics": ("record",),
    "ductaflow.migration": (
        "analyze_execution_logs", "convert_notebook_to_html", "generate_config_markdown",
        "setup_conductor_logging", "setup_execution_logging",
    ),
    "ductaflow.model.records": ("CellRecord", "ErrorInfo", "RunRecord", "Status"),
    "ductaflow.model.htmloptions": ("HtmlOptions",),
    "ductaflow.upkeep.pruning": ("Leftover", "prune"),
    "ductaflow.report.collation": ("collate",),
    "ductaflow.history.run": ("Run",),
    "ductaflow.history.runs": ("Cause", "Runs"),
    "ductaflow.project.scaffold": ("make_new_ductaflow_instance",),
    "ductaflow.secrets.references": ("Secret", "secret"),
    "ductaflow.report.statusreport": ("generate_status_report",),
    "ductaflow.sweeps.calls": ("sweep", "sweep_iter"),
    "ductaflow.upkeep.thinning": ("Thinned", "make_report", "thin"),
    "ductaflow.sweeps.updates": ("accept", "explain", "update"),
    "ductaflow.model.verification": (
        "Difference", "Verification", "VerificationOutcome", "Verifications",
    ),
    "ductaflow.model.kinds": ("FailureKind", "NoteKind", "ReasonKind"),
    "ductaflow.model.plans": ("Note",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
