"""The list of artifacts: what holds for each of them, and for one that is added."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import attrs
import pytest
from browser import chromium, visit  # noqa: F401
from click.testing import CliRunner
from conftest import Project

from ductaflow import Run, RunFailed, collate, export, make_report, run_step_flow, thin, verify
from ductaflow.cli.main import group
from ductaflow.execution.writers import WRITERS, Ended, Writer
from ductaflow.files.compression import compressed, kept
from ductaflow.history.catalog import load_run
from ductaflow.model.options import OPTIONS
from ductaflow.project.artifacts import (
    ARTIFACTS,
    CONFIG,
    LOG,
    NOTEBOOK,
    RECORD,
    REPORT,
    Artifact,
    compressible,
    readable,
)
from ductaflow.upkeep.thinning import make_again

KINDS = tuple(ARTIFACTS)
PARAMETERS = "config = {'a': 1}"
CODE = "open('own.txt', 'w').write('own')\nprint('hello', a)"


@pytest.fixture
def flow(project: Project) -> Project:
    project.write("greet", CODE, parameters=PARAMETERS)
    return project


def names(run: Run) -> set[str]:
    return {path.name for path in run.dir.iterdir() if path.name[0] != "."}


def data_of(page: Path) -> dict:
    text = page.read_text("utf-8").split('<script type="application/json" id="data">')[1]
    return json.loads(text.split("</script>")[0])


def said(*args: str) -> str:
    done = CliRunner().invoke(group, args, catch_exceptions=False)
    assert not done.exit_code, done.output
    return done.output


# --- each ---------------------------------------------------------------------------------------


def test_the_list_is_what_a_run_leaves(flow: Project) -> None:
    run = flow.run("greet")
    assert names(run) == {artifact.name("greet") for artifact in ARTIFACTS.values()} | {"own.txt"}
    assert {path.name for path in run.paths.all()} == {
        *(artifact.name("greet") for artifact in ARTIFACTS.values()),
        *(f"{artifact.name('greet')}.gz" for artifact in compressible().values()),
        ".ductaflow.lock",
    }
    assert [fact.path for fact in run.record.outputs] == ["runs/greet/a/own.txt"]


def test_the_names_by_which_code_knows_them(flow: Project) -> None:
    run = flow.run("greet")
    assert run.artifacts == {"report": run.html, "notebook": run.notebook, "log": run.log}
    assert run.paths.readable == run.artifacts
    paths = run.paths
    by_name = {REPORT: paths.html, NOTEBOOK: paths.notebook, LOG: paths.log,
               CONFIG: paths.config, RECORD: paths.record}  # fmt: skip
    assert {artifact: paths.path(artifact) for artifact in ARTIFACTS.values()} == by_name


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_declared_soundly(kind: str) -> None:
    artifact = ARTIFACTS[kind]
    assert artifact.kind == kind
    assert not artifact.option or artifact.option in OPTIONS
    assert artifact.readable or not artifact.compressible
    same = [a for a in ARTIFACTS.values() if a.name("f") == artifact.name("f")]
    assert same == [artifact]


def test_who_writes_is_declared() -> None:
    assert set(WRITERS) <= set(ARTIFACTS)


@pytest.mark.parametrize("kind", KINDS)
def test_if_it_is_missed_the_run_is_made_again(flow: Project, kind: str) -> None:
    artifact = ARTIFACTS[kind]
    run = flow.run("greet")
    before = run.paths.path(artifact)
    before.unlink()
    again = flow.run("greet")
    if artifact.missing:
        assert [r.message for r in again.reasons] == [f"greet{before.suffix} {artifact.missing}"]
    assert again.reused == (artifact in (LOG, CONFIG))
    assert before.exists() == (not again.reused)


@pytest.mark.parametrize("kind", list(readable()))
def test_it_may_be_thinned_and_nothing_runs_for_it(flow: Project, kind: str) -> None:
    artifact = ARTIFACTS[kind]
    run = flow.run("greet")
    if artifact.compressible:
        thin([run], delete=(), compress=(kind,))
        assert kept(run.paths.path(artifact)) == compressed(run.paths.path(artifact))
        assert kind in run.artifacts
    thin([run], delete=(kind,), compress=())
    assert kind not in run.artifacts
    again = flow.run("greet")
    assert again.reused
    assert kind not in again.artifacts
    assert f"{kind} deleted" in said("show", "greet/a")


@pytest.mark.parametrize("kind", list(WRITERS))
def test_it_is_made_again_as_it_was(flow: Project, kind: str) -> None:
    run = flow.run("greet")
    file = run.paths.path(ARTIFACTS[kind])
    before = file.read_bytes()
    thin([run], delete=(kind,), compress=("notebook",))
    assert make_again(run, kind) == file
    assert file.read_bytes() == before
    assert load_run(run.dir).record.thinned == ()
    assert flow.run("greet").reused


@pytest.mark.parametrize("kind", KINDS)
def test_pages_link_to_it(flow: Project, kind: str) -> None:
    run = flow.run("greet")
    page = collate("greet")
    (link,) = [link for link in data_of(page)["links"] if link["kind"] == kind]
    file = run.paths.path(ARTIFACTS[kind])
    assert Path(link["path"].format(folder=run.dir, flow="greet")) == file
    assert link["text"] == ARTIFACTS[kind].text
    (told,) = json.loads(page.with_name("bulk_summary.json").read_text("utf-8"))["instances"]
    assert page.parent / told["links"][kind] == file
    assert (f">{link['text']}</a>" in run.links()) == ARTIFACTS[kind].readable


def test_what_opens_is_the_first_that_is_there(flow: Project) -> None:
    run = flow.run("greet")
    for artifact in [a for a in ARTIFACTS.values() if a.opened]:
        assert run.opened == run.paths.path(artifact)
        run.opened.unlink()


def test_a_report_that_is_made_anew_keeps_its_links(flow: Project) -> None:
    run = flow.run("greet")
    plain = run.html.read_bytes()
    collate("greet")
    linked = run.html.read_bytes()
    assert linked != plain
    make_report(run)
    assert b"all instances" in linked
    assert run.html.read_bytes().count(b"all instances") == linked.count(b"all instances")


# --- one more -----------------------------------------------------------------------------------


DIGEST = Artifact(
    kind="digest", file="{flow}.txt", text="digest text", missing="is not there", readable=True,
    compressible=True,
)  # fmt: skip


class DigestWriter(Writer):
    """Markdown, and what was printed."""

    def make(self, run: Ended, old: bytes | None = None) -> str:
        parts = [run.record.status.value]
        for cell in run.cells:
            if cell["cell_type"] == "markdown":
                parts.append(cell["source"])
            outputs = cell.get("outputs", ())
            parts += [o["text"] for o in outputs if o["output_type"] == "stream"]
        return "\n".join(parts)


def add(monkeypatch: pytest.MonkeyPatch, artifact: Artifact) -> None:
    monkeypatch.setitem(ARTIFACTS, artifact.kind, artifact)
    monkeypatch.setitem(WRITERS, artifact.kind, DigestWriter)


@pytest.fixture
def digest(flow: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    add(monkeypatch, DIGEST)
    flow.write("greet", "# %% [markdown]\n# Text\n", CODE, parameters=PARAMETERS)
    return flow


def text_of(run: Run) -> str:
    return run.artifacts["digest"].read_text("utf-8")


def test_one_more_is_written_and_linked(digest: Project) -> None:
    run = digest.run("greet", {"a": 2})
    assert run.artifacts["digest"] == run.dir / "greet.txt"
    assert text_of(run).startswith("success\n")
    assert "Text\n" in text_of(run)
    assert "hello 2\n" in text_of(run)
    assert run.links().endswith(">digest text</a>")
    assert [fact.path for fact in run.record.outputs] == ["runs/greet/a/own.txt"]
    shown = said("show", "greet/a")
    assert f"digest text  {run.dir / 'greet.txt'}" in shown
    told = json.loads(said("show", "greet/a", "--json"))
    assert told["artifacts"]["digest"] == str(run.dir / "greet.txt")
    page = collate("greet")
    assert data_of(page)["links"][-1]["path"] == "{folder}/{flow}.txt"
    (row,) = json.loads(page.with_name("bulk_summary.json").read_text("utf-8"))["instances"]
    assert (page.parent / row["links"]["digest"]).is_file()
    files = (page.parent / "index_files/instances/greet/a.js").read_text("utf-8")
    assert "own.txt" in files
    assert "greet.txt" not in files
    assert verify("greet", "a").ok
    said("clean", "--yes")
    assert names(run) == {"own.txt"}


def test_one_more_is_of_every_run_that_failed_too(digest: Project) -> None:
    digest.write("greet", CODE, "1 / 0", parameters=PARAMETERS)
    with pytest.raises(RunFailed) as failure:
        digest.run("greet")
    run = failure.value.run
    assert text_of(run).startswith("failed\n")
    assert "hello 1\n" in text_of(run)


def test_a_run_without_one_more_is_made_again(digest: Project) -> None:
    run = digest.run("greet")
    assert digest.run("greet").reused
    run.artifacts["digest"].unlink()
    again = digest.run("greet")
    assert [reason.message for reason in again.reasons] == ["greet.txt is not there"]
    assert text_of(again)


def test_one_more_is_thinned_delivered_and_made_anew(digest: Project) -> None:
    run = digest.run("greet")
    before = text_of(run)
    (first,) = export(run, "out/{instance}")
    assert "greet.txt" in first.copied
    assert (digest.root / "out/a/greet.txt").read_text("utf-8") == before

    (done,) = thin([run])
    assert done.compressed == ("notebook", "log", "digest")
    assert run.artifacts["digest"].name == "greet.txt.gz"
    assert digest.run("greet").reused
    thin([run], delete=["digest"], compress=())
    assert "digest" not in run.artifacts
    assert digest.run("greet").reused

    (second,) = export(load_run(run.dir), "out/{instance}")
    assert second.removed == ()
    assert (digest.root / "out/a/greet.txt").read_text("utf-8") == before

    make_again(run, "digest")
    assert text_of(run) == before
    thin([run], delete=(), compress=["digest"])
    forced = digest.run("greet", force=True)
    assert names(forced) >= {"greet.txt"}
    assert not names(forced) & {"greet.txt.gz"}


def test_the_command_thins_one_more(digest: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "ductaflow.cli.thin_command"  # it reads the list when it is imported
    monkeypatch.delitem(sys.modules, command, raising=False)
    run = digest.run("greet")
    assert said("thin", "--delete", "digest").startswith("greet/a: delete digest\n")
    assert "digest" not in run.artifacts
    del sys.modules[command]


def test_one_more_shows_the_text_as_it_is_now(digest: Project) -> None:
    digest.run("greet", {"a": 2})
    digest.write("greet", "# %% [markdown]\n# Other words\n", CODE, parameters=PARAMETERS)
    run = digest.run("greet", {"a": 2})
    assert run.reused
    assert "Other words\n" in text_of(run)
    assert "hello 2\n" in text_of(run)


@pytest.mark.parametrize("thinned", [(), ("notebook", "digest")])
def test_one_more_follows_a_flow_that_is_renamed(digest: Project, thinned: tuple[str, ...]) -> None:
    run = digest.run("greet")
    thin([run], delete=(), compress=thinned)
    before = run.artifacts["digest"].read_bytes()
    flow = digest.root / "flow/greet.py"
    flow.rename(flow.with_name("hail.py"))
    moved = run_step_flow("hail", "greet", "a", {})
    assert moved.reused
    assert moved.artifacts["digest"].name.startswith("hail.txt")
    assert moved.artifacts["digest"].read_bytes() == before
    assert not [name for name in names(moved) if name.startswith("greet.")]


def test_one_more_of_one_name_stays_with_a_renamed_flow(
    flow: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, attrs.evolve(DIGEST, file="digest.txt"))
    flow.run("greet")
    source = flow.root / "flow/greet.py"
    source.rename(source.with_name("hail.py"))
    moved = run_step_flow("hail", "greet", "a", {})
    assert moved.reused
    assert "hello 1" in text_of(moved)


def test_an_option_says_whether_one_more_is_written(
    flow: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, attrs.evolve(DIGEST, option="html"))
    run = flow.run("greet", html=False)
    assert "digest" not in run.artifacts
    assert flow.run("greet", html=False).reused
    (row,) = data_of(collate("greet"))["rows"]
    assert row["h"] == {"report": None, "digest": None}
    now = flow.run("greet", html=True)
    assert {str(reason) for reason in now.reasons} == {
        "the report's options changed",
        "the digest text's options changed",
    }
    assert "digest" in now.artifacts


@pytest.mark.browser
def test_the_page_shows_what_it_is_told(digest: Project, visit) -> None:  # noqa: F811
    digest.run("greet")
    run_step_flow("greet", "greet", "b", {}, html=False)
    run_step_flow("greet", "greet", "c", {})
    thin([load_run(digest.root / "runs/greet/c")], delete=["digest"], compress=["notebook"])
    page = visit(collate("greet")).page
    found = {}
    for instance in "abc":
        page.get_by_role("button", name=instance, exact=True).click()
        nav = page.locator("dialog.panel nav.links")
        nav.wait_for()
        links = nav.locator("a").all()
        found[instance] = [(link.inner_text(), link.get_attribute("href")) for link in links]
        if instance == "c":
            assert "(thinned: no digest text)" in nav.inner_text()
        page.keyboard.press("Escape")
    rest = [("log", "greet.log"), ("config", "config.json"), ("record", "run.json")]
    report, digest_text, folder = (
        ("report", "greet.html"),
        ("digest text", "greet.txt"),
        ("folder", ""),
    )
    expected = {
        "a": [report, ("notebook", "greet.ipynb"), *rest, digest_text, folder],
        "b": [("notebook", "greet.ipynb"), *rest, digest_text, folder],
        "c": [report, ("notebook", "greet.ipynb.gz"), *rest, folder],
    }
    assert found == {
        instance: [(text, f"./greet/{instance}/{name}") for text, name in links]
        for instance, links in expected.items()
    }
