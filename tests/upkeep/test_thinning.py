"""Runs that are thinned are still reused, and tell what they have no more."""

from __future__ import annotations

import gzip

import pytest
from browser import chromium, visit  # noqa: F401
from click.testing import CliRunner

from ductaflow import (
    ArtifactError,
    HtmlOptions,
    collate,
    get_all_instances,
    make_report,
    run_step_flow,
    sweep,
    thin,
    verify,
)
from ductaflow.cli.main import group
from ductaflow.files.compression import compressed
from ductaflow.history.catalog import load_run
from ductaflow.model.verification import Verifications

FLOW = """\
# %% [markdown]
# # Title

# %% tags=["parameters"]
config = {"a": 1}

# %%
print("hello", a)
"""
ALL = ("report", "notebook", "log")


@pytest.fixture
def run(tmp_path):
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "greet.py").write_text(FLOW, "utf-8")
    return lambda **more: run_step_flow("greet", "one", {"a": 2}, root=tmp_path, **more)


def names(run):
    return {path.name for path in run.dir.iterdir() if path.name[0] != "."}


def test_a_thinned_run_is_reused_and_read(run):
    made = run()
    log, notebook = made.read_log(), made.read_notebook()
    (done,) = thin([made])
    assert (done.deleted, done.compressed) == (("report",), ("notebook", "log"))
    assert names(made) == {"config.json", "run.json", "greet.ipynb.gz", "greet.log.gz"}
    again = run()
    assert again.reused
    assert names(again) == names(made)
    assert (again.read_log(), again.read_notebook()) == (log, notebook)
    assert gzip.decompress(again.log.read_bytes()).decode() == log
    assert thin([again]) == []
    assert get_all_instances("greet", root=made.dir.parents[2])[0].brief.thinned == ("report",)


def test_all_of_it_may_go(run):
    made = run()
    thin([made], delete=ALL, compress=())
    assert names(made) == {"config.json", "run.json"}
    again = run()
    assert again.reused
    with pytest.raises(ArtifactError, match="greet/one was thinned: its log has been deleted"):
        again.read_log()
    with pytest.raises(ArtifactError, match="has no notebook of which a report could be made"):
        make_report(again)
    page = collate(["greet"], root=made.dir.parents[2])
    assert page.is_file()


def test_what_is_lost_by_accident_is_made_again(run):
    made = run()
    thin([made], delete=["log"], compress=[])
    made.html.unlink()
    assert not run().reused


def test_a_run_that_runs_again_is_whole(run):
    thin([run()])
    fresh = run(force=True)
    assert names(fresh) == {"config.json", "run.json", "greet.ipynb", "greet.log", "greet.html"}
    assert fresh.record.thinned == ()


@pytest.mark.parametrize("html", [True, HtmlOptions(title="Client", code=False)])
def test_a_report_is_made_anew_as_it_was(run, html):
    made = run(html=html)
    page = made.html.read_bytes()
    thin([made])
    assert make_report(load_run(made.dir)) == made.html
    assert made.html.read_bytes() == page
    again = run(html=html)
    assert again.reused
    assert again.record.thinned == ()
    again.html.unlink()
    assert not run(html=html).reused


def test_young_runs_stay(run):
    made = run()
    assert thin([made], older_than="1h") == []
    assert len(thin([made], older_than=0, dry_run=True)) == 1
    assert made.html.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"delete": ["config"]}, "delete must be a list of .*, not 'config'"),
        ({"delete": "report"}, "delete must be a list of .*, not 'report'"),
        ({"compress": ["report"]}, "compress must be a list of .*, not 'report'"),
        ({"delete": ["log"]}, "'log' is to be deleted and compressed"),
    ],
)
def test_what_cannot_be_thinned_is_refused(run, arguments, told):
    made = run()
    with pytest.raises(ValueError, match=told):
        thin([made], **arguments)
    assert made.html.exists()


def test_on_the_command_line(run):
    made = run()
    root = ["--root", str(made.dir.parents[2])]

    def do(*args):
        done = CliRunner().invoke(group, [*args, *root], catch_exceptions=False)
        assert not done.exit_code
        return done.output

    assert do("thin", "--dry-run").startswith("greet/one: delete report; compress notebook, log\n")
    assert made.html.exists()
    assert "1 run is thinned." in do("thin", "greet/one")
    assert "hello 2" in do("log", "greet/one")
    assert "report deleted" in do("show", "greet/one")
    assert do("report").strip() == str(made.html)
    assert do("report") == "No report is missing.\n"
    do("clean", "--yes")
    assert not made.dir.exists()


