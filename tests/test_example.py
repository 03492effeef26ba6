"""The example that travels with the repository: it runs as a script, and its numbers are right."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from ductaflow import create_standalone_python_script

EXAMPLE = Path(__file__).parents[1] / "examples" / "rain_tanks"
FIGURES = {"prepare_weather": 1, "simulate_tank": 2, "compare_tanks": 1}

pytestmark = pytest.mark.skipif(not EXAMPLE.is_dir(), reason="the examples are not here")


@attrs.frozen
class Study:
    """A copy of the example that has been run.

    Attributes:
        root: Its folder.
        printed: What its conductor printed.
    """

    root: Path
    printed: str

    def instances(self, step: str) -> list[str]:
        return sorted(folder.name for folder in (self.root / "runs" / step).iterdir())

    def record(self, step: str, instance: str) -> dict[str, Any]:
        return self.json(step, instance, "run.json")

    def json(self, step: str, instance: str, name: str) -> dict[str, Any]:
        return json.loads((self.root / "runs" / step / instance / name).read_text("utf-8"))

    def table(self, step: str, instance: str, name: str) -> list[dict[str, str]]:
        return read_table(self.root / "runs" / step / instance / name)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def start(root: Path, elsewhere: Path) -> subprocess.CompletedProcess[str]:
    """Run the conductor as a user would who stands in another folder."""
    env = {name: value for name, value in os.environ.items() if name != "DUCTAFLOW_ROOT"}
    return subprocess.run(
        [sys.executable, str(root / "cnd_rain_tanks.py")],
        cwd=elsewhere,
        env={**env, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=150,
        check=False,
    )


def conduct(root: Path, elsewhere: Path) -> str:
    """What the conductor prints, if all goes well."""
    done = start(root, elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    progress = done.stderr.splitlines()
    assert all("succeeded" in line or line.startswith("0/") for line in progress), done.stderr
    return done.stdout


def keep_rows(root: Path, *beginnings: str) -> None:
    """Keep only those rows of the table of scenarios."""
    inputs = root / "inputs" / "scenarios.csv"
    head, *rows = inputs.read_text("utf-8").splitlines()
    kept = [row for row in rows if row.startswith(beginnings)]
    inputs.write_text("\n".join([head, *kept, ""]), "utf-8")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("example")
    root = folder / "rain_tanks"
    shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    printed = conduct(root, elsewhere)
    assert not any(elsewhere.iterdir())
    return Study(root, printed)


def water_balance(days: list[dict[str, str]], *, roof: float, demand: float, tank: float):
    """The study's model once more, for a house without a garden: share met, longest gap."""
    stored = supplied = 0.0
    gap = longest = 0
    for day in days:
        given = min(demand, stored)
        caught = 0.85 * roof * max(float(day["precipitation"]) - 0.5, 0.0) / 1000
        stored = min(stored + caught, tank) - given
        supplied += given
        gap = gap + 1 if given < demand - 1e-9 else 0
        longest = max(longest, gap)
    return supplied / (demand * len(days)), longest


def test_every_instance_succeeds(study: Study) -> None:
    scenarios = [row["scenario"] for row in read_table(study.root / "inputs" / "scenarios.csv")]
    assert study.instances("simulate_tank") == sorted(scenarios)
    assert study.instances("prepare_weather") == ["2012-2015", "2013"]
    assert study.instances("compare_tanks") == ["all"]
    for step in FIGURES:
        for instance in study.instances(step):
            record = study.record(step, instance)
            assert record["status"] == "success", (step, instance, record["error"])
            assert record["notes"] == [], (step, instance)


def test_prints_a_line_for_each_run_and_where_to_look(study: Study) -> None:
    lines = study.printed.splitlines()
    assert sum(" success " in line for line in lines) == 12
    assert str(study.root / "runs" / "compare_tanks" / "all" / "compare_tanks.html") in lines[-3]


def test_each_client_gets_what_they_asked_for(study: Study) -> None:
    table = read_table(study.root / "inputs" / "scenarios.csv")
    deliveries = study.root / "deliveries"
    got = {(f.parent.name, f.name) for f in deliveries.glob("*/*")}
    assert got == {(row["client"], row["scenario"]) for row in table}
    for folder in deliveries.glob("*/*"):
        names = {file.name for file in folder.iterdir()}
        assert names == {"simulate_tank.html", "balance.csv", "ductaflow-manifest.json"}
        original = study.root / "runs" / "simulate_tank" / folder.name / "balance.csv"
        assert (folder / "balance.csv").read_bytes() == original.read_bytes()


@pytest.mark.parametrize(
    ("scenario", "roof", "demand", "tank"),
    [("laundry_5m3", 120, 0.135, 5), ("laundry_5m3_small_roof", 60, 0.135, 5)],
)
def test_numbers_agree_with_an_independent_balance(
    study: Study, scenario: str, roof: float, demand: float, tank: float
) -> None:
    days = read_table(study.root / "inputs" / "seattle-weather.csv")
    reliability, longest = water_balance(days, roof=roof, demand=demand, tank=tank)
    summary = study.json("simulate_tank", scenario, "summary.json")
    assert summary["reliability"] == pytest.approx(reliability, abs=1e-6)
    assert summary["longest_gap_days"] == longest
    compared = {
        row["scenario"]: row for row in study.table("compare_tanks", "all", "comparison.csv")
    }
    assert float(compared[scenario]["reliability"]) == pytest.approx(reliability, abs=1e-6)


