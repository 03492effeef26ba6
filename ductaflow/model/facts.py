"""What a run depends on and has left, and the facts that decide whether it can be reused."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from ductaflow.model.kinds import ReasonKind
from ductaflow.text.hrefs import anchor


class Role(Enum):
    """What a path was to a run."""

    DATA = "data"  # a file whose bytes it read
    MODULE = "module"  # a module of the project, whose code counts and not its comments
    PRESENT = "present"  # a path that it looked for and found
    MISSING = "missing"  # a path that it looked for and did not find, or has taken away itself
    FOLDER = "folder"  # a folder whose names it read
    MOVED = "moved"  # a file that it has put there, but not made
    LINK = "link"  # a symbolic link that it followed
    METADATA = "metadata"  # a path whose kind, size, time or permissions it asked for
    IMPORTS = "imports"  # a folder in which it looked for modules


@attrs.frozen
class FileFact:
    """A path, and how it was when a run used it.

    Attributes:
        path: With `/`; relative to the project root where it lies inside it, else absolute.
        role: What it was to the run, a `Role`'s value.
        size: Bytes; -1 where it does not count.
        mtime_ns: When it was last changed, in nanoseconds since 1970.
        sha256: Hash of its bytes; of the sorted names in a folder. Empty where it is not known what
            the run has seen, as of a file that was changed meanwhile.
        code: Hash of a module's syntax tree, or empty.
        inode: Its number in its file system.
        ctime_ns: When anything about it was last changed; 0 where size and times do not tell
            whether it has been changed since.
        log: What is to be added to the path for that of its write-ahead log, if it is a database.
        answer: Where a link leads; the kind of a path and what may be done with it, in words as
            `file read=yes`; that kinds are in the hash of a folder's names; which modules there
            are in a folder (`importables`).
    """

    path: str
    role: str = Role.DATA.value
    size: int = -1
    mtime_ns: int = 0
    sha256: str = ""
    code: str = ""
    inode: int = 0
    ctime_ns: int = 0
    log: str = ""
    answer: str = ""

    def is_of(self, found: os.stat_result) -> bool:
        """Whether a file is by all appearances still as it was; False says nothing."""
        return (
            self.ctime_ns == found.st_ctime_ns != 0
            and self.mtime_ns == found.st_mtime_ns
            and self.size == found.st_size
            and self.inode == found.st_ino
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FileFact:
        """From what `to_json` gave.

        Raises:
            ValueError: Its role is unknown; a later version may have written it.
        """
        role = data.get("role", Role.DATA.value)
        if role not in _ROLES:
            raise ValueError(f"{data['path']} has the unknown role {role!r}")
        return cls(
            str(data["path"]),
            role,
            int(data.get("size", -1)),
            int(data.get("mtime_ns", 0)),
            str(data.get("sha256", "")),
            str(data.get("code", "")),
            int(data.get("inode", 0)),
            int(data.get("ctime_ns", 0)),
            str(data.get("log", "")),
            str(data.get("answer", "")),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; defaults left out, but for the role, which readers choose by."""
        facts = ((k, v) for k, v in attrs.asdict(self).items() if v != _DEFAULTS.get(k))
        return {"path": self.path, "role": self.role, **dict(facts)}


def own_names(folder: str, outputs: Iterable[FileFact]) -> set[str]:
    """The names in a folder that a run has put there, or that lead to what it has put there.

    Args:
        folder: The folder's path, as in `FileFact`.
        outputs: What the run has written and left.
    """
    begin = "" if folder == "." else f"{folder}/"
    return {o.path[len(begin) :].split("/")[0] for o in outputs if o.path.startswith(begin)}


_ROLES = frozenset(role.value for role in Role)
_DEFAULTS = {a.name: a.default for a in attrs.fields(FileFact)}


def _reason(kind: str) -> ReasonKind:
    return ReasonKind(kind)


@attrs.frozen
class Reason:
    """One thing for which an earlier run cannot serve.

    Attributes:
        kind: Which kind of thing.
        message: One for people, as `code/zones.py changed`.
        path: The file that it is about, as in `FileFact`, or the empty string.
    """

    kind: ReasonKind = attrs.field(converter=_reason)
    message: str
    path: str = ""

    def __str__(self) -> str:
        return self.message


@attrs.frozen
class Interpreter:
    """What the interpreter has that would run an instance; places do not count, versions do.

    Attributes:
        python: Its version, or empty if it is not known.
        folders: Where its packages lie, in the order in which it looks for them.
        problem: Why it cannot be asked, or empty.
    """

    python: str = ""
    folders: tuple[str, ...] = ()
    problem: str = ""


@attrs.frozen(repr=False)
class CacheDecision:
    """Whether an earlier run can be reused.

    Attributes:
        reuse: Whether it does.
        reasons: Why not; none if it does.
        label: Which instance it is about, where that was asked: `step/instance`.
        root: The project root, likewise.
        report: The report of its last run, if there is one, likewise.
    """

    reuse: bool
    reasons: tuple[Reason, ...] = ()
    label: str = attrs.field(default="", eq=False)
    root: Path | None = attrs.field(default=None, eq=False)
    report: Path | None = attrs.field(default=None, eq=False)

    def __bool__(self) -> bool:
        return self.reuse

    def __str__(self) -> str:
        if self.reuse:
            return "unchanged since its last run"
        return "; ".join(map(str, self.reasons))

    def __repr__(self) -> str:
        head = f"{self.label or 'it'} would "
        if self.reuse:
            return f"{head}be reused: {self}"
        return "\n".join([f"{head}run:", *(f"  {reason}" for reason in self.reasons)])

    def _repr_html_(self) -> str:
        label = html.escape(self.label or "it")
        if self.report is not None:
            label = anchor(self.report, self.label)
        if self.reuse:
            return f"<div>{label} would be reused: {html.escape(str(self))}</div>"
        reasons = "".join(f"<li>{self._linked(reason)}</li>" for reason in self.reasons)
        return f"<div>{label} would run:<ul>{reasons}</ul></div>"

    def _linked(self, reason: Reason) -> str:
        """A reason, its file's name leading to the file if that is there."""
        begin, end = _place(reason)
        name = reason.message[begin:end]
        file = (self.root / reason.path) if self.root is not None and name else None
        shown = html.escape(name) if file is None or not file.exists() else anchor(file, name)
        return html.escape(reason.message[:begin]) + shown + html.escape(reason.message[end:])


def _place(reason: Reason) -> tuple[int, int]:
    """Where in a reason's message its file is named, maybe as seen from the instance's folder."""
    parts = reason.path.split("/") if reason.path else []
    for n in range(len(parts)):
        name = "/".join(parts[n:])
        begin = reason.message.find(name)
        if begin >= 0:
            end = begin + len(name)
            while reason.message.endswith("../", 0, begin):
                begin -= 3
            return begin, end
    return 0, 0
