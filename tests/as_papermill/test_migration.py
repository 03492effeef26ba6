"""What earlier conductors call, what papermill's and scrapbook's readers look for."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import Project

import ductaflow
from ductaflow import (
    CellFailed,
    FlowError,
    analyze_execution_logs,
    convert_notebook_to_html,
    generate_config_markdown,
    run_notebook,
    run_step_flow,
    setup_conductor_logging,
    setup_execution_logging,
    sweep,
    unpack_config,
)
from ductaflow.cli.main import main

# --- where the notebook goes, where it runs, what is seen of it -----------------------------------


def test_cwd_and_output_are_the_callers(project: Project) -> None:
    project.write("f", "import os; print(region, os.path.basename(os.getcwd()))", "open('x', 'w')")
    for region in ("north", "south"):
        run = run_notebook("f", {"region": region}, cwd="work", output=f"out/{region}.ipynb")
        assert run.notebook == project.root / f"out/{region}.ipynb"
        assert f"{region} work" in run.log.read_text()
        assert run.config == {"region": region}
        assert run.html.is_file()
    assert sorted(p.name for p in (project.root / "work").iterdir()) == ["x"]
    kinds = ("ipynb", "html", "log", "config.json", "run.json")
    shown = {p.name for p in (project.root / "out").iterdir() if p.name[0] != "."}
    assert shown == {f"{region}.{kind}" for region in ("north", "south") for kind in kinds}


def test_output_must_be_a_notebook(project: Project) -> None:
    project.write("f", "1")
    with pytest.raises(FlowError, match=r"file \*\.ipynb"):
        run_notebook("f", {}, output="out/f.html")
    (project.root / "d.ipynb").mkdir()
    with pytest.raises(FlowError, match=r"file \*\.ipynb"):
        run_notebook("f", {}, output="d.ipynb")
    with pytest.raises(TypeError, match="takes one notebook"):
        run_notebook()


def test_the_earlier_names_of_arguments(project: Project) -> None:
    (project.root / "builds").mkdir()
    project.write("f", "print(x)").rename(project.root / "builds" / "shell.py")
    run = run_notebook(
        notebook_file="shell.py", notebooks_dir="builds", config={"x": 1},
        output_suffix="_executed", execution_dir="runs/builds/a", kernel_name="python3",
        timeout=None, export_html=True, project_root=project.root,
    )  # fmt: skip
    assert run.notebook == project.root / "runs/builds/a/shell_executed.ipynb"
    assert run.notebook.with_suffix(".html").is_file()
    assert run.config == {"x": 1, "_project_root": str(project.root)}
    project.write("g", "1")
    assert run_step_flow("flow/g.py", "g", "a", {}, suffix="_2").instance == "a_2"


def test_echo_prints_what_cells_print(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    project.write("f", "import sys; print('to out'); print('to err', file=sys.stderr)", "6 * 7")
    project.run("f", echo=True)
    shown = capfd.readouterr()
    assert shown.out == "to out\n42\n"
    assert shown.err == "to err\n"
    run_notebook("f", {}, execution_dir="elsewhere", echo=True)
    assert capfd.readouterr().out == "to out\n42\n"
    project.run("f", force=True)
    assert capfd.readouterr().out == ""
    assert main(["run", "f", "--echo", "--force"]) == 0
    assert capfd.readouterr().out.startswith("to out\n42\n")
    assert main(["run", "f", "--echo", "--force", "--json"]) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["status"] == "success"
    assert {"to out", "42"} <= set(shown.err.splitlines())


def test_echo_comes_while_it_runs(project: Project) -> None:
    project.write(
        "f",
        "print('first')",
        "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)",
    )
    code = "import ductaflow; ductaflow.run_step_flow('f', 'a', {}, echo=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=project.root
    ) as conductor:
        assert conductor.stdout is not None
        assert conductor.stdout.readline() == "first\n"
        (project.root / "runs/f/a/go").touch()
    assert conductor.returncode == 0


@pytest.mark.parametrize("folder", ["flow", "code"])
def test_a_module_beside_the_flow(project: Project, folder: str) -> None:
    (project.root / folder).mkdir(exist_ok=True)
    (project.root / folder / "helpers_of_mine.py").write_text("x = 1\n")
    project.write("f", "import helpers_of_mine")
    line = f'import sys; sys.path.append("../../../{folder}")'
    with pytest.raises(CellFailed) as e:
        project.run("f")
    assert str(e.value).count(line) == 1
    project.write("f", line, "import helpers_of_mine")
    assert project.run("f").ok
    project.write("f", "import nowhere_to_be_found")
    with pytest.raises(CellFailed) as e:
        project.run("f")
    assert "sys.path" not in str(e.value)


# --- helpers ------------------------------------------------------------------------------------


def test_how_runs_went_in_one_word(project: Project) -> None:
    project.write("f", "import warnings", "if x == 1: warnings.warn('w')", "assert x != 2")
    sweep("f", [{"instance": f"i{x}", "x": x} for x in range(3)], progress=False)
    runs = project.root / "runs" / "f"
    words = [analyze_execution_logs(runs / f"i{x}") for x in range(3)]
    assert words == ["success", "warning", "error"]
    assert analyze_execution_logs("runs") == "error"
    assert analyze_execution_logs("flow") == "error"


def test_config_markdown() -> None:
    text = generate_config_markdown({"a": 1, "b": {"c": Path("x")}}, "my_flow")
    assert text.startswith("## Configuration of my")
    assert "<code>c</code>" in text


@pytest.mark.parametrize("template", ["lab", "basic"])
def test_a_page_of_a_notebook(project: Project, template: str) -> None:
    project.write("f", "print('shown' * 2)")
    run = project.run("f")
    page = convert_notebook_to_html(run.notebook, "page.html", template)
    assert page == project.root / "page.html"
    assert "shownshown" in page.read_text()


def test_loggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = tmp_path / "cnd.ipynb"
    notebook.write_text("{}")
    monkeypatch.setenv("JPY_SESSION_NAME", str(notebook))
    logger = setup_execution_logging("logs/a.txt", "flow:a")
    assert setup_execution_logging("logs/a.txt", "flow:a") is logger
    logger.info("told")
    assert (tmp_path / "logs/a.txt").read_text().count("told") == 1
    conductor = setup_conductor_logging()
    conductor.info("half way", extra={"save_state": True})
    (text,) = (tmp_path / "session_outputs").glob("conductor_*.txt")
    assert "half way" in text.read_text()
    assert len(list((tmp_path / "session_outputs").glob("cnd_*_half_way.ipynb"))) == 1
    for name in ("flow:a", "conductor"):
        for handler in list(logging.getLogger(name).handlers):
            handler.close()
            logging.getLogger(name).removeHandler(handler)


def test_folders_become_paths() -> None:
    config = {"run_folder": "a", "out": {"data_dir": "b", "name": "c"}, "input_dir": None}
    flat = unpack_config(config)
    assert flat["run_folder"] == Path("a")
    assert flat["data_dir"] == Path("b")
    assert (flat["name"], flat["input_dir"]) == ("c", None)
    assert os.fspath(unpack_config({"_project_root": "/p"})["_project_root"]) == "/p"


def test_all_of_it_is_public_and_lazy() -> None:
    names = {
        "analyze_execution_logs", "convert_notebook_to_html", "generate_config_markdown",
        "setup_conductor_logging", "setup_execution_logging",
    }  # fmt: skip
    assert names <= set(ductaflow.__all__)
    for name in names:
        assert "modern way" in (getattr(ductaflow, name).__doc__ or "")


# --- readers of papermill's and scrapbook's notebooks -------------------------------------------


def test_our_notebooks_have_what_those_readers_look_for(project: Project) -> None:
    project.write(
        "f",
        "from ductaflow import record",
        "for n in range(3): record(accuracy=n / 4, name=region)\nprint('on')",
        parameters="config = {'region': 'x'}",
    )
    run = project.run("f", {"region": "north"})
    notebook = nbformat.read(run.notebook, 4)
    nbformat.validate(notebook)
    own = notebook.metadata.papermill
    assert own.parameters == {"region": "north"}
    assert own.exception is None
    assert not {"start_time", "end_time", "duration"} & set(own), "times are in one place"
    assert notebook.metadata.ductaflow.this_run.duration == run.duration
    payloads = [
        o.data["application/scrapbook.scrap.json+json"]
        for c in notebook.cells
        for o in c.get("outputs", ())
        if "application/scrapbook.scrap.json+json" in o.get("data", {})
    ]
    assert [(p.name, p.data) for p in payloads] == [("accuracy", 0.5), ("name", "north")]
    assert "scrapbook" not in run.html.read_text().partition("<body")[2]
    verified = ductaflow.verify(run)
    assert verified.ok


def test_scrapbooks_own_reader(project: Project) -> None:
    pytest.importorskip("scrapbook")
    project.write("f", "from ductaflow import record\nrecord(accuracy=0.5)")
    run = project.run("f", {"region": "north"})
    code = (
        "import sys, scrapbook; nb = scrapbook.read_notebook(sys.argv[1]); "
        "print(nb.scraps['accuracy'].data, nb.parameters)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(run.notebook)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "0.5 {'region': 'north'}\n", done.stderr
