"""Let a run that is reused show its flow as it is written now: what it came to stays as it was.

    reused, but the flow's text is another ──lock──▶ decided anew ──▶ the new text's cells ──┐
                              the notebook as it was left ──▶ outputs, numbers, times ───────┴──▶
                                                                      notebook, report, record

Text that does not count for what a flow does, as markdown and comments, is edited more often than
code. Nothing runs for it, but what people read must be what is written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.documents.notebook import Notebook, read_notebook
from ductaflow.errors import ArtifactError, InstanceBusy
from ductaflow.execution.writers import WRITERS, Ended
from ductaflow.files import jsonio
from ductaflow.files.compression import compressed
from ductaflow.flows.meaning import meanings
from ductaflow.flows.syntax import language
from ductaflow.history.lock import instance_lock
from ductaflow.history.recordfile import read_record, write_record
from ductaflow.history.run import Run
from ductaflow.model.flows import INSERTED_TAGS, Cell, Flow, NbCell, Tag
from ductaflow.model.kinds import NoteKind
from ductaflow.model.options import RunOptions
from ductaflow.model.plans import Note
from ductaflow.model.records import CellRecord, RunRecord
from ductaflow.model.thisrun import THIS_RUN, cell_times
from ductaflow.plans.options import recorded_options
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.artifacts import ARTIFACTS, NOTEBOOK, Artifact, readable
from ductaflow.project.layout import ArtifactPaths
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.moves import is_moved, remove_left


def is_outdated(plan: InstancePlan, run: Run) -> bool:
    """Whether a run shows another text than that of its flow as it is now, or another path."""
    if not plan.step:
        return False
    told = run.brief
    return told.fingerprints.get("flow") != plan.fingerprints["flow"] or is_moved(plan, told)


def refreshed(plan: InstancePlan, run: Run, interpreters: Interpreters) -> Run:
    """A run that is reused, its notebook and report with the flow's text as it is now.

    The record follows a flow that was moved, and its files one that was renamed. Their text is left
    as it is where its folder is in use or cannot be written, where its notebook has been
    edited by hand, and where the change was accepted: then the notebook shows what has run.

    Args:
        plan: What was wanted.
        run: The run that is reused for it.
        interpreters: What a new run would have.
    """
    if not is_outdated(plan, run):
        return run
    record = read_record(run.paths.record)
    if record is None or not interpreters.decide(plan, record).reuse:
        return run  # another has run it meanwhile
    moved = is_moved(plan, record)
    fresh = _make(plan, record, run.paths) or (_carried(plan, record, run.paths) if moved else None)
    if fresh is None:
        return _followed(plan, record, run) if moved else run
    paths = ArtifactPaths.of(plan.directory, plan.flow.name) if moved else run.paths
    try:
        with instance_lock(run.paths):  # for as long as it takes to write three files
            if not fresh.based_on(run.paths):
                return run
            fresh.write(run.paths, paths)
    except (InstanceBusy, ArtifactError):
        return run  # it can still be reused, and is tried again when it is next reused
    return Run(read_record(paths.record) or record, paths, reused=True)


def _followed(plan: InstancePlan, record: RunRecord, run: Run) -> Run:
    """A run of which the notebook is not there, or compressed, under its flow's new name."""
    paths = ArtifactPaths.of(plan.directory, plan.flow.name)
    pairs = list(zip(run.paths.readable.values(), paths.readable.values(), strict=True))
    pairs += [(compressed(old), compressed(new)) for old, new in pairs]
    try:
        with instance_lock(run.paths):
            if read_record(run.paths.record) != record:
                return run
            for old, new in pairs:
                if old != new and old.exists():
                    old.replace(new)
            write_record(paths.record, attrs.evolve(record, flow=plan.flow_display))
    except (InstanceBusy, ArtifactError, OSError):
        return run  # it can still be reused, and is tried again when it is next reused
    return Run(read_record(paths.record) or record, paths, reused=True)


