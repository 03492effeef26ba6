"""What one run leaves in its folder, and keeps up to date while it runs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import final

import attrs

from ductaflow.documents.notebook import Notebook
from ductaflow.documents.runlog import RunLog
from ductaflow.errors import ArtifactError
from ductaflow.execution.writers import Ended, Writer, writers_for
from ductaflow.files import jsonio
from ductaflow.files.compression import compressed
from ductaflow.flows.syntax import language
from ductaflow.history.recordfile import write_record
from ductaflow.model.flows import Cell, Tag
from ductaflow.model.plans import Note
from ductaflow.model.records import RunRecord
from ductaflow.plans.configtable import config_table
from ductaflow.plans.plan import InstancePlan
from ductaflow.project.artifacts import ARTIFACTS, compressible
from ductaflow.project.layout import ArtifactPaths

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
    _writers: Mapping[str, Writer]
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
        writers = writers_for(language(plan.flow), plan.options)
        for writer in writers.values():
            writer.begin()
        if plan.config is not None:
            jsonio.write_atomic(paths.config, jsonio.dumps(plan.config) + "\n")
        for artifact in compressible().values():  # of an earlier run that was thinned
            compressed(paths.path(artifact)).unlink(missing_ok=True)
        log = RunLog.create(paths.log)
        try:
            write_record(paths.record, record)
        except ArtifactError:
            log.close()
            raise
        return cls(plan, paths, notebook, log, writers)

    def changed(self, *cells: int) -> None:
        """Cells have new outputs or timing."""
        for writer in self._writers.values():
            for index in cells:
                writer.changed(index)
        if not self._unsaved:
            self._unsaved = True
            self._due = max(self._due, time.monotonic() + SAVE_EVERY)

    def insert(self, index: int, cell: Cell) -> None:
        """Put a cell of our own before the one at `index`."""
        self.notebook.insert(index, cell)
        for writer in self._writers.values():
            writer.inserted(index)

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
        """A cell is over: make its part of each artifact now, while the kernel goes on."""
        self.notebook.prepare(index)
        for writer in self._writers.values():
            writer.settled(index, self.notebook.cell(index))

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
        """Write the final notebook, what is made of it, and the record; the record as written.

        Raises:
            ArtifactError: One of them cannot be written.
        """
        self.log.close()
        record = attrs.evolve(record, notebook=self.save_notebook())
        ended = Ended.of(record, self.notebook, self.plan.root, self.paths.directory)
        for kind, writer in self._writers.items():
            jsonio.write_atomic(self.paths.path(ARTIFACTS[kind]), writer.make(ended))
        write_record(self.paths.record, record)
        return record
