"""What a sweep costs: beside a loop and beside papermill processes, of its own, and in memory.

    python benchmarks/sweeps.py                                # all there is; half an hour
    python benchmarks/sweeps.py --write benchmarks/README.md   # the same, and into this file

See `README.md` beside this file for what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import report
from contenders import Task, Worker, default_config, missing
from instances import FLOWS, to_notebook

HERE = Path(__file__).resolve().parent
MARK = "sweeps"
ROUNDS = 4  # in which the contenders take turns
TARGETS = {"loop": 1.3, "papermill": 12.0}
OWN_LIMIT, PLAN_LIMIT, MEMORY_LIMIT = 1.0, 1.0, 50.0  # ms, seconds, MiB


def main() -> None:
    """Measure, print, write."""
    args = parser().parse_args()
    if args.serve:
        serve(args)
        return
    if args.write:
        report.check(args.write, MARK)  # before the minutes that follow
    facts = report.machine()
    with tempfile.TemporaryDirectory(prefix="df-bench-") as folder:
        work = Path(folder)
        parts = []
        if args.n:
            parts.append(_throughput_table(args, throughput(args, work)))
        items = []
        if args.own:
            items.append(_own_item(Served("own", args, work).close(args.own)))
        if args.plan:
            items.append(_plan_item(args.plan, Served("plan", args, work).close(args.plan)))
        if args.memory:
            items.append(_memory_item(Served("memory", args, work).close(args.memory)))
    items += report.machine_items(facts)
    text = "\n\n".join([*parts, "\n".join(f"- {item}" for item in items)]) + "\n"
    print(text)
    if args.write:
        report.write(args.write, text, MARK)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-n", type=int, default=200, help="instances of each contender (200); 0: none")
    p.add_argument("--workers", type=int, default=2, help="of the sweep and of papermill (2)")
    p.add_argument("--flow", choices=FLOWS, default="plot", help="which flow (plot)")
    p.add_argument("--no-papermill", action="store_true", help="leave papermill out")
    p.add_argument("--own", type=int, default=2000, metavar="N", help="runs that take no time")
    p.add_argument("--plan", type=int, default=10_000, metavar="N", help="rows to look at")
    p.add_argument(
        "--memory", type=int, default=10_000, metavar="N",
        help="instances of the trivial flow, HTML and all (10000; a quarter of an hour)",
    )  # fmt: skip
    p.add_argument(
        "--write", type=Path, metavar="README.md",
        help=f"replace what stands between {' and '.join(report.marks(MARK))} in this file",
    )  # fmt: skip
    p.add_argument("--serve", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    return p


# --- throughput ---------------------------------------------------------------------------------


def throughput(args: argparse.Namespace, work: Path) -> dict[str, list[float]]:
    """Milliseconds an instance for each contender and round."""
    flow, label = FLOWS[args.flow]
    contenders: dict[str, Served | Papermill] = {
        name: Served(name, args, work / name) for name in ("loop", "one", "sweep")
    }
    if not args.no_papermill and not missing("papermill", flow):
        contenders["papermill"] = Papermill(flow, args.workers, work)
    share = max(1, args.n // ROUNDS)
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    _say(f"{label}: {share * ROUNDS} instances of each, in {ROUNDS} turns")
    try:
        for contender in contenders.values():
            contender.run(2 * args.workers)  # does not count
        for _ in range(ROUNDS):
            for name, contender in contenders.items():
                spent[name].append(contender.run(share) / share * 1000)
            _say("  " + ", ".join(f"{name} {times[-1]:.0f} ms" for name, times in spent.items()))
    finally:
        for contender in contenders.values():
            contender.close()
    return spent


class Served:
    """A contender in a process of its own, which does so many instances as it is asked for."""

    def __init__(self, name: str, args: argparse.Namespace, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, __file__, "--serve", name, str(work)]
        argv += ["--workers", str(args.workers), "--flow", args.flow]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, count: int) -> Any:
        """What it measured: seconds, or more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.process.args!r} failed")
        return json.loads(answer)

    def close(self, count: int = 0) -> Any:
        """End it, after it has done this."""
        answer = self.run(count) if count else None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        return answer


