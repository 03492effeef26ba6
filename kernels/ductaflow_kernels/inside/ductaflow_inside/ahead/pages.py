"""Copy in advance the memory that instances of a flow write to.

A forked kernel shares its template's pages, and copies each when it first writes to it. That takes
2 to 3 µs, and a flow that draws one plot writes to 5,000. Instances of one flow write to the same
ones, by 99 of 100. So one of them looks which those were, and later ones copy them before they are
asked for (`needed`). Linux only (pagemap in proc(5); madvise(2): MADV_POPULATE_WRITE, since 5.14);
elsewhere pages are copied when they are written to, as ever.
"""

from __future__ import annotations

import array
import ctypes
import errno
import functools
import mmap
from collections.abc import Callable, Iterable, Iterator

BUDGET = 16 << 20  # bytes that a waiting kernel copies at most

_POPULATE_WRITE = 23
_PRESENT, _OF_A_FILE, _OWN = 1 << 63, 1 << 61, 1 << 56
_STATE = _PRESENT | _OF_A_FILE | _OWN
_ENTRY = 8  # bytes that the page map has for a page

# A page that was there, and whether it is now a process's own: `before & _STATE`, `now & _STATE`.
_SHARED = frozenset({_PRESENT, _PRESENT | _OF_A_FILE})
_COPIED = _PRESENT | _OWN


def copy(ranges: array.array[int]) -> None:
    """Copy these pages now.

    Args:
        ranges: Start, length, start, length, and so on, in bytes. What is not mapped any more is
            left out.
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


def page_maps() -> dict[int, bytes]:
    """Which pages this process shares: its page map, by the start of each private mapping."""
    found = {}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        mappings = [line.split(None, 2) for line in maps]
    with open("/proc/self/pagemap", "rb", buffering=0) as page_map:
        for span, access, _ in mappings:
            if access[1] == "w" and access[3] == "p":
                start, end = (int(address, 16) // mmap.PAGESIZE for address in span.split("-"))
                page_map.seek(start * _ENTRY)
                found[start] = page_map.read((end - start) * _ENTRY)
    return found


def copied_since(before: dict[int, bytes]) -> array.array[int]:
    """The pages that were shared then and are not any more.

    Args:
        before: From `page_maps`.

    Returns:
        See `copy`. Where there are too many for the budget, the longest runs of them: they are
        copied with the fewest calls.
    """
    return _ranges(_copied(before))


def _copied(before: dict[int, bytes]) -> Iterator[int]:
    for start, now in page_maps().items():
        old = before.get(start, b"")
        pairs = zip(array.array("Q", old), array.array("Q", now[: len(old)]), strict=False)
        for page, (was, is_now) in enumerate(pairs, start):
            if is_now & _STATE == _COPIED and was & _STATE in _SHARED:
                yield page


def _ranges(pages: Iterable[int]) -> array.array[int]:
    """Pages, in order, as ranges in bytes: the longest first."""
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
