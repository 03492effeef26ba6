"""What one kernel of a template finds that its flow needs, later ones have ready.

    template ──fork──▶ a kernel that looks ──its flow──▶ file in its folder ──▶ template
             ──fork──▶ kernels that get ready while they wait

Instances of one flow do nearly the same, so what one has done tells what the next will do.
"""

from __future__ import annotations

import array
import contextlib
import json
import os

from ductaflow_inside.ahead import pages, plotting

FILE = "needed"  # in a kernel's own folder
LOOK_AGAIN = 100  # kernels after which one looks anew: flows may share a template, and change
TRY_AGAIN = 10  # the same, after one that was killed before it could tell


class Ahead:
    """What a template knows of the kernels that it forks.

    Attributes:
        ranges: The memory that they will write to; see `pages.copy`.
        draws: Whether they will draw text with matplotlib.
    """

    def __init__(self) -> None:
        self.ranges: array.array[int] = array.array("Q")
        self.draws = False
        self._looking = (0, "")  # the kernel that looks, if one does: its process and folder
        self._until = 0  # so many kernels are forked before the next one does

    def wanted(self) -> bool:
        """Whether the kernel that is forked next is to look what it needs."""
        self._until -= 1
        return self._until < 0 and not self._looking[0]

    def looks(self, pid: int, folder: str) -> None:
        """Take note of the kernel that looks, and of its own folder."""
        self._looking = pid, folder

    def ended(self, pid: int) -> None:
        """Take in what a kernel has found, if it is the one that looked."""
        looking, folder = self._looking
        if pid != looking:
            return
        self._looking, self._until = (0, ""), TRY_AGAIN
        with contextlib.suppress(OSError, ValueError):  # it was killed, or could not look
            with open(os.path.join(folder, FILE), encoding="ascii") as file:
                needed = json.load(file)
            self.ranges, self.draws = array.array("Q", needed["pages"]), needed["draws"]
            self._until = LOOK_AGAIN

    def get_ready(self) -> None:
        """Do in a forked kernel what can be done before its flow begins."""
        pages.copy(self.ranges)
        if self.draws:
            with contextlib.suppress(Exception):  # if it cannot be opened, the flow will tell
                plotting.open_font()


# --- in a kernel that looks -----------------------------------------------------------------------

_folder = ""  # where to leave what is found; empty: this kernel does not look
_before: dict[int, bytes] = {}


def look(folder: str) -> None:
    """Be the one that looks, and leaves in this folder what it finds."""
    global _folder
    _folder = folder


def begin() -> None:
    """Note, if this kernel looks, what is so before the flow."""
    if _folder:
        _before.update(pages.page_maps())


def end() -> None:
    """Leave word what has become of it."""
    if not _folder:
        return
    file = os.path.join(_folder, FILE)
    with contextlib.suppress(OSError):  # the folder is gone, or nothing can be looked at here
        needed = {"pages": list(pages.copied_since(_before)), "draws": plotting.has_drawn_text()}
        with open(file + ".part", "w", encoding="ascii") as part:
            json.dump(needed, part)
        os.rename(file + ".part", file)
