"""What kernels need of the machine, asked before one starts: files, threads, `/proc`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ductaflow_kernels.errors import KernelStartError

FILES_OF_A_KERNEL = 64
"""Files that a kernel may open at least: its limit is this process's."""

FILES_FOR_A_KERNEL = 20
"""Files that a conductor opens for one more kernel."""

_FILES = Path("/proc/self/fd")
_PLENTY = 4096  # of files that may be open: then nobody counts


def has_proc() -> bool:
    """Whether Linux tells about processes in `/proc`; some containers have none."""
    return _FILES.is_dir()


def check_files() -> None:
    """Make sure that one more kernel can open its files.

    Raises:
        KernelStartError: This process may not open as many.
    """
    if sys.platform == "win32":
        return
    import resource

    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= _PLENTY:
        return
    used = _open_files()
    if allowed >= FILES_OF_A_KERNEL and allowed - used >= FILES_FOR_A_KERNEL:
        return
    can = "any number" if most == resource.RLIM_INFINITY else f"{most}"
    raise KernelStartError(
        f"this process may open {allowed} files and has {used} open, which is too few for another "
        f"kernel. Raise the limit (`ulimit -n 1024` before Python starts; {can} is allowed here), "
        "or let fewer workers run at once"
    )


def _open_files() -> int:
    folder = _FILES if has_proc() else Path("/dev/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def start_thread(name: str, work: Callable[..., object], *args: Any) -> threading.Thread | None:
    """Start a thread that may be done without, in the background.

    Args:
        name: Its name.
        work: What it does.
        args: With what.

    Returns:
        The thread; None where no more can be started, for want of memory or under a limit.
    """
    thread = threading.Thread(target=work, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
