"""What `import ductaflow` costs: the median of fresh interpreters, with it and without.

Flows import ductaflow inside their kernels, so the budget is 50 ms.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

RUNS = 20
BUDGET = 50.0  # ms


def milliseconds(code: str) -> float:
    """Time of one interpreter that runs `code`, from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Measure in turns, so that a busy moment of the machine meets both."""
    codes = {"bare interpreter": "pass", "import ductaflow": "import ductaflow"}
    for code in codes.values():
        milliseconds(code)  # bytecode and file cache
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(RUNS):
        for name, code in codes.items():
            times[name].append(milliseconds(code))
    for name, values in times.items():
        print(f"{name:<18} {median(values):7.1f} ms  (best {min(values):.1f})")
    bare, full = (median(values) for values in times.values())
    verdict = "within" if full - bare <= BUDGET else "OVER"
    print(f"{'difference':<18} {full - bare:7.1f} ms  ({verdict} the budget of {BUDGET:.0f} ms)")


if __name__ == "__main__":
    main()
