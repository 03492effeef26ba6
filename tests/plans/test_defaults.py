"""One meaning of a config, wherever it is given: the flow's default, updated."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ductaflow import (
    create_flow_run_script,
    create_standalone_python_script,
    debug_flow,
    explain,
    get_all_instances,
    grid,
    lineage,
    run_notebook,
    run_step_flow,
    sweep,
    update,
)
from ductaflow.cli.main import main

DEFAULT = "config = {'region': 'north', 'net': {'zones': [1, 2], 'speed': 50}}"
SEEN = "from ductaflow import record\nrecord(region=region, zones=str(zones), speed=speed)"

PAPERMILL = """\
# Where it is.
alpha = 0.1  # the step
region: str = "x"
shape = (3, 4)
beta = alpha * 2
"""
PAPERMILL_SEEN = """\
from ductaflow import record
record(alpha=alpha, region=region, beta=beta, shape=type(shape).__name__)
"""


def config_json(run):
    return json.loads(run.paths.config.read_text("utf-8"))


@pytest.fixture
def flow(project):
    return project.write("prepare", SEEN, parameters=DEFAULT)


def seen(run):
    return run.record.metrics["region"], run.record.metrics["zones"], run.record.metrics["speed"]


def test_a_config_updates_the_default(project, flow):
    run = run_step_flow("prepare", "a", {"net": {"zones": [7]}})
    assert seen(run) == ("north", "[7]", 50)
    assert config_json(run) == {"region": "north", "net": {"zones": [7], "speed": 50}}
    assert run.given == {"net": {"zones": [7]}}
    assert seen(run_step_flow("prepare", "a", {})) == ("north", "[1, 2]", 50)
    run = run_notebook(flow, {"region": "east"}, "elsewhere")
    assert seen(run) == ("east", "[1, 2]", 50)
    whole = {"region": "w", "zones": [], "speed": 1}
    run = run_step_flow("prepare", "whole", whole, defaults=False)
    assert config_json(run) == whole
    assert explain("prepare", "whole", whole, defaults=False).reuse
    assert explain("prepare", "whole").reuse
    assert update("prepare/whole")[0].reused


def test_a_config_in_full_is_the_same_run_as_what_differs_from_the_default(project, flow):
    whole = {"region": "east", "net": {"zones": [1, 2], "speed": 50}}
    first = run_step_flow("prepare", "a", whole)
    assert not first.reused
    assert run_step_flow("prepare", "a", {"region": "east"}).reused
    assert run_step_flow("prepare", "a", whole, defaults=False).reused


def test_a_sweep_goes_over_the_default(project, flow):
    table = [{"instance": "a", "region": "x", "net.speed": 3, "client": "c"}]
    (run,) = sweep("prepare", table, config=["region"], progress=False)
    assert seen(run) == ("x", "[1, 2]", 50)
    (run,) = sweep("prepare", table, config=["region", "net.speed"], progress=False)
    assert seen(run) == ("x", "[1, 2]", 3)
    assert run.given == {"region": "x", "net": {"speed": 3}}
    runs = sweep("prepare", grid(net={"speed": [1, 2]}), progress=False, dry_run=True)
    assert [run.instance for run in runs] == ["speed=1", "speed=2"]
    assert runs[0].config == {"region": "north", "net": {"zones": [1, 2], "speed": 1}}
    (run,) = sweep("prepare", [{"instance": "b", "region": "x"}], progress=False, defaults=False)
    assert run.error.type == "NameError"


def test_update_and_rerun_take_the_default_as_it_is_now(project, flow):
    run_step_flow("prepare", "a", {"region": "east"})
    project.write("prepare", SEEN, parameters=DEFAULT.replace("50", "80"))
    (run,) = update("prepare/a", progress=False)
    assert seen(run) == ("east", "[1, 2]", 80)
    project.write("prepare", SEEN, parameters=DEFAULT.replace("50", "90"))
    assert main(["rerun", "prepare/a"]) == 0
    (run,) = get_all_instances("prepare")
    assert seen(run) == ("east", "[1, 2]", 90)
    assert run.given == {"region": "east"}


def test_scripts_go_over_the_default_too(project, flow, tmp_path):
    partial = tmp_path / "partial.json"
    partial.write_text('{"net": {"zones": [7]}}')
    script = create_flow_run_script("flow/prepare.py")
    subprocess.run([sys.executable, script, "--config", partial], check=True, capture_output=True)
    (run,) = get_all_instances("prepare")
    assert seen(run) == ("north", "[7]", 50)
    assert run.given == {"net": {"zones": [7]}}

    project.write("plain", "print(region, zones, speed)", parameters=DEFAULT)
    script = create_standalone_python_script("flow/plain.py", config={"region": "s"})
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    assert done.stdout == "s [1, 2] 50\n"
    command = [sys.executable, script, "--config", partial, "-p", "net.speed=9"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "north [7] 9\n"
    folder = debug_flow("flow/plain.py", "runs/plain/by_hand", {"region": "d"})
    assert json.loads((folder / "config.json").read_text())["net"]["speed"] == 50


def test_the_command_line_says_what_is_odd(project, flow, capsys):
    assert main(["run", "prepare", "-p", "regoin=x", "-p", "net.speed=fast"]) == 0
    err = capsys.readouterr().err
    assert "note: The flow never mentions the key `regoin`; is `region` meant?" in err
    assert "note: The value of `net.speed` is text, `'fast'`; in the flow's default it is a" in err
    assert main(["sweep", "prepare", "-g", "regoin=x", "--step", "s"]) == 0
    assert "is `region` meant?" in capsys.readouterr().err


def test_a_default_that_is_no_literal_is_replaced_and_said(project, capsys):
    project.write("f", "print(region)", parameters="config = dict(region='n', more=1)")
    run = run_step_flow("f", "a", {"region": "x"})
    assert config_json(run) == {"region": "x"}
    (note,) = run.notes
    assert note.kind == "default"
    assert "cannot be merged without running it: its value is not a literal" in note.message


# --- papermill's parameters ---------------------------------------------------------------------


def test_papermills_parameters_are_a_config(project, capsys):
    project.write("model", PAPERMILL_SEEN, parameters=PAPERMILL)
    run = run_step_flow("model", "a")
    assert run.record.metrics == {"alpha": 0.1, "region": "x", "beta": 0.2, "shape": "tuple"}
    assert config_json(run) == {"alpha": 0.1, "region": "x", "shape": [3, 4]}
    assert run.notes == ()
    run = run_step_flow("model", "b", {"alpha": 5})  # as papermill: beta was made before
    assert run.record.metrics == {"alpha": 5, "region": "x", "beta": 0.2, "shape": "tuple"}
    run = run_step_flow("model", "c", {"beta": 7, "shape": [1]})
    assert run.record.metrics == {"alpha": 0.1, "region": "x", "beta": 7, "shape": "list"}
    assert main(["run", "model", "-i", "d", "-p", "alhpa=3"]) == 0
    assert "is `alpha` meant?" in capsys.readouterr().err
    assert main(["sweep", "model", "--grid", "alpha=1,2", "-w", "1"]) == 0
    found = {run.instance: run.record.metrics["alpha"] for run in get_all_instances("model")}
    assert (found["alpha=1"], found["alpha=2"]) == (1, 2)


def test_a_notebook_as_papermill_takes_it(project, capsys):
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": PAPERMILL},
        {"cell_type": "code", "metadata": {}, "source": ["assert beta == 0.2\n", "print(alpha)"]},
    ]
    for cell in cells:
        cell |= {"outputs": [], "execution_count": None}
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {
        "cells": cells, "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": 4,
    }  # fmt: skip
    (project.root / "flow" / "old.ipynb").write_text(json.dumps(notebook))
    assert main(["run", "old", "-p", "alpha=0.5", "--json"]) == 0
    (run,) = get_all_instances("old")
    assert config_json(run) == {"alpha": 0.5, "region": "x", "shape": [3, 4]}
    assert "0.5" in run.log.read_text("utf-8")


def test_the_cells_names_win_over_nested_keys(project):
    parameters = "depth = 10\nwidth = 2 * depth\nconfig = {'model': {'depth': 2, 'width': 3}}"
    project.write("f", "print(depth, width, model)", parameters=parameters)
    run = run_step_flow("f", "a")
    assert "10 20 {'depth': 2, 'width': 3}" in run.log.read_text("utf-8")
    assert config_json(run) == {"model": {"depth": 2, "width": 3}, "depth": 10}
    messages = [note.message for note in run.notes if note.kind == "collision"]
    assert len(messages) == 2
    assert any("`width` is the parameters cell's own" in message for message in messages)
    script = create_standalone_python_script("flow/f.py")
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    assert done.stdout == "10 20 {'depth': 2, 'width': 3}\n"


def test_a_parameter_that_is_called_config(project):
    project.write("f", "print(config, a)", parameters="config = 'prod.yaml'\na = 1")
    run = run_step_flow("f", "a", {"config": "test.yaml"})
    assert "test.yaml 1" in run.log.read_text("utf-8")
    assert config_json(run) == {"config": "test.yaml", "a": 1}
    assert any("called `config` and is not a mapping" in note.message for note in run.notes)


# --- runs in a config ---------------------------------------------------------------------------


def test_a_flow_of_flows_as_the_documentation_has_it(project):
    project.write("view", "open('n.txt', 'w').write(str(n))", parameters="config = {'n': 1}")
    project.write(
        "index",
        "from pathlib import Path",
        "print([(Path(s).name, Path(s, 'n.txt').read_text()) for s in source_instances])",
        parameters="config = {'source_instances': [], 'collated_output_path': ''}",
    )
    for n in (1, 2):
        run_step_flow("view", f"view_{n}", {"n": n})
    views = get_all_instances("view")
    given = {"source_instances": views, "collated_output_path": "./runs/bulk_outputs/"}
    run = run_step_flow("index", "combined_outputs", given)
    assert run.config["source_instances"] == ["../../view/view_1", "../../view/view_2"]
    assert "[('view_1', '1'), ('view_2', '2')]" in run.log.read_text("utf-8")
    assert run_step_flow("index", "combined_outputs", given).reused


def test_a_run_in_a_config_counts_though_nothing_of_it_is_read(project):
    project.write("view", "x = n", parameters="config = {'n': 1}")
    project.write("use", "print(source, rest)", parameters="config = {'source': '', 'rest': {}}")
    view = run_step_flow("view", "a", {"n": 1})
    given = {"source": view, "rest": {"some": (view,), "none": get_all_instances("view")[:0]}}
    run = run_step_flow("use", "b", given)
    assert run.config == {
        "source": "../../view/a", "rest": {"some": ["../../view/a"], "none": []},
    }  # fmt: skip
    assert [each.label for each in lineage(run).upstream] == ["view/a"]
    assert explain("use", "b").reuse
    run_step_flow("view", "a", {"n": 2})
    assert not explain("use", "b").reuse
