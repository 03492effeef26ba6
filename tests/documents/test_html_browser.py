"""Reports in a browser without a network: nothing is asked for, everything is shown."""

from __future__ import annotations

import base64
import warnings
from io import BytesIO

import nbformat
import pytest
from browser import chromium, visit  # noqa: F401
from test_html import RICH

from ductaflow.documents.html import HtmlRenderer
from ductaflow.model.plans import Note
from ductaflow.plans.configtable import config_table

pytestmark = pytest.mark.browser

VIEW = "application/vnd.jupyter.widget-view+json"


def code(source="", *outputs, **metadata):
    return {
        "cell_type": "code", "id": "a", "source": source, "execution_count": 1,
        "metadata": metadata, "outputs": list(outputs),
    }  # fmt: skip


def markdown(source, **more):
    return {"cell_type": "markdown", "id": "m", "source": source, "metadata": {}, **more}


def display(**data):
    return {"output_type": "display_data", "metadata": {}, "data": data["data"]}


@pytest.fixture(scope="module")
def renderer():
    return HtmlRenderer()


@pytest.fixture
def report(renderer, tmp_path, visit):  # noqa: F811
    def write_and_visit(*cells, widget_state=None):
        text = renderer.page(map(renderer.cell, cells), title="A report", widget_state=widget_state)
        path = tmp_path / "report.html"
        path.write_text(text, "utf-8")
        return visit(path)

    return write_and_visit


def png():
    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (30, 20), "teal").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode() + "\n"


def live(*widgets):
    """The saved state of `widgets`, and a cell that shows each."""
    from ipywidgets.embed import embed_data

    data = embed_data(views=list(widgets))
    cells = [
        code("w", display(data={VIEW: spec, "text/plain": "Fallback()"}))
        for spec in data["view_specs"]
    ]
    return data["manager_state"], cells


def test_a_plain_report_asks_for_nothing(report):
    seen = report(
        markdown("# Title\n\nText, `code`, [link](#ductaflow-failing-cell)"),
        code("print(1)", {"output_type": "stream", "name": "stdout", "text": "\x1b[31mred\x1b[0m"}),
        code("plot", display(data={"image/png": png(), "text/plain": "<Figure>"})),
        markdown('<a id="ductaflow-failing-cell"></a>\n\n**Failed**'),
    )
    assert (seen.requests, seen.errors) == ([], [])
    assert seen.page.locator("img").evaluate("i => i.naturalWidth") == 30
    assert seen.page.locator(".ansi-red-fg").evaluate("e => getComputedStyle(e).color") != (
        "rgb(0, 0, 0)"
    )
    seen.page.locator("a[href='#ductaflow-failing-cell']").click()
    assert seen.page.evaluate("document.querySelector(':target').id") == "ductaflow-failing-cell"


STYLES = """() => [...document.querySelectorAll("main, main *")].map(e => {
  const style = getComputedStyle(e);
  return [e.tagName, ...[...style].filter(p => !p.startsWith("--")
    && !/^(width|height|inline-size|block-size|perspective-origin|transform-origin)$/.test(p)
  ).map(p => p + ": " + style.getPropertyValue(p))].join("\\n");
})"""


def test_every_element_looks_as_with_nbconvert_s_whole_stylesheet(renderer, tmp_path, visit):  # noqa: F811
    from nbconvert import HTMLExporter

    cells = [{**cell, "id": f"c{n}"} for n, cell in enumerate(RICH) if "$" not in str(cell)]
    language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": language, "cells": cells}
    theirs, ours = tmp_path / "theirs.html", tmp_path / "ours.html"
    theirs.write_text(HTMLExporter().from_notebook_node(nbformat.from_dict(notebook))[0], "utf-8")
    ours.write_text(renderer.page(map(renderer.cell, cells), title="T"), "utf-8")
    styles = [visit(path).page.evaluate(STYLES) for path in (theirs, ours)]
    assert len(styles[0]) > 100
    for theirs_style, ours_style in zip(*styles, strict=True):
        assert ours_style.splitlines() == theirs_style.splitlines()


