"""Relative addresses, so that a folder with a page can be moved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

import attrs


@final
@attrs.define(eq=False)
class Links:
    """Makes paths relative to the page's folder.

    Attributes:
        folder: The page's folder, absolute.
    """

    folder: Path
    _parents: dict[Path, str] = attrs.field(factory=dict)

    def to(self, path: Path) -> str:
        """A path as the page names it, with `/`, not quoted for a URL.

        One on another drive, to which no relative path leads, stays absolute.
        """
        parent = self._parents.get(path.parent)
        if parent is None:
            parent = self._parents[path.parent] = self._relative(path.parent)
        if parent == ".":
            return path.name
        return f"{parent}/{path.name}"

    def _relative(self, folder: Path) -> str:
        try:
            return Path(os.path.relpath(folder, self.folder)).as_posix()
        except ValueError:
            return folder.as_posix()
