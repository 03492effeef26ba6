"""The page about many runs in a browser without a network, as its readers use it."""

from __future__ import annotations

import json
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import chromium, visit  # noqa: F401
from conftest import wait_until
from test_report import add_inputs, fact

from ductaflow import HtmlOptions, collate, grid, sweep

pytestmark = pytest.mark.browser

EVIL = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=2'>"
FLOW = f"""\
# %% [markdown]
# # Waves

# %% tags=["parameters"]
config = {{"a": 1, "p": {{"freq": 1.0, "mode": "calm"}}, "note": ""}}

# %%
import matplotlib.pyplot as plt
import numpy as np
from ductaflow import record

x = np.linspace(0, 6, 50)
y = a * np.sin(freq * x)
record(rms=float(np.sqrt((y**2).mean())), kind=mode)
print("amplitude", a)
print({EVIL!r})

# %%
fig, ax = plt.subplots(figsize=(7, 4))
ax.plot(x, y)
plt.show()

# %%
print("the same for all")

# %%
if mode == "rough" and a == 3:
    raise ValueError(f"too rough: {{note}}")
if mode == "rough":
    print("warning: rough")
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A project with twelve instances and its page; for looking only."""
    root = tmp_path_factory.mktemp("study")
    (root / "flow").mkdir()
    (root / "flow" / "waves.py").write_text(FLOW, "utf-8")
    table = grid(a=[1, 2, 3], **{"p.freq": [1.0, 2.5], "p.mode": ["calm", "rough"]}) * grid(
        note=[EVIL]
    )
    runs = sweep("waves", table, root=root, progress=False, instance="a{a}_f{p.freq}_{p.mode}")
    assert len(runs) == 12
    (root / "data.csv").write_text("1", "utf-8")
    folder = root / "runs" / "waves"
    stale = {**fact(root, "data.csv"), "sha256": "0" * 64, "mtime_ns": 1}
    add_inputs(folder / "a1_f1.0_calm", stale)
    add_inputs(folder / "a2_f1.0_calm", fact(root, "runs/waves/a1_f1.0_calm/config.json"))
    collate(root=root, title="The study")
    return root


@pytest.fixture
def page_of(visit):  # noqa: F811
    """Open a page, with a view in its address; what was asked for must lie on the disk."""
    visits = []

    def open_page(page: Path, view: str = "", ready: str = ".tabulator-row .light"):
        seen = visit(page)
        visits.append(seen)
        if view:
            seen.page.evaluate("hash => { location.hash = hash }", view)
        seen.page.wait_for_selector(ready)
        return seen

    yield open_page
    for seen in visits:
        assert [url for url in seen.requests if not url.startswith("file:")] == []
        assert seen.errors == []
        assert seen.page.evaluate("window.pwned") is None


@pytest.fixture
def index(study, page_of):
    def open_view(view: str = "", ready: str = ".tabulator-row .light"):
        return page_of(study / "runs" / "index.html", view, ready).page

    return open_view


def until(page, expression: str) -> None:
    """Wait for something to come true: Playwright's own way needs `eval`, which is forbidden."""
    assert wait_until(lambda: page.evaluate(expression)), expression


def names(page) -> list[str]:
    return page.locator(".tabulator-row .open").all_inner_texts()


# --- table --------------------------------------------------------------------------------------


def test_the_table_has_every_instance_and_value(index):
    page = index()
    assert len(names(page)) == 12
    heads = page.locator(".tabulator-col:visible .head").all_inner_texts()
    assert heads[:7] == ["status", "instance", "a", "p.freq", "p.mode", "rms", "kind"]
    assert "note" not in heads  # the same for all
    chips = page.locator(".chips .chip").all_inner_texts()
    assert [" ".join(chip.split()) for chip in chips] == [
        "✓ 5 succeeded", "! 4 with warnings", "✗ 2 failed", "↻ 1 stale",
    ]  # fmt: skip
    assert page.title() == page.locator("h1").inner_text() == "The study"


