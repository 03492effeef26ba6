"""Verify results: run again what would be reused, in a scratch folder, and compare.

would it be reused? ──▶ could it be run again safely? ──▶ scratch folder ──▶ run ──▶ compare
                                                                    what did it use that
                                                                    its record does not list?
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import attrs
from ductaflow_kernels.pool import shared_pool

from ductaflow.errors import DuctaflowError
from ductaflow.execution.engine import execute
from ductaflow.execution.outcome import Stop
from ductaflow.execution.runner import interruptible
from ductaflow.files.compression import kept, read
from ductaflow.history.catalog import load_run
from ductaflow.history.lock import instance_lock
from ductaflow.history.recordfile import read_record
from ductaflow.history.run import Run
from ductaflow.model.facts import FileFact, Reason, Role
from ductaflow.model.kinds import ReasonKind
from ductaflow.model.options import RunOptions
from ductaflow.model.records import RunRecord
from ductaflow.model.verification import (
    Difference,
    Verification,
    VerificationOutcome,
    Verifications,
)
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.artifacts import NOTEBOOK
from ductaflow.project.environment import kernel_environment
from ductaflow.project.layout import ArtifactPaths, instance_dir, runs_dir, runs_name
from ductaflow.project.root import project_root
from ductaflow.reuse.comparison import Pair, compare_files, compare_notebooks
from ductaflow.reuse.hosts import listed
from ductaflow.reuse.interpreters import Interpreters, kernel_spec
from ductaflow.reuse.repeat import plan_again
from ductaflow.reuse.scratchtree import scratch_tree
from ductaflow.text.volatile import Circumstances

_SHOWN = 5  # files in a reason
_NOT_RESULTS = ("__pycache__", ".ipynb_checkpoints")


def verify(
    step: Run | str, instance: str | None = None, *, root: str | os.PathLike[str] | None = None
) -> Verification:
    """Run an instance again that would be reused, in a scratch folder, and compare the two.

    Outputs are compared cell by cell, without what is of one run only (addresses, made-up ids, the
    time, how long it took); files byte for byte or, for parquet, images, notebooks, archives and
    the like, by content; and what was published with `record()`. The instance's own folder is left
    as it is.

    Args:
        step: The step's name; or the run itself, or `step/instance`, without `instance`.
        instance: The instance's name.
        root: The project root; found from where the caller is, if left out.

    Returns:
        What was found. Not verified is what would run anyway (`stale`), and what cannot be run
        again without harm to what is there (`refused`): its `reasons` say why.

    Raises:
        DuctaflowError: There is no such run.
        InstanceBusy: It is running.
        KeyboardInterrupt: It was interrupted.
    """
    project = project_root(root)
    if isinstance(step, Run):
        run = step
    else:
        name, _, inner = (step, "", instance) if instance is not None else step.partition("/")
        found = load_run(instance_dir(project, name, inner or ""))
        if found is None:
            raise DuctaflowError(
                f"there is no run {name}/{inner} in {runs_dir(project)}; `ductaflow ls` lists them"
            )
        run = found
    return verify_runs([run], project)[0]


def sampled(runs: Sequence[Run], fraction: float) -> list[Run]:
    """Some of the runs, at least one if there are any, drawn anew each time.

    Args:
        runs: The runs.
        fraction: How many of them, from 0 to 1.
    """
    count = min(len(runs), max(1, round(fraction * len(runs)))) if fraction else 0
    chosen = set(random.Random().sample(range(len(runs)), count))  # noqa: S311
    return [run for number, run in enumerate(runs) if number in chosen]


def checked_fraction(value: object, name: str = "verify") -> float:
    """The fraction, if it is one.

    Raises:
        TypeError, ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number from 0 to 1, as 0.02, not {value!r}")
    if not 0 <= value <= 1 or math.isnan(value):
        raise ValueError(f"{name} must be from 0 to 1, as 0.02 for 2 %, not {value!r}")
    return float(value)


def verify_runs(
    runs: Sequence[Run], root: Path, options: RunOptions | None = None, workers: int = 1
) -> Verifications:
    """Verify runs, several at once.

    Args:
        runs: The runs.
        root: The project root.
        options: How a new run would be made; as each was made, if left out.
        workers: How many at once.

    Raises:
        KeyboardInterrupt: It was interrupted; scratch folders are removed.
    """
    stop = Stop()
    with interruptible(stop), ThreadPoolExecutor(max(1, workers)) as threads:
        found = list(threads.map(lambda run: _verify(run, root, options, stop), runs))
    if stop.requests:
        raise KeyboardInterrupt("verifying was interrupted; nothing of it is left")
    return Verifications(tuple(found))


