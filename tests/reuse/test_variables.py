"""The environment variables that a run asked for, it depends on, and on no others."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import attrs
import pytest
from conftest import Project
from ductaflow_kernels import pool
from ductaflow_kernels.pool import KernelPool, close_shared_pool
from ductaflow_kernels.sources import forked
from ductaflow_kernels.sources import spawned as sources
from ductaflow_kernels.sources.spawned import PrespawnedSource
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_client import Interpreter, finish
from kernel_client import run as run_cells

from ductaflow import Run, accept, run_step_flow
from ductaflow.execution.runner import find_reusable
from ductaflow.flows.pythontext import asked_by, trees_of
from ductaflow.flows.shelltext import variables_in
from ductaflow.project.environment import kernel_environment
from ductaflow.reuse.environment import answers, differences
from ductaflow.reuse.environmentuse import taken_by
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.repeat import plan_again

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="a shell"),
    pytest.mark.timeout(600),  # a process of its own for each case
]

# The first is the reference: a process of its own, which has imported nothing.
SOURCES = {"prespawned": PrespawnedSource}
if forked.forking_works():
    SOURCES["forked"] = forked.ForkSource

Change = Mapping[str, str | None]


class Case(NamedTuple):
    """A way to ask, and a change after which the answer is another one; or not."""

    code: str
    change: Change
    stale: bool = True
    native: bool = False  # only an observer sees it
    whole: bool = False  # it takes all there is


RATE = {"RATE": "6"}
NEW = {"APP_NEW": "1"}
OTHER = {"UNRELATED": "1"}
HOME = {"HOME": "/nowhere"}

# What differs between two shells. None of it counts, unless it is asked for by its name.
SHELL = {
    "PWD": "/elsewhere", "OLDPWD": "/before", "SHLVL": "7", "_": "/usr/bin/other", "TERM": "vt100",
    "COLUMNS": "123", "LINES": "45", "SSH_CLIENT": "10.0.0.1 5 22", "XDG_SESSION_ID": "c9",
    "DISPLAY": ":9", "TMUX_PANE": "%5",
}  # fmt: skip

IN_CHILD = """
    import os, sys
    pid = os.fork()
    if pid == 0:
        {}
        os._exit(0)
    os.waitpid(pid, 0)"""

CASES = {
    # --- one by one ---
    "environ": Case("os.environ['RATE']", RATE),
    "get": Case("os.environ.get('RATE')", RATE),
    "in": Case("'RATE' in os.environ", {"RATE": None}),
    "getenv": Case("os.getenv('RATE')", RATE),
    "unset": Case("os.getenv('UNSET')", {"UNSET": ""}),
    "environb": Case("os.environb[b'RATE']", RATE),
    "getenvb": Case("os.getenvb(b'RATE')", RATE),
    "setdefault": Case("os.environ.setdefault('RATE', '1')", RATE),
    "expandvars": Case("os.path.expandvars('$RATE/${UNSET}')", RATE),
    "template": Case("import string; string.Template('$RATE').substitute(os.environ)", RATE),
    "format_map": Case("'{RATE}'.format_map(os.environ)", RATE),
    "chain": Case("from collections import ChainMap; ChainMap({}, os.environ)['RATE']", RATE),
    "keys": Case("'RATE' in os.environ.keys()", {"RATE": None}),
    "configparser": Case("""
        import configparser
        parser = configparser.ConfigParser()
        parser.read_string(os.path.expandvars("[a]\\nrate = $RATE"))""", RATE),
    "attrgetter": Case("list(map(os.getenv, ['RATE']))", RATE),
    "made by exec": Case("exec('import os; os.environ[\"RATE\"]', {})", RATE),
    "nothing": Case("None", RATE, stale=False),
    # --- through functions ---
    "expanduser": Case("os.path.expanduser('~/x')", HOME),
    "home": Case("import pathlib; pathlib.Path.home()", HOME),
    "path expanduser": Case("import pathlib; pathlib.Path('~').expanduser()", HOME),
    "a library's expanduser": Case("""
        import pandas as pd
        try:
            pd.read_csv("~/no such file")
        except FileNotFoundError:
            pass""", HOME),
    "gettempdir": Case("import tempfile; tempfile.gettempdir()", {"TMPDIR": "/var/tmp"}),
    "localtime": Case("import time; time.localtime(0)", {"TZ": "Asia/Tokyo"}),
    "fromtimestamp": Case("""
        from datetime import datetime
        datetime.fromtimestamp(0)""", {"TZ": "Asia/Tokyo"}),
    "astimezone": Case("""
        import datetime as dt
        dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc).astimezone()""", {"TZ": "Asia/Tokyo"}),
    "utc": Case("import datetime as dt; dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)",
        {"TZ": "Asia/Tokyo"}, stale=False),
    "setlocale": Case("import locale; locale.setlocale(locale.LC_ALL, '')",
        {"LC_ALL": "C.UTF-8"}),
    "another locale": Case("import locale; locale.setlocale(locale.LC_ALL, 'C')",
        {"LC_ALL": "C.UTF-8"}, stale=False),
    "terminal size": Case("import shutil; shutil.get_terminal_size()", {"COLUMNS": "77"}),
    "webbrowser": Case("""
        import webbrowser
        try:
            webbrowser.get()
        except webbrowser.Error:
            pass""", {"BROWSER": "true", "PATH": "/usr/bin"}, stale=False),
    "getuser": Case("import getpass; getpass.getuser()", {"LOGNAME": "someone"}),
    # --- copies ---
    "copied": Case("dict(os.environ)['RATE']", RATE),
    "copied, of another": Case("dict(os.environ)['RATE']", OTHER, stale=False),
    "copy": Case("env = os.environ.copy()\n        env.get('RATE')", RATE),
    "merged": Case("env = {**os.environ, 'A': '1'}\n        env['RATE']", RATE),
    "or": Case("(os.environ | {'A': '1'})['RATE']", RATE),
    "arguments": Case("'{RATE}'.format(**os.environ)", RATE),
    "for a child": Case("""
        import subprocess
        env = os.environ.copy()
        env["A"] = "1"
        subprocess.run(["true"], env=env)
        subprocess.run(["true"], env={**os.environ, "A": "1"})""", RATE, stale=False),
    "shown": Case("print(dict(os.environ))", OTHER, whole=True),
    "shown itself": Case("print(os.environ)", OTHER, whole=True),
    "counted": Case("len(os.environ)", OTHER, whole=True),
    "listed": Case("list(os.environ)", {"RATE": None}, whole=True),
    "dumped": Case("import json; json.dumps(dict(os.environ))", RATE, whole=True),
    "pretty": Case("import pprint; pprint.pprint(os.environ)", RATE, whole=True),
    # --- prefixes ---
    "prefix": Case("[k for k in os.environ if k.startswith('APP_')]", NEW),
    "prefix, of a value": Case("{k: v for k, v in os.environ.items() if k.startswith('APP_')}",
        {"APP_A": "2"}),
    "prefix, of another": Case("{k: v for k, v in os.environ.items() if k.startswith('APP_')}",
        OTHER, stale=False),
    "prefix, none left": Case("[k for k in os.environ if k.startswith('APP_')]", {"APP_A": None}),
    "suffix": Case("sorted(k for k in os.environ if k.endswith('_NEW'))", NEW),
    "part": Case("[k for k in os.environ.keys() if 'PP_N' in k]", NEW),
    "prefix in a loop": Case("""
        found = {}
        for name, value in os.environ.items():
            if name.startswith(("APP_", "TAP_")):
                found[name] = value""", NEW),
    "prefix by name": Case("""
        PREFIX = "APP_"
        found = {k: os.environ[k] for k in os.environ if k.startswith(PREFIX)}""", NEW),
    "prefix of the config": Case("[k for k in os.environ if k.startswith(prefix)]", NEW),
    "filter": Case("list(filter(lambda k: k.startswith('APP_'), os.environ))", NEW),
    "by a pattern": Case("import re; [k for k in os.environ if re.match('APP', k)]", NEW,
        whole=True),
    # --- shells ---
    "%env": Case("%env RATE", RATE),
    "%env, all": Case("%env", OTHER, whole=True),
    "!": Case("!echo $RATE", RATE),
    "! kept": Case("found = !echo ${RATE:-5}", RATE),
    "! quoted": Case("!echo '$RATE'", RATE, stale=False),
    "! printenv": Case("!printenv RATE", RATE),
    "! env": Case("!env > env.txt", OTHER, whole=True),
    "bash": Case("%%bash\necho $RATE", RATE),
    "timed": Case("%time dict(os.environ)['RATE']", RATE),
    "os.system": Case("os.system('echo $RATE')", RATE),
    "shell=True": Case("import subprocess; subprocess.run('echo $RATE', shell=True)", RATE),
    "shell, by name": Case("""
        import subprocess
        command = "echo $RATE"
        subprocess.run(command, shell=True)""", RATE),
    "bash -c": Case("import subprocess; subprocess.run(['bash', '-c', 'echo $RATE'])", RATE),
    "printenv": Case("import subprocess; subprocess.run(['printenv', 'RATE'])", RATE),
    "env": Case("import subprocess; subprocess.run(['env', 'A=1', 'true'])", OTHER, stale=False),
    "script": Case("!sh ../../../tools/rate.sh", RATE, native=True),
    "script in Python": Case("""
        import subprocess, sys
        subprocess.run([sys.executable, "../../../tools/rate.py"])""", RATE, native=True),
    # --- not seen: see ARCHITECTURE ---
    "program": Case("""
        import subprocess, sys
        command = [sys.executable, "-c", "import os; print(os.environ['RATE'])"]
        subprocess.run(command)""", RATE, stale=False),
    "C": Case("import ctypes; ctypes.CDLL(None).getenv(b'RATE')", RATE, stale=False),
    # --- put back ---
    "set first": Case("os.environ['RATE'] = '7'; os.environ['RATE']", RATE, stale=False),
    "set to the same": Case("os.environ['RATE'] = '5'; os.environ['RATE']", RATE, stale=False),
    "patched": Case("""
        from unittest import mock
        with mock.patch.dict(os.environ, {"RATE": "7"}):
            assert os.environ["RATE"] == "7" """, RATE, stale=False),
    "patched and read": Case("""
        from unittest import mock
        with mock.patch.dict(os.environ, {"RATE": "7"}, clear=True):
            pass
        os.environ["RATE"]""", RATE),
    "put back by hand": Case("""
        before = os.environ["UNSET"] if "UNSET" in os.environ else None
        os.environ["UNSET"] = "1"
        del os.environ["UNSET"]
        os.environ.get("UNSET")""", {"UNSET": "2"}),
    # --- elsewhere ---
    "thread": Case("""
        import threading
        threading.Thread(target=lambda: os.environ["RATE"]).start()""", RATE),
    "thread after the last cell": Case("""
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.3), os.environ["RATE"])).start()""", RATE),
    "thread pool": Case("""
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor() as threads:
            list(threads.map(os.getenv, ["RATE"]))""", RATE),
    "fork": Case(IN_CHILD.format("os.environ['RATE']"), RATE),
    "fork takes all": Case(IN_CHILD.format("[k for k in os.environ if k.startswith('APP_')]"), NEW),
    "multiprocessing": Case("""
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as processes:
            processes.map(os.getenv, ["RATE", "UNSET"])""", RATE),
    "process pool": Case("""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(1, mp_context=context) as processes:
            list(processes.map(os.getenv, ["RATE"]))""", RATE),
    "joblib": Case("""
        from joblib import Parallel, delayed
        def work(i):
            import os
            return os.environ["RATE"]
        Parallel(n_jobs=2)(delayed(work)(i) for i in range(2))""", RATE),
    "module": Case("import sys; sys.path.append('../../../tools'); import rated", RATE),
    "module takes all":
        Case("import sys; sys.path.append('../../../tools'); import prefixed", NEW),
    "module takes all, of another":
        Case("import sys; sys.path.append('../../../tools'); import prefixed", OTHER, stale=False),
}  # fmt: skip

NATIVE = {name for name, case in CASES.items() if case.native}
# One of each kind, where each costs a process of its own.
SOME = {"environ", "unset", "environb", "expandvars", "template", "chain", "made by exec", "home",
    "a library's expanduser", "terminal size", "copied", "merged", "for a child", "shown", "prefix",
    "prefix, of a value", "%env", "timed", "!", "script", "script in Python", "set first",
    "patched", "patched and read", "put back by hand", "thread after the last cell", "thread pool",
    "fork", "fork takes all", "multiprocessing", "process pool", "joblib", "module",
    "module takes all"}  # fmt: skip

TOOLS = {
    "rate.sh": "echo $RATE\n",
    "rate.py": "import os\nprint(os.environ.get('RATE'))\n",
    "rated.py": "import os\nrate = os.environ['RATE']\n",
    "prefixed.py": "import os\nfound = {k: v for k, v in os.environ.items() if k[:4] == 'APP_'"
    " or k.startswith('APP_')}\n".replace("k[:4] == 'APP_' or ", ""),
}
GIVEN = {"RATE": "5", "APP_A": "1", "HOME": "/root", "LOGNAME": "me", "COLUMNS": "80"}


def build(root: Path, cases: Mapping[str, Case]) -> None:
    (root / "flow").mkdir(parents=True)
    (root / "tools").mkdir()
    for name, text in TOOLS.items():
        (root / "tools" / name).write_text(text)
    for number, case in enumerate(cases.values()):
        code = case.code
        if "%%" not in code:
            code = dedent(code if code.startswith("\n") else f"        {code}").strip()
        cell = code if "%%" in code else f"import os\n{code}\n"
        (root / "flow" / f"f{number}.py").write_text(
            "# ---\n# jupyter:\n#   jupytext:\n#     format: py:percent\n# ---\n"
            '# %% tags=["parameters"]\nconfig = {"prefix": "APP_"}\n\n# %%\n' + commented(cell)
        )


def commented(cell: str) -> str:
    """Magics as jupytext has them in a `.py` file."""
    lines = cell.splitlines()
    if lines[0].startswith("%%"):
        return "\n".join(f"# {line}" for line in lines) + "\n"
    return "\n".join(f"# {n}" if n[:1] in "%!" or "= !" in n else n for n in lines) + "\n"


@pytest.fixture(scope="module", params=[*SOURCES, "unwatched"])
def studied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, dict[str, Case], dict[str, Run]]]:
    """A project, and the cases that have run in it, in kernels of every kind."""
    way = request.param
    root = tmp_path_factory.mktemp(way) / "study"
    names = CASES.keys() if way == "forked" else SOME - (NATIVE if way == "unwatched" else set())
    assert names <= CASES.keys()
    cases = {name: case for name, case in CASES.items() if name in names}
    build(root, cases)
    close_shared_pool()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in GIVEN.items():
            patch.setenv(name, value)
        for name in ("UNSET", "TZ", "LC_ALL", "APP_NEW", "UNRELATED", "PYTEST_CURRENT_TEST"):
            patch.delenv(name, raising=False)
        if way == "unwatched":
            patch.setattr(forked, "observer_address", lambda: "")
            patch.setattr(sources, "observer_address", lambda: "")
        else:
            patch.setattr(pool, "_shared", (os.getpid(), KernelPool(managed=SOURCES[way]())))
        try:
            runs = {
                name: run_step_flow(f"f{number}", f"f{number}", "a", root=root)
                for number, name in enumerate(cases)
            }
        finally:
            close_shared_pool()
        yield way, root, cases, runs


def stale(run: Run, root: Path, **change: str | None) -> str:
    """Why a run would be made again in another environment; empty if it would be reused."""
    environment = {**kernel_environment(root), **change}
    now = {name: value for name, value in environment.items() if value is not None}
    _, decision = find_reusable(plan_again(run, root), Interpreters(now))
    return "" if decision.reuse else str(decision)


Studied = tuple[str, Path, dict[str, Case], dict[str, Run]]


def test_exactly_what_was_asked_counts(studied: Studied) -> None:
    _, root, cases, runs = studied
    found = {name: stale(run, root) for name, run in runs.items()}
    assert {name: why for name, why in found.items() if why} == {}
    found = {name: stale(run, root, **cases[name].change) for name, run in runs.items()}
    assert {name for name, why in found.items() if why} == {n for n, c in cases.items() if c.stale}
    assert all("environment variable" in why for why in found.values() if why)


def test_another_shell_is_no_reason(studied: Studied) -> None:
    _, root, cases, runs = studied
    for name, run in runs.items():
        asks = {"COLUMNS", "LINES"} if name == "terminal size" else set()
        shell = {k: v for k, v in SHELL.items() if k not in asks}
        more = {} if cases[name].whole else {"SOMETHING_AT_RANDOM": "1"}
        assert stale(run, root, **shell, **more) == "", name


def test_a_conductor_may_itself_be_a_kernel(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_kernels = ["TERM", "CLICOLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PAGER", "GIT_PAGER"]
    names = [*of_kernels, "MPLBACKEND", "JPY_PARENT_PID"]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    asks = "\n".join(f"os.environ.get({name!r})" for name in names)
    project.write("f", "import json, os", asks, "json.dump({**os.environ}, open('e', 'w'))")
    run = project.run("f")
    seen = json.loads((project.root / "runs/f/a/e").read_text())
    for name in names:
        monkeypatch.setenv(name, seen.get(name, "1"))
    assert stale(run, project.root) == ""
    assert "MPLBACKEND" in stale(run, project.root, MPLBACKEND="svg")


def test_all_kinds_of_kernels_note_the_same(studied: Studied) -> None:
    way, _, _, runs = studied
    noted = {name: dict(run.record.variables) for name, run in runs.items()}
    NOTED[way] = noted
    for name in noted.keys() & NOTED[next(iter(NOTED))].keys():
        assert noted[name] == NOTED[next(iter(NOTED))][name], name


NOTED: dict[str, dict[str, dict[str, str]]] = {}


# --- libraries ----------------------------------------------------------------------------------

LIBRARIES = {
    "pandas": "import pandas as pd; print(pd.DataFrame({'a': [1, 2]}).describe())",
    "matplotlib": "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()",
    "seaborn": "import seaborn; seaborn.histplot([1, 2, 2])",
    "numpy": "import numpy; print(numpy.linalg.inv(numpy.eye(2)))",
    "scikit-learn": """
