"""What came of a run: its status, its cells, its error, its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

import attrs

from ductaflow.model.facts import FileFact, Reason
from ductaflow.model.kinds import FailureKind
from ductaflow.model.plans import Note
from ductaflow.model.thisrun import together

RECORD_SCHEMA = 2

METRICS_MIME = "application/vnd.ductaflow.metrics+json"
"""With it `record()` tells the conductor what a flow has measured."""

SCRAP_MIME = "application/scrapbook.scrap.json+json"
"""What scrapbook's readers find values in."""


class Status(Enum):
    """How a run stands; owns its symbol, label and colour."""

    symbol: str
    label: str
    colour: str

    def __new__(cls, value: str, symbol: str, label: str, colour: str) -> Status:
        """Each member is its value; the rest is how it is shown."""
        member = object.__new__(cls)
        member._value_ = value
        member.symbol, member.label, member.colour = symbol, label, colour
        return member

    PLANNED = "planned", "○", "planned", "#6e7781"
    RUNNING = "running", "▶", "running", "#1f6feb"
    SUCCEEDED = "success", "✓", "succeeded", "#1a7f37"
    FAILED = "failed", "✗", "failed", "#cf222e"
    TIMED_OUT = "timeout", "⏱", "timed out", "#bc4c00"
    DIED = "died", "☠", "kernel died", "#8250df"
    BLOCKED = "blocked", "⊘", "not run", "#57606a"
    INTERRUPTED = "interrupted", "⏸", "interrupted", "#9a6700"

    @classmethod
    def of(cls, value: str) -> Status:
        """The status of that value.

        Raises:
            ValueError: There is none.
        """
        try:
            return cls(value)  # type: ignore[call-arg]  # by value alone, as of any Enum
        except ValueError:
            pass
        known = ", ".join(repr(member.value) for member in cls)
        raise ValueError(f"no status is called {value!r}; there are {known}")

    @property
    def ok(self) -> bool:
        """Whether the run ended well."""
        return self is Status.SUCCEEDED

    @property
    def bad(self) -> bool:
        """Whether the run ended without success."""
        return self not in (Status.SUCCEEDED, Status.PLANNED, Status.RUNNING)


@attrs.frozen
class CellRecord:
    """How one executed cell went.

    Attributes:
        number: The cell's position in the flow file; 0 for an inserted cell.
        line: The flow file's line where it begins, or None.
        status: `ok`, `error`, `aborted`, `timeout`, `interrupted`, `died` or `skipped`.
        started: ISO time from the kernel's own message, or None.
        finished: Likewise.
        duration: Seconds between the two, or None.
    """

    number: int
    line: int | None
    status: str
    started: str | None = None
    finished: str | None = None
    duration: float | None = None


def _failure(kind: str) -> FailureKind:
    return FailureKind(kind)


@attrs.frozen
class ErrorInfo:
    """Why a run did not succeed.

    Attributes:
        kind: What kind of failure it is.
        type: The exception's class name, or a word for what happened.
        message: One line for a person.
        cell: The failing cell's number in the flow file, or None.
        line: The line of the flow file, or None.
        traceback: Its lines, without colour codes.
    """

    kind: FailureKind = attrs.field(converter=_failure)
    type: str
    message: str
    cell: int | None = None
    line: int | None = None
    traceback: tuple[str, ...] = ()

    def sentence(self, flow: str) -> str:
        """What happened, and where in the flow's file; in one line if the message is one."""
        where = f" in cell {self.cell}" if self.cell and self.kind is not FailureKind.DIED else ""
        line = f" ({flow}:{self.line})" if self.line else f" of {flow}" if self.cell else ""
        head, *more = self.message.split("\n")
        return "\n".join([f"{self.type}: {head}{where}{line}", *more])


