"""What is no longer wanted: marked in lists, removed when asked, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import Project

from ductaflow import check, collate, get_all_instances, prune, run_step_flow, runs_table, sweep
from ductaflow.cli.main import main
from ductaflow.errors import FlowNotFound
from ductaflow.history.lock import instance_lock
from ductaflow.project.lasttable import FOLDER

ROWS = [{"instance": name, "x": x} for x, name in enumerate("abc")]


@pytest.fixture
def shrunk(project: Project) -> Project:
    """step/a and step/b, step/c that left the table, and step/single that was never in it."""
    project.write("step", 'open("out.txt", "w").write(str(x))', parameters='config = {"x": 1}')
    sweep("step", ROWS, progress=False)
    sweep("step", ROWS[:2], progress=False)
    run_step_flow("step", "single", {"x": 9})
    return project


def there(step: str = "step") -> list[str]:
    return [run.instance for run in get_all_instances(step)]


def test_a_row_that_left_the_table_is_marked(
    shrunk: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = runs_table()
    assert dict(zip(frame["instance"], frame["not_in_last_table"], strict=True)) == {
        "a": False, "b": False, "c": True, "single": False,
    }  # fmt: skip
    assert main(["ls", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["instance"] for run in told if run["not_in_last_table"]] == ["c"]
    assert main(["ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("\tnot in the last table")] == [lines[3]]
    summary = json.loads((Path(collate()).parent / "bulk_summary.json").read_text())
    notes = {each["instance"]: each["notes"] for each in summary["instances"]}
    assert notes == {"a": [], "b": [], "c": ["not in the last table"], "single": []}
    sweep("step", ROWS, progress=False)  # it is back
    assert not any(runs_table()["not_in_last_table"])


def test_prune_asks(
    shrunk: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["prune", "--dry-run"]) == 0
    assert capsys.readouterr().out == "step/c: not in the last table\n1 would be removed.\n"
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert main(["prune"]) == 1
    assert "nothing was done" in capsys.readouterr().err
    assert there() == ["a", "b", "c", "single"]
    assert main(["prune", "--yes", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told == {
        "step": "step", "instance": "c", "reason": "not in the last table", "kept": "",
    }  # fmt: skip
    assert there() == ["a", "b", "single"]
    assert not (shrunk.root / "runs/step/c").exists()
    assert main(["prune", "--yes"]) == 0
    assert capsys.readouterr().out == "All is wanted.\n"


def test_a_sweep_can_prune(shrunk: Project) -> None:
    assert [each.label for each in prune(dry_run=True)] == ["step/c"]
    sweep("step", ROWS[:1], only=["a"], prune=True, progress=False)
    assert there() == ["a", "single"]
    assert main(["sweep", "step", "-g", "x=1", "-i", "a{x}", "--prune"]) == 0
    assert there() == ["a1", "single"]
    with pytest.raises(ValueError, match="dry_run removes nothing"):
        sweep("step", ROWS, prune=True, dry_run=True)


def test_parts_of_a_table_take_nothing_away(shrunk: Project) -> None:
    sweep("step", ROWS[:2], limit=1, prune=True, progress=False)
    assert there() == ["a", "b", "single"]
    assert main(["rerun", "step/b"]) == 0
    assert prune() == []


def test_what_runs_stays(shrunk: Project) -> None:
    (run,) = (run for run in get_all_instances("step") if run.instance == "c")
    with instance_lock(run.paths):
        (found,) = prune()
        assert "is in use" in found.kept
        assert main(["prune", "--yes"]) == 1
    assert there() == ["a", "b", "c", "single"]


@pytest.mark.parametrize("linked", ["step", "step/c"])
def test_nothing_is_removed_through_a_link(shrunk: Project, linked: str) -> None:
    place = shrunk.root / "runs" / linked
    real = shrunk.root / "runs" / ".elsewhere"
    place.rename(real)
    place.symlink_to(real)
    (found,) = (each for each in prune() if each.label == "step/c")
    assert found.kept == "its folder is a link"
    assert (shrunk.root / "runs/step/c/out.txt").read_text() == "2"


def test_what_links_lead_to_stays(shrunk: Project) -> None:
    data = shrunk.root / "data"
    data.mkdir()
    (data / "kept.txt").write_text("kept")
    (shrunk.root / "runs/step/c/data").symlink_to(data)
    prune()
    assert there() == ["a", "b", "single"]
    assert (data / "kept.txt").read_text() == "kept"


def test_what_a_flow_that_is_gone_has_left(shrunk: Project) -> None:
    (shrunk.root / "flow/step.py").unlink()
    shrunk.write("other", "pass")
    shrunk.run("other")
    reasons = {each.label: each.reason for each in prune()}
    assert set(reasons) == {"step/a", "step/b", "step/c", "step/single"}
    assert reasons["step/a"] == "its flow flow/step.py is gone"
    assert there() == []
    assert not (shrunk.root / "runs/step").exists()
    assert check().ok


def test_what_a_renamed_flow_has_left(shrunk: Project) -> None:
    (shrunk.root / "flow/step.py").rename(shrunk.root / "flow/model.py")
    sweep("model", ROWS, progress=False)
    prune()
    assert there() == []
    assert there("model") == ["a", "b", "c"]
    assert check().ok


def test_what_a_renamed_step_has_left(project: Project) -> None:
    project.write("flow", "print(x)", parameters='config = {"x": 1}')
    sweep("flow", ROWS, step="old", progress=False)
    sweep("flow", [{**row, "x": 7} for row in ROWS], step="twin", progress=False)
    assert prune(dry_run=True) == []  # of one flow, but with other configs
    sweep("flow", ROWS, step="new", progress=False)
    assert {each.label for each in prune()} == {"old/a", "old/b", "old/c"}
    assert not (project.root / "runs/old").exists()
    assert (there("new"), there("twin")) == (["a", "b", "c"], ["a", "b", "c"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"flow": 1}', '{"tables": 1, "left": [3]}'])
def test_a_damaged_note_of_the_table_marks_nothing(shrunk: Project, text: str) -> None:
    (shrunk.root / "runs" / FOLDER / "step.json").write_text(text)
    assert prune() == []
    assert check().ok
    assert len(there()) == 4


def test_sweeps_of_other_rows_and_later_runs_are_wanted(shrunk: Project) -> None:
    sweep("step", [{"instance": "z", "x": 5}], progress=False)  # another table of the same step
    assert [each.label for each in prune(dry_run=True)] == ["step/c"]
    assert check().ok
    run_step_flow("step", "c", {"x": 7})  # wanted after all
    assert prune(dry_run=True) == []


def test_what_others_read_from_is_no_renamed_step(project: Project) -> None:
    project.write("flow", "open('o.txt', 'w').write(str(x))", parameters='config = {"x": 1}')
    run_step_flow("flow", "base", "z", {"x": 1})
    project.write("down", "open('../../base/z/o.txt').read()")
    run_step_flow("down", "down", "d", {})
    run_step_flow("flow", "other", "z", {"x": 1})
    assert prune(dry_run=True) == []


@pytest.mark.skipif(os.name != "posix", reason="links")
@pytest.mark.parametrize("how", ["gone", "dangling", "empty", "unmounted", "file", "inner link"])
def test_a_folder_of_flows_that_is_not_there_prunes_nothing(
    shrunk: Project, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, aside = shrunk.root / "flow", shrunk.root / "aside"
    if how == "inner link":
        run_step_flow("flow/step.py", "other", "z", {})
        aside.mkdir()
        (aside / "inner.py").write_text((flow / "step.py").read_text() + "\nprint(2)\n")
        (flow / "inner").symlink_to(aside)
        run_step_flow("flow/inner/inner.py", "inner", "z", {})
        aside.rename(shrunk.root / "elsewhere")
    else:
        flow.rename(aside)
    if how == "dangling":
        flow.symlink_to(shrunk.root / "unmounted")
    elif how == "empty":
        (shrunk.root / "mount").mkdir()
        flow.symlink_to(shrunk.root / "mount")
    elif how == "unmounted":
        flow.mkdir()
    elif how == "file":
        flow.write_text("")
    before = sorted(path.name for path in (shrunk.root / "runs").glob("*/*"))
    with pytest.raises(FlowNotFound, match=r"nothing is pruned: the (folder|link) flow"):
        prune()
    assert main(["prune", "--yes"]) != 0
    assert "nothing is pruned" in capsys.readouterr().err
    assert sorted(path.name for path in (shrunk.root / "runs").glob("*/*")) == before
    if how == "inner link":  # what is asked about another step can be told
        assert [each.label for each in prune("step")] == ["step/c"]


def test_a_subfolder_may_go_with_its_flow(project: Project) -> None:
    project.write("stays", "1")
    (project.root / "flow/sub").mkdir()
    project.write("sub/goes", "2")
    run_step_flow("flow/sub/goes.py", "goes", "z", {})
    shutil.rmtree(project.root / "flow/sub")
    assert [each.reason for each in prune()] == ["its flow flow/sub/goes.py is gone"]