from sklearn.ensemble import RandomForestClassifier
RandomForestClassifier(n_estimators=3, n_jobs=2).fit([[0], [1]], [0, 1])""",
    "plotly": "import plotly.express as px; px.line(x=[1, 2], y=[1, 2])",
    "requests": """
import requests
try:
    requests.get("http://127.0.0.1:9")
except requests.ConnectionError:
    pass""",
    "polars": "import polars; print(polars.DataFrame({'a': [1]}))",
    "tqdm": "from tqdm.auto import tqdm; list(tqdm(range(3)))",
    "joblib": """
from joblib import Parallel, delayed
Parallel(n_jobs=2)(delayed(abs)(i) for i in range(2))""",
    "subprocess": "import subprocess; subprocess.run(['true'], check=True)",
    "argparse": "import argparse; argparse.ArgumentParser(prog='x').format_help()",
}

# What differs between two shells of two people on two machines.
ELSEWHERE = {
    "PATH": "/opt/bin:/usr/bin:/bin", "USER": "other", "LOGNAME": "other", "HOSTNAME": "far",
    "TMPDIR": "/var/tmp", "OMP_NUM_THREADS": "3", "HTTP_PROXY": "http://proxy:1", "SHELL": "zsh",
}  # fmt: skip


@pytest.fixture(scope="module")
def of_libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Run]]:
    """Flows that use libraries, run in kernels of every kind."""
    found: dict[str, dict[str, Run]] = {}
    for way, make in SOURCES.items():
        root = tmp_path_factory.mktemp(way) / "study"
        (root / "flow").mkdir(parents=True)
        close_shared_pool()
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PYTEST_CURRENT_TEST")
            patch.setattr(pool, "_shared", (os.getpid(), KernelPool(managed=make())))
            try:
                found[way] = {}
                for name, code in LIBRARIES.items():
                    step = name.replace("-", "_")
                    text = f'# %% tags=["parameters"]\nconfig = {{}}\n# %%\n{code}\n'
                    (root / "flow" / f"{step}.py").write_text(text)
                    found[way][name] = run_step_flow(step, step, "a", root=root)
            finally:
                close_shared_pool()
    return found


def test_libraries_are_no_reason_in_another_shell(
    of_libraries: dict[str, dict[str, Run]],
) -> None:
    for runs in of_libraries.values():
        for name, run in runs.items():
            root = run.dir.parents[2]
            assert stale(run, root) == "", name
            assert stale(run, root, **SHELL, **ELSEWHERE, SOMETHING_AT_RANDOM="1") == "", name


def test_what_libraries_ask_is_the_same_in_all_kinds_of_kernels(
    of_libraries: dict[str, dict[str, Run]],
) -> None:
    first, *others = of_libraries.values()
    reference = {name: dict(run.record.variables) for name, run in first.items()}
    assert any(reference.values())
    for runs in others:
        assert {name: dict(run.record.variables) for name, run in runs.items()} == reference


def test_an_installed_library_reads_for_the_flow(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is imported, also ahead, and when it is called; by name and by prefix."""
    (interpreter.site / "rates.py").write_text(
        "import os\nrate = os.environ.get('RATE_AT_IMPORT')\n"
        "found = {k: v for k, v in os.environ.items() if k.startswith('RATES_')}\n"
        "home, copy = os.path.expanduser('~'), os.environ.copy()\n"
        "def copied():\n    return dict(os.environ)['RATE_OF_COPY']\n"
        "def lower():\n    return {k.lower(): v for k, v in os.environ.items()}['rate_unseen']\n"
        "def now():\n    return os.environ['RATE']\n"
    )
    for name in ("RATE", "RATE_OF_COPY", "RATE_UNSEEN"):
        monkeypatch.setenv(name, "5")
    for way, make in SOURCES.items():
        folder = tmp_path / way
        folder.mkdir()
        with KernelPool(managed=make(), spare=0) as kernels:
            request = attrs.evolve(interpreter.request(folder, "rates"), observe=folder)
            session = kernels.lease(request)
            assert session.left_out == {}
            run_cells(session, "import rates\nrates.now(), rates.copied(), rates.lower()")
            asked = dict(finish(session)["observed"]["variables"])
        assert {k: v for k, v in asked.items() if "RATE" in k} == {
            "RATE": 1, "RATE_AT_IMPORT": 1, "RATES_*": 1, "RATE_OF_COPY": 1,
        }  # fmt: skip


