"""Which modules a flow imports, so that its kernels can have them before they are asked for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from ductaflow.flows.syntax import language, parse_python
from ductaflow.model.flows import Flow

# Many libraries read the environment once, when they are imported. What a flow imports after it
# has touched the environment must find it as the flow has set it.
# The same holds for the path: which of two modules is meant, the project's or an installed one.
_ENVIRONMENT = re.compile(
    r"\benviron\b|\bputenv\b|%(?:set_)?env\b|\bload_dotenv\b|\bsys\.path\b(?!\.append)|\baddsitedir\b"
)
_PROJECTS = ("ductacore",)  # installed, but a project's own wins when it is imported
_MAGIC = re.compile(r"^([ \t]*)[%!].*$", re.MULTILINE)


@lru_cache(maxsize=64)
def imports(flow: Flow) -> tuple[str, ...]:
    """The absolute imports of a flow's cells, in order, each once, as `scipy` or `scipy:stats`.

    Imports inside functions and blocks count too. They end at the first line that touches the
    environment. Whether a module is an installed one, and can be imported ahead, is for the
    kernel's interpreter to say.

    Args:
        flow: A flow; one that is not in Python has none.
    """
    if language(flow) != "python":
        return ()
    found: dict[str, None] = {}
    for cell in flow.cells:
        if not cell.runs:
            continue
        touched = _ENVIRONMENT.search(cell.source)
        last = cell.source.count("\n", 0, touched.start()) if touched else None
        tree = parse_python(_MAGIC.sub(r"\1pass", cell.source))
        for line, name in _modules(tree) if tree is not None else ():
            if (last is None or line <= last) and name.partition(":")[0] not in _PROJECTS:
                found.setdefault(name)
        if touched:
            break
    return tuple(found)


@lru_cache(maxsize=64)
def leaves_environment_alone(flow: Flow) -> bool:
    """Whether a flow never touches the environment, so that all it imports may be there ahead."""
    return not any(_ENVIRONMENT.search(cell.source) for cell in flow.cells if cell.runs)


def _modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}:{alias.name}") for alias in node.names)
