"""Find and remove the instances that nobody wants any more: those that tables and flows have left.

Only instances below `runs/` are removed, never through a link, and never while they run.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import final

import attrs

from ductaflow.errors import ArtifactError, DuctaflowError, FlowNotFound
from ductaflow.files import jsonio
from ductaflow.history.catalog import all_runs
from ductaflow.history.lineage import Graph
from ductaflow.history.lock import instance_lock
from ductaflow.history.recordfile import read_record
from ductaflow.history.run import Run
from ductaflow.history.standing import is_live
from ductaflow.project.lasttable import NOT_IN_TABLE, forget, has_left
from ductaflow.project.layout import instance_dir
from ductaflow.project.names import check_name
from ductaflow.project.root import project_root
from ductaflow.project.settings import load_settings
from ductaflow.reuse.moves import flow_of


@final
@attrs.frozen
class Leftover:
    """An instance that is no longer wanted.

    Attributes:
        run: Its last run.
        reason: Why it is not wanted.
        kept: Why it could not be removed; empty if it was, or would be.
    """

    run: Run
    reason: str
    kept: str = ""

    @property
    def label(self) -> str:
        """`step/instance`."""
        return self.run.label

    def __str__(self) -> str:
        kept = f"; it stays: {self.kept}" if self.kept else ""
        return f"{self.label}: {self.reason}{kept}"


def prune(
    step: str | None = None,
    *,
    dry_run: bool = False,
    root: str | os.PathLike[str] | None = None,
) -> list[Leftover]:
    """Remove the instances that are no longer wanted, each with all that is in its folder.

    Those are: instances that were in a table of their step, but not in its last one; those whose
    flow is gone; and those of a step that was renamed: another step has run the same flow since,
    with the same instances and configs. Instances that were in no table stay, and so do those that
    run, and folders that are links.

    Args:
        step: Only those of this step.
        dry_run: Remove nothing.
        root: The project root; found from where the caller is, if left out.

    Returns:
        Those that were removed, or would be, and those that had to stay; see `kept`.

    Raises:
        NameRefused: The step's name is not a valid folder name.
        FlowNotFound: A flow is gone because its whole folder is, as where a drive is not mounted.
    """
    project = project_root(root)
    found = leftovers(project, None if step is None else check_name(step, "step"))
    return found if dry_run else remove(found, project)


def leftovers(root: Path, step: str | None = None) -> list[Leftover]:
    """The instances that are no longer wanted; see `prune`.

    Raises:
        FlowNotFound: A flow is gone because its whole folder is.
    """
    runs = list(all_runs(root))
    asked = {run.label for run in runs if step in (None, run.step)}
    known = [(run, reason) for run in runs if (reason := _why(run, root, run.label in asked))]
    labels = {run.label for run, _ in known}
    known += _renamed([run for run in runs if run.label not in labels], _read_from(runs, root))
    return sorted(
        (Leftover(run, why, _obstacle(run)) for run, why in known if step in (None, run.step)),
        key=lambda leftover: leftover.label,
    )


def left_by_table(root: Path, step: str) -> list[Leftover]:
    """Those of a step that its last table has left."""
    return [
        Leftover(run, NOT_IN_TABLE, _obstacle(run))
        for run in all_runs(root)
        if run.step == step and _has_left_table(run, root)
    ]


def remove(found: Iterable[Leftover], root: Path) -> list[Leftover]:
    """Remove instances.

    Returns:
        The same; of each that stays, why.
    """
    done = [_removed(each, root) for each in found]
    for step in {each.run.step for each in done}:
        forget(root, step, [e.run.instance for e in done if e.run.step == step and not e.kept])
    return done


# --- which ---------------------------------------------------------------------------------------


def _has_left_table(run: Run, root: Path) -> bool:
    return has_left(root, run.step, run.instance, run.known.started)


def _why(run: Run, root: Path, asked: bool) -> str:
    """Why an instance is not wanted, told from itself; empty if it is.

    Raises:
        FlowNotFound: It is asked about, and the whole folder of its flow is gone.
    """
    if _has_left_table(run, root):
        return NOT_IN_TABLE
    record = run.brief
    if Path(record.flow).is_absolute():  # outside the project: maybe only not here
        return ""
    try:
        flow_of(record, root)
    except FlowNotFound as e:
        if "may have become" in str(e):
            return ""
        gone = _gone_folder(record.flow, root)
        if gone and asked:
            raise FlowNotFound(
                f"nothing is pruned: {gone}, so it is not known whether {record.flow} of "
                f"{run.label} is gone for good; bring the folder back (mount its drive, mend the "
                "link), remove it if it is empty for good, or delete folders of runs by hand"
            ) from None
        return "" if gone else f"its flow {record.flow} is gone"
    return ""


def _gone_folder(flow: str, root: Path) -> str:
    """Which folder on the way to a flow is not there as a whole, in words; empty if all are.

    A subfolder may have gone with its last flow, as git does it; a project's folder of flows has
    not, and a link has led somewhere. An empty folder is what a drive leaves that is not mounted.
    """
    folders = PurePosixPath(flow).parents[:-1]  # from the innermost out, without the root
    whole = {PurePosixPath(name) for name in load_settings(root).flows} | set(folders[-1:])
    for folder in reversed(folders):
        path = root / folder
        link = path.is_symlink()
        try:
            if any(path.iterdir()):
                continue
        except FileNotFoundError:
            if link:
                return f"the link {folder} leads to {path.readlink()}, which is not there"
            if folder in whole:
                return f"the folder {folder} is not there"
            return ""
        except OSError as e:
            return f"the folder {folder} cannot be read ({e.strerror or e})"
        if link:
            return f"the link {folder} leads to {path.readlink()}, which is empty"
        return f"the folder {folder} is empty"
    return ""


def _read_from(runs: Iterable[Run], root: Path) -> set[str]:
    """Labels of the runs of which another step's run has read something."""
    below = Graph.of(runs, root).children.items()
    return {label for label, others in below if any(_step(o) != _step(label) for o in others)}


