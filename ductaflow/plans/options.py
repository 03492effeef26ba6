"""From what a call says of how to run, and what its project says, to the options of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ductaflow.model.htmloptions import HtmlOptions
from ductaflow.model.options import OPTIONS, RunOptions
from ductaflow.model.plans import Config
from ductaflow.plans.config import normalise
from ductaflow.project.settings import DEFAULTS, Settings


def make_options(
    given: Mapping[str, Any], settings: Settings = DEFAULTS, nested_workers: int | None = None
) -> RunOptions:
    """The options of a run: what a call says, and the project's settings where it says nothing.

    Args:
        given: What the call says, by the options' names; None says nothing.
        settings: The project's.
        nested_workers: How many workers a sweep inside the flow takes.

    Raises:
        TypeError: A value is of no type that the option may have.
        ValueError: It is of such a type, but not what the option must be.
    """
    values: dict[str, Any] = {"nested_workers": nested_workers}
    for name, option in OPTIONS.items():
        if option.setting in settings.options:
            values[name] = settings.options[option.setting]
        value = given.get(name)
        if value is not None:
            try:
                read = option.read(value)
            except (TypeError, ValueError) as e:
                raise type(e)(f"{name} must be {e}, not {value!r}") from None
            below = values.get(name, getattr(_DEFAULTS, name))
            values[name] = option.over(read, below)
    return RunOptions(**values)


_DEFAULTS = RunOptions()


def options_summary(options: RunOptions) -> Config:
    """The options that differ from the defaults, in JSON's types; they repeat a run."""
    values = attrs.asdict(options, filter=lambda field, value: value != field.default)
    return normalise(
        {name: v for name, v in values.items() if name in OPTIONS and OPTIONS[name].recorded}
    )


def recorded_options(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What a record has of a run's options for `RunOptions`: those that are not the defaults."""
    values = {name: value for name, value in recorded.items() if name in OPTIONS}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
        elif name == "html" and isinstance(value, Mapping):
            values[name] = HtmlOptions(**value)
    return values
