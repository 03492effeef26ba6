"""What `ductaflow doctor` looks at, each a fact and, where it is amiss, what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

import ductaflow
from ductaflow.errors import DuctaflowError

_NEEDED = ("ipykernel", "jupyter_client", "jupytext", "nbconvert", "nbformat")
_OPTIONAL = {
    "pandas": "control tables from files, and tables of runs: pip install 'ductaflow[tables]'",
    "matplotlib": "the example's figures: pip install 'ductaflow[examples]'",
    "fsspec": "export to URLs: pip install 'ductaflow[remote]'",
}


@attrs.frozen
class Check:
    """One thing looked at.

    Attributes:
        what: What.
        verdict: `ok`, `hint` or `wrong`.
        found: What was found.
        advice: What to do about it.
    """

    what: str
    verdict: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """The same as plain types."""
        return attrs.asdict(self)


def all_checks(root: str | None) -> Iterator[Check]:
    """Every check, as it is made."""
    yield _python()
    yield _library()
    yield from _packages()
    project = None
    try:
        from ductaflow.project.root import project_root

        project = project_root(root)
    except DuctaflowError as e:
        yield Check("project", "wrong", str(e), "name a folder that is there")
    if project is not None:
        yield from _project(project)
    yield _writable("temporary folder", Path(tempfile.gettempdir()))
    yield _forking()
    yield from _kernelspecs()
    yield _kernel(project or Path.cwd())


def _python() -> Check:
    found = f"{platform.python_version()}, {sys.executable}"
    return Check("Python", "ok", found)


def _library() -> Check:
    place = Path(ductaflow.__file__).parent
    return Check("ductaflow", "ok", f"{ductaflow.__version__}, {place}")


def _packages() -> Iterator[Check]:
    for name in _NEEDED:
        if importlib.util.find_spec(name) is not None:
            yield Check(name, "ok", importlib.metadata.version(name))
        else:
            yield Check(name, "wrong", "not installed", f"{sys.executable} -m pip install {name}")
    for name, use in _OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            yield Check(name, "hint", "not installed", f"for {use}")
        else:
            yield Check(name, "ok", importlib.metadata.version(name))


def _project(root: Path) -> Iterator[Check]:
    from ductaflow.cli.options import flow_files
    from ductaflow.project.layout import runs_dir
    from ductaflow.project.settings import load_settings

    try:
        settings = load_settings(root)
    except DuctaflowError as e:
        yield Check("settings", "wrong", str(e), "correct it; until then nothing runs here")
        return
    yield Check("settings", "ok", ", ".join(f"{k}={v}" for k, v in _changed(settings)) or "default")
    flows = flow_files(root)
    if flows:
        yield Check("project", "ok", f"{root}, {len(flows)} flows")
    else:
        advice = "stand in the project, give --root, or make one: ductaflow new NAME"
        yield Check(
            "project", "hint", f"{root} has no flow in {' or '.join(settings.flows)}", advice
        )
    runs = runs_dir(root)
    yield _writable("runs", runs if runs.is_dir() else root)
    own = root / "code" / "ductaflow"
    if own.is_dir() and own.resolve() != Path(ductaflow.__file__).resolve().parent:
        yield Check(
            "library of the project",
            "hint",
            f"the project has its own copy, {own}, and this command is not of it",
            "for the project's: PYTHONPATH=code python -m ductaflow.cli …",
        )


def _changed(settings: Any) -> Iterator[tuple[str, Any]]:
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        if value != field.default:
            yield field.name, value


def _writable(what: str, folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        return Check(
            what, "wrong", f"{folder} cannot be written: {e.strerror or e}",
            "change its owner or permissions, or free space",
        )  # fmt: skip
    return Check(what, "ok", f"{folder} can be written")


def _forking() -> Check:
    from ductaflow_kernels.sources.forked import forking_works

    if forking_works():
        return Check("kernels", "ok", "forked from a warm template")
    where = f"{platform.system()} {platform.release()}"
    return Check(
        "kernels", "hint", f"started in advance: {where} cannot fork them",
        "for the fastest starts use Linux 5.3 or later",
    )  # fmt: skip


def _kernelspecs() -> Iterator[Check]:
    from jupyter_client.kernelspec import KernelSpecManager

    specs = KernelSpecManager().get_all_specs()
    if not specs:
        yield Check("kernelspecs", "hint", "none", "none is needed, unless flows name one")
    for name, found in sorted(specs.items()):
        program = found["spec"]["argv"][0]
        there = Path(program).is_file() if Path(program).is_absolute() else _on_path(program)
        if there:
            yield Check(f"kernelspec {name}", "ok", program)
        else:
            yield Check(
                f"kernelspec {name}", "hint", f"{program} is not there",
                f"jupyter kernelspec remove {name}, or install it anew",
            )  # fmt: skip


def _on_path(program: str) -> bool:
    import shutil

    return shutil.which(program) is not None


def _kernel(cwd: Path) -> Check:
    """Start a kernel, as a run would."""
    import time

    from ductaflow_kernels.errors import KernelError
    from ductaflow_kernels.pool import KernelPool
    from ductaflow_kernels.spec import KernelRequest, own_interpreter

    began = time.monotonic()
    try:
        with KernelPool(spare=0) as pool:
            session = pool.lease(KernelRequest(own_interpreter(), cwd, dict(os.environ)))
            pool.retire(session)
    except (KernelError, OSError) as e:
        return Check(
            "a kernel", "wrong", f"does not start: {e}",
            f"{sys.executable} -m pip install --force-reinstall ipykernel",
        )  # fmt: skip
    return Check("a kernel", "ok", f"starts, in {time.monotonic() - began:.2f} s")
