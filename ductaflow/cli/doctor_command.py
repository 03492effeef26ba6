"""`ductaflow doctor`: check this installation and project."""

from __future__ import annotations

import click

from ductaflow.cli import options
from ductaflow.cli.output import dump, say


@click.command("doctor")
@options.root_option
@options.json_option
def command(root: str | None, as_json: bool) -> int:
    """Check interpreter, kernels, folders, settings and versions; say how to mend what is wrong."""
    from ductaflow.cli.checks import all_checks

    checks = []
    for check in all_checks(root):
        checks.append(check)
        if not as_json:
            colour = {"ok": "green", "hint": "yellow", "wrong": "red"}[check.verdict]
            sign = {"ok": "✓", "hint": "!", "wrong": "✗"}[check.verdict]
            say(f"{click.style(sign, fg=colour)} {check.what}: {check.found}")
            if check.advice:
                say(f"    {check.advice}")
    if as_json:
        dump([check.to_json() for check in checks])
    return 1 if any(check.verdict == "wrong" for check in checks) else 0
