"""Running flows for real: what a run leaves, what the flow sees, how callers may call."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from datetime import date
from enum import Enum
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import Project, wait_until

from ductaflow import CellFailed, FlowError, Status, get_all_instances, run_notebook, run_step_flow
from ductaflow.model.records import RunRecord


def outputs(notebook: Path) -> str:
    """All text that the cells of a notebook show."""
    return "".join(
        output.get("text") or output.get("data", {}).get("text/plain") or ""
        for cell in nbformat.read(notebook, 4).cells
        for output in cell.get("outputs", ())
    )


def read(path: Path) -> dict[str, object]:
    data: dict[str, object] = json.loads(path.read_text())
    return data


def test_a_run_leaves_all_its_artifacts(project: Project) -> None:
    (project.root / "inputs").mkdir()
    (project.root / "inputs" / "x.csv").write_text("a\n1\n")
    (project.root / "code").mkdir()
    (project.root / "code" / "helper.py").write_text("def double(x): return 2 * x\n")
    project.write(
        "network_analysis",
        "import os, sys; sys.path.append('../../../code'); from helper import double",
        "print(open('../../../inputs/x.csv').read(), network_base, double(param1))",
        "open('out.txt', 'w').write(os.getcwd())",
    )
    run = run_step_flow(
        notebook_path="flow/network_analysis.py",
        step_name="network_analysis",
        instance_name="scenario_A",
        config={"network_base": "NET_2024", "processing_params": {"param1": 100}},
    )
    folder = project.root / "runs" / "network_analysis" / "scenario_A"
    assert run.dir == folder
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == {
        "network_analysis.ipynb",
        "network_analysis.html",
        "network_analysis.log",
        "config.json",
        "run.json",
        "out.txt",
    }
    assert (folder / "out.txt").read_text() == str(folder)
    assert read(folder / "config.json") == run.config
    assert "a\n1\n NET_2024 200" in outputs(run.notebook)
    assert Path(os.fspath(run)) == run.notebook
    assert RunRecord.from_json(read(folder / "run.json")) == run.record
    assert run.status is Status.SUCCEEDED
    assert run.ok
    assert Path.cwd() == project.root
    log = run.log.read_text()
    assert "NET_2024 200" in log
    assert "succeeded in" in log
    notebook = nbformat.read(run.notebook, 4)
    nbformat.validate(notebook)
    times = notebook.metadata.ductaflow.this_run.cells
    timed = [times[c.id] for c in notebook.cells if c.cell_type == "code"]
    assert all({"iopub.status.busy", "shell.execute_reply"} <= set(t) for t in timed)
    assert run.record.peak_memory > 10_000_000  # type: ignore[operator]


def test_the_short_form_finds_the_flow_by_its_name(project: Project) -> None:
    (project.root / "flow").rename(project.root / "flows")
    (project.root / "flow").mkdir()
    project.write("other", "x")
    (project.root / "flows" / "vectors.py").write_text(
        '# %% tags=["parameters"]\nconfig = {}\n\n# %%\nprint("period", period)\n'
    )
    run = run_step_flow("vectors", "L2_dwellings_am", {"period": "am"})
    assert run.dir == project.root / "runs" / "vectors" / "L2_dwellings_am"
    assert "period am" in outputs(run.notebook)
    assert run_step_flow("flows/vectors.py", "s", "i", {"period": 1}).label == "s/i"


class Mode(Enum):
    FAST = "fast"


VALUES = {
    "np_int": np.int64(3),
    "np_float": np.float32(0.5),
    "np_bool": np.bool_(True),
    "row": pd.Series({"x": 1.5}).to_dict(),
    "stamp": pd.Timestamp("2024-01-02T03:04"),
    "day": date(2024, 1, 2),
    "path": Path("a") / "b",
    "mode": Mode.FAST,
    "pair": (1, 2),
    "nested": {"deep": {"er": [None, True, {"k": "v"}]}},
    "inf": float("inf"),
    "minus_inf": float("-inf"),
    "none": None,
    "text": 'ünïcödé "quotes" \\ \n <script>alert(1)</script> | `x` ${y}',
    "long": "x" * 100_000,
    "big": 10**40,
}


def test_flow_notebook_and_file_have_the_same_config(project: Project) -> None:
    project.write(
        "echo",
        "import json; json.dump(config, open('seen.json', 'w'))",
        "json.dump({k: globals()[k] for k in config}, open('flat.json', 'w')); assert deep",
    )
    run = project.run("echo", VALUES)
    on_disk = json.loads((run.dir / "config.json").read_text())
    assert json.loads((run.dir / "seen.json").read_text()) == on_disk
    assert json.loads((run.dir / "flat.json").read_text()) == on_disk
    injected = next(
        cell.source
        for cell in nbformat.read(run.notebook, 4).cells
        if "injected-parameters" in cell.metadata.get("tags", [])
    )
    scope: dict[str, object] = {}
    exec(injected, scope)  # the injected cell is plain Python
    assert scope["config"] == on_disk == run.config


def test_nan_stays_nan(project: Project) -> None:
    project.write("nan", "print(value != value, isinstance(value, float))")
    run = project.run("nan", {"value": float("nan")})
    assert "True True" in outputs(run.notebook)


def test_ten_thousand_keys(project: Project) -> None:
    project.write("keys", "print(len(config), k9999)")
    run = project.run("keys", {f"k{n}": n for n in range(10_000)})
    assert "10000 9999" in outputs(run.notebook)


def test_the_literal_default_is_used_without_a_config(project: Project) -> None:
    project.write("default", "print('got', size)", parameters="config = {'size': 7}")
    run = run_step_flow("default", "a")
    assert "got 7" in outputs(run.notebook)
    assert run.config == {"size": 7}


def test_notes_are_seen_in_the_notebook_and_kept_in_the_record(project: Project) -> None:
    project.write("notes", "print(threshold)", parameters="config = {'threshold': 1}")
    run = project.run("notes", {"threshold": 1, "treshold": 2, "list": 3})
    kinds = {(note.kind, note.key) for note in run.notes}
    assert {("unused-key", "treshold"), ("shadow", "list")} <= kinds
    top = nbformat.read(run.notebook, 4).cells[0].source
    assert "treshold" in top
    assert "threshold" in top


def test_an_executed_notebook_can_itself_be_run(project: Project) -> None:
    project.write("again", "print('value', value)", parameters="config = {'value': 0}")
    first = project.run("again", {"value": 1})
    second = run_step_flow(first.notebook, "again", "b", {"value": 2})
    assert "value 2" in outputs(second.notebook)
    cells = nbformat.read(second.notebook, 4).cells
    assert sum("injected-parameters" in c.metadata.get("tags", []) for c in cells) == 1
    in_place = run_notebook(first.notebook, {"value": 3}, first.dir)
    assert "value 3" in outputs(in_place.notebook)


def test_a_notebook_is_not_overwritten_by_its_own_copy(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "analysis.ipynb"
    jupytext.write(jupytext.reads("# %%\nprint(1)\n", "py:percent"), path)
    before = path.read_bytes()
    with pytest.raises(FlowError, match="execution_dir"):
        run_notebook(path)
    assert path.read_bytes() == before
    run = run_notebook(path, execution_dir=tmp_path / "elsewhere")
    assert outputs(run.notebook) == "1\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("percent.py", "# %% [markdown]\n# # T\n\n# %%\n# !echo shell\n\n# %%\nprint(6 * 7)\n"),
        ("light.py", "# # T\n\n# !echo shell\n\nprint(6 * 7)\n"),
        ("hydrogen.py", "# %%\n%time x = 1\n\n# %%\n!echo shell\n\n# %%\nprint(6 * 7)\n"),
        ("text.md", "# T\n\n```python\n!echo shell\nprint(6 * 7)\n```\n"),
    ],
)
def test_any_text_notebook(project: Project, name: str, text: str) -> None:
    path = project.root / name
    path.write_text(text)
    run = run_notebook(path, execution_dir="out")
    assert "42" in outputs(run.notebook)
    assert "shell" in outputs(run.notebook)


def test_tags_and_async_cells(project: Project) -> None:
    project.write(
        "tags",
        '# %% tags=["raises-exception"]\n1/0\n',
        '# %% tags=["skip-execution"]\nraise SystemExit\n',
        "import asyncio\nawait asyncio.sleep(0.05)\nprint('awaited')",
    )
    run = project.run("tags")
    assert "awaited" in outputs(run.notebook)
    statuses = [c.status for c in run.record.cells]
    assert statuses == ["ok", "ok", "ok", "error", "skipped", "ok"]


def test_a_progress_bar_ends_as_one_line(project: Project) -> None:
    project.write("bar", "from tqdm import tqdm\nfor _ in tqdm(range(300)): pass")
    run = project.run("bar")
    cell = nbformat.read(run.notebook, 4).cells[-1]
    assert len(cell.outputs) == 1
    assert cell.outputs[0].text.count("%") == 1
    assert "100%" in cell.outputs[0].text


@pytest.mark.parametrize("preload", [True, False])
def test_a_figure_is_shown(project: Project, preload: bool) -> None:
    project.write(
        "figure",
        "import matplotlib.pyplot as plt",
        "plt.plot([1, 2]);",
        "fig, ax = plt.subplots(); ax.plot([2, 1]); plt.show(); print(plt.get_fignums())",
        "%matplotlib inline\nplt.rcParams['figure.dpi'] = 50\nplt.figure();",
    )
    run = project.run("figure", preload=preload)
    cells = nbformat.read(run.notebook, 4).cells
    shown = [[next(iter(o.get("data", {"text": 0}))) for o in c.outputs] for c in cells[-3:]]
    assert shown == [["image/png"], ["image/png", "text"], ["text/plain"]]
    assert "[]" in outputs(run.notebook)


def test_widgets_are_kept(project: Project) -> None:
    project.write(
        "widgets",
        "import ipywidgets as w\ns = w.IntSlider(3, description='pick'); s",
        "s.value = 7\no = w.Output()\ndisplay(o)\nwith o: print('captured')",
    )
    run = project.run("widgets")
    states = nbformat.read(run.notebook, 4).metadata.widgets[
        "application/vnd.jupyter.widget-state+json"
    ]["state"]
    models = {s["model_name"]: s["state"] for s in states.values()}
    assert models["IntSliderModel"]["value"] == 7
    assert models["OutputModel"]["outputs"][0]["text"] == "captured\n"
    assert "pick" in run.html.read_text()


def test_a_flow_of_flows_lands_in_the_same_runs(project: Project) -> None:
    project.write("leaf", "open('leaf.txt', 'w').write(str(config))")
    project.write(
        "middle",
        "from ductaflow import run_step_flow, get_all_instances",
        "for n in range(2): run_step_flow('leaf', f'{config[\"at\"]}_{n}', {'n': n})",
        "print([r.instance for r in get_all_instances('leaf')])",
    )
    project.write(
        "top", "from ductaflow import run_step_flow\nrun_step_flow('middle', 'm', {'at': 'x'})"
    )
    project.run("top")
    leaves = get_all_instances("leaf")
    assert [r.instance for r in leaves] == ["x_0", "x_1"]
    assert "['x_0', 'x_1']" in outputs(get_all_instances("middle")[0].notebook)
    assert not list((project.root / "runs").rglob("runs"))


def test_get_all_instances_by_status(project: Project) -> None:
    project.write("some", "assert good")
    for name in ("b", "a"):
        run_step_flow("some", name, {"good": True})
    with pytest.raises(CellFailed):
        run_step_flow("some", "c", {"good": False})
    assert [r.instance for r in get_all_instances("some")] == ["a", "b"]
    assert [r.instance for r in get_all_instances("some", status=None)] == ["a", "b", "c"]
    assert [r.instance for r in get_all_instances("some", status="failed")] == ["c"]
    assert get_all_instances("never_run") == []
    with pytest.raises(ValueError, match="there are 'planned'"):
        get_all_instances("some", status="bad")


def test_works_the_same_under_a_running_loop_and_in_threads(project: Project) -> None:
    project.write("where", "import time; time.sleep(0.3)\nprint('n', n)")

    async def under_a_loop() -> str:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        blocking = run_step_flow("where", "loop", {"n": 1})
        aside = await asyncio.to_thread(run_step_flow, "where", "aside", {"n": 2})
        ticking.cancel()
        assert ticks > 2
        return outputs(blocking.notebook) + outputs(aside.notebook)

    assert asyncio.run(under_a_loop()) == "n 1\nn 2\n"
    results: dict[int, str] = {}

    def work(n: int) -> None:
        results[n] = outputs(run_step_flow("where", f"t{n}", {"n": n}).notebook)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: f"n {n}\n" for n in range(3)}


def test_works_in_a_script_without_a_main_guard_and_leaves_nothing(project: Project) -> None:
    project.write("plain", "print(n)")
    script = project.root / "conductor.py"
    script.write_text(
        "from ductaflow import run_step_flow\n"
        "print([run_step_flow('plain', f'i{n}', {'n': n}).status.label for n in range(2)])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.stdout == "['succeeded', 'succeeded']\n", done.stderr
    assert done.stderr == ""
    assert (project.root / "runs" / "plain" / "i1" / "plain.html").exists()


def test_works_in_a_jupyter_kernel(project: Project) -> None:
    """A conductor notebook, run by a front end."""
    project.write("inner", "print(n)")
    conductor = project.root / "cnd.ipynb"
    jupytext.write(
        jupytext.reads(
            "# %%\nfrom ductaflow import run_step_flow\n"
            "run = run_step_flow('inner', 'a', {'n': 5})\n"
            "# %%\nrun\n# %%\nopen(run).read().count('5') > 0\n",
            "py:percent",
        ),
        conductor,
    )
    command = [
        *(sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"),
        *(str(conductor), "--output", "done.ipynb"),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=project.root)
    shown = nbformat.read(project.root / "done.ipynb", 4).cells[1].outputs[0].data
    assert "succeeded" in shown["text/html"]
    assert "<Run inner/a" in shown["text/plain"]


def test_the_notebook_and_the_log_follow_while_it_runs(project: Project) -> None:
    project.write(
        "slow",
        "print('first output')",
        "import time, pathlib\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)",
    )
    thread = threading.Thread(target=project.run, args=("slow",))
    thread.start()
    folder = project.root / "runs" / "slow" / "a"

    def seen() -> bool:
        notebook, log = folder / "slow.ipynb", folder / "slow.log"
        return (
            notebook.exists()
            and "first output" in outputs(notebook)
            and "first output" in log.read_text()
        )

    try:
        assert wait_until(lambda: (folder / "run.json").exists(), seconds=20)
        assert read(folder / "run.json")["status"] == "running"
        assert wait_until(seen, seconds=20)
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "go").touch()
        thread.join()
    assert read(folder / "run.json")["status"] == "success"


def test_a_flood_ends_and_is_whole_in_the_log(project: Project) -> None:
    project.write("flood", "for i in range(200_000): print('line', i, 'of a long long story')")
    run = project.run("flood")
    log = run.log.read_text()
    assert sum("of a long long story" in line for line in log.splitlines()) == 200_000
    assert run.notebook.stat().st_size < 12_000_000
    assert "flood.log" in outputs(run.notebook)  # where the rest is


def test_a_kernel_that_is_not_ours(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any kernelspec: cells are sent one by one, and it ends in its own way."""
    spec = project.root / "share" / "kernels" / "foreign"
    spec.mkdir(parents=True)
    start = "from ipykernel.kernelapp import launch_new_instance as go; go()"
    argv = [sys.executable, "-c", start, "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Foreign", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(project.root / "share"))
    project.write("foreign", "f = open('open.txt', 'w'); f.write('kept')", "print('n', n)")
    run = project.run("foreign", {"n": 1}, kernel_name="foreign")
    assert "n 1" in outputs(run.notebook)
    assert (run.dir / "open.txt").read_text() == "kept"
    assert run.record.kernel["source"] == "cold"
    assert run.notes == ()
    project.write("broken", "1/0", "open('on', 'w')")
    with pytest.raises(CellFailed):
        project.run("broken", kernel_name="foreign")
    assert not (project.root / "runs" / "broken" / "a" / "on").exists()


def test_html_may_be_left_out(project: Project) -> None:
    project.write("bare", "1")
    assert not project.run("bare", html=False).html.exists()


def test_nothing_is_removed_where_nothing_is_injected(project: Project) -> None:
    injected = '# %% tags=["injected-parameters"]\nmsg = "Hello"'
    path = project.write("flow", injected, "print(msg)", parameters="msg = None\nconfig = {}")
    run = run_notebook(path, execution_dir="bare")
    assert "Hello" in run.log.read_text()
    again = run_notebook(run.notebook, execution_dir="again")
    assert "Hello" in again.log.read_text()
    replaced = run_notebook(path, {"msg": "Goodbye"}, execution_dir="given")
    assert "Goodbye" in replaced.log.read_text()
    assert "Hello" not in replaced.notebook.read_text()
