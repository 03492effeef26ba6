"""What people see of a sweep: in a terminal, in Jupyter, in a log file."""

from __future__ import annotations

import io
import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import Project, wait_until

from ductaflow import sweep
from ductaflow.history.entries import Entry
from ductaflow.model.records import Status
from ductaflow.progress.sweepprogress import (
    LogDisplay,
    Tally,
    TerminalDisplay,
    choose_display,
    clock,
    failure_line,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="setsid is of Linux")


def entry(instance: str, status: Status = Status.SUCCEEDED, *, reused: bool = False) -> Entry:
    return Entry(0, "s", instance, "flow/f.py", "/p/runs/s/a", status, "", reused)


def tally_at_work() -> Tally:
    tally = Tally(10, 100.0)
    for name in ("a", "b", "c", "d"):
        tally.started(name, 100.0)
    tally.finished(entry("a"))
    tally.finished(entry("b", Status.FAILED))
    tally.finished(entry("e", reused=True))
    return tally


def test_the_line_says_it_all() -> None:
    line = tally_at_work().line(104.0)
    assert line == (
        "3/10 · ✓ 2 succeeded · ✗ 1 failed · 1 reused · ▶ 2 running · 2.0 s each · 14 s left · "
        "slowest: c 4 s"
    )
    assert [clock(s) for s in (0.4, 59.6, 187, 7387)] == ["0 s", "1:00", "3:07", "2:03:07"]
    assert Tally(None, 0.0).line(1.0) == "0"


def test_a_terminal_has_one_line_and_failures_above_it() -> None:
    stream = io.StringIO()
    display, tally = TerminalDisplay(stream), tally_at_work()
    display.update(tally, 104.0)
    display.say(failure_line(entry("evil\x1b[2J", Status.FAILED)))
    display.close(tally, 104.0)
    text = stream.getvalue()
    assert text.startswith("\r3/10")
    assert "\x1b[2J" not in text
    assert text.count("\n") == 2


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    stream = io.StringIO()
    for display in (TerminalDisplay(stream), LogDisplay(stream, shown=0.0)):
        stream.close()
        display.say("lost")
        display.close(tally_at_work(), 104.0)


def test_what_is_odd_about_a_config_is_said_once(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("f", "1", parameters="config = {'rows': 1}")
    sweep("f", [{"instance": name, "rowz": 2} for name in "abc"], workers=1)
    said = capsys.readouterr().err
    assert said.count("note: ") == said.count("`rowz`; is `rows` meant?") == 1


def test_a_log_has_few_lines() -> None:
    stream = io.StringIO()
    display, tally = LogDisplay(stream, shown=0.0), Tally(1000, 0.0)
    for n in range(1000):
        tally.finished(entry(f"i{n}"))
        display.update(tally, n / 50)
    display.close(tally, 20.0)
    lines = stream.getvalue().splitlines()
    assert 5 < len(lines) < 15
    assert "\r" not in stream.getvalue()
    assert lines[-1].endswith("20 s")


# --- for real -------------------------------------------------------------------------------------

SWEEP = """
from ductaflow import sweep
runs = sweep("paced", [{"instance": f"i{n}", "x": n} for n in range(8)], workers=2)
"""


@pytest.fixture
def paced(project: Project) -> Project:
    project.write(
        "paced",
        "import time; time.sleep(0.1)",
        "if x % 4 == 2: raise ValueError(f'bad {x}')",
        parameters="config = {'x': 0}",
    )
    return project


class Terminal:
    """A program on a terminal of its own, with somebody at the keyboard."""

    def __init__(self, code: str, folder: Path, columns: int = 60) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.keyboard, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-c", code],
            cwd=folder,
            stdin=end,
            stdout=end,
            stderr=end,
            env={**self._environment(), "TERM": "xterm", "PYTHON_COLORS": "0"},
        )
        os.close(end)
        self.text = ""

    @staticmethod
    def _environment() -> dict[str, str]:
        """Ours without the size of another terminal."""
        return {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}

    def read_until(self, pattern: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, self.text
            if select.select([self.keyboard], [], [], 0.1)[0]:
                self.text += os.read(self.keyboard, 1 << 16).decode(errors="replace")

    def read_to_end(self) -> int:
        while True:
            try:
                data = os.read(self.keyboard, 1 << 16)
            except OSError:  # Linux says so that nobody writes any more
                break
            self.text += data.decode(errors="replace")
        os.close(self.keyboard)
        return self.process.wait(60)

    def press_ctrl_c(self) -> None:
        os.write(self.keyboard, b"\x03")

    def screen(self) -> list[str]:
        """The lines as they stand there in the end."""
        lines = self.text.replace("\r\n", "\n").split("\n")
        return [line.rpartition("\r")[2].replace("\x1b[K", "") for line in lines]


@linux
def test_on_a_terminal(paced: Project) -> None:
    terminal = Terminal(SWEEP, paced.root)
    assert terminal.read_to_end() == 0, terminal.text
    *failures, last, empty = terminal.screen()
    told = "✗ i{0}: ValueError: bad {0} in cell 3 (flow/paced.py:8)"
    assert sorted(failures) == [told.format(n) for n in (2, 6)]
    assert re.fullmatch(r"8/8 · ✓ 6 succeeded · ✗ 2 failed · .* · \d+ s", last), last
    assert empty == ""
    shown = re.findall(r"\r([^\r\n\x1b]+)\x1b\[K", terminal.text)
    assert any("running" in line for line in shown)
    assert all(len(line) < 60 for line in shown), shown


@linux
def test_ctrl_c_once_and_twice(paced: Project) -> None:
    paced.write(
        "stubborn",
        "import time\nprint('asleep')\nwhile True:\n    try: time.sleep(600)\n"
        "    except KeyboardInterrupt: print('not me')",
        parameters="config = {'x': 0}",
    )
    terminal = Terminal(SWEEP.replace("paced", "stubborn"), paced.root)
    terminal.read_until(r"▶ 2 running")
    logs = [paced.root / f"runs/stubborn/i{n}/stubborn.log" for n in range(2)]
    assert wait_until(lambda: all("asleep" in log.read_text() for log in logs))
    terminal.press_ctrl_c()
    terminal.read_until("stopping; Ctrl-C again to kill")
    terminal.press_ctrl_c()
    assert terminal.read_to_end() == 1
    assert "SweepInterrupted: the sweep of stubborn was interrupted" in terminal.text
    assert "the same call goes on where it stopped" in terminal.text
    for log in logs:
        assert "the kernel goes on; killing it" in log.read_text()
    assert not (paced.root / "runs/stubborn/i2").exists()


def test_in_a_log_file(paced: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWEEP], cwd=paced.root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    *lines, last = done.stderr.splitlines()
    assert [line for line in lines if "bad 6 in cell 3 (flow/paced.py:8)" in line]
    assert last.startswith("8/8 · ✓ 6 succeeded · ✗ 2 failed")
    assert not re.search(r"[\r\x1b]", done.stderr)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Tty())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose_display(True), TerminalDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose_display(True), LogDisplay)


