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
    _known: dict[str, str] = attrs.field(factory=dict)

    def to(self, path: Path) -> str:
        """A path as the page names it, with `/`, not quoted for a URL.

        One on another drive, to which no relative path leads, stays absolute.
        """
        above, name = os.path.split(path)
        above, folder = os.path.split(above)
        # Instances lie side by side: where they lie is worked out once.
        relative = self._known.get(above)
        if relative is None:
            relative = self._known[above] = self._relative(above)
        return f"{relative}{folder}/{name}" if folder else f"{relative}{name}"

    def above(self, folder: Path) -> str:
        """A folder that the page may lie in, by the shortest way there."""
        return self._relative(str(folder)).removesuffix("/") or "."

    def _relative(self, folder: str) -> str:
        try:
            relative = Path(os.path.relpath(folder, self.folder)).as_posix()
        except ValueError:
            relative = Path(folder).as_posix()
        return "" if relative == "." else relative.removesuffix("/") + "/"
