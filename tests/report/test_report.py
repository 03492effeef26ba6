"""Collation: the summary, the page's data, what lies beside it, the reports' links."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ductaflow
import ductaflow.history.standing as overview
from ductaflow import (
    ArtifactError,
    DuctaflowError,
    HtmlOptions,
    NameRefused,
    RunFailed,
    collate,
    get_all_instances,
    run_step_flow,
    sweep,
)
from ductaflow.documents.html import fill_navigation
from ductaflow.documents.html.header import MOST, SLOT, navigation
from ductaflow.documents.warned import WarningCount
from ductaflow.history.lock import instance_lock
from ductaflow.project.layout import iter_steps
from ductaflow.report.facts import Light, read_facts
from ductaflow.report.graph import graph_of

DRAWS = """
from base64 import b64decode
from IPython.display import Image, display
display(Image(b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")))
"""


def fact(root: Path, path: str, role: str = "data") -> dict:
    """What a run's record says of a file that it read, as the file is now."""
    stat = (root / path).stat()
    digest = hashlib.sha256((root / path).read_bytes()).hexdigest()
    return {
        "path": path, "role": role, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns,
        "sha256": digest,
    }  # fmt: skip


def add_inputs(folder: Path, *facts: dict) -> None:
    """Let a run's record say what it read."""
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "inputs": facts}), "utf-8")


def summary_of(page: Path) -> dict:
    return json.loads(page.with_name("bulk_summary.json").read_text("utf-8"))


def data_of(page: Path) -> dict:
    text = page.read_text("utf-8").split('<script type="application/json" id="data">')[1]
    return json.loads(text.split("</script>")[0])


@pytest.fixture
def waves(project):
    """Three instances, one of which fails, and one that warns."""
    project.write(
        "waves",
        "from ductaflow import record",
        "record(rms=a / 2, label='x')",
        DRAWS,
        "if a == 2: raise ValueError('two')",
        "if a == 3: print('warning: three')",
        parameters="config = {'a': 1, 'p': {'mode': 'x'}}",
    )
    table = [{"instance": f"w{a}", "a": a, "p": {"mode": "x"}} for a in (1, 2, 3)]
    return sweep("waves", table, progress=False)


def test_the_summary_has_all_that_its_schema_says(project, waves):
    page = collate("waves", out="runs/bulk_outputs")
    assert page == project.root / "runs" / "bulk_outputs" / "index.html"
    summary = summary_of(page)
    assert summary["schema"] == 1
    assert summary["title"] == "waves"
    assert summary["root"] == "../.."
    assert summary["counts"] == {
        "total": 3, "success": 1, "warnings": 1, "error": 1, "running": 0, "stale": 0, "planned": 0,
    }  # fmt: skip
    assert summary["steps"] == {"waves": summary["counts"]}
    assert summary["times"]["run_seconds"] == pytest.approx(
        sum(run.duration for run in waves), abs=0.01
    )
    first, second, third = summary["instances"]
    run = waves[0]
    assert (first["instance"], first["light"], first["status"]) == ("w1", "success", "success")
    assert first["config"] == {"a": 1, "p": {"mode": "x"}}
    assert first["metrics"] == {"rms": 0.5, "label": "x"}
    assert first["hashes"] == dict(run.record.fingerprints)
    assert first["duration"] == run.duration
    assert first["peak_memory"] == run.record.peak_memory
    for link in first["links"].values():
        assert not Path(link).is_absolute()
        assert (page.parent / link).exists(), link
    (figure,) = first["figures"]
    assert (page.parent / figure["image"]).read_bytes()[:4] == b"\x89PNG"
    assert second["light"] == "error"
    assert second["error"]["type"] == "ValueError"
    assert second["error"]["traceback"][-1] == "ValueError: two"
    assert (third["light"], third["warnings"]) == ("warnings", 1)
    (cause,) = summary["causes"]
    assert cause["instances"] == ["waves/w2"]
    assert cause["traceback"][-1] == "ValueError: two"


