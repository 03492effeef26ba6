"""Where a flow lies now that was moved or renamed since a run, and what it had left by then."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ductaflow.errors import DuctaflowError, FlowNotFound
from ductaflow.files.compression import compressed
from ductaflow.flows.finding import flow_files, resolve_flow
from ductaflow.flows.reading import read_flow
from ductaflow.history.recordfile import read_record
from ductaflow.model.records import RunRecord
from ductaflow.plans.fingerprint import fingerprints
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.layout import ArtifactPaths, iter_instances, iter_steps, record_in, runs_dir
from ductaflow.project.settings import load_settings


def is_moved(plan: InstancePlan, record: RunRecord) -> bool:
    """Whether a plan's flow lies elsewhere than the record's did, which is gone."""
    return record.flow != plan.flow_display and not (plan.root / record.flow).exists()


def paths_left(plan: InstancePlan, record: RunRecord) -> ArtifactPaths:
    """The artifacts of the last run in a plan's folder, under the name that its flow had then."""
    renamed = PurePosixPath(record.flow).stem != plan.flow.name and is_moved(plan, record)
    name = PurePosixPath(record.flow).stem if renamed else plan.flow.name
    return ArtifactPaths.of(plan.directory, name)


def remove_left(left: ArtifactPaths, now: ArtifactPaths) -> None:
    """Remove the artifacts that a renamed flow has left under its earlier name."""
    if left.flow != now.flow:
        for path in set(left.readable.values()).difference(now.readable.values()):
            path.unlink(missing_ok=True)
            compressed(path).unlink(missing_ok=True)


def flow_of(record: RunRecord, root: Path) -> Path:
    """The flow file of a run, also if it was moved or renamed since.

    It has the same code, or the same name if no other step has run it; one that was renamed has no
    step of its own in `runs/` yet.

    Args:
        record: The run's record.
        root: The project root.

    Raises:
        FlowNotFound: It is gone, or may be one of several.
    """
    before = root / record.flow
    if before.is_file():
        return before
    folders = [*(root / folder for folder in load_settings(root).flows), before.parent]
    files = list(dict.fromkeys(f for folder in folders for f in flow_files(folder)))
    same_name = [f for f in files if f.name == before.name]
    chosen = [f for f in same_name or files if _same_code(f, record)]
    if len(same_name) == 1 and not chosen and not _is_of_another(same_name[0], record, root):
        chosen = same_name  # moved, and edited
    if not same_name:
        chosen = [f for f in chosen if f.stem == record.step or not _has_step(f, root)]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen and not same_name:
        return resolve_flow(record.flow, root, root)
    told = ", ".join(f.relative_to(root).as_posix() for f in chosen or same_name)
    raise FlowNotFound(
        f"{record.flow}: there is no such flow file; it may have become one of {told}: "
        "run the one that is meant as this instance"
    )


def _same_code(file: Path, record: RunRecord) -> bool:
    try:
        found = fingerprints(read_flow(file), None)
    except DuctaflowError:
        return False
    return found["code"] == record.fingerprints.get("code")


def _is_of_another(file: Path, record: RunRecord, root: Path) -> bool:
    """Whether another step has run this flow."""
    others = (step for step in iter_steps(root) if step != record.step)
    folders = (folder for step in others for folder in iter_instances(root, step))
    known = (read_record(record_in(folder)) for folder in folders)
    return any(each is not None and root / each.flow == file for each in known)


def _has_step(file: Path, root: Path) -> bool:
    return (runs_dir(root) / file.stem).is_dir()
