"""Running again what is stale, and only that: along the lines that were observed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from conftest import Project

import ductaflow
from ductaflow import (
    DuctaflowError,
    HtmlOptions,
    Run,
    RunFailed,
    Status,
    TableError,
    accept,
    explain,
    get_all_instances,
    lineage,
    run_step_flow,
    runs_table,
    sweep,
    update,
)
from ductaflow.history.index import FILE, Index

FIRST = (
    'from pathlib import Path\nPath("out.txt").write_text(Path(f"../../../{name}.txt").read_text())'
)
SECOND = (
    "from pathlib import Path\n"
    'text = Path(f"../../first/{name}/out.txt").read_text()\n'
    'Path("out.txt").write_text(text[:4])'
)
THIRD = (
    "from pathlib import Path\n"
    'texts = [Path(f"../../second/{n}/out.txt").read_text() for n in ("a", "b")]\n'
    'Path("all.txt").write_text(" ".join(texts))'
)


@pytest.fixture
def chain(project: Project) -> Project:
    """first/a → second/a ┐
    first/b → second/b ┴→ third/all"""
    parameters = 'config = {"name": "a"}'
    project.write("first", FIRST, parameters=parameters)
    project.write("second", SECOND, parameters=parameters)
    project.write("third", THIRD)
    for name in ("a", "b"):
        (project.root / f"{name}.txt").write_text(f"text of {name}")
        run_step_flow("first", name, {"name": name})
        run_step_flow("second", name, {"name": name})
    run_step_flow("third", "all", {})
    return project


def executed(runs: ductaflow.Runs) -> list[str]:
    return [run.label for run in runs if not run.reused and run.ok]


# --- one instance --------------------------------------------------------------------------------


def test_a_run_that_is_reused_is_the_same_run(project: Project) -> None:
    project.write("flow", "from ductaflow import record; record(x=1)")
    fresh = project.run("flow")
    again = project.run("flow")
    assert not fresh.reused
    assert again.reused
    assert again.record == fresh.record
    assert (again.dir, again.config, again.status) == (fresh.dir, fresh.config, fresh.status)
    assert [reason.kind for reason in fresh.reasons] == ["new"]
    assert again.reasons == ()


def test_reasons_in_data_and_in_words(chain: Project) -> None:
    (chain.root / "runs/first/a/out.txt").write_text("other")
    chain.write("second", SECOND + "\nprint(1)", parameters='config = {"name": "a"}')
    decision = explain("second", "a", {"name": "b"})
    assert not decision.reuse
    assert [(r.kind, r.path) for r in decision.reasons] == [
        ("code", ""),
        ("config", ""),
        ("data", "runs/first/a/out.txt"),
    ]
    words = str(decision)
    assert words.startswith("cell 2 changed; config: name was 'a', is 'b'; ../../first/a/out.txt ")
    assert "changed (from first/a, run " in words
    run = run_step_flow("second", "a", {"name": "b"})
    assert run.reasons == decision.reasons
    assert (
        json.loads(run.paths.record.read_text())["this_run"]["reasons"][0]["message"]
        == "cell 2 changed"
    )


def test_force_and_reuse(project: Project) -> None:
    project.write("flow", "print(1)")
    project.run("flow")
    assert [r.kind for r in project.run("flow", force=True).reasons] == ["forced"]
    assert not project.run("flow", reuse=False).reused
    assert project.run("flow").reused


def test_a_report_that_is_to_look_otherwise(project: Project) -> None:
    project.write("flow", "print(1)")
    looks = HtmlOptions(title="Client", code=False)
    project.run("flow", html=looks)
    assert project.run("flow", html=HtmlOptions(title="Client", code=False)).reused
    assert not project.run("flow", html=HtmlOptions(title="Other")).reused
    assert str(project.run("flow").reasons[0]) == "the report's options changed"
    assert project.run("flow", html=False).reused
    assert [run.reused for run in update("flow", progress=False)] == [True]


def test_a_failed_run_is_not_reused(project: Project) -> None:
    project.write("flow", "1/0")
    with pytest.raises(RunFailed):
        project.run("flow")
    assert str(explain("flow", "a")) == "its last run failed"
    with pytest.raises(RunFailed):
        project.run("flow")


def test_explain_runs_nothing(project: Project) -> None:
    project.write("flow", "print(1)")
    assert str(explain("flow", "a", {})) == "it has not run yet"
    assert not (project.root / "runs").exists()


def test_key_order_and_spelling_of_numbers(project: Project) -> None:
    project.write("flow", "print(a)", parameters="config = {'a': 0, 'b': 0}")
    project.run("flow", {"a": 1, "b": float("nan")})
    assert project.run("flow", {"b": float("nan"), "a": 1}).reused
    assert str(explain("flow", "a", {"a": 1.5, "b": float("nan")})) == "config: a was 1, is 1.5"


def test_versions_of_packages(project: Project) -> None:
    project.write("flow", "import pandas")
    record = project.run("flow").record
    assert {"pandas", "numpy"} <= set(record.packages)
    path = project.root / "runs/flow/a/run.json"
    data = json.loads(path.read_text())
    now = data["packages"]["numpy"]
    data["packages"]["numpy"] = "0.1"
    data["environment"]["python"] = "3.9.1"
    path.write_text(json.dumps(data))
    kinds = [r.kind for r in explain("flow", "a", {}).reasons]
    assert kinds == ["python", "package"]
    assert f"numpy was 0.1, is {now}" in str(explain("flow", "a", {}))
    assert explain("flow", "a", {}, ignore=["python", "package:numpy"]).reuse
    assert run_step_flow("flow", "a", {}, ignore=["python", "package"]).reused
    with pytest.raises(ValueError, match="ignore must be a list of 'python', 'package'"):
        run_step_flow("flow", "a", {}, ignore=["pythn"])


def test_secrets_are_not_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW_TOKEN", "hunter2hunter2")
    project.write(
        "flow", "import os; os.environ['FLOW_TOKEN']; os.getenv('FLOW_UNSET'); _ = dict(os.environ)"
    )
    run = project.run("flow")
    assert set(run.record.variables) == {"FLOW_TOKEN", "FLOW_UNSET"}
    for file in run.dir.iterdir():
        assert "hunter2" not in file.read_text(errors="replace")
    monkeypatch.setenv("FLOW_UNSET", "1")
    assert str(explain("flow", "a")) == "the environment variable FLOW_UNSET is set now"


def test_accept(chain: Project) -> None:
    (chain.root / "a.txt").write_text("text of a, with a harmless change")
    with pytest.raises(DuctaflowError, match="has not run yet"):
        accept("first", "c")
    run = accept("first", "a")
    assert run.reused
    assert "a.txt changed" in run.notes[-1].message
    assert explain("first", "a").reuse
    assert run_step_flow("first", "a", {"name": "a"}).reused
    shutil.rmtree(chain.root / "runs/first/b")
    with pytest.raises(DuctaflowError, match=r"second/b must run|has not run"):
        accept("first", "b")
    (chain.root / "runs/second/a/out.txt").unlink()
    with pytest.raises(DuctaflowError, match=r"second/a must run: out.txt is gone"):
        accept("second", "a")


# --- many ----------------------------------------------------------------------------------------


def test_lineage(chain: Project) -> None:
    found = lineage("second/a")
    assert [run.label for run in found.upstream] == ["first/a"]
    assert [run.label for run in found.downstream] == ["third/all"]
    top = lineage(found.downstream[0])
    assert [run.label for run in top.ancestors] == ["second/a", "second/b", "first/a", "first/b"]
    assert [run.label for run in lineage("first/b").descendants] == ["second/b", "third/all"]
    with pytest.raises(DuctaflowError, match="there is no run 'second/c'"):
        lineage("second/c")


def test_update_follows_the_edges(chain: Project) -> None:
    assert executed(update(progress=False)) == []
    (chain.root / "a.txt").write_text("TEXT of a")
    assert executed(update(progress=False)) == ["first/a", "second/a", "third/all"]
    assert (chain.root / "runs/third/all/all.txt").read_text() == "TEXT text"


def test_update_stops_early_where_the_bytes_are_the_same(chain: Project) -> None:
    (chain.root / "a.txt").write_text("text of another")  # its first four letters are the same
    assert executed(update(progress=False)) == ["first/a", "second/a"]


def test_update_of_one_instance_brings_what_it_depends_on(chain: Project) -> None:
    for name in ("a", "b"):
        (chain.root / f"{name}.txt").write_text("TEXT")
    assert executed(update("second/b", progress=False)) == ["first/b", "second/b"]
    planned = update("third", dry_run=True)
    assert [r.label for r in planned if r.status is Status.PLANNED] == [
        "first/a", "second/a", "third/all",
    ]  # fmt: skip
    assert "second/b would" not in str(planned[-1].reasons)
    assert executed(update("third", progress=False)) == ["first/a", "second/a", "third/all"]
    with pytest.raises(DuctaflowError, match="there is no run or step 'forth'"):
        update("forth")


def test_update_stops_below_a_failure(chain: Project) -> None:
    chain.write("first", FIRST + "\nassert name != 'a'", parameters='config = {"name": "a"}')
    runs = update(progress=False)
    assert {run.label: run.status for run in runs} == {
        "first/a": Status.FAILED,
        "first/b": Status.SUCCEEDED,
        "second/a": Status.BLOCKED,
        "second/b": Status.SUCCEEDED,
        "third/all": Status.BLOCKED,
    }
    by_label = {run.label: run for run in runs}
    assert by_label["second/a"].error.message == "first/a failed"
    assert by_label["third/all"].error.message == "second/a not run"
    chain.write("first", FIRST, parameters='config = {"name": "a"}')
    runs = update(progress=False)
    assert all(run.ok for run in runs)


def test_runs_that_read_from_each_other(project: Project) -> None:
    code = (
        "from pathlib import Path\n"
        "other = Path(f'../../{of}/a/out.txt')\n"
        "print(other.read_text() if other.exists() else 0)\n"
        "Path('out.txt').write_text('1')"
    )
    for name, of in (("one", "two"), ("two", "one")):
        project.write(name, code, parameters=f"config = {{'of': {of!r}}}")
    for name in ("one", "two", "one"):
        run_step_flow(name, "a", {"of": "two" if name == "one" else "one"})
    assert all(run.ok for run in update(progress=False, force=True))


def test_the_loop_of_the_conductor(project: Project) -> None:
    """Add a row, change a threshold, fix the flow: only what changed is executed."""
    project.write("step", "print(x > limit)", parameters="config = {'x': 0, 'limit': 1}")
    rows = [{"instance": f"i{n}", "x": n, "limit": 1} for n in range(4)]

    def loop() -> list[str]:
        return [r.instance for r in sweep("step", rows, progress=False) if not r.reused]

    assert loop() == ["i0", "i1", "i2", "i3"]
    assert loop() == []
    rows.append({"instance": "i4", "x": 4, "limit": 1})
    assert loop() == ["i4"]
    rows[2]["limit"] = 5
    planned = sweep("step", rows, dry_run=True)
    assert [(r.instance, str(r.reasons[0])) for r in planned if not r.reused] == [
        ("i2", "config: limit was 1, is 5")
    ]
    assert loop() == ["i2"]
    project.write("step", "print(x >= limit)", parameters="config = {'x': 0, 'limit': 1}")
    assert loop() == ["i0", "i1", "i2", "i3", "i4"]


def test_a_flow_of_flows(project: Project) -> None:
    """A run that calls for runs depends on what they depend on, reused or not."""
    project.write(
        "inner", "print(open(f'../../../{name}.txt').read())", parameters="config = {'name': 'a'}"
    )
    project.write(
        "outer",
        "from ductaflow import run_step_flow, get_all_instances\n"
        "for name in ('a', 'b'): run_step_flow('inner', name, {'name': name})\n"
        "print([run.instance for run in get_all_instances('inner')])",
    )
    for name in ("a", "b"):
        (project.root / f"{name}.txt").write_text(name)
    project.run("outer")
    inner = run_step_flow("inner", "a", {"name": "a"})
    assert inner.reused
    assert [fact.path for fact in inner.record.inputs if fact.role == "data"] == ["a.txt"]
    outer = {f.path for f in get_all_instances("outer")[0].record.inputs}
    assert {"flow/inner.py", "a.txt", "b.txt"} <= outer
    assert project.run("outer").reused
    assert not project.run("outer", force=True).reused  # where its own runs are reused
    (project.root / "b.txt").write_text("c")
    again = project.run("outer")
    assert [reason.path for reason in again.reasons] == ["b.txt"]
    assert {run.instance: len(run.reasons) for run in get_all_instances("inner")} == {
        "a": 1,
        "b": 1,
    }
    project.write("inner", "print(name)", parameters="config = {'name': 'a'}")
    assert not project.run("outer").reused


@pytest.mark.parametrize(
    "look",
    ["[run.instance for run in get_all_instances('inner')]", "len(runs_table(step='inner'))"],
)
def test_a_flow_that_lists_a_steps_instances(project: Project, look: str) -> None:
    """It has read what the index told it of them, as if it had opened their records."""
    project.write("inner", "from pathlib import Path; assert not Path('../../../no').exists()")
    project.write("outer", f"from ductaflow import *\nprint({look})")
    for name in ("a", "b"):
        run_step_flow("inner", name)
    assert len(get_all_instances("inner")) == 2  # the index is there
    first = project.run("outer")
    assert [run.label for run in lineage(first).upstream] == ["inner/a", "inner/b"]
    assert project.run("outer").reused
    run_step_flow("inner", "a", force=True)
    assert project.run("outer").reused  # it succeeded again
    (project.root / "no").touch()
    with pytest.raises(RunFailed):
        run_step_flow("inner", "a")
    assert [reason.path for reason in project.run("outer").reasons] == ["runs/inner/a/run.json"]


def test_sweeps_within_runs_depend_on_their_own_instances(project: Project) -> None:
    project.write("inner", "x", parameters="config = {'x': 0}")
    project.write(
        "outer",
        "from ductaflow import sweep\n"
        "rows = [{'instance': f'{name}{n}', 'x': n} for n in range(2)]\n"
        "print(len(sweep('inner', rows, progress=False)))",
        parameters="config = {'name': 'a'}",
    )
    for _ in range(2):  # the instances of the second are not there yet, and then they are
        for name in ("a", "b"):
            run_step_flow("outer", name, {"name": name}, force=True)
    for name in ("a", "b"):
        run = run_step_flow("outer", name, {"name": name})
        assert run.reused
        assert {each.label for each in lineage(run).upstream} == {
            f"inner/{name}0",
            f"inner/{name}1",
        }


def test_a_hundred_thousand_files(project: Project) -> None:
    """One that opens very many files is still observed to the end."""
    many = project.root / "many"
    many.mkdir()
    for n in range(300):
        (many / f"{n}.txt").write_text(str(n))
    project.write(
        "flow",
        "import glob\nfor _ in range(5):\n"
        "    total = sum(int(open(f).read()) for f in glob.glob('../../../many/*.txt'))",
    )
    run = project.run("flow")
    assert len([f for f in run.record.inputs if f.role == "data"]) == 300
    (many / "299.txt").write_text("0")
    assert [r.path for r in explain("flow", "a").reasons] == ["many/299.txt"]


# --- the index -----------------------------------------------------------------------------------


@pytest.fixture
def table(project: Project) -> Project:
    project.write(
        "step",
        "from ductaflow import record\nrecord(loss=x / 10)\nassert x != 3",
        parameters="config = {'x': 0, 'deep': {'mode': 'am'}}",
    )
    rows = [{"instance": f"i{n}", "x": n, "deep.mode": "am" if n % 2 else "pm"} for n in range(5)]
    sweep("step", rows, progress=False)
    return project


def test_runs_table(table: Project) -> None:
    frame = runs_table()
    assert list(frame["instance"]) == ["i0", "i1", "i2", "i3", "i4"]
    assert list(frame["metrics.loss"]) == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert list(frame["config.deep.mode"]) == ["pm", "am", "pm", "am", "pm"]
    found = runs_table("status = 'success' and config.x > 1 and config.deep.mode = 'pm'")
    assert list(found["instance"]) == ["i2", "i4"]
    assert list(runs_table({"status": Status.FAILED})["instance"]) == ["i3"]
    assert list(runs_table({"config.x": 1}, step="step")["instance"]) == ["i1"]
    assert "AssertionError" in runs_table({"status": "failed"})["error"][0]
    assert len(runs_table({"status": "success"}, step="never")) == 0


@pytest.mark.parametrize(
    ("where", "match"),
    [
        ("statsu = 'x'", "no column 'statsu'; did you mean 'status'"),
        ({"statsu": "x"}, "no column 'statsu'; did you mean 'status'"),
        ("status =", "cannot be understood"),
        ("1) union select sql from sqlite_master --", "cannot be understood"),
        ("load_extension('x')", "cannot be understood"),
    ],
)  # fmt: skip
def test_conditions_that_are_none(table: Project, where: object, match: str) -> None:
    with pytest.raises(TableError, match=match):
        runs_table(where)  # type: ignore[arg-type]


def labels() -> list[str]:
    return [run.label for run in get_all_instances("step", status=None)]


@pytest.mark.parametrize("harm", ["gone", "rubbish", "layout", "folder", "table", "locked"])
def test_an_index_that_is_no_good(table: Project, harm: str) -> None:
    file = table.root / "runs" / FILE
    assert file.exists()
    holder = None
    if harm == "gone":
        file.unlink()
    elif harm == "rubbish":
        file.write_bytes(os.urandom(10_000))
    elif harm == "layout":
        with sqlite3.connect(file) as connection:
            connection.execute("pragma user_version = 99")
        connection.close()
    elif harm == "folder":
        file.unlink()
        file.mkdir()
    elif harm == "table":
        with sqlite3.connect(file) as connection:
            connection.execute("drop table runs")
            connection.execute("create table runs (step text)")
        connection.close()
    else:
        holder = sqlite3.connect(file, isolation_level=None)
        holder.execute("begin exclusive")
    assert labels() == [f"step/i{n}" for n in range(5)]
    assert len(runs_table({"status": "success"})) == 4
    if holder is not None:
        holder.close()


def test_an_index_that_is_locked_while_it_is_read(table: Project) -> None:
    """What had been read of it is not lost."""
    shutil.copytree(table.root / "runs" / "step", table.root / "runs" / "other")
    with Index(table.root) as index:
        assert len(index.read("step")) == 5
        holder = sqlite3.connect(table.root / "runs" / FILE, isolation_level=None)
        holder.execute("begin exclusive")
        assert len(index.read("other")) == 5
        holder.close()
        assert len(list(index.select(["instance"], "1", []))) == 10


def test_the_folders_are_the_truth(table: Project) -> None:
    runs = table.root / "runs" / "step"
    assert len(labels()) == 5
    shutil.rmtree(runs / "i0")
    shutil.copytree(runs / "i1", runs / "i9")
    record = json.loads((runs / "i2" / "run.json").read_text())
    record["status"] = "interrupted"
    (runs / "i2" / "run.json").write_text(json.dumps(record))
    (runs / "i4" / "run.json").write_text("{")
    assert [Path(run.dir).name for run in get_all_instances("step", status=None)] == [
        "i1", "i2", "i3", "i9",
    ]  # fmt: skip
    assert [run.dir.name for run in get_all_instances("step")] == ["i1", "i9"]


def test_two_conductors_share_the_index(table: Project) -> None:
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(10):
                assert len(labels()) == 5
                (table.root / "runs/step/i1/run.json").touch()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_runs_of_the_index_know_it_all(table: Project) -> None:
    run = get_all_instances("step")[0]
    assert isinstance(run, Run)
    assert run.record.cells[0].status == "ok"
    assert run.config == {"x": 0, "deep": {"mode": "pm"}}
