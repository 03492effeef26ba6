"""What the page tells of one instance, read from its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.history.recordfile import DamagedRecord, load_record, read_config
from ductaflow.history.run import Run
from ductaflow.history.standing import standing
from ductaflow.model.kinds import ReasonKind
from ductaflow.model.records import RunRecord, Status
from ductaflow.project.environment import kernel_environment
from ductaflow.project.lasttable import NOT_IN_TABLE, has_left
from ductaflow.project.layout import ArtifactPaths, record_in
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.repeat import standing_of
from ductaflow.tables.template import leaves


class Light(Enum):
    """How an instance stands at a glance; owns its symbol and label."""

    symbol: str
    label: str

    def __new__(cls, value: str, symbol: str, label: str) -> Light:
        """Each member is its value; the rest is how it is shown."""
        member = object.__new__(cls)
        member._value_ = value
        member.symbol, member.label = symbol, label
        return member

    SUCCESS = "success", "✓", "succeeded"
    WARNINGS = "warnings", "!", "with warnings"
    ERROR = "error", "✗", "failed"
    RUNNING = "running", "▶", "running"
    STALE = "stale", "↻", "stale"
    PLANNED = "planned", "○", "planned"

    @classmethod
    def of(cls, status: Status, warnings: int, stale: bool) -> Light:
        """The light for a run that stands so.

        Args:
            status: Its status.
            warnings: How often it warned.
            stale: Whether what it read has changed since.
        """
        if status is Status.PLANNED:
            return cls.PLANNED
        if status is Status.RUNNING:
            return cls.RUNNING
        if status.bad:
            return cls.ERROR
        if stale:
            return cls.STALE
        return cls.WARNINGS if warnings else cls.SUCCESS


@final
@attrs.frozen
class InstanceFacts:
    """One instance.

    Attributes:
        step: Its step.
        instance: Its name.
        light: How it stands at a glance.
        record: All that `run.json` says.
        config: The config as the flow saw it; empty if there is none.
        stale: Why it is stale; empty if it is not.
        inputs: The files that it read, as `run.json` has them: `path` and `role` at least.
        paths: Where its artifacts lie.
        not_in_last_table: Whether the step's last table has lost its row.
    """

    step: str
    instance: str
    light: Light
    record: RunRecord
    config: Mapping[str, Any] = attrs.field(hash=False)
    stale: tuple[str, ...]
    inputs: tuple[Mapping[str, Any], ...] = attrs.field(hash=False)
    paths: ArtifactPaths
    not_in_last_table: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What its readers should know, in words."""
        left = (NOT_IN_TABLE,) if self.not_in_last_table else ()
        return *left, *(note.message for note in self.record.notes)

    @property
    def id(self) -> str:
        """`step/instance`."""
        return f"{self.step}/{self.instance}"

    @property
    def warnings(self) -> int:
        """How often it warned."""
        return self.record.warnings

    @property
    def values(self) -> dict[str, Any]:
        """The config's values by their dotted names, each a scalar or JSON text."""
        return {name: shown(value) for name, value in leaves(self.config).items()}

    @property
    def metrics(self) -> dict[str, Any]:
        """What the flow published."""
        return {name: shown(value) for name, value in self.record.metrics.items()}


def read_facts(folder: Path, root: Path) -> InstanceFacts | None:
    """The facts of the instance in a folder; None if it has no record.

    Args:
        folder: `runs/{step}/{instance}`.
        root: The project root.
    """
    try:
        record, data = load_record(record_in(folder))
    except (OSError, DamagedRecord):
        return None
    if record.status is Status.RUNNING:
        stands = standing(Run(record, ArtifactPaths.of(folder, Path(record.flow).stem))).record
        if stands.finished != record.finished:  # it has just ended
            return read_facts(folder, root)
        record = stands
    return facts_of(record, folder, root, _inputs(data.get("inputs")))


def facts_of(
    record: RunRecord,
    folder: Path,
    root: Path,
    inputs: tuple[Mapping[str, Any], ...] = (),
) -> InstanceFacts:
    """The facts of an instance whose record is known."""
    paths = ArtifactPaths.of(folder, Path(record.flow).stem)
    stale: tuple[str, ...] = ()
    if record.status.ok:
        decision = standing_of(Run(record, paths), root, Interpreters(kernel_environment(root)))
        stale = tuple(
            str(reason)
            for reason in decision.reasons
            # Of a flow that is gone nothing can be up to date.
            if reason.kind.acceptable or reason.kind is ReasonKind.FLOW
        )
    return InstanceFacts(
        step=record.step or folder.parent.name,
        instance=record.instance or folder.name,
        light=Light.of(record.status, record.warnings, bool(stale)),
        record=record,
        config=(read_config(paths.config) or {}) if record.fingerprints.get("config") else {},
        stale=stale,
        inputs=inputs,
        paths=paths,
        not_in_last_table=bool(record.step)
        and has_left(root, record.step, record.instance, record.started),
    )


def shown(value: Any) -> Any:
    """A value as a cell of a table holds it: a scalar, or JSON text; strict JSON either way."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | int | bool):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _inputs(data: object) -> tuple[Mapping[str, Any], ...]:
    facts = data if isinstance(data, list) else []
    return tuple(
        fact for fact in facts if isinstance(fact, dict) and isinstance(fact.get("path"), str)
    )
