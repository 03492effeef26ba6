"""The compiler of ipykernel, which names cells alike in every kernel of a flow.

The names stand in what warnings say, and ipykernel's have the process's number in them.
"""

from __future__ import annotations

import os

from ipykernel.compiler import XCachingCompiler

from ductaflow_inside.kernel.naming import named_as


@named_as(XCachingCompiler)
class FlowCompiler(XCachingCompiler):  # type: ignore[misc]
    """An XCachingCompiler whose names of files have no number of a process."""

    front_end = False  # whose debugger knows cells by ipykernel's names

    def get_code_name(self, raw_code: str, code: str, number: int) -> str:
        """The name of the file that a cell's code seems to be from."""
        name = str(super().get_code_name(raw_code, code, number))
        return name if self.front_end else name.replace(f"ipykernel_{os.getpid()}", "ipykernel_0")
