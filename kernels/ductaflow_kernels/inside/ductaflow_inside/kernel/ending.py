"""The end of a run: all that an interpreter does on its way out, without going.

A flow can make each step of it fail, or last: with threads, exit handlers, finalizers, files, audit
hooks. So every step is made whatever became of the others, and what went wrong is told.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ductaflow_inside import instance, warned
from ductaflow_inside.ahead import needed
from ductaflow_inside.observing import observed

T = TypeVar("T")
Tell = Callable[[dict[str, Any]], object]

LOOK_EVERY = 0.05  # seconds for which one thread is waited for at a time


class _Ending:
    """What has become of the steps so far.

    Attributes:
        problems: What went wrong, in words.
        whole: Whether all was done that an interpreter would have done.
        lost: Files to which something could not be written, and why.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.whole = True
        self.lost: list[str] = []

    def step(self, what: str, do: Callable[[], T], default: T) -> T:
        """Make a step, and survive whatever it raises."""
        try:
            return do()
        except BaseException as e:  # also what stops a cell: there is nothing left to stop
            self.failed(f"{what}: {_described(e)}")
            return default

    def failed(self, problem: str) -> None:
        """Take note of what was not done."""
        self.problems.append(problem)
        self.whole = False


_given_up = threading.Event()


def give_up() -> None:
    """Wait no longer for the flow's threads; from any thread."""
    _given_up.set()


def finish(tell: Tell | None = None) -> dict[str, Any]:
    """Do what the interpreter does on its way out; a kernel is killed afterwards.

    Args:
        tell: Called with `threads`, native ids and names of those that are waited for, whenever
            they change.

    Returns:
        `peak_memory` in bytes, `imported`: the modules that the flow made it import, `observed`:
        what was noted of the run, `warnings`: how many records of WARNING and above there were,
        `whole`: whether all went well, `problems` and `lost`: what did not.
    """
    ending = _Ending()
    imported: list[str] = ending.step("its modules", _imported, [])
    ending.step("its threads", lambda: _await_threads(ending, tell), None)
    ending.step("its exit handlers", lambda: _run_exit_handlers(ending), None)
    ending.step("its finalizers", gc.collect, 0)
    ending.step("its open files", lambda: _write_open_files(ending), None)
    noted = ending.step(
        "what it depends on", lambda: observed.report(instance.ahead, imported), None
    )
    ending.step("what later kernels need", needed.end, None)
    for stream in (sys.stdout, sys.stderr):
        ending.step("what it printed", getattr(stream, "flush", _nothing), None)
    return {
        "peak_memory": ending.step("its memory", instance.peak_memory, None),
        "imported": imported,
        "warnings": ending.step("its warnings", warned.warnings, 0),
        "whole": ending.whole,
        "problems": ending.problems,
        "lost": ending.lost,
        **({} if noted is None else {"observed": noted}),
    }


def _imported() -> list[str]:
    return list(instance.newer_modules())[::-1]


def _nothing() -> None:
    """Nothing can be flushed: the flow has put something else in the place of a stream."""


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # its own __str__ may do anything
        return type(error).__name__


# --- threads --------------------------------------------------------------------------------------


def _await_threads(ending: _Ending, tell: Tell | None) -> None:
    """Wait for the flow's threads, as long as nobody says that it has been long enough.

    Not threading._shutdown(), which also declares this thread dead: ipykernel then closes the
    socket over which the answer would leave.
    """
    leaving = _leave_executors(ending)
    told: list[int | None] = []
    while True:
        threads = [t for t in threading.enumerate() if _counts(t)] + [
            t for t in leaving if t.is_alive()
        ]
        if not threads:
            return
        if _given_up.is_set():
            ending.whole = False
            return
        ids = [t.native_id for t in threads]
        if tell is not None and ids != told:
            told = ids
            tell({"threads": {str(t.native_id): t.name for t in threads if t not in leaving}})
        # Not the thread's own method: it may have been overridden.
        threading.Thread.join(threads[0], LOOK_EVERY)


