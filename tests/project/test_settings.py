"""Settings: where they stand, what they may be, what wins over what."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from ductaflow import HtmlOptions, accept, explain, get_all_instances, run_step_flow, sweep
from ductaflow.cli.main import group
from ductaflow.errors import SettingsError
from ductaflow.plans.options import make_options
from ductaflow.project.layout import instance_dir, runs_dir
from ductaflow.project.root import find_root
from ductaflow.project.settings import Settings, load_settings


def write(root: Path, text: str, name: str = "ductaflow.toml") -> None:
    (root / name).write_text(text, "utf-8")


def test_without_a_file_all_is_as_documented(tmp_path):
    assert load_settings(tmp_path, {}) == Settings()
    write(tmp_path, "[tool.other]\nworkers = 3\n", "pyproject.toml")
    assert load_settings(tmp_path, {}) == Settings()


@pytest.mark.parametrize(
    ("file", "table"), [("ductaflow.toml", ""), ("pyproject.toml", "[tool.ductaflow]\n")]
)
def test_both_files_hold_the_same_settings(tmp_path, file, table):
    text = """
runs = "results/runs"
flows = ["steps"]
workers = 3
timeout = 60
cell_timeout = 1.5
kernel = "geo"
html = false
preload = ["sklearn"]
"""
    write(tmp_path, table + text, file)
    options = {
        "timeout": 60, "cell_timeout": 1.5, "kernel": "geo", "html": False,
        "preload": ("sklearn",),
    }  # fmt: skip
    assert load_settings(tmp_path, {}) == Settings("results/runs", ("steps",), 3, options)
    assert find_root(tmp_path, None, {}) == tmp_path


def test_a_changed_file_is_read_again(tmp_path):
    write(tmp_path, "workers = 3")
    assert load_settings(tmp_path, {}).workers == 3
    write(tmp_path, "workers = 12")
    assert load_settings(tmp_path, {}).workers == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worker = 3", "has no setting 'worker'; did you mean 'workers'?"),
        ("qqq = 3", "has no setting 'qqq'; there are: runs, flows, workers"),
        ("workers = 0", "workers must be a positive integer, not 0"),
        ("workers = true", "workers must be a positive integer, not True"),
        ("timeout = -1", "timeout must be a number of seconds"),
        ("cell_timeout = 'long'", "cell_timeout must be a number of seconds"),
        ("html = 'no'", "html must be true, false or 'shared', not 'no'"),
        ("kernel = ''", "kernel must be a kernelspec's name"),
        ("preload = 'numpy'", "preload must be true, false or a list"),
        ("runs = '../elsewhere'", "runs must be a folder inside the project"),
        ("runs = '/tmp'", "a folder inside the project"),
        ("flows = []", "flows must be a list of folders"),
        ("runs = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(SettingsError, match=message) as e:
        load_settings(tmp_path, {})
    assert str(tmp_path / "ductaflow.toml") in str(e.value)


def test_two_files_that_both_have_settings_are_an_error(tmp_path):
    write(tmp_path, "workers = 1")
    write(tmp_path, "[tool.ductaflow]\nworkers = 2", "pyproject.toml")
    with pytest.raises(SettingsError, match="keep one of them"):
        load_settings(tmp_path, {})


def test_environment_wins_over_the_file(tmp_path):
    write(tmp_path, "workers = 3\ntimeout = 60\nhtml = true")
    env = {
        "DUCTAFLOW_WORKERS": "5",
        "DUCTAFLOW_TIMEOUT": "2.5",
        "DUCTAFLOW_HTML": "false",
        "DUCTAFLOW_PRELOAD": "numpy, scipy",
        "DUCTAFLOW_FLOWS": "a,b/c",
        "DUCTAFLOW_KERNEL": "geo",
        "DUCTAFLOW_CELL_TIMEOUT": "",
    }
    options = {"timeout": 2.5, "kernel": "geo", "html": False, "preload": ("numpy", "scipy")}
    assert load_settings(tmp_path, env) == Settings("runs", ("a", "b/c"), 5, options)
    assert load_settings(tmp_path, {"DUCTAFLOW_PRELOAD": "0"}).options["preload"] is None


@pytest.mark.parametrize(
    ("name", "value"), [("DUCTAFLOW_WORKERS", "many"), ("DUCTAFLOW_HTML", "perhaps")]
)
def test_a_variable_that_is_wrong_is_named(tmp_path, name, value):
    with pytest.raises(SettingsError, match=f"{name} must be .*, not '{value}'"):
        load_settings(tmp_path, {name: value})


def test_arguments_win_over_settings(tmp_path):
    write(
        tmp_path,
        "timeout = 60\ncell_timeout = 5\nkernel = 'geo'\nhtml = false\npreload = false",
    )
    settings = load_settings(tmp_path, {})
    said = make_options({}, settings)
    assert (said.timeout, said.cell_timeout, said.kernel_name) == (60, 5, "geo")
    assert (said.html, said.preload) == (False, None)
    given = {
        "timeout": math.inf, "cell_timeout": 7, "kernel_name": "b", "html": True, "preload": ["x"],
    }  # fmt: skip
    said = make_options(given, settings)
    assert (said.timeout, said.cell_timeout, said.kernel_name) == (None, 7, "b")
    assert (said.html, said.preload) == (True, ("x",))


def test_reports_share_their_styles_if_the_settings_say_so(project, tmp_path, monkeypatch):
    write(tmp_path, "html = 'shared'")
    project.write("one", "print('hello')")
    run = run_step_flow("one", "one", "a", {})
    assert len(run.html.read_text("utf-8")) < 15_000
    assert len(list((tmp_path / "runs" / "index_files" / "shared").iterdir())) == 1
    assert run_step_flow("one", "one", "a", {}, html=True).reused
    assert explain("one", "a").reuse
    assert accept("one", "a").reused
    monkeypatch.setenv("DUCTAFLOW_HTML", "true")
    assert run_step_flow("one", "one", "a", {}).reused
    asked = ["run", "one", "--html", "--step", "one", "-i", "b", "--root", str(tmp_path)]
    assert CliRunner().invoke(group, asked).exit_code == 0
    assert len((tmp_path / "runs" / "one" / "b" / "one.html").read_bytes()) < 15_000
    monkeypatch.setenv("DUCTAFLOW_HTML", "false")
    assert not run_step_flow("one", "one", "c", {}).html.exists()
    assert explain("one", "c").reuse


def test_a_call_s_looks_are_no_reason_for_explain(project, tmp_path):
    project.write("one", "print('hello')")
    for looks in (HtmlOptions(title="Other"), False):
        run = run_step_flow("one", "one", "a", {}, html=looks)
        assert run.ok
        assert explain("one", "a").reuse, looks
        assert accept("one", "a").reused


def test_folders_are_where_the_settings_say(project):
    write(project.root, 'runs = "out/all"\nflows = ["steps"]\nhtml = false\nworkers = 1')
    (project.root / "steps").mkdir()
    project.write("one", "print(x)", parameters="config = {'x': 1}").rename(
        project.root / "steps" / "one.py"
    )
    run = run_step_flow("one", "a", {"x": 2})
    assert (
        run.dir
        == project.root / "out" / "all" / "one" / "a"
        == instance_dir(project.root, "one", "a")
    )
    assert not run.html.exists()
    assert get_all_instances("one")[0].config == {"x": 2}
    runs = sweep("one", [{"x": 3}, {"x": 4}], progress=False)
    assert {r.dir.parent for r in runs} == {runs_dir(project.root) / "one"}
    assert not (project.root / "runs").exists()


def test_a_time_limit_of_the_settings_counts_for_sweeps_too(project):
    write(project.root, "cell_timeout = 0.3")
    project.write("slow", "import time; time.sleep(600)")
    runs = sweep("slow", [{"x": 1}], progress=False)
    assert runs[0].status.value == "timeout"
    record = json.loads((runs[0].dir / "run.json").read_text("utf-8"))
    assert record["status"] == "timeout"


def test_the_kernel_is_one_for_python():
    settings = Settings(options={"kernel": "geo", "timeout": 5})
    assert settings.of("python") == settings
    assert settings.of("julia") == Settings(options={"timeout": 5})
