"""The log of one run: all text output, a timestamp a line, growing while it runs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, final

import attrs

from ductaflow.errors import ArtifactError

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_UNFINISHED = 1.0  # seconds after which a line without an end is written as it stands


@final
@attrs.define(eq=False)
class RunLog:
    """Writes `{flow}.log`.

    A line that a carriage return rewrites, as a progress bar's, is logged as it ends, or as it
    stands every second.
    """

    path: Path
    _file: IO[str]
    _partial: dict[str, str] = attrs.field(factory=dict)
    _since: float = 0.0

    @classmethod
    def create(cls, path: Path) -> RunLog:
        """Begin a log; an earlier one is replaced.

        Raises:
            ArtifactError: It cannot be written.
        """
        with _writing(path):
            file = path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1 << 16)
        return cls(path, file)

    def say(self, text: str) -> None:
        """A line of ductaflow's own."""
        self._end_partials()
        self._lines("ductaflow", [text])

    def stream(self, name: str, text: str, now: float) -> None:
        """Text that the flow printed.

        Args:
            name: `stdout` or `stderr`.
            text: Any piece of it.
            now: A monotonic clock's seconds.
        """
        text = self._partial.pop(name, "") + strip_ansi(text).replace("\r\n", "\n")
        *whole, rest = text.split("\n")
        self._lines(name, whole)
        if rest:
            if not self._partial:
                self._since = now
            # Only what follows the last return can still be seen.
            self._partial[name] = rest[max(0, rest.rfind("\r", 0, -1)) :]

    def output(self, kind: str, content: Mapping[str, Any]) -> None:
        """The text of a result, a display or an error."""
        if kind == "error":
            text = "\n".join(str(line) for line in content.get("traceback", ()))
        else:
            text = content.get("data", {}).get("text/plain", "")
        self._lines("error" if kind == "error" else "out", strip_ansi(str(text)).splitlines())

    def flush(self, now: float) -> None:
        """Hand what was written to the system, unfinished lines too once they are a second old."""
        if self._partial and now - self._since > _UNFINISHED:
            self._end_partials()
        with _writing(self.path):
            self._file.flush()

    def close(self) -> None:
        """End the log. Twice does no harm."""
        if not self._file.closed:
            with _writing(self.path):
                try:
                    self._end_partials()
                finally:
                    self._file.close()

    def _end_partials(self) -> None:
        for name, text in self._partial.items():
            self._lines(name, [text])
        self._partial.clear()

    def _lines(self, name: str, lines: Sequence[str]) -> None:
        stamp = datetime.now().astimezone().isoformat(timespec="milliseconds")
        head = f"{stamp} {name:<9} "
        with _writing(self.path):
            self._file.writelines(f"{head}{_last_written(line)}\n" for line in lines)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise ArtifactError(
            f"cannot write {path}: {e.strerror or e}. Free space or make {path.parent} writable, "
            "then run again."
        ) from e


def strip_ansi(text: str) -> str:
    """Text without terminal escape sequences."""
    return _ANSI.sub("", text)


def _last_written(line: str) -> str:
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part), "")
