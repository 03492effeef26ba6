"""Where things lie under `runs/`; what a run leaves is declared in `artifacts`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from ductaflow.errors import NameRefused
from ductaflow.files.compression import compressed, kept
from ductaflow.project.artifacts import (
    ARTIFACTS,
    CONFIG,
    LOG,
    NOTEBOOK,
    RECORD,
    REPORT,
    Artifact,
    readable,
)
from ductaflow.project.names import INDEX_FILES, check_name
from ductaflow.project.settings import load_settings

_SHARED = "shared"  # in `INDEX_FILES`; not hidden, for Jupyter serves no hidden files
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
        NameRefused: `step` is not a valid step name.
    """
    return iter(_folders(step_dir(root, step)))


def iter_instance_names(root: Path, step: str) -> Iterator[str]:
    """Names that may be a step's instances', in no order: of all in its folder that is not hidden.

    Raises:
        NameRefused: `step` is not a valid step name.
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

    def name(self, artifact: Artifact) -> str:
        """The name of an artifact's file."""
        if artifact is NOTEBOOK and self.executed:
            return self.executed
        return artifact.name(self.flow, self.prefix)

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact lies, if it is there and not compressed."""
        return Path(self.folder, self.name(artifact))

    def kept(self, artifact: Artifact) -> Path:
        """Where an artifact lies, with `.gz` if it is kept compressed."""
        path = self.path(artifact)
        return kept(path) if artifact.compressible else path

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.path(NOTEBOOK)

    @property
    def html(self) -> Path:
        """The same as a page, self-contained unless reports share their styles."""
        return self.path(REPORT)

    @property
    def log(self) -> Path:
        """All text output."""
        return self.path(LOG)

    @property
    def readable(self) -> dict[str, Path]:
        """What people read of a run, by its kind."""
        return {kind: self.path(artifact) for kind, artifact in readable().items()}

    @property
    def config(self) -> Path:
        """The normalised config."""
        return self.path(CONFIG)

    @property
    def record(self) -> Path:
        """The run's record."""
        return self.path(RECORD)

    @property
    def lock(self) -> Path:
        """What a live run holds."""
        return Path(self.folder, f".ductaflow.{self.prefix}lock")

    def all(self) -> tuple[Path, ...]:
        """Them all, also as they lie once a run is thinned."""
        own = [self.path(artifact) for artifact in ARTIFACTS.values()]
        packed = [compressed(self.path(a)) for a in ARTIFACTS.values() if a.compressible]
        return (*own, self.lock, *packed)


def record_in(folder: Path) -> Path:
    """The record of the run in an instance's folder, whatever its flow is."""
    return ArtifactPaths.of(folder, "").record
