"""Warm kernels for jupyter_client's front ends, and the command that installs them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from conftest import process_alive, wait_until
from ductaflow_kernels.frontends import command
from ductaflow_kernels.frontends.provisioner import (
    PROVISIONER,
    WarmProvisioner,
    close_warm_kernels,
)
from ductaflow_kernels.sources.forked import forking_works
from ductaflow_kernels.sources.tree import Zygote
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

NAME = "python3-warm"
requires_forks = pytest.mark.skipif(not forking_works(), reason="Linux with pidfd")
pytestmark = requires_forks


@pytest.fixture(autouse=True, scope="module")
def nothing_left_warm() -> Iterator[None]:
    yield
    close_warm_kernels()


@pytest.fixture(autouse=True, scope="module")
def kernelspec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kernelspec that the command has installed, and Jupyter finds."""
    prefix = tmp_path_factory.mktemp("prefix")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(prefix / "share/jupyter"))
        patch.setenv("IPYTHONDIR", str(prefix / "ipython"))
        assert command.main(["install", "--prefix", str(prefix), "--preload", "numpy,pandas"]) == 0
        yield prefix


def run_notebook(*cells: str, **options: Any) -> list[str]:
    """What each cell of a notebook prints, run on the warm kernel."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in cells])
    NotebookClient(notebook, kernel_name=NAME, timeout=30, **options).execute()
    return ["".join(o.get("text", "") for o in cell.outputs).strip() for cell in notebook.cells]


@pytest.fixture
def started() -> Iterator[Callable[..., tuple[KernelManager, Any]]]:
    """Start kernels as a front end does; they are ended afterwards."""
    pairs = []

    def start(**options: Any) -> tuple[KernelManager, Any]:
        manager = KernelManager(kernel_name=NAME)
        manager.start_kernel(**options)
        client = manager.client()
        client.start_channels()
        pairs.append((manager, client))
        client.wait_for_ready(timeout=30)
        return manager, client

    yield start
    for manager, client in pairs:
        client.stop_channels()
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)


def is_warm(manager: KernelManager) -> bool:
    """Whether its kernel was forked: its parent is not this process."""
    return psutil.Process(manager.provisioner.pid).ppid() != os.getpid()


# --- the provisioner ----------------------------------------------------------------------------


def test_jupyter_finds_it() -> None:
    (found,) = entry_points(group="jupyter_client.kernel_provisioners", name=PROVISIONER)
    assert found.load() is WarmProvisioner


def test_nbclient_runs_a_notebook_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "a b=ü")
    printed = run_notebook(
        "x = 20; print(x + 1)",
        "import os, sys; print(os.getcwd(), os.environ['GIVEN'], 'pandas' in sys.modules)",
        "ip = get_ipython(); print(type(ip).__name__, ip.kernel is not None, ip.user_ns['x'])",
        "%%bash\necho $GIVEN",
        "print(os.environ['JPY_PARENT_PID'], __name__, len(sys.argv))",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    assert printed == [
        "21",
        f"{tmp_path} a b=ü True",
        "ZMQInteractiveShell True 20",
        "a b=ü",
        f"{os.getpid()} __main__ 3",
    ]


def test_the_environment_is_the_one_of_this_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "import os; print(os.environ.get('OF_ONE'))"
    monkeypatch.setenv("OF_ONE", "1")
    assert run_notebook(ask) == ["1"]
    monkeypatch.delenv("OF_ONE")
    assert run_notebook(ask) == ["None"]


def test_figures_are_shown() -> None:
    notebook = new_notebook(
        cells=[new_code_cell("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")]
    )
    NotebookClient(notebook, kernel_name=NAME, timeout=60).execute()
    assert "image/png" in notebook.cells[0].outputs[0].data


def test_notebooks_do_not_see_each_other() -> None:
    (first,) = run_notebook(
        "import os, sys, random, numpy, wave; left = 1; sys.modules['left'] = sys\n"
        "import pandas; pandas.options.display.width = 33\n"
        "print(os.getpid(), random.random(), numpy.random.rand())"
    )
    second, seen = run_notebook(
        "import os, sys, random, numpy; print(os.getpid(), random.random(), numpy.random.rand())",
        "import pandas; print('left' in globals(), 'left' in sys.modules, 'wave' in sys.modules, "
        "pandas.options.display.width)",
    )
    assert seen == "False False False 80"
    assert not set(first.split()) & set(second.split())


def test_an_error_stops_its_notebook_and_no_other() -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run_notebook("1/0", "print('never')")
    assert run_notebook("print('on')") == ["on"]


def test_after_an_error_the_same_kernel_goes_on(started: Any) -> None:
    _, client = started()
    assert client.execute("1/0", reply=True, timeout=10)["content"]["status"] == "error"
    # ipykernel aborts what comes right after the reply to an error, then goes on.
    assert wait_until(
        lambda: client.execute("2 + 2", reply=True, timeout=10)["content"]["status"] == "ok"
    )
    printed = run_notebook("1/0", "print('after')", allow_errors=True)
    assert printed == ["", "after"]


def reply_to(client: Any, request: str) -> Any:
    """What a request was answered. On a busy machine `wait_for_ready` asks more than once, and is
    answered the other times later."""
    while True:
        message = client.get_shell_msg(timeout=60)
        if message["parent_header"].get("msg_id") == request:
            return message["content"]


def test_cells_sent_ahead_of_an_error_are_aborted(started: Any) -> None:
    _, client = started()
    sent = [client.execute(code) for code in ("import time; time.sleep(.3); 1/0", "2", "3")]
    assert [reply_to(client, one)["status"] for one in sent] == ["error", "aborted", "aborted"]


def test_the_heart_beats(started: Any) -> None:
    manager, client = started()
    assert is_warm(manager)
    assert wait_until(client.hb_channel.is_beating)
    client.parent = None  # without a manager, only the heart tells
    assert client.is_alive()


def test_interrupt_and_restart(started: Any) -> None:
    manager, client = started()
    client.kernel_info()  # once more than is waited for
    code = "import time, subprocess; keep = 1; print('go'); time.sleep(600)"
    sleeping = client.execute(code)
    while client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    manager.interrupt_kernel()
    assert reply_to(client, sleeping)["ename"] == "KeyboardInterrupt"
    # ipykernel aborts what comes right after an error: for a moment, it may have been sent before.
    assert wait_until(
        lambda: client.execute("keep", reply=True, timeout=60)["content"]["status"] == "ok"
    )

    info = manager.get_connection_info()
    for now in (True, False, True):
        old = manager.provisioner.pid
        manager.restart_kernel(now=now)
        client.wait_for_ready(timeout=60)
        assert manager.provisioner.pid != old
        assert is_warm(manager)
        assert manager.get_connection_info() == info
        assert client.execute("keep", reply=True, timeout=60)["content"]["ename"] == "NameError"
        assert not process_alive(old)


def test_a_graceful_shutdown_runs_exit_handlers(started: Any, tmp_path: Path) -> None:
    manager, client = started(cwd=str(tmp_path))
    code = (
        "import atexit; f = open('open.txt', 'w'); f.write('kept')\n"
        "atexit.register(lambda: open('atexit.txt', 'w').write('ran'));"
    )
    assert client.execute(code, reply=True, timeout=10)["content"]["status"] == "ok"
    pid = manager.provisioner.pid
    client.stop_channels()
    manager.shutdown_wait_time = 120  # seconds before it is killed
    manager.shutdown_kernel()
    assert not manager.has_kernel
    assert not process_alive(pid)
    assert not Path(manager.connection_file).exists()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"open.txt": "kept", "atexit.txt": "ran"}


def test_exit_ends_the_kernel_as_usual(started: Any) -> None:
    manager, client = started()
    assert client.execute("exit()", reply=True, timeout=10)["content"]["status"] == "ok"
    assert wait_until(lambda: not manager.is_alive())
    assert asyncio.run(manager.provisioner.poll()) == 0


def test_death_is_noticed(started: Any) -> None:
    manager, _ = started()
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    assert wait_until(lambda: not manager.is_alive())
    assert asyncio.run(manager.provisioner.poll()) == -signal.SIGKILL
    with pytest.raises(DeadKernelError):
        run_notebook("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")


def test_several_start_at_once_and_the_loop_goes_on() -> None:
    async def start_all() -> float:
        managers = [AsyncKernelManager(kernel_name=NAME) for _ in range(4)]
        slowest, last, done = 0.0, time.monotonic(), False

        async def watch() -> None:
            nonlocal slowest, last
            while not done:
                await asyncio.sleep(0.01)
                slowest, last = max(slowest, time.monotonic() - last), time.monotonic()

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(m.start_kernel() for m in managers))
        pids = {m.provisioner.pid for m in managers}
        assert len(pids) == 4
        done = True
        await watching
        await asyncio.gather(*(m.shutdown_kernel(now=True) for m in managers))
        for manager in managers:
            manager.context.destroy(linger=0)
        assert not any(map(process_alive, pids))
        return slowest

    close_warm_kernels()  # so that a template has to be made
    assert asyncio.run(start_all()) < 0.5


def test_a_launch_that_is_given_up_leaves_no_kernel() -> None:
    async def give_up() -> None:
        manager = AsyncKernelManager(kernel_name=NAME)
        launch = asyncio.create_task(manager.start_kernel())
        await asyncio.sleep(0.05)
        launch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launch
        await manager.cleanup_resources()

    close_warm_kernels()
    before = set(psutil.Process().children(recursive=True))  # another module's pool
    asyncio.run(give_up())
    close_warm_kernels()
    assert wait_until(lambda: set(psutil.Process().children(recursive=True)) <= before)


def test_a_package_installed_meanwhile_ends_no_kernel(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, client = started()
    monkeypatch.setattr(Zygote, "suits", lambda zygote, environment: False)
    second, _ = started()
    assert is_warm(second)
    assert client.execute("1", reply=True, timeout=10)["content"]["status"] == "ok"
    assert first.is_alive()


CLIENT = """
import sys, time
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name=sys.argv[1])
manager.start_kernel()
client = manager.client(); client.start_channels(); client.wait_for_ready(timeout=30)
code = "import subprocess as s, os; print(os.getpid(), s.Popen(['sleep', '99']).pid, flush=True)"
client.execute(code)
while (message := client.get_iopub_msg(timeout=10))["msg_type"] != "stream": pass
print(message["content"]["text"], flush=True)
time.sleep(600)
"""


def test_kernels_die_with_their_client() -> None:
    command = [sys.executable, "-c", CLIENT, NAME]
    folder = tempfile.mkdtemp()  # it cannot clean up after itself; sockets ask for a short path
    env = {**os.environ, "TMPDIR": folder}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as client:
        assert client.stdout is not None
        pids = [int(pid) for pid in client.stdout.readline().split()]
        tree = [p.pid for p in psutil.Process(client.pid).children(recursive=True)]
        assert {*pids} <= {*tree}
        client.kill()
    assert wait_until(lambda: not any(map(process_alive, tree)))
    shutil.rmtree(folder)


# --- where it cannot be warm --------------------------------------------------------------------


def test_what_a_fork_cannot_do_starts_as_usual(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ({"extra_arguments": ["--quiet"]}, {"stderr": subprocess.DEVNULL}):
        manager, client = started(**options)
        assert not is_warm(manager)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=30)
    startup = tmp_path / "profile_default/startup/00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("mine = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    assert run_notebook("print(mine)") == ["1"]


def test_a_template_that_cannot_be_made_is_no_obstacle(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ductaflow_kernels.sources import tree

    monkeypatch.setattr(tree, "START", tmp_path / "missing.py")
    close_warm_kernels()
    manager, client = started()
    assert not is_warm(manager)
    assert client.execute("1", reply=True, timeout=10)["content"]["status"] == "ok"


def test_a_folder_that_is_not_there_is_the_usual_error(tmp_path: Path) -> None:
    manager = KernelManager(kernel_name=NAME)
    with pytest.raises(FileNotFoundError):
        manager.start_kernel(cwd=str(tmp_path / "no"))
    manager.cleanup_resources()


# --- the command --------------------------------------------------------------------------------


def test_the_kernelspec_is_an_ordinary_one(kernelspec: Path) -> None:
    spec = KernelSpecManager().get_kernel_spec(NAME)
    assert spec.argv == [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    assert spec.display_name == "Python 3 (warm)"
    assert spec.metadata["kernel_provisioner"] == {
        "provisioner_name": PROVISIONER,
        "config": {"preload": ["numpy", "pandas"]},
    }
    assert (kernelspec / "share/jupyter/kernels" / NAME / "logo-64x64.png").exists()


def test_install_list_uninstall(capsys: pytest.CaptureFixture[str], kernelspec: Path) -> None:
    where = ["--name", "other", "--prefix", str(kernelspec)]
    assert command.main(["install", *where, "--preload", "pandas, no.such"]) == 0
    assert "left out until they are: no.such" in capsys.readouterr().out
    assert command.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "other" in listed
    assert "preloads pandas, no.such" in listed
    assert command.main(["uninstall", "--name", "other"]) == 0
    assert command.main(["uninstall", "--name", "other"]) == 1
    assert "ductaflow-kernels list" in capsys.readouterr().err


def test_install_says_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert command.main(["install", "--prefix", str(tmp_path / "file/below")]) == 1
    assert "Use --user" in capsys.readouterr().err
    assert command.main(["install", "--prefix", str(tmp_path), "--name", "a b"]) == 1
    assert "another --name" in capsys.readouterr().err
    foreign = tmp_path / "share/jupyter/kernels/julia/kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"argv": []}')
    assert command.main(["install", "--prefix", str(tmp_path), "--name", "julia"]) == 1
    assert "another kernel" in capsys.readouterr().err
    assert foreign.read_text() == '{"argv": []}'
    assert command.main(["install", "--prefix", str(tmp_path)]) == 0
    assert "JUPYTER_PATH" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main(["install", "--preload", "import os"])


def test_papermill(tmp_path: Path) -> None:
    papermill = pytest.importorskip("papermill")
    notebook = new_notebook(cells=[new_code_cell("a = 1", metadata={"tags": ["parameters"]})])
    notebook.cells.append(new_code_cell("print(a)"))
    notebook.metadata["kernelspec"] = {"name": NAME, "language": "python", "display_name": "W"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    papermill.execute_notebook(
        tmp_path / "in.ipynb", tmp_path / "out.ipynb", {"a": 2}, kernel_name=NAME
    )
    assert nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs[0].text == "2\n"
