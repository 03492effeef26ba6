"""The environment that a kernel gets."""

from __future__ import annotations

import os
from pathlib import Path

from ductaflow.project.root import ROOT_VARIABLE

WORKERS_VARIABLE = "DUCTAFLOW_WORKERS"
"""Environment variable with the number of workers that a sweep takes if it is not told."""

_INLINE = ("module://matplotlib_inline.backend_inline", "module://ipykernel.pylab.backend_inline")


def kernel_environment(root: Path, workers: int | None = None) -> dict[str, str]:
    """What a kernel of this project finds in its environment: ours, and where the project lies.

    What a Jupyter server has told its kernel, or a kernel has set for itself, is left out: the
    conductor may be that kernel. A copy of this library that lies in the project is found by its
    kernels too.
    """
    ours = {name: value for name, value in os.environ.items() if not _of_a_kernel(name, value)}
    nested = {} if workers is None else {WORKERS_VARIABLE: str(workers)}
    if OWN_COPY is not None and OWN_COPY.is_relative_to(root.resolve()):
        path = [str(OWN_COPY), *filter(None, ours.get("PYTHONPATH", "").split(os.pathsep))]
        ours["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
    return {**ours, ROOT_VARIABLE: str(root), **nested}


def _of_a_kernel(name: str, value: str) -> bool:
    return name.startswith("JPY_") or (name == "MPLBACKEND" and value in _INLINE)


def _own_copy() -> Path | None:
    """Where this library lies, if a project has it in its `code/`, beside its `ductacore.py`."""
    folder = Path(__file__).resolve().parents[2]
    # Where ductaflow is installed, its own `ductacore.py` lies beside it.
    return folder if folder.name == "code" and (folder / "ductacore.py").is_file() else None


OWN_COPY = _own_copy()
"""Where this library lies, if it is a project's own copy; else None."""
