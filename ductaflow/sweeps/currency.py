"""`check`: whether all that is wanted is there and up to date; nothing is run.

runs that are there ─▶ what `update` would run ──┐
rows of a table ─────▶ what `sweep` would run ───┴──▶ up to date, stale, failed or missing
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.errors import DuctaflowError
from ductaflow.history.catalog import all_runs
from ductaflow.history.recordfile import damage
from ductaflow.history.run import Run
from ductaflow.model.records import Status
from ductaflow.project.lasttable import read_last_table
from ductaflow.project.layout import iter_instances, iter_steps, record_in, runs_dir
from ductaflow.project.root import project_root
from ductaflow.sweeps.calls import sweep
from ductaflow.sweeps.tasks import ConfigSpec, NameSpec
from ductaflow.sweeps.updates import update


class Standing(Enum):
    """How an instance stands for a check; owns its symbol."""

    symbol: str

    def __new__(cls, value: str, symbol: str) -> Standing:
        """Each member is its value; the rest is how it is shown."""
        member = object.__new__(cls)
        member._value_ = value
        member.symbol = symbol
        return member

    CURRENT = "up to date", "✓"
    STALE = "stale", "↻"
    FAILED = "failed", "✗"
    MISSING = "missing", "○"


@final
@attrs.frozen
class Checked:
    """One instance.

    Attributes:
        step: Its step.
        instance: Its name.
        standing: How it stands.
        reasons: Why it is not up to date.
    """

    step: str
    instance: str
    standing: Standing
    reasons: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`step/instance`."""
        return f"{self.step}/{self.instance}"

    def __str__(self) -> str:
        told = f": {'; '.join(self.reasons)}" if self.reasons else ""
        return f"{self.standing.symbol} {self.standing.value} {self.label}{told}"


@final
@attrs.frozen(repr=False)
class Check:
    """What a check has found.

    Attributes:
        instances: All that were looked at, those up to date among them.
    """

    instances: tuple[Checked, ...]

    @property
    def ok(self) -> bool:
        """Whether there are any, and all are up to date."""
        return bool(self.instances) and not self.wanting

    @property
    def wanting(self) -> tuple[Checked, ...]:
        """Those that are stale, failed or missing."""
        return tuple(each for each in self.instances if each.standing is not Standing.CURRENT)

    def to_json(self) -> dict[str, Any]:
        """It as plain JSON types."""
        told = [
            {
                "step": each.step,
                "instance": each.instance,
                "standing": each.standing.value,
                "reasons": list(each.reasons),
            }
            for each in self.instances
        ]
        return {"ok": self.ok, "instances": told}

    def __str__(self) -> str:
        if not self.instances:
            return "There is no run."
        standings = [each.standing for each in self.instances]
        counts = [(s, standings.count(s)) for s in Standing]
        told = ", ".join(f"{count} {s.value}" for s, count in counts if count)
        return "\n".join([*map(str, self.wanting), f"{len(standings)} runs: {told}."])

    def __repr__(self) -> str:
        return f"<Check: {str(self).splitlines()[-1]}>"


def check(
    target: str | os.PathLike[str] | None = None,
    table: Any = None,
    *,
    step: str | None = None,
    instance: NameSpec = None,
    config: ConfigSpec = None,
    root: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Check:
    """Whether runs are up to date: none is stale, failed or missing. Nothing is run.

    Missing are the rows of a table that have no run: of the table that is given, else of each
    step's last one, which its sweep has noted.

    Args:
        target: A step, an instance as `step/instance`, or all if left out. With a table, its flow.
            What they depend on is checked with them.
        table: A control table; see `sweep`, as for the rest.
        step: The step's name, for a table.
        instance: What names the instances, for a table.
        config: What the flow gets of a row, for a table.
        root: The project root; found from where the caller is, if left out.
        **options: Further options of the sweep that would run the table.

    Returns:
        Each instance, and how it stands; `ok` says whether all are up to date.

    Raises:
        DuctaflowError: There is no such step, instance or flow, or the table is not fit.
        TypeError: There are options of a sweep without a table.
    """
    project = project_root(root, target if table is not None else None)
    if table is None:
        given = {"step": step, "instance": instance, "config": config, **options}
        odd = [name for name, value in given.items() if value is not None]
        if odd:
            raise TypeError(f"check takes {', '.join(odd)} only with a table")
        return _of_target(None if target is None else os.fspath(target), project)
    if target is None:
        raise TypeError("check takes a table only with its flow")
    runs = sweep(
        target,
        table,
        step=step,
        instance=instance,
        config=config,
        root=project,
        dry_run=True,
        **options,
    )
    found = {run.label: _planned(run) for run in runs}
    there = [run.label for run in runs if run.reused]
    for each in _standing(there, project) if there else ():
        found[each.label] = each
    return _sorted(found)


def _of_target(target: str | None, root: Path) -> Check:
    found: dict[str, Checked] = {each.label: each for each in _missing(target, root)}
    known = [run.label for run in all_runs(root)]
    asked = [x for x in known if target is None or x == target or x.startswith(f"{target}/")]
    if not asked and not found and target is not None:
        raise DuctaflowError(
            f"there is no run or step {target!r} in {runs_dir(root)}: name a step, or step/instance"
        )
    for each in _standing(asked, root) if asked else ():
        found[each.label] = each
    return _sorted(found)


def _missing(target: str | None, root: Path) -> Iterator[Checked]:
    """What a step's last table has, and what cannot be read, as far as it is asked for."""
    for step in iter_steps(root):
        if target is not None and target.partition("/")[0] != step:
            continue
        folders = {folder.name: folder for folder in iter_instances(root, step)}
        listed = dict.fromkeys(read_last_table(root, step).instances)
        for name in {**listed, **dict.fromkeys(folders)}:
            file = record_in(folders[name]) if name in folders else None
            if target not in (None, step, f"{step}/{name}"):
                continue
            if file is not None and file.exists():
                why = damage(file)
                if why:
                    yield Checked(step, name, Standing.FAILED, (f"run.json: {why}",))
            elif name in listed:
                yield Checked(step, name, Standing.MISSING, ("it has not run yet",))


def _standing(labels: Iterable[str], root: Path) -> Iterator[Checked]:
    """Runs that are there, and those that they depend on."""
    return map(_planned, update(labels, root=root, dry_run=True, progress=False))


def _planned(run: Run) -> Checked:
    """A run of a plan, as it stands."""
    reasons = tuple(map(str, run.reasons))
    if run.reused:
        return Checked(run.step, run.instance, Standing.CURRENT)
    if run.error is not None:
        reasons = (f"{run.error.type}: {run.error.message}",)
    kinds = {reason.kind for reason in run.reasons}
    if run.status is not Status.PLANNED or "failed" in kinds:
        return Checked(run.step, run.instance, Standing.FAILED, reasons)
    place = Standing.MISSING if "new" in kinds else Standing.STALE
    return Checked(run.step, run.instance, place, reasons)


def _sorted(found: Mapping[str, Checked]) -> Check:
    order = list(Standing)
    return Check(tuple(sorted(found.values(), key=lambda e: (order.index(e.standing), e.label))))
