"""A flow of flows: it runs steps that read each other's instances, and collates the last."""

from __future__ import annotations

import json

from ductaflow import get_all_instances, run_step_flow

META = """
from ductaflow import collate, get_all_instances, run_step_flow

for time_period in time_periods:
    for category in categories:
        for zone_system in zone_systems:
            name = f"{zone_system}_{category}_{time_period}"
            run_step_flow("generate_vector_inputs", name, {
                "time_period": time_period, "category": category, "zone_system": zone_system,
            })
            run_step_flow("generate_stock_view", name, {"vector_inputs": name})
"""
COLLATES = """
page = collate("generate_stock_view", out="../../bulk_outputs")
rows = [
    {"instance": run.instance, **run.record.metrics}
    for run in get_all_instances("generate_stock_view")
]
run_step_flow("summarise_stock", "all", {"instances": [row["instance"] for row in rows]})
print(page)
len(rows)
"""


def test_a_flow_of_flows_at_scale(project):
    project.write(
        "generate_vector_inputs",
        "import json\nfrom pathlib import Path",
        "size = len(time_period) * len(category) * len(zone_system)",
        "Path('vectors.json').write_text(json.dumps({'size': size}))",
        parameters="config = {'time_period': 'am', 'category': 'dwellings', 'zone_system': 'L1'}",
    )
    project.write(
        "generate_stock_view",
        "import json\nfrom ductaflow import record",
        "vectors = json.load(open(f'../../generate_vector_inputs/{vector_inputs}/vectors.json'))",
        "record(stock=10 * vectors['size'])",
        parameters="config = {'vector_inputs': 'L1_dwellings_am'}",
    )
    project.write(
        "summarise_stock",
        "from ductaflow import get_all_instances, record",
        "runs = {run.instance: run for run in get_all_instances('generate_stock_view')}",
        "record(total=sum(runs[name].record.metrics['stock'] for name in instances))",
        parameters="config = {'instances': []}",
    )
    project.write(
        "everything", META, COLLATES,
        parameters="config = {'time_periods': [], 'categories': [], 'zone_systems': []}",
    )  # fmt: skip
    config = {
        "time_periods": ["am", "midday"],
        "categories": ["dwellings", "jobs"],
        "zone_systems": ["L1", "L2", "zones"],
    }
    run = run_step_flow("everything", "everything", "all", config)
    assert run.ok

    views = get_all_instances("generate_stock_view")
    assert len(views) == len(get_all_instances("generate_vector_inputs")) == 12
    assert {view.instance for view in views} >= {"L1_dwellings_am", "zones_jobs_midday"}
    expected = 10 * sum(
        len(t) * len(c) * len(z)
        for t in config["time_periods"]
        for c in config["categories"]
        for z in config["zone_systems"]
    )
    (summary,) = get_all_instances("summarise_stock")
    assert summary.record.metrics == {"total": expected}

    out = project.root / "runs" / "bulk_outputs"
    assert str(out / "index.html") in run.log.read_text("utf-8")
    bulk = json.loads((out / "bulk_summary.json").read_text("utf-8"))
    assert bulk["counts"]["total"] == bulk["counts"]["success"] == 12
    assert sum(one["metrics"]["stock"] for one in bulk["instances"]) == expected
    for one in bulk["instances"]:
        assert (out / one["links"]["report"]).is_file()
