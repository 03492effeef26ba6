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
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs
from ductaflow_kernels.observer import Use

from ductaflow.facts import FileFact, Role
from ductaflow.fingerprint import code_hash, file_hash, listing_hash, variable_hash
from ductaflow.layout import ArtifactPaths, is_own_file, runs_dir
from ductaflow.links import Leads, follow, lead, portable
from ductaflow.model import InstancePlan
from ductaflow.packages import versions
from ductaflow.places import caches, interpreter_places, is_system

_CACHED_MODULE = re.compile(r"(.*)/__pycache__/([^/]+?)\.[^/.]+(?:\.opt-\w+)?\.pyc(?:\.\d+)?$")
_PROJECT_OWN = frozenset({".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints"})
_INSIDE = str(Path(sys.modules[Use.__module__].__file__ or "").with_name("inside")) + os.sep
_MAX_PATH = 4096
_KEPT_APART = (Role.FOLDER, Role.LINK, Role.METADATA)  # beside what else a path was to a run

# What a kernel has noted to be asked about a path (`ductaflow_asking`).
_KIND, _SIZE, _TIME, _FOLDER_TIME, _UNLINKED = 1, 2, 4, 8, 16
_LIBRARY_SIZE, _LIBRARY_TIME, _BY_PROJECT = 64, 128, 256


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
        uses = [Use.of(item) for item in noted.get("opened", ())]
    links = {use.path: use.link for use in uses if use.link}
    view = _View(plan, noted, began_ns, {**noted.get("links", {}), **links})
    view.take_uses(uses)
    view.take_notes()
    view.take_config()
    view.take_links()
    folders = tuple(noted.get("folders", ()))
    return Observation(
        how="native" if noted.get("native", True) else "python",
        inputs=tuple(view.inputs.values()),
        outputs=tuple(view.outputs()),
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
    links: Mapping[str, str]  # that were followed, and where they led
    inputs: dict[tuple[str, Role | None], FileFact] = attrs.field(factory=dict)
    written: dict[str, None] = attrs.field(factory=dict)
    _root: str = attrs.field(init=False)
    _names: list[tuple[str, str]] = attrs.field(init=False)  # real path → as the project has it
    _runs: str = attrs.field(init=False)
    _own: str = attrs.field(init=False)
    _interpreter: tuple[str, ...] = attrs.field(init=False)
    _outside: tuple[str, ...] = attrs.field(init=False)
    _artifacts: frozenset[str] = attrs.field(init=False)
    _known_folders: frozenset[str] = attrs.field(init=False)  # that Python has listed
    _ways: dict[str, tuple[str, tuple[str, ...]]] = attrs.field(init=False, factory=dict)
    _followed: dict[str, None] = attrs.field(init=False, factory=dict)  # links that count
    _above: frozenset[str] = attrs.field(init=False)  # links to the project, and to its runs
    _meant: set[str] = attrs.field(init=False, factory=set)  # what project code asked about
    _linked: set[str] = attrs.field(init=False, factory=set)  # what counts by the links to it

    def __attrs_post_init__(self) -> None:
        self._root = str(self.plan.root) + os.sep
        self._runs = str(runs_dir(self.plan.root)) + os.sep
        links = [runs_dir(self.plan.root), self.plan.root]
        names = [(os.path.realpath(link) + os.sep, f"{link}{os.sep}") for link in links]
        self._names = [(real, name) for real, name in names if real != name]
        self._above = frozenset(each for link in links for each in follow(str(link), lead).links)
        self._own = self._place(os.path.realpath(self.plan.directory)) + os.sep
        folders = self.noted.get("folders") or (sys.prefix, sys.base_prefix, sys.exec_prefix)
        places = tuple(map(self._place, interpreter_places(tuple(folders))))
        # A project may lie in the folder of an interpreter, as below /usr.
        self._interpreter = tuple(p for p in places if not self._root.startswith(p))
        self._outside = (*places, *_caches(), _INSIDE)
        paths = ArtifactPaths.of(self.plan.directory, self.plan.flow.name)
        self._artifacts = frozenset(map(str, paths.all()))
        listed = (*self.noted.get("listed", ()), *self.noted.get("quiet", ()))
        self._known_folders = frozenset(self._way(self._place(path))[0] for path in listed)

    # --- what was used ------------------------------------------------------------------------

    def take_uses(self, uses: Sequence[Use]) -> None:
        """Sort what was opened into read and written."""
        read: list[Use] = []
        for use in uses:
            path = None if use.link else self._reached(use.path, last=not use.named)
            if path is None:
                continue
            if path != use.path:
                use = attrs.evolve(use, path=path)
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
        for path in self._all_reached(self.noted.get("modules", ())):
            if path not in self.written:
                self._take_module(path)
        for path in self._all_reached(self.noted.get("listed", ())):
            self._take_folder(path)
        for path in self._all_reached(self.noted.get("declared", ())):
            self._take_data(path, None)
        allowed = dict[str, list[str]]()
        for noted, mode, whether in self.noted.get("access", ()):
            allowed.setdefault(noted, []).append(f"access{mode}={'yes' if whether else 'no'}")
        asked = {noted: answer for noted, *answer in self.noted.get("asked", ())}
        for noted in {**asked, **allowed}:
            found = self._reached(noted)
            if found is not None:
                what, size, mtime_ns, kind = asked.get(noted, (0, -1, 0, ""))
                self._take_metadata(found, what, size, mtime_ns, kind, allowed.get(noted, []))
        for noted, there in self.noted.get("looked_for", ()):
            found = self._reached(noted)
            if found is not None:
                self._take_looked_for(found, there=there)

    def take_config(self) -> None:
        """Files that the config names count, whether they were read or not."""
        for text in _texts(self.plan.config):
            if 0 < len(text) < _MAX_PATH and "\0" not in text:
                path = os.path.join(self.plan.directory, text)
                if os.path.isfile(path):
                    found = self._reached(path, leads=lead)
                    if found is not None:
                        self._take_data(found, None)

    def take_links(self) -> None:
        """The links that it went along; where the run has made one itself, as it left it."""
        asked = (each for each in self.links if each not in self._above)
        asked = (each for each in asked if self._sought(self._place(each) + os.sep))
        for path in dict.fromkeys([*self._followed, *asked]):
            target = lead(path) if self._place(path) in self.written else self.links.get(path)
            target = target if target is not None else lead(path)
            if target is not None:
                answer = portable(target, self._root[:-1])
                self._add(Role.LINK, self._place(path), answer=answer)

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
        left_out = {p[len(path) + 1 :].split(os.sep)[0] for p in self.written if _below(p, path)}
        try:
            names = listing_hash(path, left_out)
        except FileNotFoundError:
            # What Python has listed is gone because the run has removed it.
            if native or not self.noted.get("native", True):
                self._take_looked_for(path, there=False)
            return
        except OSError:  # no folder, or not for us: then not for the run either
            return
        self._add(Role.FOLDER, path, sha256=names, answer="kinds")

    def _take_metadata(
        self, path: str, asked: int, size: int, mtime_ns: int, kind: str, allowed: Sequence[str]
    ) -> None:
        """What was asked about a path, but for what the run has made or removed itself."""
        if path in self.written or not self._sought(path) or not os.path.lexists(path):
            return
        if asked & _BY_PROJECT or allowed:
            self._meant.add(path)
        elif kind == "folder" and not path.startswith(self._root):
            return
        words = [kind] if asked & _KIND else []
        if asked & _UNLINKED:
            words.append("unlinked")
        words += allowed
        known = self.inputs.get((path, None))
        if known is not None and known.role != Role.PRESENT.value:
            asked &= ~(_SIZE | _LIBRARY_SIZE | _LIBRARY_TIME)
            words = words[1:] if asked & _KIND else words
        of_size = kind == "file" and asked & (_SIZE | _LIBRARY_SIZE)
        of_time = asked & (_FOLDER_TIME if kind == "folder" else _TIME | _LIBRARY_TIME)
        if not (words or of_size or of_time):
            return
        facts: dict[str, Any] = {"answer": " ".join(words)}
        if of_size:
            facts["size"] = size
        if of_time:
            own = kind == "folder" and any(os.path.dirname(p) == path for p in self.written)
            facts["mtime_ns"] = os.stat(path).st_mtime_ns if own else mtime_ns
        self._add(Role.METADATA, path, **facts)

    def _take_looked_for(self, path: str, *, there: bool) -> None:
        if path in self.written or not self._sought(path):
            return
        if there:
            # What is gone at the end, the run has removed itself.
            known = any((path, kind) in self.inputs for kind in (None, *_KEPT_APART))
            if known or not os.path.lexists(path):
                return
            # A library comes by many folders, as of the user's home, on its way elsewhere.
            meant = path in self._meant or path.startswith(self._root)
            if meant or not os.path.isdir(path):
                self._add(Role.PRESENT, path)
        elif not os.path.isdir(path):
            self._add(Role.MISSING, path)

    def _add(
        self, role: Role, path: str, found: os.stat_result | None = None, **facts: Any
    ) -> None:
        if found is not None:
            facts.update(size=found.st_size, mtime_ns=found.st_mtime_ns)
        key = path, role if role in _KEPT_APART else None
        known = self.inputs.get(key)
        if known is None or known.role == Role.PRESENT.value or role is Role.MODULE:
            self.inputs[key] = FileFact(self._shown(path), role.value, **facts)

    # --- which files count --------------------------------------------------------------------

    def _all_reached(self, paths: Iterable[str]) -> Iterator[str]:
        found = map(self._reached, paths)
        return (path for path in found if path is not None)

    def _reached(self, path: str, *, last: bool = True, leads: Leads | None = None) -> str | None:
        """Where a path led, by the project's names; None if it is not the project's concern.

        The links on its way count with it. Whoever links to a place that is nobody's input means
        what lies there all the same.

        Args:
            path: As it was asked for.
            last: Whether it was followed if it is a link itself.
            leads: Where links lead, if not as it was noted.
        """
        if self._foreign(self._place(path if leads is None else os.path.normpath(path))):
            return None
        if last:
            real, links = self._way(path, leads)
        else:
            folder, name = os.path.split(path)
            real, links = self._way(folder)
            real = os.path.join(real, name)
        if not links:
            return self._place(real)
        return self._reached_by(real, links)

    def _reached_by(self, real: str, links: Iterable[str]) -> str | None:
        real = self._place(real)
        if real.startswith(self._runs) and self._foreign(real):
            return None
        self._linked.add(real)
        inside = real.startswith(self._root)
        for link in links:
            # Where the project itself lies behind a link, that counts for what is outside only.
            if not (inside and link in self._above):
                self._followed[link] = None
        return real

    def _way(self, path: str, leads: Leads | None = None) -> tuple[str, tuple[str, ...]]:
        """Where a path led, and by which links."""
        if leads is not None and os.name == "posix":
            way = follow(path, leads)
            return way.end, way.links
        if not self.links:
            return os.path.normpath(path) if leads else path, ()
        folder, _, name = path.rpartition(os.sep)
        known = self._ways.get(folder)
        if known is None:
            way = follow(folder, self.links.get)
            known = self._ways[folder] = way.end, way.links
        real, links = known
        path = os.path.join(real, name)
        if path in self.links:
            way = follow(path, self.links.get)
            return way.end, (*links, *way.links)
        return path, links

    def _place(self, path: str) -> str:
        """A path by the project root's name, however the kernel came there."""
        for real, name in self._names:
            if path.startswith(real):
                return name + path[len(real) :]
        return path

    def _foreign(self, path: str) -> bool:
        """Whether a file is not the project's concern: the system's, the interpreter's, or ours."""
        if self._linked and path.rstrip(os.sep) in self._linked:
            return False
        within = path + os.sep  # a place may be a file
        if within.startswith(self._interpreter):
            return True
        inside = path.startswith(self._root)
        if not inside and (is_system(path) or within.startswith(self._outside)):
            return True
        parts = path[len(self._root) if inside else 0 :].split(os.sep)
        if not _PROJECT_OWN.isdisjoint(parts):
            return _CACHED_MODULE.fullmatch(path) is None
        if path.startswith(self._runs):
            return is_own_file(path[len(self._runs) :].split(os.sep)) or path in self._artifacts
        return False

    def _sought(self, path: str) -> bool:
        """Whether it can matter that a path is there: anywhere but in the run's own folder."""
        return not ((path + os.sep).startswith(self._own) or self._foreign(path))

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


def _caches() -> tuple[str, ...]:
    named = (os.environ.get(name) for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"))
    return caches(os.path.expanduser("~"), tuple(filter(None, named)))


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
