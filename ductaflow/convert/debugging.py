"""`debug_flow`: an instance's folder, notebook and script as for a run, to step through."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ductaflow.convert.generated import write_generated
from ductaflow.convert.source import find_source
from ductaflow.convert.standalone import standalone_text
from ductaflow.errors import ArtifactError, ConfigError
from ductaflow.execution.workbench import write_notebook
from ductaflow.files import jsonio
from ductaflow.history.lock import instance_lock
from ductaflow.plans.options import make_options
from ductaflow.plans.plan import plan_instance
from ductaflow.project.layout import ArtifactPaths
from ductaflow.project.root import project_root
from ductaflow.project.settings import load_settings
from ductaflow.text.quoting import vs_code

PathLike = str | os.PathLike[str]


def debug_flow(
    flow: PathLike,
    execution_dir: PathLike,
    config: Mapping[str, Any] | None = None,
    force: bool = False,
    *,
    root: PathLike | None = None,
) -> Path:
    """Set up a run for stepping through it; nothing is run, and nothing that is there is lost.

    The folder gets `config.json`, `{flow}_debug.ipynb`, the notebook that a run would execute, and
    `{flow}_debug.py`, the same as plain Python. `.vscode/launch.json` of the project gets a
    configuration that starts the script in a debugger.

    Args:
        flow: The flow; see `run_step_flow`.
        execution_dir: The folder, as `runs/analysis/scenario_A`; made if need be.
        config: The config, over the flow's default; that of the folder's last run if left out.
        force: Whether to overwrite another config that is there, and debug files that were edited.
        root: The project root; found from where the caller is, if left out.

    Returns:
        The folder.

    Raises:
        FlowError: The flow is not there, or is not a flow with one parameters cell.
        ConversionError: Something in the flow has no meaning in a script; a debug file was edited;
            or a path has `${`, a variable to VS Code.
        ConfigError: There is no config, or the folder holds another one.
        InstanceBusy: The instance is being run.
        ArtifactError: A file cannot be written.
    """
    source = find_source(flow, execution_dir, project_root(root))
    folder, name = source.folder.resolve(), source.flow.name
    script = folder / f"{name}_debug.py"
    vs_code(str(script), "the path")
    vs_code(sys.executable, "the interpreter")
    paths = ArtifactPaths.of(folder, name)
    values = config if config is not None else _read(paths.config)
    step, instance = folder.parent.name, folder.name
    plan = plan_instance(
        source.flow, values, step, instance, folder, source.root,
        make_options({}, load_settings(source.root)), with_config=True,
    )  # fmt: skip
    assert plan.config is not None
    with instance_lock(paths):
        there = _read(paths.config)
        if there not in (None, plan.config) and not force:
            raise ConfigError(
                f"{paths.config} holds another config than the one given; give force=True to "
                "replace it, or another folder"
            )
        text = standalone_text(source, paths.config.name, None)
        write_generated(script, text, force=force)
        if there != plan.config:
            jsonio.write_atomic(paths.config, jsonio.dumps(plan.config) + "\n")
        write_notebook(plan, folder / f"{name}_debug.ipynb")
    _add_launch(source.root, script, f"ductaflow: {step}/{instance}")
    return folder


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text("utf-8", "surrogatepass"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise ArtifactError(f"cannot read {file}: {e}; remove it, or correct it") from e
    return found if isinstance(found, dict) else None


def _add_launch(root: Path, script: Path, name: str) -> None:
    """Add a configuration to VS Code's; one file that is not plain JSON is left alone."""
    own = {
        "name": name,
        "type": "debugpy",
        "request": "launch",
        "program": str(script),
        "args": [
            "--config",
            str(script.with_name("config.json")),
            "--output-dir",
            str(script.parent),
        ],
        "cwd": str(script.parent),
        "python": sys.executable,
        "console": "integratedTerminal",
        "justMyCode": False,
    }
    for folder in (root / ".vscode", script.parent / ".vscode"):
        file = folder / "launch.json"
        try:
            known = json.loads(file.read_text("utf-8"))
            others = [c for c in known["configurations"] if c.get("name") != name]
        except FileNotFoundError:
            known, others = {"version": "0.2.0"}, []
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # with comments, which we would lose: the run's own folder gets one
        folder.mkdir(exist_ok=True)
        content = {**known, "configurations": [*others, own]}
        jsonio.write_atomic(file, jsonio.dumps(content) + "\n")
        return
