"""Files that a run has changed, moved or removed itself, and what it has left elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project

from ductaflow import CacheDecision, Run, explain

UP = "../../.."

FLOW = f"""
import os, shutil, sqlite3, subprocess
from pathlib import Path
import numpy as np
up = Path("{UP}")

if how == "rewritten":
    state = up / "state.csv"
    text = state.read_text()
    state.write_text(text + "one more\\n")
elif how == "replaced":
    text = (up / "state.csv").read_text()
    (up / "state.tmp").write_text(text + "one more\\n")
    os.replace(up / "state.tmp", up / "state.csv")
elif how == "in_place":
    with open(up / "state.csv", "r+") as file:
        text = file.read()
        file.write("one more\\n")
elif how == "appended":
    with open(up / "state.csv", "a") as file:
        file.write("one more\\n")
    text = (up / "state.csv").read_text()
elif how == "database":
    with sqlite3.connect(up / "state.db") as connection:
        (text,) = connection.execute("select max(a) from t").fetchone()
        connection.execute("insert into t values (?)", [text + 1])
    connection.close()
elif how == "shell":
    text = subprocess.check_output("cat state.csv; echo more >> state.csv", shell=True, cwd=up)
elif how == "memory_map":
    array = np.memmap(up / "state.bin", dtype="u1", mode="r+")
    text = int(array[0])
    array[0] = text + 1
    array.flush()
elif how == "moved":
    for file in sorted((up / "inbox").glob("*.csv")):
        Path(file.name + ".read").write_text(file.read_text())
        os.rename(file, up / "done" / file.name)
elif how == "moved_by_shutil":
    for file in sorted((up / "inbox").iterdir()):
        shutil.copy(file, "copy.csv")
        shutil.move(file, up / "done")
elif how == "moved_by_mv":
    subprocess.run("cat *.csv > /dev/null; mv *.csv ../done", shell=True, cwd=up / "inbox")
elif how == "moved_here":
    os.rename(up / "inbox/a.csv", "a.csv")
    text = Path("a.csv").read_text()
elif how == "folder_moved":
    text = [file.read_text() for file in (up / "inbox").rglob("*.csv")]
    os.rename(up / "inbox", up / "done/inbox")
elif how == "deleted":
    text = [file.read_text() for file in (up / "inbox").iterdir()]
    shutil.rmtree(up / "inbox")
elif how == "deleted_by_rm":
    subprocess.run("cat inbox/* > /dev/null; rm -r inbox", shell=True, cwd=up)
elif how == "linked":
    os.link(up / "inbox/a.csv", "staged.csv")
    text = Path("staged.csv").read_text()
elif how == "linked_softly":
    os.symlink("{UP}/inbox/a.csv", "staged.csv")
    text = Path("staged.csv").read_text()
elif how == "unchanged":
    text = (up / "inbox/a.csv").read_text()
    (up / "scratch").mkdir()
    (up / "scratch/x").write_text("x")
    (up / "scratch/x").read_text()
    shutil.rmtree(up / "scratch")