def test_search_filters_and_lights_share_the_address(index):
    page = index()
    page.locator(".search").fill("calm")
    until(page, "document.querySelector('.found').textContent === '6 of 12'")
    page.get_by_label("filter a", exact=True).fill(">=2")
    until(page, "document.querySelector('.found').textContent === '4 of 12'")
    page.get_by_label("filter p.freq").fill("2..3")
    until(page, "document.querySelector('.found').textContent === '2 of 12'")
    assert names(page) == ["a2_f2.5_calm", "a3_f2.5_calm"]
    address = page.url
    page.get_by_role("button", name="clear filters").click()
    until(page, "document.querySelector('.found').textContent === '12 instances'")
    page.locator(".chips .error").click()
    until(page, "document.querySelector('.found').textContent === '2 of 12'")
    assert names(page) == ["a3_f1.0_rough", "a3_f2.5_rough"]
    other = page.context.new_page()
    other.goto(address)
    other.wait_for_selector(".tabulator-row .light")
    assert names(other) == ["a2_f2.5_calm", "a3_f2.5_calm"]
    assert other.locator(".search").input_value() == "calm"
    assert other.get_by_label("filter a", exact=True).input_value() == ">=2"


@pytest.mark.parametrize(
    ("asked", "count"), [("=1", 4), ("!1", 8), ("< 2", 4), ("<=2", 8), ("no", 0), ("1..2", 8)]
)
def test_what_a_column_s_filter_can_ask(index, asked, count):
    page = index()
    page.get_by_label("filter a", exact=True).fill(asked)
    until(page, f"document.querySelector('.found').textContent === '{count} of 12'")
    assert len(names(page)) == count


def test_sorting_by_mouse_and_keyboard(index):
    page = index()
    head = page.get_by_role("button", name="rms", exact=True)
    head.click()
    rms = page.locator(".tabulator-cell[tabulator-field='m:rms']")
    until(page, "location.hash.includes('sort=m')")
    rising = [float(text) for text in rms.all_inner_texts()]
    assert rising == sorted(rising)
    assert len(set(rising)) > 3
    head.focus()
    page.keyboard.press("Enter")
    until(page, "location.hash.includes('desc')")
    assert [float(text) for text in rms.all_inner_texts()] == sorted(rising, reverse=True)


def test_columns_can_be_chosen(index):
    page = index()
    page.locator(".menu summary").click()
    page.locator(".choices label", has_text="note").click()
    page.locator(".choices label", has_text="kind").click()
    heads = page.locator(".tabulator-col:visible .head").all_inner_texts()
    assert "note" in heads
    assert "kind" not in heads
    cell = page.locator(".tabulator-cell[tabulator-field='c:note']").first
    assert cell.inner_text() == EVIL
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(".tabulator-row .light")
    assert "note" in other.locator(".tabulator-col:visible .head").all_inner_texts()


