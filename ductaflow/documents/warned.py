"""How often a flow warned, told from what it prints and from what its kernel has counted."""

from __future__ import annotations

import re
from typing import Final, final

import attrs

from ductaflow.documents.runlog import strip_ansi

LONGEST: Final = 500  # characters of a line that are looked at

# As `warnings.formatwarning` writes it: `path:12: UserWarning: text`.
_PYTHON = re.compile(r"\S.*?:\d+: \w*Warning: ")
# As `logging.BASIC_FORMAT` does: `WARNING:root:text`.
_LOGGED = re.compile(r"(?:WARNING|ERROR|CRITICAL):[\w.]+:")
_SAID = re.compile(r"\s*(?:\u26a0|warning:)", re.IGNORECASE)


@final
@attrs.define(eq=False)
class WarningCount:
    """Counts the warnings of one run.

    A warning is what Python's `warnings` shows, what `logging` gets at WARNING and above, and a
    printed line that begins with ⚠ or `warning:`. Records that reach no stream, or in another
    format, are known from the kernel, if it is ours.
    """

    _lines: int = 0
    _seen_logged: int = 0
    _told_logged: int = 0
    _partial: dict[str, str] = attrs.field(factory=dict)

    @property
    def total(self) -> int:
        """How many there are."""
        for name in [*self._partial]:
            self._look(name, self._partial.pop(name))
        return self._lines + max(self._seen_logged, self._told_logged)

    def stream(self, name: str, text: str) -> None:
        """The flow has printed some text."""
        *whole, rest = (self._partial.pop(name, "") + text).split("\n")
        for line in whole:
            self._look(name, line)
        if rest:
            self._partial[name] = rest if len(rest) <= 2 * LONGEST else rest[:LONGEST]

    def logged(self, count: object) -> None:
        """The kernel says how many records of WARNING and above `logging` got."""
        self._told_logged = count if type(count) is int and count > 0 else 0

    def _look(self, name: str, line: str) -> None:
        line = line[: 2 * LONGEST]
        if "\x1b" in line:
            line = strip_ansi(line)
        if "\r" in line:
            line = line.removesuffix("\r").rpartition("\r")[2]
        if name == "stderr" and _LOGGED.match(line):
            self._seen_logged += 1
        elif _SAID.match(line) or (name == "stderr" and _PYTHON.match(line)):
            self._lines += 1
