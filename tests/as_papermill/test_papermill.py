"""papermill's calls on our kernels: drivers moved by one changed import, and what they read."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import ductaflow.papermill as pm
from ductaflow.papermill.exceptions import PapermillMissingParameterException

HERE = "ductaflow.papermill"
MODULES = [HERE, *(["papermill"] if importlib.util.find_spec("papermill") else [])]


def written(path: Path, *sources: str, parameters: str = "a = 1\nregion = 'x'") -> Path:
    """A notebook with a parameters cell and these."""
    cells = [new_markdown_cell("# A title")]
    cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    cells += map(new_code_cell, sources)
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {
        "name": "python3", "language": "python", "display_name": "Python 3",
    }  # fmt: skip
    nbformat.write(notebook, path)
    return path


def texts(notebook: Any) -> list[str]:
    return [o.text for c in notebook.cells for o in c.get("outputs", ()) if "text" in o]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- drivers as there are, with one import changed ------------------------------------------

LOOP = """
    import os
    import {module} as pm

    os.makedirs("out", exist_ok=True)
    for region in ["north", "south"]:
        try:
            pm.execute_notebook(
                "in.ipynb", f"out/{{region}}.ipynb",
                parameters=dict(region=region, a=[1, None, True, float("inf")]),
                kernel_name="python3", progress_bar=False,
            )
        except pm.PapermillExecutionError as e:
            print(region, e.ename, e.evalue, e.cell_index, e.exec_count, e.source)
"""

POOL = """
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from pathlib import Path
    from {module} import execute_notebook

    def work(region):
        Path("out").mkdir(exist_ok=True)
        nb = execute_notebook(
            Path("in.ipynb"), "out/{{region}}.ipynb", {{"region": region}},
            cwd="work", progress_bar=False,
        )
        return nb.metadata.papermill.parameters["region"]

    if __name__ == "__main__":
        Path("work").mkdir(exist_ok=True)
        with ThreadPoolExecutor(2) as pool:
            print(sorted(pool.map(work, ["north", "east"])))
        with ProcessPoolExecutor(1) as pool:
            print(list(pool.map(work, ["west"])))
"""

TASK = """
    import logging, sys
    import {module} as pm

    class NotebookTask:
        '''A scheduler's operator: it templates its paths, runs, and hands on what to look at.'''
        def __init__(self, input_nb, output_nb, parameters):
            self.input_nb, self.output_nb, self.parameters = input_nb, output_nb, parameters

        def execute(self, context):
            for k, v in context.items():
                self.output_nb = self.output_nb.replace("<" + k + ">", v)
            pm.execute_notebook(
                self.input_nb, self.output_nb, parameters=self.parameters,
                progress_bar=False, report_mode=True, log_output=True,
                kernel_name="python3", language="python", engine_name=None,
            )
            return self.output_nb

    logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s",
                        level=logging.INFO)
    logging.getLogger("papermill").addFilter(
        lambda r: r.getMessage().strip() in ("north", "to stderr"))
    print(NotebookTask("in.ipynb", "<ds>.ipynb", {{"region": "north"}}).execute({{"ds": "2024"}}))
