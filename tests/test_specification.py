"""The document that the product was ordered with, part by part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import requires_posix
from nbclient import NotebookClient

from ductaflow import CellFailed, get_all_instances, run_step_flow

FLOW = """
# %% [markdown]
# # Network analysis

# %% tags=["parameters"]
config = {"network_base": "NET_2024", "network_new": "NET_2025", "settings": {"weight": 1}}

# %%
import sys

sys.path.append("../../../code")
from own_tools import doubled

# %%
if "config" in locals() and config:
    for key, value in config.items():
        if isinstance(value, dict):
            locals()[key] = value
            for sub_key, sub_value in value.items():
                locals()[sub_key] = sub_value
        else:
            locals()[key] = value

# %%
base = open(f"../../../inputs/{network_base}.txt").read()
assert settings["weight"] == weight == config["settings"]["weight"]
with open("result.txt", "w") as file:
    file.write(f"{base}-{network_new}-{doubled(weight)}")
"""

CONDUCTOR = """
import shutil
from pathlib import Path
import pandas as pd
from ductacore import run_step_flow

control_df = pd.DataFrame({
    "instance_name": ["scenario_A", "scenario_B", "scenario_C"],
    "network_base": ["NET_2024", "NET_2024", "NET_2025"],
    "network_new": ["OPT1", "OPT2", "NET_2026"],
    "client_group": ["transport", "transport", "planning"],
    "weight": [100, 200, 150],
})
for i in range(len(control_df)):
    row = control_df.iloc[i]
    run = run_step_flow(
        notebook_path="flow/network_analysis.py",
        step_name="network_analysis",
        instance_name=row["instance_name"],
        config={
            "network_base": row["network_base"], "network_new": row["network_new"],
            "settings": {"weight": row["weight"]},
        },
    )
    print(run.instance, "reused" if run.reused else "ran")
    source = Path("runs/network_analysis") / row["instance_name"]
    shutil.copytree(source, Path("delivery") / row["client_group"] / row["instance_name"],
                    dirs_exist_ok=True)
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as the template makes it, with a flow of its own; the current folder is it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DUCTAFLOW_ROOT", raising=False)
    make = "from ductacore import make_new_ductaflow_instance as m; m('my_analysis')"
    python(make, tmp_path)
    root = tmp_path / "my_analysis"
    (root / "flow/network_analysis.py").write_text(FLOW)
    (root / "code/own_tools.py").write_text("def doubled(number):\n    return 2 * number\n")
    (root / "inputs").mkdir(exist_ok=True)
    for name in ("NET_2024", "NET_2025"):
        (root / f"inputs/{name}.txt").write_text(name[-4:])
    monkeypatch.chdir(root)
    return root


def python(code: str, folder: Path) -> str:
    """What some code prints, in a process of its own."""
    return succeeded([sys.executable, "-c", code], folder)


