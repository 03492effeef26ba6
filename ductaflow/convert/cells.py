"""One cell of a flow as plain Python: its magics, its imports, what it shows at its end."""

from __future__ import annotations

import ast
import io
import symtable
import textwrap
import tokenize

from ductaflow.convert.edits import Edits, commented, indented
from ductaflow.convert.imports import guarded_imports, translated_import
from ductaflow.convert.magics import Plain, Refused, cell_magic, line_magic, shell_line
from ductaflow.errors import ConversionError
from ductaflow.flows.syntax import parse_python
from ductaflow.model.flows import Cell, Tag

_SHOWS_NOTHING = frozenset({"print", "display", "plt.show", "globals().update", "vars().update"})


def plain_cell(cell: Cell, shown: str) -> str:
    """A cell's source as plain Python; all but code as comments.

    Args:
        cell: The cell.
        shown: The flow's path as people know it, for messages.

    Raises:
        ConversionError: Something in it has no meaning in a script; the message names cell and
            line.
    """
    if cell.kind != "code":
        return commented(cell.source)
    if not cell.runs:
        return commented(cell.source) if cell.source.strip() else ""
    text = _translated(cell.source, cell, shown, 0)
    if Tag.RAISES in cell.tags:
        body = indented(text if _has_statement(text) else f"{text}\npass")
        return f"try:\n{body}\nexcept Exception:  # the notebook goes on\n    _nb_print_error()"
    return text


def _translated(source: str, cell: Cell, shown: str, above: int) -> str:
    """Source of a cell, or of the part of one that lies `above` lines further down."""
    try:
        magic = _cell_magic(source)
        if magic is not None:
            name, line, body = magic
            return cell_magic(
                name, line, body, lambda part: _translated(part, cell, shown, above + 1)
            )
        return _statements(source, cell, shown)
    except _RefusedAt as e:
        raise _conversion_error(e.line + above, e.why, cell, shown) from None
    except Refused as e:
        first = next((i for i, text in enumerate(source.splitlines(), 1) if text.strip()), 1)
        raise _conversion_error(first + above, str(e), cell, shown) from None


