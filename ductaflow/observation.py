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
from ductaflow_kernels.observer import Use

from ductaflow.databases import belongs_to_database
from ductaflow.facts import FileFact, Role, own_names
from ductaflow.fingerprint import KERNELS, code_hash, file_fact, names_hash, variable_hash
from ductaflow.hashes import version_of
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
    """

    how: str = ""
    inputs: tuple[FileFact, ...] = ()
    outputs: tuple[FileFact, ...] = ()
    packages: Mapping[str, str] = attrs.field(factory=dict)
    folders: tuple[str, ...] = ()
    variables: Mapping[str, str] = attrs.field(factory=dict)


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
    view = _View(plan, noted, began_ns, environment)
    view.take_uses(uses)
    view.take_notes()
    view.take_config()
    folders = tuple(noted.get("folders", ()))
    return Observation(
        how="native" if noted.get("native", True) else "python",
        inputs=tuple(view.inputs.values()),
        outputs=view.outputs,
        packages=versions(noted.get("packages", ()), folders),
        folders=folders,
        variables={n: variable_hash(n, environment) for n in noted.get("variables", ())},
    )


@final
@attrs.define(eq=False)
class _View:
    """One run's files, seen from its project."""

    plan: InstancePlan
    noted: Mapping[str, Any]
    began_ns: int
    environment: Mapping[str, str]
    inputs: dict[tuple[str, bool], FileFact] = attrs.field(factory=dict)
    written: dict[str, Role] = attrs.field(factory=dict)
    outputs: tuple[FileFact, ...] = ()
    _root: str = attrs.field(init=False)
    _names: list[tuple[str, str]] = attrs.field(init=False)  # real path → as the project has it
    _runs: str = attrs.field(init=False)
    _own: str = attrs.field(init=False)
    _interpreter: tuple[str, ...] = attrs.field(init=False)
    _outside: tuple[str, ...] = attrs.field(init=False)
    _temporary: tuple[str, ...] = attrs.field(init=False)
    _gone: frozenset[str] = attrs.field(init=False, default=frozenset())
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
        temporary = [self._place(folder) for folder in _temporary_folders(self.environment)]
        private = [self._place(folder) for folder in _caches(self.environment, temporary)]
        self._outside = (*_SYSTEM, *places, *private, _INSIDE)
        # A project may lie in the folder of an interpreter, as below /usr. What others keep for
        # themselves may lie in the project, or the project there.
        within = (p for p in private if p.startswith(self._root))
        self._interpreter = (*(p for p in places if not self._root.startswith(p)), *within)
        self._temporary = tuple(t + os.sep for t in temporary if t + os.sep != self._root)
        paths = ArtifactPaths.of(self.plan.directory, self.plan.flow.name)
        self._artifacts = frozenset(map(str, paths.all()))
        listed = (*self.noted.get("listed", ()), *self.noted.get("quiet", ()))
        self._known_folders = frozenset(map(self._place, listed))

    # --- what was used ------------------------------------------------------------------------

    def take_uses(self, uses: Sequence[Use]) -> None:
        """Sort what was opened into read and written."""
        uses = [attrs.evolve(use, path=self._place(use.path)) for use in uses]
        self._gone = frozenset(use.path for use in uses if use.gone)
        read: list[Use] = []
        listed: list[str] = []
        for use in uses:
            if self._foreign(use.path) or belongs_to_database(use.path):
                continue  # a database's log counts as a part of it
            if use.written or (use.updated and _changed(use)):
                self.written[use.path] = Role.MOVED if use.arrived else Role.DATA
                if use.read or use.updated:
                    read.append(use)
            elif use.read or use.updated:
                read.append(use)
            elif use.listed:
                listed.append(use.path)
        self.outputs = tuple(self._left())
        for folder in listed:
            self._take_folder(folder, native=True)
        for use in read:
            if use.path not in self.written:
                self._take_read(use)
            elif use.size >= 0 and not use.fresh:
                self._take_left(use)
            elif os.path.islink(use.path):  # a link that the run has made: what it leads to counts
                self._take_data(self._place(os.path.realpath(use.path)), None)

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

    def _left(self) -> Iterator[FileFact]:
        """The files that the run has written and left, but for temporary ones."""
        for path, role in self.written.items():
            if self._is_temporary(path):
                continue
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(path)
                if stat.S_ISREG(found.st_mode) and not _CACHED_MODULE.fullmatch(path):
                    yield FileFact(self._shown(path), role.value, found.st_size, found.st_mtime_ns)

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
            if use is None or (use.size < 0 and not use.gone and self._sought(path)):
                self._add(Role.MISSING, path)
            elif use.size >= 0:
                self._take_gone(use)
            return
        if not stat.S_ISREG(found.st_mode):
            return
        if self._changed_meanwhile(found) if use is None else _differs(use, found):
            before = (found.st_size, found.st_mtime_ns) if use is None else (use.size, use.mtime_ns)
            self._add(Role.DATA, path, size=before[0], mtime_ns=before[1])
        else:
            self._add_file(Role.DATA, path, found)

    def _take_gone(self, use: Use) -> None:
        """A file that was there when the run read it, and is not any more."""
        if self._taken_away(use.path):
            self._add(Role.MISSING, use.path)
        elif use.path.startswith(self._root) and not self._is_temporary(use.path):
            # Elsewhere it was temporary.
            self._add(Role.DATA, use.path, size=use.size, mtime_ns=use.mtime_ns)

    def _take_left(self, use: Use) -> None:
        """A file that the run has read and changed itself counts as it has left it."""
        path = use.path
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            self._take_gone(use)
            return
        if stat.S_ISREG(found.st_mode) and not _CACHED_MODULE.fullmatch(path):
            self._add_file(Role.DATA, path, found)

    def _taken_away(self, path: str) -> bool:
        """Whether the run itself has removed a path or moved it to elsewhere."""
        while path not in self._gone:
            path, before = os.path.dirname(path), path
            if path == before:
                return False
        return True

    def _take_module(self, path: str) -> None:
        try:
            found = os.stat(path)
            if self._changed_meanwhile(found):
                self._add(Role.MODULE, path)
                return
            code = code_hash(path, found) if path.endswith(".py") else ""
            self._add_file(Role.MODULE, path, found, code)
        except OSError:
            self._add(Role.MISSING, path)

    def _changed_meanwhile(self, found: os.stat_result) -> bool:
        """Whether the run may have seen a file as it was before it was changed."""
        return self.began_ns <= max(found.st_mtime_ns, found.st_ctime_ns) <= time.time_ns()

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
        own = own_names(self._shown(path), self.outputs)
        self._add(Role.FOLDER, path, sha256=names_hash(set(names) - own))

    def _take_looked_for(self, path: str, *, there: bool) -> None:
        if path in self.written or not self._sought(path):
            return
        if there:
            # What is gone at the end, the run has removed itself.
            if (path, False) not in self.inputs and os.path.lexists(path):
                self._add(Role.PRESENT, path)
        elif path not in self._gone and not os.path.isdir(path):
            self._add(Role.MISSING, path)

    def _add_file(self, role: Role, path: str, found: os.stat_result, code: str = "") -> None:
        """A file as it is at the end of the run."""
        with contextlib.suppress(OSError):  # it cannot be read: then the run could not either
            fact = file_fact("", role, path, found, code)
            if not fact.ctime_ns and version_of(os.stat(path)) != version_of(found):
                fact = attrs.evolve(fact, sha256="")  # somebody is changing it right now
            facts = attrs.asdict(fact)
            self._add(role, path, **{k: v for k, v in facts.items() if k not in ("path", "role")})

    def _add(self, role: Role, path: str, **facts: Any) -> None:
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
            path.startswith(self._own) or self._foreign(path) or self._is_temporary(path)
        )

    def _is_temporary(self, path: str) -> bool:
        """Whether it lies where temporary files do.

        The project may itself lie in such a folder, with its neighbours.
        """
        for folder in self._temporary:
            if path.startswith(folder):
                top = path[len(folder) :].split(os.sep, 1)[0]
                if not self._root.startswith(f"{folder}{top}{os.sep}"):
                    return True
        return False

    def _shown(self, path: str) -> str:
        inside = path.startswith(self._root)
        return path[len(self._root) :].replace(os.sep, "/") if inside else path


