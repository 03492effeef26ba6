"""What a sweep gives back: its runs, as a sequence, a table and a summary."""

from __future__ import annotations

import html
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, final, overload

import attrs

from ductaflow.errors import SweepFailed
from ductaflow.files import jsonio
from ductaflow.history.entries import FACTS, Entry, html_row
from ductaflow.history.run import Run
from ductaflow.model.kinds import FailureKind
from ductaflow.model.records import ErrorInfo, Status
from ductaflow.model.verification import Verifications
from ductaflow.project.environment import OWN_COPY
from ductaflow.tables.table import Kind, Row, Table
from ductaflow.tables.template import leaves

_SHOWN = 100  # rows of a table in a notebook
_LISTED = 10  # causes of failure in a summary
_PLANNED = 20  # runs that are planned, likewise


@final
@attrs.frozen
class Call:
    """What of a call a command that repeats a part of it must say; the rest is in the records.

    Attributes:
        files: Globs of the files to deliver.
    """

    files: str | tuple[str, ...] = "*"


@final
@attrs.frozen
class Cause:
    """Runs that failed for the same reason.

    Attributes:
        error: The first one's error.
        runs: Them all, in the order of the table.
    """

    error: ErrorInfo
    runs: Runs

    def __str__(self) -> str:
        return self.error.sentence(self.runs.entries[0].flow)

    @property
    def command(self) -> str:
        """A shell command that runs (or delivers) the first of them alone, from where we are."""
        first, root = self.runs.entries[0], self.runs.root
        label = f"{first.step}/{first.instance}"
        if self.error.kind == FailureKind.EXPORT:
            target = (first.exported or "").replace("{", "{{").replace("}", "}}")
            files = self.runs.call.files
            globs = [files] if isinstance(files, str) else files
            chosen = [] if files == "*" else [part for g in globs for part in ("--files", g)]
            words = ["export", target, label, *chosen]
        else:
            words = ["rerun", label]
        there = "" if root == Path.cwd() else f"cd {shlex.quote(str(root))} && "
        return f"{there}{_program(root)} {shlex.join(words)}"


def _program(root: Path) -> str:
    """What runs our command line in a shell whose folder is the root."""
    if OWN_COPY is not None and OWN_COPY.is_relative_to(root.resolve()):
        code = OWN_COPY.relative_to(root.resolve()).as_posix()
        return f"PYTHONPATH={shlex.quote(code)} python -m ductaflow.cli"
    script = shutil.which("ductaflow")
    if script is not None and Path(script).parent == Path(sys.executable).parent:
        return "ductaflow"
    return f"{shlex.quote(sys.executable)} -m ductaflow.cli"


_NONE_VERIFIED = Verifications()


