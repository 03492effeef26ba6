"""What caching costs and saves: observation, decisions over many instances, look-ups over more.

    python benchmarks/caching.py                                # minutes; figures to stdout
    python benchmarks/caching.py --write benchmarks/README.md   # the same, and into this file

Everything happens in a temporary folder. The many instances are copies of one real run, each with a
config of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import report

from ductaflow import get_all_instances, run_notebook, run_step_flow, runs_table, sweep
from ductaflow.flows.reading import read_flow
from ductaflow.plans.fingerprint import fingerprints

MARK = "caching"
TIMES = 5  # of each look-up
OBSERVED_LIMIT, SWEEP_LIMIT, LOOKUP_LIMIT = 0.05, 2.0, 0.5  # share; seconds
PLOT = Path(__file__).with_name("flows") / "plot.py"
SMALL = """# %% tags=["parameters"]
config = {"k": 0}

# %%
from pathlib import Path
print(Path("../../../data.csv").read_text(), k)
"""
MANY = """# %% tags=["parameters"]
config = {"files": 0}

# %%
total = 0
for n in range(files):
    with open(f"{folder}/{n % 1000}/{n}") as file:
        total += len(file.read())
"""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=150, help="runs of each kind")
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument(
        "--write", type=Path, metavar="README.md",
        help=f"replace what stands between {' and '.join(report.marks(MARK))} in this file",
    )  # fmt: skip
    given = parser.parse_args()
    target = given.write.absolute() if given.write else None
    if target:
        report.check(target, MARK)  # before the minutes that follow
    items = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("flow").mkdir()
        for measure, count in (
            (observation, given.n),
            (many_files, given.files),
            (reusable, given.instances),
            (look_ups, given.runs),
        ):
            # Each in a process of its own: none meets what another has left in memory.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                items.append(process.submit(measure, count).result())
            print(items[-1], file=sys.stderr, flush=True)
        os.chdir("/")
    lines = [*items, *report.machine_items(report.machine())]
    text = "\n".join(f"- {line}" for line in lines) + "\n"
    print(text)
    if target:
        report.write(target, text, MARK)


def seconds(do: Callable[[], Any]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def within(found: float, limit: float, unit: str = " s") -> str:
    """A target, and whether it is reached."""
    told = f"{limit:.0%}" if unit == "%" else f"{limit:g}{unit}"
    return f"≤ {told} {'✓' if found <= limit else '✗'}"


def observation(n: int) -> str:
    """The same flow in turns with and without observation, all artifacts written."""

    # Each in a folder of its own, where nothing is replaced: after that, some file systems take
    # milliseconds longer to make the next file.
    def observed(seed: int) -> None:
        run_step_flow(PLOT, "plot", f"a{seed}", {"seed": seed, "days": 365})

    def not_observed(seed: int) -> None:
        run_notebook(PLOT, {"seed": seed, "days": 365}, f"elsewhere/a{seed}")

    times: dict[Any, list[float]] = {observed: [], not_observed: []}
    seeds = itertools.count()  # none meets a config that is known
    for turn in range(n + 3):
        for do in list(times) if turn % 2 else reversed(times):
            time.sleep(0.2)  # the next kernel is ready again
            times[do].append(seconds(partial(do, next(seeds))))
    with_it, without = (median(took[3:]) for took in times.values())
    share = with_it / without - 1
    return (
        f"9 cells with a plot: {with_it * 1000:.1f} ms observed, {without * 1000:.1f} ms not: "
        f"{share:+.1%} ({within(share, OBSERVED_LIMIT, '%')}; medians of {n})."
    )


def many_files(files: int) -> str:
    """A flow that opens very many files."""
    folder = Path("many")
    for n in range(files):
        if n < 1000:
            (folder / str(n)).mkdir(parents=True)
        (folder / str(n % 1000) / str(n)).write_text("x")
    Path("flow/many.py").write_text(MANY)
    config = {"files": files, "folder": str(folder.absolute())}
    without = seconds(lambda: run_notebook("flow/many.py", config, "elsewhere"))
    observed = seconds(lambda: run_step_flow("many", "a", config))
    began = time.perf_counter()
    run = run_step_flow("many", "a", config)
    reused = time.perf_counter() - began
    assert run.reused
    assert len(run.record.inputs) >= files
    return (
        f"A flow that opens {files:,} files: {without:.1f} s, observed {observed:.1f} s, "
        f"reused {reused:.1f} s."
    )


def reusable(instances: int) -> str:
    """A sweep of which nothing is to be run."""
    copies(instances)
    rows = [{"instance": f"i{n:06}", "k": n} for n in range(instances)]

    def again() -> None:
        reused = sweep("small", rows, progress=False)
        assert len(reused.reused) == instances

    first, *others = (seconds(again) for _ in range(1 + TIMES))
    return (
        f"A sweep over {instances:,} instances that can all be reused: {median(others):.2f} s "
        f"({within(median(others), SWEEP_LIMIT)}; median of {TIMES}); {first:.2f} s where the "
        "index must be made first."
    )


def look_ups(runs: int) -> str:
    """What is there, of very many runs; whatever has changed would be seen."""
    copies(runs)

    def instances() -> None:
        assert len(get_all_instances("small")) == runs

    def table() -> None:
        assert len(runs_table("config.k >= 100 and config.k < 200")) == 100

    anew = seconds(instances)
    table()  # imports pandas
    times = {
        name: median(seconds(do) for _ in range(TIMES))
        for name, do in (("get_all_instances", instances), ("runs_table(where=…)", table))
    }
    files = [f"runs/small/i{n:06}/run.json" for n in range(runs)]
    least = median(seconds(lambda: deque(map(os.stat, files), 0)) for _ in range(TIMES))
    told = ", ".join(
        f"`{name}` {took:.2f} s ({within(took, LOOKUP_LIMIT)})" for name, took in times.items()
    )
    return (
        f"Over {runs:,} runs: {told}, medians of {TIMES}; `os.stat` of each `run.json` alone "
        f"{least:.2f} s; {anew:.0f} s where the index must be made first."
    )


def copies(count: int) -> None:
    """So many instances, all as good as run."""
    Path("flow/small.py").write_text(SMALL)
    Path("data.csv").write_text("a\n")
    first = run_step_flow("small", "i000000", {"k": 0})
    record = first.record.to_json()
    flow = read_flow(Path("flow/small.py"))
    for n in range(count):
        folder = Path(f"runs/small/i{n:06}")
        if not (folder / "run.json").exists():
            folder.mkdir(exist_ok=True)
            record.update(instance=folder.name, fingerprints=fingerprints(flow, {"k": n}))
            (folder / "run.json").write_text(json.dumps(record, indent=2))
            (folder / "config.json").write_text(json.dumps({"k": n}))
            (folder / "small.ipynb").write_text("{}")
            (folder / "small.html").write_text("")


if __name__ == "__main__":
    main()
