"""What differs between two equal runs stands in one block of the record and of the notebook."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, wait_until

from ductaflow import create_standalone_python_script, run_notebook, runs_table
from ductaflow.errors import CellFailed
from ductaflow.history.recordfile import DamagedRecord, load_record, read_record
from ductaflow.model.records import RunRecord
from ductaflow.model.thisrun import THIS_RUN, together

FLOW = """# %% tags=["parameters"]
config = {}

# %%
import logging, os, sys, warnings
from pathlib import Path
import matplotlib.pyplot as plt
import pandas as pd
from ductaflow import record
sys.path.append("../../../flow")
import helper

# %% [markdown]
# # A heading

# %%
table = pd.read_csv("../../../inputs/table.csv")
print(sorted(os.listdir("../../../inputs")))
Path("../../../inputs/no").exists(), os.environ.get("UNSET_HERE")
table

# %%
warnings.warn("often")
logging.getLogger("x").warning("loud")
print("⚠️ look")

# %%
Path("deep/er").mkdir(parents=True, exist_ok=True)
for n in range(5):
    Path(f"deep/er/{n}.txt").write_text(str(n * helper.TWO))
table.to_csv("table.csv")
Path("../../../shared.txt").write_text("same")

# %%
plt.plot(table["a"], table["b"])
plt.show()

# %%
record(best=0.5, name="x")
names

# %% tags=["skip-execution"]
1 / 0

