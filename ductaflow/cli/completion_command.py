"""`ductaflow completion SHELL`: what makes a shell complete the command."""

from __future__ import annotations

import click

from ductaflow.cli.output import say


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the lines that make SHELL complete `ductaflow`.

    \b
    bash:  echo 'eval "$(ductaflow completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(ductaflow completion zsh)"' >> ~/.zshrc
    fish:  ductaflow completion fish > ~/.config/fish/completions/ductaflow.fish
    """  # noqa: D301  (click is to see the character itself)
    from click.shell_completion import get_completion_class

    from ductaflow.cli.main import group

    kind = get_completion_class(shell)
    assert kind is not None
    say(kind(group, {}, "ductaflow", "_DUCTAFLOW_COMPLETE").source())