@final
@attrs.frozen(repr=False)
class Runs(Sequence[Run]):
    """Runs in the order of their table. Each is read from its folder when it is asked for.

    Attributes:
        entries: What is kept of each in memory.
        root: The project root.
        table: The control table, or None.
        call: How they were run.
        verified: What came of verifying some of those reused; see `sweep`.
    """

    entries: tuple[Entry, ...]
    root: Path
    table: Table | None = attrs.field(default=None, eq=False)
    call: Call = Call()
    verified: Verifications = _NONE_VERIFIED

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        if isinstance(index, slice):
            return attrs.evolve(self, entries=self.entries[index])
        return self.entries[index].run()

    def __iter__(self) -> Iterator[Run]:
        return (entry.run() for entry in self.entries)

    @property
    def ok(self) -> Runs:
        """Those that succeeded, and were delivered if that was asked for."""
        return self._where(lambda entry: entry.status.ok and not entry.failed)

    @property
    def failed(self) -> Runs:
        """Those that did not succeed, or could not be delivered."""
        return self._where(lambda entry: entry.failed)

    @property
    def reused(self) -> Runs:
        """Those for which an earlier run was reused."""
        return self._where(lambda entry: entry.reused)

    def causes(self) -> list[Cause]:
        """The failures by what made them fail, the most frequent first."""
        groups: dict[object, list[Entry]] = {}
        for entry in self.failed.entries:
            error = entry.error or ErrorInfo(entry.status.value, entry.status.label, "")
            line = error.line or (error.cell, error.message)
            groups.setdefault((entry.flow, error.kind, error.type, line), []).append(entry)
        causes = [
            Cause(
                group[0].error or ErrorInfo(group[0].status.value, group[0].status.label, ""),
                attrs.evolve(self, entries=tuple(group)),
            )
            for group in groups.values()
        ]
        return sorted(causes, key=lambda cause: -len(cause.runs))

    def summary(self) -> str:
        """How it went, and why what failed did, each with a command that runs one of them alone.

        Of a dry run: what would run, and with what.
        """
        lines = [self._headline()]
        if self.verified:
            lines.append(str(self.verified))
        planned = [entry for entry in self.entries if entry.planned is not None]
        for entry in planned[:_PLANNED]:
            symbol, config = entry.status.symbol, jsonio.canonical(entry.planned)
            lines.append(f"  {symbol} {entry.instance}: {config}")
        if len(planned) > _PLANNED:
            lines.append(f"  and {len(planned) - _PLANNED} more")
        causes = self.causes()
        if causes:
            plural = "cause" if len(causes) == 1 else "causes"
            failed = sum(len(cause.runs) for cause in causes)
            lines.append(f"{failed} of {len(self)} failed, {len(causes)} {plural}:")
        for cause in causes[:_LISTED]:
            names = ", ".join(entry.instance for entry in cause.runs.entries[:3])
            more = ", …" if len(cause.runs) > 3 else ""
            lines += [f"  {len(cause.runs)} × {cause}", f"      {names}{more}"]
            lines.append(f"      {cause.command}")
        if len(causes) > _LISTED:
            lines.append(f"  and {len(causes) - _LISTED} causes more")
        return "\n".join(lines)

    def raise_if_failed(self) -> Runs:
        """Raise if a run did not succeed.

        Returns:
            Itself.

        Raises:
            SweepFailed: One did not, or could not be delivered; the message is the summary.
        """
        if self.failed:
            raise SweepFailed(self.summary(), self)
        return self

    def frame(self) -> Any:
        """The control table with what came of each row.

        Its columns are followed by `instance`, `status`, `reused`, `reasons`, `duration` (seconds),
        `peak_memory` (bytes), `error`, the paths `dir`, `notebook`, `html` and `exported` (if they
        were delivered), and what the flow published with `record()` (as `record.…` where its name
        is one of these). One that the control table has too is called `run.…`.
        Columns of a data frame keep their types.

        Returns:
            A polars data frame if the control table is one, else a pandas data frame.

        Raises:
            ImportError: pandas is not installed.
        """
        facts = [entry.facts() for entry in self.entries]
        names = list(dict.fromkeys([*FACTS, *(name for row in facts for name in row)]))
        numbers = [entry.number for entry in self.entries]
        kind = self.table.kind if self.table is not None else None
        if self.table is not None and kind is Kind.POLARS:
            import polars

            left = self.table.source[numbers]
            named = _apart(names, left.columns)
            columns = {
                named[name]: polars.Series(named[name], [f.get(name) for f in facts], strict=False)
                for name in names
            }
            return left.with_columns(**columns)
        import pandas

        if self.table is not None and kind is Kind.PANDAS:
            left = self.table.source.iloc[numbers].reset_index(drop=True)
            left.columns = list(self.table.columns or ())
        else:
            left = pandas.DataFrame([leaves(row) for row in self.rows()])
        right = pandas.DataFrame(facts, columns=names, index=left.index)
        return pandas.concat([left, right.rename(columns=_apart(names, left.columns))], axis=1)

    def rows(self) -> list[Row]:
        """The control table's row of each run; its config where the table is used up."""
        if self.table is None or self.table.length is None:
            return [entry.config() for entry in self.entries]
        wanted = {entry.number for entry in self.entries}
        found = {n: row for n, row in enumerate(self.table.rows()) if n in wanted}
        return [found[entry.number] for entry in self.entries]

    def _where(self, wanted: Callable[[Entry], bool]) -> Runs:
        return attrs.evolve(self, entries=tuple(filter(wanted, self.entries)))

    def _headline(self) -> str:
        counts: dict[Status, int] = {}
        for entry in self.entries:
            counts[entry.status] = counts.get(entry.status, 0) + 1
        told = [f"{status.symbol} {count} {status.label}" for status, count in counts.items()]
        reused = len(self.reused)
        noun = "run" if len(self) == 1 else "runs"
        told += [f"{reused} of them reused"] if reused else []
        here = sum(entry.failed and entry.status.ok for entry in self.entries)
        told += [f"{here} of them not delivered"] if here else []
        return f"{len(self)} {noun}" + (f": {', '.join(told)}" if told else "")

    def __repr__(self) -> str:
        return f"<Runs: {self._headline()}>"

    def _repr_html_(self) -> str:
        order = sorted(self.entries, key=lambda entry: not entry.failed)  # stable
        rows = "".join(map(html_row, order[:_SHOWN]))
        more = len(order) - _SHOWN
        foot = f"<p>and {more} more: see <code>.frame()</code></p>" if more > 0 else ""
        head = "".join(f"<th>{name}</th>" for name in ("", "instance", "seconds", "report", ""))
        return (
            f"<p>{html.escape(self._headline())}</p><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows}</tbody></table>{foot}"
            + (self.verified._repr_html_() if self.verified else "")
        )


def _apart(names: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """The names of columns beside those of the control table."""
    return {name: f"run.{name}" if name in taken else name for name in names}
