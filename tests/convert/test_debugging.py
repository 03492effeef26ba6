"""`debug_flow`: a run set up for stepping through, with nothing run and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ductaflow import CellFailed, debug_flow, run_step_flow
from ductaflow.errors import ConfigError, ConversionError


@pytest.fixture
def failed(project):
    """A run that has failed, of a flow that reads its config and its folder."""
    project.write(
        "fragile",
        "import os\nopen('out.txt', 'w').write(f'{x} {os.getcwd()}')",
        "%time z = 1\ny = 1 / x",
        parameters="config = {'x': 1}",
    )
    with pytest.raises(CellFailed) as e:
        run_step_flow("fragile", "bad", {"x": 0})
    return e.value.run


def test_it_sets_up_the_run_that_failed_and_loses_nothing(project, failed):
    before = {f.name: f.read_bytes() for f in failed.dir.iterdir()}
    folder = debug_flow("fragile", failed.dir)
    assert folder == failed.dir
    after = {f.name: f.read_bytes() for f in folder.iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"fragile_debug.ipynb", "fragile_debug.py"}
    notebook = json.loads(after["fragile_debug.ipynb"])
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    assert any('"x": 0' in source for source in sources)
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    import nbformat

    nbformat.validate(nbformat.reads(after["fragile_debug.ipynb"].decode(), as_version=4))


def test_the_script_does_what_the_run_did(project, failed):
    folder = debug_flow("fragile", failed.dir)
    (folder / "out.txt").unlink()
    done = subprocess.run(
        [sys.executable, str(folder / "fragile_debug.py")],
        cwd=project.root, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert (folder / "out.txt").read_text() == f"0 {folder}"


def test_vs_code_gets_a_configuration(project, failed):
    launch = project.root / ".vscode" / "launch.json"
    launch.parent.mkdir()
    mine = {"name": "mine", "type": "debugpy", "request": "launch"}
    launch.write_text(json.dumps({"version": "0.2.0", "configurations": [mine], "inputs": []}))
    for _ in range(2):
        debug_flow("fragile", failed.dir)
    content = json.loads(launch.read_text("utf-8"))
    assert content["inputs"] == []
    first, own = content["configurations"]
    assert first == mine
    assert own["name"] == "ductaflow: fragile/bad"
    assert own["program"] == str(failed.dir / "fragile_debug.py")
    assert own["cwd"] == str(failed.dir)
    assert own["python"] == sys.executable
    done = subprocess.run(
        [own["python"], own["program"], *own["args"]],
        cwd=own["cwd"], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "ZeroDivisionError" in done.stderr


def test_a_configuration_with_comments_is_left_alone(project, failed):
    launch = project.root / ".vscode" / "launch.json"
    launch.parent.mkdir()
    launch.write_text('{\n  // mine\n  "configurations": []\n}')
    before = launch.read_bytes()
    debug_flow("fragile", failed.dir)
    assert launch.read_bytes() == before
    own = json.loads((failed.dir / ".vscode" / "launch.json").read_text("utf-8"))
    assert own["configurations"][0]["name"] == "ductaflow: fragile/bad"


def test_a_folder_that_is_not_there_is_made(project):
    project.write("fresh", "print(x)", parameters="config = {'x': 1}")
    folder = debug_flow("flow/fresh.py", "runs/fresh/new", {"x": 5})
    assert folder == project.root / "runs" / "fresh" / "new"
    assert json.loads((folder / "config.json").read_text()) == {"x": 5}
    assert debug_flow("fresh", folder) == folder
    default = debug_flow("fresh", "runs/fresh/default")
    assert json.loads((default / "config.json").read_text()) == {"x": 1}


def test_another_config_or_an_edited_script_needs_force(project, failed):
    with pytest.raises(ConfigError, match="holds another config"):
        debug_flow("fragile", failed.dir, {"x": 3})
    assert failed.config == {"x": 0}
    debug_flow("fragile", failed.dir, {"x": 3}, force=True)
    assert failed.config == {"x": 3}
    script = failed.dir / "fragile_debug.py"
    script.write_text(script.read_text("utf-8") + "# mine\n", "utf-8")
    with pytest.raises(ConversionError, match="was edited since"):
        debug_flow("fragile", failed.dir)
    debug_flow("fragile", failed.dir, force=True)
    assert "# mine" not in script.read_text("utf-8")
    assert (failed.dir / "out.txt").exists()


def test_without_any_config_it_says_so(project):
    project.write("computed", parameters="config = dict(x=1)")
    with pytest.raises(ConfigError, match="no config was given"):
        debug_flow("computed", "runs/computed/a")
