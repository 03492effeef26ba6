"""The text of an environment variable as the value that a settings file would have.

What cannot be read is returned as it is, for whoever checks the value to name it.
"""

from __future__ import annotations

from collections.abc import Mapping

_SWITCH: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


def switch(text: str) -> bool | str:
    """On or off."""
    return _SWITCH.get(text.lower(), text)


def number(text: str) -> float | int | str:
    """A number, an integer if it is one."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else value


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def switch_or_names(text: str) -> bool | list[str]:
    """On or off, or names."""
    value = switch(text)
    return value if isinstance(value, bool) else names(text)
