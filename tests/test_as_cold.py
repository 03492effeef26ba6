"""A flow sees what a cold, unforked ipykernel shows it, whatever was imported ahead."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
from ductaflow_kernels.pool import KernelPool
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

PROBE = """
import ast, asyncio, atexit, builtins, gc, inspect, io, locale, logging, os, shutil, signal, sys, threading, warnings
def look():
    import multiprocessing
    main = sys.modules["__main__"]
    def kind(x): return f"{type(x).__module__}.{type(x).__qualname__}"
    def attempt(f):
        try: return f()
        except Exception as e: return type(e).__name__ + ": " + str(e)
    def stream(s):
        return {"type": [c.__name__ for c in type(s).__mro__], "isatty": attempt(s.isatty), "encoding": attempt(lambda: s.encoding),
          "errors": attempt(lambda: s.errors), "fileno": kind(attempt(s.fileno)), "name": str(attempt(lambda: s.name)), "writable": attempt(s.writable), "readable": attempt(s.readable),
          "line_buffering": str(attempt(lambda: s.line_buffering)), "buffer": kind(attempt(lambda: s.buffer)), "closed": attempt(lambda: s.closed),
          "mode": str(attempt(lambda: s.mode)), "session": kind(attempt(lambda: s.session)), "parent": kind(attempt(lambda: s.parent_header)), "echo": attempt(lambda: s.echo)}
    frames = []
    f = sys._getframe()
    while f:
        if not f.f_code.co_filename.startswith("<frozen"):
            frames.append([f.f_globals.get("__name__"), f.f_code.co_name])
        f = f.f_back
    ip = getattr(builtins, "get_ipython", lambda: None)()
    return {
      "frame": frames[:4], "frames": [n for n in dict.fromkeys(n for n, _ in frames)],
      "builtins": sorted(vars(builtins)), "__builtins__": kind(__builtins__),
      "ip": kind(ip), "ip.mro": [c.__name__ for c in type(ip).__mro__],
      "ip.config": attempt(lambda: sorted(ip.config)), "ip.traits": attempt(lambda: sorted(ip.trait_names())),
      "ip.values": attempt(lambda: {n: repr(getattr(ip, n))[:60] for n in sorted(ip.trait_names()) if type(getattr(ip, n)) in (int, str, bool, float)}),
      "ip.vars": attempt(lambda: sorted(vars(ip))),
      "ip.kernel": attempt(lambda: [c.__name__ for c in type(ip.kernel).__mro__]),
      "ip.parent": attempt(lambda: [c.__name__ for c in type(ip.parent).__mro__]),
      "ip.events": attempt(lambda: {n: [getattr(c, "__qualname__", kind(c)) for c in cs] for n, cs in ip.events.callbacks.items()}),
      "ip.user_ns": attempt(lambda: sorted(ip.user_ns)), "ip.user_ns_hidden": attempt(lambda: sorted(ip.user_ns_hidden)),
      "ip.user_module": kind(attempt(lambda: ip.user_module)),
      "ip.main": attempt(lambda: sys.modules["__main__"] is ip.user_module),
      "ip.display_pub": attempt(lambda: [c.__name__ for c in type(ip.display_pub).__mro__]),
      "ip.history": attempt(lambda: [kind(ip.history_manager), ip.history_manager.enabled, ip.history_manager.hist_file, ip.history_manager.session_number]),
      "ip.meta": attempt(lambda: kind(ip.display_formatter)),
      "ip.execution_count": attempt(lambda: ip.execution_count),
      "ip.formatters": attempt(lambda: {k: [v.enabled, sorted(map(str, v.type_printers)), sorted(map(str, v.deferred_printers))] for k, v in ip.display_formatter.formatters.items()}),
      "ip.magics": attempt(lambda: {k: sorted(v) for k, v in ip.magics_manager.magics.items()}),
      "ip.loaded": attempt(lambda: sorted(ip.extension_manager.loaded)),
      "ip.has_trait": attempt(lambda: ip.__class__.__name__), "IPApp": attempt(lambda: [c.__name__ for c in type(__import__("traitlets").config.Application._instance).__mro__]),
      "config": attempt(lambda: sorted(ip.config.get("IPKernelApp", "none"))),
      "argv": [os.path.basename(a) if i < 2 else os.path.splitext(a)[1] for i, a in enumerate(sys.argv)],
      "argv0": sys.argv[0], "orig_argv": list(getattr(sys, "orig_argv", [])), "flags": str(sys.flags), "xoptions": str(sys._xoptions), "warnoptions": sys.warnoptions,
      "main": {n: kind(v) for n, v in vars(main).items()}, "main.type": kind(main), "main.repr": repr(main), "main.doc": str(main.__doc__), "main.name": main.__name__, "main.spec": str(getattr(main, "__spec__", "absent")),
      "stdin": stream(sys.stdin), "stdout": stream(sys.stdout), "stderr": stream(sys.stderr),
      "__stdin__": stream(sys.__stdin__), "__stdout__": stream(sys.__stdout__), "__stderr__": stream(sys.__stderr__),
      "size": str(shutil.get_terminal_size()), "ossize": [str(attempt(lambda: os.get_terminal_size(n))) for n in (0, 1, 2)], "isatty": [os.isatty(n) for n in (0, 1, 2)],
      "cwd": os.getcwd(), "path": sys.path, "meta_path": [getattr(f, "__name__", kind(f)) for f in sys.meta_path], "path_hooks": len(sys.path_hooks),
      "signals": {s.name: str(attempt(lambda: getattr(signal.getsignal(s), "__qualname__", signal.getsignal(s)))) for s in signal.Signals}, "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), 
      "loggers": {n or "root": [kind(h) + str(h.level) for h in l.handlers] + [l.level, l.propagate, l.disabled] for n, l in [("", logging.root), *sorted((n, l) for n, l in logging.root.manager.loggerDict.items() if isinstance(l, logging.Logger))] if n.split(".")[0] not in ("concurrent",)},
      "logging": [logging.root.manager.disable, logging.raiseExceptions, kind(logging.lastResort), logging.getLoggerClass().__name__, logging.Logger.handle.__qualname__, logging._warnings_showwarning is None],
      "filters": [str(f) for f in warnings.filters], "showwarning": [warnings.showwarning.__module__, warnings.formatwarning.__module__],
      "main_thread": [threading.current_thread() is threading.main_thread(), threading.current_thread().name, threading.current_thread().ident == threading.get_ident()], "daemon": threading.current_thread().daemon,
      "threads": sorted(t.name for t in threading.enumerate()),
      "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False), sys.getfilesystemencoding()],
      "loop": [kind(attempt(asyncio.get_running_loop)), kind(asyncio.get_event_loop_policy()), str(attempt(lambda: asyncio.get_running_loop().is_running()))],
      "task": kind(attempt(asyncio.current_task)),
      "modules": sorted(sys.modules),
      "displayhook": kind(sys.displayhook), "excepthook": getattr(sys.excepthook, "__qualname__", kind(sys.excepthook)), "unraisable": sys.unraisablehook.__qualname__, "threadhook": getattr(threading.excepthook, "__qualname__", kind(threading.excepthook)), "breakpointhook": sys.breakpointhook.__qualname__,
      "ps": [str(getattr(sys, n, "absent")) for n in ("ps1", "ps2", "last_traceback", "last_value", "tracebacklimit")],
      "switch": sys.getswitchinterval(), "gc": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 0, len(gc.callbacks)], "recursion": sys.getrecursionlimit(),
      "trace": [str(sys.gettrace()), str(sys.getprofile()), str(threading._trace_hook)], "asyncgen": [h is not None for h in sys.get_asyncgen_hooks()],
      "atexit": atexit._ncallbacks(), "env": {k: v for k, v in os.environ.items()}, "environ": [kind(os.environ), kind(os.environ._data)],
      "exe": [sys.executable, sys.prefix, sys.exec_prefix, sys.base_prefix], "dont_write": sys.dont_write_bytecode, "umask": 0 , "intmax": getattr(sys, "get_int_max_str_digits", lambda: 0)(),
      "nice": os.nice(0), "session": [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()],
      "mp": [multiprocessing.current_process().name, multiprocessing.parent_process() is None, multiprocessing.get_start_method(allow_none=True)],
      "pdb": [__import__("pdb").Pdb.__module__, __import__("pdb").set_trace.__module__], "faulthandler": [__import__("faulthandler").is_enabled(), __import__("faulthandler").enable.__module__], "getpass": [__import__("getpass").getpass.__module__, builtins.input.__module__], "print": builtins.print.__module__,
      "os": {n: getattr(getattr(os, n), "__module__", None) + type(getattr(os, n)).__name__ for n in ("stat", "listdir", "scandir", "access", "getpid", "fork", "getcwd", "open")},
      "open": type(builtins.open).__name__, "context": len(list(__import__("contextvars").copy_context())), 
      "limits": [__import__("resource").getrlimit(n) for n in (__import__("resource").RLIMIT_NOFILE, __import__("resource").RLIMIT_STACK)],
      "oom": open("/proc/self/oom_score_adj").read(), "tracemalloc": __import__("tracemalloc").is_tracing(), "tmp": __import__("tempfile").gettempdir(), "linecache": kind(__import__("linecache").getlines), "lc": sorted(n[:20] for n in __import__("linecache").cache if n.startswith("<")),
    }