def test_csv_and_clipboard(index, tmp_path):
    page = index("f.c:a=%3D1")
    until(page, "document.querySelector('.found').textContent === '4 of 12'")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").click()
    waiting.value.save_as(tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text("utf-8-sig").splitlines()
    assert len(lines) == 5
    assert lines[0].startswith('"status","instance","a","p.freq"')
    assert lines[1].startswith('"stale","a1_f1.0_calm","1","1","calm"')
    page.evaluate(
        "navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve() }"
    )
    page.get_by_role("button", name="copy").click()
    until(page, "window.copied")
    assert page.evaluate("window.copied").splitlines()[1].split("\t")[:4] == [
        "stale", "waves", "a1_f1.0_calm", "1",
    ]  # fmt: skip


def test_details_of_an_instance(index, study):
    page = index()
    page.get_by_role("button", name="a3_f1.0_rough").click()
    panel = page.locator("dialog.panel")
    assert "too rough" in panel.locator("pre.error").first.inner_text()
    panel.get_by_role("heading", name="Traceback").wait_for()
    config = dict(
        zip(
            panel.locator(".pairs th").all_inner_texts(),
            panel.locator(".pairs td").all_inner_texts(),
            strict=True,
        )
    )
    assert config["note"] == EVIL
    assert config["p.mode"] == "rough"
    for link in panel.locator(".links a").all():
        address = link.evaluate("a => a.href")
        assert Path(address.removeprefix("file://")).exists() or "%" in address
    page.keyboard.press("Escape")
    assert not panel.is_visible()


# --- the other views ----------------------------------------------------------------------------


def test_the_gallery_shows_and_enlarges_figures(index):
    page = index("view=gallery&group=c:p.mode", ".card img")
    assert page.locator(".card").count() == 12
    groups = page.locator("h2.group").all_inner_texts()
    assert groups == ["p.mode: calm 6", "p.mode: rough 6"]
    until(page, "document.querySelector('.card img').naturalWidth > 100")
    page.locator(".card .thumb").first.click()
    box = page.locator("dialog.lightbox")
    until(page, "document.querySelector('dialog.lightbox img').naturalWidth > 360")
    first = box.locator("strong").inner_text()
    page.keyboard.press("ArrowRight")
    assert box.locator("strong").inner_text() != first
    assert box.get_by_role("link", name="report").get_attribute("href").endswith("waves.html")
    page.keyboard.press("Escape")
    assert not box.is_visible()


def test_charts_draw_what_passes(index):
    page = index("view=charts", ".chart canvas")
    assert page.evaluate("ductaflow.points()") == 12
    label = page.locator(".chart").get_attribute("aria-label")
    assert label == "12 instances: rms against a"
    assert page.evaluate(
        "[...document.querySelectorAll('.chart canvas')].some(c => c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.some(v => v > 0))"
    )
    page.locator("label", has_text="Down").locator("select").select_option("duration")
    page.locator("label", has_text="Across").locator("select").select_option("c:p.mode")
    assert (
        page.locator(".chart").get_attribute("aria-label").endswith("duration (s) against p.mode")
    )
    page.locator(".chips .error").click()
    until(page, "ductaflow.points() === 2")
    for kind in ("parallel", "durations"):
        page.locator("label", has_text="Chart").locator("select").select_option(kind)
        until(page, "ductaflow.points() > 0")


def test_failures_are_grouped_by_cause(index):
    page = index("view=failures", ".cause")
    (cause,) = page.locator(".cause").all()
    assert " ".join(cause.locator("h2").inner_text().split()) == "2 × ValueError"
    assert "ValueError: too rough" in cause.locator("pre").inner_text()
    assert " rerun " in cause.locator("code").inner_text()
    assert "a3_f1.0_rough" in cause.locator("code").inner_text()
    assert cause.locator(".chip").count() == 2


def test_lineage_marks_what_is_stale(index):
    page = index("view=lineage", ".node")
    assert page.locator(".node").count() == 3
    assert page.locator(".node.stale").get_attribute("aria-label").endswith("data.csv changed")
    assert page.locator(".edge").count() == 2
    page.locator(".node", has_text="a2_f1.0_calm").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="only around waves/a2_f1.0_calm").wait_for()


def test_lineage_of_five_hundred_nodes(tmp_path, page_of):
    for n in range(250):
        for step, inputs in (("one", []), ("two", [f"runs/one/i{n}/out.csv", "inputs/all.csv"])):
            folder = tmp_path / "runs" / step / f"i{n}"
            folder.mkdir(parents=True)
            record = {
                "status": "success", "flow": f"flow/{step}.py", "step": step, "instance": f"i{n}",
                "started": "2026-01-01T00:00:00+00:00",
                "inputs": [{"path": path, "role": "missing"} for path in inputs],
            }  # fmt: skip
            (folder / "run.json").write_text(json.dumps(record), "utf-8")
    page = page_of(collate(root=tmp_path), "view=lineage", ".node").page
    assert page.locator(".node").count() == 3  # by step at first
    page.locator("label", has_text="Draw").locator("select").select_option("instances")
    until(page, "document.querySelectorAll('.node').length === 501")
    boxes = page.evaluate(
        "[...document.querySelectorAll('.node rect')].map(r => r.getBoundingClientRect())"
        ".map(r => [r.left, r.top, r.right, r.bottom])"
    )
    boxes.sort()
    for (_, top, right, bottom), other in pairwise(boxes):
        assert other[0] >= right or other[1] >= bottom or other[3] <= top  # none covers another
    assert min(bottom - top for _, top, _, bottom in boxes) > 30
    page.get_by_role("button", name=re.compile(r"^one.i7\b")).click()
    until(page, "document.querySelectorAll('.node').length === 2")