"""


def drive(driver: str, module: str, folder: Path) -> list[str]:
    """A driver's lines, run as a program of its own."""
    (folder / "driver.py").write_text(textwrap.dedent(driver.format(module=module)))
    done = subprocess.run(
        [sys.executable, "driver.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("module", MODULES)
def test_loop(here: Path, module: str) -> None:
    written(
        here / "in.ipynb",
        "print(region, a)",
        "assert region != 'south', 'no south'",
        "print('never in the south')",
    )
    assert drive(LOOP, module, here) == [
        "south AssertionError no south 4 4 assert region != 'south', 'no south'"
    ]
    north, south = (nbformat.read(here / f"out/{n}.ipynb", 4) for n in ("north", "south"))
    assert texts(north)[0] == "north [1, None, True, inf]\n"
    assert north.metadata.papermill.exception is None
    assert south.metadata.papermill.exception is True
    status = [c.metadata.papermill.status for c in south.cells if c.cell_type == "code"]
    assert status == ["completed", "completed", "completed", "failed", "pending"]
    assert sorted(p.name for p in (here / "out").iterdir()) == ["north.ipynb", "south.ipynb"]


def test_pool(here: Path) -> None:
    # Ours alone: papermill changes the folder of the whole process, which disturbs other threads.
    written(here / "in.ipynb", "import os; print(region, os.path.basename(os.getcwd()))")
    assert drive(POOL, HERE, here) == ["['east', 'north']", "['west']"]
    found = {p.stem: texts(nbformat.read(p, 4)) for p in (here / "out").iterdir()}
    assert found == {n: [f"{n} work\n"] for n in ("north", "east", "west")}
    assert not list((here / "work").iterdir())


@pytest.mark.parametrize("module", MODULES)
def test_task(here: Path, module: str) -> None:
    written(here / "in.ipynb", "import sys; print(region)", "print('to stderr', file=sys.stderr)")
    lines = [line for line in drive(TASK, module, here) if line]
    assert lines == ["papermill INFO north", "papermill WARNING to stderr", "2024.ipynb"]
    notebook = nbformat.read(here / "2024.ipynb", 4)
    hidden = [c.metadata.jupyter.source_hidden for c in notebook.cells if c.cell_type == "code"]
    assert all(hidden)


# --- what readers find ----------------------------------------------------------------------


def test_metadata_is_as_its_readers_expect(here: Path) -> None:
    written(here / "in.ipynb", "import time; time.sleep(0.2)", "a")
    node = pm.execute_notebook("in.ipynb", "out.ipynb", {"a": 3}, progress_bar=False)
    assert node == nbformat.read(here / "out.ipynb", 4)
    own = node.metadata.papermill
    assert own.parameters == {"a": 3}
    assert own.default_parameters == own.environment_variables == {}
    assert (own.input_path, own.output_path) == ("in.ipynb", "out.ipynb")
    assert own.start_time < own.end_time
    assert own.duration > 0.2
    assert [c.metadata.tags for c in node.cells[:3]] == [
        [], ["parameters"], ["injected-parameters"],
    ]  # fmt: skip
    assert node.cells[2].source == "# Parameters\na = 3\n"
    for cell in node.cells:
        assert cell.metadata.papermill.status == "completed"
        assert cell.metadata.papermill.exception is False
        assert cell.metadata.papermill.start_time <= cell.metadata.papermill.end_time
    assert 0.2 <= node.cells[3].metadata.papermill.duration < own.duration
    assert node.cells[4].outputs[0].data["text/plain"] == "3"


def test_a_second_run_replaces_the_parameters(here: Path) -> None:
    written(here / "in.ipynb", "print(a)")
    pm.execute_notebook("in.ipynb", "once.ipynb", {"a": 2}, progress_bar=False)
    again = pm.execute_notebook("once.ipynb", "twice.ipynb", {"a": 3}, progress_bar=False)
    assert texts(again) == ["3\n"]
    assert len(again.cells) == 4
    assert texts(pm.execute_notebook("twice.ipynb", None, progress_bar=False)) == ["3\n"]


def test_any_parameter_that_python_can_name(here: Path) -> None:
    written(here / "in.ipynb", "print(config, where, when)", parameters="config = {}")
    from datetime import date

    values = {"config": {"x": 1}, "where": Path("/data"), "when": date(2024, 1, 2)}
    node = pm.execute_notebook("in.ipynb", None, values, progress_bar=False)
    assert texts(node) == ["{'x': 1} /data 2024-01-02\n"]
    with pytest.raises(pm.PapermillException, match="not a name"):
        pm.execute_notebook("in.ipynb", None, {"not a name": 1}, progress_bar=False)


def test_without_a_parameters_cell_they_come_first(here: Path) -> None:
    node = new_notebook(cells=[new_code_cell("print(a)")])
    done = pm.execute_notebook(node, None, {"a": 7}, progress_bar=False)
    assert texts(done) == ["7\n"]
    assert done.cells[0].metadata.tags == ["injected-parameters"]
    assert not list(here.iterdir())


def test_percent_file_and_json_text(here: Path) -> None:
    (here / "flow.py").write_text('# %% tags=["parameters"]\na = 1\n# %%\nprint(a)\n')
    assert texts(pm.execute_notebook("flow.py", "flow.ipynb", {"a": 5}, progress_bar=False)) == [
        "5\n"
    ]
    text = json.dumps(nbformat.read(here / "flow.ipynb", 4)).replace("{", "{{").replace("}", "}}")
    assert texts(pm.execute_notebook(text, None, progress_bar=False)) == ["5\n"]


def test_errors_are_those_that_drivers_catch(here: Path) -> None:
    written(here / "in.ipynb", "print('before')", "x = ", "print('after')")
    with pytest.raises(pm.PapermillExecutionError) as e:
        pm.execute_notebook("in.ipynb", "out.ipynb", progress_bar=False)
    assert (e.value.ename, e.value.cell_index, e.value.source) == ("SyntaxError", 3, "x = ")
    assert "SyntaxError" in str(e.value)
    assert "\x1b" not in str(e.value)
    again = pickle.loads(pickle.dumps(e.value))
    assert vars(again) == vars(e.value)
    saved = nbformat.read(here / "out.ipynb", 4)
    assert texts(saved) == ["before\n"]
    tagged = [c for c in saved.cells if "papermill-error-cell-tag" in c.metadata.tags]
    assert len(tagged) == 2
    # a run of what failed leaves that out
    with pytest.raises(pm.PapermillExecutionError) as e:
        pm.execute_notebook("out.ipynb", "out.ipynb", progress_bar=False)
    assert e.value.cell_index == 3


def test_time_limits_and_dead_kernels(here: Path) -> None:
    written(here / "slow.ipynb", "import time; print('began', flush=True); time.sleep(600)")
    with pytest.raises(CellTimeoutError):
        pm.execute_notebook("slow.ipynb", "slow2.ipynb", progress_bar=False, execution_timeout=1)
    assert nbformat.read(here / "slow2.ipynb", 4).metadata.papermill.exception is True
    written(here / "dies.ipynb", "import os; os._exit(3)")
    with pytest.raises(DeadKernelError):
        pm.execute_notebook("dies.ipynb", "dies2.ipynb", progress_bar=False)
    with pytest.raises(DeadKernelError, match="not up"):
        pm.execute_notebook("dies.ipynb", None, progress_bar=False, start_timeout=0,
                            kernel_name="python3")  # fmt: skip


def test_leaving_early_is_no_error(here: Path) -> None:
    written(here / "in.ipynb", "import sys; sys.exit(0)", "print('not here')")
    node = pm.execute_notebook("in.ipynb", None, progress_bar=False)
    assert texts(node) == []


def test_what_is_not_ours_is_refused_by_name(here: Path) -> None:
    written(here / "in.ipynb", "1")
    with pytest.raises(pm.PapermillException, match="engine_name is 'dagster'"):
        pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="dagster")
    with pytest.raises(TypeError, match="iopub_timeout="):
        pm.execute_notebook("in.ipynb", "out.ipynb", iopub_timeout=4)
    with pytest.raises(TypeError, match=r"progress_bar must be .*'yes'"):
        pm.execute_notebook("in.ipynb", "out.ipynb", progress_bar="yes")  # type: ignore[arg-type]
    with pytest.raises(PapermillMissingParameterException, match="regoin"):
        pm.execute_notebook("in.ipynb", "{regoin}.ipynb", {"region": 1})
    with pytest.raises(FileNotFoundError):
        pm.execute_notebook("inn.ipynb", "out.ipynb")
    with pytest.raises(FileNotFoundError, match="no folder"):
        pm.execute_notebook("in.ipynb", "nowhere/out.ipynb")
    with pytest.raises(FileNotFoundError, match="cwd is"):
        pm.execute_notebook("in.ipynb", "out.ipynb", cwd="nowhere")
    assert [p.name for p in here.iterdir()] == ["in.ipynb"]


def test_prepare_only(here: Path) -> None:
    written(here / "in.ipynb", "print(a)")
    node = pm.execute_notebook("in.ipynb", "out.ipynb", {"a": 2}, prepare_only=True)
    assert node == nbformat.read(here / "out.ipynb", 4)
    assert node.metadata.papermill.parameters == {"a": 2}
    assert texts(node) == []


def test_special_files_stay_what_they_are(here: Path) -> None:
    written(here / "in.ipynb", "1")
    os.mkfifo(here / "fifo")
    with subprocess.Popen(["cat", "fifo"], stdout=subprocess.PIPE, cwd=here) as reader:
        pm.execute_notebook("in.ipynb", "fifo", progress_bar=False)
        assert nbformat.reads(reader.communicate()[0].decode(), 4).cells
    pm.execute_notebook("in.ipynb", "/dev/null", progress_bar=False)
    assert Path("/dev/null").is_char_device()
    (here / "real.ipynb").write_text("")
    (here / "link.ipynb").symlink_to("real.ipynb")
    pm.execute_notebook("in.ipynb", "link.ipynb", progress_bar=False)
    assert (here / "link.ipynb").is_symlink()
    assert nbformat.read(here / "real.ipynb", 4).cells


def test_the_file_grows_or_does_not(here: Path) -> None:
    look = "import os; print(os.path.exists('out.ipynb'))"
    written(here / "in.ipynb", "import time; time.sleep(1.5)", look)
    assert texts(
        pm.execute_notebook(
            "in.ipynb", "out.ipynb", progress_bar=False, request_save_on_cell_execute=False
        )
    ) == ["False\n"]


def test_streams_go_to_the_callers_files(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(here / "in.ipynb", "import sys; print('a\\nb'); print('c', file=sys.stderr)", "6 * 7")
    caplog.set_level(logging.INFO, "papermill")
    with (here / "out.txt").open("w") as out, (here / "err.txt").open("w") as err:
        pm.execute_notebook(
            "in.ipynb", None, {"b": 1}, progress_bar=False, log_output=True,
            stdout_file=out, stderr_file=err,
        )  # fmt: skip
    assert (here / "out.txt").read_text() == "a\nb\n"
    assert (here / "err.txt").read_text() == "c\n"
    logged = [(r.levelname, r.getMessage()) for r in caplog.records]
    for expected in [("INFO", "a"), ("INFO", "b"), ("WARNING", "c"), ("INFO", "42")]:
        assert expected in logged
    assert ("WARNING", "Passed unknown parameter: b") in logged


def test_progress(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written(here / "in.ipynb", "1", "2")
    pm.execute_notebook("in.ipynb", None, progress_bar={"desc": "Region x"})
    shown = capfd.readouterr()  # tqdm chooses by what it takes for a notebook
    assert "Region x" in shown.out + shown.err


def test_urls_through_fsspec(here: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    written(here / "in.ipynb", "print(region)", "assert region != 'south'")
    memory.pipe_file("/books/in.ipynb", (here / "in.ipynb").read_bytes())
    node = pm.execute_notebook(
        "memory://books/in.ipynb", "memory://books/{region}.ipynb", {"region": "n"},
        progress_bar=False,
    )  # fmt: skip
    assert nbformat.reads(memory.cat_file("/books/n.ipynb").decode(), 4) == node
    with pytest.raises(pm.PapermillExecutionError):
        pm.execute_notebook(
            "memory://books/in.ipynb", "memory://books/s.ipynb", {"region": "south"},
            progress_bar=False,
        )  # fmt: skip
    assert b"AssertionError" in memory.cat_file("/books/s.ipynb")
    with pytest.raises(ValueError, match="nosuch"):
        pm.execute_notebook("in.ipynb", "nosuch://x/y.ipynb", progress_bar=False)


def test_an_object_store(here: Path, bucket: str) -> None:
    import fsspec

    written(here / "in.ipynb", "print(region)")
    s3 = fsspec.filesystem("s3")
    s3.put_file(str(here / "in.ipynb"), f"{bucket}/in.ipynb")
    node = pm.execute_notebook(
        f"{bucket}/in.ipynb", bucket + "/out/{region}.ipynb", {"region": "n"}, progress_bar=False
    )
    assert texts(node) == ["n\n"]
    assert nbformat.reads(s3.cat_file(f"{bucket}/out/n.ipynb").decode(), 4) == node
    assert pm.inspect_notebook(f"{bucket}/in.ipynb")["region"]["default"] == "'x'"
    with pytest.raises(FileNotFoundError):
        pm.execute_notebook(f"{bucket}/no.ipynb", None, progress_bar=False)


def test_inspect_notebook(here: Path) -> None:
    source = (
        'a = 1  # how many\nb: float = 2.5\nc = None  # type: str # a name\nd = {"x": 1}\n'
        "def f(): ..."
    )
    written(here / "in.ipynb", "1", parameters=source)
    found = pm.inspect_notebook("in.ipynb")
    assert found == {
        "a": {"name": "a", "inferred_type_name": "None", "default": "1", "help": "how many"},
        "b": {"name": "b", "inferred_type_name": "float", "default": "2.5", "help": ""},
        "c": {"name": "c", "inferred_type_name": "str", "default": "None", "help": "a name"},
        "d": {"name": "d", "inferred_type_name": "None", "default": '{"x": 1}', "help": ""},
    }
