"""Copy ahead of need the memory that instances of a flow write to.

A forked kernel shares its template's pages, and copies each when it first writes to it. That takes
2 to 3 µs, and a flow that draws one plot writes to 5,000. Instances of one flow write to the same
ones, by 99 of 100. So one of them looks which those were, and later ones copy them before they are
asked for. Linux only (pagemap in proc(5); madvise(2): MADV_POPULATE_WRITE, since 5.14); elsewhere
pages are copied when they are written to, as ever.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import functools
import mmap
import os
from collections.abc import Callable, Iterable, Iterator

BUDGET = 16 << 20  # bytes that a waiting kernel copies at most
FILE = "pages"  # in a kernel's own folder
LOOK_AGAIN = 100  # kernels after which one looks anew: flows may share a template, and change

_POPULATE_WRITE = 23
_PRESENT, _OF_A_FILE, _OWN = 1 << 63, 1 << 61, 1 << 56
_STATE = _PRESENT | _OF_A_FILE | _OWN
_ENTRY = 8  # bytes that the page map has for a page

# A page that was there, and whether it is now a process's own: `before & _STATE`, `now & _STATE`.
_SHARED = frozenset({_PRESENT, _PRESENT | _OF_A_FILE})
_COPIED = _PRESENT | _OWN


class Ahead:
    """What a template knows of the pages that its kernels will write to.

    Attributes:
        ranges: Those pages: start, length, start, length, and so on, in bytes.
    """

    def __init__(self) -> None:
        self.ranges: array.array[int] = array.array("Q")
        self._looking = (0, "")  # the kernel that looks, if one does: its process and folder
        self._until = 0  # so many kernels are forked before the next one does

    def wanted(self) -> bool:
        """Whether the kernel that is forked next is to look which pages it copies."""
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
        self._looking = (0, "")
        with contextlib.suppress(OSError):  # it was killed, or could not look
            with open(os.path.join(folder, FILE), "rb") as file:
                self.ranges = array.array("Q", file.read())
            self._until = LOOK_AGAIN


def copy(ranges: array.array[int]) -> None:
    """Copy these pages now.

    Args:
        ranges: As in `Ahead`. What is not mapped any more is left out.
    """
    advise = _madvise()
    for i in range(0, len(ranges), 2):
        if advise(ranges[i], ranges[i + 1], _POPULATE_WRITE) and ctypes.get_errno() == errno.EINVAL:
            return  # an older system


def prepare() -> None:
    """Make ready what does not differ between processes: before a fork it costs once."""
    _madvise()


@functools.lru_cache(maxsize=1)
def _madvise() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(None, use_errno=True).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


# --- in a kernel that looks -----------------------------------------------------------------------

_folder = ""  # where to leave what is found; empty: this kernel does not look
_before: dict[int, bytes] = {}  # start of a mapping → its part of the page map, before the flow


def look(folder: str) -> None:
    """Be the one that looks, and leaves in this folder what it finds."""
    global _folder
    _folder = folder


def begin() -> None:
    """Note, if this kernel looks, which pages are shared before the flow."""
    if _folder:
        _before.update(_page_maps())


def end() -> None:
    """Leave word which of them have been copied since."""
    if not _folder:
        return
    file = os.path.join(_folder, FILE)
    with contextlib.suppress(OSError):  # the folder is gone, or nothing can be looked at here
        with open(file + ".part", "wb") as part:
            part.write(_ranges(_copied()))
        os.rename(file + ".part", file)


def _page_maps() -> Iterator[tuple[int, bytes]]:
    """For each private mapping that can be written to, its start and its part of the page map."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        mappings = [line.split(None, 2) for line in maps]
    with open("/proc/self/pagemap", "rb", buffering=0) as page_map:
        for span, access, _ in mappings:
            if access[1] == "w" and access[3] == "p":
                start, end = (int(address, 16) // mmap.PAGESIZE for address in span.split("-"))
                page_map.seek(start * _ENTRY)
                yield start, page_map.read((end - start) * _ENTRY)


def _copied() -> Iterator[int]:
    """Numbers of the pages that were shared before the flow and are not any more."""
    for start, now in _page_maps():
        before = _before.get(start, b"")
        pairs = zip(array.array("Q", before), array.array("Q", now[: len(before)]), strict=False)
        for page, (was, is_now) in enumerate(pairs, start):
            if is_now & _STATE == _COPIED and was & _STATE in _SHARED:
                yield page


def _ranges(pages: Iterable[int]) -> array.array[int]:
    """Pages as ranges in bytes: the longest first, for they are copied with the fewest calls."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and page == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([page, 1])
    left = BUDGET // mmap.PAGESIZE
    found = array.array("Q")
    for start, length in sorted(runs, key=lambda run: -run[1]):
        length = min(length, left)
        left -= length
        if length:
            found.extend((start * mmap.PAGESIZE, length * mmap.PAGESIZE))
    return found