# --- by text ------------------------------------------------------------------------------------

VALUES = st.sampled_from(["$X", "${X}", '"$X"', "'$X'", "\\$X", "${Y:-$X}", "${#X}", "$((X + 1))",
    "$(echo $X)", '"$(echo \'$X\')"', "`echo $X`", "$'$X'", "~", "~/a", "a~", "a#$X", '"\'$X\'"',
    "1", "$Y", "$$", '"a b"'])  # fmt: skip
COMMANDS = st.one_of(
    VALUES.map("echo {}".format), VALUES.map("X={}".format), VALUES.map("Y={}".format),
    VALUES.map("export X={}".format), VALUES.map("X={} echo $X".format),
    VALUES.map("X=1 eval echo {}".format), VALUES.map("# {}".format), VALUES.map("(X={})".format),
    VALUES.map("if [ 0 = {} ]; then X=2; fi".format), VALUES.map("[ 0 = {} ] && X=3".format),
    VALUES.map("for X in {}; do echo $X; done".format),
    VALUES.map("for Z in {}; do Y=$X; done".format),
    VALUES.map("cat <<EOF\n{}\nEOF".format), VALUES.map("cat <<'EOF'\n{}\nEOF".format),
    VALUES.map("cat <<< {}".format),
    st.sampled_from(["printenv X", "printenv", "env", "unset X", "true"]),
)  # fmt: skip
JOINTS = st.sampled_from(["\n", "\n  ", "; "])