def test_instances_are_compared_cell_by_cell(index):
    page = index()
    for name in ("waves/a1_f1.0_calm", "waves/a2_f1.0_calm"):
        page.get_by_label(f"compare {name}").check()
    page.locator("#tab-compare").click()
    page.wait_for_selector(".outputs .cell")
    rows = page.locator("table.side").first.locator("tbody tr").all_inner_texts()
    assert [row.split() for row in rows] == [["a", "1", "2", "+1"]]
    assert "rms" in page.locator("table.side").nth(1).inner_text()
    (printed,) = page.locator(".cell", has_text="amplitude").all()
    assert printed.locator("del").all_inner_texts() == ["1"]
    assert printed.locator("ins").all_inner_texts() == ["2"]
    assert EVIL in printed.locator("pre").first.inner_text()
    figures = page.locator(".cell figure")
    assert figures.count() == 2
    assert "differs" in figures.nth(1).get_attribute("class")
    until(
        page, "[...document.querySelectorAll('.cell figure img')].every(i => i.naturalWidth > 360)"
    )
    assert page.get_by_text("the same for all").count() == 0
    page.get_by_text("show also what is the same").click()
    page.locator(".cell pre", has_text="the same for all").first.wait_for()
    page.get_by_label("Add").fill("waves/a3_f1.0_rough")
    page.get_by_label("Add").press("Enter")
    until(page, "document.querySelectorAll('.outputs .heads > div').length === 3")
    page.locator("pre.error", has_text="too rough").wait_for()


def test_without_kept_cells_reports_are_compared(tmp_path, study, page_of):
    root = tmp_path / "copy"
    shutil.copytree(study, root)
    page = collate(root=root, figures=False)
    seen = page_of(page, "view=compare&sel=waves%2Fa1_f1.0_calm|waves%2Fa2_f1.0_calm", "iframe")
    frames = seen.page.locator("iframe")
    assert frames.count() == 2
    frames.first.content_frame.locator("h1", has_text="Waves").wait_for()
    seen.errors[:] = [e for e in seen.errors if "sandboxed" not in e]  # reports run no script here


# --- for everybody ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("view", "ready"),
    [
        ("", ".tabulator-row .light"),
        ("view=gallery", ".card"),
        ("view=charts", "canvas"),
        ("view=failures", ".cause"),
        ("view=lineage", ".node"),
        ("view=compare&sel=waves%2Fa1_f1.0_calm|waves%2Fa2_f1.0_calm", ".outputs .cell"),
    ],
)
def test_axe_finds_nothing(index, view, ready, scheme):
    page = index()
    page.emulate_media(color_scheme=scheme)
    if view:
        page.evaluate("hash => { location.hash = hash }", view)
        page.wait_for_selector(ready)
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found] == []


def test_dark_follows_the_system_and_can_be_turned(index):
    page = index()
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    until(page, f"{paper} !== 'rgb(255, 255, 255)'")
    page.get_by_label("light or dark").click()
    assert page.evaluate(paper) == "rgb(255, 255, 255)"


def test_a_phone_shows_all_without_scrolling_the_page_sideways(index):
    page = index()
    page.set_viewport_size({"width": 390, "height": 800})
    for view in ("table", "gallery", "charts", "failures", "lineage", "compare"):
        page.locator(f"#tab-{view}").click()
        page.wait_for_selector(f"#view-{view}:visible")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, (view, wide)


def test_keys_alone_lead_through_the_views(index):
    page = index()
    page.keyboard.press("/")
    page.keyboard.type("rough")
    until(page, "document.querySelector('.found').textContent === '6 of 12'")
    page.locator("#tab-table").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tab-gallery").get_attribute("aria-selected") == "true"
    assert page.locator("#view-gallery").is_visible()


def test_a_printer_gets_every_row(index):
    page = index()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(".printed tbody tr").count() == 12
    assert not page.locator(".search").is_visible()


