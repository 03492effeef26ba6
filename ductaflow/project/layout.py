"""Where things lie: the project root, and every name under `runs/`, of which this is sole owner."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.request import url2pathname

import attrs

from ductaflow.errors import DuctaflowError, NameRefused
from ductaflow.files.compression import compressed
from ductaflow.project.settings import SETTINGS_FILE, load_settings

INDEX_PAGE = "index.html"
SUMMARY = "bulk_summary.json"
INDEX_FILES = "index_files"
"""The folder beside a page about many runs, which may lie in `runs/` itself."""

_SHARED = "shared"  # in `INDEX_FILES`; not hidden, for Jupyter serves no hidden files

ROOT_VARIABLE = "DUCTAFLOW_ROOT"
"""Environment variable that names the project root."""

WORKERS_VARIABLE = "DUCTAFLOW_WORKERS"
"""Environment variable with the number of workers that a sweep takes if it is not told."""

MAX_NAME = 120
"""Bytes of a name in UTF-8. A file system takes 255 for one name and Windows by default 260
characters for a whole path, and `runs/{step}/{instance}/{flow}.ipynb` holds three of them."""

_INLINE = ("module://matplotlib_inline.backend_inline", "module://ipykernel.pylab.backend_inline")
_MARKER_FOLDERS = ("flow", "flows")

_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE)
_STRANGE = re.compile('[<>:"|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')


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
            f"the {what} name {name!r} {reason}; it becomes a folder and must be one on Linux, "
            "macOS and Windows: use letters, digits, `-`, `_` and inner dots"
        )
    return composed


@lru_cache(maxsize=1024)
def _unfit(name: str) -> str:
    """Why `name` cannot be a folder's name somewhere; empty if it can."""
    if not name.strip():
        return "is empty"
    if name in (".", ".."):
        return "means a folder that is already there"
    if "/" in name or "\\" in name:
        return "has a path separator"
    if strange := sorted(set(_STRANGE.findall(name))):
        if any(unicodedata.category(c) == "Cc" for c in strange):
            return "has a control character"
        if strange[-1] >= "\ud800":
            return "has half of a surrogate pair, which no UTF-8 name can hold"
        return f"has {' '.join(strange)}, which Windows refuses"
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


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")


def is_own_file(parts: Sequence[str]) -> bool:
    """Whether a path is a file of ductaflow's that is nobody's result.

    Those are the hidden ones, and what reports share.

    Args:
        parts: Its parts, from the folder of all runs on.
    """
    if tuple(parts[:2]) == (INDEX_FILES, _SHARED):
        return True
    return any(part.startswith(".ductaflow") or _TEMPORARY.fullmatch(part) for part in parts)


def _own_copy() -> Path | None:
    """Where this library lies, if a project has it in its `code/`, beside its `ductacore.py`."""
    folder = Path(__file__).resolve().parents[2]
    # Where ductaflow is installed, its own `ductacore.py` lies beside it.
    return folder if folder.name == "code" and (folder / "ductacore.py").is_file() else None


OWN_COPY = _own_copy()
"""Where this library lies, if it is a project's own copy; else None."""


# --- instances and their files ---------------------------------------------------------------


def runs_dir(root: Path) -> Path:
    """The folder of all runs: `{root}/runs`, unless the project's settings name another."""
    return root.absolute() / load_settings(root).runs


def instance_dir(root: Path, step: str, instance: str) -> Path:
    """The folder of an instance: `{root}/runs/{step}/{instance}`. It need not exist.

    Raises:
        NameRefused: A name is not portable, or a symlink would lead out of `runs/`.
    """
    return instance_in(step_dir(root, step), check_name(instance, "instance"))


def instance_in(folder: Path, instance: str) -> Path:
    """The folder of an instance, its name checked, of the step whose folder is given."""
    directory = folder / instance
    if not (os.path.islink(folder) or os.path.islink(directory)):  # noqa: PTH114
        return directory
    allowed = folder.parent.resolve()
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


def shared_dir(root: Path) -> Path:
    """The folder of what reports share: `{root}/runs/index_files/shared`. It need not exist."""
    return runs_dir(root) / INDEX_FILES / _SHARED


