"""Runs delivered to folders and URLs: complete, only what changed, never outside."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import fsspec
import pytest
from conftest import Project

from ductaflow import ExportError, Runs, TableError, export, run_step_flow, sweep
from ductaflow.delivery import MANIFEST, target_of

TABLE = [
    {"instance": "a", "client": "north", "x": 1},
    {"instance": "b", "client": "south", "x": 2},
    {"instance": "c", "client": "north", "x": 0},
]


@pytest.fixture
def study(project: Project) -> Project:
    project.write(
        "step",
        "import os; os.makedirs('maps', exist_ok=True)\n"
        "open('data.csv', 'w').write(f'x\\n{1 / x}\\n')\nopen('maps/m.txt', 'w').write('same')\n"
        "open('.secret', 'w').write('hidden')",
        parameters="config = {'x': 1}",
    )
    return project


def swept(**options: object) -> Runs:
    return sweep("step", TABLE, config=["x"], progress=False, resume=False, **options)  # type: ignore[arg-type]


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_sweep_delivers_what_succeeded(study: Project) -> None:
    runs = swept(export_to="out/{client}/{instance_name}")
    out = study.root / "out"
    names = {"step.ipynb", "step.html", "step.log", "config.json", "run.json", "data.csv"}
    files = names | {"maps/m.txt", MANIFEST}
    assert tree(out) == {f"{i}/{f}" for i in ("north/a", "south/b") for f in files}
    assert [e.exported for e in runs.entries] == ["out/north/a", "out/south/b", None]
    manifest = json.loads((out / "north/a" / MANIFEST).read_text())
    assert set(manifest["files"]) == files - {MANIFEST}
    data = (out / "north/a/data.csv").read_bytes()
    assert manifest["files"]["data.csv"] == {
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def test_only_what_changed_is_delivered_again(study: Project) -> None:
    runs = swept()
    target = "out/{client}/{instance}"
    first = export(runs, target, files=["*.csv", "maps/*"])
    assert [d.copied for d in first] == [("data.csv", "maps/m.txt")] * 2
    out = study.root / "out" / "north" / "a"
    (out / "theirs.txt").write_text("the client's own")
    before = (out / MANIFEST).stat().st_mtime_ns
    again = export(runs, target, files=["*.csv", "maps/*"])
    assert [d.copied for d in again] == [(), ()]
    assert (out / MANIFEST).stat().st_mtime_ns == before
    (runs[0].dir / "data.csv").write_text("new")
    (runs[0].dir / "maps" / "m.txt").unlink()
    (out / "maps" / "m.txt").touch()
    third = export(runs, target, files=["*.csv", "maps/*"])
    assert (third[0].copied, third[0].removed) == (("data.csv",), ("maps/m.txt",))
    assert (third[1].copied, third[1].unchanged) == ((), ("data.csv", "maps/m.txt"))
    assert tree(out) == {"data.csv", "theirs.txt", MANIFEST}
    (out / "data.csv").unlink()  # somebody took it away
    assert export(runs, target, files="*.csv")[0].copied == ("data.csv",)


def test_single_runs_too(study: Project) -> None:
    run = run_step_flow("step", "alone", {"x": 4})
    (delivery,) = export(run, str(study.root / "x={x}"))
    assert delivery.target == str(study.root / "x=4")
    assert (study.root / "x=4" / "data.csv").read_text() == "x\n0.25\n"


@pytest.mark.parametrize(
    ("template", "row"),
    [
        ("out/{client}", {"client": ".."}),
        ("out/{client}", {"client": "a/../../b"}),
        ("out/{client}/x", {"client": "/etc"}),
        ("out/{client}/x", {"client": "a//b"}),
        ("out/{client}/x", {"client": "..\\up"}),
        ("out/{client}/x", {"client": "C:"}),
        ("{root}/{client}", {"root": "/srv", "client": "../.."}),
        ("memory://bucket/{client}", {"client": "../other"}),
    ],
)
def test_no_field_leads_out_of_its_root(template: str, row: dict[str, str]) -> None:
    with pytest.raises(ExportError, match="leads out of its root"):
        target_of(template, row, step="s", instance="i", flow="s")


def test_the_root_is_the_callers() -> None:
    own = {"step": "s", "instance": "i", "flow": "s"}
    assert target_of("../up/{c}", {"c": "a/b"}, **own) == "../up/a/b"
    assert target_of("{root}/{c}/{flow}", {"root": "../r", "c": "d"}, **own) == "../r/d/s"
    with pytest.raises(TableError, match="is empty here"):
        target_of("out/{c}", {"c": None}, **own)


def test_a_link_does_not_lead_out_either(study: Project, tmp_path: Path) -> None:
    runs = swept()
    outside = study.root / "outside"
    outside.mkdir()
    (study.root / "out").mkdir()
    (study.root / "out" / "maps").symlink_to(outside)
    with pytest.raises(ExportError, match="through a link"):
        export(runs[0:1], "out")
    assert tree(outside) == set()


def test_a_target_that_is_a_file(study: Project) -> None:
    runs = swept()
    (study.root / "out").write_text("in the way")
    with pytest.raises(ExportError, match=r"could not be delivered.*manifest there is as before"):
        export(runs, "out/{instance}")
    assert (study.root / "out").read_text() == "in the way"


def test_a_copy_that_fails_half_way_changes_nothing(
    study: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = swept()
    export(runs[:1], "out/{instance}", files="*.csv")
    (runs[0].dir / "data.csv").write_text("new")
    before = (study.root / "out/a/data.csv").read_text()
    import ductaflow.delivery as delivery

    copy = delivery.shutil.copy2

    def fails(source: Path, target: Path) -> object:
        if Path(source).name == "step.html":
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(delivery.shutil, "copy2", fails)
    with pytest.raises(ExportError, match="No space left"):
        export(runs[:1], "out/{instance}")
    assert (study.root / "out/a/data.csv").read_text() == before
    assert tree(study.root / "out/a") == {"data.csv", MANIFEST}


def test_urls(study: Project) -> None:
    runs = swept()
    fs = fsspec.filesystem("memory")
    for _ in range(2):
        deliveries = export(runs, "memory://bucket/{client}/{instance}")
    assert [len(d.copied) for d in deliveries] == [0, 0]
    assert fs.cat("/bucket/north/a/data.csv") == b"x\n1.0\n"
    assert fs.cat("/bucket/north/a/maps/m.txt") == b"same"
    (runs[0].dir / "data.csv").unlink()
    export(runs, "memory://bucket/{client}/{instance}")
    assert not fs.exists("/bucket/north/a/data.csv")
    with pytest.raises(ExportError, match="nope"):
        export(runs, "nope://bucket/{instance}")