def test_in_jupyter(paced: Project) -> None:
    """A notebook of Jupyter's own, on a kernel of its own, in which a sweep is run."""
    cells = [SWEEP, "runs", "runs[0]"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(notebook, paced.root / "conduct.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--inplace"]
    done = subprocess.run(
        [*command, "conduct.ipynb"], cwd=paced.root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(paced.root / "conduct.ipynb", 4)
    (progress,), (table,), (single,) = (cell.outputs for cell in executed.cells)
    assert progress.output_type == "display_data"  # one, brought up to date
    assert progress.data["text/plain"].startswith("8/8 · ✓ 6 succeeded · ✗ 2 failed")
    assert '<progress value="8" max="8">' in progress.data["text/html"]
    assert progress.data["text/html"].count("<li>✗ i") == 2
    links = re.findall(r'href="([^"]+)"', table.data["text/html"])
    assert links[:2] == ["runs/paced/i2/paced.html", "runs/paced/i6/paced.html"]  # failed first
    assert all((paced.root / link).is_file() for link in links)
    assert len(links) == 8
    assert "✓ 6 succeeded, ✗ 2 failed" in table.data["text/plain"]
    assert 'href="runs/paced/i0/paced.html"' in single.data["text/html"]


STOPPED = """
import sys, time
from jupyter_client.manager import KernelManager
from pathlib import Path
manager = KernelManager(kernel_name="python3", transport="ipc", ip=sys.argv[1])
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
try:
    client.wait_for_ready(60)
    request = client.execute(sys.argv[2])
    while "success" not in "".join(f.read_text() for f in Path().glob("runs/*/*/run.json")):
        time.sleep(0.05)
    manager.interrupt_kernel()
    def answer(request):
        reply = {"parent_header": {}}
        while reply["parent_header"].get("msg_id") != request:
            reply = client.get_shell_msg(timeout=60)
        return reply["content"]
    print(answer(request)["ename"])
    again = "from ductaflow import get_all_instances; n = len(get_all_instances('paced'))"
    def ask():
        return answer(client.execute(again, user_expressions={"some": "0 < n < 200"}))
    while (told := ask())["status"] == "aborted":  # a kernel does so for a while after an error
        time.sleep(0.1)
    print("there are", told["user_expressions"]["some"]["data"]["text/plain"])
finally:
    client.stop_channels()
    manager.shutdown_kernel()
"""


def test_interrupted_in_jupyter(paced: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The kernel's own interrupt ends the sweep, and the kernel goes on."""
    code = SWEEP.replace("range(8)", "range(200)")
    sockets = str(tmp_path_factory.mktemp("k") / "s")
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, sockets, code],
        cwd=paced.root,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.stdout == "SweepInterrupted\nthere are True\n", done.stderr
    statuses = [json.loads(f.read_text())["status"] for f in paced.root.glob("runs/*/*/run.json")]
    assert set(statuses) <= {"success", "failed", "interrupted"}
