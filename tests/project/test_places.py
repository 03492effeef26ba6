"""Where relative paths lead that callers give: from the folder that they are in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from ductaflow import (
    DuctaflowError,
    ExportError,
    collate,
    debug_flow,
    export,
    run_notebook,
    run_step_flow,
    sweep,
)


@pytest.fixture
def study(project: Project) -> Project:
    """A project whose runs lie deeper, with one run, seen from a folder below its root."""
    (project.root / "ductaflow.toml").write_text('runs = "out/runs"\n')
    project.write("f", "open('x.csv', 'w').write('1')")
    (project.root / "work").mkdir()
    return project


def test_export_and_collate_start_where_the_caller_is(
    study: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = study.run("f")
    assert run.dir == study.root / "out/runs/f/a"
    export(run, "deliv/{instance}")
    assert (study.root / "deliv/a/x.csv").is_file()
    monkeypatch.chdir(study.root / "work")
    export(run, "deliv/{instance}")
    assert (study.root / "work/deliv/a/x.csv").is_file()
    runs = sweep("f", [{"instance": "b"}], export_to="swept/{instance}")
    assert (study.root / "work/swept/b/x.csv").is_file()
    assert runs.entries[0].exported == str(study.root / "work/swept/b")
    sweep("f", [{"instance": "b"}], live="watch")
    assert (study.root / "work/watch/index.html").is_file()
    assert collate("f", out="page") == study.root / "work/page/index.html"
    assert collate("f", out="../page") == study.root / "page/index.html"
    assert run_notebook("f", {}, execution_dir="here").dir == study.root / "work/here"
    assert not (study.root / "out/deliv").exists()


def test_out_of_the_project_only_by_the_whole_path(study: Project) -> None:
    run = study.run("f")
    outside = study.root.parent / "outside"
    with pytest.raises(ExportError, match=r"out of the project.*give the whole path, .*outside/a"):
        export(run, "../outside/{instance}")
    with pytest.raises(ExportError, match="out of the project"):
        sweep("f", [{"instance": "a"}], export_to="../outside/{instance}")
    with pytest.raises(DuctaflowError, match="out of the project"):
        collate("f", out="../outside")
    assert not outside.exists()
    export(run, str(outside / "{instance}"))
    assert (outside / "a/x.csv").is_file()
    assert collate("f", out=outside).parent == outside


def test_a_flow_writes_from_its_instances_folder(project: Project) -> None:
    project.write("f", "1")
    project.run("f")
    project.write(
        "meta",
        "import ductaflow",
        "ductaflow.collate('f', out='../../bulk_outputs')",
        "ductaflow.export(ductaflow.get_all_instances('f'), 'deliv/{instance}')",
    )
    run = project.run("meta")
    assert (project.root / "runs/bulk_outputs/index.html").is_file()
    assert (run.dir / "deliv/a/f.ipynb").is_file()
    assert not (project.root.parent.parent / "bulk_outputs").exists()


@pytest.mark.parametrize("url", ["s3://bucket/x", Path("s3://bucket/x"), "memory://x"])
def test_a_url_is_refused_where_only_a_folder_can_be(
    study: Project, url: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.run("f")
    before = sorted(os.listdir(study.root))
    for call in (
        lambda: run_notebook("f", {}, execution_dir=url),
        lambda: collate("f", out=url),
        lambda: debug_flow("f", execution_dir=url),
        lambda: run_step_flow("f", "b", root=url),
    ):
        with pytest.raises(DuctaflowError, match="only a folder of this machine"):
            call()
    assert sorted(os.listdir(study.root)) == before


def test_a_file_url_is_its_folder(study: Project) -> None:
    folder = study.root / "with space"
    assert run_notebook("f", {}, execution_dir=folder.as_uri()).dir == folder


def test_an_absolute_flow_leads_to_its_own_project(study: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / "elsewhere"
    (elsewhere / "flow").mkdir(parents=True)
    code = (
        "from ductaflow import run_step_flow, run_notebook, sweep; import sys; "
        "print(run_step_flow(sys.argv[1], 'f', 'a', {}).dir); "
        "print(sweep(sys.argv[1], [{'instance': 'b'}], progress=False)[0].dir); "
        "print(run_step_flow(sys.argv[1], 'f', 'a', {}, root='.').dir); "
    )
    flow = study.root / "flow" / "f.py"
    env = {k: v for k, v in os.environ.items() if k != "DUCTAFLOW_ROOT"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(flow)],
        cwd=elsewhere, capture_output=True, text=True, check=True, env=env,
    )  # fmt: skip
    runs = study.root / "out" / "runs" / "f"
    assert done.stdout.split() == [
        str(runs / "a"), str(runs / "b"), str(elsewhere / "runs" / "f" / "a"),
    ]  # fmt: skip