def test_it_works_from_a_server_and_from_another_folder(study, chromium, tmp_path):  # noqa: F811
    shutil.copytree(study / "runs", tmp_path / "moved here" / "runs")
    handler = type("Handler", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *a: handler(*a, directory=str(tmp_path / "moved here"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        page = chromium.new_page()
        base = f"http://127.0.0.1:{server.server_address[1]}/runs"
        sel = quote("waves%2Fa1_f1.0_calm|waves%2Fa2_f1.0_calm")
        page.goto(f"{base}/index.html#view=compare&sel={sel}")
        page.wait_for_selector(".outputs .cell figure img")
        page.locator(".heads a").first.click()
        page.get_by_role("link", name="all instances").click()
        page.wait_for_selector(".tabulator-row .light")
        page.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- live ---------------------------------------------------------------------------------------


def test_an_open_page_follows_a_sweep(project, page_of, tmp_path):
    gates = tmp_path / "gates"
    gates.mkdir()
    project.write(
        "slow",
        "import time\nfrom pathlib import Path\nfrom ductaflow import record",
        f"print('waits')\nwhile not Path({str(gates)!r}, str(n)).exists(): time.sleep(0.02)",
        "record(twice=2 * n)\nif n == 1: raise KeyError(n)",
        parameters="config = {'n': 0}",
    )
    table = [{"instance": f"i{n:02d}", "n": n} for n in range(40)]
    runs = []
    for n in range(2, 40):
        (gates / str(n)).touch()
    thread = threading.Thread(
        target=lambda: runs.append(
            sweep("slow", table, workers=1, progress=False, live="runs/watch", root=project.root)
        )
    )
    thread.start()
    try:
        path = project.root / "runs" / "watch" / "index.html"
        assert wait_until(
            lambda: path.exists() and (path.parent / "index_files/status.js").exists(), 60
        )
        page = page_of(path, "q=i&f.instance=!9").page
        until(page, "document.querySelector('.live').textContent === 'live'")
        row = page.locator(".tabulator-row", has_text="i00")
        row.locator(".light.running").wait_for()
        held = page.locator(".tabulator-tableholder")
        (gates / "0").touch()
        row.locator(".light.success").wait_for()
        assert "0" in row.inner_text()
        held.evaluate("e => e.scrollTo(0, 120)")
        (gates / "1").touch()
        page.locator(".chips .error").wait_for()
        until(page, "document.querySelector('.live').textContent === 'finished'")
        assert held.evaluate("e => e.scrollTop") == 120
        assert page.locator(".search").input_value() == "i"
        assert page.locator(".found").inner_text() == "36 of 40"
        page.locator("#tab-failures").click()
        assert "KeyError" in page.locator(".cause").inner_text()
    finally:
        for n in range(2):
            (gates / str(n)).touch()
        thread.join()
    assert [len(one) for one in runs] == [40]
    summary = json.loads((path.parent / "bulk_summary.json").read_text("utf-8"))
    assert summary["counts"]["error"] == 1
    assert '"live": null' in path.read_text("utf-8")
    assert not list(project.root.rglob(".*.tmp"))


def test_a_page_that_has_missed_too_much_loads_itself_anew(project, page_of):
    project.write(
        "calm", "from ductaflow import record\nrecord(n=n)", parameters="config = {'n': 1}"
    )
    table = [{"instance": f"i{n}", "n": n} for n in range(3)]
    sweep("calm", table, progress=False, live=True)
    path = project.root / "runs" / "index.html"
    final = path.read_text("utf-8")
    behind = {"session": "x", "sequence": 0, "step": "calm"}
    path.write_text(final.replace('"live": null', f'"live": {json.dumps(behind)}'), "utf-8")
    seen = page_of(path)
    path.write_text(final, "utf-8")
    until(seen.page, "!document.querySelector('.live') || document.querySelector('.live').hidden")
    seen.page.wait_for_selector(".tabulator-row .light")


# --- reports ------------------------------------------------------------------------------------


def test_a_report_s_code_is_one_switch_away(project, visit):  # noqa: F811
    project.write(
        "told", "# %% [markdown]\n# ## Part", "print('out')\n" * 3, "for n in range(30): print(n)"
    )
    run = project.run("told", html=HtmlOptions(code=False, fold_lines=10))
    seen = visit(run.html)
    page = seen.page
    code = page.locator(".jp-CodeCell .jp-InputArea", has_text="range(30)")
    assert not code.is_visible()
    assert page.locator(".jp-OutputArea pre", has_text="out").first.is_visible()
    page.locator(".jp-CodeCell > .jp-Cell-inputWrapper", has_text="range(30)").click()
    assert code.is_visible()  # that one alone
    assert not page.locator(".jp-InputArea", has_text="print('out')").is_visible()
    page.get_by_text("show code").or_(page.locator("label[for=ductaflow-code]")).first.click()
    assert page.locator(".jp-InputArea", has_text="print('out')").is_visible()
    long = page.locator("pre", has_text="29")
    assert not long.last.is_visible()
    page.get_by_text("Output of 30 lines").click()
    assert long.last.is_visible()
    page.locator(".ductaflow-header summary").click()
    page.get_by_role("link", name="Part").first.click()
    assert page.evaluate("document.querySelector(':target').id") == "Part"
    assert (seen.requests, seen.errors) == ([], [])
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    ours = [v["id"] for v in found if any("ductaflow" in n["html"] for n in v["nodes"])]
    assert ours == []
