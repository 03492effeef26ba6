"""The parameters cell: found, or an error that says how to make one."""

from __future__ import annotations

from collections.abc import Sequence

from ductaflow.errors import ParametersCellError
from ductaflow.model.flows import Cell, Flow, Tag

_PARAMETERS_LINES = {
    "percent": '# %% tags=["parameters"]\nconfig = {}\n# %%',
    "hydrogen": '# %% tags=["parameters"]\nconfig = {}\n# %%',
    "light": '# + tags=["parameters"]\nconfig = {}\n# -',
    "markdown": '```python tags=["parameters"]\nconfig = {}\n```',
    "rmarkdown": '```{python tags=c("parameters")}\nconfig = {}\n```',
    "myst": "```{code-cell}\n:tags: [parameters]\n\nconfig = {}\n```",
}


def require_parameters(flow: Flow) -> int:
    """Index into `flow.cells` of the one parameters cell.

    Raises:
        ParametersCellError: There is none, or more than one.
    """
    found = parameters_cells(flow.cells)
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(_place(flow.cells[i]) for i in found)
        raise ParametersCellError(
            f"{flow.path}: {len(found)} cells are tagged `{Tag.PARAMETERS}` ({places}), where one "
            "gives `config` its default; keep the tag on one of them"
        )
    text_format = flow.metadata.get("jupytext", {}).get("text_representation", {})
    lines = _PARAMETERS_LINES.get(text_format.get("format_name", ""))
    other = next((c for c in flow.cells if Tag.PARAMETERS in c.tags), None)
    wrong_kind = f" (the tagged one at {_place(other)} is {other.kind})" if other else ""
    how = (
        f"Add these lines near its top:\n\n{lines}\n"
        if lines
        else f"Add a code cell with `config = {{}}` near its top and give it the cell tag "
        f"`{Tag.PARAMETERS}` (JupyterLab: Property Inspector, Cell Tags)."
    )
    raise ParametersCellError(
        f"{flow.path}:1: no code cell is tagged `{Tag.PARAMETERS}`{wrong_kind}, "
        f"so there is no place for the config. {how}"
    )


def parameters_cells(cells: Sequence[Cell]) -> list[int]:
    """Where the code cells tagged `parameters` are."""
    return [i for i, c in enumerate(cells) if c.kind == "code" and Tag.PARAMETERS in c.tags]


def _place(cell: Cell) -> str:
    return f"cell {cell.number}" if cell.line is None else f"line {cell.line}"
