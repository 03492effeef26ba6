"""The public API as its users' type checkers see it: mypy reads this file, nobody runs it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import ductaflow
from ductaflow import (
    Delivery,
    ErrorInfo,
    HtmlOptions,
    Note,
    Reason,
    Run,
    RunFailed,
    RunRecord,
    Runs,
    Status,
    check,
    collate,
    create_flow_bat_runner,
    create_flow_run_script,
    create_standalone_python_script,
    debug_flow,
    display_config_summary,
    export,
    generate_status_report,
    get_all_instances,
    grid,
    is_notebook_execution,
    load_cli_config,
    make_new_ductaflow_instance,
    make_report,
    prune,
    record,
    run_notebook,
    run_step_flow,
    secret,
    sweep,
    sweep_iter,
    thin,
    unpack_config,
    verify,
    zip_grid,
)
from ductaflow.history.events import Event

config: dict[str, Any] = {"seed": 1, "paths": {"out": Path("out")}}

assert_type(ductaflow.__version__, str)

# Running: positional, by keywords, in the short form, and with any path-like.
run = run_step_flow("flow/analysis.py", "analysis", "scenario_A", config)
assert_type(run, Run)
run_step_flow(
    notebook_path=Path("flow/analysis.py"),
    step_name="analysis",
    instance_name="scenario_A",
    config=config,
    root=Path.cwd(),
    timeout=60,
    cell_timeout=1.5,
    kernel_name="python3",
    html=False,
)
run_step_flow("analysis", "scenario_A", config, progress=False)
run_step_flow("analysis", "scenario_A")
assert_type(run_notebook("notebook.ipynb"), Run)
run_step_flow("flow", "a", {"password": secret("env:PASSWORD"), "key": secret(value="text")})
assert_type(run_notebook(Path("notebook.ipynb"), config, "out", timeout=None), Run)

run_notebook("notebook.ipynb", cwd="work", output=Path("out/a.ipynb"), echo=True)
run_notebook(notebook_file="a.py", notebooks_dir="builds", config=config, output_suffix="_done")
assert_type(run_step_flow("analysis", "scenario_A", config, echo=True, suffix="_2"), Run)

# What a run tells.
assert_type(run.status, Status)
assert_type(run.ok, bool)
assert_type(run.step, str)
assert_type(run.instance, str)
assert_type(run.dir, Path)
assert_type(run.notebook, Path)
assert_type(run.html, Path)
assert_type(run.log, Path)
assert_type(run.config, dict[str, Any] | None)
assert_type(run.duration, float | None)
assert_type(run.reused, bool)
assert_type(run.reasons, tuple[Reason, ...])
assert_type(run.notes, tuple[Note, ...])
assert_type(run.error, ErrorInfo | None)
assert_type(run.record, RunRecord)
assert_type(os.fspath(run), str)
assert_type(Status.FAILED.label, str)

# Finding runs.
assert_type(get_all_instances("analysis"), Sequence[Run])
get_all_instances("analysis", status=None, root=".")
get_all_instances("analysis", status=Status.FAILED)
get_all_instances("analysis", status="failed")

# Sweeps.
runs = sweep("analysis", grid(seed=range(3)) + grid(seed=[9]), workers=2)
assert_type(runs, Runs)
assert_type(runs[0], Run)
assert_type(runs[1:], Runs)
assert_type(runs.failed, Runs)
assert_type(runs.summary(), str)
assert_type(runs.raise_if_failed(), Runs)
assert_type(export(runs, "out/{seed}", files="*.csv"), list[Delivery])
events: list[Event] = []
sweep("analysis", [{"x": 1}], config={"x": lambda row: row["x"]}, on_event=events.append)
for each in sweep_iter("analysis", ({"x": n} for n in range(3)), instance="{x}"):
    assert_type(each, Run)
record(accuracy=0.93)
sweep("analysis", zip_grid(x=[1, 2]), retries=1, retry_on=["died", ConnectionError])
assert_type([cause.command for cause in runs.causes()], list[str])
sweep("analysis", [], workers="4")  # type: ignore[arg-type]

# Scripts, projects, and flows that are scripts too.
assert_type(create_flow_run_script("analysis", force=True), Path)
assert_type(create_standalone_python_script(Path("analysis.py"), "out", bundle=True), Path)
assert_type(create_flow_bat_runner("analysis"), Path)
assert_type(make_new_ductaflow_instance("name", "where", vendor=False), Path)
assert_type(debug_flow("analysis", "runs/analysis/a", config, force=True), Path)
assert_type(is_notebook_execution(), bool)
assert_type(load_cli_config("config.json", "what it does"), dict[str, Any])
assert_type(unpack_config(config, "analysis", locals()), dict[str, Any])
display_config_summary(config, "analysis")
assert_type(generate_status_report(runs, "."), str)
assert_type(generate_status_report([{"scenario": "a", "status": "success"}]), str)
run_notebook("flow.py", config, "out", project_root=".", no_execute=True, export_html=False)

# Earlier helpers, by their names.
assert_type(ductaflow.analyze_execution_logs("runs/analysis"), str)
assert_type(ductaflow.generate_config_markdown(config, "analysis"), str)
assert_type(ductaflow.convert_notebook_to_html("a.ipynb", "a.html"), Path)
assert_type(ductaflow.setup_execution_logging("a.txt"), logging.Logger)
assert_type(ductaflow.setup_conductor_logging(), logging.Logger)

# One page about them.
assert_type(collate("analysis", out="runs/bulk_outputs"), Path)
collate(["analysis", "other"], title="Both", bundle=True)
collate(get_all_instances("analysis"))
collate(runs, html=HtmlOptions(title="Client", logo="logo.svg"))
sweep("analysis", [{"x": 1}], live="runs/watch", html=HtmlOptions(code=False))

# Failures lead to their run.
try:
    run_step_flow("analysis", "scenario_A", config, progress=False)
except RunFailed as failed:
    assert_type(failed.run, Run)

# Mistakes that a type checker finds.
run_step_flow("analysis", "scenario_A", config, timeout="1 min")  # type: ignore[arg-type]
run_step_flow("analysis", "scenario_A", config, cel_timeout=1)  # type: ignore[call-arg]
run_notebook(3)  # type: ignore[arg-type]
run.status = Status.FAILED  # type: ignore[misc]

# Verifying.
found = verify("analysis", "scenario_A")
assert_type(found, ductaflow.Verification)
assert_type(verify(run).ok, bool)
assert_type(found.causes, tuple[Reason, ...])
assert_type(
    sweep("flow/analysis.py", [{"seed": 1}], verify=0.02, max_age="1d").verified.differing[0].label,
    str,
)

# What is up to date, and what is no longer wanted.
assert_type(check(), ductaflow.Check)
assert_type(check("analysis", [{"seed": 1}], instance="seed").ok, bool)
assert_type(check("analysis").wanting[0].reasons, tuple[str, ...])
assert_type(prune("analysis", dry_run=True)[0].kept, str)
sweep("analysis", [{"seed": 1}], prune=True)

# Thinning.
assert_type(thin([run], older_than="30d")[0].deleted, tuple[str, ...])
assert_type(make_report(run), Path)
assert_type(run.artifacts, dict[str, Path])
assert_type(run.opened, Path)
assert_type(run.read_log(), str)
thin(runs, compress=["report"])
assert_type(thin(share=True)[0].shared, tuple[str, ...])
