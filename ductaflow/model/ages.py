"""How old a result may become, as people write it: `30m`, `12h`, `1d`, `2w`, or seconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TypeAlias

Age: TypeAlias = float | str | timedelta

_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_NAMES = {"w": "week", "d": "day", "h": "hour", "m": "minute", "s": "second"}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([wdhms]?)\s*", re.ASCII)


def seconds_of(value: object, name: str) -> float:
    """An age in seconds; infinity stands for no limit.

    Args:
        value: A number of seconds, a `timedelta`, or text: a number and one of `s`, `m`, `h`, `d`
            and `w`, a bare number of seconds, or `inf`.
        name: What it is the value of, for the message.

    Raises:
        TypeError: It is of another type.
        ValueError: It is negative, or the text is no age.
    """
    seconds = value
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        match = _WRITTEN.fullmatch(value)
        if match is None and value.strip() != "inf":
            raise ValueError(f"{name} must be an age as '30m', '12h', '1d' or '2w', not {value!r}")
        seconds = math.inf if match is None else float(match[1]) * _UNITS[match[2] or "s"]
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(
            f"{name} must be a number of seconds, a timedelta, or text as '1d', not {value!r}"
        )
    if not seconds >= 0:
        raise ValueError(f"{name} must not be below 0, as {value!r} is")
    return float(seconds)


def format_limit(seconds: float) -> str:
    """A limit as people write it: `1d`, `90s`."""
    for unit, size in _UNITS.items():
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def format_age(seconds: float) -> str:
    """An age in words, in whole units: `2 days`, `1 hour`."""
    for unit, size in _UNITS.items():
        if seconds >= size or unit == "s":
            count = int(seconds // size)
            return f"{count} {_NAMES[unit]}" + ("" if count == 1 else "s")
    raise AssertionError("seconds end the loop")
