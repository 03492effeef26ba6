"""Runs that take less room: reports, notebooks and logs deleted or compressed, and made anew.

A run that was thinned is still reused: its record says what was taken away on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs

from ductaflow.documents.html import SharedParts, can_share, shared
from ductaflow.documents.notebook import read_notebook
from ductaflow.documents.widgets import WIDGET_STATE_MIME
from ductaflow.errors import ArtifactError
from ductaflow.execution.writers import WRITERS, Ended
from ductaflow.files import jsonio
from ductaflow.files.compression import compress as compress_file
from ductaflow.files.compression import compressed, kept, read
from ductaflow.history.lineage import root_of
from ductaflow.history.lock import instance_lock
from ductaflow.history.recordfile import read_record, write_record
from ductaflow.history.run import Run
from ductaflow.history.standing import is_live, standing_runs
from ductaflow.model.ages import seconds_of
from ductaflow.model.options import RunOptions
from ductaflow.plans.options import recorded_options
from ductaflow.project.artifacts import ARTIFACTS, REPORT, compressible, readable
from ductaflow.project.layout import ArtifactPaths, instance_dir
from ductaflow.project.names import check_name
from ductaflow.project.root import project_root


@attrs.frozen
class Thinned:
    """What was taken away of a run, or would be.

    Attributes:
        run: The run.
        deleted: What was deleted: `report`, `notebook`, `log`.
        compressed: What was compressed: `notebook`, `log`.
        shared: What shares with other runs now what it had itself: `report`.
    """

    run: Run
    deleted: tuple[str, ...]
    compressed: tuple[str, ...]
    shared: tuple[str, ...] = ()


def thin(
    runs: Iterable[Run] | str | None = None,
    *,
    delete: Sequence[str] | None = None,
    compress: Sequence[str] | None = None,
    share: bool = False,
    older_than: str | float | timedelta | None = None,
    dry_run: bool = False,
    root: str | os.PathLike[str] | None = None,
) -> list[Thinned]:
    """Let runs take less room; nothing runs again for it.

    What flows wrote, configs, records, and what another run has read stay. `make_report` makes a
    report anew while the notebook is there. Runs that go on are left alone.

    Args:
        runs: Which ones; a step's name for all of its; all of the project if left out.
        delete: What to delete of each: `report`, `notebook`, `log`. If left out, the report, or
            nothing with `share`.
        compress: What to compress with gzip: `notebook`, `log`; `Run.read_notebook` and
            `Run.read_log` read them as before. If left out, both, or nothing with `share`.
        share: Let reports share the styles and scripts that all of them have in common, as with
            `HtmlOptions(shared=True)`.
        older_than: Only runs that ended longer ago than this, as `30d`, or seconds.
        dry_run: Change nothing; say what would be done.
        root: The project root; found from where the caller is, if left out.

    Returns:
        What was done, an item for each run of which there was something to take away.

    Raises:
        ValueError: `delete` or `compress` names what it cannot, or both name the same, or reports
            are to be deleted and shared, or `older_than` is no age.
        InstanceBusy: A run has begun meanwhile.
        ArtifactError: A folder cannot be written.
    """
    delete = (() if share else (REPORT.kind,)) if delete is None else delete
    compress = (() if share else tuple(compressible())) if compress is None else compress
    _check(delete, compress, share)
    age = None if older_than is None else seconds_of(older_than, "older_than")
    if runs is None or isinstance(runs, str):
        project = project_root(root)
        step = None if runs is None else check_name(runs, "step")
        found: Iterable[Run] = standing_runs(project, step)
    else:
        found = runs
    chosen = list(found)
    done, wanted = [], _read_by_runs(chosen)
    for run in chosen:
        if is_live(run) or (age is not None and not _is_older(run, age)):
            continue
        planned = _planned(run, delete, compress, share, wanted)
        if planned.deleted or planned.compressed or planned.shared:
            if not dry_run:
                _carry_out(planned)
            done.append(planned)
    return done


def make_report(run: Run) -> Path:
    """Make a run's HTML report anew from its notebook, without running it.

    One that was deleted gets links to its neighbours with the next `collate`. A report that shares
    its styles with others goes on doing so, and brings those back that were deleted.

    Args:
        run: The run; its notebook may be compressed.

    Returns:
        The report.

    Raises:
        ArtifactError: It has no notebook that can be read, or the report cannot be written.
        InstanceBusy: It is being run.
    """
    return make_again(run, REPORT.kind)


def make_again(run: Run, kind: str) -> Path:
    """Make what is made of a run's notebook and record anew; see `make_report`.

    Args:
        run: The run; its notebook may be compressed.
        kind: Which artifact, one of `WRITERS`.

    Returns:
        Its file.

    Raises:
        ArtifactError, InstanceBusy: See `make_report`.
    """
    artifact = ARTIFACTS[kind]
    file = run.paths.path(artifact)
    with instance_lock(run.paths):
        record = read_record(run.paths.record) or run.record
        try:
            cells, metadata = read_notebook(read(run.paths.notebook))
        except (OSError, ValueError, EOFError) as e:
            raise ArtifactError(
                f"{run.label} has no notebook of which a {artifact.text} could be made: {e}. "
                "Run it again."
            ) from e
        options = RunOptions(**recorded_options(record.options))
        written_in = metadata.get("language_info", {}).get("name", "python")
        widgets = metadata.get("widgets", {}).get(WIDGET_STATE_MIME)
        root = root_of(run) if run.step else run.dir
        ended = Ended(record, cells, widgets, root, run.dir)
        try:
            old = file.read_bytes() if file.is_file() else None
        except OSError as e:
            raise ArtifactError(f"cannot read {file}, which is to be made again: {e}") from e
        jsonio.write_atomic(file, WRITERS[kind](written_in, options).make(ended, old))
        _note(run.paths, (name for name in record.thinned if name != kind))
    return file


def _check(delete: Sequence[str], compress: Sequence[str], share: bool) -> None:
    for name, given, known in (
        ("delete", delete, readable()),
        ("compress", compress, compressible()),
    ):
        if isinstance(given, str) or (unknown := [x for x in given if x not in known]):
            told = given if isinstance(given, str) else unknown[0]
            raise ValueError(f"{name} must be a list of {', '.join(known)}, not {told!r}")
    if both := [name for name in delete if name in compress]:
        raise ValueError(f"{both[0]!r} is to be deleted and compressed; name it once")
    if share and REPORT.kind in delete:
        raise ValueError(f"{REPORT.kind!r} is to be deleted, and cannot be shared; choose one")


def _is_older(run: Run, seconds: float) -> bool:
    ended = run.brief.finished or run.brief.started
    now = datetime.now(timezone.utc)
    return bool(ended) and (now - datetime.fromisoformat(ended)).total_seconds() > seconds


def _read_by_runs(runs: Iterable[Run]) -> set[Path]:
    """What may be thinned, as far as flows have read it: it is data of others."""
    ends = tuple(Path(artifact.name("flow")).suffix for artifact in readable().values())
    return {
        root / fact.path
        for root in {root_of(run) for run in runs if run.step}
        for run in standing_runs(root)
        for fact in run.record.inputs
        if fact.path.endswith(ends)
    }


def _planned(
    run: Run, delete: Sequence[str], compress: Sequence[str], share: bool, wanted: set[Path]
) -> Thinned:
    free = {name: file for name, file in run.paths.readable.items() if file not in wanted}
    return Thinned(
        run,
        tuple(name for name in delete if name in free and kept(free[name]).exists()),
        tuple(name for name in compress if name in free and free[name].exists()),
        (REPORT.kind,) if share and REPORT.kind in free and _can_share(run) else (),
    )


def _can_share(run: Run) -> bool:
    page = _page(run.html) if run.step else None
    return page is not None and can_share(page)


def _page(report: Path) -> str | None:
    try:
        return report.read_bytes().decode("utf-8", "surrogatepass")
    except (OSError, ValueError):
        return None


def _carry_out(planned: Thinned) -> None:
    run = planned.run
    if run.step:
        instance_dir(root_of(run), run.step, run.instance)  # refuses a link out of runs/
    with instance_lock(run.paths):
        record = read_record(run.paths.record)
        # The record is first: a deleted file that it does not know of would have the run run again.
        _note(run.paths, [*(record.thinned if record is not None else ()), *planned.deleted])
        try:
            for name in planned.deleted:
                for file in _forms(run.paths, name):
                    file.unlink(missing_ok=True)
            for name in planned.compressed:
                compress_file(run.paths.readable[name])
            if planned.shared and (page := _page(run.html)) is not None:
                parts = SharedParts.seen_from(run.dir, root_of(run), run.label)
                jsonio.write_atomic(run.html, shared(page, parts))
        except OSError as e:
            raise ArtifactError(
                f"cannot thin {run.label}: {e}. Make {run.dir} writable, and thin again."
            ) from e


def _forms(paths: ArtifactPaths, name: str) -> Iterator[Path]:
    file = paths.readable[name]
    yield file
    yield compressed(file)


def _note(paths: ArtifactPaths, thinned: Iterable[str]) -> None:
    """Let the record say what is gone on purpose."""
    record = read_record(paths.record)
    if record is not None:
        names = tuple(dict.fromkeys(thinned))
        if names != record.thinned:
            write_record(paths.record, attrs.evolve(record, thinned=names))
