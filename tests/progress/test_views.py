"""What people see of one run, of lists of runs and of errors: in a terminal and in Jupyter."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from browser import Visit, chromium, visit  # noqa: F401  (fixtures)
from conftest import Project
from test_progress import Terminal, linux

from ductaflow import (
    CellFailed,
    DuctaflowError,
    SweepInterrupted,
    accept,
    collate,
    explain,
    get_all_instances,
    lineage,
    run_step_flow,
    sweep,
)
from ductaflow.progress.sweepprogress import Surface, surface

WAITING = """
import pathlib, time
while not pathlib.Path(go).exists(): time.sleep(0.02)
"""


@pytest.fixture
def slow(project: Project) -> Project:
    """A flow whose third cell waits for a file, and one that fails in a function."""
    project.write("slow", "# %% [markdown]\n# # Slow", WAITING, "1 / x", parameters="config = {}")
    project.write(
        "deep", "def inner(v):\n    return 1 / v", "def outer(v):\n    return inner(v)\n\nouter(x)"
    )
    project.write(
        "meta",
        "from ductaflow import run_step_flow",
        "for name in 'ab': run_step_flow('deep', 'deep', name, {'x': y})",
    )
    return project


def in_jupyter(folder: Path, scratch: dict[str, str], *cells: str) -> list[Any]:
    """The outputs of each cell of a notebook that is run there, on a kernel of Jupyter's own."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(notebook, folder / "conduct.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--inplace"]
    done = subprocess.run(
        [*command, "--allow-errors", "conduct.ipynb"],
        cwd=folder, env=scratch, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [cell.outputs for cell in nbformat.read(folder / "conduct.ipynb", 4).cells]


def links(page: str) -> list[str]:
    return re.findall(r'href="([^"]+)"', page)


def plain(lines: list[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


# --- one run --------------------------------------------------------------------------------------

RUN = """
from ductaflow import run_step_flow
run_step_flow("slow", "slow", "a", {"go": GO, "x": 1})
for _ in range(2): run_step_flow("deep", "deep", "a", {"x": 1})
"""


@linux
def test_a_run_on_a_terminal_says_where_it_is_and_then_where_it_lies(slow: Project) -> None:
    go = slow.root / "go"
    terminal = Terminal(RUN.replace("GO", repr(str(go))), slow.root, columns=60)
    terminal.read_until(r"▶ slow/a · cell 3 of 4 · \d+ s")
    terminal.read_until(r"▶ slow/a · cell 3 of 4 · [1-9]\d* s")  # it goes on
    go.touch()
    assert terminal.read_to_end() == 0, terminal.text
    first, _, second, empty = terminal.screen()
    report = "runs/slow/a/slow.html"
    assert re.fullmatch(rf"✓ slow/a succeeded after [\d.]+ s · {report}", first)
    assert second == "✓ deep/a succeeded, reused · runs/deep/a/deep.html"
    assert empty == ""
    shown = re.findall(r"\r([^\r\n\x1b]+)\x1b\[K", terminal.text)
    assert all(len(line) < 60 for line in shown), shown


THREADS = """
import threading
from ductaflow import run_step_flow
def one(n): run_step_flow("slow", "slow", f"t{n}", {"go": GO, "x": 1})
threads = [threading.Thread(target=one, args=(n,)) for n in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@linux
def test_runs_in_threads_share_the_line_of_a_terminal(slow: Project) -> None:
    go = slow.root / "go"
    terminal = Terminal(THREADS.replace("GO", repr(str(go))), slow.root, columns=100)
    terminal.read_until(r"▶ 3 running · slow/t\d · cell 3 of 4")
    go.touch()
    assert terminal.read_to_end() == 0, terminal.text
    *lines, empty = terminal.screen()
    assert sorted(line.split(" · ")[1] for line in lines) == [
        f"runs/slow/t{n}/slow.html" for n in range(3)
    ]
    assert empty == ""


@linux
def test_progress_false_is_quiet_on_a_terminal(slow: Project) -> None:
    (slow.root / "go").touch()
    code = RUN.replace("GO", repr(str(slow.root / "go"))).replace("1})", "1}, progress=False)")
    terminal = Terminal(code, slow.root)
    assert terminal.read_to_end() == 0
    assert terminal.text == ""


class Gone(io.StringIO):
    """A terminal whose other end is closed while the run goes on."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_ends_no_run(
    slow: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setenv("TERM", "xterm")
    assert surface() is Surface.TERMINAL
    assert slow.run("deep", {"x": 1}).ok


def test_in_a_log_a_run_is_quiet(slow: Project) -> None:
    (slow.root / "go").touch()
    code = RUN.replace("GO", repr(str(slow.root / "go")))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=slow.root, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


CHANGES = """
from jupyter_client.manager import KernelManager
import json, pathlib, sys
manager = KernelManager(kernel_name="python3", transport="ipc", ip=sys.argv[1])
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
told = []
try:
    client.wait_for_ready(60)
    request = client.execute(sys.argv[2])
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if content.get("execution_state") == "idle":
            break
        if "data" in content:
            told.append([message["msg_type"], content["data"]["text/plain"]])
            if "cell 3 of 4" in told[-1][1]:
                pathlib.Path("go").touch()
finally:
    client.stop_channels()
    manager.shutdown_kernel()
print(json.dumps(told))
"""


def changes(code: str, folder: Path, scratch: dict[str, str], sockets: Path) -> list[list[str]]:
    """What a cell of Jupyter shows as it goes on: the messages' types and texts."""
    done = subprocess.run(
        [sys.executable, "-c", CHANGES, str(sockets / "s"), code],
        cwd=folder, env=scratch, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_in_jupyter_one_output_is_brought_up_to_date(
    slow: Project, scratch: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    code = (
        f"from ductaflow import run_step_flow\nconfig = {{'go': {str(slow.root / 'go')!r}}}\n"
        "for x in range(1, 41): run_step_flow('slow', 'slow', f'i{x:02}', {**config, 'x': x})"
    )
    (kind, _), *more = changes(code, slow.root, scratch, tmp_path_factory.mktemp("k"))
    assert kind == "display_data"
    assert {kind for kind, _ in more} == {"update_display_data"}
    assert any("▶ slow/i01 · cell 3 of 4 · " in text for _, text in more)
    last = more[-1][1].splitlines()
    assert last[0] == "20 more before"
    assert [line.split()[1] for line in last[1:]] == [f"slow/i{n}" for n in range(21, 41)]


def test_in_jupyter_the_line_has_links_and_is_not_said_twice(
    slow: Project, scratch: dict[str, str]
) -> None:
    (slow.root / "go").touch()
    call = f"run_step_flow('slow', 'slow', 'a #%', {{'go': {str(slow.root / 'go')!r}, 'x': 1}})"
    threads = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(2) as pool:\n"
        "    [pool.submit(run_step_flow, 'deep', 'deep', n, {'x': 1}) for n in 'pq']"
    )
    tasks = (
        "import asyncio\nawait asyncio.gather(*(asyncio.to_thread("
        "run_step_flow, 'deep', 'deep', n, {'x': 1}) for n in 'rs'));"
    )
    moved = f"import os; os.mkdir('sub'); os.chdir('sub'); run = {call}"
    _, alone, kept, quiet, pool, gathered, elsewhere = in_jupyter(
        slow.root, scratch, "from ductaflow import run_step_flow", call, f"run = {call}",
        call.replace("1})", "1}, progress=False);"), threads, tasks, moved,
    )  # fmt: skip
    files = [f"runs/slow/a%20%23%25/slow.{kind}" for kind in ("html", "ipynb", "log")]
    cleared, result = alone
    assert cleared.data == {"text/html": "", "text/plain": ""}
    assert links(result.data["text/html"]) == files
    assert result.data["text/plain"].startswith("<Run slow/a #% ✓ succeeded, ")
    (line,) = kept
    assert line.data["text/plain"] == "✓ slow/a #% succeeded, reused"
    assert links(line.data["text/html"]) == files
    assert quiet == []
    for outputs, names in ((pool, "pq"), (gathered, "rs")):
        (together,) = outputs
        assert {line.split()[1] for line in together.data["text/plain"].splitlines()} == {
            f"deep/{name}" for name in names
        }
    assert links(elsewhere[0].data["text/html"]) == files  # from the notebook's folder


def test_a_flow_that_runs_flows_has_a_line_of_each_and_no_more(slow: Project) -> None:
    run = slow.run("meta", {"y": 1})
    notebook = nbformat.read(run.notebook, 4)
    (output,) = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    assert output.data["text/plain"] == "✓ deep/a succeeded\n✓ deep/b succeeded"
    assert links(output.data["text/html"])[0] == "../../deep/a/deep.html"
    assert (run.dir / links(output.data["text/html"])[0]).is_file()


# --- errors ---------------------------------------------------------------------------------------


def test_in_jupyter_an_error_is_the_flows_own(slow: Project, scratch: dict[str, str]) -> None:
    cells = (
        "from ductaflow import run_step_flow, sweep, explain",
        "def go():\n    run_step_flow('deep', 'deep', 'a', {'x': 0})\ngo()",
        "run_step_flow('meta', 'meta', 'a', {'y': 0})",
        "explain('nowhere', 'a')",
        "sweep('deep', [{'instance': 'q', 'x': 0}]).raise_if_failed()",
    )
    _, one, nested, refused, many = in_jupyter(slow.root, scratch, *cells)
    flow = slow.root / "flow"
    line, error = one
    assert line.data["text/plain"].startswith("✗ deep/a failed in cell 3 after ")
    text = plain(error.traceback)
    assert "----> 2     run_step_flow('deep', 'deep', 'a', {'x': 0})" in text  # their own frame
    assert text.index(f"File {flow}/deep.py:12\n") < text.index(f"File {flow}/deep.py:6, in inner")
    assert f"executed notebook: {slow.root}/runs/deep/a/deep.ipynb" in text
    assert f"report: {slow.root}/runs/deep/a/deep.html" in text
    nested_text = plain(nested[-1].traceback)
    order = [f"File {flow}/meta.py:8\n", f"File {flow}/deep.py:12\n", f"File {flow}/deep.py:6, in"]
    places = [nested_text.index(place) for place in order]
    assert places == sorted(places)
    assert nested[-1].evalue.startswith("meta/a: CellFailed: deep/a: ZeroDivisionError: ")
    texts = [text, nested_text, *(plain(outputs[-1].traceback) for outputs in (refused, many))]
    assert texts[2].endswith(f"searched {slow.root}, {slow.root}/flow")
    for each in texts:
        assert not re.search(r"ductaflow/\w+\.py", each)
        assert len(each.splitlines()) < 60


def test_a_script_sees_one_frame_of_ours(slow: Project) -> None:
    with pytest.raises(CellFailed) as caught:
        slow.run("deep", {"x": 0})
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [f.name for f in frames if f"{os.sep}ductaflow{os.sep}" in f.filename] == [
        "run_step_flow"
    ]
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    told = plain(again._render_traceback_())  # without frames and without IPython
    assert "deep.py:6, in inner(v)" in told


def test_every_error_of_ours_ends_with_the_callers_frame(slow: Project) -> None:
    def interrupt(run: Any) -> None:
        raise SweepInterrupted("cut off", run)

    def call() -> None:
        sweep("deep", [{"instance": "a", "x": 1}], progress=False, on_event=interrupt)

    for code in (call, lambda: explain("nowhere", "a")):
        with pytest.raises((DuctaflowError, SweepInterrupted)) as caught:
            code()
        *frames, message = caught.value._render_traceback_()
        assert message.startswith(f"ductaflow.errors.{caught.type.__name__}: ")
        assert Path(__file__).name in frames[-1] + frames[-2]
        assert not any(f"{os.sep}ductaflow{os.sep}updates.py" in line for line in frames)


def test_what_is_not_in_a_cell_has_no_place(slow: Project) -> None:
    slow.write("broken", "x = (")
    with pytest.raises(Exception, match="SyntaxError") as caught:
        run_step_flow("broken", "broken", "a", {})
    assert plain(caught.value._render_traceback_()).splitlines()[-1]


# --- what calls give back -------------------------------------------------------------------------


@pytest.fixture
def chain(project: Project) -> Project:
    """Three steps that read from each other, run, one of them in an instance of an odd name."""
    project.write("raw", "open('x.txt', 'w').write('1')")
    project.write(
        "mid", "text = open('../../raw/a/x.txt').read()", "open('y.txt', 'w').write(text)"
    )
    project.write("end", "open('../../mid/a/y.txt').read()", parameters="config = {'size': 1}")
    for name in ("raw", "mid", "end"):
        run_step_flow(name, name, "a", None)
    run_step_flow("raw", "raw", "b #&'%", None)
    return project


def test_what_calls_give_back_is_read_in_a_terminal(chain: Project) -> None:
    found = get_all_instances("raw")
    head, one, other = repr(found).splitlines()
    assert head == "2 runs of raw"
    assert re.fullmatch(r"  ✓ a       [\d.]+ s", one)
    assert re.fullmatch(r"  ✓ b #&'%  [\d.]+ s", other)
    assert repr(found[1:]).startswith("1 run of raw\n")
    assert repr(get_all_instances("nothing")) == "no runs"
    assert repr(lineage("end/a")).splitlines() == [
        "✓ end/a",
        "  reads from:",
        "    ✓ mid/a",
        "    ✓ raw/a, through others",
        "  is read by no other run",
    ]
    assert repr(explain("end", "a")) == "end/a would be reused: unchanged since its last run"
    chain.write("end", "open('../../mid/a/y.txt').read()\n1", parameters="config = {'size': 1}")
    assert repr(explain("end", "a", {"size": 2})) == (
        "end/a would run:\n  cell 2 changed\n  config: size was 1, is 2"
    )
    accepted = accept("end", "a")
    assert re.fullmatch(
        r"<Run end/a ✓ succeeded, [\d.]+ s, accepted without running: cell 2 changed>",
        repr(accepted),
    )
    page = collate("raw", "out")
    assert page == chain.root / "out" / "index.html"
    assert repr(page).endswith(f"({str(page)!r})")
    assert pickle.loads(pickle.dumps(page)) == page
    assert (page.parent / "index.html").read_text("utf-8") == page.read_text("utf-8")


SHOWN = (
    "from ductaflow import *",
    "import os; os.mkdir('elsewhere'); os.chdir('elsewhere')",
    "get_all_instances('raw')",
    "lineage('mid/a')",
    "explain('end', 'a', {'size': 2})",
    "open('../runs/raw/a/x.txt', 'w').write('2'); explain('mid', 'a')",
    "collate('raw')",
    "accept('mid', 'a')",
)


@pytest.mark.browser
def test_what_calls_give_back_leads_on_in_a_notebook(
    chain: Project,
    scratch: dict[str, str],
    visit: Callable[[Path], Visit],  # noqa: F811
) -> None:
    """Each as a page beside the notebook, in a browser: all links open something."""
    _, _, *shown = in_jupyter(chain.root, scratch, *SHOWN)
    texts = []
    for number, outputs in enumerate(shown):
        page = chain.root / f"cell{number}.html"
        bodies = [o.data["text/html"] for o in outputs]
        page.write_text(f"<!DOCTYPE html><meta charset=utf-8>{''.join(bodies)}", "utf-8")
        visited = visit(page)
        hrefs = visited.page.eval_on_selector_all("a", "all => all.map(a => a.href)")
        assert len(hrefs) >= 1 + (number == 3)
        for href in hrefs:
            assert Path(unquote(urlsplit(href).path)).exists(), href
        texts.append(visited.page.inner_text("body"))
        assert visited.errors == []
    runs, line, would, data, page, accepted = texts
    assert "2 runs of raw" in runs
    assert "b #&'%" in runs
    assert [line.split() for line in line.splitlines() if line] == [
        ["✓", "mid/a"], ["reads", "from:"], ["✓", "raw/a"], ["is", "read", "by:"], ["✓", "end/a"],
    ]  # fmt: skip
    assert would == "end/a would run:\nconfig: size was 1, is 2"
    assert data.startswith("mid/a would run:\n../../raw/a/x.txt changed (from raw/a, run ")
    assert page == "index.html: 2 instances"
    assert "accepted without running: ../../raw/a/x.txt changed" in accepted
