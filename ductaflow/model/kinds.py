"""The kinds of failures, of reasons to run, and of notes; each is its word in `run.json`.

A record may have a word of a later version, which is a kind like any other, about which nothing is
known.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

K = TypeVar("K", bound="_Kind")


class _Kind(str, Enum):
    """A word that is a text, too: `kind == "cell"`."""

    def __new__(cls: type[K], value: str, *facts: Any) -> K:
        """Each member is its word; the rest is what is known about it."""
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind._set(*facts)
        return kind

    def _set(self) -> None:
        """Take what is known about it."""

    @classmethod
    def _missing_(cls: type[K], value: object) -> K | None:
        if not isinstance(value, str):
            return None
        kind = str.__new__(cls, value)
        kind._name_ = kind._value_ = value
        kind._set()
        return kind

    __str__ = str.__str__
    __repr__ = str.__repr__

    def __format__(self, spec: str) -> str:
        """As any text."""
        return str.__format__(self, spec)


class FailureKind(_Kind):
    """Why a run did not succeed."""

    CELL = "cell"  # a cell raised
    SYNTAX = "syntax"  # a cell does not compile
    TIMEOUT = "timeout"  # a time limit was reached
    DIED = "died"  # the kernel's process ended
    END = "end"  # something after the last cell
    START = "start"  # the kernel did not start
    BUSY = "busy"  # the instance is being run already
    ARTIFACT = "artifact"  # a file cannot be written
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"  # a fault of our own
    FLOW = "flow"  # the flow, or its config, is not fit
    BLOCKED = "blocked"  # a run that it reads from failed
    EXPORT = "export"  # it ran, and could not be delivered


RETRIABLE = tuple(
    FailureKind(k) for k in ("artifact", "busy", "cell", "died", "start", "syntax", "timeout")
)
"""Kinds of failure after which a sweep may try an instance again."""


class ReasonKind(_Kind):
    """Why an earlier run cannot be reused; owns whether a person may dismiss it."""

    acceptable: bool

    def _set(self, acceptable: bool = False) -> None:
        self.acceptable = acceptable

    NEW = "new"  # it has not run yet
    FAILED = "failed"
    FORCED = "forced"
    OFF = "off"  # reuse is switched off
    UNOBSERVED = "unobserved"  # it is not known what it depends on
    SILENT = "silent"  # a file system does not answer
    FLOW = "flow"
    CONFIG = "config"
    KERNEL = "kernel"
    OUTPUT = "output"
    REPORT = "report"
    AGE = "age"
    DAMAGED = "damaged"  # the record cannot be read
    NETWORK = "network"
    VERIFY = "verify"
    CODE = "code", True
    PYTHON = "python", True
    PACKAGE = "package", True
    VARIABLE = "variable", True
    RULES = "rules", True
    SECRET = "secret", True
    # As the roles of files, see `facts.Role`.
    DATA = "data", True
    MODULE = "module", True
    PRESENT = "present", True
    MISSING = "missing", True
    FOLDER = "folder", True
    MOVED = "moved"
    LINK = "link", True
    METADATA = "metadata", True
    IMPORTS = "imports", True


class NoteKind(_Kind):
    """What a note is about; owns how more than a few of a kind are summed up, and more.

    Attributes:
        summary: What is said of many of them, after their number; empty if there are never many.
        hides: Why it is then not known what a run depends on; empty if it is.
    """

    summary: str
    hides: str

    def _set(self, summary: str = "", hides: str = "") -> None:
        self.summary, self.hides = summary, hides

    # Of configs; these are in the table of the config, and told when a call is made.
    DEFAULT = "default"
    COLLISION = "collision", "names stand for more than one key of the config"
    SHADOW = "shadow", "keys of the config bear a name that Python or the notebook uses"
    NOT_IDENTIFIER = (
        "not-identifier",
        "keys of the config are no variable names and stay in `config`",
    )
    UNUSED_KEY = "unused-key", "keys of the config are never mentioned by the flow"
    UNKNOWN_KEY = "unknown-key", "keys of the config are not in the flow's default"
    KIND = "kind", "values of the config are of another kind than the flow's default"
    # Of flows and of how they ran.
    COMMAND = "command"
    EARLY = "early"
    PRELOAD = "preload"
    NETWORK = "network"
    SECRET = "secret"  # noqa: S105
    ACCEPTED = "accepted"
    KERNEL = "kernel", "", "its kernel was a plain one"
    SILENT = "silent", "", "a file system did not answer"
    UNFINISHED = "unfinished", "", "its end was given up"
    SECRET_PATH = "secret-path", "", "the name of a file has a secret in it"
