"""The observer: what it sees, and what happens when it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from conftest import Project, process_alive, wait_until
from ductaflow_kernels.pool import KernelPool, close_shared_pool
from ductaflow_kernels.processes.connection import home
from ductaflow_kernels.session import observer
from ductaflow_kernels.spec import KernelRequest, own_interpreter
from kernel_client import INSIDE, SOURCES, run, text

from ductaflow import KernelFailed, run_step_flow

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")


def observers(parent: int) -> list[psutil.Process]:
    """The observers that a process has started."""
    found = []
    for child in psutil.Process(parent).children():
        with contextlib.suppress(psutil.ZombieProcess):  # a zygote that another test has killed
            if "observer" in child.cmdline():
                found.append(child)
    return found


def ran(tmp_path: Path, code: str, source: str = "forked") -> list[observer.Use] | None:
    """What an observer sees of a kernel that runs some code in a folder without an error."""
    request = KernelRequest(own_interpreter(), tmp_path, dict(os.environ), observe=tmp_path)
    with KernelPool(managed=SOURCES[source]()) as pool:
        session = pool.lease(request)
        messages = run(session, code)
        assert [m.content for m in messages if m.type == "error"] == [], text(messages)
        uses = session.uses()
        pool.retire(session)
    return uses


def used(tmp_path: Path, code: str) -> dict[str, observer.Use]:
    """What a kernel uses when it runs some code in a folder, by path from there."""
    uses = ran(tmp_path, code)
    assert uses is not None
    base = str(tmp_path)
    return {os.path.relpath(use.path, base): use for use in uses if use.path.startswith(base)}


def test_what_calls_mean(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "batch").mkdir()
    for name in ("read", "update", "there/relative", "moved", "linked", "left", "batch/a", "other"):
        (tmp_path / name).write_text("x")
    code = """
import os
open("read").read()
open("update", "r+").close()
open("written", "w").close()
open("appended", "a").close()
os.rename("moved", "renamed")
os.link("linked", "link")
os.symlink("linked", "symlink")
open("left").read(); os.unlink("left")
open("batch/a").read(); open("batch/b", "w").close(); os.rename("batch", "done")
open("temporary", "w").close(); os.rename("temporary", "final")
open("other").read(); open("other", "w").close()
folder = os.open("there", os.O_RDONLY | os.O_DIRECTORY)
os.close(os.open("relative", os.O_RDONLY, dir_fd=folder))
os.chdir("there")
open("../there/./../read2", "w").close()
os.system("cat relative ../missing > ../printed 2>/dev/null")
"""
    seen = used(tmp_path, code)
    assert seen["read"].read
    assert not seen["read"].written
    assert seen["read"].size == 1
    assert seen["update"].updated
    for name in ("written", "appended", "renamed", "link", "symlink", "read2", "printed"):
        assert seen[name].written, name
        assert seen[name].size == -1, name
    assert seen["there"].listed
    assert seen["there/relative"].read
    assert seen["missing"].read
    assert seen["missing"].size == -1
    assert seen["linked"].read
    assert seen["linked"].tied
    for name in ("moved", "left", "batch", "batch/a"):
        assert seen[name].gone, name
        assert seen[name].read, name
        assert not seen[name].fresh, name
    for name in ("renamed", "done", "done/a"):
        assert seen[name].arrived, name
    for name in ("done/b", "final"):
        assert seen[name].written, name
        assert not seen[name].arrived, name
    assert seen["other"].written
    assert not seen["other"].fresh


@pytest.mark.parametrize("observed", ["native", "python"])
def test_functions_of_os_are_as_they_were(
    tmp_path: Path, observed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are wrapped to note what they are asked for."""
    if observed == "python":
        monkeypatch.setenv("DUCTAFLOW_OBSERVER", "off")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "file").write_text("x")
    code = """
import os, pickle, shutil
from multiprocessing import get_context
from pathlib import Path
for name in ("stat", "lstat", "access", "listdir", "scandir"):
    function = getattr(os, name)
    assert pickle.loads(pickle.dumps(function)) is function, name
    assert function.__name__ == name
with get_context("fork").Pool(1) as pool:
    assert pool.map(os.listdir, ["folder/below"]) == [[]]
    assert pool.map(os.stat, ["folder/file"])[0].st_size == 1
assert sorted(os.listdir("folder")) == sorted(os.listdir(path="folder")) == ["below", "file"]
assert os.listdir(b"folder/below") == []
os.chdir("folder")
assert sorted(os.listdir()) == sorted(entry.name for entry in os.scandir()) == ["below", "file"]
os.chdir("..")
with os.scandir("folder") as entries:
    assert {entry.name: entry.is_dir() for entry in entries} == {"below": True, "file": False}
folder = os.open("folder", os.O_RDONLY)
assert sorted(os.listdir(folder)) == ["below", "file"]
assert os.stat("file", dir_fd=folder).st_size == os.stat(Path("folder", "file")).st_size == 1
assert os.access("file", os.R_OK, dir_fd=folder)
os.close(folder)
assert [path.name for path in sorted(Path().rglob("*"))] == ["folder", "below", "file"]
assert [names for _, names, _ in os.walk("folder")] == [["below"], []]
for wrong in ("missing", "folder/file"):
    try:
        os.listdir(wrong)
    except (FileNotFoundError, NotADirectoryError) as e:
        assert e.filename == wrong
    else:
        raise AssertionError(wrong)
shutil.rmtree("folder")
assert not os.path.exists("folder")
"""
    assert (ran(tmp_path, code) is None) == (observed == "python")


