"""What caching costs and saves: observation, decisions over many instances, look-ups over more.

    python benchmarks/caching.py [--instances 10000] [--runs 100000] [-n 20]

Everything happens in a temporary folder. The many instances are copies of one real run, each with a
config of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ductaflow import get_all_instances, run_notebook, run_step_flow, runs_table, sweep
from ductaflow.fingerprint import fingerprints
from ductaflow.flow import read_flow

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="runs of each kind")
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("flow").mkdir()
        observation(given.n)
        many_files(given.files)
        copies(given.instances)
        rows = [{"instance": f"i{n:06}", "k": n} for n in range(given.instances)]
        for _ in range(3):
            reused = timed(
                "sweep of reusable instances", lambda: sweep("small", rows, progress=False)
            )
            assert len(reused.reused) == len(reused)
        copies(given.runs)
        for what in ("index made anew", "index there"):
            found = timed(f"get_all_instances, {what}", lambda: get_all_instances("small"))
            assert len(found) == given.runs
        table = timed(
            "runs_table(where=...)", lambda: runs_table("config.k >= 100 and config.k < 200")
        )
        assert len(table) == 100


def timed(what: str, do: Callable[[], Any]) -> Any:
    began, cpu = time.perf_counter(), time.process_time()
    result = do()
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    print(f"{what}: {len(result):,} in {wall:.2f} s ({used:.2f} s of CPU)", flush=True)
    return result


def observation(n: int) -> None:
    """The same flow in turns with and without observation."""
    times: dict[str, list[float]] = {"observed": [], "not observed": []}
    for k in range(n + 3):
        for how in times:
            time.sleep(0.2)  # the next kernel is ready again
            began = time.perf_counter()
            if how == "observed":
                run_step_flow(PLOT, "plot", "a", {"seed": k, "days": 365}, force=True)
            else:
                run_notebook(PLOT, {"seed": k, "days": 365}, "elsewhere")
            if k >= 3:
                times[how].append(time.perf_counter() - began)
    with_it, without = (statistics.median(times[how]) for how in times)
    print(
        f"9 cells with a plot: {with_it * 1000:.1f} ms observed, {without * 1000:.1f} ms not: "
        f"{with_it / without - 1:+.1%}",
        flush=True,
    )


def many_files(files: int) -> None:
    """A flow that opens very many files."""
    folder = Path("many")
    for n in range(files):
        if n < 1000:
            (folder / str(n)).mkdir(parents=True)
        (folder / str(n % 1000) / str(n)).write_text("x")
    Path("flow/many.py").write_text(MANY)
    config = {"files": files, "folder": str(folder.absolute())}
    for how, do in (
        ("not observed", lambda: run_notebook("flow/many.py", config, "elsewhere")),
        ("observed", lambda: run_step_flow("many", "a", config)),
        ("reused", lambda: run_step_flow("many", "a", config)),
    ):
        began = time.perf_counter()
        run = do()
        print(
            f"a flow that opens {files:,} files, {how}: {time.perf_counter() - began:.1f} s, "
            f"{len(run.record.inputs):,} inputs",
            flush=True,
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
