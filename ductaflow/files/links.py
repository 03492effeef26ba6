"""Where paths lead by symbolic links, as those were noted or as they are now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

import attrs

MAX_LINKS = 40  # on the way of one path, as in Linux
ROOT = "{root}"
"""Stands for the project root in where a link leads."""

Leads = Callable[[str], str | None]
"""From a path, itself without links, to where it leads if it is a link, else None."""


@attrs.frozen
class Way:
    """Where a path leads.

    Attributes:
        end: The path without links.
        links: Those on the way, in their order; each itself without links.
    """

    end: str
    links: tuple[str, ...] = ()


def follow(path: str, leads: Leads) -> Way:
    """Go along a path.

    Args:
        path: Absolute.
        leads: Where links lead.
    """
    real, links = "", list[str]()
    parts = path.split(os.sep)[::-1]
    while parts:
        part = parts.pop()
        if part == "..":
            real = real.rpartition(os.sep)[0]
        elif part not in ("", "."):
            here = f"{real}{os.sep}{part}"
            target = leads(here) if len(links) < MAX_LINKS else None
            if target is None:
                real = here
                continue
            links.append(here)
            if target.startswith(os.sep):
                real = ""
            parts += target.split(os.sep)[::-1]
    return Way(real or os.sep, tuple(dict.fromkeys(links)))


def lead(path: str) -> str | None:
    """Where a path leads now if it is a link, else None."""
    try:
        return os.readlink(path)
    except (OSError, ValueError):
        return None


def portable(target: str, root: str) -> str:
    """Where a link leads, so that it can be compared in a copy of the project.

    Args:
        target: The link's text.
        root: The project root.
    """
    if target == root or target.startswith(root + os.sep):
        return ROOT + target[len(root) :]
    return target


def retargeted(now: Mapping[str, str], was: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What the links of a run led to and what they lead to now, where that differs.

    Args:
        now: Each link's text as it is now.
        was: And as it was; absolute paths all.
    """
    for path in was:
        before, after = follow(path, was.get).end, follow(path, now.get).end
        if before != after:
            yield before, after
