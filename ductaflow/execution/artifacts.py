"""What one run leaves in its folder, and keeps up to date while it runs."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import attrs
from ductaflow_kernels.processes.machine import start_thread

from ductaflow.documents.html import Fragment, Head, SharedParts, renderer, shared
from ductaflow.documents.notebook import FAILING_ANCHOR, Notebook
from ductaflow.documents.runlog import RunLog
from ductaflow.errors import ArtifactError
from ductaflow.files import jsonio
from ductaflow.files.compression import compressed
from ductaflow.flows.syntax import language
from ductaflow.history.recordfile import write_record
from ductaflow.model.flows import Cell, NbCell, Tag
from ductaflow.model.htmloptions import HtmlOptions
from ductaflow.model.plans import Note
from ductaflow.model.records import RunRecord
from ductaflow.plans.configtable import config_table
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.layout import ArtifactPaths, runs_dir
from ductaflow.project.names import INDEX_PAGE
from ductaflow.text.times import local_time

SAVE_EVERY = 1.0  # seconds between saves of the running notebook
SAVE_SHARE = 10  # at most a tenth of the time goes into such saves


@final
@attrs.define(eq=False)
class Artifacts:
    """The files of one run.

    Attributes:
        paths: Where they lie.
        notebook: The executed notebook as it stands.
        log: The run's log.
    """

    plan: InstancePlan
    paths: ArtifactPaths
    notebook: Notebook
    log: RunLog
    _fragments: dict[int, Fragment] = attrs.field(factory=dict)
    _due: float = 0.0
    _unsaved: bool = False

    @classmethod
    def begin(
        cls, plan: InstancePlan, paths: ArtifactPaths, notebook: Notebook, record: RunRecord
    ) -> Artifacts:
        """Write what must be there before the first cell runs: config, record, log.

        Raises:
            ArtifactError: One of them cannot be written; an earlier run's notebook is intact.
        """
        if plan.options.html:
            _warm_up_renderer()
        if plan.config is not None:
            jsonio.write_atomic(paths.config, jsonio.dumps(plan.config) + "\n")
        for file in (paths.notebook, paths.log):  # of an earlier run that was thinned
            compressed(file).unlink(missing_ok=True)
        log = RunLog.create(paths.log)
        try:
            write_record(paths.record, record)
        except ArtifactError:
            log.close()
            raise
        return cls(plan, paths, notebook, log)

    def changed(self, *cells: int) -> None:
        """Cells have new outputs or timing."""
        for index in cells:
            self._fragments.pop(index, None)
        if not self._unsaved:
            self._unsaved = True
            self._due = max(self._due, time.monotonic() + SAVE_EVERY)

    def insert(self, index: int, cell: Cell) -> None:
        """Put a cell of our own before the one at `index`."""
        self.notebook.insert(index, cell)
        self._fragments = {i + (i >= index): part for i, part in self._fragments.items()}

    def tell(self, notes: Sequence[Note]) -> None:
        """Let the table at the top tell these notes, if there is one."""
        first = self.notebook.cell(0)
        if self.plan.config is not None and Tag.CONFIG_TABLE in first["metadata"].get("tags", ()):
            self.notebook.set_source(0, config_table(self.plan.config, notes))
            self.changed(0)

    def prepare(self) -> None:
        """Make the parts of what will not change, while the kernel begins."""
        for index in range(len(self.notebook)):
            if self.notebook.cell(index)["cell_type"] != "code":
                self.settled(index)

    def settled(self, index: int) -> None:
        """A cell is over: make its parts of notebook and HTML now, while the kernel goes on."""
        self.notebook.prepare(index)
        if self.plan.options.html:
            self._fragment(index)

    def follow(self, now: float) -> None:
        """Bring the notebook on disk and the log up to date, if it is time to.

        Args:
            now: A monotonic clock's seconds.
        """
        self.log.flush(now)
        if self._unsaved and now >= self._due:
            self.save_notebook()
            end = time.monotonic()
            self._due = end + max(SAVE_EVERY, SAVE_SHARE * (end - now))

    def save_notebook(self) -> str:
        """Write the notebook as it stands; the SHA-256 of what it has become.

        Raises:
            ArtifactError: It cannot be written.
        """
        text = self.notebook.dumps()
        jsonio.write_atomic(self.paths.notebook, text)
        self._unsaved = False
        return hashlib.sha256(text).hexdigest()

    def finish(self, record: RunRecord) -> RunRecord:
        """Write the final notebook, HTML and record; the record as written.

        Raises:
            ArtifactError: One of them cannot be written.
        """
        self.log.close()
        record = attrs.evolve(record, notebook=self.save_notebook())
        looks = self.plan.options.looks
        if looks is not None:
            fragments = [self._fragment(index) for index in range(len(self.notebook))]
            widgets = self.notebook.widget_state
            page = report_page(
                record, fragments, widgets, looks, self.plan.root, self.paths.directory
            )
            jsonio.write_atomic(self.paths.html, page)
        write_record(self.paths.record, record)
        return record

    def _fragment(self, index: int) -> Fragment:
        if index not in self._fragments:
            looks = self.plan.options.looks
            self._fragments[index] = report_cell(
                self.notebook.cell(index), language(self.plan.flow), looks
            )
        return self._fragments[index]


def report_cell(cell: NbCell, written_in: str, looks: HtmlOptions | None) -> Fragment:
    """A cell as the report shows it, of a notebook in that language."""
    return renderer().cell(
        cell,
        language=written_in,
        fold_lines=looks.fold_lines if looks is not None else None,
        scripts=looks is None or looks.scripts,
    )


def report_page(
    record: RunRecord,
    fragments: Sequence[Fragment],
    widget_state: Mapping[str, Any] | None,
    looks: HtmlOptions,
    root: Path,
    directory: Path,
) -> str:
    """The report: a run's cells, and the bar over them.

    Args:
        record: The run's record.
        fragments: The cells.
        widget_state: The state of the notebook's widgets.
        looks: How it is to look. Only an instance's report shares what all have in common.
        root: The project root.
        directory: The folder that the report goes to.

    Raises:
        ArtifactError: What it shares cannot be written.
    """
    title = " / ".join(p for p in (record.step, record.instance) if p)
    page = renderer().page(
        fragments,
        title=title or Path(record.flow).stem,
        widget_state=widget_state,
        head=_head(record, looks, root),
    )
    if not (looks.shared and record.step):
        return page
    label = f"{record.step}/{record.instance}"
    return shared(page, SharedParts.seen_from(directory, root, label))


def _head(record: RunRecord, looks: HtmlOptions, root: Path) -> Head:
    """What the bar over the report says."""
    status, light = f"{record.status.symbol} {record.status.label}", "success"
    if record.status.bad:
        light = "error"
    elif record.warnings:
        light = "warnings"
        status += f", {record.warnings} warning{'s' if record.warnings > 1 else ''}"
    facts = [] if record.duration is None else [f"{record.duration:.2f} s"]
    index = runs_dir(root) / INDEX_PAGE
    failing = record.error is not None and record.error.cell is not None
    return Head(
        name=f"{record.step} / {record.instance}" if record.step else Path(record.flow).stem,
        light=light,
        status=status,
        facts=(*facts, local_time(record.started, zone=True, seconds=False)),
        failing=FAILING_ANCHOR if failing else None,
        config=f"cell-id={Tag.CONFIG_TABLE}" if record.fingerprints.get("config") else None,
        options=looks,
        index=f"../../{INDEX_PAGE}" if record.step and index.is_file() else None,
    )


@lru_cache(maxsize=1)
def _warm_up_renderer() -> None:
    """Import nbconvert while the first kernel of this process starts."""

    def warm_up() -> None:
        with contextlib.suppress(Exception):  # the first cell that is rendered will tell
            renderer().warm_up()

    start_thread("ductaflow-html", warm_up)