def test_the_command_of_a_cause_runs_it_again(project, waves):
    (cause,) = summary_of(collate("waves"))["causes"]
    done = subprocess.run(
        cause["command"], shell=True, cwd=project.root,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "ValueError: two" in done.stdout


@pytest.mark.parametrize("what", ["step", "steps", "runs", "list", "all"])
def test_what_can_be_collated(project, waves, what):
    asked = {
        "step": "waves", "steps": ["waves"], "runs": waves, "all": None,
        "list": get_all_instances("waves", status=None),
    }[what]  # fmt: skip
    page = collate(asked)
    assert page == project.root / "runs" / "index.html"
    assert [i["instance"] for i in summary_of(page)["instances"]] == ["w1", "w2", "w3"]
    assert list(iter_steps(project.root)) == ["waves"]


def test_what_is_not_there_is_said(project, waves):
    with pytest.raises(DuctaflowError, match="no step 'wave'; there are: waves"):
        collate("wave")
    with pytest.raises(NameRefused):
        collate("../waves")
    with pytest.raises(DuctaflowError, match="nothing to collate"):
        collate([])
    (project.root / "taken").write_text("a file", "utf-8")
    with pytest.raises(ArtifactError, match="taken"):
        collate("waves", out="taken")


def test_a_step_cannot_take_the_page_s_folder(project):
    project.write("waves")
    with pytest.raises(NameRefused, match=r"index\.html keeps its files"):
        run_step_flow("waves", "index_files", "a", {})


def test_collating_again_looks_only_at_what_changed(project, waves):
    page = collate("waves")
    files = page.parent / "index_files"
    before = {f: f.stat().st_mtime_ns for f in files.rglob("*.js")}
    assert len(before) == 3
    run_step_flow("waves", "waves", "w1", {"a": 5, "p": {"mode": "x"}})
    collate("waves")
    changed = {f.stem for f in files.rglob("*.js") if f.stat().st_mtime_ns != before[f]}
    assert changed == {"w1"}
    shutil.rmtree(project.root / "runs" / "waves" / "w2")
    collate("waves")
    assert {f.stem for f in files.rglob("*.js")} == {"w1", "w3"}
    assert not (files / "figures" / "waves" / "w2").exists()


def test_a_damaged_manifest_is_made_again(waves):
    page = collate("waves")
    manifest = page.parent / "index_files" / "manifest.json"
    whole = manifest.read_text("utf-8")
    manifest.write_text("{broken", "utf-8")
    collate("waves")
    assert json.loads(manifest.read_text("utf-8")) == json.loads(whole)


def test_the_folder_can_be_moved_with_its_reports(project, waves, tmp_path_factory):
    page = collate("waves", out="delivery", bundle=True)
    elsewhere = tmp_path_factory.mktemp("client") / "delivery"
    shutil.move(page.parent, elsewhere)
    data = data_of(elsewhere / "index.html")
    paths = {link["kind"]: link["path"] for link in data["links"]}
    assert (elsewhere / paths["report"].format(step="waves", instance="w1")).is_file()
    assert str(project.root) not in (elsewhere / "index.html").read_text("utf-8")


def test_no_value_ends_the_data_or_is_html(project):
    evil = "</script><script>window.pwned = 1</script><!-- \u2028 &amp; <img src=x onerror=pwn()>"
    project.write("evil", "print(v)\nraise ValueError(v)", parameters="config = {'v': 1}")
    with pytest.raises(RunFailed):
        project.run("evil", {"v": evil, evil: {"nan": float("nan")}})
    page = collate("evil", title=evil, html=HtmlOptions(css="a{}</style><script>"))
    text = page.read_text("utf-8")
    assert text.count("</script>") == 2
    (row,) = data_of(page)["rows"]
    assert evil in row["c"]
    assert "nan" in row["c"]
    title = text.split("<title>")[1].split("</title>")[0]
    assert html.unescape(title) == evil
    assert "</style><script>" not in text
    details = (page.parent / "index_files" / "instances" / "evil" / "a.js").read_text("utf-8")
    assert "<" not in details


# --- lights -------------------------------------------------------------------------------------


def test_a_changed_input_makes_an_instance_stale(project):
    project.write("reader", "open('../../../data.csv').read()")
    (project.root / "data.csv").write_text("1", "utf-8")
    run = project.run("reader")
    looked_for = {"path": "extra.csv", "role": "missing"}
    add_inputs(run.dir, fact(project.root, "data.csv"), looked_for)

    def light():
        facts = read_facts(run.dir, project.root)
        return facts.light, facts.stale

    assert light() == (Light.SUCCESS, ())
    os.utime(project.root / "data.csv", (1, 1))  # touched only
    assert light() == (Light.SUCCESS, ())
    (project.root / "extra.csv").touch()
    assert light() == (Light.STALE, ("extra.csv now exists",))
    (project.root / "extra.csv").unlink()
    (project.root / "data.csv").write_text("2", "utf-8")
    assert light() == (Light.STALE, ("data.csv changed",))
    (project.root / "data.csv").unlink()
    assert light() == (Light.STALE, ("data.csv is gone",))


@pytest.mark.skipif(os.name != "posix", reason="only there a dead process can be told")
def test_a_run_whose_conductor_was_killed_does_not_run(project):
    project.write("calm")
    run = project.run("calm")
    record = json.loads((run.dir / "run.json").read_text("utf-8"))
    conductor = run.record.conductor
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    def light(pid):
        changed = {**record, "status": "running", "conductor": {**conductor, "pid": pid}}
        (run.dir / "run.json").write_text(json.dumps(changed), "utf-8")
        return read_facts(run.dir, project.root).light

    with instance_lock(run.paths):
        assert light(os.getpid()) is Light.RUNNING
        assert light(dead.pid) is Light.ERROR
    assert light(os.getpid()) is Light.ERROR  # its number is somebody else's by now


def test_a_run_that_ends_while_it_is_looked_at(project, monkeypatch):
    """Its lock is free when it is asked for, for it has just written that it is over."""
    project.write("calm")
    run = project.run("calm")
    file = run.dir / "run.json"
    ended = file.read_text("utf-8")
    changed = {**json.loads(ended), "status": "running", "finished": None}
    file.write_text(json.dumps(changed), "utf-8")
    look = overview._is_live

    def end(run):
        file.write_text(ended, "utf-8")
        return look(run)

    monkeypatch.setattr(overview, "_is_live", end)
    assert read_facts(run.dir, project.root).light is Light.SUCCESS


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("import warnings; warnings.warn('careful')", 1),
        ("import logging; logging.warning('one'); logging.getLogger('a').error('two')", 2),
        ("import logging; logging.getLogger('b').warning('without a handler')", 1),
        ("import logging\nlogging.basicConfig(format='%(message)s')\nlogging.warning('bare')", 1),
        ("import logging; logging.getLogger('c').info('no'); logging.info('no')", 0),
        ("print('⚠️ look'); print('Warning: look'); print('  warning: look')", 3),
        ("print('a warning: no'); print('UserWarning: no')", 0),
        ("import sys\nprint('\\x1b[33mwarning: colour\\x1b[0m', file=sys.stderr)", 1),
    ],
)
def test_warnings_are_counted(project, code, count):
    project.write("warns", code)
    run = project.run("warns")
    assert run.ok
    assert run.record.warnings == count
    assert json.loads((run.dir / "run.json").read_text("utf-8"))["warnings"] == count


