"""What a process and all its descendants take: CPU time and memory, as Linux counts them."""

from __future__ import annotations

import os
from pathlib import Path

AVAILABLE = Path("/proc/self/smaps_rollup").exists()
_TICK = os.sysconf("SC_CLK_TCK") if AVAILABLE else 1


def descendants(root: int) -> list[int]:
    """The process and all below it, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found


def cpu_seconds(root: int) -> float:
    """CPU time of the process and its descendants, with that of those that were waited for.

    Its resolution is the system's clock tick, mostly 10 ms: take the difference over many runs.
    """
    ticks = 0
    for pid in descendants(root):
        fields = _stat(pid)
        if fields:
            ticks += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return ticks / _TICK


def memory(pid: int) -> tuple[int, int]:
    """A process's proportional set size, and the part that is its own alone, in bytes."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]:
        name, size, *_ = line.split()
        sizes[name] = int(size) * 1024
    return sizes["Pss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (proc(5): the third); None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