SEEN = look()
"""

# What differs, and why.
BY_DESIGN = {
    "argv file": "a connection file of its own",
    "threads": "fewer threads publish; in a template there are none, or it could not be forked",
    "modules": "debugpy is for front ends; a template has modules of ours",
    "builtins": "debugpy's", "breakpointhook": "debugpy's", "environ": "notes what is looked up",
    "env": "debugpy's PYDEVD_USE_FRAME_EVAL, jupyter_client's JPY_PARENT_PID",
    "switch": "a shorter interval, as threads of a kernel wait for one another",
    "atexit": "what ends a kernel is a conductor", "frames": "between the cell and the interpreter",
    "gc": "collects nothing in a template, and leaves alone what is shared after it",
    "ip.config": "history in memory, as nbclient's kernels have it",
    "ip.history": "the same",
    "ip.values": "ipython_dir is private; a template has not counted the cell",
    "ip.vars": "how exit() and tracebacks are taken", "ip.execution_count": "the same",
    "ip.user_ns": "_i and its like: a template has no cell yet", "ip.user_ns_hidden": "the same",
    "main": "the same", "IPApp": "a subclass", "ip.kernel": "a subclass", "ip.parent": "a subclass",
    "loggers": "the level of ipykernel's own; a module of IPython's that is loaded early",
    "task": "a loop runs, but no task of it, in a template", "asyncgen": "the same",
    "context": "a request's own context variables", "session": "a template leads no session",
    "os": "while a template imports, it is noted what is read", "open": "the same",
    "cwd": "a template's own, put right where a module keeps it",
}  # fmt: skip


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
        seen = {k: v for k, v in _told_apart(cold_probe).items() if k not in BY_DESIGN}
        assert {k: v for k, v in _told_apart(found).items() if k not in BY_DESIGN} == seen


ASK = "import probe_of_import, json; print(json.dumps(probe_of_import.SEEN, default=str))"


@pytest.fixture(scope="module")
def cold_probe(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Any:
    (interpreter.site / "probe_of_import.py").write_text(PROBE)
    (said,) = cold(interpreter.request(tmp_path_factory.mktemp("work")), ASK)
    return json.loads("".join(content["text"] for kind, content in said if kind == "stream"))


def _told_apart(found: dict[str, Any]) -> dict[str, Any]:
    """Without what is of one kernel only, and with a subclass of the same name taken for one."""
    found = copy.deepcopy(found)
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
    "import sys\nfrom tqdm.auto import tqdm\nfrom tqdm import tqdm as plain\n"
    "plain.monitor_interval = 0\nlist(plain(range(3), bar_format='{l_bar}{bar}', file=sys.stdout))",
    "import rich\nfrom rich.table import Table\nrich.print('[bold]x[/] 1', [1, 2], {'a': 3})\n"
    "table = Table('a', 'b'); table.add_row('1', '2'); table",
    "import plotly.io as pio, plotly.graph_objects as go\npio.renderers.default",
    "go.Figure(go.Scatter(y=[1, 3])).to_plotly_json()['data']",
    "import matplotlib, matplotlib.pyplot as plt\nprint(matplotlib.get_backend()); plt.plot([1, 2])",
    "import seaborn as sns\nsns.set_theme(); sns.barplot(x=[1, 2], y=[2, 3])",
    "import polars as pl\npl.DataFrame({'a': range(20), 'b': [str(i) * 40 for i in range(20)]})",
    "from sklearn.datasets import load_iris\nfrom sklearn.linear_model import LogisticRegression\n"
    "load_iris(as_frame=True).frame.head()",
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
    assert draws[0] == draws[1]


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
        (interpreter.site / "sitecustomize.py").write_text("import sys; sys.customised = 1")
        assert printed(
            pool.lease(interpreter.request(tmp_path, "frozen")), "__import__('sys').customised"
        ) == 1  # fmt: skip
        (interpreter.site / "sitecustomize.py").write_text("import sys; sys.customised = 22")
        assert printed(
            pool.lease(interpreter.request(tmp_path, "frozen")), "__import__('sys').customised"
        ) == 22  # fmt: skip
        (interpreter.site / "sitecustomize.py").unlink()


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
