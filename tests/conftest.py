"""Fixtures: a project to run flows in, and a suite that leaves nothing behind."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# A folder of its own, so that what the suite leaves there can be told from what others do. The name
# is short: sockets lie below it.
os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="t-")
tempfile.tempdir = None
os.environ["DUCTAFLOW_SECRET_KEY"] = "the suite's own"  # nothing is left in the user's folders

import attrs
import hypothesis
import psutil
import pytest
from ductaflow_kernels.pool import close_shared_pool
from ductaflow_kernels.processes.connection import remove_home
from ductaflow_kernels.session.observer import close_observer
from ductaflow_kernels.spec import KernelSpec
from kernel_client import Interpreter
from packaging.requirements import Requirement

from ductaflow import Run, run_step_flow
from ductaflow.execution.runner import find_reusable
from ductaflow.history.catalog import all_runs
from ductaflow.project.environment import kernel_environment
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.repeat import plan_again

hypothesis.settings.register_profile("house", deadline=None)  # time says nothing on a busy machine
hypothesis.settings.load_profile("house")


@attrs.frozen
class Project:
    """A throw-away project."""

    root: Path

    def write(self, name: str, *cells: str, parameters: str = "config = {}") -> Path:
        """Write `flow/{name}.py`: a parameters cell, then these."""
        path = self.root / "flow" / f"{name}.py"
        parts = [f'# %% tags=["parameters"]\n{parameters}\n']
        parts += [c if c.startswith("# %%") else f"# %%\n{c}\n" for c in cells]
        path.write_text("\n".join(parts), encoding="utf-8")
        return path

    def run(self, name: str, config: Mapping[str, Any] | None = None, **options: Any) -> Run:
        """Run `flow/{name}.py` as its instance `a`."""
        return run_step_flow(name, name, "a", config or {}, **options)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project; the current folder is its root."""
    (tmp_path / "flow").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DUCTAFLOW_ROOT", raising=False)
    return Project(tmp_path)


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """An environment whose packages a test may write."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("\n".join(ours))
    return Interpreter(KernelSpec("test", (str(folder / "bin" / "python"),)), site)


@pytest.fixture
def scratch() -> Iterator[dict[str, str]]:
    """An environment for conductors that are killed: a temporary folder which they leave untidy."""
    with tempfile.TemporaryDirectory(prefix="s") as folder:
        yield {**os.environ, "TMPDIR": folder}


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No process, socket or temporary folder may outlive the suite."""
    yield
    close_shared_pool()
    close_observer()  # of tests with pools of their own
    remove_home()
    wait_until(lambda: not _children())
    assert _children() == []
    folder = Path(os.environ["TMPDIR"])
    left = [p for p in folder.iterdir() if not p.name.startswith("pytest-of-")]
    shutil.rmtree(folder)
    assert left == []


def _children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if p.status() != "zombie"]


def wait_until(condition: Callable[[], bool], seconds: float = 90.0) -> bool:
    """Whether something comes true in time; for what has no event to wait for."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def process_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with pandas and matplotlib, and nothing of Jupyter or ductaflow."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(make, check=True, capture_output=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-I", "-c", ask], check=True, capture_output=True, text=True)
    site = Path(done.stdout.strip())
    for name in _with_requirements(["pandas", "matplotlib"]):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source, source.is_dir())
    absent = "import importlib.util as u; print(*map(u.find_spec, ('IPython', 'ductaflow', 'zmq')))"
    done = subprocess.run([python, "-I", "-c", absent], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["None"] * 3
    return python


def _with_requirements(names: list[str]) -> set[str]:
    """Distributions, and all that they need."""
    found: set[str] = set()
    while names:
        name = names.pop()
        if name not in found:
            found.add(name)
            needs = map(Requirement, importlib.metadata.requires(name) or ())
            names += [n.name for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
    return found


requires_posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def stale(root: Path) -> dict[str, str]:
    """The runs of a project that would run again, by their config's `how`, and why."""
    interpreters = Interpreters(kernel_environment(root))
    found = {}
    for run in all_runs(root):
        _, decision = find_reusable(plan_again(run, root), interpreters)
        if not decision.reuse:
            found[run.config["how"]] = str(decision)
    return found


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of an object store of our own, on a loopback port."""
    import fsspec  # optional, as the next
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    own = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s"}
    monkeypatch.setitem(fsspec.config.conf, "s3", {**own, "skip_instance_cache": True})
    fsspec.filesystem("s3").mkdir("deliveries")
    yield "s3://deliveries"
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    server.stop()
