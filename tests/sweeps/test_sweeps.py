"""Sweeps on real kernels: what runs, what is told, what is delivered, what survives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from conftest import Project, process_alive, wait_until

import ductaflow.project.workers
from ductaflow import (
    ConfigError,
    ExportError,
    FlowError,
    FlowNotFound,
    ParametersCellError,
    Runs,
    Status,
    SweepFailed,
    SweepInterrupted,
    TableError,
    UnknownKernel,
    get_all_instances,
    grid,
    run_step_flow,
    sweep,
    sweep_iter,
)
from ductaflow.history.entries import FACTS
from ductaflow.history.events import (
    CellFinished,
    Event,
    InstanceFinished,
    InstanceStarted,
    OutputLine,
)
from ductaflow.history.lock import instance_lock
from ductaflow.model.records import ErrorInfo
from ductaflow.project.layout import ArtifactPaths
from ductaflow.project.workers import worker_count
from ductaflow.sweeps.sweepoptions import SweepOptions

FLOW = (
    "from ductaflow import record",
    "print('x is', x)\nrecord(double=x * 2, name=f'n{x}')",
    "open('out.txt', 'w').write(str(x))",
    "if x in fail: raise ValueError(f'bad {x}')",
)


@pytest.fixture
def flow(project: Project) -> Project:
    project.write("step", *FLOW, parameters="config = {'x': 0, 'fail': []}")
    return project


def rows(count: int, *fail: int) -> list[dict[str, object]]:
    return [{"instance": f"i{n}", "x": n, "fail": list(fail)} for n in range(count)]


# --- running ----------------------------------------------------------------------------------


def test_a_row_is_an_instance(flow: Project, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame({"name": ["a", "b", "c"], "x": [1, 2, 3], "client": "north"})
    runs = sweep("step", table, instance="name", config={"x": "x", "fail": [2]}, workers=2)
    assert [run.instance for run in runs] == ["a", "b", "c"]
    assert [run.status for run in runs] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    assert [run.config for run in runs] == [{"x": n, "fail": [2]} for n in (1, 2, 3)]
    assert (len(runs.ok), len(runs.failed), len(runs.reused)) == (2, 1, 0)
    assert runs[-1].record.metrics == {"double": 6, "name": "n3"}
    assert [run.instance for run in runs[:2]] == ["a", "b"]
    assert "✓ 2 succeeded" in repr(runs)
    assert "bad 2 in cell 5 (flow/step.py:" in capsys.readouterr().err
    frame = runs.frame()
    assert list(frame["client"]) == ["north"] * 3
    assert list(frame["status"]) == ["success", "failed", "success"]
    assert list(frame["double"]) == [2, 4, 6]
    assert list(frame["run.name"]) == ["n1", "n2", "n3"]
    assert (frame["peak_memory"] > 1 << 20).all()
    assert frame["error"][1] == "ValueError: bad 2"
    assert Path(frame["html"][0]).is_file()
    page = runs._repr_html_()
    assert page.count("<tr>") == 4
    assert 'href="runs/step/a/step.html"' in page


def test_failures_are_grouped_and_can_be_repeated(flow: Project) -> None:
    runs = sweep("step", rows(5, 1, 3), progress=False)
    summary = runs.summary()
    assert "2 of 5 failed, 1 cause:" in summary
    (cause,) = runs.causes()
    assert cause.command in summary
    done = by_hand(cause.command)
    assert done.returncode == 1
    assert "step/i1: ValueError: bad 1" in done.stdout
    assert cause.command.endswith(" rerun step/i1") or cause.command == "ductaflow rerun step/i1"
    with pytest.raises(SweepFailed, match="2 of 5 failed") as caught:
        runs.raise_if_failed()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert [run.instance for run in copy.runs.failed] == ["i1", "i3"]
    assert runs.ok.raise_if_failed() is not None


def test_causes_are_told_apart(flow: Project, tmp_path: Path) -> None:
    flow.write(
        "several",
        "import os, time",
        "if x == 1: os.kill(os.getpid(), 9)",
        "if x == 2: time.sleep(600)",
        "if x in (3, 4): raise KeyError(x)",
        parameters="config = {'x': 0}",
    )
    runs = sweep("several", grid(x=range(5)), cell_timeout=1, progress=False)
    assert runs.summary().splitlines()[1] == "4 of 5 failed, 3 causes:"
    assert [(len(c.runs), c.error.kind) for c in runs.causes()] == [
        (2, "cell"),
        (1, "died"),
        (1, "timeout"),
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)  # the command finds its way, and knows how long a cell may take
    done = by_hand(runs.causes()[2].command)
    assert "several/x=2: Timeout: it took longer than a cell's 1 s" in done.stdout
    assert list(elsewhere.iterdir()) == []


def by_hand(command: str) -> subprocess.CompletedProcess[str]:
    """A command as people run it in a shell."""
    folder = os.path.dirname(sys.executable)
    path = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, shell=True, capture_output=True, text=True, env=path)


def test_polars_in_polars_out(flow: Project) -> None:
    runs = sweep("step", pl.DataFrame({"instance": ["a"], "x": [4]}), config={"x": "x", "fail": []})
    frame = runs.frame()
    assert isinstance(frame, pl.DataFrame)
    assert frame["double"].to_list() == [8]


def test_a_frame_keeps_what_the_table_is(flow: Project) -> None:
    flow.write(
        "mixed",
        "from ductaflow import record",
        "record(m=[1, 2.5, 'three', None][n], status='mine')\nif n == 2: record(only=True)",
        parameters="config = {'n': 0}",
    )
    kinds = pd.CategoricalDtype(["a", "b"])
    table = pd.DataFrame(
        {"n": pd.array([0, 1, 2, 3], "Int64"), "kind": pd.Series(list("abab"), dtype=kinds)},
        index=pd.Index(list("pqrs"), name="who"),
    )
    runs = sweep("mixed", table, config=["n"], progress=False, only=["q", "r", "s"])
    frame = runs.frame()
    assert list(frame["who"]) == ["q", "r", "s"]
    assert (str(frame["n"].dtype), frame["kind"].dtype) == ("Int64", kinds)
    assert list(frame["m"])[:2] == [2.5, "three"]
    assert list(frame["status"]) == ["success"] * 3
    assert list(frame["record.status"]) == ["mine"] * 3
    assert frame["only"].tolist()[1] is True
    none = sweep("mixed", table, config=["n"], limit=1, progress=False).failed.frame()
    assert list(none.columns) == ["who", "n", "kind", *FACTS]
    rows = pl.DataFrame({"instance": list("pqrs"), "n": range(4)})
    frame = sweep("mixed", rows, config=["n"], progress=False).frame()
    assert frame["m"].to_list() == ["1", "2.5", "three", None]
    assert frame.schema["duration"] == pl.Float64


def test_the_order_of_start_is_the_tables(flow: Project) -> None:
    started = []

    def listen(event: object) -> None:
        if isinstance(event, InstanceStarted):
            started.append(event.instance)

    runs = sweep("step", rows(8), workers=1, on_event=listen, progress=False)
    assert started == [run.instance for run in runs] == [f"i{n}" for n in range(8)]


def test_events_tell_all_there_is(flow: Project) -> None:
    events: list[object] = []
    threads = set()

    def listen(event: object) -> None:
        threads.add(threading.current_thread())
        events.append(event)

    sweep("step", rows(2, 1), on_event=listen, progress=False)
    assert threads == {threading.current_thread()}
    first = [e for e in events if e.instance == "i0"]  # type: ignore[attr-defined]
    assert isinstance(first[0], InstanceStarted)
    assert isinstance(first[-1], InstanceFinished)
    assert first[-1].run.ok
    assert [e.text for e in first if isinstance(e, OutputLine)] == ["x is 0"]
    cells = [e.cell for e in first if isinstance(e, CellFinished)]
    assert [cell.status for cell in cells] == ["ok"] * 7
    finished = [e.run.status for e in events if isinstance(e, InstanceFinished)]
    assert sorted(s.value for s in finished) == ["failed", "success"]


def test_what_a_listener_raises_ends_the_sweep(flow: Project) -> None:
    def listen(event: object) -> None:
        if isinstance(event, OutputLine):
            raise RuntimeError("seen enough")

    with pytest.raises(RuntimeError, match="seen enough"):
        sweep("step", rows(50), on_event=listen, workers=2, progress=False)
    assert len(get_all_instances("step", status=None)) < 50
    assert len(sweep("step", rows(2), reuse=False, progress=False).ok) == 2


def test_an_iterator_gives_runs_as_they_end_and_can_be_left(flow: Project) -> None:
    flow.write("slow", "import time; time.sleep(seconds)", parameters="config = {'seconds': 0}")
    table = [{"instance": "long", "seconds": 60}, {"instance": "short", "seconds": 0}]
    for run in sweep_iter("slow", table, workers=2, progress=False):
        assert run.instance == "short"
        break
    record = json.loads((flow.root / "runs/slow/long/run.json").read_text())
    assert record["status"] == "interrupted"
    with pytest.raises(TypeError, match="no option 'wokers'; did you mean 'workers'"):
        sweep_iter("slow", table, wokers=2)
    endless = ({"instance": f"i{n}", "x": n, "fail": []} for n in iter(int, 1))
    with pytest.raises(TableError, match="both named 'i0'"):
        list(sweep_iter("step", endless, workers=1, progress=False))


def test_a_program_may_end_in_the_middle(project: Project) -> None:
    write_paced(project, 0.5)
    code = (
        "from ductaflow import sweep_iter\n"
        "runs = sweep_iter('paced', [{'x': n, 'fail': []} for n in range(40)], workers=2)\n"
        "print(next(runs).status.value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stdout) == (0, "success\n"), done.stderr
    assert set(statuses(project).values()) <= {"success", "interrupted"}
    assert len(statuses(project)) < 10


def test_stop_at_the_first_failure(flow: Project) -> None:
    with pytest.raises(SweepFailed) as caught:
        sweep("step", rows(30, 1), workers=1, on_error="stop", progress=False)
    assert [run.instance for run in caught.value.runs] == ["i0", "i1"]
    again = sweep("step", rows(30), workers=2, progress=False)
    assert [run.instance for run in again.reused] == []  # another config
    assert len(again.ok) == 30


def test_retries_with_a_pause(flow: Project) -> None:
    flow.write(
        "flaky",
        "from pathlib import Path\n"
        "tries = Path('tries'); count = len(tries.read_text()) if tries.exists() else 0\n"
        "tries.write_text('x' * (count + 1))",
        "import os\nif count < 2 and die: os.kill(os.getpid(), 9)\nif count < 2: raise OSError",
        parameters="config = {'die': True}",
    )
    events: list[object] = []
    table = [{"instance": "dies", "die": True}, {"instance": "raises", "die": False}]
    runs = sweep("flaky", table, retries=2, retry_wait=0.05, on_event=events.append, progress=False)
    attempts = [(e.instance, e.attempt) for e in events if isinstance(e, InstanceStarted)]
    assert [a for i, a in attempts if i == "dies"] == [1, 2, 3]
    assert [a for i, a in attempts if i == "raises"] == [1]
    assert [run.status for run in runs] == [Status.SUCCEEDED, Status.FAILED]
    runs = sweep("flaky", table[1:], retries=2, retry_on=["OSError"], retry_wait=0, progress=False)
    assert runs[0].ok


def test_which_failures_are_tried_again() -> None:
    cell = ErrorInfo("cell", "ConnectionResetError", "by peer")
    for retry_on in (OSError, "ConnectionError", [KeyError, "cell"], ["ConnectionResetError"]):
        assert SweepOptions(retry_on=retry_on).retried(cell)
    for retry_on in (ValueError, ["timeout", "died"], "gaierror", ()):
        assert not SweepOptions(retry_on=retry_on).retried(cell)
    assert not SweepOptions(retry_on="cell").retried(None)


def test_a_time_limit_for_each(flow: Project) -> None:
    flow.write("slow", "import time; time.sleep(seconds)", parameters="config = {'seconds': 0}")
    runs = sweep("slow", grid(seconds=[60, 0]), timeout=1, progress=False)
    assert [run.status for run in runs] == [Status.TIMED_OUT, Status.SUCCEEDED]


def test_a_dry_run_runs_nothing(flow: Project) -> None:
    planned = sweep("step", rows(3), dry_run=True)
    assert [run.status for run in planned] == [Status.PLANNED] * 3
    assert planned[1].config == {"x": 1, "fail": []}
    assert len(planned.failed) == 0
    assert list(planned.frame()["instance"]) == ["i0", "i1", "i2"]
    assert '  ○ i1: {"fail":[],"x":1}' in planned.summary().splitlines()
    assert "&quot;x&quot;:1}</td>" in planned._repr_html_()
    assert "href" not in planned._repr_html_()
    assert sweep("step", rows(30), dry_run=True).summary().endswith("and 10 more")
    assert not (flow.root / "runs").exists()


def test_an_instance_in_use_does_not_stop_the_others(flow: Project) -> None:
    paths = ArtifactPaths.of(flow.root / "runs" / "step" / "i1", "step")
    with instance_lock(paths):
        runs = sweep("step", rows(3), progress=False)
    assert [run.ok for run in runs] == [True, False, True]
    assert runs[1].error is not None
    assert runs[1].error.kind == "busy"


LEVELS = ("outer", "level2", "level1")


def test_what_was_reused_before_an_interruption_is_told(flow: Project) -> None:
    """Runs that serve are heard of in batches, which an interruption cuts."""
    rows = [{"instance": f"i{n}", "x": n} for n in range(6)]
    flow.write("quick", "x", parameters="config = {'x': 0}")
    sweep("quick", rows, progress=False)
    finished: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, InstanceFinished):
            finished.append(event.instance)
            if len(finished) == 3:
                raise KeyboardInterrupt

    with pytest.raises(SweepInterrupted) as caught:
        sweep("quick", rows, progress=False, on_event=listen)
    assert [run.instance for run in caught.value.runs.reused] == [row["instance"] for row in rows]
    with contextlib.closing(sweep_iter("quick", rows, progress=False)) as runs:
        assert next(runs).reused


def test_rows_that_wait_for_what_became_of_the_last(flow: Project) -> None:
    flow.write("quick", "x", parameters="config = {'x': 0}")
    heard = threading.Semaphore(0)

    def rows() -> Iterator[dict[str, object]]:
        for n in range(3):
            yield {"instance": f"i{n}", "x": n}
            assert heard.acquire(timeout=60)

    for reused in (False, True):
        found = []
        for run in sweep_iter("quick", rows(), workers=1, progress=False):
            found.append(run.reused)
            heard.release()
        assert found == [reused] * 3


def test_sweeps_within_sweeps_share_the_cores(
    flow: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow.write(
        "outer",
        "import os\nfrom ductaflow import sweep\n"
        "from ductaflow.project.workers import worker_count",
        "print('share', worker_count(None, os.environ))",
        "if depth: sweep('outer', [{'instance': f'{tag}{depth}', 'tag': tag, 'depth': depth - 1}],"
        " step=f'level{depth}').raise_if_failed()",
        parameters="config = {'tag': 'a', 'depth': 2}",
    )
    monkeypatch.setattr(ductaflow.project.workers, "cores", lambda: 6)
    runs = sweep("outer", grid(tag=["a", "b", "c"], depth=2), workers=3, progress=False)
    runs.raise_if_failed()
    shares = {step: [r.log.read_text() for r in get_all_instances(step)] for step in LEVELS}
    assert [len(logs) for logs in shares.values()] == [3, 3, 3]
    assert all("share 2" in log for logs in shares.values() for log in logs)


def test_under_a_running_event_loop_and_in_a_thread(flow: Project) -> None:
    async def main() -> Runs:
        inside = sweep("step", rows(2), progress=False)
        threaded = await asyncio.to_thread(sweep, "step", rows(2), step="other", progress=False)
        return inside.ok if len(threaded.ok) == 2 else inside.failed

    assert len(asyncio.run(main())) == 2


# --- what is wrong, before anything starts ------------------------------------------------------

BASH_FLOW = """---
jupyter:
  kernelspec:
    display_name: Bash
    language: forth
    name: bash
