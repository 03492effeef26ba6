"""How many kernels work at once."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ductaflow.project.environment import WORKERS_VARIABLE


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(environment: Mapping[str, str], usual: int | None = None) -> int:
    """How many kernels this process should have at once: a sweep's share of the cores, or them all.

    Args:
        environment: The environment, which holds the share of a flow in a sweep.
        usual: What the project's settings say; None for all cores.

    Raises:
        ValueError: What it holds is not a positive integer.
    """
    text = environment.get(WORKERS_VARIABLE)
    if not text:
        return usual or cores()
    number = int(text) if text.isascii() and text.isdigit() else 0
    return _checked(number, WORKERS_VARIABLE, text)


def worker_count(
    asked: int | None, environment: Mapping[str, str], usual: int | None = None
) -> int:
    """How many workers to have.

    Args:
        asked: As the caller says, or None.
        environment: See `share`.
        usual: See `share`.

    Raises:
        ValueError: It is not a positive integer.
    """
    return share(environment, usual) if asked is None else _checked(asked, "workers", asked)


def _checked(number: object, where: str, given: object) -> int:
    if type(number) is not int or number < 1:
        raise ValueError(f"{where} must be a positive integer, not {given!r}")
    return number
