"""IPython's magics and shell lines as plain Python, or a refusal that says where and why not.

What a line means is IPython's own: it is read by IPython's transformer, which makes a call of each
magic (`get_ipython().run_line_magic("time", "f(x)")`), and the call is translated here.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable

import attrs

from ductaflow.flows.syntax import parse_python


class Refused(Exception):
    """Something that has no meaning outside a notebook; the message says why, and what to do."""


@attrs.frozen
class Plain:
    """A magic as Python.

    Attributes:
        text: An expression if `is_value`, else statements; empty for nothing to be done.
        is_value: Whether it is an expression.
        shows: Whether a notebook shows its value where it ends a cell.
    """

    text: str = ""
    is_value: bool = False
    shows: bool = False


_HERE = "globals()"
_IN_FUNCTION = "{**globals(), **locals()}"

_NOTEBOOK_ONLY = frozenset({
    "matplotlib", "pylab", "autoreload", "aimport", "autosave", "autoawait", "automagic", "colors",
    "xmode", "pinfo", "pinfo2", "pdoc", "pdef", "psource", "pfile", "page", "pprint", "precision",
})  # fmt: skip
_SHELL = frozenset({"ls", "ll", "cat", "cp", "mv", "rm", "mkdir", "rmdir", "man", "more", "less"})
_SHOWN_ONLY = frozenset({"html", "HTML", "markdown", "latex", "svg", "SVG", "javascript", "js"})
_PROGRAMS = frozenset({"bash", "sh", "perl", "ruby", "python", "python2", "python3", "pypy"})
_INSTEAD = {
    "run": "import it, or start it with `!python file.py`",
    "debug": "take it out: a script is debugged with `python -m pdb`",
    "pdb": "take it out: a script is debugged with `python -m pdb`",
    "prun": "take it out: a script is profiled with `python -m cProfile`",
    "load": "put the file's text into the cell",
    "store": "write a file",
    "reset": "use `del`",
    "conda": "install packages before, not in the flow",
}


def line_magic(name: str, line: str, *, nested: bool) -> Plain:
    """A line magic.

    Args:
        name: Its name, without `%`.
        line: What follows it.
        nested: Whether it stands inside a function.

    Raises:
        Refused: It has no meaning in a script.
    """
    names = _IN_FUNCTION if nested else _HERE
    line = line.strip()
    if name in _NOTEBOOK_ONLY or (name == "load_ext" and line == "autoreload"):
        return Plain()
    if name == "config" and line.startswith("InlineBackend"):
        return Plain()
    if name in ("time", "timeit"):
        return _time(line, names) if name == "time" else _timeit(line, None, names)
    if name in _SHELL:
        command = f"{'ls -l' if name == 'll' else name} {line}".strip()
        return Plain(f"_nb_shell({command!r}, {names})")
    if name in ("sx", "system"):
        return Plain(f"_nb_output({line!r}, {names})", is_value=True, shows=True)
    if name == "pip":
        pip = f'_nb_shell(f\'"{{__import__("sys").executable}}" -m pip \' + {line!r}, {names})'
        return Plain(pip)
    if name == "pwd":
        return Plain("__import__('os').getcwd()", is_value=True, shows=True)
    if name == "cd":
        folder = line.removeprefix("-q").strip().strip("'\"")
        if folder.startswith("-"):
            raise Refused(f"`%cd {line}` goes by a history of folders; name the folder")
        return Plain(f"_nb_cd({folder!r}, {names})")
    if name in ("env", "set_env"):
        return _env(line, names)
    raise Refused(_why(f"%{name}", name))


def cell_magic(name: str, line: str, body: str, translate: Callable[[str], str]) -> str:
    """A cell magic, as statements.

    Args:
        name: Its name, without `%%`.
        line: What follows it on its line.
        body: The rest of the cell.
        translate: Makes the body, where it is Python, into plain Python.

    Raises:
        Refused: It has no meaning in a script.
    """
    from ductaflow.convert.edits import commented, indented

    line = line.strip()
    if name in _SHOWN_ONLY:
        return commented(f"shown in a notebook only:\n{body}")
    if name == "time":
        if line:  # IPython runs it as part of the cell
            body = f"{line}\n{body}"
        return f"with _nb_time():\n{indented(_some(translate(body)))}"
    if name == "timeit":
        plain = _timeit(line, translate(body), _HERE)
        return plain.text
    if name == "capture":
        words = [word for word in line.split() if not word.startswith("--")]
        flags = set(line.split()) - set(words)
        if flags or len(words) > 1 or not all(map(str.isidentifier, words)):
            raise Refused(f"`%%capture {line}`: only `%%capture` and `%%capture name` can be")
        target = f" as {words[0]}" if words else ""
        return f"with _nb_captured(){target}:\n{indented(_some(translate(body)))}"
    if name in ("writefile", "file"):
        append = re.match(r"(?:-a|--append)\s+", line)
        file = (line[append.end() :] if append else line).strip().strip("'\"")
        mode = ", 'a'" if append else ""
        return f"_nb_write_file({file!r}, {long_text(body)}, {_HERE}{mode})"
    if name in _PROGRAMS or name == "script":
        return _program(f"{name} {line}".strip() if name != "script" else line, body)
    if name in ("sx", "system", "!"):
        return (
            f"_nb_show(_nb_output({long_text(line + chr(10) + body if line else body)}, {_HERE}))"
        )
    raise Refused(_why(f"%%{name}", name))


def shell_line(command: str, *, nested: bool, output: bool) -> Plain:
    """`!command`, or `x = !command` where its output is wanted."""
    names = _IN_FUNCTION if nested else _HERE
    if output:
        return Plain(f"_nb_output({command!r}, {names})", is_value=True, shows=True)
    return Plain(f"_nb_shell({command!r}, {names})")


def _why(shown: str, name: str) -> str:
    instead = _INSTEAD.get(name, "write it in Python")
    return f"`{shown}` has no meaning in a script; {instead}"


def _time(line: str, names: str) -> Plain:
    del names
    if not line:
        return Plain()
    tree = parse_python(line)
    if tree is None:
        raise Refused(f"`%time {line}` times what is no plain Python; put it on a line of its own")
    (statement, *more) = tree.body or [ast.Pass()]
    binds = any(isinstance(n, ast.NamedExpr | ast.Await | ast.Yield) for n in ast.walk(tree))
    if isinstance(statement, ast.Expr) and not more and not binds:
        return Plain(f"_nb_timed(lambda: {line.rstrip('; ')})", is_value=True, shows=True)
    return Plain(f"with _nb_time():\n    {line}")


def _timeit(line: str, body: str | None, names: str) -> Plain:
    options = re.match(r"((?:-\S+(?:\s+\d+)?\s+)*)(.*)", line + " ", re.DOTALL)
    assert options is not None
    numbers = {"n": 0, "r": 7}
    flags = options[1]
    for flag, number in re.findall(r"-([nr])\s*(\d+)", flags):
        numbers[flag] = int(number)
    if re.sub(r"-[nr]\s*\d+|-q", "", flags).strip():
        raise Refused(f"`%timeit {flags.strip()}`: only the options -n, -r and -q can be")
    statement = options[2].strip()
    setup = "pass"
    if body is not None:
        statement, setup = body, statement or "pass"
    if parse_python(statement) is None:
        raise Refused("`%timeit` of what is no plain Python; put it into a function")
    wanted = f", {numbers['n']}, {numbers['r']}" if numbers != {"n": 0, "r": 7} else ""
    return Plain(f"_nb_timeit({long_text(statement)}, {setup!r}, {names}{wanted})")


def _env(line: str, names: str) -> Plain:
    match = re.fullmatch(r"(\w+)(?:\s*=\s*|\s+)(.*)", line, re.DOTALL)
    if match is not None:
        return Plain(f"_nb_set_env({match[1]!r}, {match[2]!r}, {names})")
    if re.fullmatch(r"\w+", line):
        return Plain(f"__import__('os').environ[{line!r}]", is_value=True, shows=True)
    if not line:
        return Plain("dict(__import__('os').environ)", is_value=True, shows=True)
    raise Refused(f"`%env {line}` is no variable and no assignment")


def _program(command: str, body: str) -> str:
    flags = [word for word in shlex.split(command) if word.startswith("--")]
    check = ""
    for flag in flags:
        if flag == "--no-raise-error":
            command = command.replace(flag, "").strip()
            check = ", check=False"
        elif flag.partition("=")[0] in ("--out", "--err", "--bg", "--proc"):
            raise Refused(f"`%%{command}`: {flag} has no meaning in a script; write to a file")
    return f"_nb_script({command!r}, {long_text(body)}, {_HERE}{check})"


def _some(code: str) -> str:
    """Code that can be a block's body."""
    tree = parse_python(code)
    return code if tree is not None and tree.body else f"{code}\npass".lstrip("\n")


def long_text(text: str) -> str:
    """A text's literal, over several lines where that can be read."""
    if "\n" not in text.rstrip("\n"):
        return repr(text)
    literal = '"""\\\n' + text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') + '"""'
    try:
        same = ast.literal_eval(literal) == text
    except (SyntaxError, ValueError):
        same = False
    return literal if same else repr(text)