---

```bash tags=["parameters"]
x=1
```
"""


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("step", {"workers": 0}, ValueError, "workers must be .*, not 0"),
        ("step", {"workers": "2"}, ValueError, "workers must be .*, not '2'"),
        ("step", {"workers": True}, ValueError, "workers must be .*, not True"),
        ("step", {"on_error": "ignore"}, ValueError, "on_error must be .*, not 'ignore'"),
        ("step", {"limit": -1}, ValueError, "limit must be .*, not -1"),
        ("step", {"retries": 1.5}, ValueError, r"retries must be .*, not 1\.5"),
        ("step", {"retry_wait": -1}, ValueError, "retry_wait must be .*, not -1"),
        ("step", {"retry_on": ["tiemout"]}, ValueError, "did you mean 'timeout'"),
        ("step", {"timeout": "1 min"}, TypeError, "timeout must be .*, not '1 min'"),
        ("step", {"cell_timeout": 0}, ValueError, "cell_timeout must be .*, not 0"),
        ("step", {"preload": "numpy"}, TypeError, "preload must be true, false or a list"),
        ("step", {"only": ["i1", "i300"]}, TableError, "'i300' matches none of 300"),
        ("step", {"export_to": "out"}, TableError, "rows 0 and 1 .* both be delivered to out"),
        ("other", {}, FlowError, "is in forth: a config can be injected into python, r, "),
        ("step", {"instance": "nme"}, TableError, "no column 'nme'"),
        ("step", {"config": ["xx"]}, TableError, "no column 'xx'; did you mean 'x'"),
        ("step", {"config": lambda row: {"x": object()}}, ConfigError, "`x` is of type object"),
        ("step", {"export_to": "out/{clint}"}, TableError, r"field \{clint\}"),
        ("step", {"kernel_name": "nope"}, UnknownKernel, "nope"),
        ("stp", {}, FlowNotFound, "step"),
        ("broken", {}, FlowError, r"broken\.py:5: cell 2 does not compile"),
        ("bare", {}, ParametersCellError, "parameters"),
    ],
)  # fmt: skip
def test_mistakes_are_told_once(
    flow: Project,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    flow.write("broken", "x = = 1")
    (flow.root / "flow" / "bare.py").write_text("# %%\nprint(1)\n")
    (flow.root / "flow" / "other.md").write_text(BASH_FLOW)
    spec = flow.root / "jupyter" / "kernels" / "bash" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["bash"], "language": "forth", "display_name": "Forth"}')
    monkeypatch.setenv("JUPYTER_PATH", str(flow.root / "jupyter"))
    with pytest.raises(error, match=message):
        sweep(name, rows(300), **options)  # type: ignore[arg-type]
    assert not (flow.root / "runs").exists()


def test_what_only_a_stream_can_tell_is_told_before_its_instance_starts(flow: Project) -> None:
    clients = ["a", "b", ".."]
    table = ({**row, "client": client} for row, client in zip(rows(9), clients, strict=False))
    with pytest.raises(ExportError, match=r"'\.\.' for 'i2'"):
        sweep("step", table, config=["x", "fail"], export_to="out/{client}/{x}", workers=1)
    assert sorted(p.name for p in (flow.root / "runs/step").iterdir() if p.is_dir()) == ["i0", "i1"]
    with pytest.raises(TableError, match=r"field \{clint\}"):
        sweep("step", iter(rows(3)), step="none", export_to="out/{clint}/{instance}")
    assert get_all_instances("none", status=None) == []


def test_a_link_in_runs_is_told_and_does_not_stop_the_others(
    flow: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (flow.root / "runs" / "step").mkdir(parents=True)
    (flow.root / "runs" / "step" / "i1").symlink_to(outside)
    runs = sweep("step", rows(3), progress=False)
    assert [run.ok for run in runs] == [True, False, True]
    assert "leads through a symlink" in str(runs[1].error)
    assert list(outside.iterdir()) == []


def test_how_many_workers() -> None:
    assert worker_count(3, {}) == 3
    assert worker_count(None, {"DUCTAFLOW_WORKERS": "5"}) == 5
    assert worker_count(None, {}) == ductaflow.project.workers.cores()
    with pytest.raises(ValueError, match=r"DUCTAFLOW_WORKERS must be .*, not 'many'"):
        worker_count(None, {"DUCTAFLOW_WORKERS": "many"})


# --- cut off, and going on ----------------------------------------------------------------------

CONDUCTOR = """
import os, sys
from ductaflow import sweep, SweepInterrupted
table = [{"instance": f"i{n}", "x": n, "fail": []} for n in range(40)]
try:
    runs = sweep("paced", table, workers=2)