def test_warnings_are_counted_in_pieces_and_floods():
    counted = WarningCount()
    for piece in ("warn", "ing: a\nx", "\nwarning: b", " goes on " * 1000, "\n", "warning: c"):
        counted.stream("stdout", piece)
    counted.stream("stderr", "WARNING:root:told twice\n")
    counted.logged(1)
    assert counted.total == 4
    assert counted.total == 4


# --- lineage ------------------------------------------------------------------------------------


def test_lineage_is_what_was_read(project):
    project.write("first", "open('out.csv', 'w').write('1')")
    project.write("second", "pass")
    (project.root / "given.csv").write_text("x", "utf-8")
    one = run_step_flow("first", "first", "a", {})
    two = run_step_flow("second", "second", "b", {})
    add_inputs(
        two.dir,
        fact(project.root, "runs/first/a/out.csv"),
        fact(project.root, "given.csv"),
        fact(project.root, "flow/second.py", role="module"),
        {"path": "/elsewhere/x.bin", "role": "folder"},
    )
    page = collate()
    assert summary_of(page)["lineage"] == {
        "files": ["given.csv"],
        "edges": [
            {"from": "first/a", "to": "second/b", "files": ["out.csv"]},
            {"from": "given.csv", "to": "second/b", "files": ["given.csv"]},
        ],
    }
    assert 'read by <a href="../../second/b/second.html">second/b</a>' in one.html.read_text(
        "utf-8"
    )
    text = two.html.read_text("utf-8")
    assert 'reads <a href="../../first/a/first.html">first/a</a>' in text
    assert '<a href="../../index.html">all instances</a>' in text
    assert '<a href="../../first/a/first.html">‹ a</a>' in text


# --- reports ------------------------------------------------------------------------------------


def test_navigation_keeps_the_size_of_a_report(project):
    project.write("calm")
    run = project.run("calm")
    before = run.html.read_bytes()
    many = [(f"step/<instance> number {n} with a long name", f"../x/{n}#?.html") for n in range(99)]
    assert fill_navigation(run.html, index="../../index.html", upstream=many, downstream=many)
    after = run.html.read_bytes()
    assert len(after) == len(before)
    assert b"and 93 more" in after
    assert b"../x/0%23%3F.html" in after
    assert b"<instance>" not in after
    assert fill_navigation(run.html)
    assert run.html.read_bytes() == before
    assert not fill_navigation(run.dir / "none.html")
    (run.dir / "other.html").write_text("<p>no place</p>", "utf-8")
    assert not fill_navigation(run.dir / "other.html", index="x")
    assert len(navigation(upstream=[("é" * 40, "x" * 900)] * MOST).encode()) <= SLOT


