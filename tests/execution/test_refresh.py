"""What a reused run shows: its flow as it is written now, and what it came to as it was."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import Project

from ductaflow import (
    HtmlOptions,
    Run,
    accept,
    collate,
    explain,
    sweep,
    update,
)
from ductaflow.documents.html import fill_navigation
from ductaflow.errors import InstanceBusy
from ductaflow.execution.refresh import _make, refreshed
from ductaflow.history.lock import instance_lock
from ductaflow.history.recordfile import read_record
from ductaflow.model.thisrun import THIS_RUN, cell_times
from ductaflow.project.environment import kernel_environment
from ductaflow.reuse.interpreters import Interpreters
from ductaflow.reuse.repeat import plan_again

FLOW = """# ---
# jupyter:
#   kernelspec:
#     name: python3
#     language: python
#     display_name: Python 3
# ---

# %% [markdown]
# # The first title

# %% tags=["parameters"]
config = {"name": "world"}

# %%
from pathlib import Path
with Path("runs.txt").open("a") as file:
    _ = file.write("x")
print("hello", config.get("name"))

# %% [markdown]
# Some words.

# %%
# An expression.
from IPython.display import HTML
HTML("<b>bold &amp; brave</b>")

# %%
import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.show()
"""


@pytest.fixture
def flow(project: Project) -> Path:
    path = project.root / "flow" / "flow.py"
    path.write_text(FLOW)
    return path


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def code_cells(run: Run) -> list[dict[str, Any]]:
    """What the code cells of a notebook that show something have come to."""
    notebook = nbformat.read(run.notebook, 4)
    nbformat.validate(notebook)
    return [
        {
            "outputs": cell.outputs,
            "count": cell.execution_count,
            "times": cell_times(notebook.metadata, cell),
        }
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.execution_count
    ]


def sources(run: Run) -> list[str]:
    return [cell.source for cell in nbformat.read(run.notebook, 4).cells]


def files(run: Run) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in run.dir.iterdir() if p.name != ".ductaflow.lock"}


WORDS = (
    (
        "# # The first title",
        "# # Another title\n#\n# With *a* table.\n\n# %% [markdown]\n# ## And more",
    ),
    ("# Some words.", "# Better words."),
    ("# An expression.", "# One expression, explained."),
    ('print("hello", ', "print('hello',  # a greeting\n      "),
)


def test_edited_words_are_shown_and_nothing_runs(project: Project, flow: Path) -> None:
    first = project.run("flow", {"name": "you"})
    before, was, log = code_cells(first), first.record, first.log.read_bytes()
    edit(flow, *WORDS)
    again = project.run("flow", {"name": "you"})
    assert again.reused
    assert again.reasons == ()
    assert (first.dir / "runs.txt").read_text() == "x"
    assert code_cells(again) == before
    shown = sources(again)
    page = again.html.read_text()
    for word in ("# Another title", "## And more", "Better words.", "# One expression, explained."):
        assert any(word in source for source in shown)
    assert all("first title" not in source for source in shown)
    for word in ("Another title", "Better words.", "One expression, explained.", "<b>bold &amp;"):
        assert word in page
    assert "first title" not in page
    assert "data:image/png" in page
    assert "<code>you</code>" in page  # the table of the config
    now = again.record
    assert now == read_record(again.paths.record)
    assert (now.started, now.finished, now.duration, now.status) == (
        was.started, was.finished, was.duration, was.status,
    )  # fmt: skip
    assert again.log.read_bytes() == log
    assert [(c.status, c.started, c.duration) for c in now.cells] == [
        (c.status, c.started, c.duration) for c in was.cells
    ]
    lines = flow.read_text().splitlines()
    for cell in now.cells:
        assert cell.line is None or lines[cell.line - 2].startswith("# %%")
    # and that was that
    left = files(again)
    assert project.run("flow", {"name": "you"}).reused
    assert files(again) == left


def test_the_notebook_is_that_of_a_run(project: Project, flow: Path) -> None:
    """But for outputs and times it cannot be told from one made anew."""
    project.run("flow")
    edit(flow, *WORDS)
    old = nbformat.read(project.run("flow"), 4)
    new = nbformat.read(project.run("flow", force=True), 4)
    for notebook in (old, new):
        del notebook.metadata.ductaflow[THIS_RUN]
    assert old == new


def test_explain_and_dry_runs_leave_it_alone(project: Project, flow: Path) -> None:
    run = project.run("flow")
    before = files(run)
    edit(flow, *WORDS)
    assert explain("flow", "a", {}).reuse
    assert sweep("flow", [{"instance": "a"}], dry_run=True)[0].reused
    assert update(dry_run=True)[0].reused
    assert files(run) == before


def test_sweeps_and_updates_show_it(project: Project, flow: Path) -> None:
    rows = [{"instance": f"i{n}", "name": f"n{n}"} for n in range(4)]
    sweep("flow", rows, workers=2, progress=False).raise_if_failed()
    edit(flow, ("Some words.", "Better words."))
    runs = sweep("flow", rows, workers=2, progress=False)
    assert [run.reused for run in runs] == [True] * 4
    assert all("Better words." in sources(run) for run in runs)
    assert all("Better words." in run.html.read_text() for run in runs)
    edit(flow, ("Better words.", "The best words."))
    runs = update(progress=False)
    assert [run.reused for run in runs] == [True] * 4
    assert all("The best words." in sources(run) for run in runs)
    assert all((run.dir / "runs.txt").read_text() == "x" for run in runs)
    edit(flow, ("The best words.", "No words."))
    runs = sweep("flow", rows, progress=False, export_to=str(project.root / "out/{instance}"))
    assert all(
        "No words." in (project.root / "out" / r.instance / "flow.html").read_text() for r in runs
    )


def test_readers_of_results_stay_and_those_of_the_notebook_do_not(
    project: Project, flow: Path
) -> None:
    project.run("flow")
    project.write("result", "print(open('../../flow/a/runs.txt').read())")
    project.write("text", "print(len(open('../../flow/a/flow.ipynb').read()))")
    project.run("result")
    project.run("text")
    edit(flow, *WORDS)
    assert project.run("flow").reused
    assert project.run("result").reused
    assert not project.run("text").reused


def test_cells_of_comments_come_and_go(project: Project, flow: Path) -> None:
    first = project.run("flow")
    before = code_cells(first)
    edit(
        flow,
        (
            "# %% [markdown]\n# Some words.",
            "# %%\n# Nothing yet.\n\n# %% [markdown]\n# Some words.",
        ),
    )
    again = project.run("flow")
    assert again.reused
    assert code_cells(again) == before
    assert "# Nothing yet." in sources(again)
    edit(flow, ("# %%\n# Nothing yet.\n\n", ""))
    again = project.run("flow")
    assert again.reused
    assert code_cells(again) == before
    assert "# Nothing yet." not in sources(again)


def test_what_was_printed_after_the_last_cell_stays(project: Project) -> None:
    late = "import atexit; atexit.register(print, 'at the very end')"
    project.write("flow", late, "# a last word")
    project.run("flow")
    assert "at the very end" in str(code_cells(project.run("flow")))
    project.write("flow", late)
    again = project.run("flow")
    assert again.reused
    assert "at the very end" in str(code_cells(again))


def test_an_early_end_is_told_where_it_is_now(project: Project) -> None:
    project.write("flow", "exit()", "print(1)")
    assert project.run("flow").notes[-1].message == "ended early in cell 2: later cells did not run"
    project.write("flow", "# %% [markdown]\n# Words\n", "exit()", "print(1)")
    again = project.run("flow")
    assert again.reused
    assert again.notes[-1].message == "ended early in cell 3: later cells did not run"


def test_an_ipynb(project: Project) -> None:
    path = project.root / "flow" / "flow.ipynb"
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("config = {}", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_markdown_cell("# Before"),
        nbformat.v4.new_code_cell("1 + 1"),
    ]
    nbformat.write(notebook, path)
    before = code_cells(project.run("flow"))
    notebook.cells[1].source = "# After"
    notebook.cells[2].metadata["tags"] = ["hide-input"]
    nbformat.write(notebook, path)
    again = project.run("flow")
    assert again.reused
    assert "# After" in sources(again)
    assert code_cells(again) == before
    assert '<details class="ductaflow-folded"><summary>Code' in again.html.read_text()


# --- what is not overwritten ---------------------------------------------------------------------


def test_a_notebook_edited_by_hand_is_left_alone(project: Project, flow: Path) -> None:
    run = project.run("flow")
    notebook = nbformat.read(run.notebook, 4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("What I think of it."))
    nbformat.write(notebook, run.notebook)
    before = files(run)
    edit(flow, *WORDS)
    again = project.run("flow")
    assert again.reused
    assert files(run) == before


def test_a_notebook_that_is_gone_is_made_by_a_run(project: Project, flow: Path) -> None:
    run = project.run("flow")
    run.notebook.unlink()
    edit(flow, *WORDS)
    again = project.run("flow")
    assert not again.reused
    assert "# # Another title" not in sources(again)
    assert "# Another title" in sources(again)[1]


def test_an_accepted_change_of_code_shows_what_has_run(project: Project, flow: Path) -> None:
    run = project.run("flow")
    edit(flow, ('"hello"', '"goodbye"'), ("Some words.", "Better words."))
    accept("flow", "a")
    before = files(run)
    assert project.run("flow").reused
    assert files(run) == before


def test_an_accepted_change_of_something_else_shows_the_text(project: Project, flow: Path) -> None:
    (project.root / "data.txt").write_text("1")
    edit(flow, ("print(", 'open("../../../data.txt").read()\nprint('))
    project.run("flow")
    (project.root / "data.txt").write_text("2")
    edit(flow, ("Some words.", "Better words."))
    accept("flow", "a")
    again = project.run("flow")
    assert again.reused
    assert "Better words." in sources(again)


def test_the_report_keeps_its_looks_and_its_links(project: Project, flow: Path) -> None:
    looks = HtmlOptions(title="Client & Co", code=False)
    run = project.run("flow", html=looks)
    assert fill_navigation(run.html, previous=("earlier one", "../b/flow.html"))
    edit(flow, ("Some words.", "Better words."))
    assert project.run("flow", html=False).reused
    page = run.html.read_text()
    assert "Better words." in page
    assert "Client &amp; Co" in page
    assert "‹ earlier one" in page
    run.html.unlink()
    edit(flow, ("Better words.", "The best words."))
    assert project.run("flow", html=False).reused
    assert "The best words." in sources(run)
    assert not run.html.exists()
    again = project.run("flow", html=looks)
    assert not again.reused  # as ever: the report is not there


def test_the_page_about_many_shows_the_text(project: Project, flow: Path) -> None:
    project.run("flow")
    collate(root=project.root)
    edit(flow, ("Some words.", "Better words."))
    project.run("flow")
    collate(root=project.root)
    scripts = (project.root / "runs" / "index_files").rglob("*.js")
    assert any("Better words." in script.read_text() for script in scripts)


def test_outside_the_lines_that_a_run_has_shown_of_its_own_text_stay(project: Project) -> None:
    """Comments do not count: what was shown of them, and the lines they moved, stays as it was."""
    shows = (
        "import inspect, traceback, warnings\ndef f():\n    return 1  # old\n"
        "print(inspect.getsource(f))\nwarnings.warn('beware')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()"
    )
    project.write("flow", shows)
    before = code_cells(project.run("flow"))
    project.write("flow", "# A line more.\n" + shows.replace("# old", "# new"))
    again = project.run("flow")
    assert again.reused
    assert code_cells(again) == before
    assert "return 1  # old" in str(before)
    assert ":5: UserWarning: beware" in str(before)


def test_outside_a_module_that_has_more_shown_is_not_looked_into(project: Project) -> None:
    """A semicolon after an assignment counts only where the flow itself has that shown."""
    (project.root / "shown.py").write_text(
        "from IPython import get_ipython\n"
        "get_ipython().ast_node_interactivity = 'last_expr_or_assign'\n"
    )
    setup = "import sys; sys.path.append('../../..'); import shown"
    project.write("flow", setup, "x = 1")
    assert "'text/plain': '1'" in str(code_cells(project.run("flow")))
    project.write("flow", setup, "x = 1;")
    assert project.run("flow").reused


# --- others at work ------------------------------------------------------------------------------


def test_several_conductors_at_once(project: Project, flow: Path) -> None:
    run = project.run("flow")
    before = code_cells(run)
    edit(flow, *WORDS)
    script = "from ductaflow import run_step_flow; assert run_step_flow('flow', 'a', {}).reused"
    several = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [each.wait() for each in several] == [0] * 3
    assert code_cells(run) == before
    assert "# Another title" in sources(run)[1]
    record = read_record(run.paths.record)
    assert record is not None
    assert record.fingerprints["flow"] == hashlib.sha256(flow.read_bytes()).hexdigest()


def test_who_ran_it_meanwhile_wins(project: Project, flow: Path) -> None:
    """Between look and lock another conductor may run the instance."""
    run = project.run("flow")
    edit(flow, ("Some words.", "Better words."))
    made = _make(plan_again(run, project.root), run.record, run.paths)
    assert made is not None
    assert made.based_on(run.paths)
    project.run("flow", force=True)
    assert not made.based_on(run.paths)


def test_a_folder_in_use_is_left_alone(project: Project, flow: Path) -> None:
    run = project.run("flow")
    data = json.loads(run.paths.record.read_text())
    before = files(run)
    edit(flow, *WORDS)
    plan = plan_again(run, project.root)
    with instance_lock(run.paths):
        run.paths.record.write_text(json.dumps({**data, "status": "running"}))
        same = refreshed(plan, run, Interpreters(kernel_environment(project.root)))
        assert same is run
        run.paths.record.write_bytes(before["run.json"])
        assert files(run) == before
    assert "# Another title" in sources(project.run("flow"))[1]


def test_who_only_writes_a_few_files_is_waited_for(project: Project, flow: Path) -> None:
    run = project.run("flow")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with instance_lock(run.paths):
            held.set()
            done.wait(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with instance_lock(run.paths):
        pass
    thread.join()
    with instance_lock(run.paths):
        data = json.loads(run.paths.record.read_text())
        run.paths.record.write_text(json.dumps({**data, "status": "running"}))
        with pytest.raises(InstanceBusy), instance_lock(run.paths):
            pass


def test_a_folder_that_cannot_be_written(project: Project, flow: Path) -> None:
    run = project.run("flow")
    edit(flow, *WORDS)
    run.paths.lock.unlink(missing_ok=True)
    run.paths.lock.mkdir()
    before = {p.name: p.read_bytes() for p in run.dir.iterdir() if p.is_file()}
    assert project.run("flow").reused
    assert {p.name: p.read_bytes() for p in run.dir.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("step", ["notebook", "html"])
def test_killed_between_two_files(project: Project, flow: Path, step: str) -> None:
    """What was begun is taken up by whoever reuses the run next."""
    run = project.run("flow")
    before = code_cells(run)
    edit(flow, *WORDS)
    script = (
        "import os, signal\n"
        "from ductaflow import run_step_flow\nfrom ductaflow.files import jsonio\n"
        "write = jsonio.write_atomic\n"
        "def killed(path, data, **more):\n"
        "    write(path, data, **more)\n"
        f"    if path.suffix == {'.ipynb' if step == 'notebook' else '.html'!r}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "jsonio.write_atomic = killed\n"
        "run_step_flow('flow', 'flow', 'a', {})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    again = project.run("flow")
    assert again.reused
    assert code_cells(again) == before
    assert "Another title" in again.html.read_text()
    assert again.record.fingerprints["flow"] != run.record.fingerprints["flow"]
    left = files(again)
    assert project.run("flow").reused
    assert files(again) == left
