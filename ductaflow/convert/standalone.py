"""`create_standalone_python_script`: a flow as plain Python, without ductaflow or Jupyter."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ductaflow.convert.cells import plain_cell
from ductaflow.convert.embed import needed_by, runtime
from ductaflow.convert.generated import header, write_generated
from ductaflow.convert.imports import Module, path_entries, project_modules
from ductaflow.convert.magics import long_text
from ductaflow.convert.source import PathLike, Source, find_source
from ductaflow.files import jsonio
from ductaflow.flows.parameterscell import require_parameters
from ductaflow.flows.syntax import parse_python
from ductaflow.plans.config import normalise
from ductaflow.plans.literal import literal, quoted, to_python
from ductaflow.plans.parameters import Defaults, complete, read_defaults
from ductaflow.text.quoting import docstring, visible

_CONFIG_SEAL = re.compile(r"^# config sha256: ([0-9a-f]{64})$", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
_DRAWS = ("matplotlib", "seaborn", "plotnine")
_MAY_DRAW = re.compile(r"\b(?:matplotlib|seaborn|plotnine|pandas|geopandas|xarray|networkx)\b")


def create_standalone_python_script(
    flow_path: PathLike,
    output_dir: PathLike | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    bundle: bool = False,
    force: bool = False,
    root: PathLike | None = None,
) -> Path:
    """Make `{flow}_standalone.py` and `{flow}_config.json`: the flow as plain Python.

    The script needs the flow's own libraries and nothing else. It takes `--config FILE`,
    `--output-dir FOLDER` and `-p key=value`. Magics, `display` and a cell's last line do what they
    do in a notebook; figures become files where there is no display. The project's `code/` is found
    from where the script lies.

    Args:
        flow_path: The flow; see `run_step_flow`.
        output_dir: Where to make them; None for beside the flow.
        config: What goes into the config file over the flow's default. A config file that was
            edited is left as it is.
        bundle: Whether to put the project's modules that the flow imports into the script.
        force: Whether to overwrite what was edited since.
        root: The project root; found from where the caller is, if left out.

    Returns:
        The script.

    Raises:
        FlowError: The flow is not there, or is not a flow with one parameters cell.
        ConversionError: Something in it has no meaning in a script, of which the message names cell
            and line; or the script was edited.
        ConfigError: There is no config, or it cannot be normalised.
        ArtifactError: A file cannot be written.
    """
    source = find_source(flow_path, output_dir, root)
    name = source.flow.name
    given = None if config is None else normalise(config, source.root / (source.output or ""))
    require_parameters(source.flow)
    values = complete(source.flow, given)
    script = source.folder / f"{name}_standalone.py"
    config_file = source.folder / f"{name}_config.json"
    text = jsonio.dumps(values) + "\n"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    body = standalone_text(
        source,
        config_file.name,
        source.output,
        bundle=bundle,
        seal=f"# config sha256: {digest}\n",
    )
    keep_config = not force and _is_edited(config_file, script)
    write_generated(script, body, force=force, executable=True)
    if not keep_config:
        jsonio.write_atomic(config_file, text)
    return script


def _is_edited(config_file: Path, script: Path) -> bool:
    """Whether a config file is there and is not as it was made with the script."""
    if not config_file.exists():
        return False
    try:
        seal = _CONFIG_SEAL.search(script.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return True
    return seal is None or hashlib.sha256(config_file.read_bytes()).hexdigest() != seal[1]


# --- the text -----------------------------------------------------------------------------------


def standalone_text(
    source: Source, config_name: str, output: str | None, *, bundle: bool = False, seal: str = ""
) -> str:
    """The text of a standalone script.

    Args:
        source: The flow.
        config_name: The config file beside the script.
        output: Where it runs by default, from the project's root; None for where the script lies.
        bundle: Whether to put the project's modules into it.
        seal: A line more for its head.

    Raises:
        ConversionError: See `create_standalone_python_script`.
    """
    flow = source.flow
    after = require_parameters(flow)
    cells = [plain_cell(cell, source.shown) for cell in flow.cells]
    trees = [tree for cell in cells if (tree := parse_python(cell)) is not None]
    modules = project_modules(trees, _module_folders(source, trees))
    everything = [*cells, *(module.source for module in modules)]
    draws = any(_MAY_DRAW.search(text) for text in everything)
    futures = sorted({line.strip() for cell in cells for line in _FUTURE.findall(cell)})
    parts = []
    for cell, text in zip(flow.cells, cells, strict=True):
        part = _FUTURE.sub("", text).rstrip()
        if cell.kind == "code" and cell.runs and draws and trees:
            part += "\n_nb_figures()"
        if cell.number - 1 == after:
            part += f"\nconfig = _nb_config\n{_flattening(read_defaults(flow))}"
        if part.strip():
            parts.append(part.strip("\n"))
    about = quoted(f"Run {source.shown} as plain Python.")
    words = [quoted(flow.name), quoted(config_name), "None" if output is None else quoted(output)]
    default = read_defaults(flow)
    start = [
        f"_nb_default = {to_python(default.values)}",
        f"_nb_config = _nb_start(__file__, {', '.join(words)}, {about}, _nb_default)",
    ]
    if any(
        f"import {name}" in text or f"from {name}" in text for text in everything for name in _DRAWS
    ):
        start.append("_nb_prepare_figures()")
    if bundle and modules:
        start.append(_bundled(modules))
    if any(_uses_display(tree) for tree in trees):
        start.append("display = _nb_display")
    body = "\n\n".join(["\n".join(start), *parts])
    title = docstring(f"{source.shown} as plain Python: `python` this file `--help`.")
    return "\n".join(
        [
            "#!/usr/bin/env python",
            title,
            "",
            header(flow, source.shown) + seal,
            *futures,
            "# --- what a notebook does by itself " + "-" * 60,
            "",
            runtime(needed_by(body)),
            "",
            f"# --- {visible(source.shown)} ".ljust(96, "-"),
            "",
            body,
            "",
        ]
    )


def _flattening(known: Defaults) -> str:
    """Statements that make variables of the config."""
    own = ", ".join(
        f"{quoted(name)}: {'...' if value is ... else literal(value)}"
        for name, value in known.own.items()
    )
    text = f"globals().update(_nb_flatten_unless(config{f', {{{own}}}' if own else ''}))"
    if known.is_parameter:
        text += '\nconfig = config.get("config", config)'
    return text


def _module_folders(source: Source, trees: Sequence[ast.AST]) -> list[Path]:
    """Where the project's modules lie."""
    run = source.root / "runs" / "step" / "instance"  # where flows run, as they name folders from
    named = [(run / entry).resolve() for tree in trees for entry in path_entries(tree)]
    inside = [folder for folder in named if folder.is_relative_to(source.root.resolve())]
    return list(
        dict.fromkeys([*inside, source.root / "code", source.flow.path.parent, source.root])
    )


def _uses_display(tree: ast.AST) -> bool:
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = any(n.id == "display" and isinstance(n.ctx, ast.Store) for n in names)
    return not bound and any(n.id == "display" for n in names)


def _bundled(modules: Sequence[Module]) -> str:
    """Statements that let the script find modules in itself."""
    lines = ["_nb_modules = {"]
    lines += [f"    {m.name!r}: ({m.is_package}, {long_text(m.source)})," for m in modules]
    lines += ["}", "__import__('sys').meta_path.insert(0, _nb_Bundle(_nb_modules))"]
    return "\n".join(lines)
