"""New projects, made from the template that travels with the library."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
import shlex
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import ductaflow_kernels

import ductaflow
from ductaflow._version import __version__
from ductaflow.errors import ArtifactError
from ductaflow.files import jsonio
from ductaflow.project.environment import OWN_COPY
from ductaflow.project.names import check_name
from ductaflow.project.root import local_folder
from ductaflow.text.quoting import visible

_TEMPLATE = Path(__file__).parents[1] / "static" / "template"
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")

_VENDORED = """\
The library lies in `code/ductaflow` and `code/ductaflow_kernels`, so this project keeps running on
its own version, whatever else is installed. `requirements.txt` has what the library itself needs.
To change the version, replace the two folders. Its command line, from here:
`PYTHONPATH=code python -m ductaflow.cli --help`."""
_INSTALLED = """\
The library is the installed one; `requirements.txt` names the version that this project was made
with."""


_IGNORED = """\
# What runs leave: it can be made again from the flows and their configs.
runs/

__pycache__/
.ipynb_checkpoints/
.venv/
"""


def make_new_ductaflow_instance(
    ductaflow_name: str,
    target_dir: str | os.PathLike[str] = ".",
    *,
    vendor: bool = True,
) -> Path:
    """Make a new project that runs at once: flows that chain, a conductor, and the library.

    Args:
        ductaflow_name: The project's name, which is its folder's.
        target_dir: The folder to make it in.
        vendor: Whether to copy the library into the project's `code/`, so that the project keeps
            running on its own version; if not, it uses the installed one.

    Returns:
        The project's folder.

    Raises:
        NameRefused: The name is no portable folder name.
        ArtifactError: There is something of that name already, which stays as it is; or the folder
            cannot be written.
    """
    name = check_name(ductaflow_name, "project")
    parent = local_folder(target_dir, "target_dir")
    project = parent / name
    if project.exists() or project.is_symlink():
        raise ArtifactError(f"{project} is already there and stays as it is; take another name")
    if not parent.is_dir():
        raise ArtifactError(f"there is no folder {parent} to make {name} in")
    beside = parent / f".{name[:80]}.{secrets.token_hex(6)}.tmp"
    try:
        try:
            _fill(beside, name, vendor)
            if project.exists():  # os.replace would take the place of an empty folder
                raise ArtifactError(f"{project} has come into being meanwhile; take another name")
            beside.rename(project)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as e:
        raise ArtifactError(
            f"cannot make {project}: {e.strerror or e}; nothing of it is left. Make {parent} "
            "writable, or choose another folder."
        ) from e
    return project


def _fill(folder: Path, name: str, vendor: bool) -> None:
    shutil.copytree(_TEMPLATE, folder, ignore=_NOT_COPIED)
    conductor = f"cnd_{name}.py"
    words = {
        "title": visible(name.replace("_", " ").strip().capitalize() or name),
        "conductor": visible(conductor),
        "command": visible(f"python {shlex.quote(conductor)}"),
        "version": __version__,
        "install": "python -m pip install -r requirements.txt",
        "library": _VENDORED if vendor else _INSTALLED,
    }
    _fill_in(folder / "conductor.py", folder / conductor, words)
    _fill_in(folder / "README.md", folder / "README.md", words)
    (folder / "runs").mkdir()
    if vendor:
        for package in (ductaflow, ductaflow_kernels):
            assert package.__file__ is not None
            source = Path(package.__file__).parent
            shutil.copytree(source, folder / "code" / source.name, ignore=_NOT_COPIED)
    needed = _requirements() if vendor else [f"ductaflow=={__version__}"]
    jsonio.write_atomic(folder / "requirements.txt", "".join(f"{line}\n" for line in needed))
    jsonio.write_atomic(folder / ".gitignore", _IGNORED)
    jsonio.write_atomic(folder / "ductaflow_version.txt", _version_text(vendor))


def _fill_in(source: Path, target: Path, words: dict[str, str]) -> None:
    """Put words into `{word}` of a file; all other braces are the file's own."""
    text = source.read_text("utf-8")
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    text = text.replace("{{", "{").replace("}}", "}") if target.suffix == ".md" else text
    source.unlink()
    jsonio.write_atomic(target, text)


def _requirements() -> list[str]:
    """What the library needs: as installed, or, from a copy, as the copy's project says."""
    beside = Path(ductaflow.__file__).parents[2] / "requirements.txt"
    if OWN_COPY is not None and beside.is_file():
        return beside.read_text("utf-8").splitlines()
    try:
        found = importlib.metadata.requires("ductaflow") or []
    except importlib.metadata.PackageNotFoundError:
        return [
            "attrs",
            "click",
            "filelock",
            "ipykernel",
            "jupytext",
            "nbconvert",
            "pyyaml",
            "rich",
        ]
    return sorted(line for line in found if "extra ==" not in line)


def _version_text(vendor: bool) -> str:
    facts = {
        "ductaflow": __version__,
        "git commit": _commit(Path(ductaflow.__file__).parent) or "none",
        "library": "copied into code/" if vendor else "the installed one",
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "platform": platform.platform(),
    }
    return "".join(f"{name}: {value}\n" for name, value in facts.items())


def _commit(folder: Path) -> str | None:
    """The commit that a folder is checked out at, with a mark if it was changed since."""
    ask = [
        "git",
        "-C",
        str(folder),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    tracked = ["git", "-C", str(folder), "ls-files", "--error-unmatch", "__init__.py"]
    try:
        for command in (tracked, ask):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            if done.returncode:
                return None  # no checkout, or one of something else that this is installed in
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip()