def test_math_is_typeset(report):
    seen = report(
        markdown("Euler: $e^{i\\pi} + 1 = 0$ and\n\n$$\\int_0^1 x\\,dx$$\n\ncosts $5 or $6, \\$7"),
        markdown("\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}"),
        code("", display(data={"text/latex": "$\\displaystyle \\frac{1}{2}$", "text/plain": "½"})),
        code("", display(data={"text/html": "<p>$x^2$</p>", "text/plain": "x"})),
        code("", display(data={"text/html": "<p>from $1 to $2 up</p>", "text/plain": "x"})),
        code("print('$a$')", {"output_type": "stream", "name": "stdout", "text": "$b$"}),
    )
    seen.page.evaluate("MathJax.startup.promise")
    assert seen.page.locator("mjx-container > svg").count() == 5
    assert seen.page.locator("mjx-merror, [data-mjx-error]").count() == 0
    text = seen.page.locator("main").inner_text()
    assert "costs $5 or $6, $7" in text
    assert "print('$a$')" in text
    assert (seen.requests, seen.errors) == ([], [])


def test_widgets_are_shown(report):
    import ipywidgets as w

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = w.Output(outputs=({"output_type": "stream", "name": "stdout", "text": "within"},))
        row = w.HBox([w.IntSlider(value=7, description="speed"), w.HTML("<b>bold</b>"), out])
        button = w.Button(description="go", icon="check")
        state, cells = live(row, button, w.Label("$x^2$"))
    seen = report(*cells, widget_state=state)
    seen.page.wait_for_selector(".widget-slider")
    assert seen.page.locator(".widget-slider").is_visible()
    assert "7" in seen.page.locator(".widget-readout").inner_text()
    assert seen.page.locator("b", has_text="bold").is_visible()
    seen.page.get_by_text("within").wait_for()
    seen.page.locator(".widget-label mjx-container svg").wait_for()
    seen.page.wait_for_function("document.fonts.check('900 12px \"Font Awesome 5 Free\"')")
    assert "Fallback()" not in seen.page.locator("main").inner_text()
    assert (seen.requests, seen.errors) == ([], [])


def test_a_foreign_widget_falls_back(report):
    state = {
        "version_major": 2, "version_minor": 0,
        "state": {"f00": {"model_name": "MapModel", "model_module": "leaflet",
                          "model_module_version": "1", "state": {}}},
    }  # fmt: skip
    view = {"version_major": 2, "version_minor": 0, "model_id": "f00"}
    seen = report(code("m", display(data={VIEW: view, "text/plain": "Map()"})), widget_state=state)
    assert "Map()" in seen.page.locator("main").inner_text()
    assert (seen.requests, seen.errors) == ([], [])


def test_a_foreign_widget_does_not_take_others_with_it(report):
    import ipywidgets as w

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state, cells = live(w.IntSlider())
    state["state"]["f00"] = {
        "model_name": "MapModel", "model_module": "leaflet",
        "model_module_version": "1", "state": {"_view_module": "leaflet"},
    }  # fmt: skip
    seen = report(*cells, widget_state=state)
    seen.page.wait_for_selector(".widget-slider")
    assert seen.requests == []


def test_scripts_in_outputs_run_and_cannot_break_out(report):
    breakout = "</script><script>window.broken = true</script>"
    script = f"element.textContent = 'drawn by ' + {'script'!r}; var s = {breakout!r};"
    seen = report(
        code("", display(data={"application/javascript": script})),
        code("", display(data={"application/javascript": script})),
        code("", display(data={"application/javascript": "require([], () => (window.ok = 1));"})),
        code("", {"output_type": "stream", "name": "stdout", "text": breakout}),
    )
    assert seen.page.locator("main").inner_text().count("drawn by script") == 2
    assert seen.page.evaluate("window.broken") is None
    seen.page.wait_for_function("window.ok === 1")
    assert (seen.requests, seen.errors) == ([], [])


RUNS = "window.ran = (window.ran || 0) + 1"
HREFS = [
    f"javascript:{RUNS}",
    f"java\tscript:{RUNS}",
    f" JavaScript:{RUNS}",
    f"\x01javascript:{RUNS}",
]
HOSTILE = [
    *(f"$\\href{{{href}}}{{x}}$" for href in HREFS),
    f"$\\mmlToken{{mi}}[href='{HREFS[0]}']{{x}}$ $\\unicode[Arial]{{x}}$ $\\require{{[a]/../b}}$",
    "$\\style{background:url(//evil/x)}{x}$ $\\class{a}{x}$ $\\cssId{ductaflow-code}{x}$",
    *(f"[x](<{href}>)" for href in HREFS),
    *(f'<a href="{href}">x</a>' for href in HREFS),
    f'<img src="x:" onerror="{RUNS}">',
    f"<script>{RUNS}</script>",
    f'<svg onload="{RUNS}"><script>{RUNS}</script></svg>',
    f'<iframe srcdoc="<script>parent.{RUNS}</script>"></iframe>',
    f'<details open ontoggle="{RUNS}"><summary>x</summary></details>',
    f'</code></pre></table>"\'><img src="x:" onerror="{RUNS}">',
    "<meta http-equiv=refresh content='0;url=https://evil/'><base href='https://evil/'>",
]  # fmt: skip
SCRIPTED = [
    code("", display(data={"application/javascript": RUNS, "text/plain": "a script"})),
    code("", display(data={"text/html": f"<script>{RUNS}</script>", "text/plain": "a figure"})),
    code("", display(data={"text/html": f'<b onclick="{RUNS}">bold</b>', "text/plain": "b"})),
    code("", display(data={"text/html": f'<a href="{HREFS[0]}">link</a>', "text/plain": "a"})),
    code("", display(data={"text/html": f"<img src='x:' onerror='{RUNS}'>", "text/plain": "i"})),
]


