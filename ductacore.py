"""`from ductacore import ...`, wherever ductaflow is installed.

A project may have a `ductacore.py` of its own in `code/`, as one made from the template has: that
one wins, however late its folder comes in `sys.path`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

_MARK = b"wherever ductaflow is installed"  # any version of this module has it in its first line


def _candidates() -> Iterator[Path]:
    """Where a project's own may lie: on the path, in `code/` of the project that we are in."""
    yield from (Path(entry or os.curdir, "ductacore.py") for entry in sys.path)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    root = os.environ.get("DUCTAFLOW_ROOT")
    starts = [Path(root)] if root else [Path.cwd(), *([Path(script).parent] if script else [])]
    for start in starts:
        for folder in (start.absolute(), *start.absolute().parents):
            yield folder / "code" / "ductacore.py"


def _own() -> Path | None:
    """A project's own `ductacore.py`, or None."""
    return next((Path(os.path.abspath(f)) for f in _candidates() if _is_own(f)), None)  # noqa: PTH100


def _is_own(file: Path) -> bool:
    with contextlib.suppress(OSError):  # not there, or nothing that we may read
        return _MARK not in file.read_bytes()
    return False


def _load(file: Path) -> None:
    """Put the module in that file in our place."""
    spec = spec_from_file_location(__name__, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[__name__] = module
    spec.loader.exec_module(module)


if (_found := _own()) is not None:
    _load(_found)
else:
    import ductaflow

    __all__ = list(ductaflow.__all__)


def __getattr__(name: str) -> Any:
    import ductaflow

    return getattr(ductaflow, name)


def __dir__() -> list[str]:
    import ductaflow

    return sorted(ductaflow.__all__)
