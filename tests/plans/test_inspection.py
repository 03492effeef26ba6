"""`inspect_flow` and `ductaflow inspect`: what a flow takes and reads, without running it."""

from __future__ import annotations

import json

import nbformat
import pytest
from conftest import Project

from ductaflow import FlowNotFound, inspect_flow
from ductaflow.cli.main import main

PARAMETERS = """alpha = 0.1  # learning rate
region: str = "north"  # where
computed = alpha * 2  # from the above
config = {
    "depth": 3,  # levels
    "model": {"kind": "tree", "trees": [1, 2]},
    "off": None,
    "on": True,
}"""
CODE = """import pandas as pd
from pathlib import Path
data = pd.read_csv("../../../inputs/a.csv")
open("out.txt", "w").write("x")
Path("b.txt").write_text("x"); Path("../c.json").read_text(); Path("../d").glob("*.csv")
with open("e.txt", mode="rb") as f: pass
pd.read_csv(config["where"])
!ls"""


def test_parameters_paths_and_kernel(project: Project) -> None:
    project.write("f", CODE, parameters=PARAMETERS)
    facts = inspect_flow("f")
    told = {p.name: (p.kind, p.default, p.comment) for p in facts.parameters}
    assert told == {
        "alpha": ("number", 0.1, "learning rate"),
        "region": ("text", "north", "where"),
        "computed": ("", None, "from the above"),
        "depth": ("number", 3, "levels"),
        "model": ("mapping", {"kind": "tree", "trees": [1, 2]}, ""),
        "model.kind": ("text", "tree", ""),
        "model.trees": ("list", [1, 2], ""),
        "off": ("nothing", None, ""),
        "on": ("truth value", True, ""),
    }
    assert facts.reads == ("../../../inputs/a.csv", "../c.json", "../d/*.csv", "e.txt")
    assert (facts.kernel, facts.language, facts.unread) == ("", "python", "")
    assert not (project.root / "runs").exists()


def test_the_command_tells_the_same(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.write("f", CODE, parameters=PARAMETERS)
    assert main(["inspect", "f", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in told["parameters"]] == [p.name for p in inspect_flow("f").parameters]
    assert main(["inspect", "f"]) == 0
    said = capsys.readouterr().out
    assert "learning rate" in said
    assert "computed in the cell" in said
    assert main(["inspect", "g"]) == 2


def test_a_notebook_with_papermills_parameters_and_another_kernel(project: Project) -> None:
    spec = {"name": "ir", "language": "R", "display_name": "R"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": spec})
    notebook.cells = [nbformat.v4.new_code_cell("x <- 1", metadata={"tags": ["parameters"]})]
    nbformat.write(notebook, project.root / "r.ipynb")
    facts = inspect_flow("r.ipynb")
    assert (facts.kernel, facts.language, facts.parameters) == ("ir", "r", ())
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("x = 1\ny: int", metadata={"tags": ["parameters"]})]
    nbformat.write(notebook, project.root / "p.ipynb")
    assert [(p.name, p.default) for p in inspect_flow("p.ipynb").parameters] == [
        ("x", 1),
        ("y", None),
    ]


def test_what_cannot_be_told_is_said(project: Project) -> None:
    project.write("f", "1", parameters="config = make()")
    assert "not a literal" in repr(inspect_flow("f"))
    with pytest.raises(FlowNotFound):
        inspect_flow("nowhere")
