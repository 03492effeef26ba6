"""Where things lie: the project root, and every name under `runs/`, of which this is sole owner."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from ductaflow.errors import DuctaflowError, NameRefused

RUNS = "runs"
INDEX_PAGE = "index.html"
SUMMARY = "bulk_summary.json"
INDEX_FILES = "index_files"
"""The folder beside a page about many runs, which may lie in `runs/` itself."""

ROOT_VARIABLE = "DUCTAFLOW_ROOT"
"""Environment variable that names the project root."""

WORKERS_VARIABLE = "DUCTAFLOW_WORKERS"
"""Environment variable with the number of workers that a sweep takes if it is not told."""

MAX_NAME = 120
"""Bytes of a name in UTF-8. A file system takes 255 for one name and Windows by default 260
characters for a whole path, and `runs/{step}/{instance}/{flow}.ipynb` holds three of them."""

MARKER_FILE = "ductaflow.toml"
_MARKER_FOLDERS = ("flow", "flows")

_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE)
_FORBIDDEN = '<>:"|?*'


# --- names -----------------------------------------------------------------------------------


def check_name(name: object, what: str) -> str:
    """The name of a step or an instance, if it is one folder's name on every system.

    Args:
        name: The name.
        what: What it names, for the message: `step` or `instance`.

    Returns:
        The name in Unicode's composed form (NFC), so that it is one folder on macOS too.

    Raises:
        NameRefused: It is not; the message says why.
    """
    if not isinstance(name, str):
        raise NameRefused(
            f"the {what} name {name!r} is of type {type(name).__name__}; give a string, "
            f"as {str(name)!r}"
        )
    composed = unicodedata.normalize("NFC", str.__str__(name))
    reason = _unfit(composed)
    if not reason and what == "step" and composed.casefold() == INDEX_FILES:
        reason = f"is that of the folder where {INDEX_PAGE} keeps its files"
    if reason:
        raise NameRefused(
            f"the {what} name {name!r} {reason}; it becomes a folder under {RUNS}/ and must be "
            "one on Linux, macOS and Windows: use letters, digits, `-`, `_` and inner dots"
        )
    return composed


def _unfit(name: str) -> str:
    """Why `name` cannot be a folder's name somewhere; empty if it can."""
    if not name.strip():
        return "is empty"
    if name in (".", ".."):
        return "means a folder that is already there"
    if "/" in name or "\\" in name:
        return "has a path separator"
    if any(unicodedata.category(c) == "Cc" for c in name):
        return "has a control character"
    if any("\ud800" <= c <= "\udfff" for c in name):
        return "has half of a surrogate pair, which no UTF-8 name can hold"
    if bad := sorted(set(name) & set(_FORBIDDEN)):
        return f"has {' '.join(bad)}, which Windows refuses"
    if name[0] == ".":
        return "begins with a dot: hidden names are ductaflow's own"
    if name[0].isspace():
        return "begins with a space"
    if name[-1] == "." or name[-1].isspace():
        return "ends in a dot or space, which Windows drops"
    if _DEVICE.fullmatch(name.partition(".")[0].rstrip()):
        return f"is a device on Windows ({name.partition('.')[0].rstrip()})"
    size = len(name.encode())
    if size > MAX_NAME:
        return f"takes {size} bytes where {MAX_NAME} are allowed, so that paths stay usable"
    return ""


# --- the project root ------------------------------------------------------------------------


def project_root(root: str | os.PathLike[str] | None) -> Path:
    """The project root for this process: `root` if given, else found from where it is.

    Raises:
        DuctaflowError: The root asked for is not a folder.
    """
    explicit = Path(root) if root is not None else None
    return find_root(Path.cwd(), explicit, os.environ, main_script())


def find_root(
    start: Path, explicit: Path | None, env: Mapping[str, str], script: Path | None = None
) -> Path:
    """The project root.

    The first of: `explicit`; the environment's `DUCTAFLOW_ROOT`; the nearest folder from `start`
    upwards that looks like a project; the same from the script's folder; `start`. A project has
    `ductaflow.toml`, `flow/`, `flows/`, or a `pyproject.toml` with `[tool.ductaflow]`. The home
    folder and the file system's root are none, unless one begins there.

    Args:
        start: The working directory.
        explicit: What the caller asked for; relative to `start`.
        env: The environment.
        script: The main script's file, if there is one (`main_script`).

    Returns:
        An absolute path, symlinks kept.

    Raises:
        DuctaflowError: The root asked for is not a folder.
    """
    start = start.absolute()
    asked = [("root=", explicit), (ROOT_VARIABLE, env.get(ROOT_VARIABLE))]
    for source, value in asked:
        if value:
            root = start / Path(value).expanduser()
            if not root.is_dir():
                raise DuctaflowError(
                    f"{source} names {root} as the project root, but there is no such folder; "
                    "create it or name another"
                )
            return root
    for begin in [start, *([script.absolute().parent] if script else [])]:
        found = _search_up(begin)
        if found is not None:
            return found
    return start


