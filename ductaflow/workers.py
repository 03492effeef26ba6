"""How many runs go on at once."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ductaflow.layout import WORKERS_VARIABLE


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_count(asked: int | None, environment: Mapping[str, str]) -> int:
    """How many workers to have.

    Args:
        asked: As the caller says, or None.
        environment: The environment, which may hold the share of a sweep within a sweep.

    Raises:
        ValueError: It is not a whole number from 1 on.
    """
    where, value = "workers", asked
    if asked is None and (text := environment.get(WORKERS_VARIABLE)):
        where = WORKERS_VARIABLE
        value = int(text) if text.isascii() and text.isdigit() else None
        if value is None:
            raise ValueError(f"{where} is {text!r}; it is a whole number from 1 on")
    if value is None:
        return cores()
    if type(value) is not int or value < 1:
        raise ValueError(f"{where} is {value!r}; it is a whole number from 1 on")
    return value
