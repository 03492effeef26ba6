"""The project root, and where relative paths lead that callers give."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.request import url2pathname

from ductaflow.errors import DuctaflowError
from ductaflow.project.settings import SETTINGS_FILE

ROOT_VARIABLE = "DUCTAFLOW_ROOT"
"""Environment variable that names the project root."""

_MARKER_FOLDERS = ("flow", "flows")


def project_root(
    root: str | os.PathLike[str] | None, flow: str | os.PathLike[str] | None = None
) -> Path:
    """The project root for this process: `root` if given, else found from where it is.

    Args:
        root: What the caller asked for.
        flow: The flow that is meant. An absolute path that lies elsewhere leads to its own project.

    Raises:
        DuctaflowError: The root asked for is not a folder.
    """
    explicit = local_folder(root, "root") if root is not None else None
    found = find_root(Path.cwd(), explicit, os.environ, main_script())
    path = Path(flow).expanduser() if flow is not None else Path()
    if explicit or os.environ.get(ROOT_VARIABLE) or not path.is_absolute():
        return found
    if path.is_relative_to(found) or path.resolve().is_relative_to(found.resolve()):
        return found
    own = _search_up(path.parent)
    return found if own is None else check_encodable(own)


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
            return check_encodable(root)
    for begin in [start, *([script.absolute().parent] if script else [])]:
        found = _search_up(begin)
        if found is not None:
            return check_encodable(found)
    return check_encodable(start)


def local_folder(given: str | os.PathLike[str], what: str, here: Path | None = None) -> Path:
    """A path that a caller gave, from the caller's current folder on.

    Args:
        given: The path, or a `file:` URL.
        what: What it is for, for the message, as the argument's name.
        here: The caller's current folder; as it is now, if left out.

    Raises:
        DuctaflowError: It is another URL.
    """
    text = os.fspath(given)
    if re.match(r"file:/", text):
        return Path(url2pathname(re.sub(r"^file:(?://)?", "", text)))
    if url := _URL.match(text):
        raise DuctaflowError(
            f"{what} is {url[1]}://{text[url.end() :]}, where only a folder of this machine can "
            "be: name one, and deliver what is in it with export(run, URL)"
        )
    return (here or Path.cwd()) / Path(text).expanduser()


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")  # `Path` makes one slash of two


def target_folder(
    given: str | os.PathLike[str], root: Path, what: str, here: Path | None = None
) -> Path:
    """A folder to write to, from the caller's current folder on.

    Args:
        given: The folder, or a `file:` URL.
        root: The project root.
        what: What it is for, for the message.
        here: The caller's current folder; as it is now, if left out.

    Raises:
        DuctaflowError: It is another URL, or a relative path that leads out of the project.
    """
    here = here or Path.cwd()
    folder = here / local_folder(given, what, here)
    relative = not Path(given).expanduser().is_absolute() and not os.fspath(given).startswith(
        "file:"
    )
    if relative and here.resolve().is_relative_to(root.resolve()):
        folder = Path(os.path.normpath(folder))
        inside = (root.absolute(), root.resolve())
        if not any(
            path.is_relative_to(top) for path in (folder, folder.resolve()) for top in inside
        ):
            raise DuctaflowError(
                f"{what} is {os.fspath(given)!r}, which leads from {here} out of the project "
                f"{root}; if that is meant, give the whole path, {folder}"
            )
    return folder


def check_encodable(folder: Path) -> Path:
    """A folder whose path notebooks, records and Jupyter's messages can hold: they are UTF-8.

    Raises:
        DuctaflowError: A byte of it is not UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        shown = str(folder).encode("utf-8", "backslashreplace").decode()
        raise DuctaflowError(
            f"the path {shown} has a byte that is not UTF-8, so that no notebook can name it; "
            "rename it"
        ) from None
    return folder


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
        if is_project(folder):
            return folder
    return None


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # a user without one
        return None


def is_project(folder: Path) -> bool:
    """Whether a folder looks like a project's root; see `find_root`."""
    if (folder / SETTINGS_FILE).is_file() or any((folder / f).is_dir() for f in _MARKER_FOLDERS):
        return True
    try:
        text = (folder / "pyproject.toml").read_text("utf-8", errors="replace")
    except OSError:
        return False
    # Python 3.10 has no tomllib
    return re.search(r"^\s*\[tool\.ductaflow[\].]", text, re.MULTILINE) is not None
