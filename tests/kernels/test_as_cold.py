"""A flow sees what a cold, unforked ipykernel shows it, whatever was imported ahead."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import wait_until
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.sources.forked import ForkSource
from ductaflow_kernels.spec import KernelRequest, own_interpreter
from jupyter_client.manager import KernelManager
from kernel_client import SOURCES, Interpreter, printed, run, text

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jupyter_client's loop


def cold(request: KernelRequest, *codes: str) -> list[list[tuple[str, dict[str, Any]]]]:
    """What a kernel started by jupyter_client alone says, cell by cell."""
    manager = KernelManager()
    assert manager.kernel_spec is not None
    manager.kernel_spec.argv = [
        *request.spec.argv, "-m", "ipykernel_launcher", "-f", "{connection_file}",
    ]  # fmt: skip
    manager.start_kernel(cwd=str(request.cwd), env=request.environment)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        said: list[list[tuple[str, dict[str, Any]]]] = []
        for code in codes:
            said.append([])
            client.execute_interactive(
                code,
                timeout=120,
                output_hook=lambda m: said[-1].append((m["msg_type"], m["content"])),
            )
        return said
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


# --- what an import can ask ---------------------------------------------------------------------

PROBE = Path(__file__).parents[1] / "probe_of_import.py"

# What may be on one side only, and why; all else is the same.
DIFFERS: dict[str, tuple[str, str]] = {  # a regular expression of names
    "frames": (
        r"traitlets\.|tornado\.|asyncio\.|ipykernel\.|ductaflow_inside|runpy",
        "how a cell is reached",
    ),
    "builtins": ("execfile|runfile", "debugpy's, for front ends"),
    "env": ("PYDEVD_USE_FRAME_EVAL|JPY_PARENT_PID", "debugpy's, and jupyter_client's"),
    "modules": (
        (r"_?pydev|debugpy|_cython_|_pyrepl|_sysconfigdata|ductaflow_inside\b|"
            r"mmap$|secrets$|zmq\.utils\.garbage$|"
        # which ipykernel imports for debugpy
        r"(email|encodings|gzip|http|mimetypes|pkgutil|psutil|pwd|pydoc|pyexpat|quopri|resource|runpy|"
        r"stringprep|xml|xmlrpc)\b|"
        # what a first cell and a first traceback import
        r"(IPython\.(core\.magic\w*|core\.pylabtools|utils)|asttokens|executing|fractions|pure_eval|"
        r"ipykernel\.embed|pygments|stack_data|timeit)\b"),
        "debugpy is for front ends; a template has modules of ours, and what is soon needed",
    ),
    "threads": (
        r"Control|Heartbeat|IOPub|IPythonHistorySavingThread|Shell channel|Thread-",
        "fewer threads publish; in a template there are none, or it could not be forked",
    ),
    "loggers": ("IPKernelApp|stack_data", "the level of ipykernel's own; what is loaded early"),
    "ip.config": ("HistoryManager", "history in memory, as nbclient's kernels have it"),
    "ip.vars": ("ask_exit|_?showtraceback|showsyntaxerror|_logger|_parent_header_global",
        "how exit() and tracebacks are taken; of a request, which a template has not had",
    ),
    "ip.values": ("ipython_dir|execution_count", "a private folder; no cell is counted yet"),
    "ip.user_ns": ("_i+1?", "of the first cell, which a template has not begun"),
    "ip.user_ns_hidden": ("_i+1?", "the same"),
    "main": ("_i+1?", "the same"),
    "IPApp": (".*", "a subclass"),
    "ip.kernel": (".*", "a subclass"),
    "ip.parent": (".*", "a subclass"),
}  # fmt: skip
CHANGED: dict[str, tuple[Any, Any, str]] = {  # what a cold kernel answers, what ours may, and why
    "breakpointhook": ("debugpy_breakpointhook", "breakpointhook", "debugpy's"),
    "switch": (0.005, 0.001, "a shorter interval, as threads of a kernel wait for one another"),
    "ip.execution_count": (2, 1, "a template has not counted the cell"),
    "task": ("_asyncio.Task", "builtins.NoneType", "a loop runs, but no task of it, in a template"),
    "asyncgen": ([True, True], [False, False], "the same"),
    "session": ([True, True], [True, False], "a template leads no session"),
    "open": ("builtin_function_or_method", "function", "while a template imports, it is noted"),
}  # fmt: skip
OWN = {
    "argv": "the name of the connection file",
    "atexit": "what ends a kernel is a conductor",
    "context": "a request's own context variables",
    "cwd": "a template's own, put right where a module keeps it",
    "environ": "notes what is looked up; the kind of the mapping is the same",
    "gc": "collects nothing in a template, and leaves alone what is shared after it",
    "ip.history": "history in memory",
    "oom": "a kernel is to be ended before its conductor where memory runs out",
    "os": "while a template imports, it is noted what is read",
}


@pytest.mark.parametrize("way", ["prespawned", "forked", "nothing ahead"])
def test_an_import_finds_what_it_would_in_a_cold_kernel(
    way: str, interpreter: Interpreter, tmp_path: Path, cold_probe: dict[str, Any]
) -> None:
    if way == "prespawned" or "forked" in SOURCES:
        make = SOURCES["prespawned" if way == "prespawned" else "forked"]
        names = ("probe_of_import",) if way == "forked" else ()
        with KernelPool(managed=make(), spare=0) as pool:
            session = pool.lease(interpreter.request(tmp_path, *names))
            assert session.left_out == {}
            found = json.loads(text(run(session, ASK)))
        assert _told_apart(found) == _told_apart(cold_probe)


ASK = "import probe_of_import, json; print(json.dumps(probe_of_import.SEEN, default=str))"


@pytest.fixture(scope="module")
def cold_probe(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Any:
    shutil.copy(PROBE, interpreter.site)
    (said,) = cold(interpreter.request(tmp_path_factory.mktemp("work")), ASK)
    return json.loads("".join(content["text"] for kind, content in said if kind == "stream"))


def _told_apart(found: dict[str, Any]) -> dict[str, Any]:
    """Without what is of one kernel only, and with a subclass of the same name taken for one."""
    found = {key: value for key, value in copy.deepcopy(found).items() if key not in OWN}
    for key, (names, _) in DIFFERS.items():
        kept = [name for name in found[key] if not re.match(names, name)]
        found[key] = {k: found[key][k] for k in kept} if isinstance(found[key], dict) else kept
    for key, (usual, ours, _) in CHANGED.items():
        assert found[key] in (usual, ours)
        del found[key]
    for stream in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"):
        found[stream]["type"] = list(dict.fromkeys(found[stream]["type"]))
    found["orig_argv"] = found["orig_argv"][:-1]
    return found


def test_what_a_module_keeps_of_folder_process_and_streams(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    (interpreter.site / "keeps.py").write_text(
        "import os, pathlib, sys\nhere, there, me = os.getcwd(), pathlib.Path.cwd(), os.getpid()\n"
        "out, argv = sys.stdout, sys.argv\n"
    )
    with KernelPool() as pool:
        session = pool.lease(interpreter.request(tmp_path, "keeps"))
        assert session.left_out == {}
        assert "kept" in text(run(session, "import keeps, os, sys; keeps.out.write('kept')"))
        assert printed(
            session,
            "[keeps.here == str(keeps.there) == os.getcwd(), keeps.me == os.getpid(),"
            " keeps.out is sys.stdout, keeps.argv is sys.argv]",
        ) == [True] * 4  # fmt: skip


@pytest.mark.skipif("forked" not in SOURCES, reason="nothing is imported ahead")
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import asyncio; loop = asyncio.get_running_loop()", "event loop"),
        ("import asyncio; asyncio.get_event_loop().call_soon(print)", "event loop"),
        ("import uuid; me = uuid.uuid4()", "random bytes"),
        ("import secrets; token = secrets.token_hex()", "random bytes"),
    ],
)
def test_what_cannot_be_answered_ahead_is_left_to_the_flow(
    interpreter: Interpreter, tmp_path: Path, source: str, why: str
) -> None:
    (interpreter.site / "asks.py").write_text(source)
    with KernelPool(spare=0) as pool:
        session = pool.lease(interpreter.request(tmp_path, "asks"))
        assert why in session.left_out["asks"]
        assert "Error" not in text(run(session, "import asks"))


# --- real libraries -----------------------------------------------------------------------------

CELLS = (
    "import pandas as pd, numpy as np\npd.get_option('display.max_columns')",
    "frame = pd.DataFrame(np.arange(90).reshape(3, 30)); frame",
    "print(frame); frame.describe()",
    ("import sys\nfrom tqdm.auto import tqdm\nfrom tqdm import tqdm as plain\n"
    "plain.monitor_interval = 0\n"
     "list(plain(range(3), bar_format='{l_bar}{bar}', file=sys.stdout))"),
    ("import rich\nfrom rich.table import Table\nrich.print('[bold]x[/] 1', [1, 2], {'a': 3})\n"
    "table = Table('a', 'b'); table.add_row('1', '2'); table"),
    "import plotly.io as pio, plotly.graph_objects as go\npio.renderers.default",
    "go.Figure(go.Scatter(y=[1, 3])).to_plotly_json()['data']",
    ("import matplotlib, matplotlib.pyplot as plt\n"
     "print(matplotlib.get_backend()); plt.plot([1, 2])"),
    "import seaborn as sns\nsns.set_theme(); sns.barplot(x=[1, 2], y=[2, 3])",
    "import polars as pl\npl.DataFrame({'a': range(20), 'b': [str(i) * 40 for i in range(20)]})",
    ("from sklearn.datasets import load_iris\nfrom sklearn.linear_model import LogisticRegression\n"
    "load_iris(as_frame=True).frame.head()"),
    "LogisticRegression(C=2)",
    "1/0",
)  # fmt: skip
AHEAD = (
    "pandas", "numpy", "tqdm.auto:tqdm", "tqdm:tqdm", "rich", "rich.table:Table", "plotly.io",
    "plotly.graph_objects", "matplotlib", "matplotlib.pyplot", "seaborn", "polars",
    "sklearn.datasets:load_iris", "sklearn.linear_model:LogisticRegression",
)  # fmt: skip


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "cold"])
def test_real_libraries_show_the_same(source: str, tmp_path: Path, shown_cold: Any) -> None:
    with KernelPool(managed=SOURCES[source](), spare=0) as pool:
        session = pool.lease(_request(tmp_path))
        for code, expected in zip(CELLS, shown_cold, strict=True):
            said = [(m.type, m.content) for m in run(session, code, timeout=120)]
            assert _shown(said) == expected, code


def _request(folder: Path) -> KernelRequest:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    return KernelRequest(own_interpreter(), folder, inherited, AHEAD)


@pytest.fixture(scope="module")
def shown_cold(tmp_path_factory: pytest.TempPathFactory) -> Any:
    said = cold(_request(tmp_path_factory.mktemp("work")), *CELLS)
    return [_shown(messages) for messages in said]


def _shown(messages: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """The outputs of a cell: the texts of a stream as one, without addresses and ids."""
    shown: list[Any] = []
    for kind, content in messages:
        if kind == "stream" and shown and shown[-1][:2] == ["stream", content["name"]]:
            shown[-1][2] += content["text"]
        elif kind == "stream":
            shown.append(["stream", content["name"], content["text"]])
        elif kind in ("display_data", "execute_result", "error"):
            content = {k: v for k, v in content.items() if k in ("data", "metadata", "traceback")}
            shown.append([kind, json.dumps(content, sort_keys=True)])
    without = re.compile(r"0x[0-9a-f]+|sk-container-id-\\d+|sk-estimator-id-\\d+|ipykernel_\\d+")
    return json.loads(without.sub("-", json.dumps(shown)))  # type: ignore[no-any-return]


# --- random numbers -----------------------------------------------------------------------------

GENERATORS = """
import random, numpy
free = [random.Random(), numpy.random.default_rng(), numpy.random.RandomState(),
        numpy.random.Generator(numpy.random.MT19937())]
