"""Which columns of a control table go into configs: the same from Python and the command line."""

from __future__ import annotations

import pytest
from conftest import Project

from ductaflow import get_all_instances, sweep
from ductaflow.cli.main import main

TABLE = "scenario,region,alpha\nbase,north,1\nhigh,south,\n"


@pytest.mark.parametrize("instance", ["scenario", "{scenario}"])
def test_both_ways_in_plan_the_same_instances(project: Project, instance: str) -> None:
    project.write("f", "print(region, alpha)", parameters='config = {"region": "x", "alpha": 5}')
    (project.root / "control.csv").write_text(TABLE)
    for force in ([], ["--columns", "region,alpha"]):
        args = ["sweep", "f", "-t", "control.csv", "-i", instance, "--dry-run", "--json", *force]
        assert main(args) == 0
        planned = sweep("f", "control.csv", instance=instance, dry_run=True)
        assert [run.instance for run in planned] == ["base", "high"]
        assert main(["sweep", "f", "-t", "control.csv", "-i", instance, *force]) == 0
        told = {run.instance: (run.config, run.notes) for run in get_all_instances("f")}
        assert told["base"] == ({"region": "north", "alpha": 1}, ())
        assert told["high"] == ({"region": "south", "alpha": 5}, ())
        again = sweep("f", "control.csv", instance=instance)
        assert again[0].reused
        assert again[0].config == told["base"][0]


def test_a_naming_column_that_the_flow_uses_is_in_its_config(project: Project) -> None:
    project.write("f", "print(region, config.get('alpha'))")
    project.write("loops", "for key, value in config.items(): print(key, value)")
    (project.root / "control.csv").write_text(TABLE)
    for flow, instance, expected in (
        ("f", "{region}-{scenario}", {"region", "alpha"}),
        ("f", "scenario", {"region", "alpha"}),
        ("loops", "{region}-{scenario}", {"scenario", "region", "alpha"}),
        ("loops", "{scenario}", {"region", "alpha"}),
    ):
        run = sweep(flow, "control.csv", instance=instance, limit=1)[0]
        assert run.config is not None
        assert set(run.config) == expected
        assert main(["sweep", flow, "-t", "control.csv", "-i", instance]) == 0
        assert [r.config for r in get_all_instances(flow) if r.instance == run.instance] == [
            run.config
        ]


def test_a_dotted_column_that_names_is_in_the_config(project: Project) -> None:
    parameters = 'config = {"p": {"freq": 1, "mode": "calm"}}'
    project.write("f", "print(p)", parameters=parameters)
    rows = [{"p.freq": 1, "p.mode": "calm"}, {"p.freq": 2, "p.mode": "rough"}]
    runs = sweep("f", rows, instance="{p.freq}_{p.mode}", dry_run=True)
    assert [run.config for run in runs] == [
        {"p": {"freq": 1, "mode": "calm"}},
        {"p": {"freq": 2, "mode": "rough"}},
    ]
