"""What an instance is to run with, and what is to be noticed about it."""

from __future__ import annotations

from typing import Any

import attrs

from ductaflow.model.kinds import NoteKind

Config = dict[str, Any]
"""A normalised config: JSON's types only, string keys, NaN and infinities allowed."""


def _note(kind: str) -> NoteKind:
    return NoteKind(kind)


@attrs.frozen
class Note:
    """Something about a run that its reader should know, though it ran.

    Attributes:
        kind: What it is about.
        message: One sentence for a person.
        key: The dotted config key that it is about, or the empty string.
    """

    kind: NoteKind = attrs.field(converter=_note)
    message: str
    key: str = ""