seeds = numpy.random.SeedSequence()
given = [random.Random(3), numpy.random.default_rng(3), numpy.random.RandomState(3),
         numpy.random.default_rng(2**127 + 1)]
later = random.Random(); later.seed(4)
given.append(later)
def draw(all): return [g.random() if hasattr(g, "random") else g.rand() for g in all]
"""
DRAW = (
    "[(lib := __import__('chancy')).draw(lib.free) + [lib.free[1].spawn(1)[0].random(), "
    "str(lib.seeds.entropy), __import__('random').random(), __import__('numpy').random.rand()], "
    "lib.draw(lib.given)]"
)


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "cold"])
def test_only_generators_that_were_given_a_seed_repeat(
    source: str, interpreter: Interpreter, tmp_path: Path
) -> None:
    (interpreter.site / "chancy.py").write_text(GENERATORS)
    ours = Path(numpy.__file__).parents[1]
    for folder in {"numpy", "numpy.libs"} & {path.name for path in ours.iterdir()}:
        if not (interpreter.site / folder).exists():  # an installed package there, too
            (interpreter.site / folder).symlink_to(ours / folder)
    with KernelPool(managed=SOURCES[source](), spare=0) as pool:
        request = interpreter.request(tmp_path, "chancy")
        sessions = [pool.lease(request) for _ in range(3)]
        assert all(session.left_out == {} for session in sessions)
        draws: Any = [printed(session, DRAW) for session in sessions]
    for values in zip(*(free for free, _ in draws), strict=True):
        assert len(set(values)) == 3
    assert all(given == draws[0][1] for _, given in draws)


def test_a_seed_given_by_an_import_is_kept(interpreter: Interpreter, tmp_path: Path) -> None:
    (interpreter.site / "sower.py").write_text(
        "import random, numpy\nrandom.seed(1)\nnumpy.random.seed(1)\n"
    )
    draw = "[__import__('sower').random.random(), __import__('numpy').random.rand()]"
    with KernelPool(spare=0) as pool:
        draws = [printed(pool.lease(interpreter.request(tmp_path, "sower")), draw) for _ in "ab"]
    assert draws[0] == draws[1] == [random.Random(1).random(), 0.417022004702574]


# --- what imports have read ---------------------------------------------------------------------


def test_what_an_import_read_is_seen_when_it_changes(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """A module edited in place, a file read or looked for, one in the instance's own folder."""
    given = tmp_path / "given.cfg"
    module = interpreter.site / "frozen.py"
    module.write_text(
        "import os\nread = lambda p: open(p).read() if os.path.exists(p) else 'none'\n"
        f"given, near, edited = read({str(given)!r}), read('near.cfg'), 1\n"
    )
    seen = "[(f := __import__('frozen')).given, f.near, f.edited]"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "near.cfg").write_text("near")
    with KernelPool() as pool:

        def found(folder: str) -> object:
            return printed(pool.lease(interpreter.request(tmp_path / folder, "frozen")), seen)

        assert found("a") == ["none", "none", 1]
        assert found("b") == ["none", "near", 1]
        given.write_text("first")
        assert found("a") == ["first", "none", 1]
        given.write_text("other")
        assert found("a") == ["other", "none", 1]
        module.write_text(module.read_text().replace("'), 1", "'), 22"))
        assert found("a") == ["other", "none", 22]


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "cold"])
@pytest.mark.parametrize("name", ["sitecustomize.py", "ours_too.pth"])
def test_a_kernel_that_waits_has_read_what_one_that_starts_would(
    source: str, name: str, interpreter: Interpreter, tmp_path: Path
) -> None:
    told, said = [], "__import__('sys').said"
    with KernelPool(managed=SOURCES[source](), spare=1) as pool:
        for value in "123":
            (interpreter.site / name).write_text(f"import sys; sys.said = {value}\n")
            told.append(printed(pool.lease(interpreter.request(tmp_path)), said))
            assert wait_until(lambda: pool.idle)
    (interpreter.site / name).unlink()
    assert told == [1, 2, 3]