@pytest.mark.browser
def test_the_page_about_many_leads_to_what_is_there(run, visit):  # noqa: F811
    made = run()
    thin([made], delete=["report", "log"], compress=["notebook"])
    page = visit(collate(["greet"], root=made.dir.parents[2])).page
    links = page.locator("a[href*='one/']").evaluate_all("all => all.map(a => a.href)")
    assert links
    assert any(link.endswith("/greet.ipynb.gz") for link in links)
    assert not any(link.endswith((".html", ".log", ".ipynb")) for link in links)


def test_thinning_is_no_business_of_a_delivery(tmp_path):
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "greet.py").write_text(FLOW, "utf-8")
    rows = [{"instance": "one", "a": 1}]
    told = {"root": tmp_path, "export_to": f"{tmp_path}/deliver/{{instance}}", "progress": False}
    sweep("greet", rows, **told)
    delivered = {p.name: p.read_bytes() for p in (tmp_path / "deliver/one").iterdir()}
    assert {"greet.html", "greet.ipynb", "greet.log"} <= set(delivered)
    thin("greet", root=tmp_path)
    assert sweep("greet", rows, **told).reused
    now = {p.name: p.read_bytes() for p in (tmp_path / "deliver/one").iterdir()}
    assert set(now) == set(delivered)
    assert now["greet.html"] == delivered["greet.html"]


def test_what_the_flow_itself_compressed_stays(tmp_path):
    (tmp_path / "flow").mkdir()
    writes = "\nimport gzip\nwith gzip.open('greet.log.gz', 'wt') as f: f.write('own')\n"
    (tmp_path / "flow" / "greet.py").write_text(FLOW + writes, "utf-8")
    made = run_step_flow("greet", "one", {}, root=tmp_path)
    assert gzip.decompress((made.dir / "greet.log.gz").read_bytes()) == b"own"


def test_what_another_flow_reads_is_left_alone(run, tmp_path):
    made = run()
    reads = (
        '# %% tags=["parameters"]\nconfig = {}\n# %%\nopen("../../greet/one/greet.log").read()\n'
    )
    (tmp_path / "flow" / "reads.py").write_text(reads)
    run_step_flow("reads", "i", {}, root=tmp_path)
    thin(root=tmp_path)
    assert "greet.log" in names(made)
    assert run_step_flow("reads", "i", {}, root=tmp_path).reused


def test_the_log_of_a_thinned_run_commands_no_terminal(run, capsys):
    made = run(echo=False)
    made.log.write_text("begin \x1bcE \x08 \x9b2J end")
    thin([made])
    result = CliRunner().invoke(group, ["log", "greet/one", "--root", str(made.dir.parents[2])])
    assert "begin ␛cE" in result.output
    assert not {"\x1b", "\x08", "\x9b"} & set(result.output)


@pytest.mark.parametrize("deleted", [("report",), ("report", "log"), ALL])
def test_a_thinned_run_is_verified(run, deleted):
    """As far as it can be: what is not compared is said."""
    made = run()
    root = made.dir.parents[2]
    thin([made], delete=deleted, compress=() if deleted == ALL else ("notebook",))
    found = verify("greet", "one", root=root)
    assert found.ok
    missing = "its cells were not compared: its notebook has been deleted by thin"
    assert (missing in found.headline()) == ("notebook" in deleted)
    assert found.left_out == found.to_json()["left_out"] == ((missing,) if deleted == ALL else ())
    assert (missing in str(Verifications((found,)))) == (deleted == ALL)


def overwritten(data: bytes) -> bytes:
    return data[:30] + b"x" * 40


@pytest.mark.parametrize("damage", [lambda data: data[:-9], overwritten, lambda data: b"PK" + data])
def test_a_damaged_compressed_notebook_is_told(run, damage):
    made = run()
    thin([made], delete=())
    packed = compressed(made.paths.notebook)
    packed.write_bytes(damage(packed.read_bytes()))
    found = verify("greet", "one", root=made.dir.parents[2])
    assert [difference.where for difference in found.differences] == ["greet.ipynb"]
    with pytest.raises(ArtifactError, match="has no notebook that can be read"):
        made.read_notebook()
    with pytest.raises(ArtifactError, match="no notebook of which a report could be made"):
        make_report(made)
