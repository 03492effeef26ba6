"""`ductaflow explain FLOW`: whether a run would be reused, and why not."""

from __future__ import annotations

from pathlib import Path

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("explain")
@options.flow_argument
@click.option("-i", "--instance", default="default", show_default=True, help="Its name.")
@options.config_option
@options.params_option
@options.defaults_option
@options.step_option
@options.root_option
@options.json_option
def command(
    flow: str,
    instance: str,
    config_file: Path | None,
    params: tuple[str, ...],
    defaults: bool,
    step: str | None,
    root: str | None,
    as_json: bool,
) -> None:
    """Say whether `ductaflow run` with the same arguments would reuse the last run of FLOW."""
    import attrs

    from ductaflow.flows.finding import resolve_flow
    from ductaflow.plans.values import given_config
    from ductaflow.project.root import project_root
    from ductaflow.sweeps.updates import explain

    project = project_root(root, flow)
    path = resolve_flow(flow, project, Path.cwd())
    config = given_config(config_file, params)
    decision = explain(path, step or path.stem, instance, config, root=project, defaults=defaults)
    if as_json:
        dump({"reuse": decision.reuse, "reasons": [attrs.asdict(r) for r in decision.reasons]})
        return
    say("It would be reused." if decision.reuse else "It would run:")
    for reason in decision.reasons:
        say(f"  {reason}")
