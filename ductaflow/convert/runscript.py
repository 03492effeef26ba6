"""`create_flow_run_script`: a short script that runs a flow as an instance."""

from __future__ import annotations

from pathlib import Path

from ductaflow.convert.generated import header, write_generated
from ductaflow.convert.source import PathLike, find_source
from ductaflow.plans.literal import quoted
from ductaflow.text.quoting import docstring

_SCRIPT = '''\
#!/usr/bin/env python
{about}

{header}
import argparse
import sys
from pathlib import Path
{installed}
HERE = Path(__file__).resolve().parent
ROOT = {root}
FLOW = {flow}
{vendored}

def main() -> int:
    """Run the flow as the command line says; 0 if it succeeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="JSON or YAML, goes over the flow's default"
    )
    parser.add_argument(
        "--instance", default="default", metavar="NAME", help="the run's name (default: default)"
    )
    parser.add_argument(
        "-p", dest="params", action="append", default=[], metavar="KEY=VALUE",
        help="a value of the config; dotted keys lead into its dicts",
    )
    options = parser.parse_args()
    try:
        config = given_config(options.config, options.params) or None
        run = run_step_flow(FLOW, {step}, options.instance, config, root=ROOT)
    except DuctaflowError as error:
        print(harmless(str(error)), file=sys.stderr)
        return 1
    print(harmless(f"{{run.label}} {{run.status.label}} in {{run.duration:.1f}} s: {{run.html}}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''

_INSTALLED = """
from ductaflow import DuctaflowError, run_step_flow
from ductaflow.plans.values import given_config
from ductaflow.text.escapes import harmless
"""
_VENDORED = """
sys.path.insert(0, str(ROOT / "code"))  # this project's own library
from ductacore import DuctaflowError, run_step_flow
from ductaflow.plans.values import given_config
from ductaflow.text.escapes import harmless
"""


def create_flow_run_script(
    flow_path: PathLike,
    output_dir: PathLike | None = None,
    *,
    force: bool = False,
    root: PathLike | None = None,
) -> Path:
    """Make `{flow}_run.py`, a script that runs a flow as an instance.

    It takes `--config FILE`, `--instance NAME` and `-p key=value`, and ends with 0 only if the run
    succeeds.

    Args:
        flow_path: The flow; see `run_step_flow`.
        output_dir: Where to make it; None for beside the flow.
        force: Whether to overwrite a script that was edited since.
        root: The project root; found from where the caller is, if left out.

    Returns:
        The script.

    Raises:
        FlowError: The flow is not there, or is not a flow with one parameters cell.
        ConversionError: The flow is not Python that compiles, or the script was edited.
        ArtifactError: The script cannot be written.
    """
    source = find_source(flow_path, output_dir, root)
    name = f"{source.flow.name}_run.py"
    up = source.from_folder(source.root)
    inside = source.flow.path.is_relative_to(source.root)
    text = _SCRIPT.format(
        about=docstring(f"Run {source.shown} as an instance of its step."),
        step=quoted(source.flow.name),
        header=header(source.flow, source.shown),
        root="HERE" if up == "." else f"(HERE / {quoted(up)}).resolve()",
        flow=f"ROOT / {quoted(source.shown)}"
        if inside
        else f"(HERE / {quoted(source.from_folder(source.flow.path))}).resolve()",
        installed="" if source.is_vendored else _INSTALLED,
        vendored=_VENDORED if source.is_vendored else "",
    )
    script = source.folder / name
    write_generated(script, text, force=force, executable=True)
    return script
