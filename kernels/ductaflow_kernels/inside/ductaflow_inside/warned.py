"""How often a flow has warned through `logging`, wherever its records go."""

from __future__ import annotations

import functools
import logging

_MACHINERY = ("IPKernelApp", "traitlets", "tornado", "asyncio", "ipykernel")
_logged = [0]  # records at WARNING and above


def count_warnings() -> None:
    """Begin to count what `logging` is told at WARNING and above."""
    handle = logging.Logger.handle

    @functools.wraps(handle)
    def counted(self: logging.Logger, record: logging.LogRecord) -> None:
        # Jupyter's own machinery is no part of the flow.
        if record.levelno >= logging.WARNING and not record.name.startswith(_MACHINERY):
            _logged[0] += 1
        handle(self, record)

    logging.Logger.handle = counted  # type: ignore[method-assign]


def begin() -> None:
    """What was said before is none of the flow's."""
    _logged[0] = 0


def warnings() -> int:
    """How many there were."""
    return _logged[0]
