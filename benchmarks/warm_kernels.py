"""Figures of `ductaflow_kernels` alone: how soon a leased kernel runs a cell, what one weighs."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import process_tree
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.sources.forked import ForkSource, forking_works
from ductaflow_kernels.spec import KernelRequest, own_interpreter

PRELOAD = ("pandas", "matplotlib.pyplot")
FLOW = Path(__file__).resolve().parent / "flows" / "plot.py"
SPARE = 2
USED = 16  # kernels that run the flow before the others are weighed: one of them looks
CLOCK = time.CLOCK_MONOTONIC
SETTLE = 0.2  # seconds after which a kernel just made, or just ended, is at rest


def lease_times(count: int) -> list[float]:
    """From `KernelPool.lease()` until the first cell runs, in ms, the pool being full.

    The cell tells when, by the clock that all processes share.
    """
    times = []
    with tempfile.TemporaryDirectory() as folder, KernelPool(spare=SPARE) as pool:
        request = _request(folder)
        pool.retire(pool.lease(request))  # from here on it knows what to keep ready
        for _ in range(count):
            _wait_until_full(pool)
            began = time.clock_gettime(CLOCK)
            session = pool.lease(request)
            times.append((_first_cell(session) - began) * 1000)
            pool.retire(session)
    return times


def _first_cell(session: KernelSession) -> float:
    asked = session.execute(f"__import__('time').clock_gettime({CLOCK:d})")
    while True:
        for message in session.poll(10.0):
            if message.type == "execute_result" and message.parent == asked:
                return float(message.content["data"]["text/plain"])


def _wait_until_full(pool: KernelPool) -> None:
    deadline = time.monotonic() + 60
    while pool.idle() < SPARE:
        if time.monotonic() > deadline:
            raise SystemExit("the kernel pool was not full after 60 s")
        time.sleep(0.01)
    time.sleep(SETTLE)


def kernel_memory(few: int = 2, many: int = 7) -> dict[str, float] | None:
    """Bytes of each further idle kernel with pandas and matplotlib imported; None if unknown.

    What all processes of the fork tree grow by, divided by the kernels added (PSS): pages that a
    kernel shares are counted once, those that it makes its neighbours copy are counted too. The
    template itself grows for the last time between the first kernel and the second.

    Returns:
        `new`, of a template from which no kernel has been used, and `ready`, where some have run
        the flow with a plot, so that waiting ones have copied what it writes to.
    """
    if not (process_tree.AVAILABLE and forking_works()):
        return None
    source = ForkSource()
    with tempfile.TemporaryDirectory() as folder:
        request = _request(folder)
        try:
            new = _growth(source, request, few, many)
            for _ in range(USED):
                _run_flow(source.start(request), request)
            return {"new": new, "ready": _growth(source, request, few, many)}
        finally:
            source.close()


def _growth(source: ForkSource, request: KernelRequest, few: int, many: int) -> float:
    sessions: list[KernelSession] = []
    totals = {}
    try:
        for count in (few, many):
            while len(sessions) < count:
                sessions.append(source.start(request))
            time.sleep(SETTLE)
            tree = process_tree.descendants(os.getpid())[1:]
            totals[count] = sum(process_tree.memory(pid)[0] for pid in tree)
    finally:
        for session in sessions:
            session.close()
    return (totals[many] - totals[few]) / (many - few)


def _run_flow(session: KernelSession, request: KernelRequest) -> None:
    session.adopt(request.cwd, request.environment)
    session.execute(FLOW.read_text("utf-8"))
    session.finish()
    finished = False
    while not finished:
        for message in session.poll(10.0):
            if message.type == "last_words":  # it has exit handlers, and waits to be told
                session.heard()
            finished = finished or message.type == "finish_reply"
    session.close()


def _request(folder: str) -> KernelRequest:
    return KernelRequest(own_interpreter(), Path(folder), dict(os.environ), PRELOAD)
