"""The fork tree: what it preloads, what it must not, and every process of it killed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import ductaflow_kernels.sources.tree
import psutil
import pytest
from conftest import Project, process_alive, wait_until
from ductaflow_kernels.errors import LeaseCancelled
from ductaflow_kernels.pool import KernelPool
from ductaflow_kernels.session.session import KernelSession
from ductaflow_kernels.sources.forked import ForkSource, forking_works
from ductaflow_kernels.spec import KernelRequest, own_interpreter
from kernel_client import Interpreter, printed, run, text

pytestmark = pytest.mark.skipif(not forking_works(), reason="kernels are forked on Linux only")


@pytest.fixture
def pool() -> Iterator[KernelPool]:
    with KernelPool() as pool:
        yield pool


def loaded(session: KernelSession, *names: str) -> list[object]:
    """Whether each module is there before the flow imports it."""
    return printed(session, f"[n in __import__('sys').modules for n in {names}]")  # type: ignore[return-value]


def tree_of(source: ForkSource) -> tuple[list[int], list[int]]:
    """Process ids of the zygotes, and of the templates."""
    zygotes = list(source._zygotes.values())
    return (
        [z.branch.pid for z in zygotes],
        [t.pid for z in zygotes for t in z.templates.values()],
    )


# --- what is imported ahead --------------------------------------------------------------------


def test_a_template_belongs_to_one_flow(interpreter: Interpreter, tmp_path: Path) -> None:
    """A missing import fails, whatever another flow has preloaded."""
    (interpreter.site / "mine.py").write_text("value = 1\n")
    with KernelPool() as pool:
        assert loaded(pool.lease(interpreter.request(tmp_path, "mine")), "mine") == [True]
        assert loaded(pool.lease(interpreter.request(tmp_path)), "mine") == [False]


AHEAD = "if __import__('threading').active_count() == 1"  # a kernel has more
THREADS = (
    "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
)


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [
        ("says", "print('hello from says')", "prints"),
        ("says_below", "import os; os.write(1, b'below')", "prints"),
        ("threads", THREADS, "thread"),
        ("crashes", f"import os, sys\n{AHEAD}: os._exit(3)", "crash"),
        ("hangs", f"import time, sys\n{AHEAD}: time.sleep(600)", "hangs"),
        ("fails", "raise RuntimeError('not today')", "RuntimeError: not today"),
    ],
)  # fmt: skip
def test_a_module_unfit_to_be_preloaded_is_left_to_the_flow(
    interpreter: Interpreter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    source: str,
    why: str,
) -> None:
    monkeypatch.setattr(ductaflow_kernels.sources.tree, "PRELOAD_TIMEOUT", 2.0)
    (interpreter.site / f"{name}.py").write_text(source)
    (interpreter.site / "fit.py").write_text("value = 1\n")
    with KernelPool() as pool:
        session = pool.lease(interpreter.request(tmp_path, "fit", name))
        assert session.source == "forked"
        assert loaded(session, "fit", name) == [True, False]
        assert list(session.left_out) == [name]
        assert why in session.left_out[name]
        said = text(run(session, f"import {name}"))
        assert ("hello from says" in said) == (name == "says")


def test_a_module_that_a_library_makes_is_no_project_code(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """As torch does, which says that `torch.ops` comes from `_ops.py`."""
    (interpreter.site / "maker.py").write_text(
        "import sys, types\nmade = sys.modules['maker.made'] = types.ModuleType('maker.made')\n"
        "made.__file__ = '_made.py'\n"
    )
    with KernelPool() as pool:
        session = pool.lease(interpreter.request(tmp_path, "maker"))
        assert loaded(session, "maker", "maker.made") == [True, True]
        assert session.left_out == {}


def test_what_a_run_imports_further_on_is_there_for_the_next(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """As libraries do inside their functions; a module unfit for it costs one template."""
    (interpreter.site / "lazily.py").write_text("value = 1\n")
    (interpreter.site / "loudly.py").write_text("print('imported')\n")
    code = tmp_path / "code"
    code.mkdir()
    (code / "ours.py").write_text("value = 1\n")
    request = interpreter.request(tmp_path, PYTHONPATH=str(code))
    names = ("lazily", "loudly", "ours")
    with KernelPool(spare=0) as pool:
        first = pool.lease(request)
        run(first, "import lazily, loudly, ours")
        first.imported = list(names)
        pool.retire(first)
        assert wait_until(lambda: not pool._retired and not process_alive(first.process.pid))
        assert wait_until(lambda: not first.connection.folder.exists())
        second = pool.lease(request)
        assert loaded(second, *names) == [False, False, False]  # the template made anew
        second.imported = ["lazily", "ours"]
        pool.retire(second)
        assert wait_until(lambda: not second.connection.folder.exists())
        third = pool.lease(request)
        assert loaded(third, *names) == [True, False, False]
        assert "imported" in text(run(third, "import loudly"))


def test_project_code_is_never_preloaded(interpreter: Interpreter, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "helper.py").write_text("value = 1\n")
    (interpreter.site / "editable.pth").write_text(str(code))  # as an editable install has
    (interpreter.site / "plugin_host.py").write_text("import helper\n")
    request = interpreter.request(tmp_path, "helper", "plugin_host")
    with KernelPool() as pool:
        session = pool.lease(request)
        assert loaded(session, "helper", "plugin_host") == [False, False]
        assert printed(session, "__import__('helper').value") == 1
        (code / "helper.py").write_text("value = 22\n")
        assert printed(pool.lease(request), "__import__('helper').value") == 22
    (interpreter.site / "editable.pth").unlink()


def test_an_upgraded_package_is_seen(interpreter: Interpreter, tmp_path: Path) -> None:
    module = interpreter.site / "versioned.py"
    module.write_text("version = 1\n")
    request = interpreter.request(tmp_path, "versioned")
    with KernelPool() as pool:
        in_use = pool.lease(request)
        assert printed(in_use, "__import__('versioned').version") == 1
        assert wait_until(lambda: pool.idle() >= 1)
        module.write_text("version = 22\n")
        (interpreter.site / "versioned-22.dist-info").mkdir()
        assert printed(pool.lease(request), "__import__('versioned').version") == 22
        assert printed(in_use, "1 + 1") == 2  # the kernel in use lives on


def test_variables_read_at_start_make_another_tree(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    with KernelPool() as pool:
        seed = "__import__('os').environ.get('PYTHONHASHSEED')"
        for value in ("1", "2"):
            session = pool.lease(interpreter.request(tmp_path, PYTHONHASHSEED=value))
            assert printed(session, seed) == value
            assert printed(session, "hash('a') != 0")


def test_variables_that_imports_look_up_are_those_of_the_request(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """Whatever their names; others cost no template."""
    (interpreter.site / "choosy.py").write_text(
        "import os\nbackend = os.environ.get('CHOOSY_BACKEND', 'none')\n"
    )
    source = ForkSource()
    with KernelPool(managed=source) as pool:
        for number, value in enumerate(("one", "one", "two")):
            request = interpreter.request(
                tmp_path, "choosy", CHOOSY_BACKEND=value, UNREAD=str(number)
            )
            session = pool.lease(request)
            assert loaded(session, "choosy") == [True]
            assert printed(session, "__import__('choosy').backend") == value
            assert printed(session, "type(__import__('os').environ._data).__name__") == "dict"
            templates = tree_of(source)[1]
            if number == 0:
                first = templates
            assert (templates == first) == (value == "one")
            pool.retire(session)
        assert len(tree_of(source)[0]) == 1


def test_a_loop_over_the_environment_reads_all_of_it(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """As configuration by prefix does: a variable that is new counts."""
    (interpreter.site / "prefixed.py").write_text(
        "import os\nfound = sorted(k for k in os.environ if k.startswith('PREFIXED_'))\n"
    )
    with KernelPool(spare=0) as pool:
        for more in ({}, {"PREFIXED_A": "1"}, {"PREFIXED_B": "1", "COLUMNS": "99"}):
            session = pool.lease(interpreter.request(tmp_path, "prefixed", **more))
            assert loaded(session, "prefixed") == [True]
            assert printed(session, "__import__('prefixed').found") == list(more)[:1]


def test_variables_that_a_native_library_knows_are_those_of_the_request(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """`getenv` in C cannot be noted; but the name stands in the library."""
    source = ForkSource()
    with KernelPool(managed=source, spare=0, workers=8) as pool:
        pool.lease(interpreter.request(tmp_path, "sqlite3", UNREAD="1"))
        first = tree_of(source)[1]
        pool.lease(interpreter.request(tmp_path, "sqlite3", UNREAD="2"))
        assert tree_of(source)[1] == first
        pool.lease(interpreter.request(tmp_path, "sqlite3", SQLITE_TMPDIR=str(tmp_path)))
        third = tree_of(source)[1]
        assert third != first
        if len(third) == 2:  # where IPython itself loads the library, the whole tree is another
            pool.lease(interpreter.request(tmp_path, "sqlite3", UNREAD="3"))
            assert set(tree_of(source)[1]) == set(third)  # the first one was wanted again
            assert len(tree_of(source)[0]) == 1


def test_variables_that_an_import_sets_are_set(interpreter: Interpreter, tmp_path: Path) -> None:
    """For the flow, and for the processes that it starts."""
    (interpreter.site / "setter.py").write_text(
        "import os\nos.environ['SET_BY_IMPORT'] = '1'\nos.environ.pop('TAKEN_BY_IMPORT', None)\n"
    )
    with KernelPool() as pool:
        request = interpreter.request(tmp_path, "setter", TAKEN_BY_IMPORT="1", OWN="2")
        for _ in range(2):
            session = pool.lease(request)
            assert loaded(session, "setter") == [True]
            said = "__import__('subprocess').check_output(['env'], text=True)"
            lines = str(printed(session, said)).splitlines()
            assert {"SET_BY_IMPORT=1", "OWN=2"} <= set(lines)
            assert not any(line.startswith("TAKEN_BY_IMPORT=") for line in lines)
        without = interpreter.request(tmp_path, SET_BY_IMPORT="mine")
        seen = printed(pool.lease(without), "__import__('os').environ['SET_BY_IMPORT']")
        assert seen == "mine"


def test_a_module_in_the_instances_folder_comes_before_an_installed_one(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    (interpreter.site / "twice.py").write_text("whose = 'installed'\n")
    (interpreter.site / "once.py").write_text("import twice\n")
    (tmp_path / "twice.py").write_text("whose = 'mine'\n")
    (tmp_path / "once.csv").write_text("no module")
    with KernelPool() as pool:
        for _ in range(3):  # found out by the template; then known before it is asked
            session = pool.lease(interpreter.request(tmp_path, "once"))
            assert loaded(session, "once", "twice") == [False, False]
            assert printed(session, "__import__('once').twice.whose") == "mine"
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        session = pool.lease(interpreter.request(elsewhere, "once"))
        assert loaded(session, "once", "twice") == [True, True]


def test_trees_that_are_no_longer_used_are_ended(interpreter: Interpreter, tmp_path: Path) -> None:
    source = ForkSource()
    with KernelPool(managed=source, spare=0) as pool:
        zygotes = []
        for seed in range(7):
            session = pool.lease(interpreter.request(tmp_path, PYTHONHASHSEED=str(seed)))
            zygotes += tree_of(source)[0][-1:]
            if seed:
                pool.retire(session)
            else:
                first = session
        assert [process_alive(pid) for pid in zygotes] == [False] * 3 + [True] * 4
        assert printed(first, "1 + 1") == 2  # a kernel in use lives on
        assert len(source._retired) <= 2


def test_a_lease_can_be_cancelled_while_an_import_hangs(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    (interpreter.site / "stuck.py").write_text("import time; time.sleep(600)\n")
    others = set(psutil.Process().children(recursive=True))
    pool = KernelPool()
    began = time.monotonic()
    with pytest.raises(LeaseCancelled):
        pool.lease(interpreter.request(tmp_path, "stuck"), lambda: time.monotonic() > began + 1)
    assert 1 < time.monotonic() - began < 5
    pool.close()
    assert time.monotonic() - began < 10
    assert wait_until(lambda: set(psutil.Process().children(recursive=True)) <= others)


def test_ctrl_c_while_an_import_hangs(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conductor is free again at once, not after the 30 s that an import may take."""
    mark = tmp_path / "importing"
    (interpreter.site / "stuck_again.py").write_text(
        f"import time\nopen({str(mark)!r}, 'w').close()\ntime.sleep(600)\n"
    )
    kernels = tmp_path / "share" / "kernels" / "other"
    kernels.mkdir(parents=True)
    argv = [interpreter.spec.argv[0], "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Other", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    project = Project(tmp_path)
    (tmp_path / "flow").mkdir()
    project.write("hang", "import stuck_again")
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from ductaflow import run_step_flow\n"
        "try: run_step_flow('hang', 'a', {}, kernel_name='other')\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    conductor = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert conductor.stdout is not None
    with conductor.stdout:
        assert wait_until(mark.exists)
        began = time.monotonic()
        conductor.send_signal(signal.SIGINT)
        assert conductor.stdout.read() == "interrupted\n"
    assert conductor.wait() == 0
    assert time.monotonic() - began < 15
    record = json.loads((tmp_path / "runs" / "hang" / "a" / "run.json").read_text())
    assert record["status"] == "interrupted"


def test_kernels_end_with_a_conductor_whose_own_child_lives_on(
    tmp_path: Path, scratch: dict[str, str]
) -> None:
    script = tmp_path / "conductor.py"
    script.write_text(
        "import os, sys, time\nfrom pathlib import Path\n"
        "from ductaflow_kernels.pool import KernelPool\n"
        "from ductaflow_kernels.spec import KernelRequest, own_interpreter\n"
        "pool = KernelPool()\n"
        "session = pool.lease(KernelRequest(own_interpreter(), Path.cwd(), dict(os.environ)))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    time.sleep(600)\n"
        "print(child, session.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    conductor = subprocess.Popen(
        [sys.executable, str(script)], cwd=tmp_path, env=scratch, stdout=subprocess.PIPE, text=True
    )
    assert conductor.stdout is not None
    with conductor.stdout:
        child, kernel = map(int, conductor.stdout.readline().split())
    try:
        conductor.kill()
        conductor.wait()
        assert wait_until(lambda: not process_alive(kernel))
        assert process_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_environment_set_by_the_flow_comes_before_its_imports(project: Project) -> None:
    project.write(
        "env",
        "import os; os.environ['MPLBACKEND'] = 'svg'",
        "import matplotlib",
        "print(matplotlib.get_backend())",
    )
    run_ = project.run("env")
    assert "svg" in run_.log.read_text()


def test_a_second_run_has_the_lazy_imports_of_the_first(project: Project) -> None:
    project.write(
        "lazy", "import sys; print('wave' in sys.modules)\ndef f():\n    __import__('wave')\nf()"
    )
    logs = [project.run("lazy", reuse=False).log.read_text() for _ in range(1)]
    assert wait_until(lambda: "True" in project.run("lazy", reuse=False).log.read_text())
    assert "False" in logs[0]
    project.write(
        "wary",
        "import os; os.environ['A'] = '1'",
        "import sys; print('wave' in sys.modules); __import__('wave')",
    )
    assert all("False" in project.run("wary", reuse=False).log.read_text() for _ in range(5))


def test_the_report_says_once_what_is_left_out(
    project: Project, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (interpreter.site / "noisy.py").write_text("print('noise')\n")
    kernels = project.root / "share" / "kernels" / "other"
    kernels.mkdir(parents=True)
    argv = [interpreter.spec.argv[0], "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Other", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(project.root / "share"))
    project.write("noise", "import noisy")
    first, second = (project.run("noise", kernel_name="other", reuse=False) for _ in range(2))
    assert [n.message for n in first.notes] == [
        "noisy is not imported in advance: prints when it is imported"
    ]
    assert second.notes == ()
    assert "noise" in first.log.read_text()


LIBRARIES = {
    "numpy": "import numpy as np; a = np.random.rand(300, 300); print((a @ a).shape)",
    "pandas": "import pandas as pd; print(pd.DataFrame({'a': [1, 2]}).groupby('a').size().sum())",
    "matplotlib": "import matplotlib.pyplot as plt; plt.plot([1]); plt.savefig('f.png'); print(1)",
    "pyarrow": "import pyarrow as pa, pyarrow.parquet as pq\n"
    "pq.write_table(pa.table({'a': list(range(10**5))}), 'f.parquet')\n"
    "print(pq.read_table('f.parquet').num_rows)",
    "polars": "import polars as pl\n"
    "print(pl.DataFrame({'a': range(10**5)}).lazy().select(pl.col('a').sum()).collect().item())",
    "duckdb": "import duckdb\n"
    "print(duckdb.sql('select sum(i) from range(100000) t(i)').fetchall())",
    "sklearn": "from sklearn.ensemble import RandomForestClassifier\nimport numpy as np\n"
    "x = np.random.rand(200, 3); y = x[:, 0] > .5\n"
    "print(RandomForestClassifier(8, n_jobs=2).fit(x, y).score(x, y) > .5)",
    "torch": "import torch; a = torch.rand(300, 300); print((a @ a).shape)",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_work_in_forked_kernels(name: str, project: Project) -> None:
    """Imported in the template, used in two children, one after the other and both at once."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    project.write("use", LIBRARIES[name])
    from ductaflow import run_step_flow

    runs = [run_step_flow("use", f"i{n}", {}, timeout=60) for n in range(2)]
    threads = [
        threading.Thread(
            target=lambda n=n: runs.append(run_step_flow("use", f"t{n}", {}, timeout=60))
        )
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.record.kernel["source"] for r in runs] == ["forked"] * 4
    assert [n for r in runs for n in r.notes] == []


def test_matplotlib_comes_as_if_it_had_never_drawn(project: Project) -> None:
    """Its fonts are loaded ahead, by a figure that nobody can find."""
    project.write(
        "draw",
        "import json, matplotlib, matplotlib.pyplot as plt",
        "from matplotlib import _pylab_helpers\n"
        "seen = [plt.get_fignums(), len(_pylab_helpers.Gcf.figs), plt.get_backend(),\n"
        "        {k: str(v) for k, v in matplotlib.rcParams.items()}]\n"
        "with open('seen.json', 'w') as file: json.dump(seen, file)",
    )
    seen = [
        json.loads((project.run("draw", preload=ahead).dir / "seen.json").read_text())
        for ahead in (True, False)
    ]
    assert seen[0] == seen[1]
    assert seen[0][:2] == [[], 0]


def test_the_inline_backend_is_imported_by_the_flow_without_a_file(project: Project) -> None:
    """It acts on the shell when it is imported, so only its code is read ahead."""
    project.write(
        "draw",
        "import sys; print('ahead:', 'matplotlib_inline' in sys.modules)\n"
        "def hook(event, args, opened=(opened := [])):\n"
        "    if event == 'open' and 'matplotlib_inline' in str(args[0]): opened.append(args)\n"
        "sys.addaudithook(hook)",
        "import matplotlib.pyplot as plt; plt.plot([1, 2])",
        "import importlib, matplotlib_inline.backend_inline as backend\n"
        "print('opened:', opened)\n"
        "print('same:', importlib.reload(backend).__file__ == backend.__spec__.origin)\n"
        "print('reopened:', len(opened) > 0)",
    )
    run_ = project.run("draw")
    log = run_.log.read_text()
    for told in ("ahead: False", "opened: []", "same: True", "reopened: True"):
        assert f"stdout    {told}\n" in log
    assert "image/png" in run_.notebook.read_text()


def test_a_project_path_put_first_has_its_own_inline_backend(project: Project) -> None:
    (project.root / "code").mkdir()
    (project.root / "code" / "matplotlib_inline.py").write_text("mine = True\n")
    project.write(
        "own",
        "import sys, matplotlib.pyplot",
        "sys.path.insert(0, '../../../code')",
        "import matplotlib_inline; print('own:', matplotlib_inline.mine)",
    )
    assert "own: True" in project.run("own").log.read_text()


def test_the_first_kernel_does_not_wait_for_what_helps_the_later_ones(tmp_path: Path) -> None:
    """A figure is drawn ahead once there has been a first one."""
    request = KernelRequest(own_interpreter(), tmp_path, dict(os.environ), ("matplotlib.pyplot",))
    source = ForkSource()
    with KernelPool(managed=source, spare=0) as pool:

        def has_drawn() -> bool:
            session = pool.lease(request)
            pyplot, agg = loaded(session, "matplotlib.pyplot", "matplotlib.backends.backend_agg")
            assert pyplot
            assert printed(session, "__import__('gc').isenabled()")
            assert printed(session, "__import__('gc').get_freeze_count() > 1000")
            pool.retire(session)
            return agg

        assert not has_drawn()
        assert wait_until(has_drawn)  # the template does so while the first kernel is in use
        assert has_drawn()
        _, templates = tree_of(source)
        assert len(templates) == 1


def test_what_a_traceback_imports_is_not_the_flows(project: Project) -> None:
    project.write(
        "oops",
        '# %% tags=["raises-exception"]\n'
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()\n",
    )
    runs = [project.run("oops", reuse=False).record for _ in range(2)]
    assert [record.packages for record in runs] == [{}, {}]


def test_what_a_shell_command_imports_is_not_another_flows(project: Project) -> None:
    project.write("shell", "!echo shell")
    project.write("plain", "print(1)")
    for _ in range(3):
        project.run("shell", force=True)
    for _ in range(3):
        record = project.run("plain", force=True).record
        assert (record.packages, record.inputs) == ({}, ())


def test_a_template_killed_before_its_second_kernel_is_replaced(tmp_path: Path) -> None:
    request = KernelRequest(own_interpreter(), tmp_path, dict(os.environ))
    source = ForkSource()
    with KernelPool(managed=source, spare=0) as pool:
        pool.retire(pool.lease(request))
        _, (template,) = tree_of(source)
        os.kill(template, signal.SIGKILL)
        assert printed(pool.lease(request), "1 + 1") == 2
        assert tree_of(source)[1] != [template]


def test_polars_is_never_imported_ahead(project: Project) -> None:
    """Its import starts native threads: a fork after it hangs (seen with polars 2.0 on 3.10)."""
    pytest.importorskip("polars")
    project.write(
        "pola", "import polars, sys", "print(polars.DataFrame({'a': [1]}).lazy().collect())"
    )
    project.write(
        "look", "import sys; print('loaded', 'polars' in sys.modules)\ndef f(): import polars"
    )
    for _ in range(4):
        assert project.run("pola", timeout=30).ok
    assert "loaded False" in project.run("look").log.read_text()


def test_a_project_path_put_first_keeps_its_modules(project: Project) -> None:
    (project.root / "code").mkdir()
    (project.root / "code" / "sched.py").write_text("mine = True\n")
    project.write(
        "path", "import sys; sys.path.insert(0, '../../../code')", "import sched; print(sched.mine)"
    )
    assert project.run("path").ok


def test_a_path_changed_behind_the_flows_back_finds_what_it_would(project: Project) -> None:
    """By a helper, or by another working directory; what the flow has imported already stays."""
    code = project.root / "code"
    (code / "more").mkdir(parents=True)
    (code / "bootstrap.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "def begin(): sys.path.insert(0, str(Path(__file__).with_name('more')))\n"
    )
    for name in ("sched", "cycler", "timeit"):
        (code / "more" / f"{name}.py").write_text("mine = True\n")
    project.write(
        "behind",
        "import os, timeit; os.chdir('../../../code')",
        "import bootstrap; bootstrap.begin()",
        "import sched, timeit; print(sched.mine, hasattr(timeit, 'mine'))",
    )
    project.write("away", "import os; os.chdir('../../../code/more')", "import cycler; cycler.mine")
    for _ in range(2):
        assert "True False" in project.run("behind").log.read_text()
        assert project.run("away").ok


def test_numpy_draws_differ_and_seeds_reproduce(project: Project) -> None:
    project.write(
        "draw",
        "import random, numpy as np",
        "print(random.random(), np.random.rand(), np.random.default_rng().random())",
        "np.random.seed(1); random.seed(1); print(np.random.rand(), random.random())",
    )
    logs = [project.run("draw", reuse=False).log.read_text() for _ in range(3)]
    lines = [[x.split("stdout")[1] for x in log.splitlines() if "stdout" in x] for log in logs]
    for column in zip(*(line[0].split() for line in lines), strict=True):
        assert len(set(column)) == 3
    assert len({line[1] for line in lines}) == 1


def test_numerical_threads_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    ask = "__import__('os').environ.get('OMP_NUM_THREADS')"
    env = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
    request = KernelRequest(own_interpreter(), tmp_path, env)
    with KernelPool(spare=0) as pool:
        first = pool.lease(request)
        assert printed(first, ask) is None
        assert printed(pool.lease(request), ask) == "4"
        theirs = attrs.evolve(request, env={**env, "OMP_NUM_THREADS": "3"})
        assert printed(pool.lease(theirs), ask) == "3"
    with KernelPool(spare=0, workers=16) as pool:
        assert printed(pool.lease(request), ask) == "1"


# --- the tree under attack ---------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["zygote", "template", "both"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_branch_that_is_killed_or_stuck_is_replaced(
    interpreter: Interpreter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
    how: signal.Signals,
) -> None:
    monkeypatch.setattr(ductaflow_kernels.sources.tree, "ANSWER_TIMEOUT", 1.0)
    source = ForkSource()
    with KernelPool(managed=source, spare=0) as pool:
        in_use = pool.lease(interpreter.request(tmp_path))
        zygotes, templates = tree_of(source)
        victims = {"zygote": zygotes, "template": templates, "both": zygotes + templates}[victim]
        for pid in victims:
            os.kill(pid, how)
        session = pool.lease(interpreter.request(tmp_path))
        assert printed(session, "1 + 1") == 2
        assert printed(in_use, "2 + 2") == 4  # a kernel in use lives on
        third = pool.lease(interpreter.request(tmp_path, "json"))
        assert printed(third, "3 + 3") == 6
    for pid in (*zygotes, *templates, in_use.process.pid, session.process.pid):
        assert wait_until(lambda pid=pid: not process_alive(pid)), pid


def test_a_zygote_killed_while_it_starts(interpreter: Interpreter, tmp_path: Path) -> None:
    """Whatever moment it is, there is a kernel in the end."""
    for delay in (0.0, 0.05, 0.2, 0.5):
        with KernelPool(spare=0) as pool:
            stop = threading.Event()

            def kill(delay: float = delay, stop: threading.Event = stop) -> None:
                me = psutil.Process()
                while not stop.is_set():
                    time.sleep(delay)
                    for child in me.children():
                        with contextlib.suppress(psutil.Error):
                            if "zygote" in child.cmdline():
                                child.kill()
                                return

            killer = threading.Thread(target=kill)
            killer.start()
            session = pool.lease(interpreter.request(tmp_path))
            assert printed(session, "1 + 1") == 2
            stop.set()
            killer.join()


def test_many_leases_leak_nothing(tmp_path: Path) -> None:
    source = ForkSource()
    me = psutil.Process()
    with KernelPool(managed=source) as pool:
        request = KernelRequest(own_interpreter(), tmp_path, dict(os.environ))

        def use() -> None:
            session = pool.lease(request)
            assert printed(session, "1") == 1
            pool.retire(session)

        for _ in range(5):
            use()
        zygotes, templates = tree_of(source)
        tree = [psutil.Process(pid) for pid in zygotes + templates]
        assert wait_until(lambda: pool.idle() == 2 and len(tree[-1].children()) == 2)
        before = [me.num_fds(), *(p.num_fds() for p in tree)]
        home = next(iter(pool._shelves.values())).ready[0].connection.folder.parent
        folders = len(list(home.iterdir()))
        for _ in range(40):
            use()
        assert wait_until(lambda: pool.idle() == 2)
        assert wait_until(lambda: len(tree[-1].children()) == 2)

        def as_before() -> bool:  # once what was retired is closed
            after = [me.num_fds(), *(p.num_fds() for p in tree)]
            return all(a <= b + 2 for a, b in zip(after, before, strict=True))

        assert wait_until(as_before)
        assert wait_until(lambda: len(list(home.iterdir())) <= folders)


def test_a_fork_bomb_in_a_flow_is_ended_with_its_kernel(tmp_path: Path) -> None:
    with KernelPool(spare=0) as pool:
        session = pool.lease(KernelRequest(own_interpreter(), tmp_path, dict(os.environ)))
        children = printed(
            session,
            "[__import__('subprocess').Popen(['sh', '-c', 'sleep 60 & sleep 60']).pid "
            "for _ in range(20)]",
        )
        assert isinstance(children, list)
        group = [p.pid for p in psutil.process_iter() if _group(p.pid) == session.process.pid]
        assert len(group) > 40
        pool.retire(session)
        assert wait_until(lambda: not any(map(process_alive, group)))


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_with_a_read_only_home_and_a_long_path(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        os.chmod(base, 0o755)
        home = Path(base) / "home"
        home.mkdir(mode=0o555)
        project = Path(base) / ("long" * 30) / ("er" * 60)
        (project / "flow").mkdir(parents=True)
        (project / "flow" / "who.py").write_text(
            '# %% tags=["parameters"]\nconfig = {}\n\n# %%\nimport os; print(os.getuid())\n'
        )
        for folder in [project, *project.parents]:
            if str(folder).startswith(base):
                os.chmod(folder, 0o777)
        script = (
            "from ductaflow import run_step_flow\n"
            "run = run_step_flow('who', 'a', {})\n"
            "print(run.status.label, run.record.kernel['source'])\n"
        )
        # May read what root's interpreter is made of, but write nowhere that others cannot.
        become = [
            "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search",
            "--bounding-set=-all,+dac_read_search",
        ]  # fmt: skip
        look = [*become, sys.executable, "-c", "import wave, zmq, ductaflow.execution.conductor"]
        if not shutil.which("setpriv") or subprocess.run(look, cwd="/", check=False).returncode:
            pytest.skip("there is no setpriv, or it may not do this")
        env = {**os.environ, "HOME": str(home), "TMPDIR": "/tmp"}
        done = subprocess.run(
            [*become, sys.executable, "-c", script],
            cwd=project,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.stdout == "succeeded forked\n", done.stderr
