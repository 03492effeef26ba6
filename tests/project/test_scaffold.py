"""New projects: made, run cell by cell, as a script and by the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ductaflow
from ductaflow import create_flow_run_script, make_new_ductaflow_instance
from ductaflow.errors import ArtifactError, NameRefused
from ductaflow.flows.reading import read_flow

CUPS = ["paper", "porcelain", "thermos"]


def execute(*command: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    ours = {n: v for n, v in os.environ.items() if n not in ("DUCTAFLOW_ROOT", "PYTHONPATH")}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd, env={**ours, "PYTHONUTF8": "1", **env}, capture_output=True, encoding="utf-8",
        check=False, timeout=150,
    )  # fmt: skip


def instances(project: Path, step: str) -> list[str]:
    return sorted(folder.name for folder in (project / "runs" / step).iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of whose library one can tell that it is its own."""
    folder = make_new_ductaflow_instance("my_analysis", tmp_path_factory.mktemp("projects"))
    version = folder / "code" / "ductaflow" / "_version.py"
    version.write_text(version.read_text("utf-8").replace(ductaflow.__version__, "0.0.77"), "utf-8")
    return folder


@pytest.fixture(scope="module")
def conducted(made: Path) -> subprocess.CompletedProcess[str]:
    """Its conductor, run as a script from elsewhere."""
    return execute(sys.executable, made / "cnd_my_analysis.py", cwd=made.parent)


def test_what_it_consists_of(made):
    names = {path.name for path in made.iterdir()}
    assert names == {
        ".gitignore", "README.md", "cnd_my_analysis.py", "code", "ductaflow_version.txt", "flow",
        "requirements.txt", "runs",
    }  # fmt: skip
    assert {p.name for p in (made / "code").iterdir()} == {
        "ductacore.py", "ductaflow", "ductaflow_kernels",
    }  # fmt: skip
    flows = sorted((made / "flow").glob("*.py"))
    assert len(flows) == 2
    assert all(read_flow(flow).parameters is not None for flow in flows)
    for file in (made / "README.md", made / "cnd_my_analysis.py"):
        text = file.read_text("utf-8")
        assert "My analysis" in text
        assert not re.search(r"\{(?:title|conductor|version|install|library)\}|\{\{", text)
    assert not list(made.rglob("__pycache__"))


