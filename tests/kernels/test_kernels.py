"""One contract for every source of kernels, and the pool over them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import psutil
import pytest
from conftest import process_alive, wait_until
from ductaflow_kernels.errors import (
    KernelDied,
    KernelStartError,
    LeaseCancelled,
    PoolClosed,
    UnknownKernelspec,
)
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.processes.process import describe_exit
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.sources.spawned import KernelSource
from ductaflow_kernels.spec import KernelRequest, KernelSpec, find_spec, own_interpreter
from kernel_client import SOURCES, finish, printed, run, text


@pytest.fixture(params=SOURCES)
def pool(request: pytest.FixtureRequest) -> Iterator[KernelPool]:
    with KernelPool(managed=SOURCES[request.param]()) as pool:
        yield pool


def request_in(folder: Path, **env: str) -> KernelRequest:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return KernelRequest(own_interpreter(), folder, {**inherited, **env})


def test_runs_cells_in_order(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    messages = run(session, "x = 1", "print(x)", "x + 1")
    assert text(messages) == "1\n"
    assert [m.content["status"] for m in messages if m.type == "execute_reply"] == ["ok"] * 3
    assert [m.content["execution_count"] for m in messages if m.type == "execute_input"] == [
        1,
        2,
        3,
    ]


def test_has_the_folder_and_the_whole_environment_asked_for(
    pool: KernelPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEFT_BEHIND", "1")
    first = pool.lease(request_in(tmp_path))
    assert printed(first, "__import__('os').environ['LEFT_BEHIND']") == "1"
    monkeypatch.delenv("LEFT_BEHIND")
    folder = tmp_path / "sub folder é"
    folder.mkdir()
    session = pool.lease(request_in(folder, GIVEN="a b=ü"))
    assert printed(session, "__import__('os').getcwd()") == str(folder)
    assert printed(session, "__import__('os').environ.get('GIVEN')") == "a b=ü"
    assert printed(session, "'LEFT_BEHIND' in __import__('os').environ") is False


def test_looks_like_an_ordinary_ipykernel(pool: KernelPool, tmp_path: Path) -> None:
    """Compared with one that jupyter_client starts by itself."""
    probe = (
        "import json, os, sys, signal; print(json.dumps([__name__, sys.argv[0], sys.argv[1], "
        "sys.path, type(get_ipython()).__name__, os.environ['MPLBACKEND'], "
        "sorted(k for k in globals() if not k.startswith('_')), "
        "sys.flags.optimize, sys.executable, signal.getsignal(signal.SIGTERM), "
        "sys.stdin is not None, {k: v for k, v in sorted(os.environ.items()) "
        "if k not in ('JPY_PARENT_PID', 'JPY_SESSION_NAME', 'PYTEST_CURRENT_TEST', "
        "'PYDEVD_USE_FRAME_EVAL')}]))"  # debugpy's, which a flow's kernel does not import
    )
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        heard: list[str] = []
        client.execute_interactive(
            probe,
            output_hook=lambda m: heard.append(m["content"].get("text", "")),
            allow_stdin=False,
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)
    assert text(run(pool.lease(request_in(tmp_path)), probe)) == "".join(heard)


def test_a_flow_may_change_how_its_cells_are_read(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    change = (
        "shell = get_ipython(); ordinary = shell.transform_cell\n"
        "shell.transform_cell = lambda cell: ordinary(cell.replace('HELLO', 'print(42)'))"
    )
    assert text(
        run(session, change, "HELLO", "del shell.transform_cell", "print(1)", "HELLO=2")
    ) == ("42\n1\n")
    assert text(run(session, "print('transform_cell' in vars(shell), HELLO)")) == "False 2\n"


def test_after_an_error_nothing_sent_ahead_runs(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    codes = ["1/0", *(f"open('ran{i}', 'w').close()" for i in range(200))]
    messages = run(session, *codes)
    statuses = [m.content["status"] for m in messages if m.type == "execute_reply"]
    assert statuses == ["error"] + ["aborted"] * 200
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_may_happen_stops_nothing(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    session.execute("1/0", stop_on_error=False)
    assert text(run(session, "print('on')")) == "on\n"


def test_finish_flushes_files_and_runs_exit_handlers(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    run(
        session,
        "import atexit, threading, time\nf = open('open.txt', 'w'); f.write('kept')",
        "atexit.register(lambda: open('atexit.txt', 'w').write('ran'));",
        "def late(): time.sleep(.3); open('thread.txt', 'w').write('t')",
        "threading.Thread(target=late).start()",
    )
    finish(session)
    pool.retire(session)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"open.txt": "kept", "atexit.txt": "ran", "thread.txt": "t"}


def test_finish_does_not_wait_for_idle_executors(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    run(
        session,
        "from concurrent.futures import ThreadPoolExecutor\n"
        "ThreadPoolExecutor(2).submit(print, 'work').result()",
    )
    finish(session)


def test_an_interrupt_ends_the_cell_and_all_after_it(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    session.execute("print('go'); import time; time.sleep(600)")
    while not any(m.type == "stream" for m in session.poll(30)):
        pass
    began = time.monotonic()
    session.interrupt()
    messages = run(session, "print('not this')")
    assert time.monotonic() - began < 10
    assert "not this" not in text(messages)
    assert any(m.content.get("ename") == "KeyboardInterrupt" for m in messages)


def test_death_is_noticed_with_its_signal(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    session.execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(KernelDied, match="SIGKILL; often out of memory") as caught:
        run(session, "never")
    assert caught.value.exit_code == -signal.SIGKILL


def test_c_level_output_and_forked_children_are_heard(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    messages = run(
        session,
        "import os, subprocess; os.write(1, b'raw\\n'); subprocess.run(['echo', 'child'])",
        "import time; time.sleep(.5)",
    )
    assert {"raw", "child"} <= set(text(messages).split())
    forked = (
        "import multiprocessing as mp\n"
        "say = lambda: print('forked', flush=True)\n"
        "p = mp.get_context('fork').Process(target=say)\n"
        "p.start(); p.join(); time.sleep(.5)"
    )
    assert "forked" in text(run(session, forked))


def test_sockets_are_private_and_no_port_is_open(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    folder = session.connection.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(session.connection.file.stat().st_mode) == 0o600
    process = psutil.Process(session.process.pid)
    assert [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN] == []


def test_retire_ends_the_kernel_its_children_and_its_files(
    pool: KernelPool, tmp_path: Path
) -> None:
    session = pool.lease(request_in(tmp_path))
    child = printed(session, "__import__('subprocess').Popen(['sleep', '60']).pid")
    assert isinstance(child, int)
    pool.retire(session)
    pool.retire(session)
    assert wait_until(lambda: not process_alive(session.process.pid))
    assert wait_until(lambda: not process_alive(child))
    assert wait_until(lambda: not session.connection.folder.exists())


def test_nothing_passes_from_one_kernel_to_the_next(pool: KernelPool, tmp_path: Path) -> None:
    leak = (
        "import os, sys, json, math, logging, warnings, random, locale, tempfile, atexit\n"
        "secret = 1; math.pi = 3; sys.modules['ghost'] = math; sys.path.append('/ghost')\n"
        "os.environ['GHOST'] = '1'; os.chdir('/'); random.seed(1); os.umask(0o777)\n"
        "logging.getLogger().setLevel(1); warnings.simplefilter('error')\n"
        "tempfile.tempdir = '/ghost'"
    )
    look = (
        "import os, sys, math, logging, warnings, tempfile\n"
        "print('secret' in globals(), math.pi > 3, 'ghost' in sys.modules, '/ghost' in sys.path, "
        "'GHOST' in os.environ, os.getcwd() == '/', logging.getLogger().level, "
        "tempfile.tempdir == '/ghost', "
        "warnings.filters[0][:3] == ('error', None, Warning), os.umask(0o22) == 0o777)"
    )
    run(pool.lease(request_in(tmp_path)), leak)
    for _ in range(3):
        said = text(run(pool.lease(request_in(tmp_path)), look))
        assert said == "False True False False False False 30 False False False\n"


def test_random_states_do_not_repeat(pool: KernelPool, tmp_path: Path) -> None:
    draw = (
        "[__import__('random').random(), str(__import__('uuid').uuid4()), "
        "__import__('tempfile').mktemp(), __import__('secrets').token_hex()]"
    )
    draws = [printed(pool.lease(request_in(tmp_path)), draw) for _ in range(3)]
    for values in zip(*draws, strict=True):
        assert len(set(values)) == 3


def test_leases_from_many_threads(pool: KernelPool, tmp_path: Path) -> None:
    results: list[object] = []

    def work(number: int) -> None:
        session = pool.lease(request_in(tmp_path))
        results.append(printed(session, f"{number} * 2"))
        pool.retire(session)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 2, 4, 6]  # type: ignore[type-var]


def test_a_refill_that_fails_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ductaflow_kernels.processes.connection as connection

    with KernelPool(spare=1, workers=8) as pool:
        first = pool.lease(request_in(tmp_path))
        assert wait_until(lambda: pool.idle() == 1)
        mkdir = Path.mkdir

        def full(self: Path, *args: object, **kwargs: object) -> None:
            if self.parent == connection.home():
                raise OSError(28, "No space left on device")
            mkdir(self, *args, **kwargs)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", full)
            second = pool.lease(request_in(tmp_path))
            pool.retire(first)
            assert wait_until(lambda: pool._shelves and not first.connection.folder.exists())
        pool.retire(second)
        third = pool.lease(request_in(tmp_path))
        assert printed(third, "1") == 1
        assert wait_until(lambda: pool.idle() == 1)


def test_a_closed_pool_gives_nothing(pool: KernelPool, tmp_path: Path) -> None:
    session = pool.lease(request_in(tmp_path))
    pool.close()
    pool.close()
    assert not process_alive(session.process.pid)
    with pytest.raises(PoolClosed):
        pool.lease(request_in(tmp_path))


CONDUCTOR = """
import os, sys, time
from pathlib import Path
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.spec import KernelRequest, own_interpreter
sys.path.insert(0, {tests!r})
from kernel_client import SOURCES, printed
pool = KernelPool(managed=SOURCES[{source!r}]())
session = pool.lease(KernelRequest(own_interpreter(), Path.cwd(), dict(os.environ)))
child = printed(session, "__import__('subprocess').Popen(['sleep', '60']).pid")
session.execute("while True: pass")
print(session.process.pid, child, session.connection.folder.parent, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("source", SOURCES)
def test_a_killed_conductor_takes_its_kernels_with_it(source: str, tmp_path: Path) -> None:
    script = CONDUCTOR.format(tests=str(Path(__file__).parents[1]), source=source)
    conductor = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert conductor.stdout is not None
    with conductor.stdout:
        kernel, child, folder = conductor.stdout.readline().split()
        tree = [p.pid for p in psutil.Process(conductor.pid).children(recursive=True)]
        assert {int(kernel), int(child)} <= set(tree)
        conductor.kill()
        conductor.wait()
    assert wait_until(lambda: not any(map(process_alive, tree)), seconds=2.0)
    # What it could not remove itself, the next conductor does.
    code = "from ductaflow_kernels.processes import connection as c; c.home(); c.remove_home()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not Path(folder).exists()


def test_a_kernel_that_does_not_start_says_what_it_printed(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such luck')"
    spec = KernelSpec("broken", (sys.executable, "-c", code), managed=False)
    with (
        KernelPool() as pool,
        pytest.raises(
            KernelStartError, match=r"'broken' did not start: .*code 1\n.*\nno such luck"
        ),
    ):
        pool.lease(KernelRequest(spec, tmp_path, dict(os.environ)))


def test_a_foreign_kernel_lives_and_dies_with_us(tmp_path: Path) -> None:
    """A kernelspec that we do not start through our own boot file."""
    argv = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    spec = KernelSpec("foreign", argv, managed=False)
    with KernelPool() as pool:
        session = pool.lease(KernelRequest(spec, tmp_path, dict(os.environ)))
        assert session.source == "cold"
        assert printed(session, "__import__('os').getcwd()") == str(tmp_path)
        assert session.process.poll() is None
    assert not process_alive(session.process.pid)


def test_an_unknown_kernelspec_names_those_there_are() -> None:
    with pytest.raises(UnknownKernelspec, match=r"Did you mean 'python3'.*There are: .*python3"):
        find_spec("pyhton3")


def test_a_kernelspec_of_ipykernel_is_managed() -> None:
    spec = find_spec("python3")
    assert spec.managed
    assert "ipykernel_launcher" not in spec.argv


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with code 0"),
        (-signal.SIGKILL, "killed by SIGKILL; often out of memory"),
        (-signal.SIGSEGV, "killed by SIGSEGV; a crash in native code"),
        (None, "ended with an unknown exit code"),
    ],
)
def test_exit_codes_in_words(code: int | None, words: str) -> None:
    assert describe_exit(code) == words


