"""This project's ductaflow, for its conductor and flows: `from ductacore import run_step_flow`.

If a copy of the library lies beside this file, it is the one that is used, so that the project keeps
running on the version that it was made with; if not, the installed one is.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent

if (_HERE / "ductaflow").is_dir():
    sys.path[:] = [str(_HERE), *(entry for entry in sys.path if entry != str(_HERE))]

import ductaflow  # noqa: E402

if (_HERE / "ductaflow").is_dir() and not Path(ductaflow.__file__).is_relative_to(_HERE):
    _versions = (_HERE / "ductaflow" / "_version.py").read_text("utf-8")
    if f'"{ductaflow.__version__}"' not in _versions:
        raise ImportError(
            f"ductaflow {ductaflow.__version__} was imported from {ductaflow.__file__} before "
            f"ductacore, but this project has a version of its own in {_HERE}: import ductacore first"
        )

__all__ = list(ductaflow.__all__)  # noqa: PLE0605


def __getattr__(name):
    return getattr(ductaflow, name)


def __dir__():
    return sorted(__all__)