class Papermill:
    """Processes that each run their share, as one would without a conductor."""

    def __init__(self, flow: Path, workers: int, work: Path) -> None:
        notebook = to_notebook(flow, work)
        folders = [work / f"papermill{number}" for number in range(workers)]
        self.workers = [Worker("papermill", Task(flow, notebook, folder)) for folder in folders]

    def run(self, count: int) -> float:
        """Seconds until the last of them is done."""
        began = time.perf_counter()
        shares = [len(range(i, count, len(self.workers))) for i in range(len(self.workers))]

        def work(worker: Worker, share: int) -> None:
            for _ in range(share):
                worker.run()

        threads = [
            threading.Thread(target=work, args=pair)
            for pair in zip(self.workers, shares, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began

    def close(self) -> None:
        """End them."""
        for worker in self.workers:
            worker.close()


# --- in the process of a contender ----------------------------------------------------------------


def serve(args: argparse.Namespace) -> None:
    """A line with a number of instances in, a line with what was measured out."""
    name, folder = args.serve
    os.environ["DUCTAFLOW_ROOT"] = folder
    task = {"own": _own, "plan": _plan, "memory": _memory}.get(name) or _runner(name, args)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        began = time.perf_counter()
        answer = task(int(line))
        spent = time.perf_counter() - began
        answers.write(json.dumps(spent if answer is None else answer) + "\n")


def _runner(name: str, args: argparse.Namespace) -> Callable[[int], object]:
    from ductaflow import run_step_flow, sweep

    flow, _ = FLOWS[args.flow]
    config = default_config(flow)
    seeds = iter(range(10**9))

    def rows(n: int) -> list[dict[str, object]]:
        return [{**config, "seed": next(seeds)} for _ in range(n)]

    def loop(n: int) -> None:
        for row in rows(n):
            run_step_flow(flow, "loop", f"i{row['seed']}", row)

    def swept(n: int) -> None:
        workers = 1 if name == "one" else args.workers
        sweep(
            flow, rows(n), step=name, instance="i{seed}", workers=workers, progress=False
        ).raise_if_failed()

    return loop if name == "loop" else swept


def _own(count: int) -> dict[str, float]:
    """What is left of a sweep when its runs take no time: plans, threads, progress, results."""
    import io

    from ductaflow import grid, sweep
    from ductaflow.history.run import Run
    from ductaflow.model.records import RunRecord, Status
    from ductaflow.plans.options import make_options
    from ductaflow.plans.plan import plan_instance
    from ductaflow.project.layout import ArtifactPaths
    from ductaflow.sweeps import executor

    def no_time(plan: Any, *_: object) -> Run:
        record = RunRecord(Status.SUCCEEDED, "flow.py", plan.step, plan.instance, "", duration=0.0)
        return Run(record, ArtifactPaths.of(plan.directory, plan.flow.name))

    executor.run_now = no_time
    flow, _ = FLOWS["tri"]
    sys.stderr = io.StringIO()  # progress as in a log
    sweep(flow, grid(seed=range(10)))
    began = time.perf_counter()
    sweep(flow, grid(seed=range(count)))
    whole = time.perf_counter() - began
    from ductaflow.flows.reading import read_flow

    parsed, folder, options = read_flow(flow), Path.cwd(), make_options({})
    began = time.perf_counter()
    for seed in range(count):
        config = {"seed": seed}
        plan_instance(parsed, config, "s", "i", folder, folder, options, with_config=True)
    plans = time.perf_counter() - began
    return {"whole": whole / count * 1000, "plans": plans / count * 1000}


def _plan(count: int) -> dict[str, float]:
    """Seconds to look at tables of different kinds: names, configs, targets, uniqueness."""
    import pandas as pd

    from ductaflow import grid, sweep

    frame = pd.DataFrame({"instance_name": [f"i{n}" for n in range(count)]})
    for column in range(10):
        frame[f"group{column % 3}.key{column}"] = range(count)
    tables: dict[str, Any] = {
        "pandas, 10 columns": frame,
        "list of dicts": frame.to_dict("records"),
        "grid": grid(seed=range(count), mode="fast", params={"a": 1, "b": [2]}),
    }
    flow, _ = FLOWS["tri"]
    spent = {}
    for name, source in tables.items():
        began = time.perf_counter()
        try:
            sweep(flow, source, export_to="out/{instance}", on_event=_enough, progress=False)
        except _EnoughError as e:
            spent[name] = e.args[0] - began
    return spent


class _EnoughError(Exception):
    """The first instance has started; when that was."""


def _enough(_event: object) -> None:
    raise _EnoughError(time.perf_counter())


def _memory(count: int) -> list[tuple[int, float, float]]:
    """The conductor's resident memory: instances, MiB, seconds. What it returns is held, too."""
    from ductaflow import grid, sweep
    from ductaflow.history.events import InstanceFinished

    marks = {100, *range(count // 10, count + 1, max(1, count // 10))}
    curve: list[tuple[int, float, float]] = []
    began, done = time.perf_counter(), 0

    def look() -> None:
        curve.append((done, _resident(), time.perf_counter() - began))
        _say("  {:6} instances {:7.1f} MiB {:6.0f} s".format(*curve[-1]))

    def listen(event: object) -> None:
        nonlocal done
        if isinstance(event, InstanceFinished):
            done += 1
            if done in marks:
                look()

    flow, _ = FLOWS["tri"]
    runs = sweep(flow, grid(seed=range(count)), on_event=listen, progress=False)
    look()
    runs.raise_if_failed()
    return curve


def _resident() -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# --- what is said of it ---------------------------------------------------------------------------


def _throughput_table(args: argparse.Namespace, spent: dict[str, list[float]]) -> str:
    labels = {
        "sweep": f"`sweep`, {args.workers} workers",
        "one": "`sweep`, 1 worker",
        "loop": "loop over `run_step_flow`",
        "papermill": f"papermill, {args.workers} processes",
    }
    ours = median(spent["sweep"])
    lines = ["| | ms an instance | times as long as the sweep |", "| --- | ---: | ---: |"]
    for name, label in labels.items():
        if name not in spent:
            continue
        took = median(spent[name])
        target = TARGETS.get(name)
        verdict = f"; ≥ {target:g}× {_mark(took / ours >= target)}" if target else ""
        lines.append(f"| {label} | {took:.1f} | {took / ours:.2f}×{verdict} |")
    _, label = FLOWS[args.flow]
    count = len(spent["sweep"]) * max(1, args.n // ROUNDS)
    head = f"{label}: {count} instances of each, in {ROUNDS} turns; medians of the turns."
    return f"{head}\n\n" + "\n".join(lines)


def _own_item(own: dict[str, float]) -> str:
    cost = own["whole"] - own["plans"]
    return (
        f"A sweep whose runs take no time: {own['whole']:.2f} ms an instance, of which a loop has "
        f"{own['plans']:.2f} too (its plan): {cost:.2f} ms are the sweep's own "
        f"(< {OWN_LIMIT:g} {_mark(cost < OWN_LIMIT)})."
    )


def _plan_item(count: int, spent: dict[str, float]) -> str:
    told = ", ".join(f"{seconds:.2f} s ({name})" for name, seconds in spent.items())
    verdict = f"< {PLAN_LIMIT:g} s {_mark(max(spent.values()) < PLAN_LIMIT)}"
    return f"From the call to the first start, table of {count:,} rows: {told}; {verdict}."


def _memory_item(curve: list[list[float]]) -> str:
    at_100 = next((mib for count, mib, _ in curve if count >= 100), curve[0][1])
    count, last, seconds = curve[-1]
    told = ", ".join(f"{mib:.0f} ({int(done):,})" for done, mib, _ in curve[:-1])
    grown = last - at_100
    return (
        f"The conductor's resident memory in MiB over {int(count):,} instances of the trivial flow "
        f"(after so many): {told}; {last:.0f} with the result. Grown by {grown:.0f} MiB since 100 "
        f"(≤ {MEMORY_LIMIT:g} {_mark(grown <= MEMORY_LIMIT)}) in {seconds:.0f} s."
    )


def _mark(reached: bool) -> str:
    return "✓" if reached else "✗"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
