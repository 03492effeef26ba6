"""What an instance is to run with: its config, its options, the plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ductaflow.model.flows import Cell, Flow
from ductaflow.model.kinds import NoteKind
from ductaflow.model.options import RunOptions

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


@attrs.frozen
class InstancePlan:
    """All that is needed to execute one instance.

    Attributes:
        flow: The parsed flow.
        config: The normalised config; None where nothing is injected.
        step: The step's name; empty for a run outside `runs/`.
        instance: The instance's name; empty likewise.
        directory: Where it runs and leaves its artifacts, absolute.
        root: The project root, absolute.
        options: How to run it.
        fingerprints: Hashes of what goes in; see `fingerprint.fingerprints`.
        cells: The flow's cells with the config, injected and flattening cells in place.
        notes: What planning noticed.
        given: What was given of the config; None for all of it.
    """

    flow: Flow
    config: Config | None = attrs.field(hash=False)
    step: str
    instance: str
    directory: Path
    root: Path
    options: RunOptions = attrs.field(factory=RunOptions)
    fingerprints: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    cells: tuple[Cell, ...] = attrs.field(default=(), repr=False)
    notes: tuple[Note, ...] = ()
    given: Config | None = attrs.field(default=None, repr=False, hash=False)

    @property
    def flow_display(self) -> str:
        """The flow's path for people: relative to the root where it lies inside it."""
        path, root = self.flow.path, self.root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    @property
    def label(self) -> str:
        """What people call it: `step/instance`, or the flow's name."""
        return f"{self.step}/{self.instance}" if self.step else self.flow.name
