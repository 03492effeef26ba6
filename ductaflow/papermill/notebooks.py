"""Notebooks where callers have them: files, URLs, objects, the standard streams."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

from ductaflow.files import jsonio
from ductaflow.flows.reading import parse_flow
from ductaflow.model.flows import Flow
from ductaflow.papermill.exceptions import (
    PapermillMissingParameterException,
    PapermillOptionalDependencyException,
)

Source = str | os.PathLike[str] | Mapping[str, Any]
"""A path, a URL, `-` for standard input, a notebook's JSON text, or a notebook."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(path: str) -> bool:
    """Whether a path is a URL that fsspec is asked for."""
    return _URL.match(path) is not None


def filled(path: str | os.PathLike[str], parameters: Mapping[str, Any]) -> str:
    """A path with its fields filled in, as `out/{region}.ipynb`.

    Args:
        path: The path; besides the parameters it may have fields of `pm`, as `{pm[run_uuid]}`.
        parameters: The parameters.

    Raises:
        PapermillMissingParameterException: There is no parameter of a field's name.
    """
    own = {
        "run_uuid": str(uuid4()),
        "current_datetime_local": datetime.now().astimezone().replace(tzinfo=None),
        "current_datetime_utc": datetime.now(timezone.utc),
    }
    try:
        return os.fspath(path).format(**{"pm": own, **parameters})
    except KeyError as e:
        raise PapermillMissingParameterException(
            f"{os.fspath(path)!r} has a field {{{e.args[0]}}}, and no parameter is called so; add "
            "it to parameters, or write {{ and }} for braces"
        ) from None


def read_notebook(source: Source, name: str) -> Flow:
    """A notebook as a flow.

    Args:
        source: Where it is.
        name: Its path with its fields filled in; empty for a notebook that is given itself.

    Raises:
        FileNotFoundError, OSError: It cannot be read.
        PapermillOptionalDependencyException: A URL needs a package.
        FlowError: It is not a notebook.
    """
    if isinstance(source, Mapping):
        return parse_flow(Path.cwd() / "notebook.ipynb", jsonio.dumps(source).encode())
    if name == "-":
        return parse_flow(Path.cwd() / "notebook.ipynb", sys.stdin.buffer.read())
    if is_url(name):
        path = Path.cwd() / name.rstrip("/").rpartition("/")[2]
        return parse_flow(path, _file_system(name)[0].cat_file(_file_system(name)[1]))
    if name.lstrip().startswith("{"):
        return parse_flow(Path.cwd() / "notebook.ipynb", name.encode())
    path = Path.cwd() / Path(name).expanduser()
    return parse_flow(path, path.read_bytes())


def local_target(path: str | None) -> Path | None:
    """The file in which a notebook can grow while it runs; None for what is written at its end.

    Raises:
        FileNotFoundError: Its folder is not there.
    """
    if path is None or path == "-" or is_url(path):
        return None
    target = (Path.cwd() / Path(path).expanduser()).resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"output_path is {path}, but there is no folder {target.parent}; create it first"
        )
    return None if target.exists() and not target.is_file() else target


def write_notebook(data: bytes, path: str) -> None:
    """Write a notebook to a URL, to standard output (`-`), or to a file, also a special one."""
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    elif is_url(path):
        files, place = _file_system(path)
        files.pipe_file(place, data)
    elif (target := local_target(path)) is not None:
        jsonio.write_atomic(target, data)
    else:
        Path(path).expanduser().write_bytes(data)


def check_reachable(path: str) -> None:
    """Make sure before a run that a URL will be understood after it."""
    if is_url(path):
        _file_system(path)


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    try:
        import fsspec
    except ImportError as e:
        raise PapermillOptionalDependencyException(
            f"{url} needs fsspec: pip install 'ductaflow[remote]'"
        ) from e
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as e:
        raise PapermillOptionalDependencyException(f"{url}: {e}") from e
    return files, str(path)
