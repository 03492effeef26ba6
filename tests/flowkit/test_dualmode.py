"""Flows that are notebooks and scripts in one file, and the helpers that they import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ductaflow import (
    display_config_summary,
    is_notebook_execution,
    load_cli_config,
    run_notebook,
    run_step_flow,
    unpack_config,
)
from ductaflow.errors import ArtifactError
from ductaflow.model.records import Status
from ductaflow.plans.variables import flatten

LOADS = """\
if not is_notebook_execution():
    config = load_cli_config("default.json", "A dual flow")
vars().update(unpack_config(config, "Dual flow", locals()))
"""
WRITES = """\
import json, pathlib
pathlib.Path("out.json").write_text(json.dumps([x, inner, config.get("_project_root")]))
"""
DUAL = [
    "from ductaflow import is_notebook_execution, load_cli_config, unpack_config",
    LOADS,
    WRITES,
]
PARAMETERS = "config = {'x': 1, 'part': {'inner': 2}}"


def script(project, flow: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(flow), *args],
        cwd=project.root, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture
def dual(project):
    flow = project.write("dual", *DUAL, parameters=PARAMETERS)
    (project.root / "default.json").write_text('{"x": 5, "part": {"inner": 6}}')
    return flow


def test_a_dual_flow_runs_as_a_notebook(project, dual):
    run = run_step_flow("dual", "a", {"x": 10, "part": {"inner": 20}})
    assert json.loads((run.dir / "out.json").read_text()) == [10, 20, None]
    assert run.notes == ()
    notebook = run.notebook.read_text("utf-8")
    assert "Configuration of Dual flow" in notebook


def test_a_dual_flow_runs_as_a_script(project, dual):
    file = project.root / "c.json"
    file.write_text('{"x": 7, "part": {"inner": 8}}')
    done = script(project, dual, "--config", "c.json", "--output-dir", "runs/dual/by_hand")
    assert done.returncode == 0, done.stderr
    folder = project.root / "runs" / "dual" / "by_hand"
    assert json.loads((folder / "out.json").read_text()) == [7, 8, str(project.root)]
    seen = json.loads((folder / "config.json").read_text())
    assert seen == {"x": 7, "part": {"inner": 8}, "_project_root": str(project.root)}
    assert "part.inner = 8" in done.stdout


def test_a_script_takes_the_default_and_stays_here(project, dual):
    done = script(project, dual)
    assert done.returncode == 0, done.stderr
    assert json.loads((project.root / "out.json").read_text())[:2] == [5, 6]


def test_no_execute_sets_up_and_ends(project, dual):
    done = script(project, dual, "--output-dir", "runs/dual/b", "--no-execute")
    assert done.returncode == 0
    assert "nothing was run" in done.stderr
    assert [f.name for f in (project.root / "runs" / "dual" / "b").iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config", "none.json"], "cannot read the config none.json"),
        (["--config", "list.json"], "holds a list"),
        (["--config", "broken.json"], "cannot read the config broken.json"),
        (["--confog", "x"], "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line_says_so(project, dual, args, message):
    (project.root / "list.json").write_text("[1]")
    (project.root / "broken.json").write_text("{")
    done = script(project, dual, *args)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_default_can_be_the_config_itself(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["flow.py"])
    default = {"x": (1, 2), "_project_root": "mine"}
    assert load_cli_config(default) == {"x": [1, 2], "_project_root": "mine"}


def test_unpacking_is_ductaflows_flattening(capsys):
    config = {"a": 1, "b": {"c": 2, "a": 3, "not a name": 4}, "class": 5, "d": {"c": 6}}
    assert unpack_config(config) == flatten(config)
    assert unpack_config(config)["a"] == 1
    assert capsys.readouterr().out == ""
    names: dict[str, object] = {}
    unpack_config(config, "Name", names)
    assert names == flatten(config)
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "Configuration of Name"
    assert "  b.c = 2" in out
    assert unpack_config(None) == {}


def test_here_is_no_notebook(capsys):
    assert not is_notebook_execution()
    display_config_summary({})
    assert capsys.readouterr().out == "Configuration\n"


def test_importing_them_is_cheap():
    code = (
        "import sys; from ductaflow import is_notebook_execution, load_cli_config, unpack_config;"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"IPython", "jupytext", "nbformat", "zmq", "pandas", "yaml", "click"}
    assert not heavy & set(done.stdout.split())


# --- run_notebook -------------------------------------------------------------------------------


def test_the_project_root_is_in_the_config(project, tmp_path):
    flow = project.write("rooted", "print(_project_root)")
    run = run_notebook(flow, {}, "out", project_root=project.root)
    assert run.config == {"_project_root": str(project.root)}
    assert json.loads((run.dir / "config.json").read_text()) == run.config
    assert f"stdout    {project.root}" in run.log.read_text("utf-8")
    assert run.notes == ()


def test_no_execute_writes_config_and_notebook_and_runs_nothing(project):
    flow = project.write("later", "open('ran', 'w')", parameters="config = {'x': 1}")
    run = run_notebook(flow, {"x": 2}, "out", no_execute=True)
    assert run.status is Status.PLANNED
    assert run.config == {"x": 2}
    cells = json.loads(run.notebook.read_text("utf-8"))["cells"]
    assert any('"x": 2' in "".join(cell["source"]) for cell in cells)
    assert sorted(f.name for f in run.dir.iterdir() if f.name[0] != ".") == [
        "config.json", "later.ipynb",
    ]  # fmt: skip
    again = run_notebook(flow, {"x": 3}, "out", no_execute=True)
    assert again.config == {"x": 3}
    assert run_notebook(flow, {"x": 3}, "out", export_html=False).ok
    assert not run.html.exists()


def test_no_execute_keeps_an_executed_notebook(project):
    flow = project.write("done", "1 + 1")
    run = run_notebook(flow, {}, "out")
    before = run.notebook.read_bytes()
    with pytest.raises(ArtifactError, match="may have been executed"):
        run_notebook(flow, {"x": 1}, "out", no_execute=True)
    assert run.notebook.read_bytes() == before
    assert run.config == {}
