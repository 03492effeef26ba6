"""Whether what a run read is still what it read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

import attrs

READ = ("data", "module")  # the roles of inputs whose content counts


@final
@attrs.define(eq=False)
class Freshness:
    """Looks at each file once, however many runs read it.

    Attributes:
        root: The project root, to which the paths of inputs are relative.
    """

    root: Path
    _stats: dict[Path, tuple[int, int] | None] = attrs.field(factory=dict)
    _hashes: dict[Path, str] = attrs.field(factory=dict)

    def reasons(self, inputs: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
        """Why a run that succeeded is out of date; empty if it is not, or nothing is known.

        Args:
            inputs: What it read: `path`, `role`, and then `size`, `mtime_ns` and `sha256`.
        """
        return tuple(self._changed(inputs))

    def _changed(self, inputs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        for fact in inputs:
            role = fact.get("role")
            path = self.root / fact["path"]
            now = self._stat(path) if role in (*READ, "missing") else None
            if role == "missing" and now is not None:
                yield f"{fact['path']} is there now"
            if role not in READ:
                continue
            if now is None:
                yield f"{fact['path']} is gone"
            elif now == (fact.get("size"), fact.get("mtime_ns")):
                continue
            elif fact.get("sha256") and self._hash(path) != fact["sha256"]:
                yield f"{fact['path']} changed"

    def _stat(self, path: Path) -> tuple[int, int] | None:
        if path not in self._stats:
            try:
                stat = path.stat()
            except OSError:
                self._stats[path] = None
            else:
                self._stats[path] = stat.st_size, stat.st_mtime_ns
        return self._stats[path]

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            digest = hashlib.sha256()
            try:
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
            except OSError:
                return ""
            self._hashes[path] = digest.hexdigest()
        return self._hashes[path]
