"""What flows import that also run as `python flow/x.py --config c.json`, and in a notebook.

They import it inside kernels, so whatever takes time to import is imported when it is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ductaflow.errors import ConfigError
from ductaflow.files import jsonio
from ductaflow.plans.config import dotted, merged, normalise
from ductaflow.project.root import project_root
from ductaflow.secrets.references import revealed

PROJECT_ROOT_KEY = "_project_root"
"""The config's key with the project's root, for flows that ask for it."""


def is_notebook_execution() -> bool:
    """Whether this code runs in a notebook's kernel, as all runs do, rather than as a script."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def load_cli_config(
    default_path: str | os.PathLike[str] | Mapping[str, Any],
    description: str = "Run this flow",
) -> dict[str, Any]:
    """The config that the command line of a flow asks for, when it is run as a script.

    The options are `--config FILE`, `--output-dir FOLDER` (made if need be, gets `config.json`, and
    is where the flow goes on from here) and `--no-execute` (sets that up, and ends).

    Args:
        default_path: The default, which the file given as `--config` updates, nested dicts too; or
            a JSON file to read if `--config` is left out.
        description: What `--help` says of the flow.

    Returns:
        The config, in JSON's types; its `_project_root` is the project's root unless it has one.

    Raises:
        SystemExit: `--help` or `--no-execute` was given, or the command line or file is wrong.
    """
    parser = argparse.ArgumentParser(description=description)
    shown = "the flow's own" if isinstance(default_path, Mapping) else os.fspath(default_path)
    parser.add_argument("--config", metavar="FILE", help=f"a config, in JSON (default: {shown})")
    parser.add_argument("--output-dir", metavar="FOLDER", help="where to run (default: here)")
    parser.add_argument("--no-execute", action="store_true", help="set up the folder, do not run")
    options = parser.parse_args()
    try:
        given = {} if options.config is None else _read(Path(options.config))
        if isinstance(default_path, Mapping):
            default = normalise(default_path)
        else:
            default = _read(Path(default_path)) if options.config is None else {}
        config = merged(default, normalise(given))
    except ConfigError as e:
        parser.error(str(e))
    config.setdefault(PROJECT_ROOT_KEY, str(project_root(None)))
    if options.output_dir is not None:
        folder = Path(options.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        jsonio.write_atomic(Path.cwd() / "config.json", jsonio.dumps(config) + "\n")
    if options.no_execute:
        parser.exit(0, f"{Path.cwd()} is set up; nothing was run\n")
    values: dict[str, Any] = revealed(config)
    return values


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError) as e:
        raise ConfigError(f"cannot read the config {file}: {e}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{file} holds a {type(config).__name__}; a config is a dict")
    return config


_FOLDER_KEY = re.compile(rf"_(?:dir|folder)$|^{PROJECT_ROOT_KEY}$")


def unpack_config(
    config: Mapping[str, Any] | None,
    flow_name: str | None = None,
    caller_locals: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A config's keys as variables, by the rule of ductaflow's flattening.

    Every key becomes one, and so does every key of a dict, which keeps its own name. Text that by
    its key is a folder's path (`…_dir`, `…_folder`, `_project_root`) becomes a `Path`.

    Args:
        config: The config.
        flow_name: With it, the config's summary is shown.
        caller_locals: The caller's `locals()`, to be updated.

    Returns:
        The variables, as `globals().update(unpack_config(config))` takes them.
    """
    from ductaflow.plans.variables import flatten

    values = normalise(config or {})
    if flow_name is not None:
        display_config_summary(values, flow_name)
    flat = {
        key: Path(value) if isinstance(value, str) and _FOLDER_KEY.search(key) else value
        for key, value in flatten(values).items()
    }
    if caller_locals is not None:
        caller_locals.update(flat)
    return flat


def display_config_summary(config: Mapping[str, Any] | None, flow_name: str | None = None) -> None:
    """Show a config: as tables in a notebook, as lines in a script.

    Args:
        config: The config.
        flow_name: Whose it is.
    """
    values = normalise(config or {})
    title = f"Configuration of {flow_name}" if flow_name else "Configuration"
    lines = [title, *(f"  {key} = {value!r}" for key, value in _leaves(values, ()))]
    if not is_notebook_execution():
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        return
    from IPython.display import display

    from ductaflow.plans.configtable import titled_table

    bundle = {
        "text/markdown": titled_table(values, title),
        "text/plain": "\n".join(lines),
    }
    display(bundle, raw=True)


def _leaves(config: Mapping[str, Any], above: tuple[str, ...]) -> list[tuple[str, Any]]:
    found = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found += _leaves(value, (*above, key))
        else:
            found.append((dotted((*above, key)), value))
    return found
