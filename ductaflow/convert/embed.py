"""The parts of the runtime that a script needs, as source text to put into it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ductaflow.convert.edits import without_annotations

_RUNTIME = [
    Path(__file__).with_name(name)
    for name in ("runtime.py", "runtime_magics.py", "runtime_flows.py")
]
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
    return {name: part for file in _RUNTIME for name, part in _parts_of(file).items()}


def _parts_of(file: Path) -> dict[str, tuple[str, list[str]]]:
    source = file.read_text("utf-8")
    source = without_annotations(source, ast.walk(ast.parse(source)))
    source = re.sub(r"\)\s+:$", "):", _FOR_US.sub("", source), flags=re.MULTILINE)
    source = _DEF.sub(lambda line: line[0].replace(" = ", "="), source)
    tree = ast.parse(source)
    parts: dict[str, tuple[str, list[str]]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            (target,) = node.targets
            name = ast.unparse(target)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = node.name
        else:
            continue
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        text = ast.get_source_segment(source, node) or ""
        parts[name] = text, sorted(n for n in used if n.startswith("_nb_") and n != name)
    return parts


def needed_by(source: str) -> set[str]:
    """Names of the runtime that a piece of a script uses."""
    return set(re.findall(r"\b_nb_\w+", source)) & set(_parts())
