"""`ductaflow rerun`: run instances again, each with the flow and config that it had."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, run_facts, say

if TYPE_CHECKING:
    from ductaflow.run import Run


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
    """Run INSTANCES, or all that --failed, again."""
    from ductaflow.layout import project_root
    from ductaflow.sweeps import sweep

    if not instances and not failed:
        raise click.UsageError("name the instances, or give --failed")
    project = project_root(root)
    runs = [
        run for run in options.find_runs(project, instances, step) if run.status.bad or not failed
    ]
    arguments = options.as_arguments(how)
    arguments["force"] = True
    done: list[Run] = []
    for (flow, its_step, defaults), group in _groups(runs).items():
        rows = [{"instance": run.instance, "config": run.given} for run in group]
        done += sweep(
            project / flow,
            rows,
            step=its_step,
            instance="instance",
            config=lambda row: row["config"],
            workers=workers,
            progress=not as_json,
            root=project,
            defaults=defaults,
            **arguments,
        )
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


def _groups(runs: list[Run]) -> dict[tuple[Path, str, bool], list[Run]]:
    groups: dict[tuple[Path, str, bool], list[Run]] = {}
    for run in runs:
        if run.config is None:
            raise click.UsageError(f"{run.label} was run without a config; run it as it was run")
        defaults = bool(run.brief.options.get("defaults", True))
        groups.setdefault((Path(run.record.flow), run.step, defaults), []).append(run)
    return groups
