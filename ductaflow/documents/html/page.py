"""The page around the cells: styles, and the scripts that what it shows calls for."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from ductaflow._version import __version__
from ductaflow.documents.html.css import prune, without_unused
from ductaflow.documents.html.markup import has_math
from ductaflow.documents.html.text import encodable

STATIC: Final = Path(__file__).parents[2] / "static"
BUNDLES: Final = ("require.js", "mathjax.js", "widgets.js")
"""The scripts that pages of notebooks may need."""

# Widgets whose code the bundle has; any other's would have to come from a network.
_BUNDLED: Final = frozenset(
    {"@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output"}
)
# Every class that nbconvert's template, Pygments or MathJax writes, and those of JupyterLab's
# rendered outputs; none of its controls and of what it shows in the place of cells.
_MAY_OCCUR: Final = re.compile(
    r"(?!jp-(?:Cell(?:-Placeholder|Footer|Header|ResizeHandle)|Collapser-|Input(?:-|Group|Placeholder)"
    r"|MarkdownIcon|Notebook(?:-(?!cell)|Icon|Panel|Tools)))"
    r"(?:jp-(?:Cell|CodeCell|MarkdownCell|RawCell|Notebook|Input|Output|Rendered|Markdown|Collapser"
    r"|CodeMirrorEditor|Editor|needs-|mod-no|Stdin|TrimmedOutputs)[\w-]*"
    r"|(?:cm-editor|cm-s-jupyter|highlight|anchor-link|unconfined|dataframe|mathjax[\w-]*|MathJax)"
    r"|(?:ansi|alert|celltag_|jupyter-widget)[\w-]*"
    r"|[a-z][a-z0-9]{0,2})"  # Pygments' tokens
)
_PALETTE: Final = "--md-"  # JupyterLab takes its own colours from these
_OWN_CSS: Final = """\
.ductaflow-folded > summary { cursor: pointer; color: var(--jp-ui-font-color2);
  font: var(--jp-ui-font-size1) var(--jp-ui-font-family); padding: 0.2em 0.6em; }
.celltag_ductaflow-config table { margin-left: 0; margin-bottom: 0.6em; }
.celltag_ductaflow-config :is(th, td) { text-align: left !important; }
.celltag_ductaflow-config :is(h2, h3, h4) { font-size: 1.05em; margin: 0.4em 0; }
.celltag_ductaflow-config code { background: none !important; padding: 0; }
"""
_VIEW = re.compile(
    r"<!--ductaflow:view (\S+)-->(.*?)<!--ductaflow:or-->(.*?)<!--ductaflow:end-->", re.DOTALL
)
# As nbconvert sets up its (older) MathJax, but for elements that are known to hold math alone.
# A link in a formula may have come with a value: the browser says what it would open, since it
# reads `java\tscript:` otherwise than MathJax's own filter does.
# `Hub` is what widgets call for the math in their labels.
_MATHJAX = """\
<script>
window.MathJax = {
  tex: {
    inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]],
    displayMath: [["$$", "$$"], ["\\\\[", "\\\\]"]],
    processEscapes: true, processEnvironments: true, tags: "ams"
  },
  startup: {
    ready() {
      MathJax.startup.defaultReady();
      MathJax.startup.document.safe.filterMethods.filterURL = (_, url) => {
        const link = document.createElement("a");
        link.href = url;
        return ["http:", "https:", "file:", "mailto:"].includes(link.protocol) ? url : null;
      };
    }
  },
  options: {
    enableMenu: false,
    processHtmlClass: "jp-RenderedMarkdown|jp-RenderedLatex|mathjax_process"
  }
};
</script>
<script>%s</script>
<script>
MathJax.Hub = {
  Queue: (job) => MathJax.startup.promise.then(() => MathJax.typesetPromise([job[2]]))
};
</script>
"""
_WIDGETS = """\
<script type="application/vnd.jupyter.widget-state+json">%s</script>
<script>%s</script>
"""


# The first thing in a page that is to run no script; styles and pictures lie in it or beside it.
_NO_SCRIPTS: Final = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; img-src 'self' file: data:; media-src 'self' file: data:; "
    "font-src data:; base-uri 'none'; form-action 'none'\">\n"
)


def script_json(value: Any) -> str:
    """`value` as JSON that cannot end the `<script>` around it; NaN and infinities as null."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None))
    return text.replace("<", "\\u003c")


