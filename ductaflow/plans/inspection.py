"""`inspect_flow`: what a flow takes and reads, told without running it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import attrs

from ductaflow.flows.finding import resolve_flow
from ductaflow.flows.reading import read_flow
from ductaflow.flows.syntax import comments_of, language, parse_python, transform
from ductaflow.model.flows import Flow
from ductaflow.plans.config import kind_of
from ductaflow.plans.parameters import CONFIG, read_defaults, syntax_tree
from ductaflow.project.root import project_root

_OPENERS = re.compile(r"open|load\w*|read\w*|imread|i?glob|listdir|scandir|connect|File")
_OF_PATHS = frozenset({"open", "read_text", "read_bytes", "glob", "rglob", "iterdir"})


PathLike = str | os.PathLike[str]


@final
@attrs.frozen
class Parameter:
    """A key of a flow's config, or a variable of its parameters cell.

    Attributes:
        name: Its name; of a nested key the keys that lead to it, with dots.
        kind: `number`, `text`, `truth value`, `list`, `mapping`, `nothing` (None), or empty if its
            default is not a literal.
        default: Its default, in JSON's types; None also if it has none that can be read.
        comment: The comment at the end of its line.
    """

    name: str
    kind: str
    default: Any = attrs.field(default=None, hash=False)
    comment: str = ""


@final
@attrs.frozen(repr=False)
class FlowFacts:
    """What a flow takes and reads.

    Attributes:
        flow: The file.
        kernel: The kernelspec that its header names, or empty for the conductor's interpreter.
        language: Its language, in lower case.
        parameters: Its parameters, in their order.
        reads: The paths that its code names literally where it opens, reads or lists something.
        unread: Why the default of `config` cannot be told, or empty.
    """

    flow: Path
    kernel: str
    language: str
    parameters: tuple[Parameter, ...]
    reads: tuple[str, ...]
    unread: str = ""

    def __repr__(self) -> str:
        kernel = self.kernel or "the conductor's own interpreter"
        lines = [f"{self.flow.name}: {self.language}, kernel: {kernel}"]
        width = max((len(p.name) for p in self.parameters), default=0)
        for each in self.parameters:
            default = repr(each.default) if each.kind else "computed in the cell"
            comment = f"  # {each.comment}" if each.comment else ""
            lines.append(f"  {each.name:<{width}}  {each.kind:<11}  {default}{comment}")
        if not self.parameters:
            lines.append("  no parameters")
        if self.unread:
            lines.append(f"  the default of `config` cannot be read: {self.unread}")
        lines += [f"  reads {path}" for path in self.reads]
        return "\n".join(lines)


def inspect_flow(flow: PathLike, *, root: PathLike | None = None) -> FlowFacts:
    """What a flow takes and reads; nothing runs.

    Args:
        flow: The flow's file, or the bare name of one; see `run_step_flow`.
        root: The project root; found from where the caller is, if left out.

    Returns:
        Its parameters with kinds, defaults and comments, the paths that it names literally, its
        kernel.

    Raises:
        FlowNotFound: There is no such flow.
        FlowError: It cannot be parsed.
    """
    parsed = read_flow(resolve_flow(flow, project_root(root), Path.cwd()))
    spec = parsed.metadata.get("kernelspec", {})
    return FlowFacts(
        flow=parsed.path,
        kernel=str(spec.get("name", "")) if language(parsed) != "python" else "",
        language=language(parsed),
        parameters=tuple(_parameters(parsed)),
        reads=tuple(dict.fromkeys(_reads(parsed))) if language(parsed) == "python" else (),
        unread=read_defaults(parsed).unread,
    )


# --- parameters ----------------------------------------------------------------------------------


def _parameters(flow: Flow) -> Iterator[Parameter]:
    known = read_defaults(flow)
    comments = _comments(flow)
    for name in known.names:
        if name not in known.values:
            yield Parameter(name, "", None, comments.get(name, ""))
            continue
        yield from _with_inner(name, known.values[name], comments)


def _with_inner(name: str, value: Any, comments: dict[str, str]) -> Iterator[Parameter]:
    yield Parameter(name, kind_of(value), value, comments.get(name, ""))
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _with_inner(f"{name}.{key}", inner, comments)


def _comments(flow: Flow) -> dict[str, str]:
    """Comments at the end of lines, by the name of the parameter that ends there."""
    if flow.parameters is None or language(flow) != "python":
        return {}
    cell = flow.cells[flow.parameters]
    tree, at_line = syntax_tree(cell), comments_of(cell.source)
    found: dict[str, str] = {}
    for statement in tree.body if tree is not None else ():
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id != CONFIG:
                _note(found, target.id, statement, at_line)
            if isinstance(target, ast.Name) and isinstance(statement.value, ast.Dict):
                above = "" if target.id == CONFIG else f"{target.id}."
                _note_keys(found, statement.value, above, at_line)
    return found


def _note(found: dict[str, str], name: str, node: ast.AST, at_line: dict[int, str]) -> None:
    for line in (getattr(node, "end_lineno", 0), getattr(node, "lineno", 0)):
        if line in at_line:
            found.setdefault(name, at_line[line])


def _note_keys(found: dict[str, str], node: ast.Dict, above: str, at_line: dict[int, str]) -> None:
    lines = [value.end_lineno for value in node.values]
    for key, value, last in zip(node.keys, node.values, lines, strict=True):
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            continue
        if lines.count(last) == 1:  # of several on a line it is anybody's
            _note(found, f"{above}{key.value}", value, at_line)
        if isinstance(value, ast.Dict):
            _note_keys(found, value, f"{above}{key.value}.", at_line)


# --- paths ---------------------------------------------------------------------------------------


def _reads(flow: Flow) -> Iterator[str]:
    for cell in flow.cells:
        if not cell.runs:
            continue
        tree = parse_python(cell.source) or parse_python(transform(cell.source))
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Call) and (path := _path_of(node)) is not None:
                yield path


def _path_of(call: ast.Call) -> str | None:
    """The literal path that a call opens to read, or lists."""
    first = _text(call.args[0]) if call.args else ""
    if isinstance(call.func, ast.Attribute):
        name, base = call.func.attr, call.func.value
        if isinstance(base, ast.Call) and getattr(base.func, "id", "") == "Path" and base.args:
            folder = _text(base.args[0])
            if not folder or name not in _OF_PATHS:
                return None
            if name.endswith("glob"):
                return f"{folder.rstrip('/')}/{first}" if first else folder
            return None if name == "open" and _writes(call.args[:1], call) else folder
    else:
        name = getattr(call.func, "id", "")
    if not first or not _OPENERS.fullmatch(name):
        return None
    return None if name == "open" and _writes(call.args[1:2], call) else first


def _text(node: ast.expr) -> str:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if is_text else ""  # type: ignore[attr-defined]


def _writes(mode: list[ast.expr], call: ast.Call) -> bool:
    given = [*mode, *(word.value for word in call.keywords if word.arg == "mode")]
    return any(not set("wax").isdisjoint(_text(node)) for node in given)