@attrs.frozen
class RunRecord:
    """What `run.json` holds: the whole story of one run.

    Attributes:
        status: How it stands.
        flow: The flow file, relative to the project root where it lies inside it.
        step: The step's name.
        instance: The instance's name.
        started: ISO time at which the run began.
        finished: ISO time at which it ended, or None while it runs.
        duration: Seconds from start to end, or None.
        cells: One entry for every code cell sent to the kernel or skipped.
        error: Why it failed, or None.
        notes: What planning and running noticed.
        reasons: Why it ran rather than being reused.
        fingerprints: Hashes of what went in; see `fingerprint.fingerprints`.
        observed: `native` if all files that it used are known, `python` if those that Python
            opened are, and empty if none.
        inputs: The files that it used and did not write itself.
        outputs: The files that it wrote and left.
        packages: Versions of the installed packages it imported, by module.
        package_folders: Where they lay; does not count.
        variables: Environment variables that it asked for, and hashes of their values; of a pattern
            such as `APP_*`, or `*`, which ones there were.
        hosts: Other hosts that it connected to or could not find, by name where that is known.
        options: How it was run, as far as it can be run so again.
        conductor: Process id, host and user of the process that ran it.
        kernel: Interpreter, kernelspec name, source of the kernel, its exit if it died.
        environment: Versions of Python, ductaflow and the platform.
        peak_memory: The kernel's peak resident memory in bytes, or None if unknown.
        metrics: Scalars that the flow published with `record()`.
        warnings: How often it warned: by Python's `warnings`, by `logging` at WARNING and above, by
            lines that begin with ⚠️ or `warning:`.
        given: What was given of the config, over the flow's default; None for all of it.
        notebook: SHA-256 of its executed notebook as it was left, or empty.
        thinned: What has been taken away of it since, on purpose: `report`, `notebook`, `log`.
        schema: Version of this layout.
        partial: Whether it comes from an index, without cells, notes, reasons and the like.
    """

    status: Status
    flow: str
    step: str
    instance: str
    started: str
    finished: str | None = None
    duration: float | None = None
    cells: tuple[CellRecord, ...] = ()
    error: ErrorInfo | None = None
    notes: tuple[Note, ...] = ()
    reasons: tuple[Reason, ...] = ()
    fingerprints: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    observed: str = ""
    inputs: tuple[FileFact, ...] = ()
    outputs: tuple[FileFact, ...] = ()
    packages: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    package_folders: tuple[str, ...] = ()
    variables: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    hosts: tuple[str, ...] = ()
    options: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    conductor: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    kernel: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    environment: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    peak_memory: int | None = None
    metrics: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    warnings: int = 0
    given: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    notebook: str = ""
    thinned: tuple[str, ...] = ()
    schema: int = RECORD_SCHEMA
    partial: bool = False

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types; `run.json` has some of it apart (`thisrun`)."""
        data = attrs.asdict(self)
        del data["partial"]
        data["status"] = self.status.value
        for name in ("inputs", "outputs"):
            data[name] = [fact.to_json() for fact in getattr(self, name)]
        return {"schema": data.pop("schema"), **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunRecord:
        """The record from what `to_json` gave, or `run.json` has; later schemas' keys are ignored.

        Raises:
            KeyError, TypeError, ValueError: `data` is not a run record.
        """
        data = together(data)
        values = _known(cls, data)
        values["status"] = Status.of(data["status"])
        values["cells"] = tuple(CellRecord(**_known(CellRecord, c)) for c in data.get("cells", ()))
        values["notes"] = tuple(Note(**_known(Note, n)) for n in data.get("notes", ()))
        values["reasons"] = tuple(Reason(**_known(Reason, r)) for r in data.get("reasons", ()))
        for name in ("inputs", "outputs"):
            values[name] = tuple(map(FileFact.from_json, data.get(name, ())))
        for name in ("package_folders", "hosts", "thinned"):
            values[name] = tuple(data.get(name, ()))
        if data.get("error"):
            error = _known(ErrorInfo, data["error"])
            error["traceback"] = tuple(error.get("traceback", ()))
            values["error"] = ErrorInfo(**error)
        return cls(**values)


def _known(kind: type[attrs.AttrsInstance], data: Mapping[str, Any]) -> dict[str, Any]:
    """What a later or older version has written, as far as this one knows it.

    Raises:
        TypeError: A value is of another type than the class says.
    """
    if not isinstance(data, dict):
        raise TypeError(f"{kind.__name__} must be an object, not {data!r:.40}")
    known = {}
    for name, words in _types(kind):
        if name in data:
            known[name] = value = data[name]
            if not any(_CHECKS[word](value) for word in words):
                raise TypeError(f"{name} must be {' or '.join(words)}, not {value!r:.40}")
    return known


@lru_cache
def _types(kind: type[attrs.AttrsInstance]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each attribute's name, and what it may be in JSON."""
    return tuple(
        (a.name, tuple(_in_json(part) for part in str(a.type).split(" | ")))
        for a in attrs.fields(kind)
    )


def _in_json(annotation: str) -> str:
    """What an annotation's values are in JSON: by the whole of it, else by its first word."""
    return _JSON.get(annotation) or _JSON[annotation.partition("[")[0]]


_JSON = {
    "str": "a string", "Status": "a string", "FailureKind": "a string", "ReasonKind": "a string",
    "NoteKind": "a string", "int": "a whole number", "float": "a number",
    "bool": "true or false", "None": "null", "tuple": "an array", "Mapping": "an object",
    "ErrorInfo": "an object", "tuple[str, ...]": "an array of strings",
    "Mapping[str, str]": "an object of strings",
}  # fmt: skip
_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "a string": lambda value: isinstance(value, str),
    "a whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "a number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "true or false": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "an array": lambda value: isinstance(value, (list, tuple)),
    "an array of strings": lambda value: (
        isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    ),
    "an object": lambda value: isinstance(value, dict),
    "an object of strings": lambda value: (
        isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    ),
}
