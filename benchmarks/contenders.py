"""The ways to run a flow that are compared, each in a worker process of its own.

    instances.py ──{"run": 7}──▶ worker (this file) ──▶ one instance, timed in here
                 ◀──{"ms": 81.3}──

A worker of its own for each, so that none finds what another has imported, patched or left running.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

Run = Callable[[int, Path], object]
"""Runs the flow with a seed; the folder is the instance's own (ductaflow makes it itself)."""


@dataclass(frozen=True)
class Task:
    """What a contender is to run.

    Attributes:
        flow: The flow as percent `.py`.
        notebook: The same as `.ipynb`.
        work: A folder for what it writes.
    """

    flow: Path
    notebook: Path
    work: Path


@dataclass(frozen=True)
class Contender:
    """One way to run a flow.

    Attributes:
        label: For tables.
        make: Does once what a loop would do once.
        needs: Packages that it imports.
        lead: Unmeasured runs right before a measured one. Whoever keeps kernels ready has had time
            to make some while the others took their turns; those must be used up, as in a loop
            they would be. The others that live on between runs get the same.
    """

    label: str
    make: Callable[[Task], Run]
    needs: tuple[str, ...] = ()
    lead: int = 0


# --- with artifacts -----------------------------------------------------------------------------


def ductaflow(task: Task) -> Run:
    """`run_step_flow`: notebook, HTML, config, log and record; a fresh kernel each."""
    from ductaflow import run_step_flow

    default = default_config(task.flow)
    os.environ["DUCTAFLOW_ROOT"] = str(task.work)

    def run(seed: int, folder: Path) -> object:
        return run_step_flow(task.flow, folder.parent.name, folder.name, {**default, "seed": seed})

    return run


def papermill(task: Task) -> Run:
    """`papermill.execute_notebook`, then nbconvert; a fresh kernel each."""
    import papermill

    default, export = default_config(task.flow), _exporter()

    def run(seed: int, folder: Path) -> None:
        executed = papermill.execute_notebook(
            str(task.notebook), str(folder / "flow.ipynb"),
            parameters={"config": {**default, "seed": seed}},
            kernel_name="python3", progress_bar=False, cwd=str(folder),
        )  # fmt: skip
        export(executed, folder)

    return run


def ploomber(task: Task) -> Run:
    """`ploomber_engine.execute_notebook`, then nbconvert; all in one process, no isolation."""
    os.environ["PLOOMBER_STATS_ENABLED"] = "false"  # no call home
    from ploomber_engine import execute_notebook

    default, export = default_config(task.flow), _exporter()

    def run(seed: int, folder: Path) -> None:
        executed = execute_notebook(
            str(task.notebook), str(folder / "flow.ipynb"),
            parameters={"config": {**default, "seed": seed}},
            progress_bar=False, cwd=str(folder),
        )  # fmt: skip
        export(executed, folder)

    return run


def _exporter() -> Callable[[object, Path], None]:
    """The exporter of nbconvert, made once as in a loop."""
    from nbconvert.exporters.html import HTMLExporter

    exporter = HTMLExporter()

    def export(executed: object, folder: Path) -> None:
        page, _ = exporter.from_notebook_node(executed)
        (folder / "flow.html").write_text(page, "utf-8")

    return export


# --- without artifacts --------------------------------------------------------------------------


def script(task: Task) -> Run:
    """`python flow.py`: the same code in a fresh interpreter, no artifacts."""
    environment = {**os.environ, "MPLBACKEND": "module://agg_to_file", "PYTHONPATH": str(HERE)}

    def run(_seed: int, folder: Path) -> None:
        subprocess.run(
            [sys.executable, str(task.flow)],
            check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    return run


def fork(task: Task) -> Run:
    """The limit: fork an interpreter that has made the imports, run the code, no artifacts."""
    # The run itself is always that of the default seed, as the script's.
    os.environ["MPLBACKEND"] = "module://agg_to_file"
    source = task.flow.read_text("utf-8")
    imports = [n for n in ast.parse(source).body if isinstance(n, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "imports", "exec"), {})

    def run(_seed: int, folder: Path) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.chdir(folder)
                exec(compile(source, str(task.flow), "exec"), {"__name__": "__main__"})
                sys.stdout.flush()
                code = 0
            finally:
                os._exit(code)
        if os.waitpid(pid, 0)[1] != 0:
            raise RuntimeError(f"{task.flow.name} failed in a forked interpreter")

    return run


# --- what is known of them ----------------------------------------------------------------------


CONTENDERS = {
    "ductaflow": Contender("ductaflow", ductaflow, ("ductaflow",), 3),
    "papermill": Contender("papermill", papermill, ("papermill", "nbconvert", "ipykernel")),
    "script": Contender("python flow.py", script),
    "ploomber": Contender("ploomber-engine", ploomber, ("ploomber_engine", "nbconvert"), 3),
    "fork": Contender("fork, no artifacts", fork, lead=3),
}


def missing(name: str, flow: Path) -> list[str]:
    """The packages that a contender or the flow needs and this interpreter does not have."""
    needs = [*CONTENDERS[name].needs, *packages(flow)]
    return sorted({need for need in needs if importlib.util.find_spec(need) is None})


def packages(flow: Path) -> list[str]:
    """The top-level packages that a flow imports."""
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(flow.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(dict.fromkeys(a.name.partition(".")[0] for a in node.names))
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.setdefault(node.module.partition(".")[0])
    return list(found)


def default_config(flow: Path) -> dict[str, object]:
    """The config in the flow's parameters cell."""
    for node in ast.parse(flow.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "config":
            return dict(ast.literal_eval(node.value))
    raise ValueError(f"{flow} has no config")


# --- the worker ---------------------------------------------------------------------------------


class Worker:
    """A contender's process, as `instances.py` sees it."""

    def __init__(self, name: str, task: Task) -> None:
        self.name, self.runs = name, 0
        task.work.mkdir(parents=True, exist_ok=True)
        self._log = task.work / "worker.log"
        own = HERE / "contenders.py"
        argv = [sys.executable, own, name, task.flow, task.notebook, task.work]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def run(self) -> float:
        """One instance; what it took, in milliseconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{self.runs}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            said = self._log.read_text("utf-8", "replace")[-3000:]
            raise SystemExit(f"{self.name} failed:\n{said}")
        self.runs += 1
        return float(json.loads(answer)["ms"])

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> None:
    """Serve one contender: a line with the seed in, a line with the milliseconds out."""
    name, task = sys.argv[1], Task(*map(Path, sys.argv[2:5]))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)  # what a flow prints in this process is no answer
    run = CONTENDERS[name].make(task)
    for line in sys.stdin:
        folder = task.work / "runs" / name / f"i{int(line):04}"
        if name != "ductaflow":
            folder.mkdir(parents=True)
        began = time.perf_counter()
        run(int(line), folder)
        answers.write(json.dumps({"ms": (time.perf_counter() - began) * 1000}) + "\n")


if __name__ == "__main__":
    main()
