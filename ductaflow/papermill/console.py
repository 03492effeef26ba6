"""Who hears of a running notebook: a progress bar, a log, files for its streams."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, final

import attrs

from ductaflow.history.events import Audience
from ductaflow.model.records import CellRecord
from ductaflow.papermill.inspection import logger


class Writable(Protocol):
    """A file for text."""

    def write(self, text: str, /) -> object:
        """Write some text."""


@final
@attrs.define(eq=False)
class Console(Audience):
    """Tells the logger, the caller's files and a progress bar of a run.

    Attributes:
        files: A file for each stream that is to be written.
        logged: Whether outputs go to the logger.
        bar: What has `update` and `close`, as tqdm's bars; None for no progress.
    """

    files: Mapping[str, Writable]
    logged: bool
    bar: Any
    _partial: dict[str, str] = attrs.field(factory=dict)

    def cell_started(self, number: int, line: int | None) -> None:
        """A cell begins."""

    def cell_finished(self, record: CellRecord) -> None:  # noqa: ARG002
        """A cell is over."""
        if self.bar is not None:
            self.bar.update(1)
        if self.logged:
            self._end_lines()

    def stream(self, name: str, text: str) -> None:
        """The notebook has printed: to the file at once, to the logger by lines."""
        file = self.files.get(name)
        if file is not None:
            file.write(text)
            if hasattr(file, "flush"):
                file.flush()
        if self.logged:
            *lines, rest = (self._partial.pop(name, "") + text).split("\n")
            self._partial[name] = rest
            for line in lines:
                self._log(name, line)

    def output(self, kind: str, content: Mapping[str, Any]) -> None:
        """A cell has shown something."""
        text = content.get("data", {}).get("text/plain")
        if self.logged and kind != "error" and text:
            logger.info("%s", text)

    def close(self) -> None:
        """The run is over."""
        self._end_lines()
        if self.bar is not None:
            self.bar.close()

    def _end_lines(self) -> None:
        for name, line in self._partial.items():
            if line:
                self._log(name, line)
        self._partial.clear()

    def _log(self, name: str, line: str) -> None:
        logger.log(logging.WARNING if name == "stderr" else logging.INFO, "%s", line)


def progress_bar(wanted: bool | Mapping[str, Any], total: int) -> Any:
    """A progress bar: tqdm's if it is installed, else a line in a terminal.

    Args:
        wanted: Whether there is to be one, or tqdm's own options.
        total: How many cells there are.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(wanted, (bool, Mapping)):
        raise TypeError(
            f"progress_bar must be True, False or a dict of tqdm's options, not {wanted!r}"
        )
    if wanted is False:
        return None
    options = {"unit": "cell", "desc": "Executing", **(wanted if wanted is not True else {})}
    with contextlib.suppress(ImportError):
        return import_module("tqdm.auto").tqdm(total=total, **options)
    if options.get("disable") or not sys.stderr.isatty():
        return None
    return _Line(str(options["desc"]), total)


@final
@attrs.define(eq=False)
class _Line:
    """Progress on one line of a terminal."""

    what: str
    total: int
    done: int = 0

    def update(self, count: int) -> None:
        self.done += count
        sys.stderr.write(f"\r{self.what}: {self.done} of {self.total} cells")
        sys.stderr.flush()

    def close(self) -> None:
        sys.stderr.write("\n")
