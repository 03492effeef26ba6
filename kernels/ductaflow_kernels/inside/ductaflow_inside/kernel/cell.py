"""How an import in a template finds what it would find in a cell of a cold kernel.

    shell.run_cell("import x")   with the streams, the event loop and the prompts of a kernel

Libraries ask where they are when they are imported: for `get_ipython`, the type of `sys.stdout`,
whether a loop runs, which program this is.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import sys
from collections.abc import Iterator
from typing import Any

from ductaflow_inside.kernel.naming import named_as

# --- the program that this is -------------------------------------------------------------------


def set_arguments(launcher: str, connection_file: str) -> None:
    """Be `python -m ipykernel_launcher -f FILE`, in the lists that an import may have kept."""
    sys.argv[:] = [launcher, "-f", connection_file]
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", connection_file]
    sys.orig_argv[:] = arguments


# --- its event loop -------------------------------------------------------------------------------


@named_as(asyncio.SelectorEventLoop)
class _Loop(asyncio.SelectorEventLoop):
    """Says that an event loop runs, as it does during a cell, and notes whether it is used."""

    def __init__(self) -> None:
        vars(self)["used"] = False

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "__dict__", "is_running"):
            object.__getattribute__(self, "__dict__")["used"] = True
        return object.__getattribute__(self, name)

    def is_running(self) -> bool:
        return True

    def __del__(self) -> None:
        """It was never open."""


@contextlib.contextmanager
def _running_loop(problems: list[str]) -> Iterator[None]:
    loop = _Loop()
    owners = sys.getrefcount(loop)
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)
    if vars(loop)["used"] or sys.getrefcount(loop) > owners:
        problems.append("uses the event loop when it is imported")


# --- a cell ---------------------------------------------------------------------------------------


def run(shell: Any, code: str) -> tuple[BaseException | None, str]:
    """Run an expression as a cell does, for its effects.

    Args:
        shell: The template's shell.
        code: The expression.

    Returns:
        What it has raised, and what it did that cannot be done ahead, or the empty string.
    """
    problems: list[str] = []
    with _prompts(shell.kernel), _running_loop(problems), _no_tracebacks(shell):
        done = shell.run_cell(code, silent=True, store_history=False)
    shell.last_execution_result, shell.last_execution_succeeded = None, True
    return done.error_before_exec or done.error_in_exec, "".join(problems)


@contextlib.contextmanager
def _prompts(kernel: Any) -> Iterator[None]:
    """`input` and `getpass` as ipykernel has them while a cell runs."""
    kernel._forward_input(allow_stdin=False)
    try:
        yield
    finally:
        kernel._restore_input()


@contextlib.contextmanager
def _no_tracebacks(shell: Any) -> Iterator[None]:
    """What is raised is for the conductor, and there is nobody yet to publish it to."""
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None
    try:
        yield
    finally:
        del shell.showtraceback, shell.showsyntaxerror


# --- the garbage collector ------------------------------------------------------------------------

_thresholds = gc.get_threshold()


def collect_nothing() -> None:
    """Leave the collector on, as imports may look, but give it nothing to do.

    It slows large imports, for little that could be freed; and what was freed would leave holes,
    into which an instance writes: pages that it has to copy.
    """
    gc.set_threshold(0, *_thresholds[1:])


def collect_again() -> None:
    """Have a forked kernel collect its own garbage, and leave alone the pages that it shares."""
    gc.freeze()
    if gc.get_threshold()[0] == 0:  # else an import has set it
        gc.set_threshold(*_thresholds)


def flush() -> None:
    """Write what Python's own streams hold back; a file that somebody has closed holds nothing."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not (isinstance(stream, io.IOBase) and stream.closed):
            stream.flush()
