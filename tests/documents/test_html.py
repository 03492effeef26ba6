"""Reports as text: like nbconvert's, light, safe, and rendered once."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

import ductaflow
from ductaflow.documents.html import HtmlRenderer, renderer
from ductaflow.documents.html.cache import BoundedCache
from ductaflow.documents.html.css import prune, without_unused
from ductaflow.documents.html.markup import describe_images, has_math
from ductaflow.documents.html.text import ansi_to_html, encodable

STATIC = Path(ductaflow.__file__).parent / "static"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="9"/></svg>'
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg==\n"
)


def code(source="", *outputs, cell_id="c", count=1, **metadata):
    return {
        "cell_type": "code", "id": cell_id, "source": source, "execution_count": count,
        "metadata": metadata, "outputs": list(outputs),
    }  # fmt: skip


def markdown(source, **more):
    return {"cell_type": "markdown", "id": "m", "source": source, "metadata": {}, **more}


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def display(**data):
    data = {key.replace("_", "/", 1): value for key, value in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def result(count, **data):
    return {**display(**data), "output_type": "execute_result", "execution_count": count}


@pytest.fixture(scope="module")
def shared():
    return HtmlRenderer()


@pytest.fixture
def fresh(shared):
    """A renderer with empty caches that need not load nbconvert again."""
    made = HtmlRenderer()
    shared.warm_up()
    made._loaded = shared._loaded
    return made


def soup(text):
    return BeautifulSoup(text, "html.parser")


RICH = [
    markdown("# Title\n\nSome *text*, `code`, [a link](#x), ~~gone~~.\n\n- [ ] task\n\n1. one"),
    markdown("|a|b|\n|-|-|\n|1|2|\n\n```python\nx = 1\n```\n\n<b>html</b>\n\n> quoted"),
    markdown("![dot](attachment:dot.png)", attachments={"dot.png": {"image/png": PNG}}),
    markdown("Math $a<b$ and\n\n$$\nx_1 * y_1 * z\n$$"),
    code("def f(x):\n    return f'{x}' + \"<&>\"  # é\n", tags=["parameters"]),
    code("%%bash\necho hi", stream("hi\n"), stream("there\n"), stream("oops\n", "stderr")),
    code("", count=None),
    code("df", result(3, text_html="<table><tr><td>1</td></tr></table>", text_plain="1"), count=3),
    code("img", display(image_png=PNG, text_plain="<Figure>"), display(**{"image_svg+xml": SVG})),
    code("mix", display(text_markdown="**b**"), display(text_latex="$x$"), display(image_jpeg=PNG)),
    code("j", display(application_json={"a": 1}, text_plain="{'a': 1}")),
    code("e", {"output_type": "error", "ename": "E", "evalue": "v", "traceback": [
        "\x1b[0;31mE\x1b[0m", "\x1b[38;5;200mline\x1b[0m <b>", "\x1b[1;32m---> 1\x1b[0m x"]}),
    {"cell_type": "raw", "id": "r", "source": "raw <i>text</i>", "metadata": {}},
    {"cell_type": "raw", "id": "r2", "source": "latex", "metadata": {"raw_mimetype": "text/latex"}},
]  # fmt: skip


def test_a_report_shows_what_nbconvert_shows(fresh):
    from nbconvert import HTMLExporter

    language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    cells = [{**cell, "id": f"{cell['id']}-{n}"} for n, cell in enumerate(RICH)]
    notebook = nbformat.from_dict(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": language, "cells": cells}
    )
    theirs = soup(HTMLExporter().from_notebook_node(notebook)[0]).main
    ours = soup(fresh.page(map(fresh.cell, cells), title="T")).main

    def shown(page):
        return [" ".join(cell.get_text().split()) for cell in page.select(".jp-Cell")]

    def elements(page):
        # MathJax is told of dollars that are none, and which outputs to look into.
        return [
            (t.name, t.get("id"), t.get("tabindex"), t.get("alt"), t.get("href"), t.get("src"),
             [c for c in t.get("class", ()) if c != "mathjax_process"])
            for t in page.find_all(True) if "mathjax_ignore" not in t.get("class", ())
        ]  # fmt: skip

    assert shown(ours) == shown(theirs)
    assert elements(ours) == elements(theirs)


def test_only_what_changed_is_rendered(fresh):
    def run(seed, **execution):
        cells = [*RICH, code("same"), code("plot()", stream(f"seed {seed}"))]
        return [
            fresh.cell({**c, "id": f"{seed}-{n}", "metadata": {**c["metadata"], **execution}})
            for n, c in enumerate(cells)
        ]

    first = run(1)
    cells, inputs = fresh.cells.misses, fresh.inputs.misses
    second = run(2, execution={"iopub.execute_input": "later"})
    assert fresh.cells.misses - cells == 1  # the cell whose output has another seed
    assert fresh.inputs.misses - inputs == 0  # though its code, and what surrounds it, are known
    assert 'id="cell-id=1-0"' in first[0].html
    assert first[0].html.replace("=1-0", "=2-0") == second[0].html


WIDGET = {"model_id": "w<1>", "version_major": 2, "version_minor": 0}
TEXTS = st.sampled_from(
    ["", " ", "x", "a & <b>", "\x1b[31mred\x1b[0m", "$x^2$ costs $3", "line\n\nline\n", "\ud800",
     "# title\n[a](files/b.png) ![c](files/c.png)", "%%html\n<b>", "{{ nb }}", PNG, "dfw0n0z"]
)  # fmt: skip
OUTPUTS = st.one_of(
    st.builds(stream, TEXTS, st.sampled_from(["stdout", "stderr"])),
    st.builds(lambda t: result(3, text_plain=t), TEXTS),
    st.builds(lambda t, u: display(text_plain=t, image_png=u), TEXTS, TEXTS),
    st.builds(lambda t, u: display(text_plain=t, text_html=u), TEXTS, TEXTS),
    st.builds(lambda t: display(text_latex=t, text_plain="t"), TEXTS),
    st.builds(lambda t: display(text_markdown=t), TEXTS),
    st.builds(lambda t: {**display(text_plain=t), "data": {"text/plain": t,
              "application/vnd.jupyter.widget-view+json": WIDGET}}, TEXTS),
    st.builds(lambda t: {"output_type": "error", "ename": "E", "evalue": t, "traceback": [t, t]},
              TEXTS),
)  # fmt: skip
TAGS = st.sampled_from([[], ["remove-input"], ["hide-input", "hide-output"], ["remove-output"]])


@settings(deadline=None)
@given(
    st.one_of(
        st.builds(
            lambda source, outputs, count, tags: code(source, *outputs, count=count, tags=tags),
            TEXTS, st.lists(OUTPUTS, max_size=3), st.sampled_from([None, 1]), TAGS,
        ),
        st.builds(markdown, TEXTS),
        st.builds(lambda text: markdown(text, attachments={"a.png": {"image/png": PNG}}), TEXTS),
    )
)  # fmt: skip
def test_a_cell_filled_in_is_what_the_template_makes_of_the_whole(shared, cell):
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules["ductaflow.documents.html.renderer"]
        patch.setattr(module, "emptied", lambda cell: (cell, []))
        whole = HtmlRenderer()
        whole._loaded = shared._lab
        expected = whole.cell(cell)
    assert shared.cell(cell) == expected


def test_a_mark_in_what_a_flow_prints_is_text(shared):
    """No flow can guess one; if it could, nothing would be lost."""
    from ductaflow.documents.html import shape

    mark = f"{shape._MARK}n0z"
    cell = code("x", stream(f"<{mark}>"), stream("second", "stderr"), display(text_html=mark[:-2]))
    html = shared.cell(cell).html
    assert html.count("second") == 1
    assert f"&lt;{mark}&gt;" in html


def test_a_cell_leaves_its_argument_alone_and_threads_may_share(fresh):
    cell = code("x", stream("a\rb\ud800"), tags=["remove-input"])
    before = repr(cell)
    htmls: list[str] = []
    threads = [
        threading.Thread(
            target=lambda n=n: htmls.extend(
                fresh.cell(c, language="python").html for c in [*RICH, cell, code(f"t{n % 2}")]
            )
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert repr(cell) == before
    assert len(htmls) == 4 * (len(RICH) + 2)
    assert len(set(htmls)) == len({fresh.cell(c).html for c in RICH}) + 3


def test_the_cache_is_bounded_by_bytes():
    cache = BoundedCache[str](100)
    for n in range(20):
        cache.put(bytes([n]), "v", 20)
    assert cache.size == 100
    assert cache.get(bytes([19])) == "v"
    assert cache.get(bytes([0])) is None
    cache.put(b"huge", "v", 26)
    assert cache.get(b"huge") is None
    cache.put(bytes([19]), "w", 5)
    assert (cache.size, cache.get(bytes([19]))) == (85, "w")


def test_a_page_weighs_what_it_uses(fresh):
    def page(*cells):
        return fresh.page(map(fresh.cell, cells), title="T")

    plain = page(*[c for c in RICH if "$" not in str(c)], markdown("from $5 to $6, or \\$7 and $8"))
    assert "MathJax" not in plain.replace("mathjax", "")
    assert "jupyter_widget_embedder" not in plain
    assert "requirejs" not in plain
    assert len(plain) < 75_000
    assert len(page(markdown("$x$"))) > 2_000_000


@pytest.mark.parametrize(
    ("source", "math"),
    [
        ("$x$", True), ("$ x $", True), ("$2x$", True), ("$$x$$", True), ("\\\\(x\\\\)", True),
        ("\\begin{align}a\\end{align}", True), ("<div>$x$</div>", True), ("# $x$", True),
        ("it is $5 and $6", False), ("$5 and $6 and $x$", True), ("US$ 5 and US$ 6", False),
        ("`$x$`", False), ("```\n$x$\n```", False), ("\\$x\\$", False), ("one $", False),
        ("    $x$", False), ("[a](b?$x$)", False),
    ],
)  # fmt: skip
def test_math_in_markdown_is_noticed(fresh, source, math):
    fragment = fresh.cell(markdown(source))
    assert ("math" in fragment.needs) == math
    text = soup(fragment.html).select_one(".jp-RenderedMarkdown").get_text()
    assert text.count("$") == source.count("$") or "\\\\(" in source or "](" in source


def test_math_in_html_is_noticed_where_it_shows():
    assert has_math("<td>$x^2$</td>")
    assert has_math("<p>\\(x\\)</p>")
    assert not has_math("<td>$5</td><td>$6</td>")
    assert not has_math("<script>var $a = $b$;</script><pre>$x$</pre><i title='$x$'>")


def test_nothing_breaks_out_of_its_place(fresh):
    evil = "</script></title><script>alert(1)</script>"
    view = "application/vnd.jupyter.widget-view+json"
    spec = {"version_major": 2, "version_minor": 0, "model_id": "m1"}
    model = {
        "model_name": "HTMLModel", "model_module": "@jupyter-widgets/controls",
        "model_module_version": "2.0.0", "state": {"value": evil, "n": float("nan")},
    }  # fmt: skip
    state = {"version_major": 2, "version_minor": 0, "state": {"m1": model}}
    cells = [
        code(evil, stream(evil), display(text_plain=evil), cell_id='"><script>alert(1)</script>'),
        code("w", {**display(text_plain="F"), "data": {view: spec}}),
        code("j", display(application_javascript=f"var s = '{evil}' + '<!-- <script>';")),
    ]
    text = fresh.page(map(fresh.cell, cells), title=evil, widget_state=state)
    page = soup(text)
    assert "alert(1)" not in [script.get_text() for script in page.select("script")]
    assert page.title.string == evil
    held = page.select_one("script[type='application/vnd.jupyter.widget-state+json']")
    assert '"n": null' in held.string


def test_a_widget_without_state_shows_its_next_best_form(fresh):
    view = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "m1"},
        "text/plain": "Slider()",
    }
    cell = code("w", {**display(), "data": view})
    fragment = fresh.cell(cell)
    assert fragment.needs == {"widgets"}
    text = fresh.page([fragment], title="T")
    assert "Slider()" in text
    assert "ductaflow:view" not in text
    assert "jupyter_widget_embedder" not in text


@pytest.mark.parametrize("dash", ["-", "_"])
def test_tags_remove_and_hide(fresh, dash):
    def shown(tag):
        return fresh.cell(code("source", stream("output"), tags=[tag.replace("-", dash)])).html

    assert shown("remove-cell") == ""
    assert ">output<" in shown("remove-input")
    assert ">output<" not in shown("remove-output")
    assert ">source<" not in shown("remove-input")
    assert soup(shown("hide-input")).select_one("details .highlight").get_text().strip() == "source"
    assert soup(shown("hide-output")).select_one("details pre").get_text() == "output"
    text = fresh.page([fresh.cell(code(tags=["remove-cell"]))], title="T")
    assert soup(text).select(".jp-Cell") == []


def test_jupyterlab_s_own_folding_is_kept(fresh):
    hidden = {"source_hidden": True, "outputs_hidden": True}
    page = soup(fresh.cell(code("s", stream("o"), jupyter=hidden)).html)
    assert len(page.select("details")) == 2


def test_any_text_can_be_written(fresh):
    bad = "a\ud800b \ud83d\ude00 \x00\x07 é"
    cells = [
        markdown(bad),
        code(bad, stream(bad), display(text_html=bad), display(**{"image_svg+xml": bad})),
    ]
    data = fresh.page(map(fresh.cell, cells), title=bad).encode()
    assert "😀".encode() in data
    assert "a\ufffdb".encode() in data
    assert encodable("plain") == "plain"


def test_the_page_s_frame(fresh):
    lines = fresh.page([], title="A <b> & c").splitlines()
    assert lines[:2] == ["<!DOCTYPE html>", '<html lang="en">']
    assert '<meta charset="utf-8">' in lines[:5]
    assert f'<meta name="generator" content="ductaflow {ductaflow.__version__}">' in lines[:6]
    assert "<title>A &lt;b&gt; &amp; c</title>" in lines
    assert any('name="viewport"' in line for line in lines)


def test_a_missing_attachment_or_lexer_spoils_nothing_else(fresh):
    assert "<img" in fresh.cell(markdown("![x](attachment:none.png)")).html
    assert "code" in fresh.cell(code("code"), language="no-such-language").html
    assert "hl-r" in fresh.cell(code("x <- 1"), language="r").html
    assert fresh.cell(code("", display(**{"application_x-unknown": "?"}))).needs == frozenset()


def test_importing_it_is_cheap():
    check = (
        "import sys, ductaflow.documents.html; ductaflow.documents.html.renderer();"
        "slow = {'nbconvert', 'IPython', 'jupytext', 'jinja2', 'pygments'} & set(sys.modules);"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
    assert renderer() is renderer()


CODES = ("0", "", "1", "31", "1;4;34", "7", "27", "95", "102", "42", "39;49", "38;5;9", "48;5;100")
ODD_CODES = ("38;5;240", "38;2;1;2;3", "22", "24", "x;", "38;5", "38;9;1", "5", "48;2;1")
PIECES = st.sampled_from(
    ["text <&>", "\n", "\x1b[2K", "\x1b[", *(f"\x1b[{c}m" for c in CODES + ODD_CODES)]
)


@given(st.lists(PIECES).map("".join))
def test_colours_are_nbconvert_s(text):
    from nbconvert.filters.ansi import ansi2html

    assert soup(ansi_to_html(text)) == soup(str(ansi2html(text)).replace("\x1b", "\ufffd"))


def test_long_text_takes_linear_work():
    def steps(size):
        """Lines of Python run: unlike seconds, the same on every machine."""
        count = 0

        def trace(*_):
            nonlocal count
            count += 1
            return trace

        text = "\x1b[31mred\x1b[0m plain" * size
        sys.settrace(trace)
        try:
            ansi_to_html(text)
        finally:
            sys.settrace(None)
        return count

    few, many, more = (steps(n) for n in (100, 200, 400))
    assert (more - many) == pytest.approx(2 * (many - few), rel=0.05)
    assert len(ansi_to_html("x" * 5_000_000)) == 5_000_000


def test_images_are_described_but_scripts_left_alone():
    script = "<script>var a = '<img src=1>';</script>"
    frame = "<iframe srcdoc=\"<img src='1'>\"></iframe>"
    html = f"{script}{frame}<img src='a>b'><img src=b alt=''><IMG src=c>"
    described = describe_images(html)
    assert script in described
    assert frame in described
    assert "<img src=b alt=''>" in described
    assert described.count("No description") == 2


def test_css_keeps_what_can_occur():
    css = (
        ":root { --jp-icon-x: url(data:a;b); --jp-a: 1px; } /* . */ .a.b, .c:not(.b) > p { x: y }"
        ".a[t='u/v.b'] { x: y }"
        "@media print { .b { x: y } } @media screen { .a { x: y } }"
        "@keyframes k { 0% { x: y } } p { z: 1 }"
    )
    assert prune(css, re.compile("a|c")).splitlines() == [
        ":root { --jp-a: 1px; }",
        ".c:not(.b) > p { x: y }",
        ".a[t='u/v.b'] { x: y }",
        "@media screen {", ".a { x: y }", "}",
        "p { z: 1 }",
    ]  # fmt: skip


def test_css_drops_colours_that_nothing_uses():
    css = ":root { --md-a: #fff; --md-ab: #000; --jp-a: var(--md-ab); --jp-b: 1px; }"
    assert (
        without_unused(css, "--md-")
        == ":root { --md-ab: #000; --jp-a: var(--md-ab); --jp-b: 1px; }"
    )


def test_a_page_has_no_styles_of_jupyterlabs_controls():
    page = HtmlRenderer().page([], title="T")
    classes = set(re.findall(r"\.(jp-[\w-]+)", page))
    assert {"jp-Cell", "jp-InputArea-editor", "jp-OutputPrompt", "jp-RenderedHTMLCommon"} <= classes
    assert not any(
        re.search("Placeholder|Group|Toolbar|Panel|Indicator|Dialog", c) for c in classes
    )
    colours = set(re.findall(r"(--md-[\w-]+)\s*:", page))
    assert colours == set(re.findall(r"var\((--md-[\w-]+)", page))


def test_the_bundles_are_the_ones_described():
    readme = (STATIC / "README.md").read_text("utf-8")
    bundles = sorted(STATIC.glob("*.js"))
    assert len(bundles) == 4
    for bundle in bundles:
        assert hashlib.sha256(bundle.read_bytes()).hexdigest() in readme
        text = bundle.read_text("utf-8")
        assert not re.search(r"</script|<!--|cdn\.|unpkg|cdnjs|googleapis", text, re.IGNORECASE)
        assert (STATIC / "LICENSES" / f"{bundle.stem}.txt").stat().st_size > 500