def ran(seen):
    """How often a script ran, all links and handlers tried."""
    if seen.page.evaluate("typeof MathJax !== 'undefined'"):
        seen.page.evaluate("MathJax.startup.promise")
    seen.page.evaluate("""() => {
      for (const e of document.querySelectorAll("main a, main b, main summary")) {
        const href = e.getAttribute("href") ?? e.getAttribute("xlink:href");
        if (href === null || !/^(https?|file):$/.test(new URL(href, location).protocol))
          e.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
      }
    }""")
    seen.page.wait_for_timeout(50)  # links are followed by and by
    return seen.page.evaluate("window.ran ?? 0")


def test_no_value_brings_a_script(report):
    import pandas as pd

    frame = pd.DataFrame({"value": HOSTILE})
    pd.set_option("display.max_colwidth", None)
    try:
        table = frame.to_html()
    finally:
        pd.reset_option("display.max_colwidth")
    text = "\n\n".join(HOSTILE)
    config = {value: value for value in HOSTILE} | {"deep": {value: [value] for value in HOSTILE}}
    seen = report(
        markdown(config_table(config, [Note("note", value) for value in HOSTILE])),
        code("", display(data={"text/html": table, "text/plain": "t"})),
        code("", display(data={"text/html": "<p>$x^2$ $\\href{https://a.example}{b}$</p>"})),
        *(code("", display(data={"text/markdown": value})) for value in HOSTILE),
        *(code("", display(data={"text/latex": value})) for value in HOSTILE),
        code("", display(data={"text/vnd.mermaid": text})),
        code("print()", {"output_type": "stream", "name": "stdout", "text": text}),
        code("1/0", {"output_type": "error", "ename": text, "evalue": text, "traceback": [text]}),
        code("", display(data={"text/markdown": "# A title\n\n**bold** |a|\n\n|a|\n|-|\n|1|"})),
    )
    assert ran(seen) == 0
    assert seen.requests == []
    assert seen.page.locator("mjx-container a[*|href='https://a.example']").count() == 1
    assert seen.page.locator("main h1", has_text="A title").is_visible()
    assert seen.page.locator("main strong", has_text="bold").is_visible()


def test_what_an_author_displays_runs(report):
    assert ran(report(*SCRIPTED)) == 5


def test_no_script_runs_where_none_may(renderer, tmp_path, visit):  # noqa: F811
    from ductaflow.documents.html import Head, HtmlOptions

    cells = [
        markdown("# Contents\n\n$e^{i\\pi}$ is shown"),
        *SCRIPTED,
        code("", display(data={"text/latex": "$\\frac{1}{2}$"})),
        code("", display(data={"text/html": "<script>require([])</script>", "image/png": png()})),
        code("", display(data={VIEW: {"model_id": "f00"}, "text/plain": "Slider()"})),
    ]
    head = Head("a / b", "success", "succeeded", options=HtmlOptions(scripts=False))
    state = {"state": {"f00": {"model_module": "@jupyter-widgets/controls"}}}
    page = renderer.page(
        [renderer.cell(cell, scripts=False) for cell in cells],
        title="T", head=head, widget_state=state,
    )  # fmt: skip
    path = tmp_path / "strict.html"
    path.write_text(page, "utf-8")
    seen = visit(path)
    assert ran(seen) == 0
    assert seen.page.locator("img[src^=data]").evaluate("i => i.naturalWidth") == 30
    text = seen.page.locator("main").inner_text()
    assert all(part in text for part in ("$e^{i\\pi}$", "\\frac{1}{2}", "a script", "Slider()"))
    seen.page.locator("summary", has_text="contents").click()
    seen.page.locator("header a", has_text="Contents").click()
    assert seen.page.evaluate("document.querySelector(':target').id") == "Contents"
    assert len(page) < 200_000  # without MathJax
