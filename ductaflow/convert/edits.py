"""Change pieces of Python source and leave all else, comments and layout, as it is."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import final

import attrs


@final
@attrs.define(eq=False)
class Edits:
    """Replacements in one source text, by the nodes of its syntax tree."""

    source: str
    _lines: list[int] = attrs.field(init=False)
    _data: bytes = attrs.field(init=False)
    _changes: list[tuple[int, int, bytes]] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._data = self.source.encode("utf-8", "surrogatepass")
        self._lines = [0]
        for line in self._data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where a node begins and ends, in bytes."""
        start = self._lines[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return start, end

    def text(self, node: ast.AST) -> str:
        """A node's text, with the changes made in it so far."""
        start, end = self.span(node)
        return self._changed(start, end)

    def after(self, node: ast.AST) -> str:
        """The text that follows a node."""
        return self._data[self.span(node)[1] :].decode("utf-8", "surrogatepass")

    def replace(self, node: ast.AST, text: str) -> None:
        """Put text in a node's place; what was changed in it goes."""
        self.replace_span(*self.span(node), text)

    def replace_span(self, start: int, end: int, text: str) -> None:
        """Put text in the place of some bytes."""
        self._changes = [c for c in self._changes if not start <= c[0] <= c[1] <= end]
        self._changes.append((start, end, text.encode("utf-8", "surrogatepass")))

    def result(self) -> str:
        """The whole text with all changes."""
        return self._changed(0, len(self._data))

    def _changed(self, start: int, end: int) -> str:
        parts, position = [], start
        for begin, stop, new in sorted(self._changes):
            if begin < start or stop > end:
                continue
            parts += [self._data[position:begin], new]
            position = stop
        return b"".join([*parts, self._data[position:end]]).decode("utf-8", "surrogatepass")


def indented(source: str, by: str = "    ") -> str:
    """Source as the body of a block; the inner lines of texts over several lines stay."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        ):
            inside.update(range(node.lineno + 1, (node.end_lineno or node.lineno) + 1))
    lines = source.splitlines()
    return "\n".join(
        line if number in inside or not line.strip() else by + line
        for number, line in enumerate(lines, 1)
    )


def commented(source: str) -> str:
    """Text as comments."""
    return "\n".join(f"# {line}".rstrip() for line in source.splitlines())


def without_annotations(source: str, nodes: Iterable[ast.AST]) -> str:
    """Source whose functions and variables say nothing of types."""
    edits = Edits(source)
    for node in nodes:
        if isinstance(node, ast.arg) and node.annotation is not None:
            start = edits.span(node)[0] + len(node.arg.encode())
            edits.replace_span(start, edits.span(node.annotation)[1], "")
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            end = edits.span(node.returns)[1]
            begin = edits.source.encode().rindex(b"->", 0, edits.span(node.returns)[0])
            edits.replace_span(begin, end, "")
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            start = edits.span(node.target)[1]
            edits.replace_span(start, edits.span(node.value)[0], " = ")
    return edits.result()