def test_git_leaves_out_what_runs_leave(made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    for name in ("runs/s/a/run.json", "code/__pycache__/x.pyc", "flow/.ipynb_checkpoints/y.py"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("")
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
    asked = ["git", "status", "--porcelain", "--untracked-files=all"]
    told = subprocess.run(asked, cwd=copy, check=True, capture_output=True, text=True).stdout
    names = [line[3:] for line in told.splitlines()]
    assert "code/ductacore.py" in names
    assert ".gitignore" in names
    assert not [n for n in names if n.startswith("runs/") or n.endswith((".pyc", "/y.py"))]


def test_its_version_file(made):
    text = (made / "ductaflow_version.txt").read_text("utf-8")
    facts = dict(line.split(": ", 1) for line in text.splitlines())
    assert list(facts) == ["ductaflow", "git commit", "library", "made", "python", "platform"]
    assert facts["ductaflow"] == ductaflow.__version__
    assert re.fullmatch(r"none|[0-9a-f]{40}(?:-dirty)?", facts["git commit"])
    assert facts["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert re.match(r"\d{4}-\d\d-\d\dT", facts["made"])
    needs = (made / "requirements.txt").read_text("utf-8").splitlines()
    assert any(line.startswith("jupytext") for line in needs)
    assert not any("extra" in line for line in needs)


def test_it_runs_at_once_as_a_script(made, conducted):
    assert conducted.returncode == 0, conducted.stderr
    assert conducted.stdout.count("half as warm") == 3
    assert instances(made, "measure_cooling") == CUPS
    assert instances(made, "fit_cooling") == CUPS
    fits = {}
    for cup in CUPS:
        record = json.loads((made / "runs/fit_cooling" / cup / "run.json").read_text("utf-8"))
        assert record["status"] == "success"
        assert record["notes"] == []
        fits[cup] = json.loads((made / "runs/fit_cooling" / cup / "fit.json").read_text("utf-8"))
    assert fits["porcelain"]["cooling_per_minute"] == pytest.approx(0.05, rel=0.05)
    assert fits["thermos"]["cooling_per_minute"] == pytest.approx(0.008, rel=0.05)


def test_it_runs_on_its_own_library(made, conducted):
    """Conductor and kernels: this interpreter has another one installed."""
    for step in ("measure_cooling", "fit_cooling"):
        record = json.loads((made / "runs" / step / "paper" / "run.json").read_text("utf-8"))
        assert record["environment"]["ductaflow"] == "0.0.77"
    code = (
        "import sys; sys.path.insert(0, 'code'); import ductacore, ductaflow, ductaflow_kernels;"
        "from ductacore import *; print(ductacore.__version__, run_step_flow.__module__);"
        "print(ductaflow.__file__); print(ductaflow_kernels.__file__)"
    )
    done = execute(sys.executable, "-c", code, cwd=made)
    version, *files = done.stdout.splitlines()
    assert version == "0.0.77 ductaflow.execution.conductor", done.stderr
    assert all(Path(file).is_relative_to(made / "code") for file in files)


def test_kernels_find_the_projects_library(made, tmp_path):
    (made / "flow" / "asks.py").write_text(
        '# %% tags=["parameters"]\nconfig = {}\n# %%\nimport ductaflow, ductaflow_kernels\n'
        "open('where.txt', 'w').write(ductaflow.__file__ + '\\n' + ductaflow_kernels.__file__)\n"
    )
    code = (
        "import sys; sys.path.insert(0, 'code'); from ductacore import run_step_flow;"
        "print(run_step_flow('asks', 'a', {}).dir)"
    )
    done = execute(sys.executable, "-c", code, cwd=made)
    (made / "flow" / "asks.py").unlink()
    assert done.returncode == 0, done.stderr
    lines = (Path(done.stdout.strip()) / "where.txt").read_text().splitlines()
    assert all(Path(file).is_relative_to(made / "code") for file in lines)


def test_the_command_that_repeats_a_failure_works_there(made):
    (made / "flow" / "fails.py").write_text(
        '# %% tags=["parameters"]\nconfig = {}\n# %%\nraise ValueError("no")\n'
    )
    code = (
        "import sys; sys.path.insert(0, 'code'); from ductacore import sweep;"
        "print(sweep('fails', [{'instance': 'a b'}], progress=False).causes()[0].command)"
    )
    command = execute(sys.executable, "-c", code, cwd=made).stdout.strip()
    (made / "flow" / "fails.py").write_text(
        '# %% tags=["parameters"]\nconfig = {}\n# %%\nprint("repaired")\n'
    )
    assert command == "PYTHONPATH=code python -m ductaflow.cli rerun 'fails/a b'"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = execute("sh", "-c", command, cwd=made, PATH=path)
    (made / "flow" / "fails.py").unlink()
    assert done.returncode == 0, done.stderr
    record = json.loads((made / "runs/fails/a b/run.json").read_text())
    assert (record["status"], record["environment"]["ductaflow"]) == ("success", "0.0.77")


def test_two_versions_in_one_process_are_refused(made):
    code = "import ductaflow, sys; sys.path.insert(0, 'code'); import ductacore"
    done = execute(sys.executable, "-c", code, cwd=made)
    assert done.returncode == 1
    assert "import ductacore first" in done.stderr


def test_cell_by_cell_in_a_kernel(made, conducted):
    """As in Jupyter: conductor and flows, each from its own folder, in a plain kernel."""
    from jupyter_client.manager import start_new_kernel

    env = {n: v for n, v in os.environ.items() if n not in ("DUCTAFLOW_ROOT", "PYTHONPATH")}
    shown: dict[str, str] = {}
    for file in (made / "cnd_my_analysis.py", *sorted((made / "flow").glob("*_cooling.py"))):
        manager, client = start_new_kernel(
            kernel_name="python3", cwd=str(file.parent), env=env, startup_timeout=60
        )
        try:
            outputs: list[str] = []

            def hear(message, outputs=outputs):
                content = message["content"]
                outputs.append(content.get("text") or content.get("data", {}).get("text/plain", ""))

            for cell in read_flow(file).cells:
                if cell.kind == "code":
                    reply = client.execute_interactive(cell.source, output_hook=hear, timeout=100)
                    assert reply["content"]["status"] == "ok", (file.name, reply["content"])
            shown[file.stem] = "".join(outputs)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    assert shown["cnd_my_analysis"].count("half as warm") == 3
    assert "cooling_per_minute" in shown["fit_cooling"]
    assert "31 temperatures" in shown["measure_cooling"]
    for left in ("temperatures.csv", "fit.json"):
        (made / "flow" / left).unlink()


def test_flows_run_as_scripts(made, conducted):
    flow = made / "flow" / "measure_cooling.py"
    config = made / "runs" / "measure_cooling" / "thermos" / "config.json"
    out = made / "runs" / "measure_cooling" / "by_hand"
    done = execute(
        sys.executable, flow, "--config", config, "--output-dir", out, cwd=made.parent
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = made / "runs" / "measure_cooling" / "thermos" / "temperatures.csv"
    assert (out / "temperatures.csv").read_bytes() == theirs.read_bytes()


def test_a_run_script_uses_the_projects_library(made):
    script = create_flow_run_script(made / "flow" / "measure_cooling.py", root=made)
    done = execute(sys.executable, script, "--instance", "scripted", cwd=made.parent)
    script.unlink()
    assert done.returncode == 0, done.stderr
    record = json.loads(
        (made / "runs" / "measure_cooling" / "scripted" / "run.json").read_text("utf-8")
    )
    assert record["environment"]["ductaflow"] == "0.0.77"


def test_a_copy_makes_copies(made, tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'code'); from ductacore import make_new_ductaflow_instance;"
        f"print(make_new_ductaflow_instance('next', {str(tmp_path)!r}))"
    )
    done = execute(sys.executable, "-c", code, cwd=made)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "next"
    assert "ductaflow: 0.0.77" in (folder / "ductaflow_version.txt").read_text("utf-8")
    first, second = (p / "requirements.txt" for p in (made, folder))
    assert first.read_bytes() == second.read_bytes()
    assert (folder / "code" / "ductaflow" / "static" / "template" / "conductor.py").is_file()


def test_without_a_copy_it_uses_the_installed_library(tmp_path):
    folder = make_new_ductaflow_instance("lean", tmp_path, vendor=False)
    assert [p.name for p in (folder / "code").iterdir()] == ["ductacore.py"]
    needs = (folder / "requirements.txt").read_text("utf-8")
    assert needs == f"ductaflow=={ductaflow.__version__}\n"
    done = execute(sys.executable, folder / "cnd_lean.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert instances(folder, "fit_cooling") == CUPS
    record = json.loads((folder / "runs/fit_cooling/paper/run.json").read_text("utf-8"))
    assert record["environment"]["ductaflow"] == ductaflow.__version__


def test_what_is_there_is_not_touched(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("taken", "file", "link"):
        with pytest.raises(ArtifactError, match="already there and stays as it is"):
            make_new_ductaflow_instance(name, tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "link", "mine.txt", "taken"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "../x", "con", "a:b", ".hidden", "x" * 200, 3])
def test_names_that_are_no_folders_are_refused(tmp_path, name):
    with pytest.raises(NameRefused, match="the project name"):
        make_new_ductaflow_instance(name, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="there is no folder"):
        make_new_ductaflow_instance("x", tmp_path / "none")


def test_a_title_can_be_any_name(tmp_path):
    folder = make_new_ductaflow_instance("été {title}", tmp_path, vendor=False)
    assert (folder / "cnd_été {title}.py").is_file()