def test_a_report_says_how_the_run_went(project):
    project.write(
        "told", "# %% [markdown]\n# # One\n#\n# ## Two *b* <i>x</i>", "print('warning: hm')"
    )
    run = project.run("told")
    text = run.html.read_text("utf-8")
    head = text.split('<header class="ductaflow-header">')[1].split("</header>")[0]
    assert "<b>told / a</b>" in head
    assert '<span class="status warnings">✓ succeeded, 1 warning</span>' in head
    assert f'<span class="facts">{run.duration:.2f} s</span>' in head
    assert '<a href="#cell-id=ductaflow-config">config</a>' in head
    assert '<li class="l1"><a href="#One">One</a></li>' in head
    assert "Two b x</a></li>" in head
    assert 'id="cell-id=ductaflow-config"' in text
    assert "failing cell" not in head


def test_a_report_leads_to_the_failing_cell(project):
    project.write("fails", "1 / 0")
    with pytest.raises(RunFailed) as caught:
        project.run("fails")
    text = caught.value.run.html.read_text("utf-8")
    assert '<a href="#ductaflow-failing-cell">failing cell</a>' in text
    assert 'id="ductaflow-failing-cell"' in text


def test_the_looks_of_a_report_can_be_set(project):
    logo = project.root / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', "utf-8")
    (project.root / "brand.css").write_text("b { color: teal }", "utf-8")
    project.write("long", "for n in range(20): print('line', n)", "print('short')")
    looks = HtmlOptions(title="A & B", logo=logo, css="brand.css", code=False, fold_lines=10)
    text = project.run("long", html=looks).html.read_text("utf-8")
    assert "<b>A &amp; B</b>" in text
    assert 'src="data:image/svg+xml;base64,' in text
    assert "b { color: teal }" in text
    assert 'id="ductaflow-code" aria-label="show code">' in text
    assert text.count("<summary>Output of 20 lines</summary>") == 1
    assert text.count("line 19") == 1
    shown = project.run("long", html=HtmlOptions(fold_lines=None)).html.read_text("utf-8")
    assert 'aria-label="show code" checked>' in shown
    assert "<summary>Output" not in shown


def test_a_template_can_be_set(project):
    template = project.root / "page.html.j2"
    template.write_text(
        "<title>{{ title }}</title>{{ head }}<body class='jp-Notebook'>MINE{{ header }}{{ body }}"
        "{{ scripts }}",
        "utf-8",
    )
    project.write("calm", "print('hello')")
    looks = HtmlOptions(template=template)
    text = run_step_flow(
        "calm", "calm", "a <b>".replace("<b>", "b"), {}, html=looks
    ).html.read_text("utf-8")
    assert text.startswith("<title>calm / a b</title><style>")
    assert "MINE<input" in text
    assert "hello" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logo": "none.png"}, "is not a file"),
        ({"template": "none.j2"}, "is not a file"),
        ({"fold_lines": 0}, "must be a positive integer or None, not 0"),
    ],
)
def test_wrong_looks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HtmlOptions(**options)


def test_a_logo_is_a_picture(tmp_path):
    (tmp_path / "logo.exe").write_text("", "utf-8")
    with pytest.raises(ValueError, match="image/png"):
        HtmlOptions(logo=tmp_path / "logo.exe")


# --- the bundle ---------------------------------------------------------------------------------


def test_the_bundle_needs_nothing_from_elsewhere_and_has_its_licences():
    static = Path(ductaflow.__file__).parent / "static"
    script = (static / "index.js").read_text("utf-8")
    assert "</script" not in script.lower()
    assert "sourceMappingURL" not in script
    licences = (static / "LICENSES" / "index.txt").read_text("utf-8")
    for package in ("tabulator-tables", "echarts", "zrender", "@dagrejs/dagre", "diff"):
        assert f"{package} " in licences


def test_what_runs_have_read_of_each_other_is_drawn_and_linked(project):
    project.write("above", "open('out.txt', 'w').write('1')")
    project.write("below", "open('../../above/a/out.txt').read()")
    for step in ("above", "below"):
        project.run(step)
    page = collate(root=project.root)
    instances = [
        read_facts(project.root / "runs" / s / "a", project.root) for s in ("above", "below")
    ]
    assert graph_of(instances, project.root).edges == (("above/a", "below/a", ("out.txt",)),)
    assert page.is_file()
    report = (project.root / "runs" / "below" / "a" / "below.html").read_text("utf-8")
    assert "../../above/a/above.html" in report
