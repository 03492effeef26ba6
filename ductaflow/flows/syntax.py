"""A flow's cells as Python: whether they compile, and where a kernel's lines stand in the file."""

from __future__ import annotations

import ast
import difflib
import io
import re
import threading
import tokenize
import warnings
from functools import lru_cache

import attrs

from ductaflow.model.flows import Flow, Tag

_CACHED_VERSIONS = 64


def language(flow: Flow) -> str:
    """The flow's language in lower case, `python` unless it says otherwise."""
    meta = flow.metadata
    named = (
        meta.get("kernelspec", {}).get("language")
        or meta.get("language_info", {}).get("name")
        or meta.get("jupytext", {}).get("main_language")
        or "python"
    )
    return re.sub(r"^i?python\d*$", "python", str(named).lower())


@attrs.frozen
class SyntaxProblem:
    """Why a cell would not compile.

    Attributes:
        cell: The cell's number in the flow.
        line: The flow file's line; None where lines mean nothing (`.ipynb`).
        cell_line: The line within the cell, from 1.
        message: What Python says about it.
        text: The offending line, without indentation.
    """

    cell: int
    line: int | None
    cell_line: int
    message: str
    text: str


@lru_cache(maxsize=_CACHED_VERSIONS)
def check_syntax(flow: Flow) -> SyntaxProblem | None:
    """The first cell of a Python flow that would not compile, or None.

    Compiles as this interpreter and its IPython do, magics and top-level `await` included.
    Cells that do not run, or are tagged `raises-exception`, are left alone.
    """
    for cell in flow.cells:
        if not cell.runs or Tag.RAISES in cell.tags:
            continue
        problem = _compile_problem(cell.source)
        if problem is not None:
            at, message = problem
            text = cell.source.split("\n")[at - 1 : at]
            line = None if cell.line is None else cell.line + at - 1
            return SyntaxProblem(cell.number, line, at, message, "".join(text).strip())
    return None


def _compile_problem(source: str) -> tuple[int, str] | None:
    """Line in `source`, from 1, and message of what does not compile."""
    if compile_error(source) is None:
        return None  # plain Python: IPython, slow to import, has nothing to add
    transformed = transform(source)
    error = compile_error(transformed)
    if error is None:
        return None
    line = line_before_transform(source, transformed, getattr(error, "lineno", None) or 1)
    return line, getattr(error, "msg", None) or str(error)


_COMPILED_NAME = "ductaflow-syntax-check"

_compiling = threading.Lock()
"""Python 3.11 counts the depth of a syntax tree for all threads at once, and raises `SystemError`
where two have made one at a time."""


def compile_error(source: str) -> Exception | None:
    """What compiling raises; statement by statement, as IPython does."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        for node in _syntax_tree(source).body:
            module = ast.Module([node], [])
            with _compiling:
                compile(module, _COMPILED_NAME, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        return e
    return None


def parse_python(source: str) -> ast.Module | None:
    """The syntax tree of plain Python, top-level `await` allowed; None for anything else."""
    try:
        return _syntax_tree(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _syntax_tree(source: str) -> ast.Module:
    # catch_warnings would swap the filters of the whole process under other threads' feet;
    # this filter touches nothing but code compiled under this name.
    warnings.filterwarnings("ignore", module=f"^{re.escape(_COMPILED_NAME)}$")
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    with _compiling:
        tree = compile(source, _COMPILED_NAME, "exec", flags, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def transform(source: str) -> str:
    """`source` as IPython hands it to Python: magics become calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return str(TransformerManager().transform_cell(source))
    except (SyntaxError, RuntimeError):  # the kernel will say it better
        return source


def line_before_transform(source: str, transformed: str, line: int) -> int:
    """The line of `source` that `line` of `transformed` came from."""
    before = [text.strip() for text in source.removesuffix("\n").split("\n")]
    after = [text.strip() for text in transformed.removesuffix("\n").split("\n")]
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for _, start, end, new_start, new_end in matcher.get_opcodes():
        if new_start <= line - 1 < new_end:
            return min(start + line - 1 - new_start, max(end - 1, start)) + 1
    return max(len(before), 1)


# --- from the kernel's lines to the flow's ---------------------------------------------------


def comments_of(source: str) -> dict[int, str]:
    """The comment on each line that has one, without its `#`, by line from 1 on."""
    found = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                found[token.start[0]] = token.string.lstrip("#").strip()
    except (tokenize.TokenError, SyntaxError):
        pass  # the last line is a magic or cut short; what was found before it counts
    return found