def step_dir(root: Path, step: str) -> Path:
    """The folder of a step's instances: `{root}/runs/{step}`. It need not exist.

    Raises:
        NameRefused: The name is not portable.
    """
    return runs_dir(root) / check_name(step, "step")


def iter_steps(root: Path) -> Iterator[str]:
    """Names of the steps that have been run, sorted."""
    names = (folder.name for folder in _folders(runs_dir(root)))
    return (name for name in names if name != INDEX_FILES)


def iter_instances(root: Path, step: str) -> Iterator[Path]:
    """Folders of a step's instances, sorted by name; hidden ones are left out.

    Raises:
        NameRefused: `step` is no step's name.
    """
    return iter(_folders(step_dir(root, step)))


def iter_instance_names(root: Path, step: str) -> Iterator[str]:
    """Names that may be a step's instances', in no order: of all in its folder that is not hidden.

    Raises:
        NameRefused: `step` is no step's name.
    """
    try:
        names = os.listdir(step_dir(root, step))  # noqa: PTH208  (there may be many)
    except (FileNotFoundError, NotADirectoryError):
        return iter(())
    return (name for name in names if name[0] != ".")


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(f for f in parent.iterdir() if f.name[0] != "." and f.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


@attrs.frozen
class Origin:
    """The instance in whose folder a file lies.

    Attributes:
        step: Its step.
        instance: Its name.
        folder: Its folder, with `/`, from the project root on.
    """

    step: str
    instance: str
    folder: str

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.step}/{self.instance}"


def runs_name(root: Path) -> str:
    """The folder of all runs, with `/`, from the project root on."""
    return runs_dir(root).relative_to(root.absolute()).as_posix()


def instance_of(path: str, runs: str) -> Origin | None:
    """The instance that a file belongs to.

    Args:
        path: With `/`, from the project root on.
        runs: The folder of all runs, likewise.
    """
    if not path.startswith(f"{runs}/"):
        return None
    step, _, rest = path[len(runs) + 1 :].partition("/")
    instance, _, name = rest.partition("/")
    return Origin(step, instance, f"{runs}/{step}/{instance}") if name else None


@attrs.frozen
class ArtifactPaths:
    """The files that ductaflow owns in an instance's folder; all others are the flow's.

    Attributes:
        folder: The instance's folder, absolute.
        flow: The flow's name, which is its file's stem.
        executed: The executed notebook's file, where a caller has chosen it.
        prefix: What the names of config, record and lock begin with, where the folder may have
            those of other runs.
    """

    folder: str
    flow: str
    executed: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, directory: Path, flow: str) -> ArtifactPaths:
        """The files of an instance.

        Args:
            directory: The instance's folder.
            flow: The flow's name.
        """
        return cls(str(directory), flow)

    @property
    def directory(self) -> Path:
        """The instance's folder."""
        return Path(self.folder)

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return Path(self.folder, self.executed or f"{self.flow}.ipynb")

    @property
    def html(self) -> Path:
        """The same as a page, self-contained unless reports share their styles."""
        return Path(self.folder, f"{self.flow}.html")

    @property
    def log(self) -> Path:
        """All text output."""
        return Path(self.folder, f"{self.flow}.log")

    @property
    def readable(self) -> dict[str, Path]:
        """What people read of a run, by what it is called: `report`, `notebook`, `log`."""
        return {"report": self.html, "notebook": self.notebook, "log": self.log}

    @property
    def config(self) -> Path:
        """The normalised config."""
        return Path(self.folder, f"{self.prefix}config.json")

    @property
    def record(self) -> Path:
        """The run's record."""
        return Path(self.folder, f"{self.prefix}run.json")

    @property
    def lock(self) -> Path:
        """What a live run holds."""
        return Path(self.folder, f".ductaflow.{self.prefix}lock")

    def all(self) -> tuple[Path, ...]:
        """Them all, also as they lie once a run is thinned."""
        own = (self.notebook, self.html, self.log, self.config, self.record, self.lock)
        return (*own, compressed(self.notebook), compressed(self.log))
