"""From a flow and a config to a plan: all that is decided before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from ductaflow.flows.commands import command_notes
from ductaflow.flows.parameterscell import require_parameters
from ductaflow.flows.reading import as_written
from ductaflow.model.flows import Cell, Flow
from ductaflow.model.options import RunOptions
from ductaflow.model.plans import Config, Note
from ductaflow.plans.cells import prepare
from ductaflow.plans.config import normalise
from ductaflow.plans.fingerprint import fingerprints
from ductaflow.plans.notes import config_notes
from ductaflow.plans.parameters import complete
from ductaflow.project.names import check_name


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


@attrs.frozen
class InstancePlan:
    """All that is needed to execute one instance; its cells are made when they are asked for.

    Attributes:
        flow: The parsed flow.
        config: The normalised config; None where nothing is injected.
        step: The step's name; empty for a run outside `runs/`.
        instance: The instance's name; empty likewise.
        directory: Where it runs and leaves its artifacts, absolute.
        root: The project root, absolute.
        options: How to run it.
        fingerprints: Hashes of what goes in; see `fingerprint.fingerprints`.
        given: What was given of the config; None for all of it.
    """

    flow: Flow
    config: Config | None = attrs.field(hash=False)
    step: str
    instance: str
    directory: Path
    root: Path
    options: RunOptions = attrs.field(factory=RunOptions)
    fingerprints: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    given: Config | None = attrs.field(default=None, repr=False, hash=False)

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """What there is to notice about the flow and its config."""
        commands = command_notes(self.flow)
        if self.config is None:
            return commands
        return (*commands, *config_notes(self.flow, self.config, self.given))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The flow's cells with the config, injected and flattening cells in place."""
        return prepare(self.flow, self.config, self.notes)

    @property
    def flow_display(self) -> str:
        """The flow's path for people: relative to the root where it lies inside it."""
        path, root = self.flow.path, self.root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    @property
    def label(self) -> str:
        """What people call it: `step/instance`, or the flow's name."""
        return f"{self.step}/{self.instance}" if self.step else self.flow.name


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