# --- a kernel that is about to be ready ----------------------------------------------------------


class _Gate:
    """A source whose starts in advance wait for a gate, and may fail."""

    def __init__(self, source: KernelSource) -> None:
        self._source = source
        self.opened = threading.Event()
        self.trouble: Exception | None = None
        self.started: list[str] = []  # by which threads

    def start(self, request: KernelRequest) -> KernelSession:
        thread = threading.current_thread().name
        if thread.startswith("ductaflow-refill"):
            self.opened.wait(30)
            if self.trouble is not None:
                raise self.trouble
        session = self._source.start(request)
        self.started.append(thread)
        return session

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)


def _starting(pool: KernelPool) -> int:
    return sum(shelf.starting for shelf in pool._shelves.values())


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "cold"])
def test_a_lease_waits_for_a_kernel_that_is_being_started(source: str, tmp_path: Path) -> None:
    """It is ready sooner than one that is started now."""
    gate = _Gate(SOURCES[source]())
    with KernelPool(spare=1, workers=4, managed=gate) as pool:
        pool.lease(request_in(tmp_path))
        wait_until(lambda: _starting(pool) == 1)
        threading.Timer(0.3, gate.opened.set).start()
        session = pool.lease(request_in(tmp_path))
        assert printed(session, "1") == 1
        ahead = [name for name in gate.started if name.startswith("ductaflow-refill")]
        assert len(ahead) == len(gate.started) - 1  # but for the first lease's


