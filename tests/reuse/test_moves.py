"""Flows that are gone, moved or renamed, and that what failed is told as failed everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Project

from ductaflow import (
    FlowNotFound,
    Status,
    check,
    get_all_instances,
    prune,
    run_step_flow,
    sweep,
    thin,
    update,
)
from ductaflow.cli.main import main
from ductaflow.flows.finding import resolve_flow
from ductaflow.history.recordfile import read_record

CELL = 'open("out.txt", "w").write(str(x))'
ROWS = [{"instance": name, "x": x} for x, name in enumerate("ab")]
BELOW = 'open("out.txt", "w").write(open("../../first/a/out.txt").read() + " and more")'


@pytest.fixture
def swept(project: Project) -> Project:
    """first/a and first/b; second/a reads from first/a."""
    project.write("first", CELL, parameters='config = {"x": 1}')
    sweep("first", ROWS, progress=False)
    project.write("second", BELOW)
    project.run("second")
    return project


def move(project: Project, there: str) -> None:
    """Give `flow/first.py` another place."""
    target = project.root / there
    target.parent.mkdir(parents=True, exist_ok=True)
    (project.root / "flow/first.py").rename(target)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


# --- gone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_update_whose_flow_is_gone_failed(swept: Project, dry_run: bool) -> None:
    (swept.root / "flow/first.py").unlink()
    runs = update(dry_run=dry_run, progress=False)
    standing = {run.label: (run.status, run.record.status) for run in runs}
    assert standing == {
        "first/a": (Status.FAILED, Status.FAILED),
        "first/b": (Status.FAILED, Status.FAILED),
        "second/a": (Status.BLOCKED, Status.BLOCKED),
    }
    assert len(runs.failed) == 3
    assert {run.error.type for run in runs if run.error} == {"FlowNotFound", "Blocked"}


@pytest.mark.parametrize("dry_run", [False, True])
def test_and_the_command_says_so(
    swept: Project, dry_run: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (swept.root / "flow/first.py").unlink()
    how = ["--dry-run"] if dry_run else []
    assert main(["update", *how]) == 1
    out = capsys.readouterr().out
    assert "✓" not in out
    assert "✗ failed first/a\n    FlowNotFound: " in out
    words = "cannot run" if dry_run else "did not succeed"
    assert "0 of 3 w" in out
    assert f"; 3 {words}." in out
    assert main(["update", "--json", *how]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [run["status"] for run in told] == ["failed", "failed", "blocked"]


def test_a_rerun_goes_on_with_those_whose_flows_are_there(
    swept: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (swept.root / "flow/first.py").unlink()
    assert main(["rerun", "first/a", "second/a", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [(run["step"], run["status"]) for run in told] == [
        ("first", "failed"),
        ("second", "success"),
    ]
    assert main(["rerun", "first/a"]) == 1
    assert "0 of 1 succeeded.\n  first/a: FlowNotFound: " in capsys.readouterr().out


def test_what_cannot_be_accepted_does_not_stop_the_others(
    swept: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (swept.root / "flow/first.py").unlink()
    swept.write("second", BELOW + "\nprint(1)")
    assert main(["accept", "first/a", "second/a"]) == 1
    said = capsys.readouterr()
    assert "there is no such flow file" in said.err
    assert "accepted without running: cell 2 changed" in said.out


def test_what_could_not_be_delivered_says_so_as_json(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("flow", "pass")
    (project.root / "taken").write_text("a file, no folder")
    assert main(["sweep", "flow", "-g", "x=1", "--export-to", "taken/{instance}", "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)
    assert told["error"].startswith("ExportError: ")


# --- moved and renamed ---------------------------------------------------------------------------


def test_a_moved_flow_is_followed_by_its_records(swept: Project) -> None:
    move(swept, "flow/early/first.py")
    runs = update(progress=False)
    assert len(runs.reused) == 3
    assert {run.record.flow for run in get_all_instances("first")} == {"flow/early/first.py"}
    notebook = json.loads((swept.root / "runs/first/a/first.ipynb").read_text())
    assert notebook["metadata"]["ductaflow"]["flow"] == "flow/early/first.py"
    assert main(["rerun", "first/a", "--json"]) == 0
    assert len(update(progress=False).reused) == 3


def test_a_moved_flow_may_have_other_code(swept: Project) -> None:
    move(swept, "flow/early/first.py")
    flow = swept.root / "flow/early/first.py"
    flow.write_text(flow.read_text() + "\nprint(x)\n")
    runs = update("first", progress=False)
    assert [(run.ok, run.reused) for run in runs] == [(True, False)] * 2
    assert {run.record.flow for run in runs} == {"flow/early/first.py"}


def test_a_renamed_flow_is_reused_and_so_are_its_files(swept: Project) -> None:
    folder = swept.root / "runs/first/a"
    log = (folder / "first.log").read_text()
    move(swept, "flow/early/begin.py")
    assert len(sweep("begin", ROWS, step="first", progress=False).reused) == 2
    assert names(folder) == [
        "begin.html", "begin.ipynb", "begin.log", "config.json", "out.txt", "run.json",
    ]  # fmt: skip
    assert (folder / "begin.log").read_text() == log
    record = read_record(folder / "run.json")
    assert record is not None
    assert record.flow == "flow/early/begin.py"
    assert len(update(progress=False).reused) == 3


def test_so_it_is_where_its_notebook_was_edited_by_hand(swept: Project) -> None:
    folder = swept.root / "runs/first/a"
    notebook = folder / "first.ipynb"
    notebook.write_text(notebook.read_text().replace("open(", "open( "))
    edited = notebook.read_bytes()
    move(swept, "flow/begin.py")
    run = run_step_flow("begin", "first", "a", {"x": 0})
    assert run.reused
    assert run.notebook == folder / "begin.ipynb"
    assert run.notebook.read_bytes() == edited
    assert not notebook.exists()


def test_an_update_follows_a_renamed_flow(swept: Project) -> None:
    move(swept, "flow/begin.py")
    assert len(update(progress=False).reused) == 3
    assert "begin.ipynb" in names(swept.root / "runs/first/b")


def test_a_renamed_flow_that_runs_leaves_one_set_of_artifacts(swept: Project) -> None:
    move(swept, "flow/begin.py")
    swept.write("begin", CELL, "print(x)", parameters='config = {"x": 1}')
    run = run_step_flow("begin", "first", "a", {"x": 0})
    assert not run.reused
    assert [name for name in names(run.dir) if name.startswith("first")] == []


def test_two_flows_may_share_an_instance(swept: Project) -> None:
    (swept.root / "flow/other.py").write_text((swept.root / "flow/first.py").read_text())
    assert not run_step_flow("other", "first", "a", {"x": 0}).reused
    assert {"first.ipynb", "other.ipynb"} <= set(names(swept.root / "runs/first/a"))


def test_no_other_flow_is_taken_for_one_that_is_gone(swept: Project) -> None:
    sweep(swept.write("same", CELL, parameters='config = {"x": 1}'), ROWS, progress=False)
    (swept.root / "flow/first.py").unlink()
    assert {run.status for run in update("first", progress=False)} == {Status.FAILED}


def test_one_of_several_is_not_guessed(swept: Project) -> None:
    for folder in ("one", "two"):
        (swept.root / "flow" / folder).mkdir()
        swept.write(f"{folder}/first", f"print('{folder}')", parameters='config = {"x": 1}')
    (swept.root / "flow/first.py").unlink()
    run = update("first/a", progress=False)[0]
    assert run.status is Status.FAILED
    assert run.error is not None
    assert "flow/one/first.py, flow/two/first.py" in run.error.message


# --- subfolders ----------------------------------------------------------------------------------


def test_flows_are_found_in_subfolders(project: Project) -> None:
    (project.root / "flow/a/b").mkdir(parents=True)
    (project.root / "flow/.hidden").mkdir()
    path = project.write("a/b/deep", "print(1)")
    project.write(".hidden/secret", "print(1)")
    for name in ("deep", "deep.py", "a/b/deep", "a/b/deep.py", "flow/a/b/deep"):
        assert resolve_flow(name, project.root, project.root) == path
    assert run_step_flow("deep", "x", {}).label == "deep/x"
    with pytest.raises(FlowNotFound):
        resolve_flow("secret", project.root, project.root)
    with pytest.raises(FlowNotFound, match=r"did you mean flow/a/b/deep\.py"):
        resolve_flow("deeep", project.root, project.root)
    project.write("a/deep", "print(2)")
    with pytest.raises(FlowNotFound, match=r"several .* flow/a/deep\.py, flow/a/b/deep\.py"):
        resolve_flow("deep", project.root, project.root)


def test_a_flow_of_another_step_is_never_run_in_the_place_of_one_that_is_gone(
    project: Project,
) -> None:
    for place in ("north", "south"):
        (project.root / "flow" / place).mkdir()
        project.write(f"{place}/model", f"open('o.txt', 'w').write('{place}')")
        run_step_flow(f"flow/{place}/model.py", place, "i", {})
    (project.root / "flow/north/model.py").unlink()
    (north,) = update("north", progress=False)
    assert not north.ok
    assert (project.root / "runs/north/i/o.txt").read_text() == "north"
    assert not check("north").ok
    assert "south/i" not in {each.label for each in prune(dry_run=True)}


def test_a_thinned_run_follows_a_renamed_flow(project: Project) -> None:
    project.write("a", "print(1)")
    run_step_flow("a", "s", "i", {})
    thin("s")
    (project.root / "flow/a.py").rename(project.root / "flow/b.py")
    run = run_step_flow("b", "s", "i", {})
    assert run.reused
    assert names(project.root / "runs/s/i") == [
        "b.ipynb.gz", "b.log.gz", "config.json", "run.json",
    ]  # fmt: skip
    project.write("b", "print(2)")
    assert prune(dry_run=True) == []
    assert [each.standing.value for each in check().wanting] == ["stale"]
    run_step_flow("b", "s", "i", {})
    assert names(project.root / "runs/s/i") == [
        "b.html",
        "b.ipynb",
        "b.log",
        "config.json",
        "run.json",
    ]
