"""A small client of kernels for tests, the sources that they come from, and an interpreter."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
from ductaflow_kernels import interpreters
from ductaflow_kernels.session.messages import Message
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.sources.forked import ForkSource, forking_works
from ductaflow_kernels.sources.spawned import ColdSource, KernelSource, PrespawnedSource
from ductaflow_kernels.spec import KernelRequest, KernelSpec

SOURCES: dict[str, Callable[[], KernelSource]] = {
    "cold": ColdSource,
    "prespawned": PrespawnedSource,
}
if forking_works():
    SOURCES["forked"] = ForkSource


@attrs.frozen
class Interpreter:
    """A Python environment with packages that a test may write, and ours beside them."""

    spec: KernelSpec
    site: Path

    def request(self, folder: Path, *preload: str, **env: str) -> KernelRequest:
        inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
        return KernelRequest(self.spec, folder, {**inherited, **env}, preload)


INSIDE = interpreters.INSIDE.parent  # where a kernel's interpreter finds our package


def inside(name: str) -> ModuleType:
    """A module of those that run in a kernel's interpreter, as it finds them there."""
    sys.path.append(str(INSIDE))
    try:
        return importlib.import_module(f"ductaflow_inside.{name}")
    finally:
        sys.path.remove(str(INSIDE))


def run(session: KernelSession, *codes: str, timeout: float = 30.0) -> list[Message]:
    """Run cells and return every message, up to the last reply and its idle status."""
    last = [session.execute(code) for code in codes][-1]
    messages: list[Message] = []
    waiting = {"execute_reply", "idle"}
    end = time.monotonic() + timeout
    while waiting:
        assert time.monotonic() < end, messages
        for message in session.poll(0.5):
            messages.append(message)
            if message.parent == last:
                waiting -= {message.type, message.content.get("execution_state")}
    return messages


def text(messages: list[Message]) -> str:
    """All that was printed."""
    return "".join(m.content["text"] for m in messages if m.type == "stream")


def printed(session: KernelSession, expression: str) -> object:
    """The value of an expression in the kernel."""
    return json.loads(text(run(session, f"import json; print(json.dumps({expression}))")))


def finish(session: KernelSession) -> dict[str, Any]:
    """Have it finished, as a conductor does; what it says of its run."""
    asked, answer = session.finish(), None
    while answer is None:
        for message in session.poll(10):
            if message.parent == asked and message.type == "last_words":
                session.heard()
            if message.parent == asked and message.type == "finish_reply":
                answer = dict(message.content)
    return answer
