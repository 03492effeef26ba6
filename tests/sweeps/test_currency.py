"""`check`: what is stale, failed or missing, for all, a step, an instance and a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Project

from ductaflow import DuctaflowError, check, run_step_flow, sweep
from ductaflow.cli.main import main

ROWS = [{"instance": name, "x": x} for x, name in enumerate("abc")]


@pytest.fixture
def swept(project: Project) -> Project:
    """step/a, step/b and step/c; reader/a reads from step/a."""
    project.write("step", 'open("out.txt", "w").write(str(x))', parameters='config = {"x": 1}')
    sweep("step", ROWS, progress=False)
    project.write("reader", 'print(open("../../step/a/out.txt").read())')
    project.run("reader")
    return project


def wanting(*args: object, **options: object) -> dict[str, str]:
    found = check(*args, **options)  # type: ignore[arg-type]
    assert found.ok is not bool(found.wanting)
    return {each.label: each.standing.value for each in found.wanting}


def test_all_is_up_to_date(swept: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert wanting() == {}
    assert len(check().instances) == 4
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "4 runs: 4 up to date.\n"
    assert wanting("step", ROWS) == {}


def test_what_is_stale_and_what_reads_from_it(
    swept: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    swept.write("step", "print(x)", parameters='config = {"x": 1}')
    every = {"reader/a": "stale", **{f"step/{name}": "stale" for name in "abc"}}
    assert wanting() == every
    assert wanting("reader") == {"reader/a": "stale", "step/a": "stale"}
    assert wanting("step/b") == {"step/b": "stale"}
    assert main(["check", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert {each["instance"]: each["reasons"] for each in told["instances"]}["b"] == [
        "cell 2 changed"
    ]
    assert not (swept.root / "runs/step/b/new").exists()
    assert wanting() == every  # nothing was run


def test_what_failed_or_is_damaged(swept: Project) -> None:
    swept.write("bad", "1 / 0")
    sweep("bad", [{"instance": "z"}], progress=False)
    (swept.root / "runs/step/b/run.json").write_text("{")
    assert wanting() == {"bad/z": "failed", "step/b": "failed"}
    (swept.root / "flow/reader.py").unlink()
    assert wanting("reader") == {"reader/a": "failed"}


def test_rows_without_a_run_are_missing(swept: Project, capsys: pytest.CaptureFixture[str]) -> None:
    sweep("step", [*ROWS, {"instance": "d", "x": 4}], only=["a"], progress=False)
    assert wanting() == wanting("step") == {"step/d": "missing"}
    assert wanting("step/d") == {"step/d": "missing"}
    assert wanting("step", ROWS) == {}
    assert main(["check", "step"]) == 1
    assert "○ missing step/d: it has not run yet\n" in capsys.readouterr().out


def test_a_table_is_checked_without_having_run(
    swept: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    table = swept.root / "table.csv"
    table.write_text("instance_name,x\na,0\nb,7\nnew,3\n")
    assert wanting("step", table) == {"step/b": "stale", "step/new": "missing"}
    assert main(["check", "step", "-t", str(table)]) == 1
    assert "config: x was 1, is 7" in capsys.readouterr().out
    assert main(["check", "step", "-g", "x=8,9", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["instances"]
    assert [each["standing"] for each in told] == ["missing", "missing"]
    assert wanting() == {}  # a check is no sweep: the step's table is as it was


def test_a_table_is_stale_where_what_its_runs_read_is(swept: Project) -> None:
    swept.write("step", "print(x)", parameters='config = {"x": 1}')
    assert wanting("reader", [{"instance": "a"}]) == {"reader/a": "stale", "step/a": "stale"}


def test_no_run_at_all_is_not_up_to_date(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("step", "pass")
    assert main(["check"]) == 1
    assert capsys.readouterr().out == "There is no run.\n"
    with pytest.raises(DuctaflowError, match="there is no run or step 'step'"):
        check("step")
    assert main(["check", "step", "--step", "x"]) == 2
    assert "need --table" in capsys.readouterr().err
    with pytest.raises(TypeError, match="workers only with a table"):
        check(workers=2)


def test_some_that_are_run_again_are_not_the_table(swept: Project) -> None:
    assert main(["rerun", "step/a"]) == 0
    (swept.root / "runs/step/b/run.json").unlink()
    assert wanting() == {"step/b": "missing"}


def test_a_generators_rows_are_known_in_the_end(project: Project) -> None:
    project.write("step", "pass")
    sweep("step", (row for row in ROWS), progress=False)
    (project.root / "runs/step/b/run.json").unlink()
    assert wanting() == {"step/b": "missing"}


def test_runs_that_were_restored_elsewhere(swept: Project, tmp_path_factory) -> None:
    import shutil

    there: Path = tmp_path_factory.mktemp("checkout")
    shutil.copytree(swept.root, there, dirs_exist_ok=True)
    assert check(root=there).ok


def test_singles_are_checked_too(swept: Project) -> None:
    run_step_flow("step", "single", {"x": 9})
    assert "step/single" in {each.label for each in check().instances}