def main_script() -> Path | None:
    """The file of the program that runs, or None in a notebook or at a prompt."""
    import __main__

    file = getattr(__main__, "__file__", None)
    return Path(file) if file else None


def _search_up(begin: Path) -> Path | None:
    too_wide = {Path(begin.anchor), _home()}
    for folder in (begin, *begin.parents):
        if folder in too_wide and folder != begin:
            return None
        if _is_project(folder):
            return folder
    return None


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # a user without one
        return None


def _is_project(folder: Path) -> bool:
    if (folder / MARKER_FILE).is_file() or any((folder / f).is_dir() for f in _MARKER_FOLDERS):
        return True
    try:
        text = (folder / "pyproject.toml").read_text("utf-8", errors="replace")
    except OSError:
        return False
    # Python 3.10 has no tomllib
    return re.search(r"^\s*\[tool\.ductaflow[\].]", text, re.MULTILINE) is not None


def kernel_environment(root: Path, workers: int | None = None) -> dict[str, str]:
    """What a kernel of this project finds in its environment: ours, and where the project lies.

    What a Jupyter server has told its kernel is left out: the conductor may be that kernel.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("JPY_")}
    nested = {} if workers is None else {WORKERS_VARIABLE: str(workers)}
    return {**ours, ROOT_VARIABLE: str(root), **nested}


# --- instances and their files ---------------------------------------------------------------


def instance_dir(root: Path, step: str, instance: str) -> Path:
    """The folder of an instance: `{root}/runs/{step}/{instance}`. It need not exist.

    Raises:
        NameRefused: A name is not portable, or a symlink would lead out of `runs/`.
    """
    runs = root.absolute() / RUNS
    directory = runs / check_name(step, "step") / check_name(instance, "instance")
    allowed = runs.resolve()
    try:
        real = directory.resolve()
        looped = real.is_symlink() or real.parent.is_symlink()  # all that Python 3.13 leaves
    except (OSError, RuntimeError):
        looped = True
    if looped:
        raise NameRefused(f"{directory} goes through a symlink that leads to itself; remove it")
    if not real.is_relative_to(allowed):
        raise NameRefused(
            f"{directory} leads through a symlink to {real}, outside {allowed}; "
            "remove the link, or make runs/ itself a link"
        )
    return directory


def step_dir(root: Path, step: str) -> Path:
    """The folder of a step's instances: `{root}/runs/{step}`. It need not exist.

    Raises:
        NameRefused: The name is not portable.
    """
    return root.absolute() / RUNS / check_name(step, "step")


def iter_steps(root: Path) -> Iterator[str]:
    """Names of the steps that have been run, sorted."""
    names = (folder.name for folder in _folders(root.absolute() / RUNS))
    return (name for name in names if name != INDEX_FILES)


def iter_instances(root: Path, step: str) -> Iterator[Path]:
    """Folders of a step's instances, sorted by name; hidden ones are left out.

    Raises:
        NameRefused: `step` is no step's name.
    """
    return iter(_folders(step_dir(root, step)))


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(f for f in parent.iterdir() if f.name[0] != "." and f.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


@attrs.frozen
class ArtifactPaths:
    """The files that ductaflow owns in an instance's folder; all others are the flow's.

    Attributes:
        directory: The instance's folder.
        notebook: The executed notebook.
        html: The same as a self-contained page.
        log: All text output.
        config: The normalised config.
        record: The run's record.
        lock: What a live run holds.
    """

    directory: Path
    notebook: Path
    html: Path
    log: Path
    config: Path
    record: Path
    lock: Path

    @classmethod
    def of(cls, directory: Path, flow: str) -> ArtifactPaths:
        """The files of an instance.

        Args:
            directory: The instance's folder.
            flow: The flow's name, which is its file's stem.
        """
        return cls(
            directory=directory,
            notebook=directory / f"{flow}.ipynb",
            html=directory / f"{flow}.html",
            log=directory / f"{flow}.log",
            config=directory / "config.json",
            record=directory / "run.json",
            lock=directory / ".ductaflow.lock",
        )