# %%
table.describe()
"""
CONFIG = {"names": ["b", "a"], "nested": {"level": 1, "when": float("inf")}, "path": Path("x")}
FILES = ("run.json", "config.json", "f.ipynb")


def differing(one: Any, other: Any, at: str = "$") -> Iterator[str]:
    """The paths of two JSON trees at which they differ, their order included."""
    if isinstance(one, dict) and isinstance(other, dict):
        if list(one) != list(other):
            yield f"{at}: keys {list(one)} and {list(other)}"
        for key in one.keys() & other.keys():
            yield from differing(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            yield f"{at}: {one} and {other}"
        for n, (a, b) in enumerate(zip(one, other, strict=False)):
            yield from differing(a, b, f"{at}[{n}]")
    elif one != other or type(one) is not type(other):
        yield f"{at}: {one!r} and {other!r}"


def without_the_block(folder: Path) -> dict[str, Any]:
    """What the three files say apart from their blocks, which must be there."""
    told = {name: json.loads((folder / name).read_text("utf-8")) for name in FILES}
    assert told["run.json"].pop(THIS_RUN)["started"]
    assert told["f.ipynb"]["metadata"]["ductaflow"].pop(THIS_RUN)["cells"]
    return told


def write_project(project: Project) -> None:
    (project.root / "inputs").mkdir()
    (project.root / "inputs/table.csv").write_text("a,b\n1,2\n3,4\n")
    (project.root / "inputs/other.csv").write_text("")
    (project.root / "flow/helper.py").write_text("TWO = 2\n")
    (project.root / "flow/f.py").write_text(FLOW, "utf-8")


AGAIN = f"""
from pathlib import {type(Path()).__name__}
from ductaflow import run_step_flow
inf = float("inf")
run_step_flow("f", "f", "a", {CONFIG!r}, force=True)
"""


def texts(folder: Path) -> list[str]:
    """The three files as they are, their blocks cut out."""
    found = [(folder / name).read_text("utf-8") for name in FILES]
    for pattern in (r'^  "this_run": .*\n', r'^   "this_run": \{\n(?: {4}.*\n)* {3}\}'):
        found = [re.sub(pattern, "", text, flags=re.MULTILINE) for text in found]
    assert not any("this_run" in text for text in found)
    return found


def test_equal_runs_differ_in_one_block(project: Project) -> None:
    write_project(project)
    folder = project.run("f", CONFIG).dir
    first = without_the_block(folder)
    was = texts(folder)
    assert project.run("f", CONFIG, force=True).reasons
    assert list(differing(first, without_the_block(folder))) == []
    assert texts(folder) == was
    # another process, in which sets have another order
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", AGAIN], check=True, env=env, timeout=300)
    assert list(differing(first, without_the_block(folder))) == []
    assert texts(folder) == was


def test_so_do_runs_that_read_those_of_another_step(project: Project) -> None:
    project.write("first", "open('out.txt', 'w').write('x')")
    project.write(
        "second",
        "from ductaflow import get_all_instances",
        "(one,) = get_all_instances('first')\nopen(one.dir / 'out.txt').read()",
        "open(one.dir / 'run.json').read()",
    )
    told = []
    for padding in ("", "      "):  # times have as many digits as it comes
        project.run("first", force=True)
        path = project.root / "runs/first/a/run.json"
        path.write_text(path.read_text("utf-8") + padding, "utf-8")
        run = project.run("second", force=True)
        assert "runs/first/a/run.json" in {fact.path for fact in run.record.inputs}
        assert all(fact.size >= 0 for fact in run.record.inputs if fact.role == "data")
        told.append(json.loads(run.paths.record.read_text("utf-8")))
        del told[-1][THIS_RUN]
    assert list(differing(*told)) == []
    assert project.run("second").reused


def test_a_failed_run_differs_in_one_block(project: Project) -> None:
    project.write("f", "print('so far')", "def no():\n    raise ValueError('no')\nno()", "1")
    folders = []
    for _ in range(2):
        with pytest.raises(CellFailed) as caught:
            project.run("f", force=True)
        folders.append(without_the_block(caught.value.run.dir))
    assert list(differing(*folders)) == []


def test_a_running_notebook_has_its_times_there(project: Project) -> None:
    waiting = "while not Path('go').exists():\n    time.sleep(0.01)"
    project.write("f", "1", "import time\nfrom pathlib import Path", waiting)
    folder = project.root / "runs/f/a"
    thread = threading.Thread(target=project.run, args=("f",))
    thread.start()
    try:
        assert wait_until((folder / "f.ipynb").exists)
        told = json.loads((folder / "f.ipynb").read_text("utf-8"))
        assert json.loads((folder / "run.json").read_text("utf-8"))[THIS_RUN]["conductor"]["pid"]
    finally:
        (folder / "go").touch()
        thread.join()
    assert len(told["metadata"]["ductaflow"][THIS_RUN]["cells"]) >= 4
    assert all("execution" not in cell["metadata"] for cell in told["cells"])


@pytest.mark.parametrize("minor", [4, 5])
def test_cells_without_ids_get_the_same_ones_each_time(project: Project, minor: int) -> None:
    bare: dict[str, Any] = {"metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**bare, "cell_type": "code", "source": source} for source in ("1", "1", "2")]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": minor}
    (project.root / "plain.ipynb").write_text(json.dumps(notebook))
    ids = []
    for name in "ab":
        run = run_notebook("plain.ipynb", execution_dir=name)
        ids.append([c["id"] for c in json.loads(run.notebook.read_text("utf-8"))["cells"]])
    assert ids[0] == ids[1]


def test_the_block_is_the_last_of_a_record_that_comes_back_as_it_was(project: Project) -> None:
    project.write("f", "open('x.txt', 'w').write('x')")
    run = project.run("f")
    data = json.loads(run.paths.record.read_text("utf-8"))
    assert list(data)[-1] == THIS_RUN
    assert data[THIS_RUN]["started"] == run.record.started
    assert together(data) == json.loads(json.dumps(run.record.to_json()))
    assert RunRecord.from_json(data) == read_record(run.paths.record) == run.record
    (row,) = runs_table(step="f").to_dict("records")
    assert row["duration"] == run.duration == data[THIS_RUN]["duration"]


def test_records_of_an_earlier_version_serve(project: Project) -> None:
    (project.root / "in.txt").write_text("x")
    project.write("f", "# words\nopen('../../../in.txt').read()")
    run = project.run("f")
    old = {**run.record.to_json(), "schema": 1}
    notebook = json.loads(run.notebook.read_text("utf-8"))
    own = notebook["metadata"]["ductaflow"]
    block = own.pop(THIS_RUN)
    own |= {"started": block["started"], "duration": block["duration"]}
    for cell in notebook["cells"]:
        if cell["id"] in block["cells"]:
            cell["metadata"]["execution"] = block["cells"][cell["id"]]
    text = json.dumps(notebook).encode()
    run.notebook.write_bytes(text)
    old["notebook"] = hashlib.sha256(text).hexdigest()
    run.paths.record.write_text(json.dumps(old))
    assert project.run("f").reused
    flow = project.root / "flow/f.py"
    flow.write_text(flow.read_text().replace("# words", "# better words"))
    again = project.run("f")
    assert again.reused
    new = json.loads(again.notebook.read_text("utf-8"))
    now = new["metadata"]["ductaflow"]
    assert "started" not in now
    assert (now[THIS_RUN]["started"], now[THIS_RUN]["duration"]) == (
        run.record.started,
        run.duration,
    )
    times = now[THIS_RUN]["cells"].values()
    assert sorted(t["iopub.status.busy"] for t in times) == sorted(
        t["iopub.status.busy"] for t in block["cells"].values()
    )
    assert all("execution" not in cell["metadata"] for cell in new["cells"])


def test_a_record_that_was_edited(tmp_path: Path, project: Project) -> None:
    """Times of a list that is of another length are not known; another shape makes it none."""
    (project.root / "in.txt").write_text("x")
    project.write("f", "open('../../../in.txt').read()")
    run = project.run("f")
    data = json.loads(run.paths.record.read_text("utf-8"))
    longer = {**data, "inputs": [*data["inputs"], {"path": "more.txt", "role": "data"}]}
    facts = RunRecord.from_json(longer).inputs
    assert [fact.path for fact in facts][-1] == "more.txt"
    assert not any(fact.ctime_ns for fact in facts)
    file = tmp_path / "run.json"
    blocks: list[Any] = [
        3,
        [],
        {"started": 3},
        {"cells": 3},
        {"kernel": 3},
        {"notes": 3},
        {"inputs": [3]},
    ]
    for bad in blocks:
        file.write_text(json.dumps({**data, THIS_RUN: bad}))
        with pytest.raises(DamagedRecord):
            load_record(file)


def test_scripts_read_the_block_too(project: Project) -> None:
    project.write("first", "1")
    project.run("first")
    flow = project.write(
        "second",
        "from ductaflow import get_all_instances",
        "(one,) = get_all_instances('first')",
        "print('took', one.duration > 0, len(one.record.started) > 9)",
    )
    script = create_standalone_python_script(flow)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert "took True True" in done.stdout, done.stderr