def test_threads_and_children_of_children(tmp_path: Path) -> None:
    for name in ("thread", "child", "grandchild"):
        (tmp_path / name).write_text("x")
    code = """
import subprocess, sys, threading
thread = threading.Thread(target=lambda: open("thread").read())
thread.start(); thread.join()
inner = "open('grandchild').read()"
outer = "import subprocess, sys; open('child').read(); "
outer += f"subprocess.run([sys.executable, '-c', {inner!r}])"
subprocess.run([sys.executable, "-c", outer], check=True)
"""
    assert {"thread", "child", "grandchild"} <= set(used(tmp_path, code))


def test_signals_while_files_are_opened(tmp_path: Path) -> None:
    """A call that is interrupted while it waits for its answer is made again."""
    (tmp_path / "file").write_text("x")
    code = """
import signal
count = 0
def tick(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for _ in range(3000):
    open("file").close()
signal.setitimer(signal.ITIMER_REAL, 0)
assert count
"""
    assert "file" in used(tmp_path, code)


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_kernel_reads_when_it_starts_is_no_use(source: str, tmp_path: Path) -> None:
    uses = ran(tmp_path, "open('in.txt', 'w').close()", source)
    assert uses is not None
    assert [use.path for use in uses if not use.path.startswith(str(home()))] == [
        str(tmp_path / "in.txt")
    ]


def test_an_observer_killed_at_rest_is_replaced(project: Project) -> None:
    close_shared_pool()  # whose kernels have what other flows with the same imports have led to
    project.write("flow", "open('../../../in.txt').read()")
    (project.root / "in.txt").write_text("x")
    for _ in range(2):
        done = project.run("flow", force=True)
        assert done.record.observed == "native"
        assert [fact.path for fact in done.record.inputs] == ["in.txt"]
        (one,) = observers(os.getpid())
        one.kill()
        one.wait()


def test_an_observer_killed_during_a_run(project: Project) -> None:
    code = (
        "import time\nfrom pathlib import Path\nPath('began').touch()\n"
        "while True:\n    time.sleep(0.05)\n    open('../../../in.txt').read()"
    )
    project.write("flow", code)
    (project.root / "in.txt").write_text("x")
    failures: list[BaseException] = []

    def conduct() -> None:
        try:
            run_step_flow("flow", "a", {}, root=project.root)
        except BaseException as e:
            failures.append(e)

    conductor = threading.Thread(target=conduct)
    conductor.start()
    assert wait_until((project.root / "runs/flow/a/began").exists)
    (one,) = observers(os.getpid())
    one.kill()
    conductor.join(60)
    (error,) = failures
    assert isinstance(error, KernelFailed)
    assert "the process that observes its files was killed" in str(error)
    project.write("flow", "open('../../../in.txt').read()")
    assert project.run("flow").record.observed == "native"


def test_it_dies_with_its_conductor(project: Project, scratch: dict[str, str]) -> None:
    project.write("flow", "import time; open('began', 'w').close(); time.sleep(600)")
    conductor = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from ductaflow import run_step_flow; run_step_flow('flow', 'a', {})",
        ],
        cwd=project.root,
        env=scratch,
    )
    assert wait_until((project.root / "runs/flow/a/began").exists)
    (one,) = observers(conductor.pid)
    conductor.send_signal(signal.SIGKILL)
    conductor.wait()
    assert wait_until(lambda: not process_alive(one.pid))


def test_switched_off(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    close_shared_pool()  # likewise
    monkeypatch.setenv(observer.VARIABLE, observer.OFF)
    project.write("flow", "open('../../../in.txt').read()")
    (project.root / "in.txt").write_text("x")
    done = project.run("flow")
    assert done.record.observed == "python"
    assert [fact.path for fact in done.record.inputs] == ["in.txt"]


@pytest.mark.skipif(os.getuid() != 0 if hasattr(os, "getuid") else True, reason="root only")
def test_an_ordinary_user_is_observed_too(tmp_path: Path) -> None:
    """Without privileges the filter needs no_new_privs; all else is the same."""
    code = f"""
import ctypes, os, sys
sys.path.insert(0, {str(INSIDE)!r})
from ductaflow_inside.observing import syscalls
os.setgid(65534); os.setuid(65534)
listener = syscalls.install()
print(listener > 2, ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))
"""
    # It steps down after its start: the interpreter may lie where only root can look.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True 1\n", done.stderr
