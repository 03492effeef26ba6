"""Nothing passes from one instance to the next; what must be unique is: by real use in flows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Project
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.spec import KernelRequest, own_interpreter
from kernel_client import SOURCES, printed, run, text

AHEAD = ("matplotlib.pyplot", "numpy", "ssl")
LOOK = """
import atexit, json, locale, logging, os, random, signal, sys, tempfile, threading, warnings
import matplotlib, matplotlib.pyplot, numpy
print(json.dumps({
    "threads": sorted(t.name for t in threading.enumerate() if not t.name.startswith("Thread-")),
    "files": sorted(os.path.basename(os.readlink(f"/proc/self/fd/{n}").partition(":")[0])
                    for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}"))
             if sys.platform == "linux" else [],
    "locale": locale.setlocale(locale.LC_ALL),
    "signals": [str(signal.getsignal(s)) for s in (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP)],
    "alarm": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "exit handlers": atexit._ncallbacks(),
    "rcParams": matplotlib.rcParams["lines.linewidth"],
    "backend": matplotlib.get_backend(),
    "figures": matplotlib.pyplot.get_fignums(),
    "numpy": [numpy.get_printoptions()["precision"], numpy.geterr()["divide"]],
    "logging": [len(logging.getLogger().handlers), logging.root.manager.disable],
    "filters": len(warnings.filters),
    "hooks": [sys.excepthook.__name__, sys.getrecursionlimit(), sys.gettrace() is None],
    "limits": __import__("resource").getrlimit(__import__("resource").RLIMIT_NOFILE),
    "nice": os.nice(0),
    "finders": len(sys.meta_path),
    "builtins": hasattr(__builtins__, "ghost"),
    "mine": os.path.exists(os.path.join(tempfile.gettempdir(), "ghost-of-" + str(os.getppid()))),
    "magics": "ghost" in get_ipython().magics_manager.magics["line"],
    "transformers": len(get_ipython().input_transformers_cleanup),
    "history": len(get_ipython().user_ns["In"]),
}))
"""
LEAK = """
import atexit, builtins, locale, logging, os, resource, signal, socket, sys, threading, time
import matplotlib, matplotlib.pyplot, numpy, warnings
threading.Thread(target=time.sleep, args=(60,), name="ghost", daemon=True).start()
ghosts = [open(os.devnull), socket.socket(), os.pipe()]
locale.setlocale(locale.LC_ALL, "C.UTF-8")
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 60); signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
atexit.register(print)
matplotlib.rcParams["lines.linewidth"] = 9; matplotlib.pyplot.figure(); matplotlib.use("svg")
numpy.set_printoptions(precision=1); numpy.seterr(divide="ignore")
logging.basicConfig(level=1); logging.disable(50)
warnings.simplefilter("ignore"); sys.excepthook = print; sys.setrecursionlimit(5000)
resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99)); os.nice(1)
sys.meta_path.append(sys.meta_path[0]); builtins.ghost = 1
get_ipython().register_magic_function(print, magic_name="ghost")
get_ipython().input_transformers_cleanup.append(lambda lines: lines)
print("leaked")
"""


@pytest.fixture(params=SOURCES)
def pool(request: pytest.FixtureRequest) -> Iterator[KernelPool]:
    with KernelPool(managed=SOURCES[request.param]()) as pool:
        yield pool


def request_in(folder: Path, *preload: str) -> KernelRequest:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return KernelRequest(own_interpreter(), folder, inherited, preload)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals and limits")
def test_nothing_at_all_passes_on(pool: KernelPool, tmp_path: Path) -> None:
    request = request_in(tmp_path, *AHEAD)
    before = json.loads(text(run(pool.lease(request), LOOK)))
    assert "leaked" in text(run(pool.lease(request), LEAK))
    for _ in range(2):
        assert json.loads(text(run(pool.lease(request), LOOK))) == before


def test_forked_and_cold_show_the_same(tmp_path: Path) -> None:
    """What a flow can see of the interpreter, compared with a kernel that nobody prepared."""
    seen = []
    for make in SOURCES.values():
        with KernelPool(managed=make()) as pool:
            looked = json.loads(text(run(pool.lease(request_in(tmp_path, *AHEAD)), LOOK)))
            del looked["files"], looked["threads"]  # how a kernel talks is its own affair
            seen.append(looked)
    assert all(looked == seen[0] for looked in seen)


def test_tls_begins_differently_in_each(pool: KernelPool, tmp_path: Path) -> None:
    """OpenSSL's own generator, as a library that was loaded before the fork."""
    hello = (
        "import ssl\n"
        "incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()\n"
        "tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname='a.b')\n"
        "try: tls.do_handshake()\n"
        "except ssl.SSLWantReadError: pass\n"
        "print(outgoing.read()[11:43].hex(), ssl.RAND_bytes(16).hex())"
    )
    said = [text(run(pool.lease(request_in(tmp_path, "ssl")), hello)).split() for _ in range(3)]
    for values in zip(*said, strict=True):
        assert len(set(values)) == 3
        assert all(len(value) >= 32 for value in values)


def test_generators_made_by_an_import_do_not_repeat(pool: KernelPool, tmp_path: Path) -> None:
    draw = (
        "[__import__('numpy').random.rand(), __import__('numpy').random.default_rng().random(), "
        "__import__('random').random(), __import__('random').Random().random(), "
        "str(__import__('uuid').uuid1()), __import__('tempfile').mkdtemp(), "
        "next(__import__('tempfile')._get_candidate_names())]"
    )
    draws = [printed(pool.lease(request_in(tmp_path, "numpy")), draw) for _ in range(3)]
    for values in zip(*draws, strict=True):
        assert len(set(values)) == 3
    for _, _, _, _, _, folder, _ in draws:
        os.rmdir(folder)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.skipif(sys.platform == "win32", reason="spawn only")
def test_multiprocessing_in_a_flow(method: str, project: Project) -> None:
    project.write(
        "many",
        "import multiprocessing, os, warnings\nfrom concurrent.futures import ProcessPoolExecutor",
        "warnings.simplefilter('ignore', DeprecationWarning)  # threads and fork, Python 3.12",
        f"context = multiprocessing.get_context({method!r})",
        "with context.Pool(2) as pool: print(pool.map(abs, range(-3, 3)))",
        "with ProcessPoolExecutor(2, mp_context=context) as executor:\n"
        "    print(sum(executor.map(abs, range(-100, 100))))",
        "queue = context.Queue()\n"
        "process = context.Process(target=queue.put, args=('from a child',))\n"
        "process.start(); print(queue.get(timeout=60)); process.join()",
    )
    log = project.run("many", timeout=120).log.read_text()
    assert "[3, 2, 1, 0, 1, 2]" in log
    assert "10000" in log
    assert "from a child" in log


@pytest.mark.skipif(os.name != "posix", reason="local sockets")
def test_a_long_project_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / ("long" * 30) / ("longer" * 20)
    (root / "flow").mkdir(parents=True)
    monkeypatch.chdir(root)
    project = Project(root)
    project.write("where", "import os; print(len(os.getcwd()))")
    assert str(len(str(root)) + len("/runs/where/a")) in project.run("where").log.read_text()
