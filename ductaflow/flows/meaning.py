"""What code cells do and show, whatever way they are written.

Comments, layout and blank lines do not count, unless a flow reads its own text. Where one cell ends
and the next begins does: the last expression of each is shown.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize

from ductaflow.flows.syntax import language, parse_python, transform
from ductaflow.model.flows import Cell, Flow, Tag

_COUNTING_TAGS = (Tag.RAISES, Tag.PARAMETERS)
"""A traceback that is allowed is shown with its source; the config is injected after the other."""

_ANY_DISPLAY = frozenset({"ast_node_interactivity", "displayhook"})
"""Where a cell has one of these names, more than last expressions may be shown."""

_OWN_TEXT = frozenset(
    {
        "In", "Out", "_i", "_ii", "_iii", "_ih", "_oh", "history_manager", "execution_count",
        "raw_cell", "lineno", "f_lineno", "tb_lineno", "co_firstlineno", "co_lines", "co_positions",
    }
)  # fmt: skip
_NUMBERED = re.compile(r"_i?\d+")  # _3 is Out[3], _i3 is In[3]
_MAGICS = frozenset(
    {
        "edit", "hist", "history", "logstart", "macro", "notebook", "pastebin", "recall", "rep",
        "rerun", "save",
    }
)  # fmt: skip
"""By these a flow reads the text of its cells, the numbers of their lines, or their own."""


def meanings(flow: Flow) -> list[tuple[Cell, tuple[str, ...]]]:
    """The cells of a flow that do something, each with what it does: the same for the same results.

    Args:
        flow: The parsed flow.

    Returns:
        Each with a string for its tags that matter and for each statement; with its text as it is,
        where that cannot be parsed, is another language's, or may be shown or read. Cells of
        comments alone do nothing.
    """
    cells = [cell for cell in flow.cells if cell.runs]
    if language(flow) != "python":
        return [(cell, (*_tags(cell), cell.source)) for cell in cells]
    trees = [_tree(cell) for cell in cells]
    used: set[str] = set()
    assigned: set[str] = set()
    for _, tree in trees:
        if tree is not None:
            _collect_names(tree, used, assigned)
    names = used - assigned  # who loops over _i does not ask IPython for it
    if not names.isdisjoint(_OWN_TEXT) or any(map(_NUMBERED.fullmatch, names)):
        return [(cell, (*_tags(cell), cell.source)) for cell in cells]
    anything = not names.isdisjoint(_ANY_DISPLAY)
    found = [
        (cell, _meaning(cell, text, tree, anything_shown=anything))
        for cell, (text, tree) in zip(cells, trees, strict=True)
    ]
    return [(cell, meaning) for cell, meaning in found if meaning]


def _tree(cell: Cell) -> tuple[str, ast.Module | None]:
    """A cell as Python and its syntax tree, None if it has none."""
    tree = parse_python(cell.source)
    if tree is not None:
        return cell.source, tree
    text = transform(cell.source)
    return text, parse_python(text)


def _tags(cell: Cell) -> tuple[str, ...]:
    return tuple(tag for tag in _COUNTING_TAGS if tag in cell.tags)


def _meaning(
    cell: Cell, text: str, tree: ast.Module | None, *, anything_shown: bool
) -> tuple[str, ...]:
    if tree is None or Tag.RAISES in cell.tags:
        return (*_tags(cell), cell.source)
    if not tree.body:
        return ()
    try:
        parts = [ast.dump(statement) for statement in tree.body]
    except RecursionError:  # nested more deeply than this thread's stack is
        return (*_tags(cell), cell.source)
    shown = anything_shown or isinstance(tree.body[-1], ast.Expr)
    return (*_tags(cell), *parts, *([";"] if shown and _is_silenced(text) else ()))


def _is_silenced(text: str) -> bool:
    """Whether nothing is shown of what a cell comes to, for it ends in a semicolon.

    The rule is that of IPython's `DisplayHook.semicolon_at_end_of_expression`.
    """
    if ";" not in text:
        return False
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    last = next((token for token in reversed(tokens) if token.type not in _PASSED_OVER), None)
    return last is not None and last.type == tokenize.OP and last.string == ";"


_PASSED_OVER = (tokenize.ENDMARKER, tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)


def _collect_names(tree: ast.AST, used: set[str], assigned: set[str]) -> None:
    """Add the names that code reads, and those that it assigns to, also within magics."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else assigned).add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.alias):
            used.update(node.name.split("."))
        elif isinstance(node, ast.Constant) and node.value in _ANY_DISPLAY:
            used.add(str(node.value))  # as by setattr
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _RUN_MAGIC:
            texts = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
            if {*texts[:1]} & _MAGICS:
                used.add("In")
            for text in texts[1:]:
                within = parse_python(text)
                if within is not None:
                    _collect_names(within, used, assigned)


_RUN_MAGIC = ("run_line_magic", "run_cell_magic")
