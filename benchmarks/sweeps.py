"""What a sweep costs: beside a loop, beside two papermill processes, and over many instances.

python benchmarks/sweeps.py                     # 200 instances of the plot flow
python benchmarks/sweeps.py --memory 10000      # the conductor's memory, trivial flow
python benchmarks/sweeps.py --plan 10000        # looking at a table
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from contenders import default_config
from report import machine

from ductaflow import grid, run_step_flow, sweep, sweep_iter
from ductaflow.table import read_table
from ductaflow.tasks import plan_tasks

HERE = Path(__file__).resolve().parent
FLOWS = {"plot": HERE / "flows" / "plot.py", "tri": HERE / "flows" / "trivial.py"}
ROUNDS = 4  # in which the contenders take turns


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("-n", type=int, default=200, help="instances of each contender (200)")
    parser.add_argument("--workers", type=int, default=2, help="of the sweep and of papermill (2)")
    parser.add_argument("--flow", choices=FLOWS, default="plot", help="which flow (plot)")
    parser.add_argument("--memory", type=int, metavar="N", help="instances of a memory curve")
    parser.add_argument("--plan", type=int, metavar="N", help="rows of a table to look at")
    parser.add_argument("--no-papermill", action="store_true", help="leave papermill out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DUCTAFLOW_ROOT"] = folder
        if args.memory:
            memory(args.memory, args.workers)
        elif args.plan:
            plan(args.plan)
        else:
            throughput(FLOWS[args.flow], args.n, args.workers, papermill=not args.no_papermill)
    facts = machine()
    print(
        ", ".join(str(facts[name]) for name in ("cpu", "cores", "python", "date") if name in facts)
    )


# --- throughput ---------------------------------------------------------------------------------


def throughput(flow: Path, count: int, workers: int, *, papermill: bool) -> None:
    """Instances a second of a loop, a sweep and papermill, in turns."""
    config = default_config(flow)
    seeds = iter(range(10**9))

    def rows(n: int) -> list[dict[str, object]]:
        return [{**config, "seed": next(seeds)} for _ in range(n)]

    def loop(n: int) -> None:
        for row in rows(n):
            run_step_flow(flow, "loop", f"i{row['seed']}", row)

    def swept(n: int) -> None:
        runs = sweep(
            flow, rows(n), step="sweep", instance="i{seed}", workers=workers, progress=False
        )
        runs.raise_if_failed()

    def one_worker(n: int) -> None:
        sweep(flow, rows(n), step="one", instance="i{seed}", workers=1, progress=False)

    contenders: dict[str, Callable[[int], None]] = {
        "loop": loop,
        "sweep, 1 worker": one_worker,
        f"sweep, {workers} workers": swept,
    }
    if papermill:
        contenders[f"papermill, {workers} processes"] = lambda n: _papermill(flow, n, workers)
    for run in contenders.values():
        run(4)
    per_round = max(1, count // ROUNDS)
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            began = time.perf_counter()
            run(per_round)
            spent[name].append((time.perf_counter() - began) / per_round * 1000)
    ours = median(spent[f"sweep, {workers} workers"])
    print(f"{flow.stem}: {per_round * ROUNDS} instances of each, in {ROUNDS} turns; medians")
    for name, times in spent.items():
        print(f"  {name:<26} {median(times):8.1f} ms an instance   {median(times) / ours:5.2f}×")
    one, alone = median(spent["sweep, 1 worker"]), median(spent["loop"])
    print(f"  overhead of a sweep over a loop: {one - alone:+.1f} ms an instance")


def _papermill(flow: Path, count: int, workers: int) -> None:
    """Processes that each run their share, as one would without a conductor."""
    share = -(-count // workers)
    code = (
        "import sys, tempfile; from pathlib import Path; import contenders, instances\n"
        "flow, count, work = Path(sys.argv[1]), int(sys.argv[2]), Path(tempfile.mkdtemp())\n"
        "notebook = instances.to_notebook(flow, work)\n"
        "run = contenders.papermill(contenders.Task(flow, notebook, work))\n"
        "for i in range(count):\n"
        "    folder = work / str(i); folder.mkdir(); run(i, folder)\n"
    )
    command = [sys.executable, "-c", code, str(flow), str(share)]
    for process in [subprocess.Popen(command, cwd=HERE) for _ in range(workers)]:
        if process.wait():
            raise SystemExit("papermill failed")


# --- memory -------------------------------------------------------------------------------------


def memory(count: int, workers: int) -> None:
    """The conductor's resident memory while it runs many instances."""
    rows = grid(seed=range(count))
    began = time.perf_counter()
    marks = {100, *range(count // 10, count + 1, count // 10)}
    first = 0.0
    print("instances   resident MiB   grown since 100   seconds")
    for number, _ in enumerate(
        sweep_iter(FLOWS["tri"], rows, workers=workers, progress=False), start=1
    ):
        if number in marks:
            now = _resident()
            first = first or now
            seconds = time.perf_counter() - began
            print(f"{number:9}   {now:12.1f}   {now - first:15.1f}   {seconds:7.0f}", flush=True)


def _resident() -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# --- planning -----------------------------------------------------------------------------------


def plan(count: int) -> None:
    """Seconds to look at a table: names, configs, uniqueness."""
    import pandas as pd

    frame = pd.DataFrame({"instance_name": [f"i{n}" for n in range(count)]})
    for column in range(10):
        frame[f"group{column % 3}.key{column}"] = range(count)
    tables: dict[str, object] = {
        "pandas, 10 columns": frame,
        "list of dicts": frame.to_dict("records"),
        "grid": grid(seed=range(count), mode="fast", params={"a": 1, "b": [2]}),
    }
    for name, source in tables.items():
        began = time.perf_counter()
        tasks = plan_tasks(read_table(source, Path.cwd()))
        spent = time.perf_counter() - began
        print(f"{name:<20} {tasks.count} rows looked at in {spent:.2f} s")


if __name__ == "__main__":
    main()
