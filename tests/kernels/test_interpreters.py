"""Kernels of other interpreters: too old ones, and versions of ipykernel that are not known yet."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import ductaflow_kernels
import ipykernel
import pytest
from conftest import Project, process_alive, wait_until
from ductaflow_kernels.errors import KernelStartError
from ductaflow_kernels.interpreters import START
from ductaflow_kernels.pool import KernelPool, close_shared_pool
from ductaflow_kernels.sources.forked import ForkSource, forking_works
from ductaflow_kernels.sources.plain import CONSEQUENCE
from ductaflow_kernels.spec import KernelSpec
from kernel_client import SOURCES, Interpreter, inside, printed

from ductaflow import KernelFailed, Run, run_step_flow, sweep
from ductaflow.execution import finish
from ductaflow.history.events import CellFinished, Event

on_linux = pytest.mark.skipif(not forking_works(), reason="Linux")


@pytest.fixture
def other(tmp_path: Path) -> Interpreter:
    """An environment with a copy of ipykernel that a test may change, and all else of ours."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    (site / "ours.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    shutil.copytree(Path(ipykernel.__file__).parent, site / "ipykernel")
    return Interpreter(KernelSpec("other", (str(folder / "bin" / "python"),)), site)


def version(interpreter: Interpreter, number: str) -> None:
    """Have its ipykernel say that it is of this version."""
    file = interpreter.site / "ipykernel" / "_version.py"
    file.write_text(file.read_text().replace(ipykernel.__version__, number))


def change(interpreter: Interpreter, module: str, old: str, new: str) -> None:
    """Change the text of one of its ipykernel's modules."""
    file = interpreter.site / "ipykernel" / f"{module}.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def kernelspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    """A kernelspec named `other` for this interpreter."""
    folder = tmp_path / "share" / "kernels" / "other"
    folder.mkdir(parents=True)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    text = json.dumps({"argv": argv, "display_name": "Other", "language": "python"})
    (folder / "kernel.json").write_text(text)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))


FLOW = "import sys, os\nprint(sys.version_info[0], config, open('../../../in.txt').read())"


def runs(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str) -> Run:
    """What comes of a flow on such a kernel, run twice; the second."""
    kernelspec(tmp_path, monkeypatch, python)
    (project.root / "in.txt").write_text("read")
    project.write("f", FLOW, parameters="config = {'a': 1}")
    found = [run_step_flow("f", "f", "i", {"a": n}, kernel_name="other") for n in (1, 1)]
    for run in found:
        assert run.ok
        assert run.log.read_text().count("3 {'a': 1} read") == 1
    return found[1]


# --- too old --------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"cold"}))
def test_an_older_ipykernel_has_plain_kernels(
    source: str, other: Interpreter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version(other, "6.4.2")
    request = other.request(tmp_path)
    with KernelPool(managed=SOURCES[source]()) as pool:
        for _ in range(2):
            session = pool.lease(request)
            assert printed(session, "__import__('ipykernel').__version__") == "6.4.2"
            assert printed(session, "__import__('os').getcwd()") == str(tmp_path)
            assert session.source == "cold"
            assert "has an ipykernel older than 6.29" in session.plain
            pool.retire(session)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        version_of = other.site / "ipykernel" / "_version.py"
        version_of.write_text(version_of.read_text().replace("6.4.2", ipykernel.__version__))
        (other.site / "installed").mkdir()  # as it changes the folder of packages
        session = pool.lease(request)
        assert (session.source, session.plain) == (source, "")


def test_one_note_says_so(
    other: Interpreter,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    version(other, "6.4.2")
    second = runs(project, tmp_path, monkeypatch, other.spec.argv[0])
    notes = [note for note in second.notes if note.kind == "kernel"]
    assert [note.message.endswith(CONSEQUENCE) for note in notes] == [True]
    assert other.spec.argv[0] in notes[0].message
    assert "warm kernels need Python 3.10 and ipykernel 6.29 or later" in notes[0].message
    assert [reason.kind for reason in second.reasons] == ["unobserved"]
    assert "its kernel was a plain one" in str(second.reasons)
    assert [record.getMessage() for record in caplog.records] == [f"{notes[0].message}."]
    if second.record.inputs:  # for lineage, as far as they are known
        assert any(fact.path == "in.txt" for fact in second.record.inputs)


def test_the_death_of_a_plain_kernel_names_its_cell(
    other: Interpreter, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version(other, "6.4.2")
    kernelspec(tmp_path, monkeypatch, other.spec.argv[0])
    project.write("f", "import os; os._exit(3)", "print('later')")
    with pytest.raises(KernelFailed, match="during cell 2") as caught:
        run_step_flow("f", "f", "a", kernel_name="other")
    statuses = [cell.status for cell in caught.value.run.record.cells]
    assert statuses[-2:] == ["died", "aborted"]


# Each happens once: the module, the line it is put after, what is put there.
LAPSES = {
    "a request is left in its socket": (
        "kernelbase",
        "        assert threading.current_thread() == self.shell_channel_thread\n",
        """
        if not hasattr(self, "missed") and any(b'"execute_request"' in bytes(p) for p in msg):
            self.missed = msg
            return
        if getattr(self, "missed", None):
            missed, self.missed = self.missed, None
            await self.shell_channel_thread_main(missed)
