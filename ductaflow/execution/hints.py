"""What to do about an error of a flow, where its message alone does not say so."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ductaflow.model.plans import Config
from ductaflow.plans.literal import quoted
from ductaflow.plans.plan import InstancePlan
from ductaflow.plans.variables import variables

_SHOWN = 3


def hint(error: str, message: str, plan: InstancePlan) -> str:
    """What is added to the message of an error that a cell raised; mostly nothing.

    Args:
        error: The name of its class.
        message: Its text.
        plan: The plan of the run.
    """
    if error == "ModuleNotFoundError":
        return missing_module(message, plan)
    if error == "NameError":
        return deeper_key(message, plan.config or {})
    return ""


def missing_module(message: str, plan: InstancePlan) -> str:
    """What to add to a flow that misses a module which lies in its project; empty if none does.

    Args:
        message: The text of a `ModuleNotFoundError`.
        plan: The plan of the run.
    """
    match = re.match(r"No module named '([^'.]+)", message)
    if match is None:
        return ""
    beside = plan.flow.path.parent
    for folder in dict.fromkeys((beside, plan.root / "code", plan.root, plan.root / "src")):
        if (folder / f"{match[1]}.py").is_file() or (folder / match[1]).is_dir():
            path = Path(os.path.relpath(folder, plan.directory)).as_posix()
            where = "beside the flow" if folder == beside else f"in {folder}"
            return (
                f". It lies {where}; flows run in their instance's folder, so add, before the "
                f'import: import sys; sys.path.append("{path}")'
            )
    return ""


def deeper_key(message: str, config: Config) -> str:
    """Where the config has a key that a flow takes for a variable; empty if it has none.

    The config's own keys become variables, and those of its dicts, but none below.

    Args:
        message: The text of a `NameError`.
        config: The config.
    """
    match = re.match(r"name '(\w+)' is not defined", message)
    if match is None:
        return ""
    holders = {path: name for name, path in variables(config).items()}
    found = [_expression(path, holders) for path in _paths(config) if path and path[-1] == match[1]]
    if not found:
        return ""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f". In the config, `{match[1]}` is {' or '.join(found[:_SHOWN])}{more}"


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The keys that lead to each value."""
    stack = [(value, path)]
    while stack:
        value, path = stack.pop(0)
        yield path
        if isinstance(value, dict):
            stack += [(inner, (*path, key)) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [(inner, (*path, at)) for at, inner in enumerate(value)]


def _expression(path: tuple[str | int, ...], holders: dict[Any, str]) -> str:
    """A value as a flow writes it: from the variable that is nearest to it."""
    for length in range(len(path), 0, -1):
        if path[:length] in holders:
            name, rest = holders[path[:length]], path[length:]
            break
    else:
        name, rest = "config", path
    keys = (quoted(part) if isinstance(part, str) else str(part) for part in rest)
    return f"`{name}{''.join(f'[{key}]' for key in keys)}`"
