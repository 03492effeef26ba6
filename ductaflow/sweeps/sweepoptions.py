"""How a sweep is to go: its options in one object."""

from __future__ import annotations

import builtins
import os
from collections.abc import Sequence
from typing import Any, TypeAlias, final

import attrs

from ductaflow.execution.executors import LOCAL, Executor
from ductaflow.history.events import Listener
from ductaflow.model.kinds import RETRIABLE, FailureKind
from ductaflow.model.options import RunKeywords
from ductaflow.model.records import ErrorInfo
from ductaflow.sweeps.tasks import ConfigSpec, NameSpec, OnlySpec
from ductaflow.text.nearest import closest

RetrySpec: TypeAlias = str | type[BaseException] | Sequence[str | type[BaseException]]

RETRIED: tuple[str, ...] = (FailureKind.DIED, FailureKind.START)


def _names(given: RetrySpec) -> tuple[str, ...]:
    """Kinds and exceptions by their names."""
    items = [given] if isinstance(given, (str, type)) else list(given)
    return tuple(item.__name__ if isinstance(item, type) else item for item in items)


@final
@attrs.frozen(kw_only=True)
class SweepOptions:
    """The options of a sweep, as `sweep` explains them.

    Attributes:
        part: Whether the table is a part of what its step's table has, some of which run again.
        each: How each instance runs.
        executor: Where they run.
    """

    step: str | None = None
    instance: NameSpec = None
    config: ConfigSpec = None
    workers: int | None = None
    only: OnlySpec = None
    limit: int | None = attrs.field(default=None)
    on_error: str = attrs.field(default="continue")
    retries: int = attrs.field(default=0)
    retry_on: tuple[str, ...] = attrs.field(default=RETRIED, converter=_names)
    retry_wait: float = attrs.field(default=1.0)
    export_to: str | None = None
    export_files: str | Sequence[str] = "*"
    progress: bool = True
    on_event: Listener | None = None
    live: bool | str | os.PathLike[str] = False
    prune: bool = False
    part: bool = False
    each: RunKeywords = attrs.field(factory=RunKeywords)
    executor: Executor = LOCAL

    @on_error.validator
    def _check_on_error(self, _: object, value: object) -> None:
        if value not in ("continue", "stop"):
            raise ValueError(f"on_error must be 'continue' or 'stop', not {value!r}")

    @limit.validator
    @retries.validator
    def _check_count(self, field: attrs.Attribute[Any], value: object) -> None:
        if value is not None and (type(value) is not int or value < 0):
            raise ValueError(f"{field.name} must be an integer that is not negative, not {value!r}")

    @retry_wait.validator
    def _check_seconds(self, field: attrs.Attribute[Any], value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise ValueError(
                f"{field.name} must be a number of seconds that is not negative, not {value!r}"
            )

    @retry_on.validator
    def _check_kinds(self, _: object, value: tuple[str, ...]) -> None:
        for name in value:
            close = closest(name, RETRIABLE)
            if name.islower() and name not in RETRIABLE and close:  # `gaierror` is an exception
                raise ValueError(f"retry_on has {name!r}; did you mean {close!r}?")

    def retried(self, error: ErrorInfo | None) -> bool:
        """Whether a run that failed so is to be tried again, attempts left."""
        if error is None:
            return False
        return error.kind in self.retry_on or any(
            error.type == name or _is_builtin_subclass(error.type, name) for name in self.retry_on
        )


def _is_builtin_subclass(name: str, above: str) -> bool:
    """Whether a builtin exception is one of another: ConnectionResetError of ConnectionError."""
    lower, upper = (getattr(builtins, n, None) for n in (name, above))
    return isinstance(lower, type) and isinstance(upper, type) and issubclass(lower, upper)