except SweepInterrupted as e:
    print("interrupted", len(e.runs), len(e.runs.ok), flush=True)
    raise SystemExit(3)
print("done", len(runs.ok), len(runs.reused), flush=True)
"""


def write_paced(project: Project, seconds: float) -> None:
    project.write(
        "paced",
        f"import time; time.sleep({seconds})",
        parameters="config = {'x': 0, 'fail': []}",
    )


def start_conductor(project: Project) -> subprocess.Popen[str]:
    if not (project.root / "flow" / "paced.py").exists():
        write_paced(project, 0.15)
    return subprocess.Popen(
        [sys.executable, "-c", CONDUCTOR],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def statuses(project: Project) -> dict[str, str]:
    found = {}
    for file in project.root.glob("runs/paced/*/run.json"):
        found[file.parent.name] = json.loads(file.read_text())["status"]
    return found


def test_ctrl_c_saves_what_runs_and_the_next_call_goes_on(project: Project) -> None:
    conductor = start_conductor(project)
    assert wait_until(lambda: list(statuses(project).values()).count("success") >= 5)
    conductor.send_signal(signal.SIGINT)
    out, err = conductor.communicate(timeout=30)
    assert conductor.returncode == 3, err
    left = statuses(project)
    done = list(left.values()).count("success")
    assert out == f"interrupted {len(left)} {done}\n"
    assert set(left.values()) <= {"success", "interrupted"}
    out, err = start_conductor(project).communicate(timeout=60)
    assert out == f"done 40 {done}\n", err
    assert f"{done} reused" in err
    out, _ = start_conductor(project).communicate(timeout=60)
    assert out == "done 40 40\n"


def test_a_conductor_that_is_killed_loses_what_was_running(project: Project) -> None:
    conductor = start_conductor(project)
    assert wait_until(lambda: list(statuses(project).values()).count("success") >= 5)
    conductor.kill()
    conductor.communicate()
    left = statuses(project)
    done = list(left.values()).count("success")
    assert list(left.values()).count("running") <= 2
    assert len(left) <= done + 2
    began = time.monotonic()
    out, err = start_conductor(project).communicate(timeout=60)
    assert out == f"done 40 {done}\n", err
    assert time.monotonic() - began < 30
    assert statuses(project) == {f"i{n}": "success" for n in range(40)}


@pytest.mark.parametrize("change", ["flow", "touched", "nothing"])
def test_a_change_meanwhile_is_seen(project: Project, change: str) -> None:
    conductor = start_conductor(project)
    assert wait_until(lambda: list(statuses(project).values()).count("success") >= 2)
    conductor.kill()
    conductor.communicate()
    done = list(statuses(project).values()).count("success")
    if change == "flow":
        write_paced(project, 0.02)
    elif change == "touched":
        (project.root / "flow" / "paced.py").touch()
    out, err = start_conductor(project).communicate(timeout=60)
    reused = done if change in ("nothing", "touched") else 0
    assert out == f"done 40 {reused}\n", err


def test_two_conductors_at_once(project: Project) -> None:
    both = [start_conductor(project) for _ in range(2)]
    for conductor in both:
        _, err = conductor.communicate(timeout=90)
        assert conductor.returncode == 0, err
    assert statuses(project) == {f"i{n}": "success" for n in range(40)}
    assert all(not process_alive(conductor.pid) for conductor in both)


# --- what flows tell of themselves ---------------------------------------------------------------


def test_record_is_nothing_in_a_script(project: Project) -> None:
    code = "from ductaflow import record; record(a=1); print('fine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_record_takes_scalars(project: Project) -> None:
    project.write(
        "metrics",
        "import numpy as np; from ductaflow import record",
        "record(a=np.float64(1.5), b=None, c='x')",
        "record(a=2, nan=float('nan'))",
        "# %% tags=['raises-exception']\nrecord(d=[1, 2])\n",
    )
    run = project.run("metrics")
    metrics = dict(run.record.metrics)
    assert metrics.pop("nan") != metrics.get("nan")
    assert metrics == {"a": 2, "b": None, "c": "x"}
    assert "record(d=...) is of type list" in run.notebook.read_text()
    assert "vnd.ductaflow" not in run.notebook.read_text()


def test_ten_workers_leave_nothing_open(flow: Project) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    runs = sweep("step", rows(30), workers=10, progress=False)
    assert len(runs.ok) == 30
    with contextlib.suppress(FileNotFoundError):
        # Spare kernels of the sweep may be open still, four descriptors each.
        assert wait_until(lambda: len(os.listdir("/proc/self/fd")) < before + 120)
    assert not [t for t in threading.enumerate() if t.name.startswith("ductaflow-sweep")]
    assert run_step_flow("step", "single", {"x": 1, "fail": []}).ok
    with pytest.raises(SweepInterrupted):
        raise SweepInterrupted("x", runs)
