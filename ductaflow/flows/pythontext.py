"""Which environment variables Python code asks for in a way that cannot be seen while it runs.

That is told from its text: what its shell commands expand, what C code reads for it, what children
read that it starts, and what it makes of a copy of the whole environment
(`reuse/environmentuse.py`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

import attrs

from ductaflow.flows.shelltext import EVERYTHING, variables_in
from ductaflow.flows.syntax import parse_python, transform

_ZONE = ("TZ",)
_LOCALE = ("LC_ALL", "LC_CTYPE", "LC_COLLATE", "LC_NUMERIC", "LC_TIME", "LC_MONETARY", "LANG")
# Functions for which C code reads variables, or of which Python keeps the answer.
_READ_IN_C = {
    **dict.fromkeys(
        ("tzset", "tzname", "altzone", "localtime", "mktime", "ctime", "astimezone", "timestamp",
         "fromtimestamp", "now", "today", "tzlocal", "get_localzone"), _ZONE),
    **dict.fromkeys(("getlocale", "getdefaultlocale", "strxfrm", "strcoll", "localeconv",
         "nl_langinfo"), _LOCALE),
    **dict.fromkeys(("gettempdir", "gettempdirb", "tempdir"), ("TMPDIR", "TEMP", "TMP")),
}  # fmt: skip
_SHELLS = frozenset({
    "system", "popen", "getoutput", "getstatusoutput", "run", "call", "check_call", "check_output",
    "Popen", "create_subprocess_shell", "create_subprocess_exec", "getoutput_pexpect", "sx",
})  # fmt: skip
_SHELL_MAGICS = frozenset({"sx", "system", "!", "bash", "sh", "script", "sc", "cd", "zsh"})
_MAGICS = frozenset({"run_line_magic", "run_cell_magic", "magic"})
_CODE_MAGICS = frozenset({"time", "timeit", "capture", "prun", "memit", "mprun"})
_READERS = frozenset({"get", "getenv", "getenvb", "pop", "setdefault", "__getitem__"})


@attrs.frozen
class Asked:
    """What a text asks for.

    Attributes:
        names: Names of variables; `*` for all.
        literal: Names that it would look up in `os.environ`.
    """

    names: frozenset[str] = frozenset()
    literal: frozenset[str] = frozenset()


@lru_cache(maxsize=256)
def asked_by(source: str) -> Asked:
    """What a cell, or a module, asks for by its text; nothing if it is not Python.

    Args:
        source: The text; magics and shell commands included.
    """
    tree = tree_of(source)
    if tree is None:
        return Asked()
    names: set[str] = set()
    literal: set[str] = set()
    words: set[str] = set()
    texts: set[str] = set()
    for node in ast.walk(tree):
        words.update(_words(node))
        if isinstance(node, ast.Call):
            names.update(_by_call(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        literal.update(_looked_up(node))
    for word in words & _READ_IN_C.keys():
        names.update(_READ_IN_C[word])
    if any(text == "~" or text.startswith("~/") for text in texts):
        names.add("HOME")
    if not _SHELLS.isdisjoint(words):  # a command may be written elsewhere
        names.update(*(variables_in(text) for text in texts if "$" in text))
    return Asked(frozenset(names), frozenset(literal))


def tree_of(source: str) -> ast.Module | None:
    """The syntax tree of a cell, with its magics as calls."""
    return parse_python(source) or parse_python(transform(source))


def trees_of(source: str) -> list[ast.Module] | None:
    """The syntax tree of a cell, and of the code in its magics; None if there is none."""
    tree = tree_of(source)
    if tree is None:
        return None
    inner = [trees_of(code) for code in map(_timed, ast.walk(tree)) if code]
    return [tree, *(each for trees in inner for each in trees or ())]


def _timed(node: ast.AST) -> str:
    """The code that a magic runs, as `%time` does."""
    if isinstance(node, ast.Call) and called(node) in _MAGICS:
        name, line, body = (*(constant(each) or "" for each in node.args), "", "", "")[:3]
        return (body or line) if name in _CODE_MAGICS else ""
    return ""


def _words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.alias):
        yield from node.name.split(".")
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from node.module.split(".")


def called(node: ast.Call) -> str:
    """The name of the function or method that is called; empty if it has none."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def constant(node: ast.AST | None) -> str | None:
    """The text that an expression is, if it is written there."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return node.value
        if isinstance(node.value, bytes):
            return node.value.decode(errors="replace")
    return None


def _by_call(node: ast.Call) -> Iterator[str]:
    name = called(node)
    if name in _MAGICS:
        yield from _by_magic([constant(argument) or "" for argument in node.args])
    elif name in _SHELLS:
        # IPython's own way to leave a dollar to the shell.
        ours = name in ("system", "getoutput") and "get_ipython" in ast.dump(node.func)
        for text in _texts(node):
            yield from variables_in(text.replace("$$", "$") if ours else text)
    elif name == "setlocale" and len(node.args) > 1 and not constant(node.args[1]):
        yield from _LOCALE


def _by_magic(arguments: list[str]) -> Iterator[str]:
    name, line, body = (*arguments, "", "", "")[:3]
    if name in ("env", "set_env") and not body:
        words = line.replace("=", " = ", 1).split()
        if not words:
            yield EVERYTHING
        elif len(words) == 1:
            yield words[0]
    elif name in _SHELL_MAGICS or (name == "writefile" and ".sh" in line):
        for text in (line.replace("$$", "$"), body):
            yield from variables_in(text)
    elif name in _CODE_MAGICS:
        found = asked_by(body or line)
        yield from found.names


def _texts(node: ast.Call) -> Iterator[str]:
    """Texts that are arguments of a call; a list of them is one command."""
    for argument in node.args:
        if isinstance(argument, (ast.List, ast.Tuple)):
            yield " ".join(_text(element) for element in argument.elts)
        else:
            yield _text(argument)


def _text(node: ast.AST) -> str:
    """The text of an expression, with a word for what is only known when it runs."""
    if isinstance(node, ast.JoinedStr):
        return "".join(constant(value) or "_" for value in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    text = constant(node)
    return "_" if text is None else text


def is_environ(node: ast.AST | None) -> bool:
    """Whether an expression is `os.environ`, or `os.environb`."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in ("environ", "environb")


def _looked_up(node: ast.AST) -> Iterator[str]:
    """Names that code looks up in so many words."""
    text = None
    if isinstance(node, ast.Subscript) and is_environ(node.value):
        text = constant(node.slice) if isinstance(node.ctx, ast.Load) else None
    elif isinstance(node, ast.Call) and called(node) in _READERS and node.args:
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if is_environ(owner) or called(node).startswith("getenv"):
            text = constant(node.args[0])
    elif isinstance(node, ast.Compare) and is_environ(node.comparators[0]):
        text = constant(node.left)
    if text:
        yield text
