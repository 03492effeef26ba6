"""The streams that imports in a template find, which become those of the kernel."""

from __future__ import annotations

import os
import sys
from typing import Any

from ipykernel.iostream import OutStream

from ductaflow_inside.kernel.naming import named_as

_early: dict[str, Any] = {}  # by their names


@named_as(OutStream)
class EarlyStream(OutStream):  # type: ignore[misc]
    """An OutStream of a process that has nobody to publish to: it writes to the file below."""

    def __init__(self, session: Any, name: str) -> None:
        # Not the base's: it makes a thread. It follows when there is a kernel.
        self.session, self.name = session, name
        self.topic = b"stream." + name.encode()
        self.pub_thread = self.echo = None
        self._isatty = False
        self._parent_header_global: dict[str, Any] = {}
        self._original_stdstream_copy = {"stdout": 1, "stderr": 2}[name]

    closed = False

    @property
    def parent_header(self) -> dict[str, Any]:
        """Of no cell."""
        return {}

    def write(self, string: str) -> int:
        """Write text to the file below."""
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        os.write(self._original_stdstream_copy, string.encode("utf-8", "replace"))
        return len(string)

    def flush(self) -> None:
        """All is written."""

    def __del__(self) -> None:
        """Nothing is to be closed: what it writes to is not its own."""


def make_streams(session: Any) -> None:
    """Make `sys.stdout` and `sys.stderr` the objects that they will be in the kernel."""
    for name in ("stdout", "stderr"):
        _early[name] = EarlyStream(session, name)
        setattr(sys, name, _early[name])


def reused(stream: type) -> type:
    """A class of OutStream whose instances are those that imports have found, if they have."""

    class Reused(stream):  # type: ignore[misc]
        def __new__(cls, _s: Any, _t: Any, name: str, *_: Any, **__: Any) -> Any:
            made = _early.pop(name, None)
            if made is None:
                return super().__new__(cls)
            below = made.fileno()  # the base looks for it here
            vars(made).clear()  # IPython has put a write() there
            made._original_stdstream_copy = below
            made.__class__ = cls
            return made

    return named_as(stream)(Reused)
