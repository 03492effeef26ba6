"""From a flow and a config to a plan: all that is decided before anything runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ductaflow import jsonio
from ductaflow.config import normalise
from ductaflow.errors import ConfigError
from ductaflow.flow import default_config, require_parameters
from ductaflow.inject import prepare
from ductaflow.model import Config, Flow, InstancePlan, RunOptions
from ductaflow.notes import config_notes
from ductaflow.options import HtmlOptions


def plan_instance(
    flow: Flow,
    config: Mapping[str, Any] | None,
    step: str,
    instance: str,
    directory: Path,
    root: Path,
    options: RunOptions,
    *,
    with_config: bool,
) -> InstancePlan:
    """The plan of one run.

    Args:
        flow: The parsed flow.
        config: What to inject; None for the literal default of its parameters cell.
        step: The step's name, checked; empty outside `runs/`.
        instance: The instance's, likewise.
        directory: The folder it runs in, absolute.
        root: The project root, absolute.
        options: How to run it.
        with_config: Whether anything is injected.

    Raises:
        ParametersCellError: There is not exactly one parameters cell.
        ConfigError: The config cannot be normalised, or there is none.
    """
    values: Config | None = None
    if with_config:
        require_parameters(flow)
        values = normalise(config if config is not None else _default(flow))
    notes = config_notes(flow, values) if values is not None else ()
    return InstancePlan(
        flow=flow,
        cells=prepare(flow, values, notes),
        config=values,
        step=step,
        instance=instance,
        directory=directory,
        root=root,
        options=options,
        notes=notes,
        fingerprints=fingerprints(flow, values),
    )


def fingerprints(flow: Flow, config: Config | None) -> dict[str, str]:
    """Hashes of what goes into a run.

    Args:
        flow: The parsed flow.
        config: Its config, normalised; None where nothing is injected.
    """
    found = {"flow": flow.sha256}
    if config is not None:
        found["config"] = hashlib.sha256(jsonio.canonical(config).encode()).hexdigest()
    return found


def make_options(
    *,
    timeout: float | None = None,
    cell_timeout: float | None = None,
    kernel_name: str | None = None,
    html: bool | HtmlOptions = True,
    preload: Sequence[str] | bool = True,
    nested_workers: int | None = None,
) -> RunOptions:
    """The options as callers give them, in one object.

    Raises:
        TypeError: `preload` is a single string.
    """
    ahead: tuple[str, ...] | None
    if isinstance(preload, bool):
        ahead = () if preload else None
    elif isinstance(preload, str):
        raise TypeError(f"preload takes a list of module names, as [{preload!r}]")
    else:
        ahead = tuple(preload)
    return RunOptions(timeout, cell_timeout, kernel_name, html, ahead, nested_workers)


def _default(flow: Flow) -> Mapping[str, Any]:
    default = default_config(flow)
    if default is None:
        raise ConfigError(
            f"no config was given, and the parameters cell of {flow.path} has none that can be "
            "read without running it (`config = {...}` with literal values); give config="
        )
    return default
