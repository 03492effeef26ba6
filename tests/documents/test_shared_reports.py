"""Reports that share their styles: they look as whole ones do, and leave `runs/` whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium, visit  # noqa: F401
from click.testing import CliRunner

from ductaflow import (
    ExportError,
    HtmlOptions,
    collate,
    export,
    get_all_instances,
    make_report,
    run_notebook,
    run_step_flow,
    sweep,
    thin,
    verify,
)
from ductaflow.cli.main import group
from ductaflow.documents.html import SharedParts, shared, whole
from ductaflow.documents.html.header import HEADER_CSS
from ductaflow.project.layout import iter_steps, shared_dir

SHARED = HtmlOptions(shared=True)
CELLS = (
    "# %% [markdown]\n# # Title\n#\n# Text, **bold**, `code`\n",
    "print('hello', a)",
    "1 / 2",
)
FORMULA = "# %% [markdown]\n# $$e^{i\\pi} = -1$$\n"
STYLES = """() => [...document.querySelectorAll("*")]
  .filter((e) => !e.closest("head, #ductaflow-apart"))
  .map((e) => {
    const style = getComputedStyle(e);
    const names = [...style].sort();  // custom properties come in any order
    return e.tagName + " " + names.map((name) => name + style.getPropertyValue(name)).join();
  })"""


@pytest.fixture
def study(project):
    project.write("greet", *CELLS, parameters="config = {'a': 1}")
    return project


def greet(html=SHARED, instance="one", **more):
    return run_step_flow("greet", "greet", instance, {"a": 2}, html=html, **more)


def parts_of(project):
    folder = shared_dir(project.root)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def linked(report):
    return re.findall(r'(?:href|src)="([^"]*)" data-ductaflow="shared"', report.read_text("utf-8"))


def drawn(seen):
    """How each element looks, and a picture of the page without the time of its run."""
    seen.page.locator("header .facts").evaluate_all("all => all.forEach((e) => e.remove())")
    return seen.page.evaluate(STYLES), seen.page.screenshot(full_page=True)


# --- in runs/ ------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("css", ["", "main { background: rgb(250, 240, 230); }"])
def test_a_sharing_report_looks_as_a_whole_one(study, visit, scripts, css):  # noqa: F811
    looks = {"scripts": scripts, "css": css}
    one = greet(HtmlOptions(**looks), "one two & ü")
    text = one.html.read_text("utf-8")
    before = drawn(visit(one.html))
    two = greet(HtmlOptions(**looks, shared=True), "one two & ü", force=True)
    assert two.html.stat().st_size < len(text) - 35_000
    (style,) = linked(two.html)
    seen = visit(two.html)
    assert (two.dir / style).resolve().as_uri() in seen.requests
    assert drawn(seen) == before
    assert seen.page.locator("#ductaflow-apart").is_hidden()
    assert seen.errors == []


@pytest.mark.browser
def test_of_style_sheets_a_strict_policy_lets_in_only_the_shared_one(study, visit):  # noqa: F811
    study.write(
        "evil",
        "from IPython.display import HTML",
        "open('own.css', 'w').write('h1 { color: rgb(1, 2, 3) }')\n"
        "open('own.js', 'w').write('document.title = `ran`')",
        "HTML('<h1 id=x>x</h1><link rel=stylesheet href=own.css>')",
        "HTML('<script src=own.js></script>')",
    )
    run = run_step_flow("evil", "evil", "a", {}, html=HtmlOptions(scripts=False, shared=True))
    seen = visit(run.html)
    (style,) = linked(run.html)
    assert (run.dir / style).resolve().as_uri() in seen.requests
    assert seen.page.title() == "evil / a"
    assert seen.page.locator("#x").evaluate("e => getComputedStyle(e).color") != "rgb(1, 2, 3)"
    assert seen.page.locator("header").evaluate("e => getComputedStyle(e).position") == "sticky"


@pytest.mark.browser
def test_formulas_and_widgets_are_shown_by_shared_scripts(study, visit):  # noqa: F811
    study.write(
        "shown", FORMULA, "import ipywidgets", "ipywidgets.IntSlider(7, description='width')"
    )
    run = run_step_flow("shown", "shown", "a", {}, html=SHARED)
    assert run.html.stat().st_size < 40_000
    assert [Path(name).suffix for name in linked(run.html)] == [".css", ".js", ".js"]
    seen = visit(run.html)
    seen.page.locator("mjx-container").first.wait_for()
    seen.page.locator(".widget-readout, .jupyter-widgets").first.wait_for()
    assert seen.errors == []
    assert all(url.startswith("file:") for url in seen.requests)


def test_a_part_lies_once_for_all_instances_and_is_no_instance(study):
    runs = sweep("greet", [{"a": 1}, {"a": 2}, {"a": 3}], html=SHARED, progress=False)
    assert len(parts_of(study)) == 1
    assert len({link for run in runs for link in linked(run.html)}) == 1
    assert list(iter_steps(study.root)) == ["greet"]
    assert len(get_all_instances("greet")) == 3
    collate(root=study.root)
    assert len(parts_of(study)) == 1
    assert 'href="../../index.html"' in runs[0].html.read_text("utf-8")


def test_a_part_is_no_input_or_output_of_a_flow_of_flows(study):
    study.write(
        "outer",
        "from ductaflow import HtmlOptions, run_step_flow",
        "run_step_flow('greet', 'greet', 'in', {}, html=HtmlOptions(shared=True))",
    )
    run = run_step_flow("outer", "outer", "a", {})
    assert parts_of(study)
    told = [fact.path for fact in (*run.record.inputs, *run.record.outputs)]
    assert [path for path in told if "index_files" in path] == []
    shutil.rmtree(shared_dir(study.root))
    assert run_step_flow("outer", "outer", "a", {}).reused


def test_whether_it_shares_is_no_reason_to_run(study):
    first = greet(True)
    text = first.html.read_text("utf-8")
    for looks in (SHARED, HtmlOptions(), True):
        assert greet(looks).reused
    assert first.html.read_text("utf-8") == text
    assert not greet(HtmlOptions(title="Client", shared=True)).reused
    assert greet(HtmlOptions(title="Client")).reused


def test_only_instances_share(project):
    file = project.root / "note.py"
    file.write_text("# %%\nprint('hello')\n", "utf-8")
    run = run_notebook(file, execution_dir=project.root, html=SHARED)
    assert linked(run.html) == []
    assert "<style>" in run.html.read_text("utf-8")
    assert parts_of(project) == []


def test_styles_that_name_files_beside_the_report_stay_in_it(study):
    run = greet(HtmlOptions(css="main { background: url(dot.png); }", shared=True))
    assert len(linked(run.html)) == 1
    assert "url(dot.png)" in run.html.read_text("utf-8")
    (part,) = shared_dir(study.root).iterdir()
    assert "dot.png" not in part.read_text("utf-8")


def test_a_template_of_ones_own_shares_too(study):
    template = study.root / "page.html.j2"
    template.write_text(
        "<style>\nh1 { color: teal }\n</style>\n<title>{{ title }}</title>{{ head }}"
        "<body class='jp-Notebook'>{{ header }}{{ body }}{{ scripts }}",
        "utf-8",
    )
    plain = greet(HtmlOptions(template=template)).html.read_text("utf-8")
    run = greet(HtmlOptions(template=template, shared=True))
    assert run.reused
    thin([run], share=True)
    text = run.html.read_text("utf-8")
    assert "teal" in text
    assert len(linked(run.html)) == 1
    assert whole(run.html, study.root).decode() == plain


def test_new_words_in_a_report_that_was_made_to_share_leave_it_sharing(study):
    run = greet(html=True)
    thin([run], share=True)
    flow = study.root / "flow" / "greet.py"
    flow.write_text(flow.read_text("utf-8") + "\n# %% [markdown]\n# Words of today\n", "utf-8")
    run = greet(html=True)
    assert run.reused
    assert "Words of today" in run.html.read_text("utf-8")
    assert len(linked(run.html)) == 1


# --- a part that is not there --------------------------------------------------------------------


@pytest.mark.browser
def test_without_its_parts_it_says_what_to_do(study, visit):  # noqa: F811
    run = greet()
    shutil.rmtree(shared_dir(study.root))
    told = visit(run.html).page.locator("#ductaflow-apart")
    assert told.is_visible()
    assert "ductaflow report greet/one" in told.inner_text()
    done = CliRunner().invoke(group, ["report", "greet/one", "--root", str(study.root)])
    assert done.exit_code == 0, done.output
    seen = visit(run.html)
    assert seen.page.locator("#ductaflow-apart").is_hidden()
    assert len(parts_of(study)) == 1


@pytest.mark.browser
def test_without_a_script_it_says_so_too(study, visit):  # noqa: F811
    study.write("shown", FORMULA)
    run = run_step_flow("shown", "shown", "a", {}, html=SHARED)
    (script,) = shared_dir(study.root).glob("*.js")
    script.unlink()
    assert visit(run.html).page.locator("#ductaflow-apart").is_visible()


def test_a_delivery_that_cannot_be_whole_is_refused(study):
    run = greet()
    shutil.rmtree(shared_dir(study.root))
    with pytest.raises(ExportError, match=r"greet/one .*shares .*ductaflow report"):
        export(run, str(study.root / "out"))
    assert not (study.root / "out" / "greet.html").exists()


# --- out of runs/ --------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False])
def test_a_delivered_report_is_whole(study, visit, scripts):  # noqa: F811
    study.write("shown", *CELLS, FORMULA, parameters="config = {'a': 1}")
    looks = HtmlOptions(scripts=scripts, shared=True)
    run = run_step_flow("shown", "shown", "a", {}, html=looks)
    before = visit(run.html)
    before.page.wait_for_function("!window.MathJax || document.querySelector('mjx-container svg')")
    expected = drawn(before)
    (done,) = export(run, str(study.root / "out"))
    (study.root / "runs").rename(study.root / "gone")
    copy = study.root / "out" / "shown.html"
    assert linked(copy) == []
    seen = visit(copy)
    assert seen.requests == []
    seen.page.wait_for_function("!window.MathJax || document.querySelector('mjx-container svg')")
    assert drawn(seen) == expected
    (study.root / "gone").rename(study.root / "runs")
    assert export(run, done.target)[0].copied == ()


def test_what_is_delivered_does_not_depend_on_sharing(study):
    run = greet(True)
    page = run.html.read_bytes()
    export(run, str(study.root / "out"))
    thin([run], share=True)
    assert run.html.read_bytes() != page
    assert export(run, str(study.root / "out"))[0].copied == ()
    assert (study.root / "out" / "greet.html").read_bytes() == page


def test_sweeps_and_commands_deliver_whole_reports(study):
    sweep(
        "greet", [{"instance": "a", "a": 1}], html=SHARED, export_to="out/{instance}",
        progress=False,
    )  # fmt: skip
    assert linked(study.root / "out" / "a" / "greet.html") == []
    asked = ["export", "again/{instance}", "greet/a", "--root", str(study.root)]
    assert CliRunner().invoke(group, asked).exit_code == 0
    assert linked(study.root / "again" / "a" / "greet.html") == []


def test_a_bundled_report_is_whole(study):
    page = greet(True).html.read_bytes()
    run = greet()
    thin([run], share=True)
    collate(out="site", bundle=True)
    (copy,) = (study.root / "site" / "index_files" / "reports").rglob("*.html")
    assert copy.read_bytes() == page
    assert len(linked(run.html)) == 1


# --- old reports ---------------------------------------------------------------------------------


def test_old_reports_can_share(study):
    run, other = greet(True), greet(True, "two")
    collate(root=study.root)
    page = run.html.read_bytes()
    ask = ["thin", "--share", "--root", str(study.root)]
    told = CliRunner().invoke(group, [*ask, "--dry-run"]).output
    assert "greet/one: share report" in told
    assert run.html.read_bytes() == page
    assert "2 runs are thinned" in CliRunner().invoke(group, ask).output
    assert run.html.stat().st_size < len(page) - 35_000
    assert run.notebook.exists()
    assert linked(run.html) == linked(other.html)
    assert "two ›" in run.html.read_text("utf-8")  # the links to its neighbours
    assert whole(run.html, study.root) == page
    assert greet(True).reused
    assert thin(share=True, root=study.root) == []
    assert linked(make_report(run)) == linked(other.html)
    shutil.rmtree(shared_dir(study.root))
    again = ["report", "--root", str(study.root)]
    assert str(run.html) in CliRunner().invoke(group, again).output
    assert len(parts_of(study)) == 1
    assert CliRunner().invoke(group, again).output == "No report is missing.\n"


def test_a_report_that_another_run_has_read_stays(study):
    run = greet(True)
    study.write("reads", "len(open('../../greet/one/greet.html').read())")
    run_step_flow("reads", "reads", "a", {})
    page = run.html.read_bytes()
    assert [each.run.label for each in thin(share=True, root=study.root)] == ["reads/a"]
    assert run.html.read_bytes() == page


def test_styles_of_ones_own_are_told_from_ours(study):
    css = f"{HEADER_CSS.splitlines()[0]} .ductaflow-header {{ background: teal; }}"
    run = greet(HtmlOptions(css=css))
    page = run.html.read_text("utf-8")
    earlier = page.replace("</style>\n<style>\n", "", 1)  # in one element, as they once were
    assert earlier != page
    for text in (page, earlier):
        run.html.write_text(text, "utf-8")
        thin([run], share=True)
        assert len(linked(run.html)) == 1
        assert thin([run], share=True) == []
        assert whole(run.html, study.root).decode() == text
    assert len(parts_of(study)) == 2


def test_what_cannot_be_shared_stays(study):
    run = greet(True)
    page = run.html.read_text("utf-8")
    beside = page.replace("</style>", "main { background: url(a.png); }\n</style>", 1)
    for text in ("no report", beside):
        run.html.write_text(text, "utf-8")
        assert thin([run], share=True) == []
        assert run.html.read_text("utf-8") == text


def test_a_report_cannot_be_deleted_and_shared(study):
    with pytest.raises(ValueError, match="deleted, and cannot be shared"):
        thin([greet()], delete=["report"], share=True)


# --- several at once -----------------------------------------------------------------------------

WRITES = """
import sys
from pathlib import Path
from ductaflow.documents.html import SharedParts
parts = SharedParts(Path(sys.argv[1]), "x", "a/b")
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    for text in ("same" * 50_000, str(number) * 1000):
        path = Path(sys.argv[1]) / Path(parts.keep(text, ".css")).name
        assert path.read_text() == text, path