class _RefusedAt(Exception):
    """A refusal, and the line of the source that it is about."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(line, why)
        self.line = line
        self.why = why


def _conversion_error(line: int, why: str, cell: Cell, shown: str) -> ConversionError:
    place = f"{shown}, cell {cell.number}, line {line}"
    if cell.line is not None:
        place = f"{shown}:{cell.line + line - 1} (cell {cell.number})"
    return ConversionError(f"{place}: {why}")


def _cell_magic(source: str) -> tuple[str, str, str] | None:
    """Name, line and body of a cell magic, or None."""
    lines = f"{source.strip(chr(10))}\n".splitlines(keepends=True)  # a newline ends it in IPython
    if not lines or not lines[0].startswith("%%"):
        return None
    name, _, line = lines[0].strip()[2:].partition(" ")
    return name, line, "".join(lines[1:])


# --- statements ---------------------------------------------------------------------------------


def _statements(source: str, cell: Cell, shown: str) -> str:
    tree = parse_python(source)
    code = source
    if tree is None or "get_ipython" in source:
        code = _transformed(source)
        tree = parse_python(code)
    if tree is None:
        raise ConversionError(f"{shown}: cell {cell.number} does not compile")
    lines = _LineOf(source, code)
    edits = Edits(code)
    functions = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
        if inner is not node
    }
    last = tree.body[-1] if tree.body else None
    silent = last is not None and _ends_with_semicolon(code)
    guarded = guarded_imports(tree)
    shows: set[ast.AST] = set()
    statements = {n.value: n for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        try:
            if isinstance(node, ast.Import | ast.ImportFrom) and node not in guarded:
                text = translated_import(node)
                if text is not None:
                    edits.replace(node, _nested(text, node.col_offset))
                continue
            nested = node in functions
            plain = _magic_call(node, nested=nested)
            if plain is None:
                continue
            assert isinstance(node, ast.Call)
            statement = statements.get(node)
            if statement is None:
                edits.replace(node, _value(plain))
                continue
            original = lines.text(node.lineno)
            text = plain.text or _without(original, statement.col_offset)
            edits.replace(statement, _nested(text, statement.col_offset))
            if plain.shows:
                shows.add(statement)
        except Refused as e:
            line = getattr(node, "lineno", 1)
            raise _RefusedAt(lines.number(line), str(e)) from None
    if isinstance(last, ast.Expr) and not silent:
        _wrap_last(last, edits, is_magic=_magic_call_node(last.value), shows=last in shows)
    text = edits.result().strip("\n")
    return _as_coroutine(text, cell) if _waits(tree, functions) else text


def _wrap_last(last: ast.Expr, edits: Edits, *, is_magic: bool, shows: bool) -> None:
    """Let the last expression of a cell be shown."""
    if is_magic and not shows:
        return
    value = last.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) in _SHOWS_NOTHING:
        return
    text = edits.text(last)
    text = f"({text})" if isinstance(value, ast.Tuple) else text
    edits.replace(last, f"_nb_show({text})")


def _magic_call_node(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Call)
        and ast.unparse(node.func.value) == "get_ipython()"
    )


def _magic_call(node: ast.AST, *, nested: bool) -> Plain | None:
    """What stands for a call of IPython, as its transformer makes them of magics."""
    if not _magic_call_node(node):
        return None
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Attribute)
    kind = node.func.attr
    words = [a.value for a in node.args if isinstance(a, ast.Constant)]
    if len(words) != len(node.args) or not all(isinstance(w, str) for w in words):
        raise Refused(f"`get_ipython().{kind}(…)` with what is known only when it runs")
    texts = list(map(str, words))
    if kind in ("run_line_magic", "line_magic") and len(texts) == 2:
        return line_magic(texts[0], texts[1], nested=nested)
    if kind == "magic" and len(texts) == 1:
        name, _, line = texts[0].lstrip("%").partition(" ")
        return line_magic(name, line, nested=nested)
    if kind in ("system", "getoutput") and len(texts) == 1:
        return shell_line(texts[0], nested=nested, output=kind == "getoutput")
    raise Refused(f"`get_ipython().{kind}(…)` has no meaning in a script")


def _value(plain: Plain) -> str:
    if not plain.is_value:
        raise Refused("the value of this magic has no meaning in a script")
    return plain.text


def _waits(tree: ast.AST, functions: set[ast.AST]) -> bool:
    """Whether a cell awaits something outside a function, as notebooks may."""
    kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    return any(
        node not in functions
        and (isinstance(node, kinds) or (isinstance(node, ast.comprehension) and node.is_async))
        for node in ast.walk(tree)
    )


def _as_coroutine(text: str, cell: Cell) -> str:
    """A cell that awaits, as a function that a loop runs; what it binds stays the script's."""
    name = f"_nb_cell_{cell.number}"
    head = f"async def {name}():\n"
    body = indented(text)
    try:
        (function,) = symtable.symtable(f"{head}{body}", "cell", "exec").get_children()
        assert isinstance(function, symtable.Function)
        bound = ", ".join(sorted(function.get_locals()))
        whole = f"{head}{f'    global {bound}' if bound else '    pass'}\n{body}"
        compile(whole, "cell", "exec")
    except SyntaxError as e:
        raise Refused(
            f"`await` outside a function in a cell that no function can hold: {e.msg}"
        ) from None
    return f"{whole}\n\n\n_nb_await({name}())"


def _nested(text: str, column: int) -> str:
    """Statements in the place of one that begins at a column."""
    if column and not _has_statement(text):
        text = f"pass  {text}"
    return textwrap.indent(text, " " * column).lstrip(" ") if "\n" in text else text


def _without(original: str, column: int) -> str:
    comment = f"# {original.strip()} (in a notebook only)"
    return comment if not column else f"pass  {comment}"


def _has_statement(text: str) -> bool:
    tree = parse_python(text)
    return tree is not None and bool(tree.body)


def _ends_with_semicolon(code: str) -> bool:
    """Whether the last thing that a cell says is a semicolon, which keeps a notebook quiet."""
    kinds = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    said = [token for token in tokens if token.type not in kinds]
    return bool(said) and said[-1].string == ";"


def _transformed(source: str) -> str:
    """Source with its magics as calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    return str(TransformerManager().transform_cell(source))


class _LineOf:
    """Which line of a cell a line of what IPython made of it came from."""

    def __init__(self, source: str, code: str) -> None:
        from ductaflow.flows.syntax import line_before_transform

        self._lines = source.splitlines() or [""]
        self._find = (
            (lambda line: line)
            if source == code
            else (lambda line: line_before_transform(source, code, line))
        )

    def number(self, line: int) -> int:
        """The cell's line."""
        return min(self._find(line), len(self._lines))

    def text(self, line: int) -> str:
        """Its text."""
        return self._lines[self.number(line) - 1]