def _step(label: str) -> str:
    return label.partition("/")[0]


def _renamed(runs: list[Run], read: set[str]) -> Iterator[tuple[Run, str]]:
    """Those of steps that were renamed, and what their steps are called now.

    None of which another run has read something: that one may be wanted as it is.
    """
    steps: dict[tuple[str, str], dict[tuple[str, ...], Run]] = {}  # by flow and step
    for run in runs:
        told = run.record
        same = (run.instance, *(told.fingerprints.get(name, "") for name in ("config", "secrets")))
        of = (*same, jsonio.canonical([told.options, told.kernel.get("name")]))
        steps.setdefault((told.flow, run.step), {})[of] = run
    for (flow, step), old in steps.items():
        last = max(run.known.started for run in old.values())
        for (its_flow, its_step), new in steps.items():
            again = [new[key] for key in old if key in new]
            later = all(run.known.started > last for run in again)
            twin = its_flow == flow and its_step != step and len(again) == len(old)
            if twin and later and not any(run.label in read for run in old.values()):
                why = f"its step is {its_step} now, with the same flow, instances and configs"
                yield from ((run, why) for run in old.values())
                break


# --- how -----------------------------------------------------------------------------------------


def _obstacle(run: Run) -> str:
    if is_live(run):
        return "it is running"
    if run.dir.is_symlink() or run.dir.parent.is_symlink():
        return "its folder is a link"
    return ""


def _removed(leftover: Leftover, root: Path) -> Leftover:
    run = leftover.run
    kept = _obstacle(run)
    if kept:
        return attrs.evolve(leftover, kept=kept)
    aside = run.dir.parent / f".ductaflow-pruned-{uuid.uuid4().hex[:12]}"
    try:
        folder = instance_dir(root, run.step, run.instance)
        with instance_lock(run.paths):
            record = read_record(run.paths.record)
            if record is None or record.started != run.known.started:
                return attrs.evolve(leftover, kept="it has run meanwhile")
            if os.name == "posix":  # elsewhere a folder with an open file cannot be renamed
                _rename(folder, aside)
        if os.name != "posix":
            _rename(folder, aside)
        shutil.rmtree(aside)
    except DuctaflowError as e:
        return attrs.evolve(leftover, kept=str(e))
    except OSError as e:
        return attrs.evolve(leftover, kept=f"cannot remove {e.filename}: {e.strerror or e}")
    return leftover


def _rename(folder: Path, aside: Path) -> None:
    try:
        folder.rename(aside)
    except OSError as e:
        raise ArtifactError(f"cannot move {folder}: {e.strerror or e}") from e
