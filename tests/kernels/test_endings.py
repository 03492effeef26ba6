"""How a run ends: what it still writes and says, exits, tracebacks, and what cannot end."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from conftest import Project
from ductaflow_kernels import pool
from ductaflow_kernels.pool import KernelPool, close_shared_pool
from kernel_client import SOURCES

from ductaflow import CellFailed, KernelFailed, Run, RunFailed, Status
from ductaflow.execution import finish, runner


@pytest.fixture(scope="module", params=[n for n in SOURCES if n != "cold"], autouse=True)
def source(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here is run on forked and on pre-spawned kernels."""
    close_shared_pool()
    with (
        KernelPool(managed=SOURCES[request.param]()) as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(pool, "_shared", (os.getpid(), made))
        yield request.param


def outputs(run: Run) -> list[str]:
    """What each cell shows: texts, or the name of an error."""
    cells = nbformat.read(run.notebook, 4).cells
    return [
        "".join(o.get("text", o.get("ename", "")) for o in c.outputs)
        for c in cells
        if c.cell_type == "code"
    ]


def ran(project: Project, name: str, *cells: str) -> tuple[Run, str]:
    """A run, and what was raised for it."""
    project.write(name, *cells)
    try:
        return project.run(name, force=True), ""
    except RunFailed as e:
        return e.run, str(e)


BROKEN = """
import atexit, gc, sys, threading, types
sys.stdout.flush()  # what is large has left
sys.modules["zmq.utils.garbage"] = types.ModuleType("zmq.utils.garbage")  # half imported
class Late(threading.Thread):
    def join(self): raise ValueError("no")
    def run(self): time.sleep(.2); open("thread.txt", "w").write("kept")
import time; Late().start()
threading._register_atexit(lambda: 1 / 0)
def handler(): raise ValueError("a handler")
atexit.register(lambda: open("handler.txt", "w").write("kept"))
atexit.register(handler)
def leave(): sys.exit(7)
_ = atexit.register(leave)
class Bad:
    def __del__(self): raise KeyboardInterrupt
bad = Bad()
gc.callbacks.append(lambda *_: 1 / 0)
"""
FILES = """
import builtins, codecs, gzip, io, zipfile
class Mine(io.FileIO): pass
kept = builtins.kept = [open("text.txt", "w"), open("bytes.txt", "wb"), open("both.txt", "w+b"),
    gzip.open("zipped.gz", "wt"), codecs.open("codec.txt", "w", "utf-8"),
    io.TextIOWrapper(io.BufferedWriter(Mine("mine.txt", "w")))]
for file in kept: file.write("kept" if hasattr(file, "encoding") else b"kept")
kept.append(zipfile.ZipFile("archive.zip", "w")); kept[-1].writestr("a", "kept")
"""
LARGE = "from IPython.display import HTML\ndisplay(HTML('<b>' + 'x' * 200_000 + '</b>'))"


def test_each_step_of_the_end_is_made(project: Project) -> None:
    """Whatever the others raise; a large message is still on its way when the end begins."""
    run, _ = ran(project, "broken", FILES, "print('é' * 300_000)", LARGE, BROKEN)
    assert run.status is Status.SUCCEEDED
    for name in ("text", "bytes", "both", "codec", "mine", "thread", "handler"):
        assert (run.dir / f"{name}.txt").read_text() == "kept", name
    assert gzip.decompress((run.dir / "zipped.gz").read_bytes()) == b"kept"
    assert zipfile.ZipFile(run.dir / "archive.zip").read("a") == b"kept"
    assert outputs(run)[-3].strip() == "é" * 300_000
    said = [note.message for note in run.record.notes if note.kind == "unfinished"]
    assert any("its exit handler handler raised ValueError: a handler" in note for note in said), (
        said
    )
    assert any("executors: ZeroDivisionError" in note for note in said)
    assert not run.record.observed, "its end was not whole"
    assert run.record.packages or run.record.outputs, "but what is known of it is kept"


def test_a_large_last_word_loses_nothing(project: Project) -> None:
    """pyzmq imports its collector for it, perhaps just when the exit handlers are looked at."""
    project.write("large", "f = open('out.txt', 'w'); _ = f.write('precious')", LARGE)
    for _ in range(15):
        run = project.run("large", force=True)
        assert (run.dir / "out.txt").read_text() == "precious"
        assert (run.record.notes, run.record.observed) == ((), "native")


def test_an_audit_hook_that_raises_cannot_keep_a_run_from_its_end(project: Project) -> None:
    hook = (
        "import sys\n"
        "f = open('out.txt', 'w'); _ = f.write('kept')\n"
        "def hook(event, _):\n    if event.startswith('gc.'): raise RuntimeError('not that')\n"
        "sys.addaudithook(hook)"
    )
    run, _ = ran(project, "audited", hook)
    assert (run.dir / "out.txt").read_text() == "kept"
    assert any("its open files: RuntimeError: not that" in n.message for n in run.record.notes)
    assert not run.record.observed


def test_what_cannot_be_saved_fails_the_run(project: Project) -> None:
    """A file size limit, in place of a disk that is full."""
    run, said = ran(
        project,
        "full",
        "import resource, signal; _ = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import builtins; builtins.f = open('out.txt', 'w'); _ = f.write('x' * 500)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))",
    )
    assert run.status is Status.FAILED
    assert "could not be saved at its end: 'out.txt' (OSError" in said


def test_what_is_still_waited_for_is_shown_and_then_given_up(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that print are heard; those that do nothing are not trusted."""
    monkeypatch.setattr(finish, "IDLE_FOR", 2.0)
    project.write(
        "late",
        "import os, threading, time; print(os.environ.get('RATE'))",
        "def work():\n    end = time.process_time() + .3\n"
        "    while time.process_time() < end: pass\n"
        "    print('worked')\n"
        "threading.Thread(target=work).start()\n"
        "threading.Thread(target=time.sleep, args=(600,), name='sleeper').start()\n"
        "def say(): print('handled')\n"
        "import atexit; _ = atexit.register(say)",
    )
    monkeypatch.setenv("RATE", "1")
    run = project.run("late")
    assert outputs(run)[-1] == "worked\nhandled\n"
    assert "worked" in run.log.read_text()
    (note,) = run.record.notes
    assert "threads of the flow (sleeper) had done nothing for 2 s" in note.message
    assert "RATE" in run.record.variables
    again = project.run("late")
    assert not again.reused
    assert "its end was given up" in again.record.reasons[0].message


def test_a_handler_that_does_not_end_is_interrupted(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "IDLE_FOR", 1.0)
    wait = "import atexit, time\nf = open('out.txt', 'w'); _ = f.write('kept')\n"
    run, _ = ran(project, "stuck", wait + "_ = atexit.register(time.sleep, 600)")
    assert (run.dir / "out.txt").read_text() == "kept"
    assert any("exit handlers or open files had done nothing" in n.message for n in run.notes)
    assert not run.record.observed


# --- tracebacks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("# %run ../../../raises.py", "ZeroDivisionError"),
        ("# %run ../../../broken.py", "SyntaxError"),
        ("# %run ../../../leaves.py", "SystemExit: 3"),
        ("# %%capture\n1/0", "ZeroDivisionError"),
        ("# %time 1/0", "ZeroDivisionError"),
        ("get_ipython().run_cell('1/0')", "ZeroDivisionError"),
        ("class A:\n    def _repr_html_(self): 1/0\ndisplay(A())", "ZeroDivisionError"),
    ],
)
def test_a_traceback_on_the_page_is_a_failure(project: Project, code: str, error: str) -> None:
    (project.root / "raises.py").write_text("1/0\n")
    (project.root / "broken.py").write_text("foo bar\n")
    (project.root / "leaves.py").write_text("import sys; sys.exit(3)\n")
    run, said = ran(project, "shown", f"# %%\n{code}\n", "print('later')")
    assert run.status is Status.FAILED
    assert f"{error}" in said
    assert "in cell 2" in said
    assert "later\n" not in outputs(run)
    run, said = ran(
        project, "allowed", f'# %% tags=["raises-exception"]\n{code}\n', "print('later')"
    )
    assert run.status is Status.SUCCEEDED, said
    assert outputs(run)[-1] == "later\n"


# --- exits ----------------------------------------------------------------------------------------


EXIT_IN_A_TASK = """import asyncio, sys
async def leave(): sys.exit(5)
t = asyncio.ensure_future(leave())
while not t.done(): await asyncio.sleep(0)"""


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (EXIT_IN_A_TASK, "SystemExit: 5"),
        ("exit()", None),
        ("quit()", None),
        ("raise SystemExit", None),
        ("import sys\ndef leave(): sys.exit(0)\nleave()", None),
        ("# %%capture\nimport sys; sys.exit(None)", None),
        ("import asyncio, sys\nasync def leave(): sys.exit()\nawait asyncio.gather(leave())", None),
        ("exit(3)", "SystemExit: 3"),
        ("import sys; sys.exit('no data')", "SystemExit: no data"),
        ("import asyncio, sys\nawait asyncio.sleep(0); sys.exit(4)", "SystemExit: 4"),
    ],
)
def test_leaving_early(project: Project, code: str, failure: str | None) -> None:
    """Well without a code; with one it is a failure. Either way all that is open is written."""
    files = "import atexit; _ = atexit.register(lambda: open('ended', 'w'))\nf = open('out', 'w')"
    run, said = ran(project, "leave", files, f"# %%\n{code}\nf.write('no')\n", "open('on', 'w')")
    assert not (run.dir / "on").exists()
    assert (run.dir / "ended").exists()
    assert [cell.status for cell in run.record.cells][-1] == "aborted"
    if failure is None:
        assert run.status is Status.SUCCEEDED, said
        (note,) = run.record.notes
        assert "ended early in cell 3" in note.message
        assert "".join(outputs(run)) == ""
        assert project.run("leave").reused
    else:
        assert isinstance(runner.failure(run), CellFailed)
        assert f"{failure} in cell 3" in said


def test_an_exit_elsewhere_ends_nothing(project: Project) -> None:
    """In a thread, in a script that `%run` runs, where an exception may be."""
    (project.root / "leaves.py").write_text("import sys; sys.exit()\n")
    run, said = ran(
        project,
        "stay",
        "import sys, threading; t = threading.Thread(target=sys.exit); t.start(); t.join()",
        "# %%\n# %run ../../../leaves.py\n",
        '# %% tags=["raises-exception"]\nsys.exit()\n',
        "print('later')",
    )
    assert run.status is Status.SUCCEEDED, said
    assert outputs(run)[-1] == "later\n"


# --- below Python ---------------------------------------------------------------------------------


def test_what_is_written_to_descriptors_is_shown_where_it_was_written(project: Project) -> None:
    run, _ = ran(
        project,
        "low",
        "import os, sys; print('a'); _ = os.write(1, b'b\\n'); print('c')\n"
        "_ = os.write(sys.stdout.fileno(), b'd\\n'); print('e')",
        "import subprocess\n_ = subprocess.run('echo child >&2', shell=True, stderr=sys.stderr)",
        "_ = subprocess.run(['echo', 'inherited'])",
        "import ctypes; _ = ctypes.CDLL(None).printf(b'from C')",
        "_ = os.write(2, 'é'.encode()[:1]); _ = os.write(2, 'é'.encode()[1:])",
        "import faulthandler; faulthandler.dump_traceback(sys.stderr)",
        "_ = subprocess.run('yes 123456789 | head -n 300000', shell=True)",
        # With the GIL held nobody in the kernel can read what is more than a pipe holds.
        "_ = ctypes.PyDLL(None).write(1, b'y' * 200_000, 200_000)",
    )
    shown = outputs(run)[-8:]
    assert shown[:5] == ["a\nb\nc\nd\ne\n", "child\n", "inherited\n", "from C", "é"]
    assert "most recent call first" in shown[5]
    assert shown[6] == "123456789\n" * 300_000
    assert shown[7] == "y" * 200_000
    log = run.log.read_text()
    assert all(word in log for word in ("child", "inherited", "from C", "é", "123456789"))


def test_threads_print_while_others_write_to_descriptors(project: Project) -> None:
    """Each looks whether something was written below Python, and the kernel itself does."""
    run, _ = ran(
        project,
        "threads",
        "import os, sys, threading\nfailed = []\n"
        "def say(n):\n    try:\n        for _ in range(2000):\n"
        "            sys.stdout.write(f'{n}\\n')\n"
        "            _ == n and os.write(1, b'below\\n')\n"
        "    except BaseException as e:\n        failed.append(e)\n"
        "threads = [threading.Thread(target=say, args=[n]) for n in range(4)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()",
        "print(failed)",
    )
    shown = outputs(run)
    assert shown[-1] == "[]\n"
    assert "".join(shown[:-1]).count("below\n") == 4
    for n in range(4):
        assert "".join(shown[:-1]).splitlines().count(str(n)) == 2000


def test_what_a_crash_says_is_not_lost(project: Project) -> None:
    project.write(
        "crash",
        "import ctypes, faulthandler, os; faulthandler.enable(); print('before', flush=True)",
        "_ = os.write(1, b'last words\\n'); ctypes.string_at(0)",
    )
    with pytest.raises(KernelFailed, match=r"SIGSEGV; .*during cell 3") as caught:
        project.run("crash")
    run = caught.value.run
    assert [cell.status for cell in run.record.cells[:-1]] == ["ok"] * (len(run.record.cells) - 1)
    assert run.record.cells[-1].status == "died"
    assert "last words\n" in "".join(outputs(run))
    assert "Fatal Python error: Segmentation fault" in "".join(outputs(run))
    assert "Fatal Python error: Segmentation fault" in run.log.read_text()
    assert json.loads((Path(run.dir) / "run.json").read_text())["status"] == "died"


@pytest.mark.parametrize(
    "said",
    [
        "print('last words', flush=True)",
        "from IPython.display import display; display({'text/plain': 'last words'}, raw=True)",
        "_ = os.write(1, b'last words\\n'); time.sleep(.0052)",  # it is being read
    ],
    ids=["printed", "displayed", "below"],
)
def test_what_was_published_outlives_its_kernel(project: Project, said: str) -> None:
    project.write(
        "killed", "import os, signal, time", said + "\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(10):
        with pytest.raises(KernelFailed) as caught:
            project.run("killed", force=True)
        (shown,) = nbformat.read(caught.value.run.notebook, 4).cells[-1].outputs[:1]
        assert "last words" in str(shown)
