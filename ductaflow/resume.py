"""Go on with a sweep that was cut off: what it had done need not be done again.

While a sweep runs, `runs/{step}/.sweep.json` says since when. A sweep that ends removes it. One
that finds it, by the same flow, takes over the runs made since then, unless anything that they are
known to depend on has changed.
"""

from __future__ import annotations

import json
import os
import secrets
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow import jsonio
from ductaflow.artifacts import read_record
from ductaflow.errors import ArtifactError
from ductaflow.layout import ArtifactPaths, main_script, runs_dir, step_dir
from ductaflow.model import Config, Flow, RunOptions
from ductaflow.plan import fingerprints
from ductaflow.run import Run


@final
@attrs.frozen
class SweepMark:
    """The mark of a sweep that is under way.

    Attributes:
        path: Where it lies.
        flow: The flow's hash.
        token: Tells it from another sweep's.
        since: When the sweep began, or the one that it goes on with.
        changed: When project code was last changed.
    """

    path: Path
    flow: str
    token: str
    since: datetime
    changed: datetime

    @classmethod
    def find(cls, root: Path, step: str, flow: Flow, *, resume: bool) -> SweepMark:
        """The mark of a sweep that begins now, or goes on where one of this flow was cut off."""
        path = step_dir(root, step) / ".sweep.json"
        since = datetime.now(timezone.utc)
        left = _read(path) if resume else {}
        if left.get("flow") == flow.sha256:
            since = _time(left.get("since")) or since
        return cls(path, flow.sha256, secrets.token_hex(8), since, _last_change(root, flow.path))

    def set(self) -> None:
        """Write it.

        Raises:
            ArtifactError: It cannot be written.
        """
        content = {"flow": self.flow, "since": self.since.isoformat(), "token": self.token}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ArtifactError(f"cannot make {self.path.parent}: {e.strerror or e}") from e
        jsonio.write_atomic(self.path, jsonio.dumps(content) + "\n")

    def remove(self) -> None:
        """The sweep has come to its end; another's mark is left alone."""
        if _read(self.path).get("token") == self.token:
            self.path.unlink(missing_ok=True)

    def done(self, directory: Path, flow: Flow, config: Config, options: RunOptions) -> Run | None:
        """The run that the sweep has made of an instance already, if it can serve."""
        paths = ArtifactPaths.of(directory, flow.name)
        record = read_record(paths.record)
        if record is None or not record.status.ok:
            return None
        began = _time(record.started)
        if began is None or began < self.since or began < self.changed:
            return None
        if dict(record.fingerprints) != fingerprints(flow, config):
            return None
        wanted = [paths.notebook, *([paths.html] if options.html else [])]
        if not all(path.is_file() for path in wanted):
            return None
        return Run(record, paths, reused=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else None


def _last_change(root: Path, flow: Path) -> datetime:
    """When a Python file of the project was last changed.

    The conductor's own does not count, nor does the flow's, which is known by its hash.
    """
    newest, conductor, runs = 0.0, main_script(), str(runs_dir(root))
    own = {str(file.absolute()) for file in (conductor, flow) if file is not None}
    for folder, folders, files in os.walk(root):
        folders[:] = [
            f
            for f in folders
            if f[0] != "." and f != "__pycache__" and f"{folder}{os.sep}{f}" != runs
        ]
        for name in files:
            file = f"{folder}{os.sep}{name}"
            if name.endswith(".py") and file not in own:
                try:
                    newest = max(newest, os.stat(file).st_mtime)  # noqa: PTH116
                except OSError:
                    continue  # removed meanwhile
    return datetime.fromtimestamp(newest, timezone.utc)
