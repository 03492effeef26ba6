"""From what was noted of a run to what it depends on and what it has left.

What is noted comes from two sides: the observer sees every file that the kernel and its children
open, also in native code; the kernel itself knows which modules it has imported, which folders it
has listed and what it has looked for. Here the interpreter's own files, the system's and ours are
left out, and what the run wrote itself is told from what it read.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs
from ductaflow_kernels.observer import CONNECTED, Use

from ductaflow.facts import FileFact, Role
from ductaflow.fingerprint import code_hash, file_hash, names_hash, variable_hash
from ductaflow.hosts import hosts_of
from ductaflow.layout import ArtifactPaths, is_own_file, runs_dir
from ductaflow.model import InstancePlan
from ductaflow.packages import versions

_SYSTEM = (
    "/usr/", "/lib/", "/lib32/", "/lib64/", "/bin/", "/sbin/", "/etc/", "/proc/", "/sys/", "/dev/",
    "/run/", "/var/cache/", "/var/lib/", "/var/run/", "/snap/", "/nix/store/",
    "/System/", "/Library/", "/opt/homebrew/",
)  # fmt: skip
_CACHES = (".cache", ".fonts", ".ipython", ".jupyter", ".local/lib", ".local/share", ".matplotlib")
_CACHED_MODULE = re.compile(r"(.*)/__pycache__/([^/]+?)\.[^/.]+(?:\.opt-\w+)?\.pyc(?:\.\d+)?$")
_PROJECT_OWN = frozenset({".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints"})
_INSIDE = str(Path(sys.modules[Use.__module__].__file__ or "").with_name("inside")) + os.sep
_MAX_PATH = 4096


@attrs.frozen
class Observation:
    """What a run depends on and has left.

    Attributes:
        how: `native` if every opened file was seen, `python` if those that Python opened were, and
            empty if nothing was.
        inputs: The files and folders that it has used and not written itself.
        outputs: The files that it has written and that are still there.
        packages: The installed modules that it has imported, and their packages' versions.
        folders: Where those packages lie.
        variables: The environment variables that its code has read, and hashes of their values.
        hosts: The other hosts that it has connected to.
    """

    how: str = ""
    inputs: tuple[FileFact, ...] = ()
    outputs: tuple[FileFact, ...] = ()
    packages: Mapping[str, str] = attrs.field(factory=dict)
    folders: tuple[str, ...] = ()
    variables: Mapping[str, str] = attrs.field(factory=dict)
    hosts: tuple[str, ...] = ()


NOTHING = Observation()


def observe(
    plan: InstancePlan,
    noted: Mapping[str, Any],
    uses: Sequence[Use] | None,
    environment: Mapping[str, str],
    began_ns: int,
) -> Observation:
    """What a run depends on.

    Args:
        plan: The run's plan.
        noted: What its kernel has noted; empty if it died or is no kernel of ours.
        uses: What an observer has seen, or None.
        environment: The environment it ran in.
        began_ns: When it began, by the file system's clock.
    """
    if uses is None and not noted:
        return NOTHING
    if uses is None:
        uses = [Use.of(tuple(item)) for item in noted.get("opened", ())]
    addresses = [use.path for use in uses if use.path.startswith(CONNECTED)]
    uses = [use for use in uses if not use.path.startswith(CONNECTED)]
    view = _View(plan, noted, began_ns)
    view.take_uses(uses)
    view.take_notes()
    view.take_config()
    folders = tuple(noted.get("folders", ()))
    return Observation(
        how="native" if noted.get("native", True) else "python",
        inputs=tuple(view.inputs.values()),
        outputs=tuple(view.outputs()),
        packages=versions(noted.get("packages", ()), folders),
        folders=folders,
        variables={n: variable_hash(n, environment) for n in noted.get("variables", ())},
        hosts=hosts_of(
            noted.get("network", {}), [host.removeprefix(CONNECTED) for host in addresses]
        ),
    )


@final
@attrs.define(eq=False)
class _View:
    """One run's files, seen from its project."""

    plan: InstancePlan
    noted: Mapping[str, Any]
    began_ns: int
    inputs: dict[tuple[str, bool], FileFact] = attrs.field(factory=dict)
    written: dict[str, None] = attrs.field(factory=dict)
    _root: str = attrs.field(init=False)
    _names: list[tuple[str, str]] = attrs.field(init=False)  # real path → as the project has it
    _runs: str = attrs.field(init=False)
    _own: str = attrs.field(init=False)
    _interpreter: tuple[str, ...] = attrs.field(init=False)
    _outside: tuple[str, ...] = attrs.field(init=False)
    _artifacts: frozenset[str] = attrs.field(init=False)
    _known_folders: frozenset[str] = attrs.field(init=False)  # that Python has listed

    def __attrs_post_init__(self) -> None:
        self._root = str(self.plan.root) + os.sep
        self._runs = str(runs_dir(self.plan.root)) + os.sep
        links = [runs_dir(self.plan.root), self.plan.root]
        names = [(os.path.realpath(link) + os.sep, f"{link}{os.sep}") for link in links]
        self._names = [(real, name) for real, name in names if real != name]
        self._own = self._place(os.path.realpath(self.plan.directory)) + os.sep
        folders = self.noted.get("folders") or (sys.prefix, sys.base_prefix, sys.exec_prefix)
        places = [self._place(folder) + os.sep for folder in folders]
        # A project may lie in the folder of an interpreter, as below /usr.
        self._interpreter = tuple(p for p in places if not self._root.startswith(p))
        self._outside = (*_SYSTEM, *places, *_caches(), _INSIDE)
        paths = ArtifactPaths.of(self.plan.directory, self.plan.flow.name)
        self._artifacts = frozenset(map(str, paths.all()))
        listed = (*self.noted.get("listed", ()), *self.noted.get("quiet", ()))
        self._known_folders = frozenset(map(self._place, listed))

    # --- what was used ------------------------------------------------------------------------

    def take_uses(self, uses: Sequence[Use]) -> None:
        """Sort what was opened into read and written."""
        read: list[Use] = []
        for use in uses:
            use = attrs.evolve(use, path=self._place(use.path))
            if self._foreign(use.path):
                continue
            if use.written or (use.updated and _changed(use)):
                self.written[use.path] = None
            elif use.read or use.updated:
                read.append(use)
            elif use.listed:
                self._take_folder(use.path, native=True)
        for use in read:
            if use.path not in self.written:
                self._take_read(use)

    def take_notes(self) -> None:
        """Take in what the kernel knows by itself."""
        for file in self.noted.get("modules", ()):
            path = self._place(file)
            if not self._foreign(path) and path not in self.written:
                self._take_module(path)
        for folder in self.noted.get("listed", ()):
            self._take_folder(self._place(folder))
        for path in self.noted.get("declared", ()):
            self._take_data(self._place(path), None)
        for path, there in self.noted.get("looked_for", ()):
            self._take_looked_for(self._place(path), there=there)

    def take_config(self) -> None:
        """Files that the config names count, whether they were read or not."""
        for text in _texts(self.plan.config):
            if 0 < len(text) < _MAX_PATH and "\0" not in text:
                path = self._place(os.path.normpath(self.plan.directory / text))
                if not self._foreign(path) and os.path.isfile(path):
                    self._take_data(path, None)

    def outputs(self) -> Iterator[FileFact]:
        """The files that the run has written and left."""
        for path in self.written:
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(path)
                if stat.S_ISREG(found.st_mode) and not _CACHED_MODULE.fullmatch(path):
                    yield FileFact(
                        self._shown(path), size=found.st_size, mtime_ns=found.st_mtime_ns
                    )

    def _take_read(self, use: Use) -> None:
        cached = _CACHED_MODULE.fullmatch(use.path)
        if cached is not None:
            self._take_module(f"{cached[1]}/{cached[2]}.py")
        else:
            self._take_data(use.path, use)

    def _take_data(self, path: str, use: Use | None) -> None:
        if self._foreign(path) or path in self.written:
            return
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            if use is None or (use.size < 0 and self._sought(path)):
                self._add(Role.MISSING, path)
            elif use.size >= 0 and path.startswith(self._root):  # elsewhere it was temporary
                self._add(Role.DATA, path, size=use.size, mtime_ns=use.mtime_ns)
            return
        if not stat.S_ISREG(found.st_mode):
            return
        before = (found.st_size, found.st_mtime_ns) if use is None else (use.size, use.mtime_ns)
        changed = before != (found.st_size, found.st_mtime_ns)
        if changed or (use is None and self._changed_meanwhile(found)):
            self._add(Role.DATA, path, size=before[0], mtime_ns=before[1])
            return
        with contextlib.suppress(OSError):  # it cannot be read: then the run could not either
            self._add(Role.DATA, path, found, sha256=file_hash(path, found))

    def _take_module(self, path: str) -> None:
        try:
            found = os.stat(path)
            if self._changed_meanwhile(found):
                self._add(Role.MODULE, path)
                return
            code = code_hash(path, found) if path.endswith(".py") else ""
            self._add(Role.MODULE, path, found, sha256=file_hash(path, found), code=code)
        except OSError:
            self._add(Role.MISSING, path)

    def _changed_meanwhile(self, found: os.stat_result) -> bool:
        """Whether the run may have seen a file as it was before it was changed."""
        return self.began_ns <= found.st_mtime_ns <= time.time_ns()

    def _take_folder(self, path: str, *, native: bool = False) -> None:
        if native and path in self._known_folders:
            return
        if not self._sought(path + os.sep):
            return
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            self._take_looked_for(path, there=False)
            return
        except OSError:  # no folder, or not for us: then not for the run either
            return
        left_out = {p[len(path) + 1 :].split(os.sep)[0] for p in self.written if _below(p, path)}
        self._add(Role.FOLDER, path, sha256=names_hash(set(names) - left_out))

    def _take_looked_for(self, path: str, *, there: bool) -> None:
        if path in self.written or not self._sought(path):
            return
        if there:
            # What is gone at the end, the run has removed itself.
            if (path, False) not in self.inputs and os.path.lexists(path):
                self._add(Role.PRESENT, path)
        elif not os.path.isdir(path):
            self._add(Role.MISSING, path)

    def _add(
        self, role: Role, path: str, found: os.stat_result | None = None, **facts: Any
    ) -> None:
        if found is not None:
            facts.update(size=found.st_size, mtime_ns=found.st_mtime_ns)
        known = self.inputs.get((path, role is Role.FOLDER))
        if known is None or known.role == Role.PRESENT.value or role is Role.MODULE:
            fact = FileFact(self._shown(path), role.value, **facts)
            self.inputs[path, role is Role.FOLDER] = fact

    # --- which files count --------------------------------------------------------------------

    def _place(self, path: str) -> str:
        """A path by the project root's name, however the kernel came there."""
        for real, name in self._names:
            if path.startswith(real):
                return name + path[len(real) :]
        return path

    def _foreign(self, path: str) -> bool:
        """Whether a file is not the project's concern: the system's, the interpreter's, or ours."""
        if path.startswith(self._interpreter):
            return True
        if not path.startswith(self._root):
            return path.startswith(self._outside)
        parts = path[len(self._root) :].split(os.sep)
        if not _PROJECT_OWN.isdisjoint(parts):
            return _CACHED_MODULE.fullmatch(path) is None
        if path.startswith(self._runs):
            return is_own_file(path[len(self._runs) :].split(os.sep)) or path in self._artifacts
        return False

    def _sought(self, path: str) -> bool:
        """Whether it can matter that a path is there: in the project, but not in the run's own."""
        return path.startswith(self._root) and not (
            path.startswith(self._own) or self._foreign(path)
        )

    def _shown(self, path: str) -> str:
        inside = path.startswith(self._root)
        return path[len(self._root) :].replace(os.sep, "/") if inside else path


def _changed(use: Use) -> bool:
    """Whether a file has been changed since a run opened it for reading and writing."""
    try:
        found = os.stat(use.path)
    except OSError:
        return True
    return (found.st_size, found.st_mtime_ns) != (use.size, use.mtime_ns)


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder + os.sep)


def _caches() -> list[str]:
    """What programs keep for themselves in the user's home, and temporary files of ours."""
    home = os.path.expanduser("~")
    folders = [os.path.join(home, name) for name in _CACHES]
    folders += [os.environ[n] for n in ("XDG_CACHE_HOME", "MPLCONFIGDIR") if os.environ.get(n)]
    temporary = tempfile.gettempdir()
    return [
        *(folder + os.sep for folder in folders),
        os.path.join(temporary, "dfk-"),
        os.path.join(temporary, "ipykernel_"),
    ]


def _texts(value: object) -> Iterator[str]:
    """All strings in a config."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
