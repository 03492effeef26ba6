"""`ductaflow inspect FLOW`: what a flow takes and reads."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("inspect")
@click.argument("flow")
@options.root_option
@options.json_option
def command(flow: str, root: str | None, as_json: bool) -> None:
    """Show FLOW's parameters, their kinds, defaults and comments, and what it reads."""
    import attrs

    from ductaflow.plans.inspection import inspect_flow

    facts = inspect_flow(flow, root=root)
    if as_json:
        dump({**attrs.asdict(facts), "flow": str(facts.flow)})
    else:
        say(repr(facts))
