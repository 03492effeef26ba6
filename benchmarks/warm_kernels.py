"""Figures of `ductaflow_kernels` alone: how soon a leased kernel runs a cell, what one weighs."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median

import process_tree
from ductaflow_kernels.forked import ForkSource, forking_works
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.session import KernelSession
from ductaflow_kernels.spec import KernelRequest, own_interpreter

PRELOAD = ("pandas", "matplotlib.pyplot")
SPARE = 2
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

    `pss` is what all processes of the fork tree grow by, divided by the kernels added: pages that
    a kernel shares are counted once, those that it makes its neighbours copy are counted too. The
    template itself grows for the last time between the first kernel and the second.
    `private` is what a kernel has alone.
    """
    if not (process_tree.AVAILABLE and forking_works()):
        return None
    source, sessions = ForkSource(), []
    with tempfile.TemporaryDirectory() as folder:
        request = _request(folder)
        totals = {}
        try:
            for count in (few, many):
                while len(sessions) < count:
                    sessions.append(source.start(request))
                time.sleep(SETTLE)
                tree = process_tree.descendants(os.getpid())[1:]
                totals[count] = sum(process_tree.memory(pid)[0] for pid in tree)
            private = median(process_tree.memory(s.process.pid)[1] for s in sessions)
        finally:
            for session in sessions:
                session.close()
            source.close()
    return {"pss": (totals[many] - totals[few]) / (many - few), "private": private}


def _request(folder: str) -> KernelRequest:
    return KernelRequest(own_interpreter(), Path(folder), dict(os.environ), PRELOAD)