@final
@attrs.frozen
class _Fresh:
    """What is to be written, and what it was made of.

    Attributes:
        old_record: The record as it was.
        old_notebook: The notebook's bytes.
        record: The record as it is to be.
        notebook: The notebook's bytes.
        made: What is made of these anew, by kind; the rest stays as it is.
        old: What lay in the place of each of these.
    """

    old_record: RunRecord
    old_notebook: bytes
    record: RunRecord
    notebook: bytes
    made: Mapping[str, str | bytes] = attrs.field(factory=dict)
    old: Mapping[str, bytes] = attrs.field(factory=dict)

    def based_on(self, paths: ArtifactPaths) -> bool:
        """Whether what it was made of is still there."""
        try:
            same = paths.notebook.read_bytes() == self.old_notebook
        except OSError:
            return False
        same = same and all(  # links may have been written into a report
            _content(paths.path(ARTIFACTS[kind])) == old for kind, old in self.old.items()
        )
        return same and read_record(paths.record) == self.old_record

    def write(self, before: ArtifactPaths, paths: ArtifactPaths) -> None:
        """Write it, the record last: until then it is made again.

        Args:
            before: The files as they were.
            paths: Where they are to lie.
        """
        jsonio.write_atomic(paths.notebook, self.notebook)
        for kind, artifact in readable().items():
            if artifact is NOTEBOOK:
                continue
            content = self.made.get(kind)
            if content is None and before != paths:
                content = _content(before.path(artifact))
            if content is not None:
                jsonio.write_atomic(paths.path(artifact), content)
        write_record(paths.record, self.record)
        remove_left(before, paths)


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _make(plan: InstancePlan, record: RunRecord, paths: ArtifactPaths) -> _Fresh | None:
    """Make all of it with the new text; None where it is to stay."""
    try:
        data = paths.notebook.read_bytes()
        cells, metadata = read_notebook(data)
        options = {kind: _options(plan, record, ARTIFACTS[kind]) for kind in WRITERS}
    except (OSError, ValueError):
        return None
    sources = _sources(plan, cells)
    if sources is None:
        return None
    notebook = _notebook(plan, cells, metadata, sources)
    text = notebook.dumps()
    ours = hashlib.sha256(data).hexdigest() == record.notebook
    if not ours and text != data:  # the same if an earlier attempt was killed before its end
        return None
    new = _record(plan, record, cells, sources)
    new = attrs.evolve(new, notebook=hashlib.sha256(text).hexdigest())
    ended = Ended.of(new, notebook, plan.root, plan.directory)
    made: dict[str, str | bytes] = {}
    there: dict[str, bytes] = {}
    for kind, writer in WRITERS.items():
        old, told = _content(paths.path(ARTIFACTS[kind])), options[kind]
        if old is not None and told is not None:
            there[kind] = old
            made[kind] = writer(language(plan.flow), told).make(ended, old)
    return _Fresh(record, data, new, text, made, there)


def _carried(plan: InstancePlan, record: RunRecord, paths: ArtifactPaths) -> _Fresh | None:
    """The same with the text that is there, for a flow that was moved."""
    try:
        data = paths.notebook.read_bytes()
    except OSError:
        return None
    return _Fresh(record, data, attrs.evolve(record, flow=plan.flow_display), data)


def _options(plan: InstancePlan, record: RunRecord, artifact: Artifact) -> RunOptions | None:
    """The options that an artifact was made by, also if none is wanted now; None if none was.

    Raises:
        ValueError: A file that it needs is gone.
    """
    if artifact.is_wanted(plan.options):
        return plan.options  # they are the run's, or it would not be reused
    if artifact.was_wanted(record.options):
        return RunOptions(**recorded_options(record.options))
    return None


# --- which cell is which -------------------------------------------------------------------------


def _sources(plan: InstancePlan, old: Sequence[NbCell]) -> dict[int, list[int]] | None:
    """For each cell of the plan that runs, or has run, the old ones whose results it shows.

    Cells that do something are the same in both, one by one. Those of comments alone have numbers,
    and may have been the last when something was printed: what lies between two of the others is
    paired as it comes, and what is left over goes to the one before.

    Returns:
        Indexes into the plan's cells and into `old`; None if the cells are not the same.
    """
    before = [_cell(cell, index) for index, cell in enumerate(old)]
    after = [attrs.evolve(cell, number=index) for index, cell in enumerate(plan.cells)]
    groups = _groups(plan.flow, before), _groups(plan.flow, after)
    if [meaning for meaning, _ in groups[0]] != [meaning for meaning, _ in groups[1]]:
        return None
    found: dict[int, list[int]] = {}
    for (_, was), (_, now) in zip(*groups, strict=True):
        for position, index in enumerate(was):
            if now:
                found.setdefault(now[min(position, len(now) - 1)], []).append(index)
            elif old[index].get("outputs"):
                return None
    return found


def _cell(cell: NbCell, index: int) -> Cell:
    return Cell(cell["cell_type"], cell["source"], number=index, metadata=cell["metadata"])


