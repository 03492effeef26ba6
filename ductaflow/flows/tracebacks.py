"""A kernel's line numbers as the flow file's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from ductaflow.flows.syntax import compile_error, line_before_transform, transform
from ductaflow.model.flows import Cell


def locate(cell: Cell, line: int, shown: str) -> str:
    """Where a line of an executed cell stands in its flow file.

    Args:
        cell: A cell of the flow.
        line: The line as the kernel counts it, from 1.
        shown: The flow file as the reader knows it, as `flow/x.py`.

    Returns:
        `flow/x.py:45`, or `flow/x.ipynb, cell 3, line 2` where the file has no such lines.
    """
    at = _source_line(cell.source, line)
    if cell.line is None:
        return f"{shown}, cell {cell.number}, line {at}"
    return f"{shown}:{cell.line + at - 1}"


@lru_cache(maxsize=256)
def _source_line(source: str, line: int) -> int:
    """The line of `source` for a line of what IPython compiled from it."""
    if compile_error(source) is not None:
        return line_before_transform(source, transform(source), line)
    lines = source.split("\n")
    blank = next((i for i, text in enumerate(lines) if text.strip()), 0)
    return line + blank  # IPython drops leading blank lines


_ANSI = r"(?:\x1b\[[0-9;]*m)*"

_FRAME = re.compile(
    rf"^[ ]*{_ANSI}[ ]*Cell{_ANSI}[ ]{_ANSI}In\[(\d+)\]{_ANSI}, line (\d+){_ANSI}", re.MULTILINE
)


def annotate_traceback(
    lines: Sequence[str], by_execution_count: Mapping[int, Cell], shown: str
) -> list[str]:
    """A kernel's traceback with the flow file's own line beside `Cell In[3], line 2`.

    Args:
        lines: The traceback of an error message, colour codes included.
        by_execution_count: The cells, by the number in `In[...]`.
        shown: The flow file as the reader knows it, as `flow/x.py`.

    Returns:
        The same lines; frames of the flow's own cells end in ` (flow/x.py:45)`.
    """

    def add_place(match: re.Match[str]) -> str:
        cell = by_execution_count.get(int(match[1]))
        if cell is None or cell.number == 0:
            return match[0]
        return f"{match[0]} ({locate(cell, int(match[2]), shown)})"

    return [_FRAME.sub(add_place, line) for line in lines]


def failing_line(lines: Sequence[str], by_execution_count: Mapping[int, Cell]) -> int | None:
    """The flow file's line of a traceback's innermost frame in the flow's own cells.

    Args:
        lines: The traceback of an error message.
        by_execution_count: The cells, by the number in `In[...]`.
    """
    for match in reversed([m for line in lines for m in _FRAME.finditer(line)]):
        cell = by_execution_count.get(int(match[1]))
        if cell is not None and cell.line is not None:
            return cell.line + _source_line(cell.source, int(match[2])) - 1
    return None
