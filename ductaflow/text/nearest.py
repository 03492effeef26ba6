"""Did you mean …: the name that is most like one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, names: Iterable[str], likeness: float = 0.6) -> str | None:
    """The one of some names that is most like another one, if it is like enough.

    Args:
        name: The name that does not exist.
        names: Those that do.
        likeness: What is enough: 1 is equality, 0 anything; see `difflib.get_close_matches`.
    """
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=likeness)), None)


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for an error message: the nearest of the names, or all of them."""
    known = list(names)
    close = closest(name, known)
    if close is not None:
        return f"did you mean {close!r}?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"there are: {shown or 'none'}"
