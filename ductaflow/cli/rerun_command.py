"""`ductaflow rerun`: run instances again, each with the flow and config that it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, say
from ductaflow.model.kinds import FailureKind

if TYPE_CHECKING:
    from ductaflow.history.run import Run


@click.command("rerun")
@options.instances_argument
@click.option("--failed", is_flag=True, help="All that did not succeed.")
@click.option("--step", help="Only those of this step.")
@click.option("-w", "--workers", type=int, metavar="N", help="How many at once.")
@options.run_options
@options.root_option
@options.json_option
def command(
    instances: tuple[str, ...],
    failed: bool,
    step: str | None,
    workers: int | None,
    root: str | None,
    as_json: bool,
    **how: Any,
) -> int:
    """Run INSTANCES, or all that --failed, again, as they were run unless options say otherwise."""
    import attrs

    from ductaflow.errors import DuctaflowError
    from ductaflow.model.records import ErrorInfo, Status
    from ductaflow.project.root import project_root
    from ductaflow.reuse.moves import flow_of
    from ductaflow.sweeps.calls import sweep_part

    if not instances and not failed:
        raise click.UsageError("name the instances, or give --failed")
    project = project_root(root)
    runs = [
        run for run in options.find_runs(project, instances, step) if run.status.bad or not failed
    ]
    arguments = options.as_arguments(how)
    arguments["force"] = True
    done: list[Run] = []
    for group in _groups(runs):
        rows = [{"instance": run.instance, "config": run.given} for run in group]
        try:
            done += sweep_part(
                flow_of(group[0].record, project),
                rows,
                step=group[0].step,
                instance="instance",
                config=lambda row: row["config"],
                workers=workers,
                progress=not as_json,
                root=project,
                **{**_options(group[0]), **arguments},
            )
        except DuctaflowError as e:  # of these; the others go on
            error = ErrorInfo(FailureKind.FLOW, type(e).__name__, str(e))
            done += [
                attrs.evolve(run, known=attrs.evolve(run.record, status=Status.FAILED, error=error))
                for run in group
            ]
    if as_json:
        dump([run_facts(run) for run in done])
    elif not done:
        say("There is nothing to run again.")
    else:
        well = sum(run.ok for run in done)
        say(f"{well} of {len(done)} succeeded.")
        for run in done:
            if run.error is not None:
                say(f"  {run.label}: {run.error.type}: {run.error.message}")
    return 1 if any(run.status.bad for run in done) else 0


def _options(run: Run) -> dict[str, Any]:
    """The options that a run had, as those of a sweep."""
    from ductaflow.plans.options import recorded_options

    values = recorded_options(run.record.options)
    if "preload" in values and values["preload"] is None:
        values["preload"] = False
    return values


def _groups(runs: list[Run]) -> list[list[Run]]:
    """The runs by what one sweep can run again: of one flow, step and set of options."""
    from ductaflow.files.jsonio import canonical

    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.config is None:
            raise click.UsageError(f"{run.label} was run without a config; run it as it was run")
        key = run.record.flow, run.step, canonical(dict(run.record.options))
        groups.setdefault(key, []).append(run)
    return list(groups.values())