@given(st.lists(st.tuples(COMMANDS, JOINTS), min_size=1, max_size=4))
@example([("X=1", "; "), ("echo $X", "\n")])
@example([("cat <<EOF\n$X\nEOF", "\n"), ("echo '$X'", "\n")])
def test_what_a_shell_would_answer_otherwise_is_found_in_its_text(
    parts: list[tuple[str, str]],
) -> None:
    text = "".join(
        command + ("\n" if "EOF" in command or "#" in command else joint)
        for command, joint in parts
    )
    said = []
    for value in ("1", "2"):
        env = {"X": value, "Y": "", "HOME": f"/{value}", "PATH": os.environ["PATH"]}
        done = subprocess.run(["bash", "-c", text], env=env, capture_output=True, check=False)
        said.append(re.sub(rb"\d{3,}", b"", done.stdout))  # process ids
    if said[0] != said[1]:
        assert {"X", "HOME", "*"} & variables_in(text), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo '$X' \\$X # $X", ""),
        ("echo $$ $1 $? $@ $PWD $RANDOM", ""),
        ("X=5; echo $X", ""),
        ("X=5 echo $X", "X"),
        ("if true; then X=1; fi; echo $X", "X"),
        ("PATH=$PATH:bin; tool", "PATH"),
        ("for f in *; do echo $f; done", ""),
        ("echo ${A:-$B} ${#C} ${!D} $((E + 1))", "A B C D E"),
        ("cat <<'END'\n$X\nEND\necho $Y", "Y"),
        ("printenv A B | sort", "A B"),
        ("env | grep A", "*"),
        ("env A=1 tool $B", "B"),
        ("set -e; export A=1", ""),
        ("ls ~/x a~b", "HOME"),
    ],
)
def test_variables_in_the_text_of_commands(text: str, expected: str) -> None:
    assert variables_in(text) == set(expected.split())