def _changed(use: Use) -> bool:
    """Whether a file has been changed since a run opened it for reading and writing."""
    try:
        found = os.stat(use.path)
    except OSError:
        return True
    return _differs(use, found)


def _differs(use: Use, found: os.stat_result) -> bool:
    """Whether a file is another one than before its first use, or has been changed."""
    before = (use.size, use.mtime_ns, use.inode, use.ctime_ns)
    now = version_of(found)
    # A new name for it, which the run itself has made, changes nothing but the change time.
    return before[:3] != now[:3] if use.tied else before != now


def _temporary_folders(environment: Mapping[str, str]) -> list[str]:
    """Where a run puts temporary files, and its conductor does."""
    names = ("TMPDIR", "TEMP", "TMP")
    folders = [tempfile.gettempdir(), *(environment.get(name, "") for name in names)]
    given = [os.path.normpath(folder) for folder in folders if os.path.isabs(folder)]
    return list(dict.fromkeys([*given, *map(os.path.realpath, given)]))


def _caches(environment: Mapping[str, str], temporary: Sequence[str]) -> list[str]:
    """What programs keep for themselves in the user's home, and temporary files of ours."""
    home = os.path.expanduser("~")
    folders = [os.path.join(home, name) for name in _CACHES]
    folders += [environment[n] for n in ("XDG_CACHE_HOME", "MPLCONFIGDIR") if environment.get(n)]
    return [
        *(folder + os.sep for folder in folders),
        *(os.path.join(folder, name) for folder in temporary for name in (KERNELS, "ipykernel_")),
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
