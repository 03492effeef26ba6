"""Run Jupytext flows once per row of a table, each in its own folder, on isolated kernels.

Names are imported when first used (PEP 562): flows import ductaflow inside kernels too, where every
millisecond of `import ductaflow` counts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ductaflow._version import __version__ as __version__

if TYPE_CHECKING:
    from ductaflow.catalog import get_all_instances as get_all_instances
    from ductaflow.conductor import run_notebook as run_notebook
    from ductaflow.conductor import run_step_flow as run_step_flow
    from ductaflow.delivery import export as export
    from ductaflow.errors import ArtifactError as ArtifactError
    from ductaflow.errors import CellFailed as CellFailed
    from ductaflow.errors import ConfigError as ConfigError
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
    from ductaflow.errors import SweepFailed as SweepFailed
    from ductaflow.errors import SweepInterrupted as SweepInterrupted
    from ductaflow.errors import TableError as TableError
    from ductaflow.errors import UnknownKernel as UnknownKernel
    from ductaflow.grids import grid as grid
    from ductaflow.grids import zip_grid as zip_grid
    from ductaflow.metrics import record as record
    from ductaflow.model import Status as Status
    from ductaflow.options import HtmlOptions as HtmlOptions
    from ductaflow.report.collation import collate as collate
    from ductaflow.run import Run as Run
    from ductaflow.runs import Runs as Runs
    from ductaflow.sweeps import sweep as sweep
    from ductaflow.sweeps import sweep_iter as sweep_iter

_HOMES = {
    "ductaflow.catalog": ("get_all_instances",),
    "ductaflow.conductor": ("run_notebook", "run_step_flow"),
    "ductaflow.errors": (
        "ArtifactError", "CellFailed", "ConfigError", "DuctaflowError", "ExportError", "FlowError",
        "FlowNotFound", "FlowSyntaxError", "InstanceBusy", "KernelFailed", "NameRefused",
        "ParametersCellError", "RunFailed", "RunTimedOut", "SweepFailed", "SweepInterrupted",
        "TableError", "UnknownKernel",
    ),
    "ductaflow.delivery": ("export",),
    "ductaflow.grids": ("grid", "zip_grid"),
    "ductaflow.metrics": ("record",),
    "ductaflow.model": ("Status",),
    "ductaflow.options": ("HtmlOptions",),
    "ductaflow.report.collation": ("collate",),
    "ductaflow.run": ("Run",),
    "ductaflow.runs": ("Runs",),
    "ductaflow.sweeps": ("sweep", "sweep_iter"),
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
