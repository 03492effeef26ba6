"""Every way in which a run can go wrong, forced with a real kernel, and what it leaves."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest
from conftest import Project, process_alive, wait_until
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.spec import KernelRequest

from ductaflow import (
    ArtifactError,
    CellFailed,
    ConfigError,
    FlowNotFound,
    FlowSyntaxError,
    InstanceBusy,
    KernelFailed,
    NameRefused,
    ParametersCellError,
    RunFailed,
    RunTimedOut,
    Status,
    UnknownKernel,
    run_step_flow,
)
from ductaflow.execution.cellrun import CellRun
from ductaflow.history.lock import instance_lock
from ductaflow.project.layout import ArtifactPaths


def check_saved(error: RunFailed, status: Status, before: str = "before\n") -> None:
    """All that every failed run must leave."""
    run = error.run
    assert run.status is status
    assert json.loads((run.dir / "run.json").read_text())["status"] == status.value
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.run) == (str(error), run)
    notebook = nbformat.read(run.notebook, 4)
    nbformat.validate(notebook)
    banner = notebook.cells[0]
    assert "ductaflow-banner" in banner.metadata.tags
    page = run.html.read_text()
    if run.error is not None and run.error.cell is not None:
        assert "#ductaflow-failing-cell" in banner.source
        assert page.count('id="ductaflow-failing-cell"') == 1
    said = [o.get("text", "") for c in notebook.cells for o in c.get("outputs", ())]
    assert before in said
    assert status.label in run.log.read_text()


def test_a_failing_cell(project: Project) -> None:
    project.write("bad", "print('before')", "def f():\n    return 1 / 0\n\nf()", "print('after')")
    with pytest.raises(CellFailed) as caught:
        project.run("bad")
    check_saved(caught.value, Status.FAILED)
    error = caught.value.run.error
    assert error is not None
    assert (error.type, error.message, error.cell, error.line) == (
        "ZeroDivisionError",
        "division by zero",
        3,
        9,
    )
    assert "flow/bad.py:9" in str(caught.value)
    notebook = nbformat.read(caught.value.run.notebook, 4)
    shown = "\n".join(
        line
        for c in notebook.cells
        for o in c.get("outputs", ())
        for line in o.get("traceback", ())
    )
    assert "(flow/bad.py:9)" in shown
    assert "(flow/bad.py:11)" in shown
    assert [c.status for c in caught.value.run.record.cells][-2:] == ["error", "aborted"]


def test_a_syntax_error_takes_no_kernel(project: Project) -> None:
    project.write("syntax", "x = 1", "y = 2\nfoo bar")
    with pytest.raises(FlowSyntaxError, match=r"cell 3 \(flow/syntax.py:9\)") as caught:
        project.run("syntax")
    check = caught.value.run
    assert check.record.kernel.get("pid") is None
    assert "#ductaflow-failing-cell" in nbformat.read(check.notebook, 4).cells[0].source
    assert check.html.exists()


def test_a_cell_that_takes_too_long_is_interrupted(project: Project) -> None:
    project.write("slow", "print('before')", "import time; time.sleep(600)", "print('after')")
    with pytest.raises(RunTimedOut, match=r"a cell's 0\.5 s in cell 3") as caught:
        project.run("slow", cell_timeout=0.5)
    check_saved(caught.value, Status.TIMED_OUT)


def test_a_kernel_that_resists_is_ended(project: Project) -> None:
    project.write(
        "stubborn",
        "print('before')",
        "import time\nwhile True:\n    try: time.sleep(600)\n    except KeyboardInterrupt: pass",
    )
    began = time.monotonic()
    with pytest.raises(RunTimedOut, match="the run's 1 s") as caught:
        project.run("stubborn", timeout=1)
    assert time.monotonic() - began < 20
    check_saved(caught.value, Status.TIMED_OUT)
    assert not process_alive(caught.value.run.record.kernel["pid"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "os.kill(os.getpid(), 9)",
            "killed by SIGKILL; often out of memory; peak .* MiB; during cell 3",
        ),
        ("os._exit(7)", "exited with code 7; .*during cell 3"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV; .*during cell 3"),
    ],
)
def test_a_dying_kernel(project: Project, code: str, words: str) -> None:
    project.write(
        "die",
        "print('before'); import time",
        f"import os; time.sleep(.3)  # the answer of the cell before has left\n{code}",
        "1",
    )
    began = time.monotonic()
    with pytest.raises(KernelFailed, match=words) as caught:
        project.run("die")
    assert time.monotonic() - began < 15
    check_saved(caught.value, Status.DIED)


def test_input_fails_clearly(project: Project) -> None:
    project.write("ask", "input('name? ')")
    with pytest.raises(CellFailed, match="nobody to answer"):
        project.run("ask")


def test_ctrl_c_saves_cleans_up_and_raises(project: Project) -> None:
    project.write("long", "print('before')", "import time; time.sleep(600)")
    script = (
        "from ductaflow import run_step_flow\n"
        "try: run_step_flow('long', 'a', {})\n"
        "except KeyboardInterrupt as e: print('interrupted:', e)\n"
    )
    conductor = subprocess.Popen(
        [sys.executable, "-c", script], cwd=project.root, stdout=subprocess.PIPE, text=True
    )
    log = project.root / "runs" / "long" / "a" / "long.log"
    assert wait_until(lambda: log.exists() and "before" in log.read_text(), seconds=30)
    conductor.send_signal(signal.SIGINT)
    said, _ = conductor.communicate(timeout=20)
    assert said.startswith("interrupted: long/a was interrupted")
    record = json.loads((log.parent / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert not process_alive(record["this_run"]["kernel"]["pid"])
    notebook = nbformat.read(log.with_suffix(".ipynb"), 4)
    assert any("before" in o.get("text", "") for c in notebook.cells for o in c.get("outputs", ()))


def test_ctrl_c_before_the_first_cell_runs_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = KernelPool.lease

    def interrupted(self: KernelPool, request: KernelRequest, *rest: object) -> KernelSession:
        session = lease(self, request)
        os.kill(os.getpid(), signal.SIGINT)
        return session

    monkeypatch.setattr(KernelPool, "lease", interrupted)
    project.write("early", "open('ran', 'w')")
    with pytest.raises(KeyboardInterrupt):
        project.run("early")
    folder = project.root / "runs" / "early" / "a"
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert not (folder / "ran").exists()


def test_a_fault_of_our_own_keeps_the_notebook_as_it_stands(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(CellRun, "_handle_finish", broken)
    project.write("sound", "print('kept')")
    with pytest.raises(RuntimeError, match="a bug"):
        project.run("sound")
    folder = project.root / "runs" / "sound" / "a"
    assert "kept" in (folder / "sound.ipynb").read_text()
    assert json.loads((folder / "run.json").read_text())["error"]["kind"] == "internal"


def test_a_crash_at_the_end_does_not_hide_the_error(project: Project) -> None:
    project.write(
        "both", "import atexit, os; atexit.register(os._exit, 3)", "raise ValueError('real')"
    )
    with pytest.raises(CellFailed, match="real"):
        project.run("both")


def test_last_words_are_heard_before_the_exit_handlers_run(project: Project) -> None:
    project.write(
        "both",
        "import atexit, os; atexit.register(os._exit, 3)",
        "raise ValueError('real' + 'x' * 30_000_000)",
    )
    with pytest.raises(CellFailed, match="real"):
        project.run("both")


def test_a_folder_that_is_gone_runs_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("gone", "open('ran', 'w')")
    adopt = KernelSession.adopt

    def elsewhere(
        self: KernelSession, cwd: Path, env: Mapping[str, str], observe: Path | None
    ) -> str:
        return adopt(self, cwd / "missing", env, observe)

    monkeypatch.setattr(KernelSession, "adopt", elsewhere)
    with pytest.raises(KernelFailed, match="cannot work in"):
        project.run("gone")


def test_a_folder_in_use_is_refused(project: Project) -> None:
    project.write(
        "busy", "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(.01)"
    )
    thread = threading.Thread(target=project.run, args=("busy",))
    thread.start()
    folder = project.root / "runs" / "busy" / "a"
    try:
        assert wait_until(lambda: (folder / "run.json").exists(), seconds=20)
        with pytest.raises(InstanceBusy, match=rf"process {os.getpid()} on "):
            project.run("busy")
    finally:
        (folder / "go").touch()
        thread.join()
    assert project.run("busy").ok


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="root writes anywhere"
)
def test_a_folder_that_cannot_be_written(project: Project) -> None:
    project.write("ro", "1")
    run = project.run("ro")
    before = run.notebook.read_bytes()
    (run.dir / "run.json").unlink()
    (run.dir / "run.json").mkdir()  # nobody can replace a folder by a file, not even root
    with pytest.raises(ArtifactError, match=r"cannot write .*run\.json.*untouched"):
        project.run("ro")
    assert run.notebook.read_bytes() == before


def test_a_full_disk(project: Project) -> None:
    """A file size limit, in place of a disk that is full."""
    project.write("full", "print('x' * 300_000)")
    before = project.run("full").notebook.read_bytes()
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from ductaflow import run_step_flow, ArtifactError\n"
        "try: run_step_flow('full', 'a', {}, force=True)\n"
        "except ArtifactError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot write" in done.stdout, done.stderr
    folder = project.root / "runs" / "full" / "a"
    assert (folder / "full.ipynb").read_bytes() == before
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert not list(folder.glob(".*.tmp"))


def test_bad_input_is_refused_before_anything_starts(project: Project) -> None:
    project.write("good", "1")
    for name in ("..", "a/b", "", "con", "x" * 300, "a\\b", "trail.", ".hidden"):
        with pytest.raises(NameRefused):
            run_step_flow("good", "good", name, {})
    with pytest.raises(FlowNotFound, match=r"good\.py"):
        run_step_flow("flow/goood.py", "good", "a", {})
    with pytest.raises(ConfigError, match=r"a\.b\[1\]"):
        project.run("good", {"a": {"b": [1, object()]}})
    with pytest.raises(UnknownKernel, match=r"There are: .*python3"):
        project.run("good", kernel_name="nope")
    (project.root / "flow" / "none.py").write_text("# %%\nprint(1)\n")
    with pytest.raises(ParametersCellError, match=r'tags=\["parameters"\]'):
        project.run("none")
    project.write("two", '# %% tags=["parameters"]\nconfig = {}\n')
    with pytest.raises(ParametersCellError, match=r"two\.py"):
        project.run("two")
    assert not (project.root / "runs").exists() or not list((project.root / "runs").iterdir())


def test_a_kernel_that_cannot_start(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = project.root / "share" / "kernels" / "broken"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-c", "import sys; sys.exit('no luck')", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Broken", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(project.root / "share"))
    project.write("start", "1")
    with pytest.raises(KernelFailed, match="did not start") as caught:
        project.run("start", kernel_name="broken")
    assert caught.value.run.error is not None
    assert "no luck" in caught.value.run.error.message


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    paths = ArtifactPaths.of(tmp_path / "inst", "flow")
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from ductaflow.project.layout import ArtifactPaths\n"
        "from ductaflow.history.lock import instance_lock\n"
        f"with instance_lock(ArtifactPaths.of(Path({str(tmp_path / 'inst')!r}), 'flow')):\n"
        "    print('held', flush=True); time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InstanceBusy), instance_lock(paths):
            pass
        holder.kill()
        holder.wait()
    with instance_lock(paths):
        pass


def test_an_endless_recursion_is_told_in_bounds(project: Project) -> None:
    """Two that call each other: IPython sums up only one that calls itself."""
    project.write(
        "deep",
        "import sys\nsys.setrecursionlimit(5000)\n"
        "def there(n): return back(n + 1)\ndef back(n): return there(n + 1)\nthere(0)",
    )
    with pytest.raises(CellFailed, match="RecursionError") as caught:
        project.run("deep")
    run = caught.value.run
    assert run.error is not None
    assert len(run.error.traceback) < 1000
    assert "calls are left out of the traceback below]" in run.log.read_text()