"""

NATIVE = {"shell", "moved_by_mv", "deleted_by_rm", "memory_map"}
"""What is seen by an observer only."""


@pytest.fixture(params=["native", "python"])
def observed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.setenv("DUCTAFLOW_OBSERVER", "off")
    return str(request.param)


def run(project: Project, how: str, files: dict[str, str]) -> Run:
    """Run it with these files there."""
    for name, text in files.items():
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".db"):
            import sqlite3

            with sqlite3.connect(path) as connection:
                connection.execute("create table t (a)")
                connection.execute("insert into t values (1)")
            connection.close()
        else:
            path.write_text(text)
    project.write("flow", FLOW, parameters='config = {"how": ""}')
    return project.run("flow", {"how": how})


def standing() -> CacheDecision:
    return explain("flow", "a")


def touch_content(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


STATES = {
    "rewritten": "state.csv", "replaced": "state.csv", "in_place": "state.csv",
    "appended": "state.csv", "database": "state.db", "shell": "state.csv",
    "memory_map": "state.bin",
}  # fmt: skip


def test_what_a_run_has_rewritten_counts_as_it_left_it(project: Project, observed: str) -> None:
    for how, name in STATES.items():
        if observed == "python" and how in NATIVE:
            continue
        for old in STATES.values():
            (project.root / old).unlink(missing_ok=True)
        done = run(project, how, {name: "one\n"})
        assert done.record.observed == observed
        left = (project.root / name).read_bytes()
        assert standing(), how
        touch_content(project.root / name)
        assert str(standing()) == f"{name} changed", how
        (project.root / name).write_bytes(left)
        assert standing(), how
        (project.root / name).unlink()
        assert f"{name} is gone" in str(standing()), how


TAKEN: dict[str, Callable[[Path], object]] = {
    "moved": lambda root: (root / "inbox/a.csv").write_text("new"),
    "moved_by_shutil": lambda root: (root / "inbox/b.csv").write_text("new"),
    "moved_by_mv": lambda root: (root / "inbox/a.csv").write_text("new"),
    "moved_here": lambda root: (root / "inbox/a.csv").write_text("new"),
    "folder_moved": lambda root: write(root / "inbox/b.csv"),
    "deleted": lambda root: write(root / "inbox/b.csv"),
    "deleted_by_rm": lambda root: write(root / "inbox/a.csv"),
}


def write(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("new")


def test_what_a_run_has_taken_away_is_no_reason(project: Project, observed: str) -> None:
    for how, more in TAKEN.items():
        if observed == "python" and how in NATIVE:
            continue
        for folder in ("inbox", "done", "runs/flow/a"):
            shutil.rmtree(project.root / folder, ignore_errors=True)
        (project.root / "done").mkdir()
        run(project, how, {"inbox/a.csv": "a"})
        assert not (project.root / "inbox/a.csv").exists()
        assert standing(), how
        if how.startswith(("moved", "folder")) and how != "moved_here":
            for file in (project.root / "done").rglob("*.csv"):
                file.unlink()  # it could not make them again
            assert standing(), how
        more(project.root)
        decision = standing()
        assert not decision, how
        assert "inbox" in str(decision), how


def test_what_others_have_taken_away_is_a_reason(project: Project, observed: str) -> None:
    run(project, "unchanged", {"inbox/a.csv": "a"})
    assert standing()
    (project.root / "inbox/a.csv").unlink()
    assert str(standing()) == "inbox/a.csv is gone"


@pytest.mark.parametrize("how", ["linked", "linked_softly"])
def test_what_is_read_by_a_link_that_the_run_has_made(
    project: Project, observed: str, how: str
) -> None:
    run(project, how, {"inbox/a.csv": "a"})
    assert standing()
    touch_content(project.root / "inbox/a.csv")
    assert "inbox/a.csv changed" in str(standing())


# --- outputs elsewhere ---------------------------------------------------------------------------


def test_outputs_outside_the_folder(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    code = f"""
import os, shutil, tempfile
from pathlib import Path
for folder in ("{UP}/results", {str(outside)!r}):
    os.makedirs(folder, exist_ok=True)
    Path(folder, "out.csv").write_text("1")
    Path(folder, "temporary.csv").write_text("1")
    os.remove(f"{{folder}}/temporary.csv")
os.makedirs("{UP}/made.tmp/deep")
Path("{UP}/made.tmp/deep/part.csv").write_text("1")
os.rename("{UP}/made.tmp", "{UP}/made")
handle, name = tempfile.mkstemp()
os.write(handle, b"left behind"); os.close(handle)
print(name)
Path("own.txt").write_text("1")
"""
    project.write("flow", code)
    done = project.run("flow")
    outputs = {fact.path for fact in done.record.outputs}
    expected = [
        "results/out.csv",
        f"{outside}/out.csv",
        "made/deep/part.csv",
        "runs/flow/a/own.txt",
    ]
    assert outputs == set(expected)
    (temporary,) = [x for x in os.listdir(os.environ["TMPDIR"]) if x.startswith("tmp")]
    os.remove(os.path.join(os.environ["TMPDIR"], temporary))
    assert standing()
    for name in expected:
        file = project.root / name
        text = file.read_text()
        file.unlink()
        shown = "own.txt" if "own" in name else name
        assert str(standing()) == f"{shown} is gone"
        file.write_text(text + "edited")  # by hand: only its readers are stale
        assert standing()


# --- temporary files in the project --------------------------------------------------------------


@pytest.mark.parametrize("place", ["tmp", "."])
def test_temporary_files_in_the_project(
    project: Project, observed: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = (project.root / place).resolve()
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    (folder / "given.csv").write_text("a")
    code = f"""
import os, tempfile
from pathlib import Path
import matplotlib.pyplot as plt
names = sorted(path.name for path in Path("{UP}").rglob("*.csv"))
text = Path({str(folder)!r}, "given.csv").read_text()
with tempfile.TemporaryDirectory() as scratch:
    Path(scratch, "x.csv").write_text("1")
    Path(scratch, "x.csv").read_text()
    os.listdir(scratch)
with tempfile.NamedTemporaryFile() as file:
    file.write(b"1")
plt.plot([1, 2]); plt.show()
"""
    project.write("flow", code)
    done = project.run("flow")
    assert {fact.path for fact in done.record.outputs} == set()
    given = "given.csv" if place == "." else f"{place}/given.csv"
    inputs = [fact for fact in done.record.inputs if not os.path.isabs(fact.path)]
    files = {fact.path for fact in inputs if fact.role not in ("folder", "imports")}
    assert files == {given}
    assert standing()
    (folder / "dfk-other").mkdir()  # another conductor
    (folder / "dfk-other/alive").touch()
    if place == "tmp":
        (folder / "tmpabcdefgh").touch()
    assert standing()
    (folder / "given.csv").write_text("b")
    assert str(standing()) == f"{given} changed"
