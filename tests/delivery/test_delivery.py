"""Runs delivered to folders and URLs: complete, only what changed, never outside."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import fsspec
import pytest
from conftest import Project

import ductaflow.delivery.stores
from ductaflow import ExportError, Runs, SweepFailed, TableError, export, run_step_flow, sweep
from ductaflow.delivery.delivery import target_of
from ductaflow.delivery.stores import MANIFEST

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
    return sweep("step", TABLE, config=["x"], progress=False, reuse=False, **options)  # type: ignore[arg-type]


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


def test_a_row_that_leads_out_is_told_before_anything_starts(study: Project) -> None:
    table = [*TABLE, {"instance": "d", "client": "../..", "x": 1}]
    with pytest.raises(ExportError, match=r"'\.\./\.\.' for 'd', which leads out of its root"):
        sweep("step", table, config=["x"], export_to="out/{client}/{instance}")
    assert not (study.root / "runs").exists()


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
    copy = shutil.copy2

    def fails(source: Path, target: Path) -> object:
        if Path(source).name == "step.html":
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(ductaflow.delivery.stores.shutil, "copy2", fails)
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


# --- whole, or not at all -----------------------------------------------------------------------


def test_a_new_folder_appears_as_a_whole(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = swept()
    copy, seen = shutil.copy2, []

    def watched(source: Path, target: Path) -> object:
        seen.append(tree(study.root / "out" / "a") if (study.root / "out" / "a").exists() else None)
        return copy(source, target)

    monkeypatch.setattr(ductaflow.delivery.stores.shutil, "copy2", watched)
    export(runs[:1], "out/{instance}")
    assert seen == [None] * 7
    assert [path.name for path in (study.root / "out").iterdir()] == ["a"]
    assert MANIFEST in tree(study.root / "out" / "a")


def test_what_a_killed_conductor_left_is_taken_away(study: Project) -> None:
    runs = swept()
    old, new = (study.root / "out" / f".ductaflow-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "part.csv").write_text("x")
    os.utime(old, (1, 1))
    export(runs[:1], "out/{instance}")
    assert not old.exists()
    assert new.exists()  # perhaps another conductor's


def test_an_own_manifest_is_no_file_to_deliver(study: Project) -> None:
    runs = swept()
    (runs[0].dir / MANIFEST).write_text("{}")
    export(runs[:1], "out/{instance}")
    files = json.loads((study.root / "out" / "a" / MANIFEST).read_text())["files"]
    assert MANIFEST not in files


@pytest.mark.parametrize("content", ["", "[]", "no json", '{"files": {"/etc/passwd": {}, "": 1}}'])
def test_a_damaged_manifest_takes_nothing_away(study: Project, content: str) -> None:
    runs = swept()
    (study.root / "out" / "a").mkdir(parents=True)
    (study.root / "out" / "a" / MANIFEST).write_text(content)
    (delivery,) = export(runs[:1], "out/{instance}", files="*.csv")
    assert (delivery.copied, delivery.removed) == (("data.csv",), ())


# --- what cannot be delivered -------------------------------------------------------------------


def test_a_failed_delivery_is_a_failure_and_the_others_go_on(study: Project) -> None:
    (study.root / "out").mkdir()
    (study.root / "out" / "south").write_text("in the way")
    runs = swept(export_to="out/{client}/{instance}", export_files=["*.csv", "maps/*"])
    assert [run.status.value for run in runs] == ["success", "success", "failed"]
    assert [run.instance for run in runs.ok] == ["a"]
    assert [run.instance for run in runs.failed] == ["b", "c"]
    assert "1 of them not delivered" in repr(runs)
    assert runs.frame()["exported"].tolist()[:2] == ["out/north/a", "out/south/b"]
    assert "could not be delivered to out/south/b" in runs.frame()["error"][1]
    (cause,) = (cause for cause in runs.causes() if cause.error.kind == "export")
    (study.root / "out" / "south").unlink()
    subprocess.run(cause.command, check=True, shell=True, cwd=study.root)
    assert tree(study.root / "out/south/b") == {"data.csv", "maps/m.txt", MANIFEST}
    again = sweep("step", TABLE[:2], config=["x"], progress=False, export_to="new/{instance}")
    assert [run.instance for run in again.ok] == ["a", "b"]


def test_a_delivery_can_stop_a_sweep(study: Project) -> None:
    (study.root / "out").write_text("in the way")
    with pytest.raises(SweepFailed, match=r"1 of 1 failed[^$]*could not be delivered"):
        swept(export_to="out/{instance}", on_error="stop", workers=1)


def test_nothing_to_deliver_is_a_mistake(study: Project) -> None:
    runs = swept()
    with pytest.raises(ExportError, match=r"no file in .* matches '\*\.cvs'"):
        export(runs, "out/{instance}", files="*.cvs")
    assert not (study.root / "out").exists()


def test_two_runs_share_no_folder(study: Project) -> None:
    runs = swept()
    with pytest.raises(TableError, match=r"step/a and step/b would both be delivered to out/all"):
        export(runs, "out/all")
    assert not (study.root / "out").exists()


def test_a_relative_target_starts_where_the_caller_is(
    study: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = swept()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    for number, what in enumerate((runs[:1], [runs[0]], runs[0])):
        export(what, f"out{number}/{{instance}}", files="*.csv")
        assert tree(elsewhere / f"out{number}" / "a") == {"data.csv", MANIFEST}


# --- other places -------------------------------------------------------------------------------


def test_a_file_url_is_a_folder(study: Project) -> None:
    runs = swept()
    root = (study.root / "with space").as_uri()
    export(runs[:1], root + "/{instance}", files="*.csv")
    assert tree(study.root / "with space" / "a") == {"data.csv", MANIFEST}


def test_an_object_store(study: Project, bucket: str) -> None:
    runs = swept(export_to=bucket + "/{client}/{instance}", export_files=["*.csv", "maps/*"])
    assert [run.instance for run in runs.ok] == ["a", "b"], runs.summary()
    fs = fsspec.filesystem("s3")
    names = {"data.csv", "maps/m.txt", MANIFEST}
    every = {f"deliveries/{i}/{name}" for i in ("north/a", "south/b") for name in names}
    assert set(fs.find("deliveries")) == every
    assert fs.cat("deliveries/north/a/data.csv") == b"x\n1.0\n"
    files = json.loads(fs.cat(f"deliveries/north/a/{MANIFEST}"))["files"]
    assert files["data.csv"]["sha256"] == hashlib.sha256(b"x\n1.0\n").hexdigest()
    again = export(runs.ok, bucket + "/{client}/{instance}", files=["*.csv", "maps/*"])
    assert [d.copied for d in again] == [(), ()]
    (runs[0].dir / "data.csv").write_text("new")
    (runs[0].dir / "maps" / "m.txt").unlink()
    third = export(runs[:1], bucket + "/{client}/{instance}", files=["*.csv", "maps/*"])
    assert [(d.copied, d.removed) for d in third] == [(("data.csv",), ("maps/m.txt",))]
    fs.invalidate_cache()
    assert "deliveries/north/a/maps/m.txt" not in fs.find("deliveries")


def test_a_bucket_that_is_not_there_is_not_made(study: Project, bucket: str) -> None:
    runs = swept()
    with pytest.raises(ExportError, match="bucket does not exist"):
        export(runs[:1], "s3://delivreies/{instance}")
    assert fsspec.filesystem("s3").ls("") == ["deliveries"]


def test_a_store_that_does_not_answer(study: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "hush"}
    conf = {**own, "config_kwargs": {"retries": {"max_attempts": 0}}, "skip_instance_cache": True}
    monkeypatch.setitem(fsspec.config.conf, "s3", conf)
    with pytest.raises(ExportError, match="could not be delivered") as caught:
        export(swept()[:1], "s3://deliveries/{instance}")
    assert "hush" not in str(caught.value)
