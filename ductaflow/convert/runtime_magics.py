"""What magics and shell lines do, for standalone scripts.

See `ductaflow.convert.runtime`, of which this is a part.
"""

from __future__ import annotations

from typing import Any

from ductaflow.convert.runtime import _nb_state


def _nb_expand(text: str, names: Any) -> str:
    """Text with `{expression}` and `$name` filled in; as it is if one cannot be."""
    import re
    import string

    def dollar(match: Any) -> str:
        name = match[1]
        return name if name[0] == "$" else format(eval(name, dict(names)), "")

    pattern = re.compile(r"\$(\$?[\w.]+)(?=(?:[^']*'[^']*')*[^']*$)")
    try:
        parts = []
        for literal, field, spec, conversion in string.Formatter().parse(text):
            parts.append(pattern.sub(dollar, literal))
            if field is not None:
                value = eval(field, dict(names))
                value = string.Formatter().convert_field(value, conversion)
                parts.append(format(value, spec or ""))
        return "".join(parts)
    except Exception:
        return text


def _nb_shell(command: str, names: Any) -> None:
    """`!command`: run it; its exit code is `_exit_code`."""
    import subprocess
    import sys

    sys.stdout.flush()
    names["_exit_code"] = subprocess.run(_nb_expand(command, names), shell=True).returncode


class _nb_Lines(list):  # type: ignore[type-arg]
    """The lines that a command printed: as `.l` a list, as `.n` and `.s` one text."""

    l = property(lambda self: list(self))  # noqa: E741
    n = property(lambda self: "\n".join(self))
    s = property(lambda self: " ".join(self))


def _nb_output(command: str, names: Any) -> Any:
    """`x = !command`: the lines that it prints."""
    import subprocess
    import sys

    sys.stdout.flush()
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(_nb_expand(command, names), shell=True, text=True, **both)  # type: ignore[call-overload]
    names["_exit_code"] = done.returncode
    return _nb_Lines(done.stdout.splitlines())


def _nb_script(command: str, text: str, names: Any, check: bool = True) -> None:
    """`%%bash` and its kind: give the text to a program."""
    import shlex
    import subprocess
    import sys

    sys.stdout.flush()
    program = shlex.split(_nb_expand(command, names))
    subprocess.run(program, input=text, text=True, check=check)


def _nb_write_file(name: str, text: str, names: Any, mode: str = "w") -> None:
    """`%%writefile`."""
    import os

    path = os.path.expanduser(_nb_expand(name, names))
    with open(path, mode, encoding="utf-8") as file:
        file.write(text)
    print(f"{'Appending to' if mode == 'a' else 'Writing'} {path}")


def _nb_cd(folder: str, names: Any) -> None:
    """`%cd`."""
    import os

    os.chdir(os.path.expanduser(_nb_expand(folder, names) or "~"))
    print(os.getcwd())


def _nb_set_env(name: str, value: str, names: Any) -> None:
    """`%env NAME=value`."""
    import os

    os.environ[name] = _nb_expand(value, names)
    print(f"env: {name}={os.environ[name]}")


class _nb_time:
    """`%time` and `%%time`: print how long a block takes."""

    def __enter__(self) -> None:
        import time

        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        import time

        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        print(f"CPU time: {cpu:.3g} s, wall time: {wall:.3g} s")


def _nb_timed(function: Any) -> Any:
    """`%time expression`: its value, and how long it takes."""
    with _nb_time():
        return function()


def _nb_timeit(statement: str, setup: str, names: Any, number: int = 0, repeat: int = 7) -> None:
    """`%timeit` and `%%timeit`."""
    import timeit

    timer = timeit.Timer(statement, setup, globals=names)
    number = number or timer.autorange()[0]
    times = [total / number for total in timer.repeat(repeat, number)]
    print(f"{min(times):.3g} s per loop (best of {repeat} runs of {number} loops)")


def _nb_await(coroutine: Any) -> None:
    """A cell that awaits; all of them share one loop."""
    import asyncio

    if "loop" not in _nb_state:
        _nb_state["loop"] = asyncio.new_event_loop()
    _nb_state["loop"].run_until_complete(coroutine)


class _nb_captured:
    """`%%capture`: keep what a block prints."""

    def __enter__(self) -> Any:
        import io
        import sys

        self.before = sys.stdout, sys.stderr
        self.out, self.err = sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        return self

    def __exit__(self, *_: object) -> None:
        import sys

        sys.stdout, sys.stderr = self.before

    stdout = property(lambda self: self.out.getvalue())
    stderr = property(lambda self: self.err.getvalue())

    def __str__(self) -> str:
        return str(self.stdout)

    def show(self) -> None:
        import sys

        sys.stdout.write(self.stdout)
        sys.stderr.write(self.stderr)

    __call__ = show