""",
    ),
    "a reply is left in its socket": (
        "subshell_manager",
        "    def _send_on_shell_channel(self, msg) -> None:\n",
        """
        if not hasattr(self, "missed") and any(b'"execute_reply"' in bytes(p) for p in msg):
            self.missed = msg
            return
        if getattr(self, "missed", None):
            missed, self.missed = self.missed, None
            self._send_on_shell_channel(missed)
""",
    ),
    "the end of a cell is lost": (
        "kernelbase",
        "    def _publish_status(self, status, channel, parent=None):\n",
        """
        if status == "idle" and self.get_parent().get("msg_type") == "execute_request":
            if not hasattr(self, "lost"):
                self.lost = True
                return
""",
    ),
}


# Two lapses at once, one put in and one of its own, may leave nothing that could be asked for.
loses_nothing_itself = pytest.mark.skipif(
    ipykernel.version_info[:2] < (7, 4),
    reason="this version loses more than is put into it (ipython/ipykernel#1529)",
)


@loses_nothing_itself
@pytest.mark.parametrize("lapse", LAPSES)
def test_a_plain_kernel_that_misses_a_message_is_woken(
    lapse: str,
    other: Interpreter,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version(other, "6.4.2")
    module, line, put = LAPSES[lapse]
    change(other, module, line, line + put)
    kernelspec(tmp_path, monkeypatch, other.spec.argv[0])
    project.write("f", "print('the first')", "print('the second')")
    run = run_step_flow("f", "f", "a", kernel_name="other", timeout=60)
    log = run.log.read_text()
    assert (log.count("the first"), log.count("the second")) == (1, 1)


LATE = """
        of = self.get_parent().get("msg_type")
        if status == "idle" and of == "execute_request" and not hasattr(self, "late"):
            self.late = self.get_parent()
            return
        if status == "idle" and of == "kernel_info_request" and getattr(self, "late", None):
            late, self.late = self.late, None
            self._publish_status("idle", channel, late)