def _groups(flow: Flow, cells: Sequence[Cell]) -> list[tuple[tuple[str, ...], list[int]]]:
    """The cells that run, each that does something with those of comments alone that follow it.

    What is before the first such cell comes first. Cells that ductaflow has inserted are known by
    their tags, whatever stands in them.
    """
    own = {c.number: _inserted(c) for c in cells if c.runs and _inserted(c)}
    doing = {c.number: m for c, m in meanings(attrs.evolve(flow, cells=tuple(cells)))} | own
    groups: list[tuple[tuple[str, ...], list[int]]] = [((), [])]
    for cell in cells:
        if cell.number in doing:
            groups.append((doing[cell.number], [cell.number]))
        elif cell.runs:
            groups[-1][1].append(cell.number)
    return groups


def _inserted(cell: Cell) -> tuple[str, ...]:
    return tuple(tag for tag in cell.tags if tag in INSERTED_TAGS)


# --- what it shows -------------------------------------------------------------------------------


def _notebook(
    plan: InstancePlan,
    old: Sequence[NbCell],
    metadata: Mapping[str, Any],
    sources: Mapping[int, Sequence[int]],
) -> Notebook:
    """The notebook with the new text and the old outputs."""
    notebook = Notebook(plan.cells, _metadata(plan, metadata))
    for index, cell in enumerate(plan.cells):
        before = [old[i] for i in sources.get(index, ())]
        if before:
            outputs = [output for each in before for output in each.get("outputs", ())]
            notebook.set_outputs(index, outputs)
            first = before[0]
            timing = cell_times(metadata, first)
            notebook.set_execution(index, first.get("execution_count"), timing)
        if _inserted(cell):  # with the notes of the run
            was = next((c for c in old if cell.tags == _tags(c)), None)
            if was is not None:
                notebook.set_source(index, was["source"])
    return notebook


def _tags(cell: NbCell) -> tuple[str, ...]:
    return tuple(cell["metadata"].get("tags", ()))


_OF_THE_RUN = ("kernelspec", "language_info", "widgets", "papermill")


def _metadata(plan: InstancePlan, old: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook's metadata: the header as it is now, and what the run has added to it."""
    header = plan.flow.metadata.get("ductaflow")
    own = header if isinstance(header, Mapping) else {}
    told = old.get("ductaflow", {})
    run = {k: v for k, v in told.items() if k in _TOLD_OF_THE_RUN}
    times = told.get(THIS_RUN)
    times = times if isinstance(times, Mapping) else told  # as earlier versions have it
    once = {k: v for k, v in times.items() if k in _TOLD_ONCE}
    kept = {name: old[name] for name in _OF_THE_RUN if name in old}
    if "flow" in run and run["flow"] != plan.flow_display:
        run["flow"] = plan.flow_display
        if isinstance(kept.get("papermill"), Mapping):
            name = NOTEBOOK.name(plan.flow.name)
            where = {"input_path": plan.flow_display, "output_path": name}
            kept["papermill"] = {**kept["papermill"], **where}
    return {**plan.flow.metadata, **kept, "ductaflow": {**own, **run, THIS_RUN: once}}


_TOLD_OF_THE_RUN = ("version", "flow", "step", "instance", "status")
_TOLD_ONCE = ("started", "duration")


# --- what the record says of cells ---------------------------------------------------------------


def _record(
    plan: InstancePlan,
    record: RunRecord,
    old: Sequence[NbCell],
    sources: Mapping[int, Sequence[int]],
) -> RunRecord:
    """The record, with the numbers and lines that cells have in the flow as it is now."""
    indexes = [i for i, cell in enumerate(old) if _is_recorded(_cell(cell, i))]
    by_index = dict(zip(indexes, record.cells, strict=False))
    found = []
    numbers: dict[str, str] = {}
    for index, cell in enumerate(plan.cells):
        if not _is_recorded(cell):
            continue
        before = [by_index[i] for i in sources.get(index, ()) if i in by_index]
        numbers |= {str(each.number): str(cell.number) for each in before}
        was = before[0] if before else CellRecord(0, None, "skipped")
        found.append(attrs.evolve(was, number=cell.number, line=cell.line))
    notes = tuple(_renumbered(note, numbers) for note in record.notes)
    return attrs.evolve(
        record,
        flow=plan.flow_display if is_moved(plan, record) else record.flow,
        fingerprints=plan.fingerprints,
        cells=tuple(found),
        notes=notes,
    )


def _is_recorded(cell: Cell) -> bool:
    return cell.runs or (cell.kind == "code" and Tag.SKIP in cell.tags)


def _renumbered(note: Note, numbers: Mapping[str, str]) -> Note:
    if note.kind != NoteKind.EARLY:
        return note
    told = _NUMBER.sub(lambda found: numbers.get(found[0], found[0]), note.message)
    return attrs.evolve(note, message=told)


_NUMBER = re.compile(r"(?<=\bcell )\d+")
