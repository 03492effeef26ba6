"""The parts of the runtime that a script needs, as source text to put into it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ductaflow.convert.edits import without_annotations
from ductaflow.plans import variables

_RUNTIME = [
    Path(__file__).with_name(name)
    for name in ("runtime.py", "runtime_magics.py", "runtime_flows.py")
]
_RULE = Path(variables.__file__)  # of flattening, which scripts follow as well
_DEF = re.compile(r"^ *def .*$", re.MULTILINE)
_FOR_US = re.compile(r"[ \t]*# (?:noqa|type:).*$", re.MULTILINE)


def runtime(names: Iterable[str]) -> str:
    """Source of these functions of the runtime, and of all that they use, in its order."""
    parts = _parts()
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += parts[name][1]
    return "\n\n\n".join(text for name, (text, _) in parts.items() if name in needed)


@lru_cache(maxsize=1)
def _parts() -> dict[str, tuple[str, list[str]]]:
    """Each top-level name: its source, and the other names that it uses."""
    texts = [_with_our_names(_RULE.read_text("utf-8"))]
    texts += [file.read_text("utf-8") for file in _RUNTIME]
    return {name: part for text in texts for name, part in _parts_of(text).items()}


def _with_our_names(source: str) -> str:
    """A module's source, whose names and modules begin with `_nb_` as those of the runtime do."""
    tree = ast.parse(source)
    modules = {node.names[0].name for node in tree.body if isinstance(node, ast.Import)}
    own = modules | {name for node in tree.body if (name := _name_of(node)) is not None}
    lines = source.split("\n")
    found = [(n.lineno, n.col_offset, n.id) for n in ast.walk(tree) if isinstance(n, ast.Name)]
    found += [
        (node.lineno, len("def "), node.name)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    ]
    for number, at, name in sorted(found, reverse=True):
        if name in own:
            line = lines[number - 1]
            lines[number - 1] = f"{line[:at]}_nb_{name.lstrip('_')}{line[at + len(name) :]}"
    source = "\n".join(lines)
    return re.sub(r"^import (\w+)$", r"import \1 as _nb_\1", source, flags=re.MULTILINE)


def _name_of(node: ast.stmt) -> str | None:
    """The name that a statement at the top of a module defines."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0])
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Import):
        return node.names[0].asname
    return None


def _parts_of(source: str) -> dict[str, tuple[str, list[str]]]:
    source = without_annotations(source, ast.walk(ast.parse(source)))
    source = re.sub(r"\)\s+:$", "):", _FOR_US.sub("", source), flags=re.MULTILINE)
    source = _DEF.sub(lambda line: line[0].replace(" = ", "="), source)
    tree = ast.parse(source)
    parts: dict[str, tuple[str, list[str]]] = {}
    for node in tree.body:
        name = _name_of(node)
        if name is None:
            continue
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []  # nor does the text have them
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        text = ast.get_source_segment(source, node) or ""
        parts[name] = text, sorted(n for n in used if n.startswith("_nb_") and n != name)
    return parts


def needed_by(source: str) -> set[str]:
    """Names of the runtime that a piece of a script uses."""
    return set(re.findall(r"\b_nb_\w+", source)) & set(_parts())
