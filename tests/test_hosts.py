"""What the machine around us may be like: its interpreters, its load, what it leaves out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ductaflow_kernels.tree
import pytest
from ductaflow_kernels.forked import ForkSource, forking_works
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.process import Patience
from ductaflow_kernels.spec import KernelRequest, find_spec, own_interpreter
from kernel_client import SOURCES, Interpreter, printed

on_linux = pytest.mark.skipif(not forking_works(), reason="Linux")


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
        assert not any(entry.endswith("inside") for entry in path)


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
    monkeypatch.setattr(ductaflow_kernels.tree, "PRELOAD_TIMEOUT", 0.3)
    with KernelPool(managed=ForkSource()) as pool:
        session = pool.lease(interpreter.request(tmp_path, "slowly"))
        assert session.left_out == {}
        assert session.source == "forked"
