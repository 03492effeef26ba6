"""Where the command `ductaflow` begins: which commands there are, and what its exit code says.

Nothing but click is imported before a command is known: `ductaflow --help` is to come at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import TracebackType
from typing import Any

import click

from ductaflow._version import __version__
from ductaflow.text.escapes import harmless

OK = 0
NOT_WELL = 1
REFUSED = 2
INTERRUPTED = 130

COMMANDS = {
    "new": "Make a new project that runs at once.",
    "run": "Run a flow as an instance.",
    "sweep": "Run a flow once for each row of a table or grid.",
    "inspect": "Show what a flow takes and reads.",
    "status": "Show how all steps stand, and what runs now.",
    "ls": "List runs.",
    "show": "Show one run: status, config, cells, error, files.",
    "log": "Print a run's log.",
    "check": "Say whether all is up to date, by the exit code too.",
    "explain": "Say whether a run would be reused, and why not.",
    "accept": "Count what has changed as harmless, without running.",
    "lineage": "Show what a run depends on, and what depends on it.",
    "update": "Bring runs up to date.",
    "rerun": "Run instances again.",
    "verify": "Run again what would be reused, and compare.",
    "export": "Deliver runs' files to folders or URLs.",
    "index": "Make the page that leads to all runs.",
    "script": "Make a script that runs a flow.",
    "standalone": "Make a flow into plain Python that needs no ductaflow.",
    "runner": "Make a flow into a file to double-click.",
    "debug": "Set up a run for a debugger.",
    "prune": "Remove instances that are no longer wanted.",
    "thin": "Let runs take less room: delete or compress what they left.",
    "report": "Make reports anew from notebooks.",
    "clean": "Remove what ductaflow wrote of runs.",
    "doctor": "Check this installation and project.",
    "completion": "Print what makes a shell complete this command.",
}

_EPILOG = (
    "Exit codes: 0 all is well; 1 a run did not succeed, or something is amiss; 2 the command "
    "line, or what it names, is wrong; 130 interrupted by Ctrl-C."
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Their names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"ductaflow.cli.{cmd_name}_command").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; a misspelt one is told the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as e:
            from ductaflow.text.nearest import closest

            close = closest(args[0], COMMANDS)
            hint = f" Did you mean {close!r}?" if close else ""
            raise click.UsageError(f"{e.message}{hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in the help, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="ductaflow")
def group() -> None:
    """Run Jupytext flows once per row of a table, each in its own folder, on isolated kernels."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; those of the process for None.

    Returns:
        The exit code.
    """
    if argv is None:
        sys.excepthook = _unexpected
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # symbols must not end a command on an old console
            stream.reconfigure(errors="replace")
    try:
        code: Any = group.main(args, prog_name="ductaflow", standalone_mode=False)
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        vars(e)["message"] = harmless(e.message)
        e.show()
        return e.exit_code
    except click.Abort as e:
        return _interrupted(e.__cause__)
    except BrokenPipeError:  # `ductaflow ls | head`
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_WELL
    except Exception as e:
        from ductaflow.errors import DuctaflowError

        if not isinstance(e, DuctaflowError):
            raise
        return _failed(e)
    return code if isinstance(code, int) else OK


def _unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback of an error that is none of ours, without commands to the terminal."""
    from traceback import format_exception

    sys.stderr.write(harmless("".join(format_exception(kind, error, trace))))


def _interrupted(cause: BaseException | None) -> int:
    if isinstance(cause, KeyboardInterrupt):
        click.echo(harmless(f"ductaflow: {cause or 'interrupted'}"), err=True)
        return INTERRUPTED
    click.echo("ductaflow: nothing was done", err=True)
    return NOT_WELL


def _failed(error: Exception) -> int:
    from ductaflow.errors import RunFailed, SweepFailed

    click.echo(harmless(f"ductaflow: {error}"), err=True)
    return NOT_WELL if isinstance(error, (RunFailed, SweepFailed)) else REFUSED
