"""Where the interpreter and its packages lie: what is found there belongs to no project."""

from __future__ import annotations

import functools
import os
import site
import sysconfig


def installed(path: str) -> bool:
    """Whether a file belongs to the interpreter or its packages, not to a project."""
    if path in ("built-in", "frozen"):
        return True
    return any(path.startswith(folder + os.sep) for folder in package_folders())


@functools.lru_cache(maxsize=1)
def package_folders() -> tuple[str, ...]:
    """The folders of the standard library and of installed packages."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {sysconfig.get_path(name) for name in names}
    folders.update(site.getsitepackages())
    return tuple(sorted(folder for folder in folders if folder))
