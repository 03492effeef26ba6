"""`inspect_notebook`: what parameters a notebook has."""

from __future__ import annotations

import ast
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ductaflow.flows.syntax import comments_of, language, parse_python
from ductaflow.model.flows import Flow
from ductaflow.papermill.notebooks import Source, filled, read_notebook

logger = logging.getLogger("papermill")
"""Of papermill's name, which programs that call it have set up."""

_TYPE_COMMENT = re.compile(r"type:\s*([^\s#]+)\s*(?:#\s*)?(.*)")


def inspect_notebook(
    notebook_path: Source, parameters: Mapping[str, Any] | None = None
) -> dict[str, dict[str, str]]:
    """The parameters that a notebook's `parameters` cell assigns.

    `ductaflow.inspect_flow` tells more.

    Args:
        notebook_path: Where the notebook is; see `execute_notebook`.
        parameters: What to fill in the fields of its path with.

    Returns:
        Of each parameter, by its name: `name`, `inferred_type_name` (`None` if it says none),
        `default` (its source) and `help` (its comment).
    """
    is_path = isinstance(notebook_path, (str, os.PathLike))
    name = filled(notebook_path, parameters or {}) if is_path else ""  # type: ignore[arg-type]
    return parameters_of(read_notebook(notebook_path, name))


def parameters_of(flow: Flow) -> dict[str, dict[str, str]]:
    """The parameters of a notebook; see `inspect_notebook`."""
    if flow.parameters is None:
        return {}
    if language(flow) != "python":
        logger.warning("parameters in %s cannot be inspected", language(flow))
        return {}
    source = flow.cells[flow.parameters].source
    return {item["name"]: item for item in _assigned(source)}


def _assigned(source: str) -> Iterator[dict[str, str]]:
    tree, comments = parse_python(source), comments_of(source)
    for statement in tree.body if tree is not None else ():
        annotation: ast.expr | None = None
        if isinstance(statement, ast.AnnAssign):
            targets: list[ast.expr] = [statement.target]
            annotation = statement.annotation
        elif isinstance(statement, ast.Assign):
            targets = statement.targets
        else:
            continue
        comment = comments.get(statement.end_lineno or 0, "")
        typed = _TYPE_COMMENT.match(comment)
        kind = typed[1] if typed else "None"
        if annotation is not None:
            kind = ast.get_source_segment(source, annotation) or "None"
        default = ast.get_source_segment(source, statement.value) if statement.value else None
        for target in targets:
            if isinstance(target, ast.Name):
                yield {
                    "name": target.id,
                    "inferred_type_name": kind.strip("'\""),
                    "default": default or "",
                    "help": typed[2] if typed else comment,
                }
