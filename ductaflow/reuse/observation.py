"""From what was noted of a run to what it depends on and what it has left.

What is noted comes from two sides: the observer sees every file that the kernel and its children
open, also in native code; the kernel itself knows which modules it has imported, which folders it
has listed and what it has looked for. Here the interpreter's own files, the system's and ours are
left out, and what the run wrote itself is told from what it read. Where records come to hold more,
older ones do not tell that a run is fresh: raise the version of `observation` in `rules`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs
from ductaflow_kernels.interpreters import INSIDE
from ductaflow_kernels.session.observer import CONNECTED, Use

from ductaflow.files.databases import belongs_to_database
from ductaflow.files.hashes import version_of
from ductaflow.files.links import Leads, follow, lead, portable
from ductaflow.model.facts import FileFact, Role, own_names
from ductaflow.plans.fingerprint import KERNELS, code_hash, file_fact, listing_hash
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.layout import ArtifactPaths, is_own_file, runs_dir
from ductaflow.reuse.environment import answers, asked
from ductaflow.reuse.hosts import hosts_of
from ductaflow.reuse.importables import UNKNOWN, describe, found_in
from ductaflow.reuse.packages import versions
from ductaflow.reuse.places import caches, interpreter_places, is_system

_CACHED_MODULE = re.compile(r"(.*)/__pycache__/([^/]+?)\.[^/.]+(?:\.opt-\w+)?\.pyc(?:\.\d+)?$")
_PROJECT_OWN = frozenset({".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints"})
_INSIDE = str(INSIDE) + os.sep
_MAX_PATH = 4096
_KEPT_APART = (
    Role.FOLDER,
    Role.LINK,
    Role.METADATA,
    Role.IMPORTS,
)  # beside what else a path was to a run

# What a kernel has noted to be asked about a path (`ductaflow_inside.observing.asking`).
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
        variables: The environment variables that it has asked for, and hashes of their values.
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
        uses = [Use.of(item) for item in noted.get("opened", ())]
    addresses = [use.path for use in uses if use.path.startswith(CONNECTED)]
    uses = [use for use in uses if not use.path.startswith(CONNECTED)]
    links = {use.path: use.link for use in uses if use.link}
    view = _View(plan, noted, began_ns, environment, {**noted.get("links", {}), **links})
    view.take_uses(uses)
    view.take_notes()
    view.take_config()
    view.take_links()
    folders = tuple(noted.get("folders", ()))
    return Observation(
        how="native" if noted.get("native", True) else "python",
        inputs=tuple(view.inputs.values()),
        outputs=view.outputs,
        packages=_packages(noted, folders),
        folders=folders,
        variables=answers(asked(plan, noted, view.modules(), view.scripts()), environment),
        hosts=hosts_of(
            noted.get("network", {}), [host.removeprefix(CONNECTED) for host in addresses]
        ),
    )


def _packages(noted: Mapping[str, Any], folders: Sequence[str]) -> dict[str, str]:
    """Versions by module; an empty one of what was looked for and is not there."""
    absent = dict.fromkeys(noted.get("absent", ()), "")
    return {**absent, **versions(noted.get("packages", ()), folders)}


@final
@attrs.define(eq=False)
class _View:
    """One run's files, seen from its project."""

    plan: InstancePlan
    noted: Mapping[str, Any]
    began_ns: int
    environment: Mapping[str, str]
    links: Mapping[str, str]  # that were followed, and where they led
    inputs: dict[tuple[str, Role | None], FileFact] = attrs.field(factory=dict)
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
        self._own = self.place_of(os.path.realpath(self.plan.directory)) + os.sep
        folders = self.noted.get("folders") or (sys.prefix, sys.base_prefix, sys.exec_prefix)
        places = tuple(map(self.place_of, interpreter_places(tuple(folders))))
        temporary = [self.place_of(folder) for folder in _temporary_folders(self.environment)]
        private = [self.place_of(folder) for folder in _private(self.environment, temporary)]
        self._outside = (*places, *private, _INSIDE)
        # A project may lie in the folder of an interpreter, as below /usr. What others keep for
        # themselves may lie in the project, or the project there.
        within = (p for p in private if p.startswith(self._root))
        self._interpreter = (*(p for p in places if not self._root.startswith(p)), *within)
        self._temporary = tuple(t + os.sep for t in temporary if t + os.sep != self._root)
        paths = ArtifactPaths.of(self.plan.directory, self.plan.flow.name)
        self._artifacts = frozenset(map(str, paths.all()))
        listed = (*self.noted.get("listed", ()), *self.noted.get("quiet", ()))
        self._known_folders = frozenset(self._way(self.place_of(path))[0] for path in listed)

    # --- what was used ------------------------------------------------------------------------

    def take_uses(self, uses: Sequence[Use]) -> None:
        """Sort what was opened into read and written."""
        found = [each for use in uses if not use.link for each in self._placed(use)]
        self._gone = frozenset(use.path for use in found if use.gone)
        read: list[Use] = []
        listed: list[str] = []
        for use in found:
            if belongs_to_database(use.path):
                continue  # a database's log counts as a part of it
            if use.written or (use.updated and _changed(use)):
                self.written[use.path] = Role.MOVED if use.arrived else Role.DATA
            if use.read or use.updated:
                read.append(use)
            elif use.listed and not use.written:
                listed.append(use.path)
        self.outputs = tuple(self._left())
        for folder in listed:
            self._take_folder(folder, native=True)
        for use in read:
            if use.path not in self.written:
                self._take_read(use)
            elif use.size >= 0 and not use.fresh:
                self._take_left(use)

    def _placed(self, use: Use) -> Iterator[Use]:
        """A use by the path that it reached; two where one name was a link, and later replaced."""
        path = self._reached(use.path)
        own = self._reached(use.path, last=False) if use.named else path
        if path == own:
            if path is not None:
                yield use if path == use.path else attrs.evolve(use, path=path)
            return
        if path is not None and (use.read or use.updated):
            yield _as_now(attrs.evolve(use, path=path, written=False, gone=False))
        if own is not None:
            yield attrs.evolve(use, path=own, read=False, updated=False)

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
        for noted, names in self.noted.get("imports", {}).items():
            found = self._reached(noted)
            if found is not None:
                self._take_imports(found, names)
        for noted, there in self.noted.get("looked_for", ()):
            found = self._reached(noted)
            if found is not None:
                self._take_looked_for(found, there=there)

    def take_config(self) -> None:
        """Files that the config names count, whether they were read or not.

        Of a run's folder, which a `Run` in a config becomes, its record does: see `content_of`.
        """
        for text in _texts(self.plan.config):
            if 0 < len(text) < _MAX_PATH and "\0" not in text:
                path = os.path.join(self.plan.directory, text)
                if "/" in text and not os.path.isfile(path):
                    path = str(ArtifactPaths.of(Path(path), "").record)
                if os.path.isfile(path):
                    found = self._reached(path, leads=lead)
                    if found is not None:
                        self._take_data(found, None)

    def take_links(self) -> None:
        """The links that it went along; where the run has made one itself, as it left it."""
        asked = (each for each in self.links if each not in self._above)
        asked = (each for each in asked if self._sought(self.place_of(each) + os.sep))
        for path in dict.fromkeys([*self._followed, *asked]):
            target = lead(path) if self.place_of(path) in self.written else self.links.get(path)
            target = target if target is not None else lead(path)
            if target is not None:
                answer = portable(target, self._root[:-1])
                self._add(Role.LINK, self.place_of(path), answer=answer)

    def modules(self) -> list[str]:
        """Files of the project's modules that the run has imported."""
        return list(map(str, self.noted.get("modules", ())))

    def scripts(self) -> Iterator[str]:
        """Files of the project that it has read and that may be programs."""
        for fact in self.inputs.values():
            if fact.role == Role.DATA.value and fact.path.endswith((".py", ".sh", ".bash")):
                yield os.path.join(self._root, fact.path)

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
        if path in self.written:  # its bytecode may have been read before there was any
            return
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
            names = listing_hash(path, own_names(self._shown(path), self.outputs))
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
        if self._root.startswith(path + os.sep):
            asked &= ~_KIND  # the project's own folder, or one above it
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

    def _take_imports(self, path: str, asked: Mapping[str, bool | None]) -> None:
        """In which folder modules were looked for, and which there are now.

        What came or went meanwhile is the run's own doing, or it is not known what it has seen.
        """
        if self._is_temporary(path) or os.path.isfile(path):
            return
        found = found_in(path, asked)
        for name, there in asked.items():
            if there not in (None, bool(found[name])) and not self._has_changed(path, name):
                found[name] = UNKNOWN
        self._add(Role.IMPORTS, path, answer=describe(found))

    def _has_changed(self, folder: str, name: str) -> bool:
        """Whether the run itself has made or removed a module."""
        begin = os.path.join(folder, name.rstrip("/"))
        return any(p.startswith(begin) or begin.startswith(p) for p in (*self.written, *self._gone))

    def _take_looked_for(self, path: str, *, there: bool) -> None:
        if path in self.written or not self._sought(path) or self._root.startswith(path + os.sep):
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
        if self._foreign(self.place_of(path if leads is None else os.path.normpath(path))):
            return None
        if last:
            real, links = self._way(path, leads)
        else:
            folder, name = os.path.split(path)
            real, links = self._way(folder)
            real = os.path.join(real, name)
        if not links:
            return self.place_of(real)
        return self._reached_by(real, links)

    def _reached_by(self, real: str, links: Iterable[str]) -> str | None:
        real = self.place_of(real)
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

    def place_of(self, path: str) -> str:
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
        if (path + os.sep).startswith(self._own):
            return False
        return not (self._foreign(path) or self._is_temporary(path))

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
        if path + os.sep == self._root:
            return "."
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


def _as_now(use: Use) -> Use:
    """A use of a file of which it is not known what it was before."""
    try:
        found = os.stat(use.path)
    except OSError:
        return attrs.evolve(use, size=-1, mtime_ns=0, inode=0, ctime_ns=0)
    size, mtime_ns, inode, ctime_ns = version_of(found)
    return attrs.evolve(use, size=size, mtime_ns=mtime_ns, inode=inode, ctime_ns=ctime_ns)


def _private(environment: Mapping[str, str], temporary: Sequence[str]) -> tuple[str, ...]:
    """What programs keep for themselves in the user's home, and temporary files of ours."""
    named = (environment.get(name) for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"))
    kept = caches(os.path.expanduser("~"), tuple(filter(None, named)))
    ours = (KERNELS, "ipykernel_", ".X11-unix", ".ICE-unix")
    return (*kept, *(os.path.join(folder, name) for folder in temporary for name in ours))


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
