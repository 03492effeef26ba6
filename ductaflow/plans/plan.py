"""From a flow and a config to a plan: all that is decided before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import attrs

from ductaflow.flows.commands import command_notes
from ductaflow.flows.parameterscell import require_parameters
from ductaflow.flows.reading import as_written
from ductaflow.model.ages import Age, seconds_of
from ductaflow.model.flows import Flow
from ductaflow.model.htmloptions import HtmlOptions
from ductaflow.model.plans import Config, InstancePlan, RunOptions
from ductaflow.plans.cells import prepare
from ductaflow.plans.config import normalise
from ductaflow.plans.fingerprint import fingerprints
from ductaflow.plans.notes import config_notes
from ductaflow.plans.parameters import complete
from ductaflow.project.names import check_name
from ductaflow.project.settings import DEFAULTS, SHARED, Settings


def names_of(
    flow: Path,
    step: str | None,
    instance: str | Mapping[str, Any] | None,
    config: Mapping[str, Any] | None,
) -> tuple[str, str, Mapping[str, Any] | None]:
    """Step, instance and config, as the long and the short form of a call give them.

    In the short form, `run_step_flow("flow", "instance", config)`, the flow names the step.

    Args:
        flow: The flow's file.
        step: The step's name, or in the short form the instance's.
        instance: The instance's name, or in the short form the config, or None.
        config: The config, or None.

    Raises:
        NameRefused: A name is no portable folder name.
    """
    if isinstance(instance, Mapping) and config is None:
        instance, config = None, instance
    if instance is None:
        step, instance = None, step
    checked = check_name(step if step is not None else flow.stem, "step")
    return checked, check_name(instance, "instance"), config


IGNORABLE = ("python", "package", "variable")
"""Kinds of change that callers can have ignored; `package:numpy` is one package's."""


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
    """The plan of one run, but for its cells: `lay_out` adds them once it is sure to run.

    Args:
        flow: The parsed flow.
        config: What to inject over the literal default of its parameters cell; None for nothing.
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
    given = None if config is None else normalise(config, directory)
    if not with_config:
        flow = as_written(flow)
        return _planned(flow, None, None, step, instance, directory, root, options)
    require_parameters(flow)
    return plan_given(flow, given, step, instance, directory, root, options)


def plan_given(
    flow: Flow,
    given: Config | None,
    step: str,
    instance: str,
    directory: Path,
    root: Path,
    options: RunOptions,
) -> InstancePlan:
    """The same of a flow with a parameters cell, and of a config that is normalised already."""
    config = complete(flow, given, defaults=options.defaults)
    told = None if given is not None and given == config else given or {}
    return _planned(flow, config, told, step, instance, directory, root, options)


def _planned(
    flow: Flow,
    config: Config | None,
    given: Config | None,
    step: str,
    instance: str,
    directory: Path,
    root: Path,
    options: RunOptions,
) -> InstancePlan:
    return InstancePlan(
        flow=flow,
        config=config,
        given=given,
        step=step,
        instance=instance,
        directory=directory,
        root=root,
        options=options,
        fingerprints=fingerprints(flow, config),
    )


def lay_out(plan: InstancePlan) -> InstancePlan:
    """The plan with its cells, the config's among them, and with what they gave to notice."""
    notes = config_notes(plan.flow, plan.config, plan.given) if plan.config is not None else ()
    notes = (*command_notes(plan.flow), *notes)
    return attrs.evolve(plan, cells=prepare(plan.flow, plan.config, notes), notes=notes)


def make_options(
    *,
    timeout: float | None = None,
    cell_timeout: float | None = None,
    kernel_name: str | None = None,
    html: bool | HtmlOptions | None = None,
    preload: Sequence[str] | bool | None = None,
    nested_workers: int | None = None,
    settings: Settings = DEFAULTS,
    reuse: bool = True,
    force: bool = False,
    ignore: Sequence[str] = (),
    max_age: Age | None = None,
    defaults: bool = True,
) -> RunOptions:
    """The options as callers give them, in one object; the project's settings where they do not.

    Raises:
        TypeError: `preload` or `ignore` is a single string, or a time limit no number.
        ValueError: A time limit is not above 0, `max_age` is no age, or `ignore` names nothing that
            can be ignored.
    """
    timeout = _limit("timeout", settings.timeout if timeout is None else timeout)
    cell_timeout = _limit(
        "cell_timeout", settings.cell_timeout if cell_timeout is None else cell_timeout
    )
    age = settings.max_age if max_age is None else seconds_of(max_age, "max_age")
    kernel_name = settings.kernel if kernel_name is None else kernel_name
    if html is None or (html is True and settings.html):
        html = HtmlOptions(shared=True) if settings.html == SHARED else bool(settings.html)
    preload = settings.preload if preload is None else preload
    ahead: tuple[str, ...] | None
    if isinstance(preload, bool):
        ahead = () if preload else None
    elif isinstance(preload, str):
        raise TypeError(f"preload takes a list of module names, as [{preload!r}]")
    else:
        ahead = tuple(preload)
    if isinstance(ignore, str):
        raise TypeError(f"ignore takes a list, as [{ignore!r}]")
    for kind in ignore:
        if kind.partition(":")[0] not in IGNORABLE:
            raise ValueError(f"ignore has {kind!r}; it takes {', '.join(map(repr, IGNORABLE))}")
    return RunOptions(
        timeout=timeout,
        cell_timeout=cell_timeout,
        kernel_name=kernel_name,
        html=html,
        preload=ahead,
        nested_workers=nested_workers,
        reuse=reuse,
        force=force,
        ignore=tuple(ignore),
        max_age=None if age == math.inf else age,
        defaults=defaults,
    )


def options_summary(options: RunOptions) -> Config:
    """The options that differ from the defaults, in JSON's types; they repeat a run."""
    values = attrs.asdict(options, filter=lambda field, value: value != field.default)
    return normalise({k: v for k, v in values.items() if k not in _OF_A_CALL})


_OF_A_CALL = ("nested_workers", "reuse", "force")  # not of the run itself


def _limit(name: str, seconds: float | None) -> float | None:
    """A time limit, of which infinity is none: so a call can lift one that the settings have."""
    if seconds is None or seconds == math.inf:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, Real):
        raise TypeError(f"{name} must be a number of seconds, not {seconds!r}")
    if not seconds > 0:
        raise ValueError(f"{name} must be a number of seconds greater than 0, not {seconds!r}")
    return seconds
