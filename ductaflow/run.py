"""The `Run` that callers hold: a finished run and the way to all it left."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import attrs

from ductaflow.errors import ArtifactError
from ductaflow.facts import Reason
from ductaflow.layout import ArtifactPaths
from ductaflow.model import Config, ErrorInfo, Note, RunRecord, Status
from ductaflow.records import read_record


def href(path: Path) -> str:
    """A link to a file from a page that lies in the current folder, as an open notebook does.

    Relative, because browsers follow no `file:` link from a page that a server gave them.
    """
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive
        return path.absolute().as_uri()
    return quote(Path(relative).as_posix())


class Outline(NamedTuple):
    """What is told of a run where there are very many; named as in `RunRecord`."""

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
        told: What is known of it at once: its record, maybe without the longer parts, or less.
        paths: Where its artifacts lie.
        reused: Whether an earlier run served, so that nothing was executed.
        planned: The config of a run that is planned only; None for all others.
    """

    told: RunRecord | Outline
    paths: ArtifactPaths
    reused: bool = False
    planned: Config | None = attrs.field(default=None, repr=False, hash=False)

    @property
    def record(self) -> RunRecord:
        """All that `run.json` says."""
        told = self.told
        if isinstance(told, Outline):
            return read_record(self.paths.record) or RunRecord(**told._asdict(), partial=True)
        return (read_record(self.paths.record) or told) if told.partial else told

    @property
    def brief(self) -> RunRecord:
        """Its record, maybe without the longer parts: see `RunRecord.partial`."""
        return self.record if isinstance(self.told, Outline) else self.told

    @property
    def status(self) -> Status:
        """How it ended."""
        return self.told.status

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.told.status.ok

    @property
    def step(self) -> str:
        """The step's name; empty outside `runs/`."""
        return self.told.step

    @property
    def instance(self) -> str:
        """The instance's name; empty outside `runs/`."""
        return self.told.instance

    @property
    def dir(self) -> Path:
        """The folder it ran in."""
        return self.paths.directory

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.paths.notebook

    @property
    def html(self) -> Path:
        """The HTML report."""
        return self.paths.html

    @property
    def log(self) -> Path:
        """The log of all text output."""
        return self.paths.log

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
        return self.told.duration

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it was executed; none if an earlier run served."""
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
        return f"{self.step}/{self.instance}" if self.step else self.told.flow

    def __fspath__(self) -> str:
        return str(self.notebook)

    def __repr__(self) -> str:
        seconds = "" if self.duration is None else f", {self.duration:.2f} s"
        return f"<Run {self.label} {self.status.symbol} {self.status.label}{seconds}>"

    def _repr_html_(self) -> str:
        status = self.status
        seconds = "" if self.duration is None else f" in {self.duration:.2f} s"
        link = html.escape(href(self.paths.html), quote=True)
        return (
            f'<span style="color:{status.colour}">{status.symbol} {status.label}</span>{seconds}: '
            f'<a href="{link}">{html.escape(self.label)}</a>'
        )
