"""Processes of the fork tree and conductors, really killed, stopped or starved at each stage."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ductaflow_kernels.sources.tree
import psutil
import pytest
from conftest import Project, process_alive, wait_until
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.sources.forked import ForkSource, forking_works
from ductaflow_kernels.spec import KernelRequest, own_interpreter
from kernel_client import SOURCES, printed

from ductaflow import CellFailed

pytestmark = pytest.mark.skipif(not forking_works(), reason="kernels are forked on Linux only")

SLOW = ("tkinter", "unittest.mock", "xml.dom.minidom", "sqlite3", "concurrent.futures.process")


def request_in(folder: Path, *preload: str) -> KernelRequest:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return KernelRequest(own_interpreter(), folder, inherited, preload)


def generations(root: int) -> list[list[psutil.Process]]:
    """Zygotes, templates and kernels below a conductor."""
    levels = [[psutil.Process(root)]]
    for _ in range(3):
        levels.append([child for parent in levels[-1] for child in children(parent)])
    return levels[1:]


def pids(generation: int) -> list[int]:
    """Those of one generation below this process."""
    return [process.pid for process in generations(os.getpid())[generation]]


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("generation", [1, 2], ids=["template", "kernel"])
def test_a_process_lost_as_it_is_born(
    generation: int, how: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ends with a kernel that works, never in a wait."""
    victims: list[int] = []

    def newborn(wait: Callable[..., Any]) -> Callable[..., Any]:
        def waiting(*args: Any) -> Any:
            """What the conductor does while the process is not up yet."""
            if not victims:
                assert wait_until(lambda: bool(set(pids(generation)) - known))
                victims.extend(set(pids(generation)) - known)
                for pid in victims:
                    os.kill(pid, how)
            return wait(*args)

        return waiting

    for limit in ("ANSWER_TIMEOUT", "PRELOAD_TIMEOUT"):
        monkeypatch.setattr(ductaflow_kernels.sources.tree, limit, 3.0)
    with KernelPool(managed=ForkSource(timeout=20.0), spare=0) as pool:
        pool.retire(pool.lease(request_in(tmp_path)))  # a zygote, and a template of no imports
        known = set(pids(generation))
        with monkeypatch.context() as patch:
            if generation == 1:
                hear = ductaflow_kernels.sources.tree.Branch.hear_of_imports
                patch.setattr(
                    ductaflow_kernels.sources.tree.Branch, "hear_of_imports", newborn(hear)
                )
            else:
                wait = ductaflow_kernels.sources.tree.wait_for_ready
                patch.setattr(ductaflow_kernels.sources.tree, "wait_for_ready", newborn(wait))
            session = pool.lease(request_in(tmp_path, *(SLOW if generation == 1 else ())))
        assert len(victims) == 1
        assert printed(session, "6 * 7") == 42
    assert wait_until(lambda: not any(map(process_alive, victims)))


CONDUCTOR = """
import os, sys, threading
from pathlib import Path
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.spec import KernelRequest, own_interpreter
pool = KernelPool()
print("begun", flush=True)
while True:
    request = KernelRequest(own_interpreter(), Path.cwd(), dict(os.environ), {preload!r})
    session = pool.lease(request)
    session.execute("import time; time.sleep(600)")
    print("leased", flush=True)
"""


@pytest.mark.parametrize("generation", [0, 1, 2], ids=["zygote", "template", "kernel"])
@pytest.mark.parametrize("later", [0.0, 0.1], ids=["at once", "later"])
def test_a_conductor_killed_while_its_tree_grows(
    generation: int, later: float, tmp_path: Path, scratch: dict[str, str]
) -> None:
    """Every process is gone within 2 s, whatever it was doing."""
    conductor = subprocess.Popen(
        [sys.executable, "-c", CONDUCTOR.format(preload=SLOW)],
        cwd=tmp_path,
        env=scratch,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: bool(generations(conductor.pid)[generation]))
        time.sleep(later)
        tree = psutil.Process(conductor.pid).children(recursive=True)
        assert all(_belongs_to(p, scratch) for p in tree if p.is_running())
    finally:
        conductor.kill()
        conductor.wait()
    assert wait_until(lambda: not any(process_alive(p.pid) for p in tree))
    # One that was forked as the conductor died is none of those.
    left = lambda: [p for p in psutil.process_iter() if _belongs_to(p, scratch)]  # noqa: E731
    assert wait_until(lambda: not left()), left()


