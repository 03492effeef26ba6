"""What is made of a run's record and notebook: when it ends, and again when they are shown anew.

What these artifacts are called, and when they are wanted, is declared in `project.artifacts`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, final

import attrs
from ductaflow_kernels.jupyterclient import import_jupyter_client
from ductaflow_kernels.processes.machine import start_thread

from ductaflow.documents.html import (
    Fragment,
    Head,
    SharedParts,
    keep_navigation,
    renderer,
    shared,
    shares,
)
from ductaflow.documents.notebook import FAILING_ANCHOR, Notebook
from ductaflow.model.flows import NbCell, Tag
from ductaflow.model.htmloptions import HtmlOptions
from ductaflow.model.options import RunOptions
from ductaflow.model.records import RunRecord
from ductaflow.project.artifacts import ARTIFACTS, REPORT
from ductaflow.project.layout import runs_dir
from ductaflow.project.names import INDEX_PAGE
from ductaflow.text.times import local_time


@attrs.frozen
class Ended:
    """A run that has ended, as writers get it.

    Attributes:
        record: Its record.
        cells: The cells of its notebook.
        widgets: The state of the notebook's widgets.
        root: The project root.
        directory: The folder that the artifacts go to.
    """

    record: RunRecord
    cells: Sequence[NbCell]
    widgets: Mapping[str, Any] | None
    root: Path
    directory: Path

    @classmethod
    def of(cls, record: RunRecord, notebook: Notebook, root: Path, directory: Path) -> Ended:
        """A run whose notebook is at hand."""
        cells = [notebook.cell(index) for index in range(len(notebook))]
        return cls(record, cells, notebook.widget_state, root, directory)


class Writer:
    """Makes one artifact of a run; one that takes long may make parts of it while the run goes on.

    Attributes:
        language: The language that the notebook's cells are written in.
        options: The run's options.
    """

    def __init__(self, language: str, options: RunOptions) -> None:
        self.language = language
        self.options = options

    def begin(self) -> None:
        """The run begins."""

    def settled(self, index: int, cell: NbCell) -> None:
        """A cell will not change any more, or not soon."""

    def changed(self, index: int) -> None:
        """A cell has changed."""

    def inserted(self, index: int) -> None:
        """There is a new cell before the one at `index`."""

    def make(self, run: Ended, old: bytes | None = None) -> str | bytes:
        """The artifact's content.

        Args:
            run: The run.
            old: What the run had in its place; None if nothing.

        Raises:
            ArtifactError: Something beside it that it needs cannot be written.
        """
        raise NotImplementedError


@final
class ReportWriter(Writer):
    """Makes the HTML report: a run's cells, and the bar over them."""

    def __init__(self, language: str, options: RunOptions) -> None:
        super().__init__(language, options)
        self._looks = options.looks or HtmlOptions()
        self._fragments: dict[int, Fragment] = {}

    def begin(self) -> None:
        """Import what makes the report while the kernel starts."""
        _warm_up_renderer()

    def settled(self, index: int, cell: NbCell) -> None:
        """Make the cell's part of the page."""
        self._fragment(index, cell)

    def changed(self, index: int) -> None:
        """Forget the cell's part."""
        self._fragments.pop(index, None)

    def inserted(self, index: int) -> None:
        """Move the parts of the cells behind."""
        self._fragments = {i + (i >= index): part for i, part in self._fragments.items()}

    def make(self, run: Ended, old: bytes | None = None) -> str:
        """The page; one that is made anew keeps its links, and shares what it has shared.

        Only an instance's report shares what all have in common.
        """
        record, looks = run.record, self._looks
        before = None if old is None else old.decode("utf-8", "replace")
        title = " / ".join(p for p in (record.step, record.instance) if p)
        page = renderer().page(
            [self._fragment(index, cell) for index, cell in enumerate(run.cells)],
            title=title or Path(record.flow).stem,
            widget_state=run.widgets,
            head=_head(record, looks, run.root),
        )
        if (looks.shared or (before is not None and shares(before))) and record.step:
            label = f"{record.step}/{record.instance}"
            page = shared(page, SharedParts.seen_from(run.directory, run.root, label))
        return page if before is None else keep_navigation(before, page)

    def _fragment(self, index: int, cell: NbCell) -> Fragment:
        if index not in self._fragments:
            self._fragments[index] = renderer().cell(
                cell,
                language=self.language,
                fold_lines=self._looks.fold_lines,
                scripts=self._looks.scripts,
            )
        return self._fragments[index]


WRITERS: Final[dict[str, type[Writer]]] = {REPORT.kind: ReportWriter}
"""The writers of these artifacts, by their kinds."""


def writers_for(language: str, options: RunOptions) -> dict[str, Writer]:
    """The writers of what a run with these options is to have, by kind.

    Args:
        language: The language that its cells are written in.
        options: The run's options.
    """
    return {
        kind: writer(language, options)
        for kind, writer in WRITERS.items()
        if ARTIFACTS[kind].is_wanted(options)
    }


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
            import_jupyter_client()  # nbconvert imports it, too
            renderer().warm_up()

    start_thread("ductaflow-html", warm_up)
