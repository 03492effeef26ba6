"""A flow by its name: where it is looked for, and what lies near a name that is not there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ductaflow.errors import FlowNotFound
from ductaflow.project.settings import load_settings

FLOW_FOLDERS = ("flow", "flows")

FLOW_SUFFIXES = (".py", ".md", ".ipynb", ".Rmd", ".qmd", ".R", ".jl")


def resolve_flow(name: str | os.PathLike[str], root: Path, cwd: Path) -> Path:
    """The flow file that a name or path means.

    Args:
        name: A path relative to `cwd` or else `root`, or to `flow/` or `flows/` of the root, or a
            bare name of a file there or in one of their subfolders; with or without its suffix.
        root: The project root.
        cwd: The caller's working directory.

    Returns:
        Its absolute path. Of several suffixes, the first in `FLOW_SUFFIXES` wins.

    Raises:
        FlowNotFound: No such file, or several in subfolders; the message names the nearest.
    """
    given = Path(name).expanduser()
    folders = [root / folder for folder in load_settings(root).flows]
    if given.name:
        for candidate in _candidates(given, root, cwd):
            if candidate.suffix and candidate.is_file():
                return absolute(candidate)
        if given.parent == Path():
            below = _in_subfolders(given.name, folders)
            if len(below) > 1:
                told = ", ".join(_relative(file, root) for file in below)
                raise FlowNotFound(f"{given}: there are several such flow files; name one: {told}")
            if below:
                return below[0]
    files = [below for folder in folders for below in _subfolders(folder)]
    folders = [cwd / given.parent, root / given.parent, *files]
    raise not_found(os.fspath(name), given.name, folders, shown_from=root)


def _candidates(given: Path, root: Path, cwd: Path) -> Iterator[Path]:
    bases = [cwd / given, root / given]
    if not given.is_absolute():
        bases += [root / folder / given for folder in load_settings(root).flows]
    for base in bases:
        yield base
        for suffix in FLOW_SUFFIXES:
            yield base.with_name(base.name + suffix)


def _in_subfolders(name: str, folders: Sequence[Path]) -> list[Path]:
    """The flow files of a bare name, one a folder: the first in the order of their suffixes."""
    suffixes = ("", *FLOW_SUFFIXES)
    found = []
    for folder in dict.fromkeys(below for each in folders for below in _subfolders(each)):
        files = (folder / f"{name}{suffix}" for suffix in suffixes)
        found += [f for f in files if f.suffix in FLOW_SUFFIXES and f.is_file()][:1]
    return [absolute(file) for file in found]


def _subfolders(folder: Path) -> Iterator[Path]:
    """A folder and those below it, but for hidden ones and what Python keeps."""
    for here, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if name[0] != "." and name != "__pycache__")
        yield Path(here)


def flow_files(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders that may be flows, by their suffix."""
    return [file for below in _subfolders(folder) for file in _flow_files(below)]


def not_found(
    named: str, wanted: str, folders: Sequence[Path], shown_from: Path | None = None
) -> FlowNotFound:
    """The error for a missing flow, with the nearest names there are."""
    searched = list(dict.fromkeys(absolute(f) for f in folders))
    files = {f: None for folder in searched for f in _flow_files(folder)}
    stem = Path(wanted).stem if Path(wanted).suffix in FLOW_SUFFIXES else wanted
    by_stem: dict[str, list[Path]] = {}
    for file in files:
        by_stem.setdefault(file.stem.lower(), []).append(file)
    close = difflib.get_close_matches(stem.lower(), by_stem, n=3, cutoff=0.5)
    nearest = [_relative(file, shown_from) for near in close for file in by_stem[near]]
    hint = (
        f"did you mean {' or '.join(nearest[:3])}?"
        if nearest
        else f"searched {', '.join(str(f) for f in searched if f.is_dir()) or 'no folder there is'}"
    )
    is_folder = wanted and any((folder / wanted).is_dir() for folder in searched)
    what = "is a folder, not a flow file" if is_folder else "there is no such flow file"
    return FlowNotFound(f"{named or 'an empty name'}: {what}; {hint}")


def _flow_files(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.suffix in FLOW_SUFFIXES)
    except OSError:
        return []


def _relative(path: Path, base: Path | None) -> str:
    if base is not None and path.is_relative_to(absolute(base)):
        return path.relative_to(absolute(base)).as_posix()
    return str(path)


def absolute(path: Path) -> Path:
    """`path` made absolute and tidy, its symlinks kept: a flow's name is the one it was given."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`)