def succeeded(command: list[object], folder: Path, program: str = "") -> str:
    """What a command prints that succeeds."""
    clean = {k: v for k, v in os.environ.items() if k not in ("DUCTAFLOW_ROOT", "PYTHONPATH")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=clean, input=program or None,
        capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def result(root: Path, instance: str) -> str:
    return (root / "runs/network_analysis" / instance / "result.txt").read_text()


def test_a_template_is_copied_and_ready_to_run(study: Path) -> None:
    names = {path.name for path in study.iterdir()}
    assert names >= {
        "code", "flow", "runs", "cnd_my_analysis.py", "README.md", "ductaflow_version.txt",
    }  # fmt: skip
    assert (study / "code/ductacore.py").is_file()
    assert list((study / "flow").glob("*.py"))
    assert (study / "ductaflow_version.txt").read_text().strip()
    succeeded([sys.executable, "cnd_my_analysis.py"], study)
    assert list((study / "runs").glob("*/*/config.json"))


def test_a_control_table_makes_instances_and_deliveries(study: Path) -> None:
    (study / "loop.py").write_text(CONDUCTOR)
    assert succeeded([sys.executable, "loop.py"], study).count(" ran") == 3
    assert result(study, "scenario_A") == "2024-OPT1-200"
    assert result(study, "scenario_C") == "2025-NET_2026-300"
    for instance in ("transport/scenario_A", "transport/scenario_B", "planning/scenario_C"):
        delivered = {path.name for path in (study / "delivery" / instance).iterdir()}
        assert delivered >= {"network_analysis.ipynb", "network_analysis.html", "config.json"}

    # Another threshold, and one more row: only what is new or changed is executed.
    changed = CONDUCTOR.replace("[100, 200, 150]", "[100, 250, 150, 1]")
    for old, new in (
        ('"scenario_C"]', '"scenario_C", "scenario_D"]'),
        ('"NET_2025"],', '"NET_2025", "NET_2025"],'),
        ('"NET_2026"]', '"NET_2026", "OPT3"]'), ('"planning"]', '"planning", "planning"]'),
    ):  # fmt: skip
        changed = changed.replace(old, new)
    (study / "loop.py").write_text(changed)
    said = succeeded([sys.executable, "loop.py"], study).splitlines()
    assert said == [
        "scenario_A reused", "scenario_B ran", "scenario_C reused", "scenario_D ran",
    ]  # fmt: skip
    assert (study / "delivery/transport/scenario_B/result.txt").read_text() == "2024-OPT2-500"

    # A bug is mended in the project's own code: what used it is run again.
    (study / "code/own_tools.py").write_text("def doubled(number):\n    return number + number\n")
    assert succeeded([sys.executable, "loop.py"], study).count(" ran") == 4


def test_a_configuration(study: Path) -> None:
    run_step_flow("network_analysis", "one", {"settings": {"weight": 3}})
    folder = study / "runs/network_analysis/one"
    stored = json.loads((folder / "config.json").read_text())
    assert stored == {
        "network_base": "NET_2024", "network_new": "NET_2025", "settings": {"weight": 3},
    }  # fmt: skip
    cells = nbformat.read(folder / "network_analysis.ipynb", 4).cells
    first = next(cell for cell in cells if "Configuration" in cell.source)
    assert first.cell_type == "markdown"
    assert cells.index(first) == 0
    assert "weight" in first.source
    assert (folder / "network_analysis.html").is_file()


def test_a_flow_needs_its_parameters_cell(study: Path) -> None:
    (study / "flow/without.py").write_text("# %%\nprint(1)\n")
    with pytest.raises(Exception, match="parameters"):
        run_step_flow("without", "one", {"a": 1})


def test_a_failure_is_saved_with_its_state(study: Path) -> None:
    with pytest.raises(CellFailed):
        run_step_flow("network_analysis", "broken", {"network_base": "NET_1999"})
    folder = study / "runs/network_analysis/broken"
    cells = nbformat.read(folder / "network_analysis.ipynb", 4).cells
    assert any(o.output_type == "error" for c in cells for o in c.get("outputs", ()))
    assert (folder / "config.json").is_file()


# --- the four ways to run a flow ------------------------------------------------------------------


def test_as_a_notebook_cell_by_cell(study: Path) -> None:
    import jupytext

    folder = study / "runs/network_analysis/by_hand"  # where a flow's relative paths begin
    folder.mkdir(parents=True)
    notebook = jupytext.read(study / "flow/network_analysis.py")
    NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    assert result(study, "by_hand") == "2024-NET_2025-2"


def test_as_a_run_script(study: Path) -> None:
    make = "from ductacore import create_flow_run_script as c; print(c('flow/network_analysis.py'))"
    script = Path(python(make, study).strip())
    assert script.name == "network_analysis_run.py"
    succeeded([sys.executable, script], study)
    (run,) = get_all_instances("network_analysis")
    assert result(study, run.instance) == "2024-NET_2025-2"


def test_as_a_standalone_script_where_there_is_no_jupyter(study: Path, bare_python: Path) -> None:
    make = (
        "from ductacore import create_standalone_python_script as c; "
        "print(c('flow/network_analysis.py'))"
    )
    script = Path(python(make, study).strip())
    assert script.name == "network_analysis_standalone.py"
    config = script.with_name("network_analysis_config.json")
    assert json.loads(config.read_text())["network_base"] == "NET_2024"
    succeeded([bare_python, script], study)
    (written,) = study.glob("runs/network_analysis/*/result.txt")
    assert written.read_text() == "2024-NET_2025-2"


@requires_posix
def test_by_a_runner_that_cleans_up(study: Path) -> None:
    make = "from ductacore import create_flow_bat_runner as c; print(c('flow/network_analysis.py'))"
    runner = Path(python(make, study).strip())
    assert runner.name.startswith("run_network_analysis")
    before = {path for path in study.rglob("*") if "runs" not in path.parts}
    shell = runner.with_suffix(".sh")
    succeeded(["sh", shell], study)
    (written,) = study.glob("runs/network_analysis/*/result.txt")
    assert written.read_text() == "2024-NET_2025-2"
    left = {path for path in study.rglob("*") if "runs" not in path.parts} - before
    assert {path for path in left if "__pycache__" not in path.parts} == set()


# --- flows of flows -------------------------------------------------------------------------------

VECTORS = """
# %% tags=["parameters"]
config = {"zone_system": "L2", "category": "dwellings", "time_period": "am"}
# %%
with open("vectors.txt", "w") as file:
    file.write(f"{zone_system} {category} {time_period}")
"""
VIEW = """
# %% tags=["parameters"]
config = {"vector_instance": ""}
# %%
text = open(f"../../generate_vector_inputs/{vector_instance}/vectors.txt").read()
with open("view.txt", "w") as file:
    file.write(text.upper())
"""
BULK = """
# %% tags=["parameters"]
config = {"source_instances": [], "collated_output_path": ""}
# %%
from ductacore import collate
texts = sorted(open(f"{folder}/view.txt").read() for folder in source_instances)
collate("generate_stock_view", out=".")
texts
# %%
assert len(texts) == 12 and texts[0] == "L2 DWELLINGS AM", texts
assert collated_output_path == "./runs/bulk_outputs/"
"""
ALL = """
from ductacore import get_all_instances, run_step_flow

for time_period in ["am", "pm"]:
    for category in ["dwellings", "trips"]:
        for zone_system in ["L2", "L4", "SCRAM"]:
            name = f"{zone_system}_{category}_{time_period}"
            config = {"time_period": time_period, "category": category, "zone_system": zone_system}
            run_step_flow("generate_vector_inputs", name, config)
            run_step_flow("generate_stock_view", f"view_{name}", {"vector_instance": name})

run_step_flow("generate_bulk_index", "combined_outputs", {
    "source_instances": get_all_instances("generate_stock_view"),
    "collated_output_path": "./runs/bulk_outputs/"
})
"""


def test_a_flow_of_flows(study: Path) -> None:
    for name, text in (
        ("generate_vector_inputs", VECTORS), ("generate_stock_view", VIEW),
        ("generate_bulk_index", BULK),
    ):  # fmt: skip
        (study / f"flow/{name}.py").write_text(text)
    (study / "bulk.py").write_text(ALL)
    succeeded([sys.executable, "bulk.py"], study)
    runs = study / "runs"
    assert (runs / "generate_vector_inputs/SCRAM_trips_pm/vectors.txt").is_file()
    assert (runs / "generate_stock_view/view_L4_trips_am/view.txt").is_file()
    combined = runs / "generate_bulk_index/combined_outputs"
    assert json.loads((combined / "config.json").read_text())["source_instances"][0] == (
        "../../generate_stock_view/view_L2_dwellings_am"
    )
    assert (combined / "index.html").is_file()
    assert json.loads((combined / "bulk_summary.json").read_text())["counts"]["success"] == 12
    # Everything is there: the same conductor executes nothing.
    started = {path: path.stat().st_mtime_ns for path in runs.rglob("run.json")}
    succeeded([sys.executable, "bulk.py"], study)
    changed = {p.parent.name for p in runs.rglob("run.json") if p.stat().st_mtime_ns != started[p]}
    assert changed == set()