def test_no_water_is_lost_and_the_tank_never_overfull(study: Study) -> None:
    days = study.table("simulate_tank", "garden_10m3", "balance.csv")
    before = 0.0
    for day in ({k: float(v) for k, v in row.items() if k != "date"} for row in days):
        after = before + day["inflow"] - day["overflow"] - day["supplied"]
        assert day["stored"] == pytest.approx(after, abs=1e-5)
        assert -1e-6 <= day["stored"] <= 10 + 1e-6
        assert day["supplied"] + day["mains"] == pytest.approx(day["demand"], abs=1e-5)
        before = day["stored"]


def test_an_empty_cell_of_the_table_means_the_base_case(study: Study) -> None:
    config = study.json("simulate_tank", "toilets_1m3", "config.json")
    assert config["roof"]["roof_m2"] == 120
    assert config["garden"]["garden_m2"] == 0
    assert config["period"] == "2012-2015"
    assert study.json("simulate_tank", "laundry_5m3_2013", "config.json")["period"] == "2013"


def test_notebooks_and_reports_have_their_figures(study: Study) -> None:
    for step, count in FIGURES.items():
        for instance in study.instances(step):
            folder = study.root / "runs" / step / instance
            notebook = json.loads((folder / f"{step}.ipynb").read_text("utf-8"))
            outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", [])]
            figures = [out for out in outputs if "image/png" in out.get("data", {})]
            assert len(figures) == count, (step, instance)
            assert not [out for out in outputs if out.get("name") == "stderr"], (step, instance)
            page = (folder / f"{step}.html").read_text("utf-8")
            assert page.count("data:image/png;base64,") == count, (step, instance)


def test_unfit_weather_ends_the_study_and_leaves_a_report(study: Study) -> None:
    root = study.root.with_name("failing")
    shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    keep_rows(root, "laundry_5m3,", "laundry_5m3_2013,")
    weather = root / "inputs" / "seattle-weather.csv"
    weather.write_text(weather.read_text("utf-8").replace("2013/07/01,0.0", "2013/07/01,-999.9"))
    done = start(root, root)
    assert done.returncode != 0
    assert "2 of 2 failed, 1 cause" in done.stderr
    assert "2012-2015, 2013" in done.stderr
    failed = Study(root, done.stdout)
    assert (
        "'days of negative rain': 1" in failed.record("prepare_weather", "2013")["error"]["message"]
    )
    assert (root / "runs" / "prepare_weather" / "2013" / "prepare_weather.html").is_file()
    assert not (root / "runs" / "simulate_tank").exists()


def test_runs_again_with_another_table(study: Study) -> None:
    again = Study(study.root.with_name("again"), "")
    shutil.copytree(study.root, again.root)
    keep_rows(again.root, "laundry_5m3,", "laundry_5m3_2013,")
    printed = conduct(again.root, again.root)
    assert printed.count(" success ") == 2
    assert len(again.instances("simulate_tank")) == 12
    compared = again.table("compare_tanks", "all", "comparison.csv")
    assert [row["scenario"] for row in compared] == ["laundry_5m3", "laundry_5m3_2013"]
    for name in ("balance.csv", "summary.json"):
        path = Path("runs", "simulate_tank", "laundry_5m3", name)
        assert (again.root / path).read_bytes() == (study.root / path).read_bytes()


@pytest.mark.parametrize(
    ("step", "instance", "files"),
    [
        ("prepare_weather", "2013", ["weather.csv"]),
        ("simulate_tank", "garden_5m3", ["balance.csv", "summary.json"]),
        ("compare_tanks", "all", ["comparison.csv"]),
    ],
)
def test_flows_are_standalone_scripts_too(
    study: Study, bare_python: Path, step: str, instance: str, files: list[str]
) -> None:
    """Made from the flow, run without ductaflow and Jupyter, a script gives the same data."""
    made = study.root / "runs" / step / instance
    config = json.loads((made / "config.json").read_text("utf-8"))
    flow = study.root / "flow" / f"{step}.py"
    script = create_standalone_python_script(flow, config=config, root=study.root)
    done = subprocess.run(
        [bare_python, "-I", str(script)],
        cwd=study.root.parent, capture_output=True, encoding="utf-8", timeout=150, check=False,
        env={"PATH": os.defpath, "PYTHONUTF8": "1", "MPLCONFIGDIR": str(study.root.parent / "mpl")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = study.root / "runs" / step / "standalone"
    for name in [*files, "config.json"]:
        assert (folder / name).read_bytes() == (made / name).read_bytes(), name
    figures = [file.name for file in folder.glob("*.png")]
    assert sorted(figures) == [f"{step}_figure_{n + 1:02d}.png" for n in range(FIGURES[step])]
    shutil.rmtree(folder)
