"""Run scripts, and files to double-click."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project, requires_posix, wait_until

from ductaflow import create_flow_bat_runner, create_flow_run_script
from ductaflow.errors import ConversionError

HARD = "d é 数 'q' $a %b%"


def execute(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "DUCTAFLOW_ROOT"}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd, env={**env, "PYTHONUTF8": "1"}, capture_output=True, encoding="utf-8",
        check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def hard(tmp_path: Path) -> Project:
    """A project in a folder whose name must be quoted, with a flow of such a name."""
    root = tmp_path / HARD
    (root / "flow").mkdir(parents=True)
    return Project(root)


# --- run scripts --------------------------------------------------------------------------------


@pytest.fixture
def script(hard: Project) -> Path:
    hard.write("add up", "open('sum.txt', 'w').write(str(x + y))\nassert x < 100",
               parameters="config = {'x': 1, 'part': {'y': 2}}")  # fmt: skip
    return create_flow_run_script(hard.root / "flow" / "add up.py", root=hard.root)


def test_a_run_script_runs_the_flow_as_an_instance(hard, script, tmp_path):
    assert script == hard.root / "flow" / "add up_run.py"
    config = tmp_path / "c.yaml"
    config.write_text("x: 10\npart: {y: 20}\n")
    done = execute(
        sys.executable, script, "--config", config, "--instance", "b", "-p", "part.y=21",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = hard.root / "runs" / "add up" / "b"
    assert (folder / "sum.txt").read_text() == "31"
    assert json.loads((folder / "run.json").read_text())["status"] == "success"
    assert str(folder / "add up.html") in done.stdout


def test_its_exit_code_is_0_only_on_success(hard, script, tmp_path):
    done = execute(sys.executable, script, "-p", "x=100", cwd=tmp_path)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert "Traceback" not in done.stderr
    record = json.loads((hard.root / "runs" / "add up" / "default" / "run.json").read_text())
    assert record["status"] == "failed"
    assert execute(sys.executable, script, "-p", "x", cwd=tmp_path).returncode == 1
    assert execute(sys.executable, script, "--unheard", cwd=tmp_path).returncode == 2
    helped = execute(sys.executable, script, "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "--instance" in helped.stdout


def test_a_run_script_is_short_and_clean(script):
    text = script.read_text("utf-8")
    assert len(text.splitlines()) < 60
    assert all(len(line) <= 100 for line in text.splitlines())
    tree = ast.parse(text)
    assert ast.get_docstring(tree) == "Run flow/add up.py as an instance of its step."
    kinds = [type(node).__name__ for node in tree.body]
    assert kinds == ["Expr", *["Import"] * 2, *["ImportFrom"] * 4, *["Assign"] * 3,
                     "FunctionDef", "If"]  # fmt: skip


def test_a_run_script_that_was_edited_stays(hard, script):
    flow = hard.root / "flow" / "add up.py"
    assert create_flow_run_script(flow, root=hard.root) == script
    script.write_text(script.read_text("utf-8") + "# mine\n", "utf-8")
    with pytest.raises(ConversionError, match="was edited since"):
        create_flow_run_script(flow, root=hard.root)
    create_flow_run_script(flow, root=hard.root, force=True)
    assert "# mine" not in script.read_text("utf-8")


def test_a_run_script_can_lie_elsewhere(hard, tmp_path):
    hard.write("one", "open('x.txt', 'w')")
    script = create_flow_run_script(
        hard.root / "flow" / "one.py", tmp_path / "bin" / "deep", root=hard.root
    )
    done = execute(sys.executable, script, "--instance", "i", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (hard.root / "runs" / "one" / "i" / "x.txt").exists()


# --- runners ------------------------------------------------------------------------------------


def temporary(project: Project) -> list[str]:
    return sorted(f.name for f in (project.root / "flow").iterdir() if "temporary" in f.name)


@pytest.fixture
def bat(hard: Project) -> Path:
    hard.write(
        "my flow",
        "import sys\nopen('x.txt', 'w').write(f'{x}{temporary}')\nprint('ran with', x)",
        "if x == 3:\n    raise SystemExit(7)\nif x == 4:\n    raise ValueError('four')",
        parameters="config = {'x': 1}\nfrom pathlib import Path\n"
        "temporary = len(list(Path(__file__).parent.glob('*temporary*.py')))",
    )
    return create_flow_bat_runner(hard.root / "flow" / "my flow.py", root=hard.root)


@requires_posix
@pytest.mark.parametrize("suffix", [".sh", ".command"])
def test_a_runner_runs_the_flow_and_cleans_up(hard, bat, tmp_path, suffix):
    runner = bat.with_suffix(suffix)
    assert os.access(runner, os.X_OK)
    done = execute(runner, "-p", "x=a b $c", "--output-dir", tmp_path / "o 'é", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ran with a b $c\n"
    assert (tmp_path / "o 'é" / "x.txt").read_text() == "a b $c1"
    assert temporary(hard) == []


@requires_posix
@pytest.mark.parametrize(("x", "code", "said"), [(3, 7, ""), (4, 1, "ValueError: four")])
def test_a_runner_passes_the_exit_code_on_and_cleans_up(hard, bat, tmp_path, x, code, said):
    done = execute(bat.with_suffix(".sh"), "-p", f"x={x}", cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert temporary(hard) == []
    default = hard.root / "runs" / "my flow" / "standalone" / "x.txt"
    assert default.read_text() == f"{x}1"


@requires_posix
@pytest.mark.parametrize(("name", "codes"), [("SIGINT", {130}), ("SIGTERM", {143})])
def test_a_runner_cleans_up_after_a_signal(hard, bat, tmp_path, name, codes):
    hard.write("my flow", "import time\nopen('began', 'w')\ntime.sleep(600)")
    env = {n: v for n, v in os.environ.items() if n != "DUCTAFLOW_ROOT"}
    process = subprocess.Popen(
        [bat.with_suffix(".sh")], cwd=tmp_path, env=env, start_new_session=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    began = hard.root / "runs" / "my flow" / "standalone" / "began"
    try:
        assert wait_until(began.exists)
        assert len(temporary(hard)) == 2
        if name == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all of them
        else:
            process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in codes
    assert temporary(hard) == []


@requires_posix
def test_a_runner_takes_the_config_beside_the_flow(hard, bat, tmp_path):
    (hard.root / "flow" / "my flow_config.json").write_text('{"x": "beside"}')
    done = execute(bat.with_suffix(".sh"), cwd=tmp_path)
    assert done.stdout == "ran with beside\n"
    assert (hard.root / "flow" / "my flow_config.json").exists()


@requires_posix
def test_a_flow_that_cannot_be_converted_says_so(hard, bat, tmp_path):
    hard.write("my flow", "%debug")
    done = execute(bat.with_suffix(".sh"), cwd=tmp_path)
    assert done.returncode == 2
    assert "`%debug` has no meaning" in done.stderr
    assert temporary(hard) == []


def test_the_batch_file_as_text(hard, bat):
    data = bat.read_bytes()
    text = data.decode("utf-8")
    assert data.count(b"\n") == data.count(b"\r\n") == len(text.splitlines())
    lines = text.splitlines()
    assert lines[0] == "@echo off"
    assert all(line.startswith("rem ") for line in lines[1:5])
    assert lines.index("chcp 65001 >nul") < lines.index(f'set "PYTHON={sys.executable}"')
    call = '"%PYTHON%" -m ductaflow.convert.temporary "%~dp0my flow.py" %*'
    assert lines[lines.index(call) + 1] == 'set "CODE=%errorlevel%"'
    assert lines[-1] == "exit /b %CODE%"
    assert "DisableDelayedExpansion" in text  # or `!` in a path would go
    assert all(line.count('"') % 2 == 0 for line in lines if "CMDCMDLINE" not in line)


def test_percent_signs_in_paths_are_doubled_in_batch_files(hard, bat, tmp_path):
    away = create_flow_bat_runner(hard.root / "flow" / "my flow.py", tmp_path / "x", root=hard.root)
    call = next(line for line in away.read_text("utf-8").splitlines() if "%~dp0" in line)
    assert call == (
        '"%PYTHON%" -m ductaflow.convert.temporary '
        "\"%~dp0..\\d é 数 'q' $a %%b%%\\flow\\my flow.py\" %*"
    )
    assert re.search(r"^rem source sha256: [0-9a-f]{64}\r$", away.read_bytes().decode(), re.M)


@pytest.mark.skipif(os.name != "nt", reason="there is no cmd here")
def test_the_batch_file_runs(hard, bat, tmp_path):
    done = execute("cmd", "/c", bat, "-p", "x=3", cwd=tmp_path)
    assert done.returncode == 7
    assert temporary(hard) == []


def test_runners_that_were_edited_stay(hard, bat):
    flow = hard.root / "flow" / "my flow.py"
    create_flow_bat_runner(flow, root=hard.root)
    command = bat.with_suffix(".command")
    command.write_text(command.read_text("utf-8") + "# mine\n", "utf-8")
    before = bat.read_bytes()
    with pytest.raises(ConversionError, match=r"\.command was edited since"):
        create_flow_bat_runner(flow, root=hard.root)
    assert bat.read_bytes() == before
    create_flow_bat_runner(flow, root=hard.root, force=True)
