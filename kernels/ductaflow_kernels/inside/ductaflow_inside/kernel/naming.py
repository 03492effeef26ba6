"""Classes that stand in for others, by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Class = TypeVar("Class", bound=type)


def named_as(base: type) -> Callable[[Class], Class]:
    """Give a class the name of the one that it stands in for: libraries look at it."""

    def rename(cls: Class) -> Class:
        cls.__name__, cls.__qualname__, cls.__module__ = (
            base.__name__, base.__qualname__, base.__module__,
        )  # fmt: skip
        return cls

    return rename