def script_text(script: str) -> str:
    """JavaScript that cannot end the `<script>` around it."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", script, flags=re.IGNORECASE)


def style_text(css: str) -> str:
    """Styles that cannot end the `<style>` around them."""
    return css.replace("</", "<\\/")


def stylesheet(css: str) -> str:
    """Of nbconvert's `css` what a report can use, and what it has beyond nbconvert."""
    return f"{without_unused(prune(css, _MAY_OCCUR), _PALETTE)}\n{_OWN_CSS}"


def choose_views(body: str, widget_state: Mapping[str, Any] | None) -> tuple[str, bool]:
    """Leave of each widget's two forms the one that can be shown.

    Args:
        body: The cells.
        widget_state: The state of the notebook's widgets, if it was saved.

    Returns:
        The cells, and whether there is a live widget among them.
    """
    models = (widget_state or {}).get("state", {})
    live = {html.escape(m) for m, s in models.items() if s.get("model_module") in _BUNDLED}
    shown = False

    def choose(match: re.Match[str]) -> str:
        nonlocal shown
        if match[1] in live:
            shown = True
            return match[2]
        return match[3]

    return _VIEW.sub(choose, body), shown


def labels_have_math(widget_state: Mapping[str, Any]) -> bool:
    """Whether a widget shows a formula."""
    texts = (
        str(model.get("state", {}).get(key, ""))
        for model in widget_state.get("state", {}).values()
        for key in ("value", "description")
        if model.get("model_name") != "HTMLModel"
    )
    return any(has_math(html.escape(text, quote=False)) for text in texts)


def assemble(
    body: str,
    *,
    title: str,
    css: str,
    own_css: str = "",
    header: str = "",
    template: Path | None = None,
    math: bool = False,
    require: bool = False,
    widget_state: str | None = None,
    may_run: bool = True,
) -> str:
    """The whole page.

    Args:
        body: The cells' HTML.
        title: The page's title, as plain text.
        css: The styles that all pages have.
        own_css: Those that a caller has given, which go over them.
        header: The HTML of the bar over it.
        template: A Jinja2 file for what is around the cells.
        math: Whether MathJax is needed.
        require: Whether require.js is needed.
        widget_state: The widgets' state as JSON fit for a `<script>`, if they are to be live.
        may_run: Whether scripts may run in it; if not, the page's own policy forbids them all.
    """
    policy = "" if may_run else _NO_SCRIPTS
    styles = f"<style>\n{css}</style>\n"
    if own_css:
        styles += f"<style>\n{own_css}</style>\n"
    head_scripts = f"<script>{bundle('require.js')}</script>\n" if require else ""
    scripts = _MATHJAX % bundle("mathjax.js") if math else ""
    if widget_state is not None:
        scripts += _WIDGETS % (widget_state, bundle("widgets.js"))
    if template is not None:
        from markupsafe import Markup

        parts = {
            "head": f"{policy}{styles}{head_scripts}",
            "header": header,
            "body": f"<main>\n{body}\n</main>\n",
            "scripts": scripts,
        }
        made = _template(template, template.stat().st_mtime_ns)
        safe = {name: Markup(text) for name, text in parts.items()}  # noqa: S704  (made here)
        return str(made.render(title=encodable(title), **safe))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{policy}"
        f'<meta name="generator" content="ductaflow {__version__}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1.0">\n'
        f"<title>{html.escape(encodable(title), quote=False)}</title>\n"
        f"{styles}{head_scripts}</head>\n"
        '<body class="jp-Notebook mathjax_ignore" data-jp-theme-light="true" '
        'data-jp-theme-name="JupyterLab Light">\n'
        f"{header}<main>\n{body}\n</main>\n{scripts}</body>\n</html>\n"
    )


@lru_cache(maxsize=8)
def _template(path: Path, _version: int) -> Any:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(path.parent), autoescape=True).get_template(
        path.name
    )


@lru_cache
def bundle(name: str) -> str:
    """One of `BUNDLES`."""
    return (STATIC / name).read_text("utf-8")
