"""How wide the columns of a table are where there is little room."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST = 8  # characters of a column that is shortened


def fitted(widths: Sequence[int], flexible: Sequence[bool], room: int) -> list[int]:
    """How wide each column may be.

    The widest of those that can be shortened gives way first. If that does not do, columns are left
    out, the last first, but not the first two.

    Args:
        widths: How wide each would be.
        flexible: Which can be shortened.
        room: How much there is for all of them.

    Returns:
        Their widths; 0 for one that is left out.
    """
    fits = list(widths)
    while sum(fits) > room:
        wide = [n for n, size in enumerate(fits) if flexible[n] and size > _LEAST]
        if wide:
            fits[max(wide, key=lambda n: fits[n])] -= 1
            continue
        last = max((n for n, size in enumerate(fits) if size and n > 1), default=None)
        if last is None:
            break
        fits[last] = 0
        room += 3  # what was between it and the one before
    return fits


def shortened(text: str, width: int, *, middle: bool) -> str:
    """A text of at most that width on a terminal.

    Args:
        text: One line.
        width: In columns; East Asian characters take two.
        middle: Whether to leave out what is in its middle, rather than its end.
    """
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    head = width - 1
    while head >= 0:
        tail = head // 2 if middle else 0
        short = f"{text[: head - tail]}…{text[len(text) - tail :] if tail else ''}"
        if cell_len(short) <= width:
            return short
        head -= 1
    return ""
