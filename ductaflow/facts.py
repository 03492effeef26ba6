"""What a run is known to depend on and to have left, and what an earlier run's worth hangs on."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs


class Role(Enum):
    """What a path was to a run."""

    DATA = "data"  # a file whose bytes it read
    MODULE = "module"  # a module of the project, whose code counts and not its comments
    PRESENT = "present"  # a path that it looked for and found
    MISSING = "missing"  # a path that it looked for and did not find
    FOLDER = "folder"  # a folder whose names it read


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
    """

    path: str
    role: str = Role.DATA.value
    size: int = -1
    mtime_ns: int = 0
    sha256: str = ""
    code: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FileFact:
        """From what `attrs.asdict` gave, without what is its default's."""
        return cls(
            str(data["path"]),
            str(data.get("role", Role.DATA.value)),
            int(data.get("size", -1)),
            int(data.get("mtime_ns", 0)),
            str(data.get("sha256", "")),
            str(data.get("code", "")),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; defaults left out, but for the role, which readers choose by."""
        facts = ((k, v) for k, v in attrs.asdict(self).items() if v != _DEFAULTS.get(k))
        return {"path": self.path, "role": self.role, **dict(facts)}


_DEFAULTS = {a.name: a.default for a in attrs.fields(FileFact)}


@attrs.frozen
class Reason:
    """One thing for which an earlier run cannot serve.

    Attributes:
        kind: `new`, `failed`, `forced`, `off`, `unobserved`, `code`, `config`, `module`, `data`,
            `present`, `missing`, `folder`, `python`, `package`, `kernel`, `variable`, `output`,
            `report`, `age`.
        message: One for people, as `code/zones.py changed`.
        path: The file that it is about, as in `FileFact`, or the empty string.
    """

    kind: str
    message: str
    path: str = ""

    def __str__(self) -> str:
        return self.message


@attrs.frozen
class CacheDecision:
    """Whether an earlier run serves in the place of a new one.

    Attributes:
        reuse: Whether it does.
        reasons: Why not; none if it does.
    """

    reuse: bool
    reasons: tuple[Reason, ...] = ()

    def __bool__(self) -> bool:
        return self.reuse

    def __str__(self) -> str:
        if self.reuse:
            return "unchanged since its last run"
        return "; ".join(map(str, self.reasons))