def _verify(run: Run, root: Path, options: RunOptions | None, stop: Stop) -> Verification:
    fact = Verification(run.step, run.instance, VerificationOutcome.STALE)
    try:
        plan = plan_again(run, root)
    except DuctaflowError as e:
        return attrs.evolve(fact, reasons=(Reason(ReasonKind.FLOW, str(e)),))
    if options is not None:
        plan = attrs.evolve(plan, options=options)
    plan = attrs.evolve(plan, options=attrs.evolve(plan.options, reuse=True, force=False))
    with instance_lock(run.paths):
        record = read_record(run.paths.record)
        interpreters = Interpreters(kernel_environment(root))
        decision = interpreters.decide(plan, record)
        if record is None or not decision.reuse:
            return attrs.evolve(fact, reasons=decision.reasons)
        harm = tuple(_harm(plan, record))
        if harm:
            return attrs.evolve(fact, outcome=VerificationOutcome.REFUSED, reasons=harm)
        return _run_again(plan, record, run.paths, stop)


# --- may it be run again? ------------------------------------------------------------------------


def _harm(plan: InstancePlan, record: RunRecord) -> Iterator[Reason]:
    """Why a run cannot be made again without harm, or not as it was."""
    own = _own(plan)
    outside = [fact.path for fact in record.outputs if not fact.path.startswith(own)]
    if outside:
        yield Reason(
            ReasonKind.OUTPUT, f"it writes outside its folder: {_some(outside)}", outside[0]
        )
    written = {fact.path for fact in record.outputs}
    data = [fact.path for fact in record.inputs if fact.role == Role.DATA.value]
    rewritten = [path for path in data if path in written]
    if rewritten:
        why = f"it has rewritten what it read: {_some(rewritten)}"
        yield Reason(ReasonKind.DATA, why, rewritten[0])
    gone = [path for path in data if not (plan.root / path).exists()]
    if gone:
        yield Reason(ReasonKind.DATA, f"what it read is no longer there: {_some(gone)}", gone[0])


def _own(plan: InstancePlan) -> str:
    return f"{runs_name(plan.root)}/{plan.step}/{plan.instance}/"


