"""How a cell came out: a traceback on the page is a failure, an exit without a code is an end.

IPython answers `ok` for a cell in which a magic has shown an error, as `%run` and `%%capture` do,
and takes `sys.exit()` for an error.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any


class Verdict:
    """Hears of each traceback that a shell shows."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._shown: dict[str, Any] | None = None  # the first of the cell
        self._left = False
        self._may_leave = False
        self._escaped: SystemExit | None = None
        # Both: libraries and flows put their own in the place of one, and call the other.
        for name in ("showtraceback", "_showtraceback"):
            setattr(shell, name, self._hearing(getattr(shell, name)))
        shell.ask_exit = functools.partial(_leave, shell)
        _hush_exits()

    def begin(self, *, may_leave: bool) -> None:
        """A cell begins.

        Args:
            may_leave: Whether an exit ends the run; else it is an error like others.
        """
        self._shown, self._left, self._may_leave = None, False, may_leave

    def escaped(self, leaving: SystemExit) -> None:
        """An exit in a task that no cell may ever wait for: the next cell to end has made it."""
        self._escaped = leaving

    def of(self, reply: dict[str, Any]) -> dict[str, Any]:
        """The answer to a cell's request: IPython's own, corrected.

        `left_early` is there and true if the cell has ended the run, and well.
        """
        leaving, self._escaped = self._escaped, None
        if leaving is not None and reply.get("status") == "ok" and self._may_leave:
            self._take(leaving, [])
        status, error = reply.get("status"), self._shown
        if error is not None and status == "ok":
            return {**reply, "status": "error", "user_expressions": {}, **error}
        if self._left and error is None:
            kept = {k: v for k, v in reply.items() if k not in ("ename", "evalue", "traceback")}
            return {**kept, "status": "ok", "user_expressions": {}, "left_early": True}
        return reply

    def _hearing(self, show: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(show)
        def heard(*args: Any, **kwargs: Any) -> Any:
            given = args if len(args) == 3 else kwargs.get("exc_tuple", args[0] if args else None)
            error = (given or sys.exc_info())[1]
            lines = args[2] if len(args) == 3 and isinstance(args[2], list) else []
            if error is not None and self._take(error, lines):
                return None
            left_out = _shorten(error)
            if left_out:
                print(f"[{left_out:,} calls are left out of the traceback below]", file=sys.stderr)
                if not args:
                    exact = (type(error), error, error.__traceback__ if error else None)
                    return show(**{**kwargs, "exc_tuple": exact})
            return show(*args, **kwargs)

        return heard

    def _take(self, error: BaseException, lines: list[str]) -> bool:
        """Take in an error; whether it is an end of the run, and not to be shown."""
        if self._may_leave and isinstance(error, SystemExit) and not error.code:
            self._left = True
            return True
        if self._shown is None:
            name = type(error).__name__
            self._shown = {"ename": name, "evalue": _text(error), "traceback": lines}
        elif not self._shown["traceback"]:  # it is shown in two steps, of which the second has it
            self._shown["traceback"] = lines
        return False


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its own __str__ may do anything
        return ""


def _leave(shell: Any) -> None:
    """What `exit` and `quit` do; ipykernel would go on with the cells that were sent ahead."""
    code = shell.keepkernel_on_exit  # what was given to it
    raise SystemExit(None if isinstance(code, bool) else code)


def _hush_exits() -> None:
    """Keep IPython from saying how to leave a terminal."""
    from IPython.core import interactiveshell

    warn = interactiveshell.warn

    def quieter(message: Any, *args: Any, **kwargs: Any) -> None:
        if not str(message).startswith("To exit:"):
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            warn(message, *args, **kwargs)

    interactiveshell.warn = quieter


_FIRST, _LAST = 30, 70  # calls that are shown of more than a hundred


def _shorten(error: BaseException | None) -> int:
    """Take the middle out of long tracebacks, which IPython takes minutes for; how many calls."""
    left_out, seen = 0, set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        calls: list[types.TracebackType] = []
        step = error.__traceback__
        while step is not None:
            calls.append(step)
            step = step.tb_next
        if len(calls) > _FIRST + _LAST:
            below: types.TracebackType | None = calls[-_LAST]
            for call in reversed(calls[:_FIRST]):
                below = types.TracebackType(below, call.tb_frame, call.tb_lasti, call.tb_lineno)
            error.__traceback__ = below
            left_out += len(calls) - _FIRST - _LAST
        error = error.__cause__ or error.__context__
    return left_out