def test_only_one_lease_waits_for_each(tmp_path: Path) -> None:
    """The others start their own."""
    gate = _Gate(SOURCES["prespawned"]())
    with KernelPool(spare=1, workers=4, managed=gate) as pool:
        pool.lease(request_in(tmp_path))
        wait_until(lambda: _starting(pool) == 1)
        with ThreadPoolExecutor(2) as threads:
            leases = [threads.submit(pool.lease, request_in(tmp_path)) for _ in range(2)]
            done, _ = wait(leases, 20, FIRST_COMPLETED)
            assert len(done) == 1
            gate.opened.set()
            assert all(lease.result(20) for lease in leases)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("trouble", [KernelStartError("no"), RuntimeError("a fault")])
def test_a_lease_does_not_wait_for_a_kernel_that_will_not_come(
    trouble: Exception, tmp_path: Path
) -> None:
    """It starts one itself, whatever went wrong."""
    gate = _Gate(SOURCES["prespawned"]())
    gate.trouble = trouble
    with KernelPool(spare=1, workers=4, managed=gate) as pool:
        pool.lease(request_in(tmp_path))
        wait_until(lambda: _starting(pool) == 1)
        threading.Timer(0.3, gate.opened.set).start()
        assert printed(pool.lease(request_in(tmp_path)), "1") == 1


def test_a_lease_that_waits_can_be_cancelled_or_its_pool_closed(tmp_path: Path) -> None:
    """And leaves nothing behind that others would count with."""
    gate = _Gate(SOURCES["prespawned"]())
    with KernelPool(spare=1, workers=4, managed=gate) as pool:
        pool.lease(request_in(tmp_path))
        wait_until(lambda: _starting(pool) == 1)
        with pytest.raises(LeaseCancelled):
            pool.lease(request_in(tmp_path), lambda: True)
        assert [shelf.waiting for shelf in pool._shelves.values()] == [0]
        closing = threading.Timer(0.3, pool.close)
        closing.start()
        with pytest.raises(PoolClosed):
            pool.lease(request_in(tmp_path))
        gate.opened.set()
        closing.join()