"""


@loses_nothing_itself
def test_an_end_of_a_cell_that_comes_late_ends_no_other(
    other: Interpreter, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version(other, "6.4.2")
    line = "    def _publish_status(self, status, channel, parent=None):\n"
    change(other, "kernelbase", line, line + LATE)
    kernelspec(tmp_path, monkeypatch, other.spec.argv[0])
    project.write("f", *(f"import time; time.sleep(1); print({n})" for n in range(3)))
    events: list[Event] = []
    (run,) = sweep(
        "f", [{"instance": "a"}], kernel_name="other", on_event=events.append, progress=False
    )
    assert run.ok
    ended = [event.cell.number for event in events if isinstance(event, CellFinished)]
    assert ended == [1, 0, 0, 2, 3, 4]  # the inserted ones have no number


def test_a_plain_kernel_that_does_not_end_is_told_and_killed(
    other: Interpreter, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version(other, "6.4.2")
    kernelspec(tmp_path, monkeypatch, other.spec.argv[0])
    monkeypatch.setattr(finish, "IDLE_FOR", 1.0)
    project.write(
        "f", "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()"
    )
    run = run_step_flow("f", "f", "a", kernel_name="other")
    (note,) = [note for note in run.notes if note.kind == "unfinished"]
    assert "the kernel was still there" in note.message
    assert wait_until(lambda: not process_alive(run.record.kernel["pid"]))


def test_the_terminal_says_it_once(
    other: Interpreter, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version(other, "6.4.2")
    kernelspec(tmp_path, monkeypatch, other.spec.argv[0])
    (project.root / "in.txt").write_text("read")
    project.write("f", FLOW)
    (project.root / "table.csv").write_text("instance\na\nb\n")
    command = [sys.executable, "-m", "ductaflow.cli", "sweep", "f", "-t", "table.csv"]
    done = subprocess.run([*command, "--kernel", "other"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count(CONSEQUENCE)) == (0, 1), done.stderr


def test_without_ipykernel_the_error_says_how_to_get_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    kernelspec(tmp_path, monkeypatch, python)
    project.write("f", "print(1)")
    told = rf"{python} .Python 3.*. has no ipykernel; install it with `{python} -m pip install"
    with pytest.raises(Exception, match=told):
        run_step_flow("f", "f", "a", kernel_name="other")


def old_pythons() -> Iterator[str]:
    """Interpreters of this machine that are older than those whose kernels are ours."""
    for number in ("3.9", "3.8", "3.7", "3.6"):
        versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
        for python in (shutil.which(f"python{number}"), *versions.glob(f"{number}.*/bin/python")):
            code = "import sys, ssl, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
            if python is None:
                continue
            done = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
            if done.stdout.strip() == number:
                yield str(python)
                break


@pytest.mark.parametrize("number", [0, -1], ids=["newest", "oldest"])
def test_a_python_too_old_has_plain_kernels(
    number: int, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(old_pythons())
    if not found:
        pytest.skip("no Python 3.6 to 3.9 is here")
    env = tmp_path / "old"
    python = str(env / "bin" / "python")
    env_of = {**os.environ, "TMPDIR": str(tmp_path)}  # old ones leave something there
    if shutil.which("uv"):  # as pip, in a tenth of the time
        make, installer = ["--without-pip"], ["uv", "pip", "install", "-p", python]
    else:
        make, installer = [], [python, "-m", "pip", "install"]
    subprocess.run([found[number], "-m", "venv", *make, str(env)], check=True, env=env_of)
    done = subprocess.run([*installer, "-q", "ipykernel"], capture_output=True, env=env_of)
    if done.returncode:
        pytest.skip(f"ipykernel cannot be installed for {found[number]}")
    second = runs(project, tmp_path, monkeypatch, python)
    assert "is older than Python 3.10" in second.notes[-1].message
    assert second.record.environment["python"].startswith(("3.6", "3.7", "3.8", "3.9"))


@pytest.mark.parametrize("version_of", [(3, 4), (3, 6), (3, 9)])
def test_any_python_can_read_the_first_files(version_of: tuple[int, int]) -> None:
    for file in (START, START.with_name("requirements.py"), START.with_name("__init__.py")):
        ast.parse(file.read_text(), feature_version=version_of)
        for python in old_pythons():
            compiled = f"compile(open({str(file)!r}).read(), 'f', 'exec')"
            subprocess.run([python, "-c", compiled], check=True)


# --- too new --------------------------------------------------------------------------------------

RENAMED = {
    "an attribute of an object": ("iostream", "_buffer_lock", "_lock_of_buffers"),
    "a method": ("kernelbase", "_publish_status(", "_tell_status("),
    "a class": ("iostream", "BackgroundSocket", "SocketBehind"),
    "a module": ("zmqshell", "class ZMQInteractiveShell", "class ZMQShell"),
}


@on_linux
@pytest.mark.parametrize("what", [key for key in RENAMED if key != "a module"])
def test_where_a_private_name_is_gone_kernels_are_plain(
    what: str,
    other: Interpreter,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module, old, new = RENAMED[what]
    for file in (other.site / "ipykernel").glob("*.py"):
        file.write_text(file.read_text().replace(old, new))
    assert old not in (other.site / "ipykernel" / f"{module}.py").read_text()
    second = runs(project, tmp_path, monkeypatch, other.spec.argv[0])
    (note,) = [note for note in second.notes if note.kind == "kernel"]
    assert "is not known yet: it has no ipykernel." in note.message
    assert old.rstrip("(") in note.message
    assert len(caplog.records) == 1


CHANGED = {
    "as it begins to serve": ("ipkernel", "def start(self)", "def start(self, how)"),
    "before the fork": ("kernelapp", "def init_pdb(self)", "def init_pdb(self, how)"),
    "after the fork": (
        "iostream",
        "def __init__(self, io_thread",
        "def __init__(self, io_thread, how",
    ),
}


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"cold"}))
@pytest.mark.parametrize("when", CHANGED)
def test_where_a_call_has_changed_kernels_are_plain(
    when: str, source: str, other: Interpreter, tmp_path: Path
) -> None:
    """Its own callers know the new one, in the plain kernel."""
    change(other, *CHANGED[when])
    if when == "before the fork":
        change(other, "kernelapp", "self.init_pdb()", "self.init_pdb(0)")
    elif when == "as it begins to serve":
        change(other, "kernelapp", "self.kernel.start()", "self.kernel.start(0)")
    else:
        change(other, "iostream", "BackgroundSocket(self)", "BackgroundSocket(self, 1)")
    with KernelPool(managed=SOURCES[source]()) as pool:
        session = pool.lease(other.request(tmp_path))
        assert "is not known yet: TypeError: " in session.plain
        assert printed(session, "1 + 1") == 2


@on_linux
def test_a_plain_kernel_that_does_not_start_either_is_told_with_both_reasons(
    other: Interpreter, tmp_path: Path
) -> None:
    change(
        other, "kernelapp", "class IPKernelApp(", "raise ImportError('broken')\nclass IPKernelApp("
    )
    with (
        KernelPool(managed=ForkSource()) as pool,
        pytest.raises(KernelStartError, match=r"(?s)is not known yet.*did not start.*broken"),
    ):
        pool.lease(other.request(tmp_path))


# --- the table of private names -------------------------------------------------------------------

names = inside("names")
DOCUMENTED = {"_asdict", "_exit", "_value_"}
parsed = functools.cache(lambda path: ast.parse(path.read_text()))
FOREIGN = ("ipykernel", "IPython", "jupyter_client", "tornado", "traitlets", "zmq")
OURS = sorted(Path(ductaflow_kernels.__file__).parent.rglob("*.py"))


def listed() -> set[str]:
    """All names of the tables."""
    tables = (
        *(names.NAMES, names.SINCE_7, names.SINCE_7_BEFORE_3_11),
        *(names.IF_THERE, names.OF_CONDUCTORS),
    )
    return {name for table in tables for text in table.values() for name in text.split()}


def foreign_bases(tree: ast.Module) -> Iterator[tuple[ast.ClassDef, type]]:
    """Classes that are made of others', with the one that stands in the table."""
    bases = {}
    for place in (*names.NAMES, *names.SINCE_7):
        module, _, cls = place.partition(":")
        if cls and module.split(".")[0] in FOREIGN:
            bases[cls] = getattr(importlib.import_module(module), cls)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                name = "OutStream" if isinstance(base, ast.Call) else ast.unparse(base)
                name = {"stream": "OutStream"}.get(name, name).rpartition(".")[2]
                if name in bases:
                    yield node, bases[name]