def _some(paths: Sequence[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


# --- run and compare -----------------------------------------------------------------------------


def _run_again(
    plan: InstancePlan, record: RunRecord, paths: ArtifactPaths, stop: Stop
) -> Verification:
    begin = f"{runs_name(plan.root)}/"
    folders = [f.path.removeprefix(begin) for f in record.inputs if f.role == Role.FOLDER.value]
    with scratch_tree(plan.root, plan.step, plan.instance, folders) as (base, folder):
        kept = _keep(plan, record, base)
        given = _give(plan, record, folder)
        options = attrs.evolve(plan.options, html=False)
        again = attrs.evolve(plan, directory=folder, options=options)
        new_paths = ArtifactPaths.of(folder, plan.flow.name)
        spec = kernel_spec(plan.flow, plan.options.kernel_name)
        reasons = (Reason(ReasonKind.VERIFY, "it is run again to compare"),)
        now = execute(again, new_paths, spec, shared_pool(), stop, None, reasons)
        now = _as_in_runs(now, base, plan.root)
        fact = Verification(
            plan.step, plan.instance, VerificationOutcome.REPRODUCES, duration=now.duration
        )
        touched = _put_back(plan, now, kept)
        if touched:
            why = (
                "it writes into its folder by an absolute path, wherever it runs; what was there "
                f"has been put back: {_some(touched)}"
            )
            return attrs.evolve(
                fact, outcome=VerificationOutcome.REFUSED, reasons=(Reason(ReasonKind.OUTPUT, why),)
            )
        pair = _pair(record, now, base, plan.root)
        found = (
            *_run_differs(record, now),
            *_cells_differ(plan, record, paths, new_paths, pair),
            *_files_differ(plan, record, now, folder, given, pair),
        )
    fact = attrs.evolve(fact, left_out=_left_out(record, paths))
    if not found:
        return fact
    causes = tuple(_causes(plan, record, now))
    return attrs.evolve(fact, outcome=VerificationOutcome.DIFFERS, differences=found, causes=causes)


@attrs.frozen
class _Kept:
    """A file of the instance, as it was before the new run."""

    path: Path
    copy: Path
    stamp: tuple[int, int, int]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _keep(plan: InstancePlan, record: RunRecord, base: Path) -> list[_Kept]:
    """Copy what the run has left: the new one may write there by an absolute path."""
    store = base / ".kept"
    store.mkdir()
    kept = []
    for number, fact in enumerate(record.outputs):
        path = plan.root / fact.path
        stamp = _stamp(path)
        if stamp is not None:
            shutil.copy2(path, store / str(number))
            kept.append(_Kept(path, store / str(number), stamp))
    return kept


def _put_back(plan: InstancePlan, now: RunRecord, kept: Sequence[_Kept]) -> list[str]:
    """Put back what the new run has changed in the instance's folder; which files those are."""
    touched = []
    for each in kept:
        if _stamp(each.path) != each.stamp:
            partial = each.path.with_name(f".ductaflow-{each.path.name}")
            shutil.copy2(each.copy, partial)
            partial.replace(each.path)
            touched.append(each.path.name)
    known = {each.path for each in kept}
    for fact in now.outputs:
        path = plan.root / fact.path
        if path.is_relative_to(plan.directory) and path not in known and _is_new(fact, now):
            path.unlink(missing_ok=True)
            touched.append(path.name)
    return touched


def _is_new(fact: FileFact, now: RunRecord) -> bool:
    """Whether a file was changed since the run began."""
    return fact.mtime_ns >= datetime.fromisoformat(now.started).timestamp() * 1e9


def _give(plan: InstancePlan, record: RunRecord, folder: Path) -> set[Path]:
    """Give the new run what the record says was read in its folder."""
    own = _own(plan)
    given: set[Path] = set()
    for fact in record.inputs:
        path = plan.root / fact.path
        if fact.path.startswith(own) and path.is_file():
            copy = folder / fact.path.removeprefix(own)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
            given.add(copy)
    return given


def _as_in_runs(now: RunRecord, base: Path, root: Path) -> RunRecord:
    """The record with paths in the scratch folder as they would be below the folder of all runs."""
    here, there = f"{base}/", f"{runs_name(root)}/"

    def placed(fact: FileFact) -> FileFact:
        full = str(root / fact.path)
        real = f"{os.path.realpath(Path(full).parent)}/{Path(full).name}"
        for path in (full, real):
            if path.startswith(here):
                inside = f"{_SCRATCH}{there}" + path.removeprefix(here)
                return attrs.evolve(fact, path=inside)
        return fact

    inputs = tuple(
        attrs.evolve(f, path=f.path.removeprefix(_SCRATCH)) for f in map(placed, now.inputs)
    )
    return attrs.evolve(now, inputs=inputs, outputs=tuple(map(placed, now.outputs)))


_SCRATCH = "scratch:"
"""Before the path of an output that is in the scratch folder, where it may be."""


def _pair(record: RunRecord, now: RunRecord, base: Path, root: Path) -> Pair:
    runs = runs_dir(root)
    places = ((str(base), str(runs)), (base.name, runs.name), (os.path.realpath(runs), str(runs)))
    return Pair(_circumstances(record, places[2:]), _circumstances(now, places))


def _circumstances(record: RunRecord, places: tuple[tuple[str, str], ...]) -> Circumstances:
    pids = {record.kernel.get("pid"), record.conductor.get("pid")}
    began = datetime.fromisoformat(record.started)
    ended = datetime.fromisoformat(record.finished) if record.finished else _now()
    return Circumstances(began, ended, frozenset(p for p in pids if type(p) is int), places)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _run_differs(record: RunRecord, now: RunRecord) -> Iterator[Difference]:
    if not now.status.ok:
        why = now.error.sentence(now.flow) if now.error is not None else now.status.label
        yield Difference("run", "the run", now.status.label, record.status.label, why)
    for name in dict.fromkeys([*record.metrics, *now.metrics]):
        was, is_now = (json.dumps(r.metrics.get(name), default=str) for r in (record, now))
        if was != is_now:
            yield Difference("metric", f"metric {name}", "differs", was, is_now)
    outside = [f.path for f in now.outputs if not f.path.startswith(_SCRATCH)]
    if outside:
        yield Difference("file", _some(outside), "was written, outside the instance's folder")


def _left_out(record: RunRecord, paths: ArtifactPaths) -> tuple[str, ...]:
    """What cannot be compared, because it was deleted on purpose."""
    if NOTEBOOK.kind not in record.thinned or kept(paths.notebook).exists():
        return ()
    return ("its cells were not compared: its notebook has been deleted by thin",)


def _cells_differ(
    plan: InstancePlan,
    record: RunRecord,
    paths: ArtifactPaths,
    new_paths: ArtifactPaths,
    pair: Pair,
) -> Iterator[Difference]:
    if _left_out(record, paths):
        return
    try:
        before = json.loads(read(paths.notebook))
        after = json.loads(new_paths.notebook.read_bytes())
    except (OSError, ValueError) as e:
        yield Difference("file", paths.notebook.name, f"cannot be read: {e}")
        return
    numbers = [cell.number for cell in plan.cells if cell.kind == "code"]
    yield from compare_notebooks(before, after, numbers, pair)


def _files_differ(
    plan: InstancePlan,
    record: RunRecord,
    now: RunRecord,
    folder: Path,
    given: Collection[Path],
    pair: Pair,
) -> Iterator[Difference]:
    """What differs in the files of both; `plan` is of the run that is verified."""
    own = _own(plan)
    names = [fact.path.removeprefix(own) for fact in record.outputs]
    known = {f.path.removeprefix(f"{_SCRATCH}{own}") for f in now.outputs}
    artifacts = {p.name for p in ArtifactPaths.of(folder, plan.flow.name).all()}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parts = set(Path(name).parts)
        ours = name in artifacts or not parts.isdisjoint(_NOT_RESULTS)
        if path.is_file() and not ours and (path not in given or name in known):
            names.append(name)
    for name in dict.fromkeys(names):
        before, after = plan.directory / name, folder / name
        try:
            if not after.is_file():
                yield Difference("file", name, "is not written any more")
            elif not before.is_file():
                yield Difference("file", name, "was not there before")
            else:
                found = compare_files(before, after, pair)
                if found is not None:
                    yield attrs.evolve(found, where=name)
        except OSError as e:
            yield Difference("file", name, f"cannot be read: {e.strerror or e}")


# --- why -----------------------------------------------------------------------------------------


def _causes(plan: InstancePlan, record: RunRecord, now: RunRecord) -> Iterator[Reason]:
    """What the new run used that the record does not list, or lists otherwise."""
    yield from _files_missed(plan, record, now)
    for name, value in now.variables.items():
        if name not in record.variables:
            why = f"it reads the environment variable {name}, which its record does not list"
            yield Reason(ReasonKind.VARIABLE, why)
        elif record.variables[name] != value:
            yield Reason(
                ReasonKind.VARIABLE, f"the environment variable {name} is another than before"
            )
    for name, version in now.packages.items():
        was = record.packages.get(name)
        if was != version:
            told = f"{name} {version}, which its record " + (
                "does not list" if was is None else f"has as {was}"
            )
            yield Reason(ReasonKind.PACKAGE, f"it imports {told}")
    if now.hosts:
        yield Reason(ReasonKind.NETWORK, f"it reads from {listed(now.hosts)}")


_COMPARED = frozenset(role.value for role in (Role.DATA, Role.MODULE))


def _files_missed(plan: InstancePlan, record: RunRecord, now: RunRecord) -> Iterator[Reason]:
    known = {(fact.path, fact.role == Role.FOLDER.value): fact for fact in record.inputs}
    ended = datetime.fromisoformat(record.finished or record.started).timestamp() * 1e9
    own = _own(plan)
    for fact in now.inputs:
        was = known.get((fact.path, fact.role == Role.FOLDER.value))
        if was is None and not fact.path.startswith(own):
            since = " and has changed since" if fact.mtime_ns > ended else ""
            what = "lists" if fact.role == Role.FOLDER.value else "uses"
            why = f"it {what} {fact.path}, which its record does not list{since}"
            yield Reason(fact.role, why, fact.path)
    # The bytes themselves: what a record says of a file may hold although the file is another one.
    for fact in record.inputs:
        bytes_count = fact.role in _COMPARED and fact.sha256 and not fact.path.endswith("run.json")
        if bytes_count and _changed(plan.root / fact.path, fact):
            why = f"{fact.path} has other bytes than before, though size and time are the same"
            yield Reason(fact.role, why, fact.path)


def _changed(path: Path, fact: FileFact) -> bool:
    """Whether a file has other bytes than a record says, but is taken for the same."""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError:
        return False
    found = path.stat()
    same = (found.st_size, found.st_mtime_ns) == (fact.size, fact.mtime_ns)
    return same and digest.hexdigest() != fact.sha256