def _counts(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.current_thread()


def _leave_executors(ending: _Ending) -> list[threading.Thread]:
    """Let executors end their threads; what waits for those that work, for as long as it does."""

    def leave(handlers: list[Callable[[], object]]) -> None:
        for handler in handlers:
            ending.step("executors", handler, None)

    handlers = list(reversed(threading._threading_atexits))  # type: ignore[attr-defined]
    if not any(map(_counts, threading.enumerate())):
        leave(handlers)
        return []
    waiting = threading.Thread(target=leave, args=(handlers,), daemon=True)
    waiting.start()
    return [waiting]


# --- exit handlers --------------------------------------------------------------------------------


def _run_exit_handlers(ending: _Ending) -> None:
    """Run all of them; one that raises is told of, as by an interpreter, and noted."""
    tell = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if "atexit" in (unraisable.err_msg or ""):
            problem = f"its exit handler {_called(unraisable)} raised "
            problem += _described(unraisable.exc_value)
            ending.problems.append(problem)
        tell(unraisable)

    sys.unraisablehook = hook
    try:
        atexit._run_exitfuncs()
    finally:
        sys.unraisablehook = tell


def _called(unraisable: Any) -> str:
    """The name of the handler; since Python 3.13 it stands in the message alone."""
    told = re.search(r"callback <(?:built-in )?\w+ (\S+)", unraisable.err_msg)
    if unraisable.object is None and told is not None:
        return told[1]
    return str(getattr(unraisable.object, "__name__", repr(unraisable.object)))


# --- files ----------------------------------------------------------------------------------------


def _write_open_files(ending: _Ending) -> None:
    """Have written what is still in memory, as the end of an interpreter does for what is open.

    Text before bytes: what is flushed goes to the layer below. Those in Python are closed, for they
    may have to write an end, as gzip does; then what they have written below is flushed.
    """
    files = _open_files()
    for item in files.text + files.buffered:
        with contextlib.suppress(Exception):  # tried again below
            item.flush()
    for item in files.closed + files.closed_last:
        ending.step(f"closing {_name(item)}", item.close, None)
    for item in files.text + files.buffered:
        _flush(item, ending)


def _flush(item: Any, ending: _Ending) -> None:
    try:
        if not item.closed:
            item.flush()
    except BaseException as e:
        if _is_regular(item):
            ending.lost.append(f"{_name(item)} ({_described(e)})")
        else:
            ending.problems.append(f"cannot flush {_name(item)}: {_described(e)}")


class _Files:
    """Open files by how they are brought to their end."""

    def __init__(self) -> None:
        self.text: list[Any] = []
        self.buffered: list[Any] = []
        self.closed: list[Any] = []
        self.closed_last: list[Any] = []


def _open_files() -> _Files:
    files = _Files()
    kinds: dict[type, list[Any] | None] = {}
    for item in gc.get_objects():
        kind = type(item)  # not isinstance: an object may claim to be anything
        if kind not in kinds:
            kinds[kind] = _place(kind, files)
        place = kinds[kind]
        if place is not None:
            place.append(item)
    return files


_BUFFERED = (io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)
_RAW = (io.FileIO, io.BytesIO, io.StringIO, io.BufferedReader)
# Their finalizers write what is still to be written; they are no files in Python's own sense.
_CLOSED = (
    ("zipfile", "ZipFile"),
    ("shelve", "Shelf"),
    ("dbm.dumb", "_Database"),
    ("wave", "Wave_write"),
)


def _place(kind: type, files: _Files) -> list[Any] | None:
    """Which of these files are of such a kind; None: it has nothing to write."""
    bases = type.__dict__["__mro__"].__get__(kind)
    if io.TextIOWrapper in bases:
        return files.text
    if any(base in bases for base in _BUFFERED):
        return files.buffered
    if any(base in bases for base in _closed_kinds()):
        return files.closed_last
    if io.IOBase.__mro__[1] not in bases or kind in _RAW or _own_stream() in bases:
        return None
    return files.closed


def _closed_kinds() -> Iterator[Any]:
    for module, name in _CLOSED:
        kind = vars(sys.modules[module]).get(name) if module in sys.modules else None
        if kind is not None:
            yield kind


def _own_stream() -> Any:
    """The class of a kernel's own streams, which carry its last words."""
    return getattr(sys.modules.get("ipykernel.iostream"), "OutStream", None)


def _name(item: Any) -> str:
    try:
        name = getattr(item, "name", None) or getattr(item, "filename", None)
        return repr(os.fspath(name)) if isinstance(name, (str, bytes, os.PathLike)) else repr(item)
    except BaseException:  # a broken property, a __repr__ that raises
        return f"a {type(item).__name__}"


def _is_regular(item: Any) -> bool:
    try:
        return stat.S_ISREG(os.fstat(item.fileno()).st_mode)
    except Exception:  # it has no descriptor, or none any more
        return False
