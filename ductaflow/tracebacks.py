"""How an error of ours is shown in IPython: the caller's own frames, then what the flow says.

IPython asks an exception for `_render_traceback_`. Where that raises, it shows the usual traceback.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

_OURS = str(Path(__file__).parent) + os.sep
_FRAME = re.compile(r"^\s*Cell In\[(\d+)\], line (\d+)(?: \((?P<place>.*?)\))?(?=$|, in )")
_FILE = re.compile(r"^File (?P<file>.*?)(?=:\d+(?:$|, in ))")


def rendered(error: BaseException, told: Sequence[str] = ()) -> list[str]:
    """The lines of an error's traceback, without the frames of this library that end it.

    Args:
        error: The error, which has been raised.
        told: Lines to show between the frames and the message.
    """
    lines = _caller_lines(error, _callers(error.__traceback__))
    return [*lines[:-1], *told, *lines[-1:]] if told else lines


def of_flow(flow: str, lines: Sequence[str], folder: Path) -> list[str]:
    """A flow's own traceback, to be read elsewhere than in its notebook.

    Args:
        flow: The flow file, as people know it.
        lines: As `flows.tracebacks` gives it: `Cell In[3], line 2 (flow/x.py:45)` becomes
            `File /project/flow/x.py:45`, for in other notebooks `In[3]` is another cell, and
            JupyterLab makes links of whole paths.
        folder: Where the flow ran.
    """
    root = next((above for above in folder.parents if (above / flow).is_file()), None)

    def place(match: re.Match[str]) -> str:
        if match["place"]:
            return f"File {match['place']}"
        return f"An inserted cell, In[{match[1]}], line {match[2]}"

    def whole(match: re.Match[str]) -> str:
        file = match["file"] if root is None else root / match["file"]
        return f"File {file}" if Path(file).is_file() else match[0]

    told = [_FILE.sub(whole, _FRAME.sub(place, line)) for line in lines]
    return ["", f"In the flow {flow}:", *told, ""]


def _caller_lines(error: BaseException, frames: TracebackType | None) -> list[str]:
    """As IPython writes them: head, frames, and the message as the last."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and frames is not None:
        kind = type(error)
        lines: list[str] = shell.InteractiveTB.structured_traceback(
            kind, error, frames, tb_offset=_offset(frames)
        )
        return lines
    return [line.rstrip("\n") for line in traceback.format_exception(type(error), error, frames)]


def _offset(frames: TracebackType) -> int:
    """How many frames at the beginning are IPython's own."""
    first = frames.tb_frame.f_code.co_filename
    return int(frames.tb_next is not None and f"{os.sep}IPython{os.sep}" in first)


def _callers(frames: TracebackType | None) -> TracebackType | None:
    """A copy of a traceback that ends with the last frame that is not of this library."""
    every = list(_each(frames))
    while every and every[-1].tb_frame.f_code.co_filename.startswith(_OURS):
        every.pop()
    copied: TracebackType | None = None
    for one in reversed(every):
        copied = TracebackType(copied, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return copied


def _each(frames: TracebackType | None) -> Iterator[TracebackType]:
    while frames is not None:
        yield frames
        frames = frames.tb_next