def test_a_template_that_another_thread_replaces_is_no_reason_to_fork_none(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    request, source = interpreter.request(tmp_path), ForkSource()
    forked, branches = [], []
    fork_off = ForkSource._fork_off

    def overtaken(self: Any, template: Any, *args: Any, **options: Any) -> Any:
        branches.append(template)
        if len(branches) <= 3:
            template.end()
        return fork_off(self, template, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForkSource, "_fork_off", overtaken)
        forked.append(source.start(request))
    try:
        assert forked[0].source == "forked"
        assert len(set(map(id, branches))) == 4
    finally:
        forked[0].close()
        source.close()


# --- history ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "cold"])
def test_history_is_in_memory_and_begins_in_the_folder(source: str, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    with KernelPool(managed=SOURCES[source](), spare=0) as pool:
        session = pool.lease(_request(tmp_path))
        # As the notebook that nbclient tests itself with.
        ask = "from IPython import get_ipython\nip = get_ipython()\n"
        ask += (
            "assert ip.history_manager.hist_file == ':memory:'\nprint(ip.history_manager.enabled)"
        )
        assert text(run(session, ask)) == "True\n"
        assert "from IPython import get_ipython" in text(run(session, "%history"))
        assert printed(session, "[str(d) for d in _dh]") == [str(tmp_path)]
        assert f"0: {tmp_path}" in text(run(session, "%dhist"))
        run(session, "%cd -q below", "%cd -q -")
        assert printed(session, "__import__('os').getcwd()") == str(tmp_path)
