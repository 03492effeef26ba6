"""What the machine around us may be like: its interpreters, its load, what it leaves out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ductaflow_kernels.sources.tree
import nbconvert
import psutil
import pytest
from conftest import Project, requires_posix
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.processes.process import Patience
from ductaflow_kernels.sources.forked import ForkSource, forking_works
from ductaflow_kernels.spec import KernelRequest, find_spec, own_interpreter
from kernel_client import SOURCES, Interpreter, printed
from nbconvert.exporters.html import HTMLExporter

from ductaflow import ArtifactError, DuctaflowError, RunFailed, run_notebook, run_step_flow

on_linux = pytest.mark.skipif(not forking_works(), reason="Linux")


def can_unshare() -> bool:
    """Whether this process may take `/proc` away from its own."""
    try:
        done = subprocess.run(["unshare", "--mount", "umount", "-l", "/proc"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def request_in(folder: Path, *preload: str, **env: str) -> KernelRequest:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return KernelRequest(own_interpreter(), folder, {**inherited, **env}, preload)


# --- which interpreter ---------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 11), reason="since Python 3.11")
@pytest.mark.parametrize("source", SOURCES)
def test_a_kernel_starts_where_python_leaves_out_the_scripts_folder(
    source: str, tmp_path: Path
) -> None:
    with KernelPool(managed=SOURCES[source]()) as pool:
        session = pool.lease(request_in(tmp_path, PYTHONSAFEPATH="1"))
        assert printed(session, "__import__('sys').flags.safe_path") is True
        path = printed(session, "__import__('sys').path")
        assert isinstance(path, list)
        assert not {"inside", "ductaflow_inside"} & {Path(entry).name for entry in path}


def test_an_interpreter_may_be_isolated(tmp_path: Path) -> None:
    spec = own_interpreter()
    isolated = KernelRequest(
        type(spec)("isolated", (*spec.argv, "-I")), tmp_path, request_in(tmp_path).env
    )
    for source in SOURCES.values():
        with KernelPool(managed=source()) as pool:
            assert printed(pool.lease(isolated), "__import__('sys').flags.isolated") == 1


@pytest.mark.parametrize(
    "python", ["python", "python3", f"python3.{sys.version_info[1]}", "{prefix}/bin/python"]
)
def test_a_kernelspec_of_python_means_the_interpreter_that_reads_it(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the first on the PATH, which may be another environment's."""
    folder = tmp_path / "share" / "kernels" / "some"
    folder.mkdir(parents=True)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Some", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    other = tmp_path / "other"
    other.mkdir()
    for name in ("python", "python3", os.path.basename(python)):
        (other / name).unlink(missing_ok=True)
        (other / name).write_text("#!/bin/sh\nexit 1\n")
        (other / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{other}{os.pathsep}{os.environ['PATH']}")
    with KernelPool() as pool:
        request = KernelRequest(find_spec("some"), tmp_path, dict(os.environ))
        assert printed(pool.lease(request), "__import__('sys').prefix") == sys.prefix


# --- slow, or stuck ------------------------------------------------------------------------------


@on_linux
def test_a_process_that_works_slowly_does_not_hang() -> None:
    """It is stopped most of the time: little of it is done in any while, but something is."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        patience = Patience(busy.pid, 0.4)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert patience.left() > 0
            time.sleep(0.02)
        busy.send_signal(signal.SIGSTOP)
        assert _waits_in_vain(patience)
        busy.send_signal(signal.SIGCONT)
        assert _waits_in_vain(Patience(busy.pid, 0.02))  # it has used the processor for too long
    finally:
        busy.kill()
        busy.wait()


@on_linux
def test_a_child_that_works_is_progress() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        patience = Patience(parent.pid, 5.0)
        time.sleep(1.5)  # it looks for the first time
        assert patience.left() > 0
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def _waits_in_vain(patience: Patience) -> bool:
    while seconds := patience.left():
        time.sleep(seconds)
    return True


@on_linux
def test_an_import_on_a_starved_machine_is_no_hang(
    tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes many times as long as it may be idle, but goes on working."""
    (interpreter.site / "slowly.py").write_text(
        "import time\nend = time.process_time() + 1.0\nwhile time.process_time() < end: pass\n"
    )
    monkeypatch.setattr(ductaflow_kernels.sources.tree, "PRELOAD_TIMEOUT", 0.3)
    with KernelPool(managed=ForkSource()) as pool:
        session = pool.lease(interpreter.request(tmp_path, "slowly"))
        assert session.left_out == {}
        assert session.source == "forked"


@on_linux
def test_a_stopped_observer_goes_on(project: Project) -> None:
    project.write("f", "print(open('../../../in.txt').read())")
    (project.root / "in.txt").write_text("1")
    assert project.run("f").ok
    observer = own_observer()
    observer.send_signal(signal.SIGSTOP)
    assert project.run("f", force=True).ok  # found stopped when the kernel was leased
    project.write(
        "g",
        f"import os, signal; os.kill({observer.pid}, signal.SIGSTOP)",
        "print(open('../../../in.txt').read())",
    )
    run = run_step_flow("g", "g", "a", timeout=60)
    assert run.record.observed == "native"
    (project.root / "in.txt").write_text("2")
    assert not run_step_flow("g", "g", "a", timeout=60).reused
    assert own_observer().pid == observer.pid


@on_linux
def test_an_observer_that_hangs_is_replaced(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped for good: whenever it is let go on, it is stopped again."""
    monkeypatch.setattr("ductaflow_kernels.session.observer.HANGS_AFTER", 1.0)
    monkeypatch.setattr("ductaflow_kernels.session.observer._Observer.go_on", lambda _: None)
    monkeypatch.setattr("ductaflow_kernels.session.session.SILENT_LONG", 1.0)
    project.write("g", "import os, signal", "os.kill(pid, signal.SIGSTOP)\nopen('out.txt', 'w')")
    project.write("f", "print(1)", parameters="config = {}")
    assert project.run("f").ok
    hung = own_observer()
    with pytest.raises(RunFailed, match="was killed, by somebody or because it hung"):
        run_step_flow("g", "g", "a", {"pid": hung.pid})
    assert project.run("f", force=True).record.observed == "native"
    assert own_observer().pid != hung.pid


def own_observer() -> psutil.Process:
    """This process's observer."""
    (found,) = (
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "observer" in child.cmdline()
    )
    return found


# --- what is missing, or little ------------------------------------------------------------------

CONDUCTOR = """
import sys
from ductaflow import RunFailed, sweep, run_step_flow
try:
    print(run_step_flow("f", "f", "a").status.value)
    table = [{"instance": str(n)} for n in range(3)]
    print(len(sweep("f", table, progress=False, workers=2).failed))
except RunFailed as e:
    print(e)
"""


def conduct(project: Project, *before: str) -> subprocess.CompletedProcess[str]:
    """A conductor in a process of its own, after the words of a shell."""
    project.write("f", "print('hello')")
    script = project.root / "conductor.py"
    script.write_text(CONDUCTOR)
    line = "; ".join([*before, f"exec '{sys.executable}' conductor.py"])
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120)


@requires_posix
def test_too_few_files_are_told_before_a_kernel_starts(project: Project) -> None:
    done = conduct(project, "ulimit -n 40")
    assert "may open 40 files" in done.stdout
    assert "ulimit -n 1024" in done.stdout
    assert done.stderr == ""


@requires_posix
def test_few_files_are_enough(project: Project) -> None:
    done = conduct(project, "ulimit -n 128")
    assert (done.stdout.split(), done.stderr) == (["success", "0"], "")


@on_linux
def test_little_memory_is_enough(project: Project) -> None:
    done = conduct(project, "ulimit -v 600000")
    assert (done.stdout.split(), done.stderr) == (["success", "0"], "")


@pytest.mark.skipif(not can_unshare(), reason="needs a mount namespace of its own")
def test_a_container_without_proc(project: Project) -> None:
    project.write("f", "print('hello')")
    (project.root / "conductor.py").write_text(CONDUCTOR)
    inner = f"umount -l /proc && exec '{sys.executable}' conductor.py"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inner], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout.split(), done.stderr) == (["success", "0"], "")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_path_that_is_not_utf8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    (folder / "flow").mkdir(parents=True)
    (folder / "flow" / "f.py").write_text("# %% tags=['parameters']\nconfig = {}\n")
    monkeypatch.chdir(folder)
    with pytest.raises(DuctaflowError, match=r"caf.udce9 has a byte that is not UTF-8"):
        run_step_flow("f", "f", "a")
    with pytest.raises(DuctaflowError, match="not UTF-8"):
        run_notebook("flow/f.py", execution_dir=folder, root=tmp_path)


def test_templates_of_pip_install_target_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = pytest.importorskip("ductaflow.documents.html.lab")
    (here,) = (
        Path(base)
        for base in HTMLExporter().get_prefix_root_dirs()
        if Path(base, "nbconvert", "templates", "lab").is_dir()
    )
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "jupyter").symlink_to(here)
    monkeypatch.setattr(HTMLExporter, "get_prefix_root_dirs", lambda _: [str(tmp_path / "none")])
    with pytest.raises(ArtifactError, match=r"template for HTML was not found.*html=False"):
        lab.Lab.load()
    monkeypatch.setattr(nbconvert, "__file__", str(tmp_path / "nbconvert" / "__init__.py"))
    assert "jp-" in lab.Lab.load().css
