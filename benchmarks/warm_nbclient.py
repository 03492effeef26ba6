"""The same notebook through nbclient: on a kernel of its own, and on a warm one.

Both ways in turns; only the kernelspec's name differs. The warm one is installed by
`ductaflow-kernels install`.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

FLOWS = Path(__file__).resolve().parent / "flows"
OWN, WARM = "python3", "python3-warm"


def execute(notebook: object, kernel: str) -> float:
    """One run with nbclient; what it took, in ms."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            copy.deepcopy(notebook), kernel_name=kernel, resources={"metadata": {"path": folder}}
        )
        began = time.perf_counter()
        client.execute()
        return (time.perf_counter() - began) * 1000


def absent(*kernels: str) -> str:
    """What keeps a kernelspec from being used; empty if nothing does."""
    try:
        import jupytext  # noqa: F401
        import nbclient  # noqa: F401
    except ImportError as e:
        return f"{e.name} is not installed: python -m pip install nbclient jupytext"
    from jupyter_client.kernelspec import KernelSpecManager

    known = KernelSpecManager().find_kernel_specs()
    lost = [kernel for kernel in kernels if kernel not in known]
    if not lost:
        return ""
    hint = "`ductaflow-kernels install` makes it" if WARM in lost else "install ipykernel"
    return (
        f"the kernelspec {' and '.join(map(repr, lost))} is not installed: {hint}. "
        f"Known here ({sys.prefix}): {', '.join(sorted(known)) or 'none'}"
    )


def main() -> None:
    """Measure both in turns."""
    flows = sorted(path.stem for path in FLOWS.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=10, help="measured runs of each (10)")
    parser.add_argument("--flow", choices=flows, nargs="+", default=["trivial", "plot"])
    parser.add_argument("--warm", default=WARM, help=f"the warm kernelspec's name ({WARM})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single figure there")
    args = parser.parse_args()
    kernels = (OWN, args.warm)
    problem = absent(*kernels)
    if problem:
        raise SystemExit(f"nothing was measured: {problem}")

    import jupytext

    results: dict[str, dict[str, list[float]]] = {}
    for flow in args.flow:
        notebook = jupytext.read(FLOWS / f"{flow}.py")
        for kernel in kernels:
            execute(notebook, kernel)  # file caches; what keeps kernels warm starts with the first
        times: dict[str, list[float]] = {kernel: [] for kernel in kernels}
        for _ in range(args.n):
            for kernel in kernels:
                times[kernel].append(execute(notebook, kernel))
        results[flow] = times
        own, warm = (median(times[kernel]) for kernel in kernels)
        print(f"{flow:<8} {OWN} {own:7.0f} ms   {args.warm} {warm:7.0f} ms   {own / warm:.1f}×")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