def private_names(tree: ast.Module) -> set[str]:
    """Private names that are used and not defined here, and those that a foreign base has."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    own |= {n.attr for n in attributes if isinstance(n.ctx, ast.Store)}
    own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}
    used = {node.attr for node in attributes} - own
    for cls, base in foreign_bases(tree):
        inner = [node for part in cls.body for node in ast.walk(part)]
        said = {n.attr for n in inner if isinstance(n, ast.Attribute)}
        said |= {n.name for n in inner if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        used |= {name for name in said if names.knows(base, name)}
    return {name for name in used if name.startswith("_") and not name.startswith("__")}


def undocumented(tree: ast.Module) -> set[str]:
    """What is taken over from a foreign base, private or not, or imported from its modules."""
    found = set()
    for cls, base in foreign_bases(tree):
        for node in ast.walk(cls):
            supers = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "super()"
            if supers and names.knows(base, node.attr) and not node.attr.startswith("__"):
                found.add(node.attr)
    return found


def test_every_private_name_of_others_is_in_the_table() -> None:
    missing = {}
    for path in OURS:
        tree = parsed(path)
        found = (private_names(tree) | undocumented(tree)) - DOCUMENTED - listed() - own_names()
        if found:
            missing[path.name] = sorted(found)
    assert missing == {}, "add them to ductaflow_inside/names.py"


@functools.cache
def own_names() -> set[str]:
    """Attributes and functions that our modules define, for one another."""
    found: set[str] = set()
    for path in OURS:
        tree = parsed(path)
        mixed = {id(node) for cls, _ in foreign_bases(tree) for node in ast.walk(cls)}
        for node in ast.walk(tree):
            if id(node) in mixed:
                continue
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if ast.unparse(node.value) == "self":
                    found.add(node.attr)
            elif isinstance(node, ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return found


def test_the_table_is_true_here() -> None:
    for table in (names.NAMES, names.SINCE_7, names.OF_CONDUCTORS):
        assert list(names.missing_of(table)) == []


def test_the_scan_finds_a_private_name() -> None:
    text = "class A(IPKernelApp):\n    def start(self):\n        self._x._y(super().start())\n"
    assert private_names(ast.parse(text)) == {"_x", "_y"}
    text = "class A(IPKernelApp):\n    def _bind_socket(self): super().init_poller()\n"
    assert private_names(ast.parse(text)) == {"_bind_socket"}
    assert undocumented(ast.parse(text)) == {"init_poller"}


@pytest.fixture(autouse=True)
def _own_pool() -> Iterator[None]:
    """Interpreters of one test are gone in the next."""
    yield
    close_shared_pool()
