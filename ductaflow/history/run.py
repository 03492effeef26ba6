"""The `Run` that callers hold: a finished run and the way to all it left."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import NamedTuple

import attrs

from ductaflow.errors import ArtifactError
from ductaflow.files.compression import kept, read
from ductaflow.history.recordfile import read_record
from ductaflow.model.facts import Reason
from ductaflow.model.kinds import NoteKind
from ductaflow.model.plans import Config, Note
from ductaflow.model.records import ErrorInfo, RunRecord, Status
from ductaflow.project.artifacts import ARTIFACTS, LOG, NOTEBOOK, Artifact, readable
from ductaflow.project.layout import ArtifactPaths
from ductaflow.text.hrefs import anchor

_NOTES = 10  # shown in a notebook


class RunSummary(NamedTuple):
    """The few facts that a listing of many runs needs; named as in `RunRecord`."""

    status: Status
    flow: str
    step: str
    instance: str
    started: str
    duration: float | None


@attrs.frozen
class Run:
    """One run of a flow. `os.fspath(run)` is its executed notebook.

    Attributes:
        known: What is known of it at once: its record, maybe without the longer parts, or less.
        paths: Where its artifacts lie.
        reused: Whether an earlier run was reused, so that nothing was executed.
        planned: The config of a run that is planned only; None for all others.
    """

    known: RunRecord | RunSummary
    paths: ArtifactPaths
    reused: bool = False
    planned: Config | None = attrs.field(default=None, repr=False, hash=False)

    @property
    def record(self) -> RunRecord:
        """All that `run.json` says."""
        known = self.known
        if isinstance(known, RunSummary):
            return read_record(self.paths.record) or RunRecord(**known._asdict(), partial=True)
        return (read_record(self.paths.record) or known) if known.partial else known

    @property
    def brief(self) -> RunRecord:
        """Its record, maybe without the longer parts: see `RunRecord.partial`."""
        return self.record if isinstance(self.known, RunSummary) else self.known

    @property
    def status(self) -> Status:
        """How it ended."""
        return self.known.status

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.known.status.ok

    @property
    def step(self) -> str:
        """The step's name; empty outside `runs/`."""
        return self.known.step

    @property
    def instance(self) -> str:
        """The instance's name; empty outside `runs/`."""
        return self.known.instance

    @property
    def dir(self) -> Path:
        """The folder it ran in."""
        return self.paths.directory

    @property
    def notebook(self) -> Path:
        """The executed notebook; with `.gz` if it is kept compressed."""
        return self.paths.kept(NOTEBOOK)

    @property
    def html(self) -> Path:
        """The HTML report."""
        return self.paths.html

    @property
    def log(self) -> Path:
        """The log of all text output; with `.gz` if it is kept compressed."""
        return self.paths.kept(LOG)

    @property
    def artifacts(self) -> dict[str, Path]:
        """What people read of it that is there, by kind: `report`, `notebook`, `log`.

        With `.gz` where it is kept compressed.
        """
        files = {kind: self.paths.kept(artifact) for kind, artifact in readable().items()}
        return {kind: file for kind, file in files.items() if file.is_file()}

    @property
    def opened(self) -> Path:
        """What to open of it: the report, or else what is there."""
        files = [self.paths.kept(a) for a in ARTIFACTS.values() if a.opened]
        return next((file for file in files if file.is_file()), files[-1])

    def read_log(self) -> str:
        """The text of its log, which may be kept compressed.

        Raises:
            ArtifactError: It is not there any more, or cannot be read.
        """
        return self._read(LOG)

    def read_notebook(self) -> str:
        """The text of its executed notebook, which may be kept compressed.

        Raises:
            ArtifactError: It is not there any more, or cannot be read.
        """
        return self._read(NOTEBOOK)

    def _read(self, artifact: Artifact) -> str:
        name, path = artifact.kind, self.paths.path(artifact)
        try:
            return read(path).decode("utf-8", "replace")
        except (OSError, EOFError) as e:
            if name in self.record.thinned and not kept(path).exists():
                why = f"was thinned: its {name} has been deleted. Run it again with force=True"
            else:
                why = f"has no {name} that can be read: {e}. Run it again"
            raise ArtifactError(f"{self.label} {why} to have one.") from e

    @property
    def config(self) -> Config | None:
        """The config as the flow saw it; None if nothing was injected.

        Raises:
            ArtifactError: `config.json` is gone or damaged.
        """
        if self.planned is not None:
            return self.planned
        if not self.brief.fingerprints.get("config"):
            return None
        try:
            data: Config = json.loads(self.paths.config.read_text("utf-8", "surrogatepass"))
        except (OSError, ValueError) as e:
            raise ArtifactError(f"cannot read {self.paths.config}: {e}. Run it again.") from e
        return data

    @property
    def given(self) -> Config | None:
        """What was given of the config; the rest was the flow's default."""
        given = self.brief.given
        return self.config if given is None else dict(given)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end."""
        return self.known.duration

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it was executed; none if an earlier run was reused."""
        return () if self.reused else self.record.reasons

    @property
    def notes(self) -> tuple[Note, ...]:
        """What planning and running noticed."""
        return self.record.notes

    @property
    def error(self) -> ErrorInfo | None:
        """Why it failed, or None."""
        return self.record.error

    @property
    def label(self) -> str:
        """`step/instance`, or the flow where there is none."""
        return f"{self.step}/{self.instance}" if self.step else self.known.flow

    def __fspath__(self) -> str:
        return str(self.notebook)

    def summary(self, *, plain: bool = False) -> str:
        """It in one line: how it ended, where if not well, and after how long.

        Args:
            plain: Leave out what differs from one run of the same to the next.
        """
        status = self.status
        return f"{status.symbol} {self.label} {status.label}" + self._rest(plain=plain)

    def summary_html(self, *, plain: bool = False) -> str:
        """The same for a notebook, with links to what it has left.

        Args:
            plain: See `summary`.
        """
        status, links = self.status, self.links()
        return (
            f'<span style="color:{status.colour}">{status.symbol}</span> '
            f"<b>{html.escape(self.label)}</b> {status.label}"
            f"{html.escape(self._rest(plain=plain))}{links and f' · {links}'}"
        )

    def links(self) -> str:
        """Links to what people read of it, as far as it is there, for a notebook."""
        files = self.artifacts.items()
        return " · ".join(anchor(file, ARTIFACTS[kind].text) for kind, file in files)

    def _rest(self, *, plain: bool) -> str:
        cell = self.error.cell if self.status.bad and self.error is not None else None
        where = f" in cell {cell}" if cell else ""
        if plain:
            return where
        if self.reused:
            return f"{where}, reused"
        if self.duration is None or self.status is Status.PLANNED:
            return where
        return f"{where} after {self.duration:.2f} s"

    def __repr__(self) -> str:
        seconds = "" if self.duration is None else f", {self.duration:.2f} s"
        reused = f", {self._accepted() or 'reused'}" if self.reused else ""
        return f"<Run {self.label} {self.status.symbol} {self.status.label}{seconds}{reused}>"

    def _accepted(self) -> str:
        """That its last change was accepted, if it was."""
        notes = self.known.notes if isinstance(self.known, RunRecord) else ()
        return notes[-1].message if notes and notes[-1].kind == NoteKind.ACCEPTED else ""

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note.message)}</li>" for note in self.notes[-_NOTES:])
        return f"<div>{self.summary_html()}{notes and f'<ul>{notes}</ul>'}</div>"