@given(st.text(), st.text("$%!{}()'\"\\#~ \nXe=<"))
def test_any_text_can_be_looked_at(text: str, odd: str) -> None:
    variables_in(text)
    variables_in(odd)
    asked_by(odd)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("env = dict(os.environ)\nprint(env)", "*"),
        ("env = dict(os.environ)\nname = input()\nenv[name]", "*"),
        ("env = dict(os.environ)\nf(env)", "*"),
        ("env = dict(os.environ)\ng = env\ng['A']\n'B' in env", "A B"),
        ("env = os.environ\n{**env}.get('A')", "A"),
        ("[v for v in os.environ.values()]", "*"),
        ("[k for k in os.environ if k.startswith('A') or k == 'B']", "A* B"),
        ("[k for k in os.environ if len(k) > 2 and k.startswith('A')]", "A*"),
        ("[k for k in os.environ if k.startswith('A') or len(k) > 2]", "*"),
        (
            "for k in os.environ:\n    if not k.startswith('A'):\n        continue\n    print(k)",
            "A*",
        ),
        ("for k in os.environ:\n    print(k)\n    if k.startswith('A'):\n        pass", "*"),
        ("for k in sorted(os.environ):\n    if k in ('A', 'B'):\n        print(k)", "A B"),
        ("P = 'A'\nP = 'B'\n[k for k in os.environ if k.startswith(P)]", "*"),
        ("f(**os.environ)", "*"),
        ("subprocess.run(x, env=dict(os.environ, A='1'))", ""),
        ("exec(hidden)", "*"),
    ],
)
def test_what_is_asked_of_a_copy(code: str, expected: str) -> None:
    assert taken_by(trees_of(code) or [], {}) == set(expected.split())