"""


def test_two_processes_may_write_a_part_at_once(tmp_path):
    folder = tmp_path / "runs" / "index_files" / "shared"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WRITES, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert len(list(folder.iterdir())) == 201


def test_a_part_that_was_cut_off_is_written_anew(study):
    run = greet()
    (part,) = shared_dir(study.root).iterdir()
    content = part.read_bytes()
    part.write_bytes(content[:100])
    make_report(run)
    assert part.read_bytes() == content


def test_a_verified_run_shares_as_before(study):
    run = greet()
    page = run.html.read_bytes()
    assert verify(run).ok
    assert run.html.read_bytes() == page
    assert len(parts_of(study)) == 1


def test_sharing_and_back_is_the_same_page(tmp_path):
    from ductaflow.documents.html import Head, HtmlRenderer

    for scripts in (True, False):
        for css in ("", "h1 { color: red }"):
            head = Head("a / b", "success", "ok", options=HtmlOptions(scripts=scripts, css=css))
            cell = {
                "cell_type": "markdown", "id": "m", "metadata": {},
                "source": "$x$\n\n<style>\nh1 { color: teal }\n</style>\n\n`<style>\n</style>\n`",
            }  # fmt: skip
            renderer = HtmlRenderer()
            page = renderer.page([renderer.cell(cell)], title="T", head=head)
            folder = tmp_path / "runs" / "a" / "b"
            folder.mkdir(parents=True, exist_ok=True)
            parts = SharedParts.seen_from(folder, tmp_path, "a/b")
            (folder / "a.html").write_text(shared(page, parts), "utf-8")
            assert len(linked(folder / "a.html")) == 1 + scripts
            assert whole(folder / "a.html", tmp_path).decode() == page
            assert whole(tmp_path / "runs" / "a" / "b" / "a.html", tmp_path) is not None