def _belongs_to(process: psutil.Process, environment: dict[str, str]) -> bool:
    try:
        return process.environ().get("TMPDIR") == environment["TMPDIR"]
    except psutil.Error:
        return False


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_kernels_end_with_a_conductor_whose_worker_processes_live_on(
    how: str, tmp_path: Path, scratch: dict[str, str]
) -> None:
    """multiprocessing's workers must not hold the lifeline of their parent's kernels."""
    script = tmp_path / "conductor.py"
    script.write_text(
        "import multiprocessing, os, sys, time\nfrom pathlib import Path\n"
        "from ductaflow_kernels.pool import KernelPool\n"
        "from ductaflow_kernels.spec import KernelRequest, own_interpreter\n"
        "if __name__ == '__main__':\n"
        "    pool = KernelPool()\n"
        "    session = pool.lease(KernelRequest(own_interpreter(), Path.cwd(), dict(os.environ)))\n"
        f"    context = multiprocessing.get_context({how!r})\n"
        "    worker = context.Process(target=time.sleep, args=(60,))\n"
        "    worker.start()\n"
        "    print(worker.pid, session.process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    conductor = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=tmp_path, env=scratch, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert conductor.stdout is not None
    with conductor.stdout:
        worker, kernel = map(int, conductor.stdout.readline().split())
    try:
        conductor.kill()
        conductor.wait()
        assert wait_until(lambda: not process_alive(kernel))
        assert process_alive(worker)
    finally:
        os.kill(worker, signal.SIGKILL)


# --- too little memory --------------------------------------------------------------------------

EATER = "x = []\nwhile True: x.append(bytearray(16 << 20))"


def test_a_flow_that_reaches_its_memory_limit_fails_alone(project: Project) -> None:
    """With `ulimit -v`: Python raises, the run fails clearly, the next one runs."""
    project.write(
        "eat",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))",
        EATER,
    )
    project.write("small", "print('fine')")
    with pytest.raises(CellFailed, match="MemoryError") as caught:
        project.run("eat", timeout=120)
    assert "cell 3" in str(caught.value)
    assert project.run("small").ok


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="Linux")
@pytest.mark.parametrize("source", SOURCES)
def test_where_memory_runs_out_a_kernel_goes_before_its_conductor(
    source: str, tmp_path: Path
) -> None:
    request = KernelRequest(own_interpreter(), tmp_path, dict(os.environ))
    own = int(Path("/proc/self/oom_score_adj").read_text())
    with KernelPool(managed=SOURCES[source]()) as pool:
        session = pool.lease(request)
        score = int(Path(f"/proc/{session.process.pid}/oom_score_adj").read_text())
        assert score == min(1000, own + 300)


VERSION_1 = {"memory.limit_in_bytes": "600M", "memory.memsw.limit_in_bytes": "600M"}
VERSION_2 = {"memory.max": "600M", "memory.swap.max": "0"}


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group of little memory, where one can be made."""
    roots = {"": VERSION_2, "unified": VERSION_2, "memory": VERSION_1}
    made = (_new_cgroup(Path("/sys/fs/cgroup") / root, limits) for root, limits in roots.items())
    folder = next(filter(None, made), None)
    if folder is None:
        pytest.skip("no control group can be made here")
    yield folder
    assert wait_until(lambda: not (folder / "cgroup.procs").read_text().split())
    folder.rmdir()


def _new_cgroup(root: Path, limits: dict[str, str]) -> Path | None:
    folder = root / f"ductaflow-test-{os.getpid()}"
    with contextlib.suppress(OSError):
        folder.mkdir()
        if (folder / next(iter(limits))).exists():
            for name, value in limits.items():
                with contextlib.suppress(OSError):  # no accounting of swap
                    (folder / name).write_text(value)
            return folder
        folder.rmdir()
    return None


def test_a_conductor_in_a_small_control_group(cgroup: Path, project: Project) -> None:
    """The system ends what takes too much; the run says so, and the next one runs."""
    project.write("eat", EATER)
    project.write("small", "import numpy; print(numpy.ones(3).sum())")
    script = (
        "import os\n"
        f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "from ductaflow import KernelFailed, run_step_flow\n"
        "print(run_step_flow('small', 'a', {}).record.kernel['source'], flush=True)\n"
        "try: run_step_flow('eat', 'a', {}, timeout=120)\n"
        "except KernelFailed as e: print('SIGKILL; often out of memory' in str(e), flush=True)\n"
        "print(run_step_flow('small', 'b', {}).status.label)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "forked\nTrue\nsucceeded\n", done.stderr


def test_a_tree_that_cannot_fork_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is spawned instead."""

    def starved(*_: object, **__: object) -> object:
        raise ductaflow_kernels.sources.tree.TreeBroken("Cannot allocate memory")

    monkeypatch.setattr("ductaflow_kernels.sources.forked.fork_process", starved)
    with KernelPool(managed=ForkSource(), spare=0) as pool:
        session = pool.lease(request_in(tmp_path))
        assert session.source == "prespawned"
        assert printed(session, "6 * 7") == 42
