"""What one instance of a flow costs, beside papermill, ploomber-engine, `python flow.py` and fork.

All contenders run in turns, so that a busy moment of the machine meets every one of them. See
`README.md` beside this file for what each figure means.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import process_tree
import profiles
import report
import warm_kernels
from contenders import CONTENDERS, Task, Worker, missing

HERE = Path(__file__).resolve().parent
FLOWS = {
    "tri": (HERE / "flows" / "trivial.py", "3 trivial cells"),
    "plot": (HERE / "flows" / "plot.py", "9 cells: pandas, one plot"),
    "model": (HERE / "flows" / "model.py", "scikit-learn, scipy, pandas, matplotlib"),
    "cells": (HERE / "flows" / "cells.py", "100 small cells"),
}
COLD = ("ductaflow", "papermill")
PAUSE = 0.2  # seconds between turns: what one leaves to be done must not meet the next


def compare(flow: Path, names: list[str], rounds: int, work: Path) -> dict[str, Any]:
    """Run the contenders in turns.

    Args:
        flow: The flow.
        names: The contenders.
        rounds: Measured instances of each.
        work: A folder for what they write.

    Returns:
        For each contender `ms` (one figure an instance) and `cpu_ms` (an instance, mean over all
        of its runs), or `missing` (packages that are not installed).
    """
    results: dict[str, Any] = {}
    workers: dict[str, Worker] = {}
    notebook = to_notebook(flow, work)
    try:
        for name in names:
            absent = missing(name, flow)
            results[name] = {"missing": absent} if absent else {"ms": []}
            if not absent:
                workers[name] = Worker(name, Task(flow, notebook, work / name))
        for worker in workers.values():
            worker.run()
            worker.run()
        time.sleep(2 * PAUSE)
        cpu = {name: (_cpu(worker), worker.runs) for name, worker in workers.items()}
        for _ in range(rounds):
            for name, worker in workers.items():
                for _ in range(CONTENDERS[name].lead):
                    worker.run()
                results[name]["ms"].append(worker.run())
                time.sleep(PAUSE)
        for name, worker in workers.items():
            before, runs = cpu[name]
            if before is not None:
                spent = _cpu(worker)
                results[name]["cpu_ms"] = (spent - before) * 1000 / (worker.runs - runs)
    finally:
        for worker in workers.values():
            worker.close()
    return results


def _cpu(worker: Worker) -> Any:
    return process_tree.cpu_seconds(worker.process.pid) if process_tree.AVAILABLE else None


def cold(flow: Path, rounds: int, work: Path) -> dict[str, Any]:
    """From the start of a new process to the end of its first run, artifacts included, in ms."""
    results: dict[str, Any] = {}
    notebook = to_notebook(flow, work)
    present = []
    for name in COLD:
        absent = missing(name, flow)
        results[name] = {"missing": absent} if absent else {"ms": []}
        present += [] if absent else [name]
    for turn in range(rounds + 1):
        for name in present:
            began = time.perf_counter()
            worker = Worker(name, Task(flow, notebook, work / f"{name}-{turn}"))
            try:
                worker.run()
                took = (time.perf_counter() - began) * 1000
            finally:
                worker.close()
            if turn:  # the first one fills the file cache
                results[name]["ms"].append(took)
            time.sleep(PAUSE)
    return results


def to_notebook(flow: Path, folder: Path) -> Path:
    """The flow as an .ipynb, for those that run nothing else."""
    import jupytext

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{flow.stem}.ipynb"
    notebook = jupytext.read(flow)
    notebook.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    jupytext.write(notebook, path)
    return path


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All that was asked for, as the report and `--json` take it."""
    results: dict[str, Any] = {"machine": report.machine(), "n": args.n, "flows": {}, "cold": {}}
    for name in args.flow:
        flow, label = FLOWS[name]
        _say(f"{label}: {args.n} instances of each")
        results["flows"][name] = {"label": label, **compare(flow, args.only, args.n, work / name)}
        print(report.line(results["flows"][name]))
    for name in args.flow if args.cold else ():
        flow, label = FLOWS[name]
        _say(f"{label}: first run in a new process, {args.cold} of each")
        results["cold"][name] = {"label": label, **cold(flow, args.cold, work / f"cold-{name}")}
        print(report.line(results["cold"][name]))
    if args.lease:
        _say(f"lease to first cell, {args.lease} kernels")
        results["lease_ms"] = warm_kernels.lease_times(args.lease)
        results["kernel_memory"] = warm_kernels.kernel_memory()
    results["load"] = report.load()
    return results


def _say(text: str) -> None:
    print(f"# {text}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-n", type=int, default=20, help="measured instances of each (20)")
    p.add_argument(
        "--flow", choices=FLOWS, nargs="+", default=list(FLOWS), help="which flows (all)"
    )
    p.add_argument(
        "--only", choices=CONTENDERS, nargs="+", default=list(CONTENDERS),
        help="which contenders (all)",
    )  # fmt: skip
    p.add_argument(
        "--cold",
        type=int,
        default=5,
        metavar="N",
        help="first runs in new processes; 0 for none (5)",
    )
    p.add_argument(
        "--lease", type=int, default=30, metavar="N",
        help="kernels leased for the latency, and the memory of idle ones; 0 for neither (30)",
    )  # fmt: skip
    p.add_argument("--json", type=Path, metavar="FILE", help="write every single figure there")
    p.add_argument(
        "--write", type=Path, metavar="README.md",
        help=f"replace what stands between {' and '.join(report.marks())} in this file",
    )  # fmt: skip
    p.add_argument(
        "--profile", choices=FLOWS, metavar="FLOW",
        help=f"profile -n runs of a flow instead, conductor and kernel ({', '.join(FLOWS)})",
    )  # fmt: skip
    return p


def main() -> None:
    """Measure, print, write."""
    args = parser().parse_args()
    if args.profile:
        profiles.main_profile(FLOWS[args.profile][0], args.n)
        return
    if args.write:
        report.check(args.write)  # before the minutes that follow
    with tempfile.TemporaryDirectory(prefix="df-bench-") as work:
        results = measure(args, Path(work))
    text = report.markdown(results)
    print(text)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    if args.write:
        report.write(args.write, text)


if __name__ == "__main__":
    main()
