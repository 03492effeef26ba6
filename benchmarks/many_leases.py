"""Thousands of kernels, leased and retired as fast as they come: does anything stay behind?

Prints how many a second, and what there was of processes, descriptors, sockets and memory before
and after; ends with 1 if there is more of any of the first three.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import process_tree
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.processes.connection import home
from ductaflow_kernels.spec import KernelRequest, own_interpreter

SPARE = 2
ALLOWED = 4  # what a refill under way may hold more than one at rest


def standing(pool: KernelPool) -> dict[str, int]:
    """What there is, once the pool is at rest."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if pool.idle() == SPARE and not pool._retired:
            break
        time.sleep(0.05)
    time.sleep(1.0)
    tree = process_tree.descendants(os.getpid())
    return {
        "processes": len(tree),
        "descriptors": sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in tree),
        "socket files": sum(1 for path in home().rglob("*") if path.is_socket()),
        "MiB (PSS)": sum(process_tree.memory(pid)[0] for pid in tree) // (1 << 20),
    }


def main() -> int:
    """Lease, ask for an answer every hundredth time, retire, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=10_000, help="how many kernels (10,000)")
    count = parser.parse_args().n
    if not process_tree.AVAILABLE:
        print("this looks into /proc, so it needs Linux")
        return 2
    with tempfile.TemporaryDirectory() as folder, KernelPool(spare=SPARE) as pool:
        request = KernelRequest(own_interpreter(), Path(folder), dict(os.environ))
        for _ in range(5):
            pool.retire(pool.lease(request))
        before = standing(pool)
        began = time.monotonic()
        for number in range(count):
            session = pool.lease(request)
            if number % 100 == 0:
                asked = session.execute("6 * 7")
                while not any(m.parent == asked and m.type == "execute_reply"
                              for m in session.poll(60)):  # fmt: skip
                    pass
            pool.retire(session)
        seconds = time.monotonic() - began
        after = standing(pool)
    print(f"{count} kernels in {seconds:.0f} s: {count / seconds:.0f} a second")
    print("before", before)
    print("after ", after)
    grown = [
        k for k in ("processes", "descriptors", "socket files") if after[k] > before[k] + ALLOWED
    ]
    print("left behind: " + (", ".join(grown) or "nothing"))
    return bool(grown)


if __name__ == "__main__":
    sys.exit(main())
