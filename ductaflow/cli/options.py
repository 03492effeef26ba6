"""Options and arguments that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from ductaflow.model.options import OPTIONS, Option
from ductaflow.text.nearest import closest

Command = TypeVar("Command", bound=Callable[..., Any])


def _flows(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of flows, for a shell that completes."""
    from ductaflow.project.root import project_root

    root = project_root(ctx.params.get("root"))
    names = [flow.relative_to(root).as_posix() for flow in flow_files(root)]
    return [name for name in names if name.startswith(incomplete)]


def flow_files(root: Path) -> list[Path]:
    """The flows of a project, without the scripts that were made of them."""
    from ductaflow.convert.generated import is_generated
    from ductaflow.flows.finding import flow_files as found_in
    from ductaflow.project.settings import load_settings

    folders = [root / folder for folder in load_settings(root).flows]
    return [f for folder in folders for f in found_in(folder) if not is_generated(f)]


def _instances(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """`step/instance` names, for a shell that completes."""
    from ductaflow.project.layout import iter_instances, iter_steps
    from ductaflow.project.root import project_root

    root = project_root(ctx.params.get("root"))
    names = [f"{s}/{folder.name}" for s in iter_steps(root) for folder in iter_instances(root, s)]
    return [name for name in names if name.startswith(incomplete)]


root_option = click.option(
    "--root",
    type=click.Path(file_okay=False),
    is_eager=True,
    help="The project root; found from here upwards if left out.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
flow_argument = click.argument("flow", shell_complete=_flows)
instance_argument = click.argument("instance", shell_complete=_instances)
instances_argument = click.argument("instances", nargs=-1, shell_complete=_instances)
step_option = click.option("--step", help="The step's name; the flow's own if left out.")
params_option = click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="KEY=VALUE",
    help="A value of the config, in YAML; dotted keys lead into its dicts.",
)
config_option = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A config, a JSON or YAML file, that goes over the flow's default.",
)
defaults_option = click.option(
    "--defaults/--no-defaults",
    default=True,
    help="Whether the flow's default counts beside what is given; it does if left out.",
)
force_option = click.option("--force", is_flag=True, help="Run even if nothing has changed.")


def run_options(command: Command) -> Command:
    """The options of `run_step_flow` that are about how to run and have a flag."""
    for name, option in reversed(list(OPTIONS.items())):
        if option.flag:
            command = click.option(
                option.flag,
                name,
                default=None,
                callback=partial(_checked, option),
                metavar=option.metavar or None,
                help=option.help,
            )(command)
    return command


def _checked(option: Option, _: click.Context, __: click.Parameter, said: Any) -> Any:
    """What the call gets of what a flag says."""
    value = option.from_text(said) if isinstance(said, str) else said
    if value is not None:
        try:
            option.read(value)
        except (TypeError, ValueError) as e:
            raise click.BadParameter(f"it must be {e}, not {said!r}") from None
    return value


def table_options(command: Command) -> Command:
    """The options that say which table, what names its instances, and what they get."""
    for option in reversed(
        [
            click.option(
                "-t",
                "--table",
                "table_file",
                type=click.Path(dir_okay=False, path_type=Path),
                help="The control table, a .csv, .parquet or .xlsx file: a row is an instance.",
            ),
            click.option(
                "-g",
                "--grid",
                "axes",
                multiple=True,
                metavar="KEY=A,B,…",
                help="Values of a key; of several keys, every combination is an instance.",
            ),
            click.option(
                "-i", "--instance", help="What names them: a column, or as '{region}_{year}'."
            ),
            click.option(
                "--columns",
                multiple=True,
                metavar="COLUMN,…",
                help="Only these columns go into the config.  "
                "[default: all but what only names instances]",
            ),
            config_option,
            params_option,
            defaults_option,
            step_option,
            click.option(
                "--only", multiple=True, metavar="GLOB", help="Only instances of such names."
            ),
            click.option("--limit", type=int, metavar="N", help="At most so many."),
        ]
    ):
        command = option(command)
    return command


def as_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """What `run_options` and `force_option` gave, as arguments of the API: only what was said."""
    arguments = {name: value for name, value in options.items() if value is not None}
    if not arguments.get("force"):
        arguments.pop("force", None)
    return arguments


def find_instance(root: Path, text: str) -> Path:
    """The folder of an instance.

    Args:
        root: The project root.
        text: `step/instance`, the folder itself, or an instance's name that only one step has.

    Raises:
        click.UsageError: There is none, or more than one.
    """
    from ductaflow.project.layout import iter_instances, iter_steps, record_in

    folders = [f for step in iter_steps(root) for f in iter_instances(root, step)]
    folders = [f for f in folders if record_in(f).is_file()]
    known = {f"{f.parent.name}/{f.name}": f for f in folders}
    if text in known:
        return known[text]
    given = Path(text)
    here = [f for f in folders if f in (given.absolute(), (root / given).absolute())]
    named = here or [f for f in folders if f.name == text]
    if len(named) == 1:
        return named[0]
    if named:
        told = ", ".join(f"{f.parent.name}/{f.name}" for f in named)
        raise click.UsageError(f"{text!r} is an instance of more than one step: {told}")
    pool = [*known, *(f.name for f in folders)]
    close = closest(text, pool)
    hint = f"did you mean {close!r}?" if close else f"`ductaflow ls` lists {len(known)} runs."
    raise click.UsageError(f"there is no run {text!r} in {root}; {hint}")


def find_runs(root: Path, names: tuple[str, ...], step: str | None = None) -> list[Any]:
    """The runs that a command line names; all, or all of a step, if it names none.

    Raises:
        click.UsageError: One is not there.
    """
    from ductaflow.history.catalog import load_run
    from ductaflow.history.standing import standing, standing_runs

    if names:
        found = [load_run(find_instance(root, name)) for name in names]
        runs = [standing(run) for run in found if run is not None]
        return [run for run in runs if step is None or run.step == step]
    return list(standing_runs(root, step))
