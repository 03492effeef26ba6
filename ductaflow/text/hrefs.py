"""Links from a notebook to files."""

from __future__ import annotations

import html
import os
import sys
from pathlib import Path
from urllib.parse import quote


def href(path: Path) -> str:
    """A link to a file from the notebook that is open, or else from a page in the current folder.

    Relative, because browsers follow no `file:` link from a page that a server gave them.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    # A kernel starts in its notebook's folder, and a cell may have left that.
    start = shell.starting_dir if shell is not None and hasattr(shell, "kernel") else None
    try:
        relative = os.path.relpath(path, start)
    except ValueError:  # on another drive
        return path.absolute().as_uri()
    return quote(Path(relative).as_posix())


def anchor(path: Path, name: str) -> str:
    """A text that leads to a file, as HTML."""
    return f'<a href="{html.escape(href(path), quote=True)}">{html.escape(name)}</a>'