def test_answers_of_patterns() -> None:
    before = {"APP_A": "1", "OTHER": "2", "SHLVL": "3"}
    recorded = answers({"APP_*"}, before)
    assert set(recorded) == {"APP_*", "APP_A"}
    assert "1" not in recorded.values()
    told = "the environment variable"
    for change, message in [
        ({}, None), ({"OTHER": "3"}, None), ({"APP_A": "2"}, f"{told} APP_A changed"),
        ({"APP_B": "2"}, f"{told} APP_B is set now"),
    ]:  # fmt: skip
        found = [message for _, message in differences(recorded, {**before, **change})]
        assert found == [message] * (message is not None)
    (gone,) = differences(recorded, {})
    assert gone == ("APP_A", f"{told} APP_A is not set any more")
    everything = answers({"*"}, before)
    assert set(everything) == {"*", "APP_A", "OTHER"}
    assert list(differences(everything, {**before, "SHLVL": "4", "TERM": "x"})) == []
    assert [name for name, _ in differences(everything, {**before, "NEW": ""})] == ["*"]


def test_accepted_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flow").mkdir()
    code = "import os\n[k for k in os.environ if k.startswith('APP_')]"
    text = f'# %% tags=["parameters"]\nconfig = {{}}\n# %%\n{code}\n'
    (tmp_path / "flow" / "ask.py").write_text(text)
    done = run_step_flow("ask", "ask", "a", root=tmp_path)
    monkeypatch.setenv("APP_NEW", "1")
    assert stale(done, tmp_path) == "the environment variable APP_NEW is set now"
    accepted = accept("ask", "a", root=tmp_path)
    assert stale(accepted, tmp_path) == ""
    assert "APP_NEW" in stale(accepted, tmp_path, APP_NEW="2")
